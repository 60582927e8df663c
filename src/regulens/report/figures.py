"""Which figures does a report have? The list in order, and their files."""

from __future__ import annotations

from dataclasses import dataclass

from regulens.report import (
    figure_baselines,
    figure_calibration,
    figure_cascade,
    figure_composition,
    figure_conformal,
    figure_consistency,
    figure_cssi,
    figure_degree,
    figure_design,
    figure_dominance,
    figure_generalisation,
    figure_incremental,
    figure_layer_head,
    figure_layer_hierarchy,
    figure_matched,
    figure_methods,
    figure_metric_dependence,
    figure_perturbation_baselines,
    figure_perturbation_recovery,
    figure_propensity,
    figure_recipes,
    figure_reference_sensitivity,
    figure_residual,
    figure_scaling,
    figure_synthetic_cssi,
    figure_tf_resolution,
)
from regulens.report.figure_spec import FigureSpec
from regulens.report.figure_style import say_in, style, to_png, to_svg
from regulens.report.model import RunView
from regulens.report.wording import SIMULATED, universe_sentence, with_pooled
from regulens.types.nouns import in_terms_of

#: In the order of the report: figures with sections of their own, then by analysis.
FIGURES: tuple[FigureSpec, ...] = (
    figure_cascade.SPEC,
    figure_layer_head.SPEC,
    figure_baselines.SPEC,
    figure_matched.SPEC,
    figure_degree.SPEC,
    figure_residual.SPEC,
    figure_dominance.SPEC,
    figure_reference_sensitivity.SPEC,
    figure_layer_hierarchy.SPEC,
    figure_cssi.SPEC,
    figure_synthetic_cssi.SPEC,
    figure_scaling.SPEC,
    figure_composition.SPEC,
    figure_tf_resolution.SPEC,
    figure_methods.SPEC,
    figure_recipes.SPEC,
    figure_metric_dependence.SPEC,
    figure_perturbation_recovery.SPEC,
    figure_perturbation_baselines.SPEC,
    figure_incremental.SPEC,
    figure_propensity.SPEC,
    figure_design.SPEC,
    figure_generalisation.SPEC,
    figure_consistency.SPEC,
    figure_calibration.SPEC,
    figure_conformal.SPEC,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A finished figure: standalone SVG text, PNG bytes, caption and alternative text."""

    name: str
    analysis: str
    svg: str
    png: bytes
    caption: str
    alt: str


def draw_all(view: RunView) -> dict[str, Drawn]:
    """Draw every figure that the run has data for, in order."""
    drawn = {}
    for spec in FIGURES:
        with style():
            fig = spec.draw(view)
            if fig is not None:
                say_in(fig, view.noun)
                endpoint = view.endpoint_of(spec.analysis)
                data = SIMULATED if spec.simulated else universe_sentence(view, endpoint)
                drawn[spec.name] = Drawn(
                    name=spec.name,
                    analysis=spec.analysis,
                    svg=to_svg(fig, spec.name),
                    png=to_png(fig),
                    caption=in_terms_of(f"{spec.caption(view)} {data}", view.noun),
                    alt=in_terms_of(
                        f"{spec.alt}." if spec.simulated else with_pooled(view, spec.alt, endpoint), view.noun
                    ),
                )
    return drawn
