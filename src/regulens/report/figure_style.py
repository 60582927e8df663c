"""How do figures look, and how do they become the same bytes each time? Palette, marks, wrapping, saving.

Only the object-oriented API of matplotlib is used; settings apply inside a context and are gone afterwards.
Colours are those of Okabe and Ito (2008), told apart with the common forms of colour blindness; every model also
has its own mark, so that no reading depends on colour.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, Formatter, FuncFormatter, LogLocator, NullFormatter

from regulens.report.model import RunView
from regulens.report.numbers import is_missing
from regulens.types.nouns import ATTENTION, in_terms_of

INK, MUTED, FAINT, RULE = "#1b2430", "#5b6675", "#e9ebef", "#c9ced6"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00", "#4B4B4B")
MARKS = ("o", "s", "D", "^", "v", "P", "X", "h")
WIDTH = 9.8

_SETTINGS = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9.0, "axes.titlesize": 9.5,
    "axes.labelsize": 9.0, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5,
    "axes.edgecolor": RULE, "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK, "xtick.color": MUTED,
    "ytick.color": INK, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.major.size": 3, "ytick.major.size": 0, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "figure.facecolor": "white", "savefig.facecolor": "white", "svg.fonttype": "none", "svg.hashsalt": "regulens",
    "axes.unicode_minus": True, "axes.axisbelow": True, "path.simplify": False,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Settings under which a figure is drawn and saved; matplotlib's own are restored afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def say_in(fig: Figure, noun: str) -> None:
    """Put `noun` in the place of attention in every text of a figure, tick labels too."""
    if noun == ATTENTION:
        return
    for text in fig.findobj(Text):
        text.set_text(in_terms_of(text.get_text(), noun))
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            form = axis.get_major_formatter()
            if isinstance(form, (FixedFormatter, FuncFormatter)):  # tick labels that are words are one of these
                axis.set_major_formatter(FuncFormatter(partial(_said, form=form, noun=noun)))


def _said(x: float, position: int | None, *, form: Formatter, noun: str) -> str:
    return in_terms_of(form(x, position), noun)


def new_figure(height: float) -> Figure:
    """An empty figure of page width; `height` in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def mark_of(view: RunView, model: str) -> tuple[str, str]:
    """(colour, marker) of a model; the same in every figure of a report."""
    names = [m["name"] for m in view.models]
    i = names.index(model) if model in names else 0
    return COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]


def wrap(text: str, width: int) -> str:
    """Break a label into lines; words longer than the line are broken too."""
    return "\n".join(textwrap.wrap(str(text), width, break_long_words=True)) or str(text)


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a name that is too long for a panel title.

    >>> shorten("abcdefghij", 7)
    'abc…hij'
    """
    text = str(text)
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"


def legend(fig: Figure, view: RunView, models: list[str], *, extra: tuple[Line2D, ...] = ()) -> None:
    """One legend above all panels: model marks, then what else needs a word."""
    handles = []
    for model in models:
        colour, marker = mark_of(view, model)
        handles.append(Line2D([], [], color=colour, marker=marker, lw=1.4, ms=5.5, label=wrap(view.label(model), 52)))
    handles += list(extra)
    if handles:
        fig.legend(handles=handles, loc="outside upper left", ncols=2 if len(handles) > 2 else len(handles),
                   frameon=False, handlelength=1.8, columnspacing=2.0)  # fmt: skip


def point(
    ax: Axes, row: dict[str, Any], y: float, *, colour: str, marker: str, hollow: bool = False,
    names: tuple[str, str, str] = ("auroc", "low", "high"),
) -> bool:  # fmt: skip
    """Draw an estimate with its interval; False when it is undefined (a word is printed instead)."""
    value, low, high = (row.get(n) for n in names)
    if is_missing(value):
        ax.text(0.5, y, "not defined", color=MUTED, fontsize=7.5, style="italic", va="center", ha="center",
                transform=ax.get_yaxis_transform())  # fmt: skip
        return False
    if not is_missing(low) and not is_missing(high):
        ax.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="butt", zorder=3)
    ax.plot([value], [y], marker=marker, ms=5.6, color=colour, mfc="white" if hollow else colour, mew=1.3, zorder=4)
    return True


def offsets(n: int, spread: float = 0.38) -> list[float]:
    """Vertical places of `n` models inside a row, centred on it, first model on top (y runs downwards)."""
    if n <= 1:
        return [0.0]
    return [-spread / 2 + spread * i / (n - 1) for i in range(n)]


def reference_line(ax: Axes, x: float) -> None:
    """Vertical line at chance or at no difference."""
    ax.axvline(x, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)


def plain_log(ax: Axes) -> None:
    """Plain numbers at 1, 2 and 5 times powers of ten along a logarithmic x axis."""
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def to_svg(fig: Figure, name: str) -> str:
    """Standalone SVG with text as text in generic fonts, ids prefixed by `name`, no date and no metadata."""
    out = io.StringIO()
    mpl.rcParams["svg.hashsalt"] = f"regulens-{name}"
    fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", out.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<!DOCTYPE[^>]*>\s*", "", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    # Laid out with the widest common font, shown with the reader's own: labels can only get narrower.
    return svg.replace("'DejaVu Sans'", "'Helvetica Neue', Helvetica, Arial")


def to_png(fig: Figure, *, dpi: int = 160) -> bytes:
    """PNG bytes without metadata."""
    out = io.BytesIO()
    fig.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()
