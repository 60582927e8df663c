"""Where does a model put each cell? Mean final state over the tokens of genes, made once and kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regulens.io.atomic import write_with
from regulens.models.base import AbstractAdapter
from regulens.provenance import digest_of
from regulens.types.cells import Cells

#: Tokens per forward pass, padding included.
BATCH_TOKENS = 8192
#: Raised whenever the numbers would change with the same inputs.
ALGORITHM = 1


def cell_embeddings(
    adapter: AbstractAdapter, cells: Cells, *, seed: int = 0, device: str = "cpu", out: Path | str | None = None
) -> np.ndarray:
    """Mean over gene tokens of the state after the last layer.

    Parameters
    ----------
    seed
        Root of the random choices of the model's own tokenisation, as in extraction.
    device
        ``"cpu"`` or ``"cuda"``; the model is moved back afterwards.
    out
        File that keeps the result; reused when it was made from the same model, cells, seed and device, otherwise
        made anew.

    Returns
    -------
    Float64, shape ``(cell, width)``; NaN for a cell without a token of a gene.
    """
    key = digest_of("cell embedding", ALGORITHM, adapter.card.sha256, adapter.card.spec, cells.digest, seed, device)
    path = None if out is None else Path(out)
    if path is not None and path.is_file() and (kept := _read(path, key)) is not None:
        return kept
    found = np.full((cells.n_cells, adapter.card.width), np.nan)
    if device != "cpu":
        adapter.module.to(device)
    try:
        for rows in _batches(adapter, cells):
            loaded = cells.load(rows)
            batch = adapter.tokenize(loaded, np.arange(loaded.n_cells), seed=seed)
            state = adapter.forward(batch)[-1].double().cpu().numpy()
            gene = (batch.gene >= 0)[:, :, None]
            count = gene.sum(axis=1)
            total = np.where(gene, state, 0.0).sum(axis=1)
            found[rows[batch.cell]] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    finally:
        if device != "cpu":
            adapter.module.to("cpu")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_with(path, lambda temporary: _write(temporary, found, key))
    return found


def _batches(adapter: AbstractAdapter, cells: Cells) -> list[np.ndarray]:
    """Rows of cells of similar length, at most `BATCH_TOKENS` tokens together; a longer cell runs alone."""
    known = adapter.gene_tokens(cells.genes) >= 0
    (detected,) = cells.genes_detected(known)
    length = np.minimum(detected, adapter.card.max_length) + len(adapter.card.special_tokens)
    if adapter.every_gene or adapter.fixed_length:
        length = np.full(cells.n_cells, adapter.card.max_length)
    order = np.argsort(length, kind="stable")
    order = order[detected[order] > 0]
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * length[order[end]] > BATCH_TOKENS:
            batches.append(order[start:end])
            start = end
    return batches


def _write(path: Path, values: np.ndarray, key: str) -> None:
    with path.open("wb") as file:
        np.savez(file, values=values, key=np.array(key))


def _read(path: Path, key: str) -> np.ndarray | None:
    """The kept embedding, or None when it is of other inputs or damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return np.array(kept["values"]) if str(kept["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError):
        return None
