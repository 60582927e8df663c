"""Do scores that know one gene at a time do as well as attention? AUROC and paired difference per baseline."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from regulens.report.figure_spec import FigureSpec
from regulens.report.model import RunView
from regulens.report.paired_rows import PairedRows, draw_paired
from regulens.report.wording import interval_words, score_label

#: Kinds from top to bottom.
KINDS = ("attention", "gene_model", "product", "marginal", "source", "target", "coexpression", "random")


def baselines(view: RunView) -> Figure | None:
    """Draw attention among its baselines; None when the analysis was not run."""
    what = PairedRows(
        analysis="gene_level_baselines", table="baselines", name_of=lambda row: row["baseline"],
        order=_order, label=score_label, difference=("delta", "delta_low", "delta_high"), rival="a baseline",
        axis="attention − baseline (positive: attention is better)",
    )  # fmt: skip
    return draw_paired(view, what)


def _order(tables: list[list[dict[str, Any]]]) -> list[str]:
    """Baselines of all models: by kind, then by the largest AUROC over models."""
    best: dict[str, tuple[int, float]] = {}
    for table in tables:
        for row in table:
            kind = KINDS.index(row["kind"]) if row["kind"] in KINDS else len(KINDS)
            value = -1.0 if row["auroc"] is None else float(row["auroc"])
            best[row["baseline"]] = (kind, min(-value, best.get(row["baseline"], (0, 1.0))[1]))
    return sorted(best, key=lambda b: (best[b], b))


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: AUROC of attention (filled, shaded row) and of its rivals, on identical pairs. "
        f"Right: paired differences. {interval_words(view)}"
    )


SPEC = FigureSpec(
    name="baselines", analysis="gene_level_baselines", draw=baselines, caption=caption,
    alt="AUROC of attention and of gene-level baselines, with paired differences",
)  # fmt: skip
