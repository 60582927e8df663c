"""Which layer predicts responses best, without paying for having looked? Choose on some pairs, evaluate on others.

As `regulens.analyses.nested`: perturbations are halved *and* genes are halved. A layer is chosen on one half of the
perturbations with one half of the genes and evaluated on the opposite block. Halving perturbations alone is not enough:
a gene that responds to everything would help a layer that attends to it to be chosen, and then to be praised.

Both blocks of a pair choose and are evaluated. When they happen to choose the same layer, each is evaluated where it
was chosen for being high: the mean is right, but its distribution has a longer right tail than t (measured: 8 %
rejections at 5 %). The p and the interval are therefore those of the whole procedure, choice and all, on block AUROCs
drawn with their own covariance around equal layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.analyses.inference import Effect, effects_of
from regulens.analyses.nested import balanced_halves
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.stats.by_row import Rows, Sweep, mean_deviations_over_rows, sweep
from regulens.stats.jackknife import Deviations
from regulens.types.estimates import Estimate, Undefined
from regulens.types.ledger import TestRecord

#: Perturbations with responders and others that every block needs.
MIN_BLOCK_PERTURBATIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedLayer:
    """A layer chosen on held-apart perturbations and genes.

    Parameters
    ----------
    effect
        Mean over the blocks of the mean AUROC over perturbations, minus 0.5; None where `reason` says why.
    null
        Studentised effects of the whole procedure where all layers are at 0.5, shape ``(draw,)``, sorted.
    chosen, block_auroc
        Layer chosen for each block, and its mean AUROC there.
    """

    effect: Effect | None = None
    null: np.ndarray | None = None
    chosen: tuple[str, ...] = ()
    block_auroc: tuple[float, ...] = ()
    reason: str = ""

    def p_greater(self) -> float:
        """One-sided p of "the layer that other pairs choose is above 0.5"; NaN where undefined."""
        if self.effect is None or self.null is None or self.effect.undefined:
            return float("nan")
        reached = np.count_nonzero(self.null >= self.effect.value / self.effect.se)
        return float((1 + reached) / (1 + len(self.null)))

    def bounds(self, level: float) -> tuple[float, float]:
        """Interval of the effect, from the tails of the drawn null."""
        assert self.effect is not None and self.null is not None
        low, high = np.quantile(self.null, [(1 - level) / 2, (1 + level) / 2])
        return self.effect.value - float(high) * self.effect.se, self.effect.value - float(low) * self.effect.se

    def record(self, test: str, *, level: float, n_units: int, stream: str) -> TestRecord:
        """Record of the test, or why there is none."""
        why = self.reason or ("" if self.effect is None else self.effect.undefined)
        if why or self.effect is None:
            return TestRecord(id=test, undefined=why, n_units=n_units)
        return self.effect.record(
            test, side="greater", level=level, p_raw=self.p_greater(), bounds=self.bounds(level), stream=stream
        )

    def estimate(self, *, level: float) -> Estimate | Undefined:
        """The mean AUROC with its interval."""
        why = self.reason or ("" if self.effect is None else self.effect.undefined)
        if why or self.effect is None:
            return Undefined(reason=why)
        (low, high), value = self.bounds(level), self.effect.value
        return Estimate(
            value=value + 0.5, low=min(low, value) + 0.5, high=max(high, value) + 0.5, level=level,
            method=f"{self.effect.method.removesuffix(', t interval')}, tails of the drawn choice",
            n_units=self.effect.n_units, unit=self.effect.unit, se=self.effect.se,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """All layers on one block: mean AUROCs, deviations by group of perturbations and by target, influences."""

    area: np.ndarray
    by_group: np.ndarray
    groups: np.ndarray
    by_target: np.ndarray
    targets: np.ndarray
    psi: np.ndarray


def _swept(scores: np.ndarray, label: np.ndarray, row: np.ndarray, target: np.ndarray, group: np.ndarray) -> _Block:
    rows = Rows.build(label, row, target)
    found: list[Sweep] = [sweep(s, rows) for s in scores]
    own = group[np.unique(row)]
    mean, moved, _ = mean_deviations_over_rows(np.stack([w.area for w in found]), cluster=own)
    return _Block(
        area=mean, by_group=moved, groups=np.unique(own), by_target=np.stack([w.moved for w in found]),
        targets=np.unique(target), psi=np.stack([w.psi for w in found]),
    )  # fmt: skip


def nested_over_perturbations(
    per: PerPerturbation, candidates: tuple[str, ...] | list[str], rng: np.random.Generator, *, draws: int = 2000
) -> NestedLayer:
    """Choose the candidate of largest mean AUROC in one block, evaluate it in the opposite one, all four ways.

    Parameters
    ----------
    candidates
        Names of scores of `per`.
    rng
        Named stream for the halves, and then for the null.
    draws
        Of the null.

    Returns
    -------
    Mean over the blocks, weighted by their perturbations, of the mean AUROC over perturbations, minus 0.5; the error is
    the delete-one jackknife over perturbations (or their clusters) and genes with choices held. Without effect where a
    block has fewer than two perturbations.
    """
    if not candidates:
        return NestedLayer(reason="there is no layer to choose from")
    if per.refusal:
        return NestedLayer(reason=per.refusal)
    edges, row = per.edges, per.rows.row()
    scores = edges.scores[[edges.names.index(c) for c in candidates]]
    groups, group = np.unique(np.arange(per.n) if per.cluster is None else per.cluster, return_inverse=True)
    by_group = balanced_halves(np.bincount(group, weights=per.n_pos, minlength=len(groups)), rng)
    n_targets = int(edges.target.max()) + 1
    by_target = balanced_halves(np.bincount(edges.target[edges.label], minlength=n_targets), rng)
    block = 2 * by_group[group[row]] + by_target[edges.target]  # opposite block: 3 - block
    members = []
    for b in range(4):
        inside = np.flatnonzero(block == b)
        label, of = edges.label[inside], row[inside]
        pos = np.bincount(of, weights=label, minlength=per.n)
        both = (pos > 0) & (np.bincount(of, minlength=per.n) > pos)
        members.append(inside[both[of]])
    size = np.array([len(np.unique(row[m])) for m in members])
    if size.min() < MIN_BLOCK_PERTURBATIONS:
        reason = f"a block of held-apart perturbations and genes has {size.min()} perturbations with responders and "
        return NestedLayer(reason=f"{reason}others; at least {MIN_BLOCK_PERTURBATIONS} are needed")
    weight = size / size.sum()
    found = [_swept(scores[:, m], edges.label[m], row[m], edges.target[m], group) for m in members]
    n = len(candidates)
    moved_group, moved_target = np.zeros((4 * n, len(groups))), np.zeros((4 * n, n_targets))
    edge = np.zeros((4 * n, 4 * n))
    for b, f in enumerate(found):
        part = slice(b * n, (b + 1) * n)
        moved_group[part, f.groups], moved_target[part, f.targets] = f.by_group, f.by_target
        edge[part, part] = f.psi @ f.psi.T
    choice = np.array([int(np.argmax(found[3 - b].area)) for b in range(4)])
    at = choice + n * np.arange(4)
    area = np.concatenate([f.area for f in found])
    everything = np.concatenate(members)
    effect = effects_of(
        per.inference_of(
            Deviations(
                estimate=np.array([weight @ area[at]]),
                regulator=(weight @ moved_group[at])[None, np.unique(group[row[everything]])],
                target=(weight @ moved_target[at])[None, np.unique(edges.target[everything])],
                edge_variance=np.array([weight**2 @ edge[at, at]]),
            )
        ),
        null_value=0.5,
    )[0]
    null = None
    if not effect.undefined:
        total = moved_group @ moved_group.T + moved_target @ moved_target.T - edge
        null = _null((total + total.T) / 2, weight, effect.df, draws=draws, rng=rng)
    return NestedLayer(
        effect=effect, null=null, chosen=tuple(candidates[c] for c in choice),
        block_auroc=tuple(float(a) for a in area[at]),
    )  # fmt: skip


def _null(covariance: np.ndarray, weight: np.ndarray, df: float, *, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Studentised effects after the choice where all layers are equal, with the blocks' own errors; sorted."""
    n = len(covariance) // 4
    value, vector = np.linalg.eigh(covariance)  # an unlucky subtraction makes negative eigenvalues
    root = vector * np.sqrt(np.maximum(value, 0.0))
    sound = root @ root.T
    areas = rng.standard_normal((draws, 4 * n)) @ root.T
    choice = areas.reshape(draws, 4, n)[:, ::-1].argmax(axis=2)  # block b is evaluated with the choice of block 3 - b
    at = choice + n * np.arange(4)
    effect = np.take_along_axis(areas, at, axis=1) @ weight
    spread = np.einsum("db,dbc,dc->d", np.broadcast_to(weight, at.shape), sound[at[:, :, None], at[:, None, :]],
                       np.broadcast_to(weight, at.shape))  # fmt: skip
    t = effect / np.sqrt(np.maximum(spread, 1e-300)) / np.sqrt(rng.chisquare(df, draws) / df)
    return np.sort(t)
