"""What changes when a model runs in half precision, and by how much? Cast, run, restore, measure.

In ``bfloat16`` or ``float16`` the model's matrices are kept, and its matrix products done, in half precision, as many
of these models are run upstream. Norms, biases, the row log-sum-exp, the blocks and all sums stay in float32 or
float64. Because the rounding goes through every layer, half precision is never chosen by itself, and never without a
measurement: some of the cells are run both ways and the difference is recorded with the store.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from regulens.attention.accumulate import clear_own
from regulens.attention.layout import Unit
from regulens.attention.unit import PRECISIONS, Job, run_unit
from regulens.errors import ParameterError, nearest
from regulens.models.base import AbstractAdapter
from regulens.parallel import single_thread

#: Cells that are run in both precisions.
COMPARED_CELLS = 4


def check_precision(precision: str, device: str) -> None:
    """Refuse a precision that is unknown, or that this torch cannot multiply in on this device.

    Raises
    ------
    ParameterError
        In either case.
    """
    if precision not in PRECISIONS:
        message = f"Expected a precision among {', '.join(PRECISIONS)}, got {precision!r}."
        raise ParameterError(f"{message} float32 is exact.{nearest(precision, list(PRECISIONS))}")
    dtype = PRECISIONS[precision]
    if dtype is None:
        return
    one = torch.ones(1, 1, 2, 2, dtype=dtype, device=device)
    try:
        torch.nn.functional.linear(one, one[0, 0])
        torch.nn.functional.layer_norm(one, (2,), one.float()[0, 0, 0], one.float()[0, 0, 0])
    except RuntimeError as problem:
        message = f"Expected a device that computes in {precision}, got '{device}', where torch does not ({problem})."
        raise ParameterError(f"{message} Use float32, or another device.") from problem


@contextlib.contextmanager
def cast_weights(adapter: AbstractAdapter, precision: str) -> Iterator[None]:
    """Have the matrices of a model in another precision for a while; the original tensors come back afterwards."""
    dtype = PRECISIONS[precision]
    if dtype is None:
        yield
        return
    kept = [(p, p.data) for p in adapter.module.parameters() if p.ndim >= 2 and p.dtype == torch.float32]
    try:
        for parameter, data in kept:
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionDifference:
    """Blocks of some cells in half precision beside the same in float32.

    Parameters
    ----------
    n_cells, n_values
        Cells compared; values compared: pairs that met, in all layers, heads and directions.
    max_abs, median_abs
        Of ``|half − full|``, on the scale of the recipe (shares in [0, 1] for ``probability``).
    max_relative, median_relative
        Of ``|half − full| / |full|`` where the full value is not zero.
    spearman_min, spearman_median
        Rank correlation of the edges of one layer, head and direction. NaN where no such set of edges varies.

    Maxima and minima go over everything; medians are taken over the edges of one layer, head and direction first, and
    then over these sets, so that no more than one group of layers has to be held.
    """

    n_cells: int
    n_values: int
    max_abs: float
    median_abs: float
    max_relative: float
    median_relative: float
    spearman_min: float
    spearman_median: float

    def facts(self) -> dict[str, Any]:
        """What the store records, under names that begin with ``precision_``; undefined correlations are left out."""
        found = {f"precision_{k}": v for k, v in dataclasses.asdict(self).items()}
        return {k: v for k, v in found.items() if v == v}


def measured(job: Job, rows: np.ndarray, precision: str, *, layers: tuple[tuple[int, int], ...]) -> PrecisionDifference:
    """Run cells in float32 and in half precision and compare their blocks.

    Parameters
    ----------
    job
        With one recipe; the model has its own weights (see `cast_weights`) and lies on the device already.
    rows
        Rows of the cells, each run alone.
    layers
        Groups of layers that fit into memory at once.

    Raises
    ------
    ParameterError
        When half precision overflows, so that a block holds a value that is no number.
    """
    unit = Unit(partition=0, index=0, batches=tuple((int(row),) for row in rows))
    sets, n_values = [], 0
    for span in layers:
        part = dataclasses.replace(job, layers=span, precision="float32")
        with single_thread():
            (full,) = run_unit(part, unit)
            with cast_weights(job.adapter, precision):
                (half,) = run_unit(dataclasses.replace(part, precision=precision), unit)
        for found in (full, half):
            clear_own(found.sums, found.counts, job.axes)
        met = full.counts > 0
        n_values += int(met.sum()) * int(np.prod(full.sums.shape[:3]))
        for at in np.ndindex(full.sums.shape[:3]):
            sets.append(gaps(full.sums[at][met] / full.counts[met], half.sums[at][met] / full.counts[met]))
    table = np.array(sets)
    rho = table[~np.isnan(table[:, 4]), 4]
    return PrecisionDifference(
        n_cells=len(rows),
        n_values=n_values,
        max_abs=float(table[:, 0].max()),
        median_abs=float(np.median(table[:, 1])),
        max_relative=float(table[:, 2].max()),
        median_relative=float(np.median(table[:, 3])),
        spearman_min=float(rho.min(initial=np.inf)) if rho.size else float("nan"),
        spearman_median=float(np.median(rho)) if rho.size else float("nan"),
    )


def gaps(full: np.ndarray, half: np.ndarray) -> tuple[float, float, float, float, float]:
    """Largest and median absolute and relative difference, and rank correlation, of two readings of the same edges.

    Examples
    --------
    >>> gaps(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    (1.0, 0.0, 0.25, 0.0, 1.0)
    """
    if not full.size:
        return 0.0, 0.0, 0.0, 0.0, float("nan")
    gap = np.abs(half - full)
    some = full != 0
    relative = gap[some] / np.abs(full[some])
    typical = float(np.median(relative)) if relative.size else 0.0
    return float(gap.max()), float(np.median(gap)), float(relative.max(initial=0.0)), typical, _spearman(full, half)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, ties averaged; NaN where one side does not vary."""
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return round(float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]), 12)


def cells_to_compare(lengths: np.ndarray, chosen: np.ndarray, n: int = COMPARED_CELLS) -> np.ndarray:
    """Rows of at most `n` of the chosen cells, spread evenly from the fewest to the most tokens."""
    ranked = chosen[np.lexsort((chosen, lengths[chosen]))]
    return ranked[np.unique(np.linspace(0, len(ranked) - 1, n).round().astype(int))]
