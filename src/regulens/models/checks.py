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
from regulens.models.kernel import query_rows, softmax_rows
from regulens.types.cells import Cells

#: Largest difference between two float32 routes to one attention weight, where logits are below some 20.
TOLERANCE = 1e-5
#: Roundings, in units of float32's relative spacing of the largest logit, that two routes may differ by: a weight is
#: ``exp(logit - lse)``, so the error of a logit is the relative error of its weight, and grows with the logit.
ROUNDINGS = 4
#: Largest difference of hidden states, which are of order one after LayerNorm, between two float32 routes.
HIDDEN_TOLERANCE = 1e-4
#: Numbers in all heads' maps of a layer, 1 GB, above which they are not formed.
MAP_LIMIT = 250_000_000
#: Rows that are looked at instead.
N_ROWS = 16
#: Special tokens that a model knows and that stand in no cell as it is read.
NEVER_IN_A_CELL = ("<pad>", "<mask>", "<eoc>")


def weight_tolerance(layer: LayerAttention, mask: np.ndarray) -> float:
    """Difference that two float32 routes to a layer's weights may show, by the size of its logits at real tokens."""
    lse = layer.lse.movedim(1, -1)[torch.as_tensor(mask, device=layer.lse.device)]
    return max(TOLERANCE, ROUNDINGS * torch.finfo(torch.float32).eps * float(lse.abs().max()))


def row_sum_error(weights: torch.Tensor, mask: np.ndarray) -> float:
    """Largest ``|Σ_key A[query, key] − 1|`` over real queries.

    Parameters
    ----------
    weights
        Shape ``(cell, head, query, key)``. A transposed map sums to 1 over queries instead and fails.
    mask
        Bool, shape ``(cell, query)``, True at real tokens.
    """
    error = (weights.double().sum(-1) - 1).abs().amax(dim=1).cpu().numpy()
    return float(error[mask].max(initial=0.0))


def masked_weight(weights: torch.Tensor, mask: np.ndarray, *, queries: np.ndarray | slice = slice(None)) -> float:
    """Largest weight that a real query gives to a padded key; must be exactly zero.

    Parameters
    ----------
    weights
        Shape ``(cell, head, query, key)``.
    mask
        Bool, shape ``(cell, position)``.
    queries
        Positions of the rows of `weights`; all by default.
    """
    padded = (mask[:, queries, None] & ~mask[:, None, :])[:, None]
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
    too_large = adapter.every_gene and adapter.card.n_heads * adapter.card.max_length**2 > MAP_LIMIT
    rows = np.arange(min(1 if too_large else n_cells, cells.n_cells))
    cells = cells.load(rows)
    known = adapter.gene_tokens(cells.genes)
    batch = adapter.tokenize(cells, rows, seed=seed)
    again = adapter.tokenize(cells, rows, seed=seed)
    own = batch.gene >= 0
    before = np.pad(batch.gene, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    first = own & (batch.gene != before)  # a gene spelled in pieces is known by its first one
    wrong = np.count_nonzero(batch.tokens[first] != known[batch.gene[first]])
    n_special = int((batch.mask & ~own).sum())
    card = adapter.card
    expected_special = len(rows) * _without_gene(adapter, n_known=int((known >= 0).sum()))
    repeats = sum(len(g := row[row >= 0]) - len(np.unique(g)) for row in batch.gene)
    found: list[tuple[str, float, float]] = [
        ("tokens_match_genes", float(wrong), 0.0),
        ("tokens_deterministic", float(np.count_nonzero(batch.tokens != again.tokens)), 0.0),
    ]
    if adapter.one_token_per_gene:
        found += [
            ("tokens_repeat_no_gene", float(repeats), 0.0),
            ("special_tokens", float(abs(n_special - expected_special)), 0.0),
        ]

    padded = _widen(batch, 3)
    # All rows of the maps, or some of the one cell's where the maps would not fit.
    queries = np.arange(padded.mask.shape[1])
    if too_large:
        queries = np.linspace(0, batch.mask[0].sum() - 1, N_ROWS).astype(np.int64)
    positions, fused, plain, tolerances = torch.as_tensor(queries), [], [], []

    def keep(a: LayerAttention) -> None:
        fused.append((a.layer, query_rows(a, positions)))
        tolerances.append(weight_tolerance(a, padded.mask))

    states = adapter.forward(padded, tap=keep)
    states_plain = adapter.forward(
        padded,
        tap=lambda a: plain.append(softmax_rows(a, positions)),
        kernel="chunked" if too_large else "plain",
    )
    repeat = adapter.forward(padded)
    narrow = adapter.forward(batch)
    order = [layer for layer, _ in fused] == list(range(card.n_layers)) and len(states) == card.n_layers + 1
    shape = all(rebuilt.shape[1] == card.n_heads for _, rebuilt in fused)
    found.append(("layers_and_heads", float(not (order and shape)), 0.0))
    mask = padded.mask
    for (layer, rebuilt), weights, tolerance in zip(fused, plain, tolerances):
        real = mask[:, queries]
        found.append((f"rows_sum_to_one/L{layer:02d}", row_sum_error(weights, real), TOLERANCE))
        found.append((f"masked_keys_zero/L{layer:02d}", masked_weight(weights, mask, queries=queries), 0.0))
        found.append((f"fused_equals_plain/L{layer:02d}", _row_difference(rebuilt, weights, real), tolerance))
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


def _row_difference(rebuilt: torch.Tensor, weights: torch.Tensor, real: np.ndarray) -> float:
    """Largest difference between rows out of the log-sum-exp and an explicit softmax, over real queries."""
    error = (rebuilt - weights).abs().amax(dim=(1, 3)).cpu().numpy()
    return float(error[real].max(initial=0.0))
