"""Which figures does a report have? The list in order, and their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from regulens.report.figure_baselines import baselines
from regulens.report.figure_cascade import cascade
from regulens.report.figure_dominance import dominance
from regulens.report.figure_layer_head import layer_head
from regulens.report.figure_matched import matched
from regulens.report.figure_style import style, to_png, to_svg
from regulens.report.model import RunView

#: Name → function; the name is the file stem under ``figures/``.
FIGURES: dict[str, Callable[[RunView], Figure | None]] = {
    "cascade": cascade,
    "layer_head": layer_head,
    "baselines": baselines,
    "matched": matched,
    "dominance": dominance,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A finished figure: standalone SVG text and PNG bytes."""

    name: str
    svg: str
    png: bytes


def draw_all(view: RunView) -> dict[str, Drawn]:
    """Draw every figure that the run has data for, in order."""
    drawn = {}
    for name, make in FIGURES.items():
        with style():
            fig = make(view)
            if fig is not None:
                drawn[name] = Drawn(name=name, svg=to_svg(fig, name), png=to_png(fig))
    return drawn
