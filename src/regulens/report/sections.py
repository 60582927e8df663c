"""What stands in each section? Plain lists and tables for the templates, made from a `RunView`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regulens.report import claims, lists, numbers, screens, wording
from regulens.report.model import RunView, records
from regulens.report.table import Cell, Column, Table, analysis_tables, cell

if TYPE_CHECKING:
    from regulens.report.figures import Drawn

_COUNTS = {
    "reference_edges": "edges of the reference", "mappable": "mappable (both genes among the cells' genes)",
    "evaluable": "evaluable (inside the universe)", "self_pairs": "self-pairs", "candidates": "candidate pairs",
    "kept": "kept as they were", "renamed": "renamed to the approved symbol",
    "merged": "merged with another identifier", "unknown": "unknown", "ambiguous": "ambiguous",
    "duplicate": "duplicate", "unexpressed": "never detected", "n_layers": "layers", "n_heads": "heads per layer",
    "n_parameters": "parameters", "max_length": "tokens at most", "n_cells": "cells", "n_pairs": "pairs",
    "n_pairs_observed": "pairs observed", "n_partitions": "partitions", "n_pairs_met": "pairs met",
    "tokens_median": "tokens per cell (median)",
    "seoi": "smallest effect of interest (AUROC)", "alpha": "level of tests", "bootstrap": "resamples",
    "min_cells": "cells in which a pair must have met",
}  # fmt: skip

#: Why pairs of a model with and without attention are not observed.
_UNOBSERVED = {True: "met in too few cells", False: "without a score"}

Pairs = list[tuple[str, str]]


def words(name: Any) -> str:
    """Name of a count in words."""
    return _COUNTS.get(str(name), str(name).replace("_", " "))


def plain(value: Any) -> str:
    """A value of a record as text: numbers formatted, lists joined, nothing as "none"."""
    if isinstance(value, dict):
        return "; ".join(f"{words(k)}: {plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if numbers.is_missing(value) or value == "":
        return "none"
    return str(value) if isinstance(value, str) else numbers.short(value)


def identity(view: RunView) -> Pairs:
    """The strip under the title."""
    run, cells = view.run, view.run.get("cells", {})
    n_cells, n_genes = numbers.count(cells.get("n_cells")), numbers.count(cells.get("n_genes"))
    size = f"{cells.get('name', 'cells')}: {n_cells} cells × {n_genes} genes"
    size = size if cells.get("n_cells") else f"none; {n_genes} genes of the edge tables"
    return [
        ("cells", size),
        ("models", ", ".join(view.label(m["name"]) for m in view.models) or "none"),
        ("references", ", ".join(view.references) or "none"),
        *([("screens", ", ".join(view.screens))] if view.screens else []),
        ("seed", str(run.get("seed", "none"))),
        ("regulens", str(run.get("versions", {}).get("regulens", "unknown"))),
        ("plan", str(run.get("plan_digest", "none"))),
    ]  # fmt: skip


def cards(view: RunView) -> list[dict[str, Any]]:
    """One card per verdict; those about screens first, since a study that has one asks about responses."""
    out = []
    for verdict in sorted(view.run.get("verdicts", []), key=lambda v: v["reference"] not in view.screens):
        evidence = [
            {
                "name": wording.test_name(row["id"]),
                "hypothesis": row.get("hypothesis") or "",
                "effect": _effect(row),
                "q": numbers.p_value(row["q_value"]),
                "p": numbers.p_value(row["p_raw"]),
            }
            for row in view.evidence(verdict)
        ]
        out.append(
            {
                "title": verdict.get("title", verdict["claim"]),
                "claim": verdict["claim"],
                "model": view.label(verdict["model"]),
                "reference": verdict["reference"],
                "state": verdict["state"],
                "tone": str(verdict["state"]).replace(" ", "-"),
                "sign": wording.SIGNS.get(verdict["state"], "·"),
                "sentence": claims.verdict_sentence(view, verdict),
                "reasons": [str(r) for r in verdict.get("reasons") or ()],
                "rule": str(verdict.get("rule") or "no rule recorded"),
                "numbers": claims.decisive(view, verdict),
                "facts": claims.card_facts(view, verdict),
                "evidence": evidence,
            }
        )
    return out


def _effect(row: dict[str, Any]) -> str:
    if row.get("undefined"):
        return numbers.not_defined(row["undefined"])
    if row["effect"] is None:
        return numbers.EMPTY
    return numbers.estimate(row["effect"], row["low"], row["high"], sign=True)


def matrices(view: RunView) -> list[dict[str, Any]]:
    """Claims × contexts, per endpoint: the states at a glance; claims by short names, the cards have the sentences."""
    verdicts = view.run.get("verdicts", [])
    state = {(v["claim"], v["model"], v["reference"]): v["state"] for v in verdicts}
    out = []
    for endpoint, against in (("perturbation_response", "screen"), ("reference_recovery", "reference")):
        names = {v["claim"]: words(v["claim"]) for v in verdicts if v["reference"] in view.names_of(endpoint)}
        rows = []
        for model, reference in view.contexts_of(endpoint):
            states = [state.get((c, model, reference), "") for c in names]
            if any(states):
                rows.append({"model": view.label(model), "reference": reference, "states": states})
        if rows:
            out.append({"claims": list(names.values()), "rows": rows, "against": against})
    return out


def details(view: RunView, figures: Mapping[str, Drawn]) -> list[dict[str, Any]]:
    """One block per analysis that was planned, with the names of its figures."""
    out = []
    for spec in view.run.get("analyses", []):
        name = (
            spec["name"] if spec.get("protocol", "corrected") == "corrected" else f"{spec['name']}.{spec['protocol']}"
        )
        lost = [
            {"where": f"{view.label(o['model'])} · {o['reference']}", "what": plain(o["dropped"])}
            for o in view.run.get("outcomes", [])
            if o["analysis"] == name and o.get("dropped")
        ]
        ran = any(o["analysis"] == name and o.get("tables") for o in view.run.get("outcomes", []))
        corrected = spec.get("protocol", "corrected") == "corrected"
        own = [d.name for d in figures.values() if corrected and d.analysis == spec["name"]]
        out.append({"name": name, "title": spec.get("title", name), "question": spec.get("question", ""),
                    "falsified_by": spec.get("falsified_by", ""), "protocol": spec.get("protocol", "corrected"),
                    "source": spec.get("reference", ""), "parameters": plain(spec.get("parameters", {})),
                    "version": plain(spec.get("version")), "figures": own, "ran": ran, "dropped": lost,
                    "tables": analysis_tables(view, name)})  # fmt: skip
    return out


def ledger(view: RunView) -> Table:
    """Every test of the run, its hypothesis below its name; models and references only where there are several."""
    lead = [k for k, names in (("model", view.models), ("reference", view.names)) if len(names) > 1]
    heads = [("test", False, ""), *[(k, False, "") for k in lead], ("effect", True, ""), ("interval", True, ""),
             ("p", True, "raw"), ("q", True, "Benjamini-Hochberg"), ("family", True, "tests adjusted together"),
             ("outcome", False, "")]  # fmt: skip
    rows = []
    for row in records(view.tests):
        low, n_units = row.get("low"), row.get("n_units")
        units = (
            row["unit"] if n_units is None else f"{numbers.count(n_units)} {row['unit']}{'s' if n_units != 1 else ''}"
        )
        known = {"model": cell(view.label(row["model"])), "reference": cell(row["reference"])}
        rows.append((
            cell(wording.test_name(row["id"]), sub=f"{row['hypothesis'].rstrip('.')} ({row['side']}; {units})"),
            *[known[k] for k in lead], cell(row["effect"], numbers.signed),
            Cell(text=numbers.interval(low, row.get("high"), sign=True), key="" if low is None else repr(float(low))),
            cell(row["p_raw"], numbers.p_value), cell(row["q_value"], numbers.p_value),
            cell(row["family_size"] or None, numbers.count), cell(wording.outcome_words(row, view.alpha)),
        ))  # fmt: skip
    columns = tuple(Column(head=h, numeric=n, hint=t) for h, n, t in heads)
    return Table(
        title="Every test of this run",
        columns=columns,
        rows=tuple(rows),
        note="Complete, with Benjamini-Yekutieli and Holm: tests.tsv",
    )


def _counted(counts: dict[str, Any]) -> Pairs:
    """Counts in the order of `_COUNTS`, others after them, names in words."""
    known = list(_COUNTS)
    shown = [k for k in counts if k in known or counts[k]]  # kinds of loss that did not happen are left unsaid
    order = sorted(shown, key=lambda k: (known.index(k) if k in known else len(known), k))
    return [(words(k), numbers.count(counts[k])) for k in order]


def losses(view: RunView) -> list[tuple[str, Pairs]]:
    """Named lists of what did not come through."""
    cells = view.run.get("cells", {})
    out: list[tuple[str, Pairs]] = []
    genes = _counted(cells.get("gene_counts", {}))
    if genes:
        out.append(("Gene identifiers (complete account: tables/gene_ids.tsv)", genes))
    dropped = _counted(cells.get("dropped", {}))
    out.append(("Cells and genes left out", dropped or [("nothing", numbers.count(0))]))
    for reference in view.run.get("references", []):
        counts = dict(reference.get("counts", {})) | dict(view.universe(reference["name"]).get("counts", {}))
        if counts:
            out.append((f"Reference {reference['name']}", _counted(counts)))
    out += [(f"Screen {s['name']}", screens.losses(s)) for s in view.run.get("screens", [])]
    for card in view.models:
        seen = card.get("attention", {})
        pairs: Pairs = [("genes of the cells that the model knows", numbers.count(card.get("vocabulary_genes")))]
        if "n_pairs" in seen:
            lost = seen["n_pairs"] - seen["n_pairs_observed"]
            pairs += [("pairs", numbers.count(seen["n_pairs"])),
                      ("pairs observed", numbers.count(seen["n_pairs_observed"])),
                      (f"pairs unobserved ({_UNOBSERVED[bool(card.get('n_layers'))]})",
                       numbers.count(lost))]  # fmt: skip
        out.append((view.label(card["name"]), pairs))
    return out


def left_out(view: RunView) -> Table | None:
    """What each analysis left out; None when nothing was."""
    rows = [
        (
            cell(analysis_words(o["analysis"])),
            cell(view.label(o["model"])),
            cell(o["reference"]),
            cell(plain(o["dropped"])),
        )
        for o in view.run.get("outcomes", [])
        if any(o.get("dropped", {}).values())
    ]
    if not rows:
        return None
    heads = ("analysis", "model", "reference", "left out")
    return Table(title="Left out by analyses", columns=tuple(Column(head=h) for h in heads), rows=tuple(rows))


def analysis_words(name: str) -> str:
    """Name of an analysis in words, with its protocol where it is a reproduction.

    >>> analysis_words("expression_matched.published")
    'expression matched (published protocol)'
    """
    name, _, protocol = name.partition(".")
    return name.replace("_", " ") + (f" ({protocol} protocol)" if protocol else "")


def skipped(view: RunView) -> Table | None:
    """Analyses that did not run, with reasons; None when all ran."""
    rows = [
        (cell(analysis_words(s["analysis"])), cell(view.label(s["model"])), cell(s["reference"]), cell(s["reason"]))
        for s in view.run.get("skipped", [])
    ]
    if not rows:
        return None
    heads = ("analysis", "model", "reference", "reason")
    return Table(title="Skipped analyses", columns=tuple(Column(head=h) for h in heads), rows=tuple(rows))


def methods(view: RunView) -> list[tuple[str, Pairs]]:
    """Settings, inputs, model cards and versions."""
    run, cells = view.run, view.run.get("cells", {})
    out: list[tuple[str, Pairs]] = [
        ("Settings", [(words(k), "none" if v is None else f"{v:g}" if isinstance(v, float) else str(v))
                      for k, v in run.get("settings", {}).items()]),
        ("Cells", [("source", plain(cells.get("source"))), ("digest", plain(cells.get("digest"))),
                   ("roles", plain(cells.get("roles", {}))),
                   ("cell states", ", ".join(f"{s['cell_state']} ({numbers.count(s['n_cells'])})"
                                             for s in cells.get("states", [])) or "none named")]),
    ]  # fmt: skip
    for reference in run.get("references", []):
        universe = view.universe(reference["name"])
        out.append((f"Reference {reference['name']}", [
            ("source", plain(reference.get("source"))), ("digest", plain(reference.get("digest"))),
            ("universe", f"{plain(universe.get('name'))} (digest {plain(universe.get('digest'))})"),
            ("restrictions", plain(universe.get("restrictions", []))),
        ]))  # fmt: skip
    for screen in view.run.get("screens", []):
        universe = view.universe(screen["name"])
        out.append((f"Screen {screen['name']}", [
            ("source", plain(screen.get("source"))), ("digest", plain(screen.get("digest"))),
            ("universe", f"{plain(universe.get('name'))} (digest {plain(universe.get('digest'))})"),
            ("restrictions", plain(universe.get("restrictions", []))),
        ]))  # fmt: skip
    order = (
        "family",
        "spec",
        "n_layers",
        "n_heads",
        "width",
        "vocabulary_size",
        "max_length",
        "n_parameters",
        "sha256",
        "namespace",
        "tokenisation",
        "normalisation",
        "activation",
        "special_tokens",
        "causal",
        "licence",
        "notes",
    )
    for card in view.models:
        pairs = [
            (words(k), plain(card[k] or "not stated") if k == "licence" else plain(card[k])) for k in order if k in card
        ]
        check, seen = card.get("verification", {}), card.get("attention", {})
        if not numbers.is_missing(check.get("max_abs_difference")):
            pairs.append(("largest difference to the plain softmax path", numbers.short(check["max_abs_difference"])
                          + f" (over {plain(check.get('n_cells'))} cells)"))  # fmt: skip
        pairs += lists.described(view, card["name"])
        pairs += [(f"attention: {words(k)}", plain(v)) for k, v in seen.items() if k != "table"]
        out.append((view.label(card["name"]), pairs))
    out.append(("Versions", [(k, str(v)) for k, v in run.get("versions", {}).items()]))
    return out


def citations(view: RunView) -> list[str]:
    """Sources of the methods, of references, cells and models, each once."""
    lines: dict[str, None] = {}
    for spec in view.run.get("analyses", []):
        if spec.get("reference"):
            lines[f"{spec.get('title', spec['name'])}: {spec['reference']}"] = None
    for reference in view.run.get("references", []):
        lines[f"Reference {reference['name']}: {plain(reference.get('source'))}"] = None
    for screen in view.run.get("screens", []):
        lines[f"Screen {screen['name']}: {plain(screen.get('source'))}"] = None
    for card in view.models:
        lines[
            f"{view.label(card['name'])}: {plain(card.get('licence')) if card.get('licence') else 'licence not stated'}"
        ] = None
    for line in view.run.get("attribution", []):
        lines[str(line)] = None
    return list(lines)
