"""What does a report say of a screen? What was read, what a responder is, what is wrong with it, what was lost."""

from __future__ import annotations

from typing import Any

from regulens.report import numbers
from regulens.report.model import RunView
from regulens.report.table import Column, Table, cell

Pairs = list[tuple[str, str]]


def blocks(view: RunView) -> list[dict[str, Any]]:
    """One block per screen: its numbers, warnings, and the perturbations that could not be evaluated."""
    out = []
    for screen in view.run.get("screens", []):
        counts = screen.get("counts", {})
        evaluable, read = counts.get("perturbations_evaluable"), counts.get("perturbations")
        pairs: Pairs = [
            ("perturbations evaluated", f"{numbers.count(evaluable)} of {numbers.count(read)} read"),
            (
                "responses",
                f"{numbers.count(counts.get('evaluable'))} of {numbers.count(counts.get('candidates'))} pairs",
            ),
            ("a gene responds if", str(screen.get("rule", ""))),
            ("control cells", numbers.count(screen.get("n_controls")) if screen.get("n_controls") else "not stated"),
            ("modality", str(screen.get("modality") or "not declared")),
        ]
        pairs += [("recognised", note) for note in screen.get("notes", [])]
        problem = screen.get("modality_problem")
        warnings = [*([_sentence(problem)] if problem else []), *[_sentence(f) for f in screen.get("flags", [])]]
        out.append({"name": screen["name"], "pairs": pairs, "warnings": warnings, "lost": _lost(screen)})
    return out


def losses(screen: dict[str, Any]) -> Pairs:
    """Counts of what a screen lost on the way to pairs."""
    counts = screen.get("counts", {})
    pairs = [
        ("perturbations read", numbers.count(counts.get("perturbations"))),
        ("perturbations that could not be evaluated", numbers.count(counts.get("perturbations_lost"))),
        ("genes measured", numbers.count(counts.get("genes_tested"))),
        ("genes of them in the universe", numbers.count(counts.get("genes"))),
    ]
    return pairs + [
        (f"cells: {why.replace('_', ' ')}", numbers.count(n)) for why, n in screen.get("dropped", {}).items() if n
    ]


def _sentence(text: str) -> str:
    text = str(text).strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _lost(screen: dict[str, Any]) -> Table | None:
    lost = screen.get("lost", {})
    if not lost:
        return None
    rows = tuple((cell(name), cell(why)) for name, why in lost.items())
    columns = (Column(head="perturbation"), Column(head="why it is not evaluated"))
    return Table(title="Perturbations that could not be evaluated", columns=columns, rows=rows)
