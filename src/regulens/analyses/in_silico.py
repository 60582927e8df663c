"""What does a model predict for every gene when one gene is taken away, or trades places with another?

The cells are real ones; a change is made to their tokens and the model is run again (`regulens.interventions`). Read is
what the model's own head predicts for each gene, which can go up or down; a checkpoint without a head gives how far
the state of each gene's token moves, which has no sign.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from regulens.errors import ParameterError
from regulens.interventions import Intervention, Readout, ablate_gene, intervene, swap_gene_value
from regulens.interventions.expression import HEADS
from regulens.interventions.places import Place, Stage, output_of
from regulens.interventions.tokens import RULES
from regulens.models.base import AbstractAdapter, TokenBatch
from regulens.parallel import single_thread
from regulens.types.cells import Cells

if TYPE_CHECKING:
    from regulens.interventions.readout import Run

#: ``ablate``: the gene is not expressed. ``swap``: it has another gene's value or rank, and that gene has its own.
Change = Literal["ablate", "swap"]

#: How a gene that is not expressed is shown to the model; ``family``: by the rule of the model's family.
Rule = Literal["family", "value", "remove"]

#: Tokens that are run at once, and numbers that a head's predictions may take up.
BATCH_TOKENS, BLOCK = 16_384, 2**26

#: An effect below this share of the prediction's own size is rounding of single precision, and counts as zero.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InSilicoEffects:
    """What one kind of change of every source did to every target.

    Parameters
    ----------
    sources, targets
        Changed genes (rows) and read genes (columns).
    effect
        Float64, shape ``(source, target)``: mean over cells of the prediction with the change minus without; NaN where
        fewer than the asked number of cells had both genes as tokens, and at a gene that was itself changed. Exactly 0
        where the model says the same.
    n_cells
        Cells behind each effect, int64, same shape.
    cells_of
        Cells in which the source was changed, int64, shape ``(source,)``.
    partner
        Gene that a source traded places with; empty for an ablation.
    signed
        False where effects are lengths.
    readout
        What was read, in words.
    lost
        Sources without any effect, with the reason.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    effect: np.ndarray
    n_cells: np.ndarray
    cells_of: np.ndarray
    partner: tuple[str, ...]
    signed: bool
    readout: str
    lost: dict[str, str]


