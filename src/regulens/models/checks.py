"""Is a loaded model's attention what it claims to be, on these cells? One row per check.

The checks need no published numbers: they compare two routes to the same number, or test what must hold of any
softmax attention. A wrong head count, a transposed map, a leaking padding mask or stray randomness fails here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from regulens.errors import ParameterError
from regulens.models.base import AbstractAdapter, LayerAttention, TokenBatch
from regulens.types.cells import Cells

#: Largest difference between two float32 routes to one attention weight.
TOLERANCE = 1e-5
#: Largest difference of hidden states, which are of order one after LayerNorm, between two float32 routes.
HIDDEN_TOLERANCE = 1e-4
#: Special tokens that a model knows and that stand in no cell as it is read.
NEVER_IN_A_CELL = ("<pad>", "<mask>", "<eoc>")


def row_sum_error(weights: torch.Tensor, mask: np.ndarray) -> float:
    """Largest ``|Σ_key A[query, key] − 1|`` over real queries.

    Parameters
    ----------
    weights
        Shape ``(cell, head, query, key)``. A transposed map sums to 1 over queries instead and fails.
    mask
        Bool, shape ``(cell, position)``, True at real tokens.
    """
    error = (weights.double().sum(-1) - 1).abs().amax(dim=1).cpu().numpy()
    return float(error[mask].max(initial=0.0))


def masked_weight(weights: torch.Tensor, mask: np.ndarray) -> float:
    """Largest weight that a real query gives to a padded key; must be exactly zero."""
    padded = (mask[:, :, None] & ~mask[:, None, :])[:, None]
    return float(np.where(padded, weights.cpu().numpy(), 0).max(initial=0.0))


def _widen(batch: TokenBatch, by: int) -> TokenBatch:
    """The same batch with `by` more padded positions."""
    width = ((0, 0), (0, by))
    return TokenBatch(
        tokens=np.pad(batch.tokens, width),
        values=None if batch.values is None else np.pad(batch.values, width),
        gene=np.pad(batch.gene, width, constant_values=-1),
        mask=np.pad(batch.mask, width),
        cell=batch.cell,
    )


def verify(adapter: AbstractAdapter, cells: Cells, *, n_cells: int = 4, seed: int = 0) -> pd.DataFrame:
    """Check tokens and attention of a loaded model on the first cells.

    Parameters
    ----------
    adapter, cells
        What to check on what.
    n_cells
        Cells to run, at least 1; four are plenty.
    seed
        Root seed of the tokenisation.

    Returns
    -------
    Columns ``name``, ``passed``, ``value``, ``tolerance``; one row per check, attention checks per layer. A check
    passes when ``value <= tolerance``, except ``genes_known``, which needs at least one gene.
    """
    if n_cells < 1 or cells.n_cells < 1:
        message = f"Expected at least one cell to verify on, got n_cells = {n_cells} of {cells.n_cells}."
        raise ParameterError(message)
    rows = np.arange(min(n_cells, cells.n_cells))
    known = adapter.gene_tokens(cells.genes)
    batch = adapter.tokenize(cells, rows, seed=seed)
    again = adapter.tokenize(cells, rows, seed=seed)
    own = batch.gene >= 0
    wrong = np.count_nonzero(batch.tokens[own] != known[batch.gene[own]])
    n_special = int((batch.mask & ~own).sum())
    card = adapter.card
    expected_special = len(rows) * _without_gene(adapter, n_known=int((known >= 0).sum()))
    repeats = sum(len(g := row[row >= 0]) - len(np.unique(g)) for row in batch.gene)
    found: list[tuple[str, float, float]] = [
        ("tokens_match_genes", float(wrong), 0.0),
        ("tokens_repeat_no_gene", float(repeats), 0.0),
        ("special_tokens", float(abs(n_special - expected_special)), 0.0),
        ("tokens_deterministic", float(np.count_nonzero(batch.tokens != again.tokens)), 0.0),
    ]

    padded = _widen(batch, 3)
    fused, plain = [], []
    states = adapter.forward(padded, tap=fused.append)
    states_plain = adapter.forward(padded, tap=plain.append, kernel="plain")
    repeat = adapter.forward(padded)
    narrow = adapter.forward(batch)
    order = [a.layer for a in fused] == list(range(card.n_layers)) and len(states) == card.n_layers + 1
    shape = all(a.q.shape[1] == card.n_heads for a in fused)
    found.append(("layers_and_heads", float(not (order and shape)), 0.0))
    for a, b in zip(fused, plain):
        mask, weights = padded.mask, b.probabilities
        found.append((f"rows_sum_to_one/L{a.layer:02d}", row_sum_error(weights, mask), TOLERANCE))
        found.append((f"masked_keys_zero/L{a.layer:02d}", masked_weight(weights, mask), 0.0))
        found.append((f"fused_equals_plain/L{a.layer:02d}", _block_difference(a, weights, mask), TOLERANCE))
    real, inner = torch.as_tensor(padded.mask), torch.as_tensor(batch.mask)
    found += [
        ("hidden_fused_equals_plain", _difference(states[-1], states_plain[-1], real), HIDDEN_TOLERANCE),
        ("hidden_ignores_padding", _difference(states[-1][:, : inner.shape[1]], narrow[-1], inner), HIDDEN_TOLERANCE),
        ("hidden_deterministic", _difference(states[-1], repeat[-1], real), 0.0),
    ]
    table = pd.DataFrame(found, columns=["name", "value", "tolerance"])
    table.insert(1, "passed", table["value"] <= table["tolerance"])
    n_known = int((known >= 0).sum())
    table.loc[len(table)] = ["genes_known", n_known > 0, float(n_known), 1.0]
    return table


def _without_gene(adapter: AbstractAdapter, *, n_known: int) -> int:
    """Tokens of one cell that are no gene of the cells: special ones, and listed genes that the cells lack."""
    special = sum(t not in NEVER_IN_A_CELL for t in adapter.card.special_tokens)
    return special + (adapter.card.max_length - special - n_known if adapter.every_gene else 0)


def _difference(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> float:
    return float((a.cpu()[mask] - b.cpu()[mask]).abs().max())


def _block_difference(a: LayerAttention, weights: torch.Tensor, mask: np.ndarray) -> float:
    """Largest difference between ``exp(q·k·scale − lse)`` and an explicit map, over real queries and keys."""
    rebuilt = torch.exp(torch.matmul(a.q, a.k.transpose(-1, -2)) * a.scale - a.lse[..., None])
    both = torch.as_tensor(mask[:, None, :, None] & mask[:, None, None, :], device=weights.device)
    return float(torch.where(both, (rebuilt - weights).abs(), 0).max())
