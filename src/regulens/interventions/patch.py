"""What happens when a component puts out what it put out in another run? Activation patching.

Patching every component of a run with the values of a clean run gives back the clean run, since the state entering
the first layer is among them. How far a few components get tells what they carry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from regulens.errors import ParameterError
from regulens.interventions.intervention import Intervention
from regulens.interventions.places import EMBEDDING, Component, as_components
from regulens.interventions.recording import Recording
from regulens.models.base import Edits, LayerAttention, TokenBatch
from regulens.provenance import digest_array, digest_of

if TYPE_CHECKING:
    import torch


def patch(
    components: Component | Iterable[Component],
    source: Recording,
    *,
    positions: Iterable[int] | np.ndarray | None = None,
) -> Intervention:
    """Let components put out what they put out in another run.

    Parameters
    ----------
    components
        One or several; `head`, `mlp`, `EMBEDDING`, `all_components`. Each must be in the recording.
    source
        Another run of the same model, with as many cells and as many tokens in each of them. Position ``i`` gets the
        value of position ``i``; how wide either run was padded does not matter, and padding is not patched.
    positions
        Numbers of positions, the same in all cells; or bool, shape ``(cell, position)``, such as `gene_positions`
        makes; by default all real tokens.

    Raises
    ------
    ParameterError
        At once when a component was not recorded; when run, if the numbers of cells or tokens differ or positions do
        not fit the batch.
    """
    chosen = tuple(sorted(set(as_components(components))))
    for component in chosen:
        source[component]
    where = None if positions is None else np.asarray(positions if isinstance(positions, np.ndarray) else [*positions])
    by_layer: dict[int, list[Component]] = {}
    for component in chosen:
        if component.kind == "head":
            by_layer.setdefault(component.layer, []).append(component)
    mlps = {c.layer: c for c in chosen if c.kind == "mlp"}

    def bind(batch: TokenBatch) -> Edits:
        _check_alike(source.batch, batch)
        touched = _mask(batch, where)
        # Both are padded on the right, so that all real tokens lie within the narrower one.
        width = min(touched.shape[1], source.batch.mask.shape[1])
        cell, position = np.nonzero(touched[:, :width])

        def put(out: torch.Tensor, component: Component) -> torch.Tensor:
            """Copy of ``(cell, position, …)`` with the recorded values at the touched positions."""
            at = (_index(out, cell), _index(out, position))
            out = out.clone()
            out[at] = source[component].to(device=out.device, dtype=out.dtype)[at]
            return out

        def head_output(layer: LayerAttention, out: torch.Tensor) -> torch.Tensor:
            here = by_layer.get(layer.layer)
            if here is None:
                return out
            out = out.clone()
            for component in here:
                out[:, component.head] = put(out[:, component.head], component)
            return out

        return Edits(
            embedding=(lambda x: put(x, EMBEDDING)) if EMBEDDING in chosen else None,
            head_output=head_output if by_layer else None,
            mlp_output=(lambda layer, x: put(x, mlps[layer]) if layer in mlps else x) if mlps else None,
        )

    def values() -> str:
        where_digest = "all" if where is None else digest_array(where)
        parts = [digest_array(source[c].float().cpu().numpy()) for c in chosen]
        return digest_of(parts, digest_array(source.batch.mask), where_digest)

    words = "+".join(str(c) for c in chosen) if len(chosen) <= 4 else f"{len(chosen)} components"
    return Intervention(
        name=f"patch {words or 'nothing'}",
        components=chosen,
        bind=bind if chosen else None,
        model=source.model if chosen else "",
        values=values if chosen else None,
    )


def gene_positions(batch: TokenBatch, columns: Iterable[int]) -> np.ndarray:
    """Positions of genes: bool, shape ``(cell, position)``, from their columns in the cells.

    Examples
    --------
    >>> batch = TokenBatch(tokens=np.array([[9, 4, 5]]), values=None, gene=np.array([[-1, 7, 3]]),
    ...                    mask=np.ones((1, 3), dtype=bool), cell=np.array([0]))
    >>> gene_positions(batch, [3]).tolist()
    [[False, False, True]]
    """
    return np.isin(batch.gene, [c for c in columns if c >= 0]) & batch.mask


def _check_alike(source: TokenBatch, batch: TokenBatch) -> None:
    here, there = batch.mask.sum(1), source.mask.sum(1)
    if len(here) != len(there):
        message = (
            f"Expected a recording of as many cells as the batch has ({len(here)}), got one of {len(there)}. "
            "Record the same cells."
        )
        raise ParameterError(message)
    if (here != there).any():
        cell = int(np.flatnonzero(here != there)[0])
        message = (
            f"Expected a recording with as many tokens per cell as the batch, got {there[cell]} instead of "
            f"{here[cell]} in cell {cell} of the batch. Patching goes by position; compare runs in which values or "
            "identities of genes differ, not their number."
        )
        raise ParameterError(message)


def _mask(batch: TokenBatch, where: np.ndarray | None) -> np.ndarray:
    """Touched positions, bool, shape ``(cell, position)``; never at padding."""
    if where is None:
        return batch.mask
    shape = batch.mask.shape
    if where.dtype == bool:
        if where.shape != shape:
            message = (
                f"Expected positions as bool of the batch's shape (cell, position) = {shape}, got {where.shape}. "
                "Make them with gene_positions from the batch that is run."
            )
            raise ParameterError(message)
        return where & batch.mask
    if where.size and (where.dtype.kind not in "iu" or where.min() < 0 or where.max() >= shape[1]):
        message = (
            f"Expected positions in 0 … {shape[1] - 1}, got {where.tolist()[:5]}. Positions count from 0 and include "
            "special tokens."
        )
        raise ParameterError(message)
    out = np.zeros(shape, dtype=bool)
    out[:, where.astype(np.int64)] = True
    return out & batch.mask


def _index(like: torch.Tensor, index: np.ndarray) -> torch.Tensor:
    import torch

    return torch.as_tensor(index, dtype=torch.int64, device=like.device)
