"""The run record (``run.json``): all a reader needs to know of what was done, and nothing that varies by machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from regulens.io.outcomes import table_stem
from regulens.io.run_folder import SCHEMA_VERSION
from regulens.provenance import versions
from regulens.run.prepare import Prepared
from regulens.types.results import AnalysisOutcome, Verdict


def cells_record(prepared: Prepared) -> dict[str, Any]:
    """Cells as described in the record."""
    cells, plan = prepared.cells, prepared.plan
    states: list[dict[str, Any]] = []
    if "cell_state" in cells.obs:
        counts = cells.obs["cell_state"].value_counts()
        states = [
            {"cell_state": str(k), "n_cells": int(v)} for k, v in sorted(counts.items(), key=lambda kv: str(kv[0]))
        ]
    columns = {r: getattr(plan.cells, r) or r for r in cells.roles}
    return {
        "name": cells.name,
        "source": cells.source,
        "n_cells": cells.n_cells,
        "n_genes": cells.n_genes,
        "digest": cells.digest,
        "roles": columns,
        "states": states,
        "gene_counts": cells.alignment.counts(),
        "dropped": dict(cells.dropped) | prepared.dropped,
    }


def build_record(
    prepared: Prepared,
    *,
    models: list[dict[str, Any]],
    outcomes: list[tuple[str, AnalysisOutcome]],
    verdicts: tuple[Verdict, ...],
    skipped: list[dict[str, str]],
) -> dict[str, Any]:
    """Assemble ``run.json``.

    Parameters
    ----------
    outcomes
        Pairs of label (the analysis, with its protocol where it is not the corrected one) and outcome.
    """
    plan = prepared.plan
    analyses = {}
    for item in prepared.analyses:
        spec = item.spec
        analyses[(spec.name, str(item.request.protocol))] = {
            "name": spec.name, "version": spec.version, "title": spec.title, "question": spec.question,
            "reference": spec.reference, "falsified_by": spec.falsified_by, "endpoint": str(spec.endpoint),
            "protocol": str(item.request.protocol), "parameters": spec.parameters | item.section.parameters,
            "simulated": spec.scope == "simulation",
        }  # fmt: skip
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "regulens-run",
        "name": plan.run_name(),
        "plan": plan.model_dump(mode="json"),
        "plan_digest": plan.digest,
        "seed": plan.seed,
        "versions": versions(),
        "demonstration": any(m["demonstration"] for m in models),
        "settings": asdict(prepared.settings),
        "cells": cells_record(prepared),
        "models": models,
        "references": [
            {"name": r.name, "source": r.source, "digest": r.digest, "counts": dict(r.counts)}
            for r in prepared.references.values()
        ],
        "universes": [
            {
                "name": u.name, "reference": u.reference, "digest": u.digest, "counts": dict(u.counts),
                "restrictions": list(u.restrictions),
            }
            for u in (*prepared.universes.values(), *prepared.screen_universes.values())
        ],
        "screens": [s.record(prepared.screen_universes[n]) for n, s in prepared.screens.items()],
        "analyses": list(analyses.values()),
        "outcomes": [
            {
                "analysis": label, "model": o.model, "reference": o.reference, "facts": o.facts, "dropped": o.dropped,
                "tables": [
                    {"name": name, "file": f"tables/{table_stem(label, o.model, o.reference, name)}", "n_rows": len(t)}
                    for name, t in o.tables.items()
                ],
            }
            for label, o in outcomes
        ],
        "verdicts": [asdict(v) | {"state": str(v.state)} for v in verdicts],
        "skipped": skipped,
    }  # fmt: skip
