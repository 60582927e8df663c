"""What is a figure of the report? How it is drawn, where it stands, and the words below and behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from regulens.report.model import RunView


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSpec:
    """A figure that reads the tables of a run and nothing else.

    Parameters
    ----------
    name
        File stem under ``figures/``.
    analysis
        Analysis whose details it stands in; empty for a figure with a section of its own.
    draw
        Run → figure, or None when the run has no numbers for it.
    caption
        Run → what is drawn; the endpoint, universe and number of cells are added to it.
    alt
        The same for those who cannot see it, without numbers.
    simulated
        The numbers come from simulated cells: the caption says so instead of naming universe and cells.
    """

    name: str
    analysis: str
    draw: Callable[[RunView], Figure | None]
    caption: Callable[[RunView], str]
    alt: str
    simulated: bool = False
