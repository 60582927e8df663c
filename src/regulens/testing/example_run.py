"""What does a finished run folder look like? Writes a small one with drawn numbers, marked as synthetic.

Nothing here is a result: values come from a random stream, so that the report and its tests have every table to
draw without running a model. ``run.json`` carries ``"synthetic": true`` and the report prints a banner for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from regulens.rng import stream
from regulens.testing import example_tables as tables

#: Title, question, source and refutation of each analysis, as a run folder holds them.
ANALYSES: dict[str, tuple[str, str, str]] = {
    "reference_recovery": (
        "Reference recovery",
        "How well does a score recover a curated network, per layer, head and pooling?",
        "An interval of the pooled AUROC that reaches chance.",
    ),
    "gene_level_baselines": (
        "Gene-level baselines",
        "Do one-gene statistics do as well as the pairwise score?",
        "A gene-level score whose AUROC is at least that of attention.",
    ),
    "expression_matched": (
        "Expression-matched pairs",
        "Does the score separate true pairs from pairs of equally expressed genes?",
        "A matched AUROC at chance while matching is balanced.",
    ),
    "coexpression_dominance": (
        "Co-expression dominance",
        "Is the score a re-weighted co-expression network?",
        "A conditional coefficient of attention that does not exceed zero.",
    ),
}

#: Verdict claims with the title and the rule that a run folder prints.
CLAIMS: dict[str, tuple[str, str]] = {
    "beyond_prominence": (
        "Recovers regulation beyond gene prominence",
        (
            "supported: q < 0.05 against the gene-only model, the marginal product and expression-matched pairs, the "
            "interval beyond what is of interest; not supported: an interval below it; else inconclusive."
        ),
    ),
    "beyond_coexpression": (
        "Recovers regulation beyond co-expression",
        (
            "supported: attention exceeds co-expression on the same pairs (q < 0.05), its conditional coefficient is "
            "above zero; not supported: equivalence or an interval below; else inconclusive."
        ),
    ),
}


def write_example_run(
    folder: Path,
    *,
    models: Sequence[str] = ("scgpt-mini", "geneformer-mini"),
    references: Sequence[str] = ("dorothea",),
    analyses: Sequence[str] = tuple(ANALYSES),
    n_layers: int = 4,
    n_heads: int = 4,
    demonstration: bool = True,
    undefined: Sequence[str] = (),
    seed: int = 42,
) -> Path:
    """Write a run folder of synthetic numbers in schema version 1.

    Parameters
    ----------
    folder
        Created; files of the same names are replaced.
    models, references, analyses
        Names; an analysis left out is listed as skipped.
    n_layers, n_heads
        Size of the layer × head map.
    demonstration
        Whether the models are marked as demonstration models.
    undefined
        Ends of test ids (for example ``"matched_above_chance"``) that have a reason instead of a p-value.

    Returns
    -------
    `folder`.
    """
    folder = Path(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    outcomes, results, tests, skipped = [], [], [], []
    for model in models:
        for reference in references:
            rng = stream(seed, f"testing/example_run/{model}/{reference}")
            for analysis in ANALYSES:
                if analysis not in analyses:
                    skipped.append({"analysis": analysis, "model": model, "reference": reference,
                                    "reason": "not asked for in the plan"})  # fmt: skip
                    continue
                made = tables.draw(analysis, rng, n_layers=n_layers, n_heads=n_heads)
                written = [_write_table(folder, (analysis, model, reference, name), t) for name, t in made.items()]
                outcomes.append(
                    {
                        "analysis": analysis,
                        "model": model,
                        "reference": reference,
                        "tables": written,
                        "facts": {"n_pos": tables.N_POS},
                        "dropped": tables.DROPPED.get(analysis, {}),
                    }
                )
                results += tables.results(analysis, model, reference, rng)
                tests += tables.tests(analysis, model, reference, rng, undefined=undefined)
    _write_frame(folder / "results", pd.DataFrame(results))
    _write_frame(folder / "tests", tables.close(pd.DataFrame(tests)))
    _write_frame(folder / "tables" / "gene_ids", tables.gene_ids())
    run = _record(models, references, analyses, n_layers, n_heads, demonstration, seed) | {
        "outcomes": outcomes,
        "verdicts": _verdicts(models, references, analyses),
        "skipped": skipped,
    }
    text = json.dumps(run, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")
    (folder / "plan.yaml").write_text(
        "# synthetic example: no study stands behind this plan\n"
        f"name: synthetic-example\ncells: demo:immune\nmodels: [{', '.join(models)}]\nseed: {seed}\n",
        encoding="utf-8",
    )
    return folder


def _write_frame(stem: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(stem.with_name(stem.name + ".parquet"), index=False)
    frame.to_csv(stem.with_name(stem.name + ".tsv"), sep="\t", index=False)


def _write_table(folder: Path, key: tuple[str, ...], frame: pd.DataFrame) -> dict[str, Any]:
    stem = "__".join(key).replace("/", "-").replace(":", "-").replace(" ", "-")
    _write_frame(folder / "tables" / stem, frame)
    return {"name": key[-1], "file": f"tables/{stem}.parquet", "n_rows": len(frame)}


def _record(
    models: Sequence[str],
    references: Sequence[str],
    analyses: Sequence[str],
    n_layers: int,
    n_heads: int,
    demonstration: bool,  # noqa: FBT001 - private, called once
    seed: int,
) -> dict[str, Any]:
    """The parts of ``run.json`` that do not depend on drawn numbers."""
    counts = {"reference_edges": 31953, "mappable": 21480, "evaluable": tables.N_POS, "self_pairs": 41}
    mark = " (small demonstration model)" if demonstration else ""
    return {
        "schema_version": 1,
        "kind": "regulens-run",
        "synthetic": True,
        "name": "synthetic example",
        "plan": {"name": "synthetic-example", "seed": seed},
        "plan_digest": "0000000000000000",
        "seed": seed,
        "versions": {"regulens": "0.1.0", "python": "3.11.2", "numpy": "2.0.0", "scanpy": "absent"},
        "demonstration": demonstration,
        "settings": {"bootstrap": 2000, "permutations": 1000, "alpha": 0.05, "seoi": 0.02, "min_cells": 5,
                     "seed": seed},
        "cells": {
            "name": "synthetic cells", "source": "drawn numbers; no cells were read", "n_cells": 559, "n_genes": 765,
            "digest": "1111111111111111", "roles": {"cell_state": "leiden"},
            "states": [{"cell_state": s, "n_cells": n} for s, n in (("0", 212), ("1", 190), ("2", 157))],
            "gene_counts": {"kept": 741, "renamed": 19, "merged": 2, "unknown": 8, "ambiguous": 3, "duplicate": 1,
                            "unexpressed": 12},
            "dropped": {"cells without counts": 3},
        },
        "models": [
            {
                "name": m, "label": m + mark, "family": m.split("-")[0], "spec": f"bundled:{m}", "n_layers": n_layers,
                "n_heads": n_heads, "width": 64, "vocabulary_size": 2048, "max_length": 512, "n_parameters": 412_345,
                "sha256": f"{i:x}" * 64, "namespace": "symbol", "tokenisation": "values in 51 bins",
                "normalisation": "post", "activation": "relu", "special_tokens": ["<cls>", "<pad>"], "causal": False,
                "demonstration": demonstration, "licence": "BSD-3-Clause", "notes": ["synthetic card"],
                "vocabulary_genes": 733 - i,
                "attention": {"n_partitions": 3, "n_cells": 559, "kind": "probability", "n_pairs_observed": 25_310,
                              "n_pairs": 27_500, "tokens_median": 311.0},
                "verification": {"max_abs_difference": 4.2e-08, "n_cells": 4},
            }
            for i, m in enumerate(models)
        ],
        "references": [
            {"name": r, "source": f"bundled:{r}", "digest": "2222222222222222", "counts": counts} for r in references
        ],
        "universes": [
            {"name": f"regulators-by-genes/{r}", "reference": r, "digest": f"{j + 3}" * 16,
             "counts": counts | {"candidates": tables.N_POS + tables.N_NEG, "regulators": tables.N_REGULATORS},
             "restrictions": ["regulators with at least one reference edge", "no self-pairs"]}
            for j, r in enumerate(references)
        ],
        "analyses": [
            {"name": a, "version": 1, "title": ANALYSES[a][0], "question": ANALYSES[a][1],
             "falsified_by": ANALYSES[a][2],
             "reference": "Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747", "protocol": "corrected",
             "parameters": {"direction": "regulator_attends"}}
            for a in analyses
        ],
    }  # fmt: skip


def _verdicts(models: Sequence[str], references: Sequence[str], analyses: Sequence[str]) -> list[dict[str, Any]]:
    """One verdict per claim and context; states go round so that every state is shown."""
    cycle = ("not supported", "inconclusive", "supported")
    reasons = {
        "not supported": "drawn to be below: the upper limit lies under the smallest effect of interest",
        "inconclusive": "drawn to be undecided: the interval contains both chance and the smallest effect of interest",
        "supported": "drawn to be above: every listed null is beaten",
    }
    evidence = {
        "beyond_prominence": [
            "gene_level_baselines/{}/attention_above_gene_model",
            "gene_level_baselines/{}/attention_above_marginal_product",
            "expression_matched/{}/matched_above_chance",
        ],
        "beyond_coexpression": [
            "coexpression_dominance/{}/attention_differs_from_coexpression",
            "coexpression_dominance/{}/attention_coefficient",
        ],
    }
    out: list[dict[str, Any]] = []
    for model in models:
        for reference in references:
            for claim, (title, rule) in CLAIMS.items():
                state = cycle[len(out) % 3]
                ids = [e.format(f"{model}/{reference}") for e in evidence[claim] if e.split("/")[0] in analyses]
                out.append({"claim": claim, "title": title, "model": model, "reference": reference, "state": state,
                            "reasons": [reasons[state]], "rule": rule, "evidence": ids})  # fmt: skip
    return out
