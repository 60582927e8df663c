"""Do layers specialise? AUROC over depth with a band for all layers at once, and what each has beyond its margins."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import FAINT, INK, MUTED, legend, mark_of, new_figure, shorten
from regulens.report.model import RunView, records
from regulens.report.numbers import is_missing, p_value, signed
from regulens.report.wording import layer_label, score_label

_RIVAL = "#4B4B4B"


def layer_hierarchy(view: RunView) -> Figure | None:
    """Draw two panels per reference and model: the profile, and its part beyond prominence."""
    contexts = [(m, r) for m, r, _ in view.of("layer_hierarchy", "layers")]
    if not contexts:
        return None
    fig = new_figure(0.55 + 2.6 * len(contexts))
    grid = fig.subplots(len(contexts), 2, squeeze=False, width_ratios=(1.25, 1))
    for (left, right), (model, reference) in zip(grid, contexts):
        rows = records(view.tables[("layer_hierarchy", model, reference, "layers")])
        colour, marker = mark_of(view, model)
        depth = list(range(len(rows)))
        _profile(left, depth, rows, ("auroc", "low", "high"), colour, marker)
        left.fill_between(depth, [_number(r["band_low"]) for r in rows], [_number(r["band_high"]) for r in rows],
                          color=colour, alpha=0.13, lw=0, zorder=1)  # fmt: skip
        _baselines(left, view, model, reference)
        left.axhline(0.5, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
        left.set_title(f"{shorten(model, 24)} · {shorten(reference, 18)}{_trend(view, model, reference, 'AUROC')}")
        left.set_ylabel("AUROC (reference recovery)")
        _profile(right, depth, rows, ("excess", "excess_low", "excess_high"), colour, marker)
        right.axhline(0.0, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1.5)
        right.set_title(f"beyond its own margins{_trend(view, model, reference, 'excess')}")
        right.set_ylabel("layer − its marginal product")
        for ax in (left, right):
            step = max(1, len(rows) // 12)
            ax.set_xticks(depth[::step], [layer_label(r["layer"]) for r in rows][::step])
            ax.set_xlabel("layer")
            ax.grid(axis="y", color=FAINT, lw=0.8)
    extra = (
        Patch(color=MUTED, alpha=0.25, lw=0, label="band for all layers at once"),
        Line2D([], [], color=_RIVAL, lw=1.2, ls=":", label="strongest gene-level score"),
        Line2D([], [], color=_RIVAL, lw=1.2, ls="-.", label="co-expression"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="chance, or no difference"),
    )
    legend(fig, view, list(dict.fromkeys(m for m, _ in contexts)), extra=extra)
    return fig


def _number(value: object) -> float:
    return float("nan") if is_missing(value) else float(value)  # type: ignore[arg-type]


def _profile(
    ax: Axes, depth: list[int], rows: list[dict[str, object]], names: tuple[str, str, str], colour: str, marker: str
) -> None:
    value, low, high = ([_number(r[n]) for r in rows] for n in names)
    ax.plot(depth, value, color=colour, lw=1.2, marker=marker, ms=4.6, zorder=3)
    ax.vlines(depth, low, high, color=colour, lw=1.4, zorder=2)


def _baselines(ax: Axes, view: RunView, model: str, reference: str) -> None:
    table = view.table("layer_hierarchy", model, reference, "layer_baselines")
    if table is None:
        return
    rows = [r for r in records(table) if not is_missing(r["auroc"])]
    genes = [r for r in rows if r["kind"] == "gene level"]
    if genes:
        best = max(genes, key=lambda r: r["auroc"])
        ax.axhline(best["auroc"], color=_RIVAL, lw=1.2, ls=":", zorder=1.6)
        ax.text(1.0, best["auroc"], score_label(best["score"]), transform=ax.get_yaxis_transform(), fontsize=7.5,
                color=_RIVAL, va="bottom", ha="right")  # fmt: skip
    for row in rows:
        if row["kind"] == "co-expression":
            ax.axhline(row["auroc"], color=_RIVAL, lw=1.2, ls="-.", zorder=1.6)


def _trend(view: RunView, model: str, reference: str, profile: str) -> str:
    table = view.table("layer_hierarchy", model, reference, "layer_trend")
    for row in [] if table is None else records(table):
        if row["profile"] == profile and not is_missing(row["p"]):
            return f" (ρ {signed(row['rho'], 2)}, p {p_value(row['p'])})"
    return ""


def caption(view: RunView) -> str:
    """What is drawn."""
    return (
        "Left: AUROC of the mean over heads of every layer; bars are intervals of one layer, the shaded band holds for "
        f"all layers at once at {100 * (1 - view.alpha):g} %. Right: the same minus the layer's own marginal product, "
        "the part that is not row and column means. ρ: Spearman with depth; p: against smooth surrogate profiles, "
        "since layers are not independent of one another."
    )


SPEC = FigureSpec(
    name="layer_hierarchy", analysis="layer_hierarchy", draw=layer_hierarchy, caption=caption,
    alt="AUROC over the depth of the model with gene-level baselines, and its part beyond marginal products",
)  # fmt: skip