def predictions(columns: np.ndarray, n_genes: int) -> Readout:
    """The head's prediction for many genes at once; the same numbers as `regulens.interventions.expression`, one each.

    Parameters
    ----------
    columns
        Columns of the genes in the cells, int64, shape ``(target,)``.
    n_genes
        Genes of the cells.

    Returns
    -------
    Read-out of shape ``(cell, target, 1)``, float64; NaN where a gene is no token of a cell.
    """

    def function(run: Run) -> np.ndarray:
        import torch

        cell, position, target = _tokens_of(run.batch, columns, n_genes)
        state, head = run.states[-1], HEADS[run.adapter.card.family][2]
        value = np.empty(len(cell))
        step = max(1, BLOCK // max(run.adapter.card.vocabulary_size, 1))
        with torch.no_grad():
            for start in range(0, len(cell), step):
                at = (cell[start : start + step], position[start : start + step])
                index = [torch.as_tensor(i, device=state.device) for i in at]
                tokens = torch.as_tensor(run.batch.tokens[at], device=state.device)
                value[start : start + step] = head(run.adapter, state[index[0], index[1]], tokens).cpu().numpy()
        return _mean_by_target(value[:, None], cell, target, (len(run.batch.cell), len(columns)))

    return Readout(name="expression of all genes", place=output_of, function=function, check=lambda _: None)


def states(columns: np.ndarray, n_genes: int) -> Readout:
    """State of many genes' tokens after the last layer, shape ``(cell, target, width)``; NaN as in `predictions`."""

    def function(run: Run) -> np.ndarray:
        cell, position, target = _tokens_of(run.batch, columns, n_genes)
        state = run.states[-1].double().cpu().numpy()[cell, position]
        return _mean_by_target(state, cell, target, (len(run.batch.cell), len(columns)))

    return Readout(
        name="states of all genes", place=lambda card: Place(card.n_layers - 1, Stage.STATE), function=function,
        check=lambda _: None,
    )  # fmt: skip


def _tokens_of(batch: TokenBatch, columns: np.ndarray, n_genes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell, position and target of every token of a target."""
    number = np.full(n_genes + 1, -1, dtype=np.int64)  # the last entry stands for tokens of no gene
    number[columns] = np.arange(len(columns))
    target = number[batch.gene]
    cell, position = np.nonzero(target >= 0)
    return cell, position, target[cell, position]


def _mean_by_target(value: np.ndarray, cell: np.ndarray, target: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Average over the tokens of a gene in a cell, shape ``(cell, target, width)``."""
    total, count = np.zeros((*shape, value.shape[1])), np.zeros(shape)
    np.add.at(total, (cell, target), value)
    np.add.at(count, (cell, target), 1.0)
    with np.errstate(invalid="ignore"):
        return total / np.where(count > 0, count, np.nan)[:, :, None]


def cannot_run(adapter: object, rule: Rule) -> str:
    """Why this model cannot be run on changed cells, or an empty string."""
    if adapter is None:
        return "there is no model that could be run again: scores were given as a table"
    if not isinstance(adapter, AbstractAdapter):
        return "the model has no tokens of genes that could be changed"
    if "edits" not in inspect.signature(adapter.forward).parameters:
        return "the adapter's forward pass takes no edits, which an intervention needs"
    if rule == "family" and adapter.card.family not in RULES:
        return (
            f"for the family {adapter.card.family} there is no rule of what a gene that is not expressed looks like; "
            "set the parameter `rule` to value or remove"
        )
    return ""


def in_silico_effects(
    adapter: AbstractAdapter, cells: Cells, *, sources: Sequence[str], targets: Sequence[str], rule: Rule = "family",
    cells_per_source: int, min_cells: int, seed: int, rng: Callable[[str], np.random.Generator],
) -> dict[Change, InSilicoEffects]:  # fmt: skip
    """Run the model on cells with every source ablated, and with every source swapped with another gene.

    Parameters
    ----------
    sources, targets
        Approved symbols. A source that is no token of the model, or of too few cells, is in `InSilicoEffects.lost`.
    cells_per_source
        Cells per source, at most: the first in one random order of all cells that express it. In a cell that does not
        express the gene there is nothing to take away.
    min_cells
        A pair needs both genes among the tokens of so many of these cells, before and after the change.
    seed
        Root of the random choices of the model's own tokenisation, as in extraction.
    rng
        Generator of a named use: ``cells`` orders the cells, ``partner/<source>`` chooses the gene to swap with.

    Returns
    -------
    Effects by kind of change; ``swap`` is absent where the model's tokens have no swap (genes in several pieces).

    Raises
    ------
    ParameterError
        When the model cannot show a gene as not expressed by `rule`.
    """
    sources, targets = tuple(sources), tuple(targets)
    columns = cells.genes.index(targets)
    known = adapter.gene_tokens(cells.genes) >= 0
    readable = (columns >= 0) & known[columns]
    order = rng("cells").permutation(cells.n_cells)
    study = _Study(
        adapter=adapter, cells=cells, targets=targets, columns=columns[readable], readable=readable,
        has_head=_has_head(adapter), how=None if rule == "family" else rule, seed=seed,
    )  # fmt: skip
    wanted = cells.genes.index(sources)
    expressed = cells.log_normalised(np.maximum(wanted, 0)).tocsc()
    over = cells.log_normalised(study.columns).tocsc() > 0
    changes: tuple[Change, ...] = ("ablate", "swap")
    kept = {c: _Sums.empty(len(sources), len(targets)) for c in changes}
    lost, partners = {}, []
    with single_thread():
        for i, source in enumerate(sources):
            partners.append("")
            if wanted[i] < 0 or not known[wanted[i]]:
                lost[source] = "no token of the model"
                continue
            has = np.zeros(cells.n_cells, dtype=bool)
            has[expressed.indices[expressed.indptr[i] : expressed.indptr[i + 1]]] = True
            rows = order[has[order]][:cells_per_source]
            if len(rows) < min_cells:
                lost[source] = f"expressed in {len(rows)} of the cells that may be run; at least {min_cells} are needed"
                continue
            partner = _partner(source, targets, study, np.asarray(over[rows].mean(axis=0)).ravel(), rng)
            found = study.run(source, partner, rows)
            if not found:
                lost[source] = "no token in any of its cells"
            for change, (total, count, cells_run) in found.items():
                kept[change].put(i, total, count, cells_run)
            if "swap" in found:
                partners[-1] = partner
    out = {}
    for change in changes:
        if change == "swap" and not any(partners):
            continue
        out[change] = kept[change].effects(
            sources=sources, targets=targets, partner=tuple(partners) if change == "swap" else (), min_cells=min_cells,
            signed=study.has_head, readout=study.words, lost=lost,
        )  # fmt: skip
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Study:
    adapter: AbstractAdapter
    cells: Cells
    targets: tuple[str, ...]
    columns: np.ndarray
    readable: np.ndarray
    has_head: bool
    how: Literal["value", "remove"] | None
    seed: int

    @property
    def words(self) -> str:
        if self.has_head:
            return f"prediction of the model's head ({HEADS[self.adapter.card.family][1]})"
        return "length of the change of the gene's state after the last layer"

    def run(self, source: str, partner: str, rows: np.ndarray) -> dict[Change, tuple[np.ndarray, np.ndarray, int]]:
        """Sums of effects and counts of cells over all targets, by change, and cells in which the change was made."""
        genes = self.cells.genes
        read = (predictions if self.has_head else states)(self.columns, len(genes))
        changes: dict[Change, Intervention] = {"ablate": ablate_gene(source, genes=genes, how=self.how)}
        if partner:
            changes["swap"] = swap_gene_value(source, partner, genes=genes)
        (column,) = genes.index([source])
        out: dict[Change, tuple[np.ndarray, np.ndarray, int]] = {}
        for batch in self._batches(rows, int(column)):
            (plain,) = intervene(self.adapter).read(batch, read)
            floor = ROUNDING * np.abs(plain).max(axis=2)
            for change, made in list(changes.items()):
                try:
                    (changed,) = intervene(self.adapter, made).read(batch, read)
                except ParameterError:
                    if change == "ablate":
                        raise
                    del changes[change]  # tokens of this model have no swap; said by the missing entry
                    out.pop(change, None)
                    continue
                gap = changed - plain
                effect = gap[:, :, 0] if self.has_head else np.sqrt((gap**2).sum(axis=2))
                effect[np.abs(effect) <= floor] = 0.0
                there = np.isfinite(effect)
                before = out.get(change, (0.0, 0, 0))
                out[change] = (
                    before[0] + self._spread(np.where(there, effect, 0.0).sum(axis=0)),
                    before[1] + self._spread(there.sum(axis=0)),
                    before[2] + len(batch.cell),
                )
        for change, (_, count, _) in out.items():
            own = [source] if change == "ablate" else [source, partner]
            count[[self.targets.index(g) for g in own if g in self.targets]] = 0  # changed by hand, not by the model
        return out

    def _spread(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros(len(self.targets), dtype=values.dtype)
        out[self.readable] = values
        return out

    def _batches(self, rows: np.ndarray, column: int) -> list[TokenBatch]:
        """Tokens of the cells that have the source among them, and another gene besides."""
        loaded = self.cells.load(rows)
        known = self.adapter.gene_tokens(loaded.genes) >= 0
        (detected,) = loaded.genes_detected(known)
        longest = int(self.adapter.expected_tokens(loaded.genes, detected).max(initial=1))
        longest += len(self.adapter.card.special_tokens)
        step = max(1, BATCH_TOKENS // max(longest, 1))
        out = []
        for start in range(0, len(rows), step):
            batch = self.adapter.tokenize(loaded, np.arange(start, min(start + step, len(rows))), seed=self.seed)
            own = batch.gene == column
            keep = own.any(axis=1) & ((batch.gene >= 0) & ~own).any(axis=1)
            if keep.any():
                fields = {"tokens": batch.tokens, "gene": batch.gene, "mask": batch.mask, "cell": batch.cell}
                values = None if batch.values is None else batch.values[keep]
                out.append(replace(batch, **{k: v[keep] for k, v in fields.items()}, values=values))
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sums:
    total: np.ndarray
    count: np.ndarray
    cells_of: np.ndarray

    @classmethod
    def empty(cls, n_sources: int, n_targets: int) -> _Sums:
        shape = (n_sources, n_targets)
        return cls(total=np.zeros(shape), count=np.zeros(shape, np.int64), cells_of=np.zeros(n_sources, np.int64))

    def put(self, row: int, total: np.ndarray, count: np.ndarray, n: int) -> None:
        self.total[row], self.count[row], self.cells_of[row] = total, count, n

    def effects(self, *, min_cells: int, **known: object) -> InSilicoEffects:
        seen = self.count >= max(min_cells, 1)
        with np.errstate(invalid="ignore"):
            effect = self.total / np.where(seen, self.count, np.nan)
        return InSilicoEffects(effect=effect, n_cells=self.count, cells_of=self.cells_of, **known)  # type: ignore[arg-type]


def _has_head(adapter: AbstractAdapter) -> bool:
    family = adapter.card.family
    return family in HEADS and hasattr(adapter.module, HEADS[family][0])


def _partner(
    source: str, targets: tuple[str, ...], study: _Study, share: np.ndarray,
    rng: Callable[[str], np.random.Generator],
) -> str:  # fmt: skip
    """A gene at random among those that at least half of the source's cells express; else the most expressed one."""
    names = np.array(targets, dtype=object)[study.readable]
    other = names != source
    share = np.where(other, share, -1.0)
    if not other.any() or share.max() <= 0:
        return ""
    choice = np.flatnonzero(share >= min(0.5, share.max()))
    return str(names[rng(f"partner/{source}").choice(choice)])
