"""How is attention read into the run folder: under the recipe of the plan, and under those that analyses ask for?

An analysis that needs ``recipes`` lists them in its parameter of that name. All are read in one pass over the cells,
and each has a store of its own, which a resumed run reuses. Other recipes than the plan's are kept for all cells
together: they are compared, not resampled. The mean cell (`regulens.attention.mean_cell`) is one of them, with a pass
of its own.
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
    wanted = {
        str(name)
        for item in prepared.analyses
        if item.request.model == model and NEED in item.spec.needs
        for name in (item.spec.parameters | item.section.parameters)[NEED]
    }
    if not wanted:
        return ()
    from regulens.attention.recipes import RECIPES  # brings torch, which an edge table does without

    known = (*RECIPES, MEAN_CELL)
    if odd := sorted(wanted - set(known)):
        message = f"Expected recipes among {', '.join(known)}, got '{odd[0]}'.{nearest(odd[0], list(known))}"
        raise PlanError(message)
    if model in prepared.without_attention:
        return ()
    return tuple(name for name in known if name in wanted and name != prepared.plan.extraction.recipe)


def read_recipes(
    prepared: Prepared, model: str, *, folder: Path, jobs: int, progress: Progress
) -> tuple[Attention, dict[str, AttentionSummary], dict[str, str]]:
    """Attention under the plan's recipe, under those asked for beside it, and why this model lacks some of these."""
    from regulens.attention.recipes import recipe_for

    others: list[str] = []
    gaps: dict[str, str] = {}
    asked = recipes_asked(prepared, model)
    for recipe in asked:
        try:
            if recipe != MEAN_CELL:
                recipe_for(recipe, prepared.adapters[model])
                others.append(recipe)
        except (ParameterError, CaptureError) as error:
            gaps[recipe] = str(error)
    extracted = _extracted(prepared, model, others, folder=folder, jobs=jobs, progress=progress)
    found = {recipe: extracted[recipe].summary for recipe in others}
    if MEAN_CELL in asked:
        try:
            found[MEAN_CELL] = _mean_cell(prepared, model, folder=folder, progress=progress)
        except (ParameterError, CaptureError) as error:
            gaps[MEAN_CELL] = str(error)
    return extracted[prepared.plan.extraction.recipe], found, gaps


def _extracted(
    prepared: Prepared, model: str, others: list[str], *, folder: Path, jobs: int, progress: Progress
) -> dict[str, Attention]:
    """Attention of the plan's recipe and of others in the run folder; the others are kept for all cells together."""
    from regulens.attention.extract import extract_recipes

    plan = prepared.plan
    main = plan.extraction.recipe
    words = f"attention of {model}" + (f", recipes {', '.join([main, *others])}" if others else "")
    out = {recipe: _store(folder, model, recipe if recipe in others else "") for recipe in (main, *others)}
    with _stage(progress, words, prepared.cells.n_cells) as report:
        return extract_recipes(
            prepared.adapters[model], prepared.cells, genes=prepared.genes, regulators=prepared.regulators,
            recipes=(main, *others), merged=others, partition_by=plan.extraction.partition_by,
            n_blocks=prepared.n_blocks, seed=plan.seed, jobs=jobs, out=out, memory=plan.extraction.memory,
            device=plan.extraction.device, precision=plan.extraction.precision, progress=report,
        )  # fmt: skip


def _mean_cell(prepared: Prepared, model: str, *, folder: Path, progress: Progress) -> AttentionSummary:
    from regulens.attention.mean_cell import mean_cell_attention

    with _stage(progress, f"attention of {model}, mean cell", prepared.cells.n_cells) as report:
        return mean_cell_attention(
            prepared.adapters[model], prepared.cells, genes=prepared.genes, regulators=prepared.regulators,
            partition_by=(), seed=prepared.plan.seed, out=_store(folder, model, MEAN_CELL), progress=report,
        ).summary  # fmt: skip


def _store(folder: Path, model: str, recipe: str) -> Path:
    return folder / "attention" / f"{model.replace('/', '-')}{'.' if recipe else ''}{recipe}.zarr"


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
