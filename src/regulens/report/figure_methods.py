"""Do methods that see only the cells recover the network as well as attention? AUROC and paired difference each."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from regulens.report.figure_spec import FigureSpec
from regulens.report.model import RunView
from regulens.report.numbers import is_missing
from regulens.report.paired_rows import PairedRows, draw_paired
from regulens.report.wording import interval_words, method_label

_ATTENTION = "attention"


def methods(view: RunView) -> Figure | None:
    """Draw attention among the methods; None when the analysis was not run."""
    what = PairedRows(
        analysis="grn_method_baselines", table="methods",
        name_of=lambda row: _ATTENTION if row["kind"] == "attention" else row["method"],
        order=_order, label=method_label, difference=("difference", "difference_low", "difference_high"),
        rival="a method that sees cells",
        axis="method − attention (positive: the method is better)",
    )  # fmt: skip
    return draw_paired(view, what)


def _order(tables: list[list[dict[str, Any]]]) -> list[str]:
    """Attention first, then methods by their largest AUROC over models; the ensemble keeps its place among them."""
    best: dict[str, float] = {}
    for table in tables:
        for row in table:
            if row["kind"] == "attention":
                continue
            value = -1.0 if is_missing(row["auroc"]) else float(row["auroc"])
            best[row["method"]] = max(value, best.get(row["method"], -1.0))
    return [_ATTENTION, *sorted(best, key=lambda m: (-best[m], m))]


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: AUROC of attention (filled, shaded row) and of methods that infer networks from the same cells, genes "
        f"and regulators, on identical pairs. Right: paired differences. {interval_words(view)}"
    )


SPEC = FigureSpec(
    name="methods", analysis="grn_method_baselines", draw=methods, caption=caption,
    alt="AUROC of attention and of network-inference methods, with paired differences",
)  # fmt: skip
