"""How is attention read into the run folder: under the recipe of the plan, and under those that analyses ask for?

An analysis that needs ``recipes`` lists them in its parameter of that name. Each costs one more pass over the cells and
has a store of its own, which a resumed run reuses. Other recipes than the plan's are kept for all cells together: they
are compared, not resampled. The mean cell (`regulens.attention.mean_cell`) is one of them, held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regulens.errors import CaptureError, ParameterError, PlanError, nearest
from regulens.progress import Progress
from regulens.run.prepare import Prepared

if TYPE_CHECKING:
    from regulens.attention.result import Attention
    from regulens.types.attention import AttentionSummary

NEED = "recipes"
#: Attention of the mean cell: a map of means beside the means of maps.
MEAN_CELL = "mean_cell"


def recipes_asked(prepared: Prepared, model: str) -> tuple[str, ...]:
    """Recipes beside the plan's own that analyses of this model ask for, in the order of `RECIPES`.

    Raises
    ------
    PlanError
        For what is no recipe.
    """
    from regulens.attention.recipes import RECIPES

    known = (*RECIPES, MEAN_CELL)
    wanted = {
        str(name)
        for item in prepared.analyses
        if item.request.model == model and NEED in item.spec.needs
        for name in (item.spec.parameters | item.section.parameters)[NEED]
    }
    if odd := sorted(wanted - set(known)):
        message = f"Expected recipes among {', '.join(known)}, got '{odd[0]}'.{nearest(odd[0], list(known))}"
        raise PlanError(message)
    if model in prepared.without_attention:
        return ()
    return tuple(name for name in known if name in wanted and name != prepared.plan.extraction.recipe)


def other_recipes(
    prepared: Prepared, model: str, *, folder: Path, jobs: int, progress: Progress
) -> tuple[dict[str, AttentionSummary], dict[str, str]]:
    """Attention under the recipes that were asked for; and those that this model has no values for, with the reason."""
    from regulens.attention.recipes import recipe_for

    found: dict[str, AttentionSummary] = {}
    gaps: dict[str, str] = {}
    for recipe in recipes_asked(prepared, model):
        try:
            if recipe == MEAN_CELL:
                found[recipe] = _mean_cell(prepared, model, progress=progress)
                continue
            recipe_for(recipe, prepared.adapters[model])
        except (ParameterError, CaptureError) as error:
            gaps[recipe] = str(error)
            continue
        found[recipe] = extracted(
            prepared, model, folder=folder, jobs=jobs, progress=progress, recipe=recipe, is_other=True
        ).summary
    return found, gaps


def extracted(
    prepared: Prepared, model: str, *, folder: Path, jobs: int, progress: Progress, recipe: str, is_other: bool = False
) -> Attention:
    """Attention of one recipe in the run folder; another recipe than the plan's is kept for all cells together."""
    from regulens.attention.extract import extract

    plan = prepared.plan
    stem = model.replace("/", "-") + (f".{recipe}" if is_other else "")
    words = f"attention of {model}, recipe {recipe}" if is_other else f"attention of {model}"
    with _stage(progress, words, prepared.cells.n_cells) as report:
        return extract(
            prepared.adapters[model], prepared.cells, genes=prepared.genes, regulators=prepared.regulators,
            partition_by=() if is_other else plan.extraction.partition_by,
            n_blocks=1 if is_other else prepared.n_blocks, seed=plan.seed, jobs=jobs,
            out=folder / "attention" / f"{stem}.zarr", recipe=recipe, memory=plan.extraction.memory,
            device=plan.extraction.device, precision=plan.extraction.precision, progress=report,
        )  # fmt: skip


def _mean_cell(prepared: Prepared, model: str, *, progress: Progress) -> AttentionSummary:
    from regulens.attention.mean_cell import mean_cell_attention

    with _stage(progress, f"attention of {model}, mean cell", prepared.cells.n_cells) as report:
        return mean_cell_attention(
            prepared.adapters[model], prepared.cells, genes=prepared.genes, regulators=prepared.regulators,
            partition_by=(), seed=prepared.plan.seed, progress=report,
        ).summary  # fmt: skip


@contextmanager
def _stage(progress: Progress, words: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A stage of the progress, told how many cells are done in all."""
    stage = progress.stage(words, total)
    done = 0

    def report(now: int, _: int) -> None:
        nonlocal done
        stage.advance(now - done)
        done = now

    try:
        yield report
    finally:
        stage.close()
