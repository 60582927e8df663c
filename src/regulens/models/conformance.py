"""Does an adapter keep every promise of `AbstractAdapter`? A public suite for adapters of one's own.

It runs the checks of a loaded model (`regulens.models.checks.verify`) and adds what only the author of an adapter can
get wrong: the card, tokens that depend on neighbours in the batch, captured attention that is not the attention the
heads read, and edits that are ignored, applied at another layer, or not free when they change nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from regulens.errors import ParameterError
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, LayerAttention, TokenBatch
from regulens.models.checks import HIDDEN_TOLERANCE, verify, weight_tolerance
from regulens.models.kernel import query_rows
from regulens.types.cells import Cells

#: Checks that pass when their value is at least the tolerance; all others pass when it is at most that.
AT_LEAST = ("genes_known", "genes_reach_each_other", "head_edit_reaches_the_end", "mlp_edit_reaches_the_end")

#: Hidden states that differ by less than this were not reached by an edit.
_REACHED = 1e-9

_Found = list[tuple[str, float, float]]


def check_adapter(adapter: AbstractAdapter, cells: Cells, *, n_cells: int = 3, seed: int = 0) -> pd.DataFrame:
    """Run every check on the first cells.

    Parameters
    ----------
    adapter
        A loaded model.
    cells
        Cells that express genes the model knows, at least two.
    n_cells
        Cells to run, at least 2; three that express different numbers of genes are plenty.
    seed
        Root seed of the tokenisation.

    Returns
    -------
    Columns ``name``, ``passed``, ``value``, ``tolerance``, one row per check, layers as ``/L00``. A check passes when
    ``value <= tolerance``; those in `AT_LEAST` when ``value >= tolerance``.

    Raises
    ------
    ParameterError
        When `adapter` is no `AbstractAdapter`, or there are fewer than two cells.
    """
    if not isinstance(adapter, AbstractAdapter):
        message = f"Expected an adapter (a subclass of regulens.models.AbstractAdapter), got {type(adapter).__name__}."
        raise ParameterError(f"{message} Hand over an instance with its weights loaded.")
    if min(n_cells, cells.n_cells) < 2:
        message = f"Expected at least two cells to check on, got n_cells = {n_cells} of {cells.n_cells}."
        raise ParameterError(f"{message} Batches of one hide errors of padding.")
    rows = np.arange(min(n_cells, cells.n_cells))
    cells = cells.load(rows)
    table = verify(adapter, cells, n_cells=n_cells, seed=seed)
    found: _Found = []
    if bool(table.set_index("name").loc["genes_known", "passed"]):
        batch = adapter.tokenize(cells, rows, seed=seed)
        found += _card(adapter, cells, batch)
        found += _tokens(adapter, cells, batch, seed=seed)
        found += _passes(adapter, batch)
        found += _edits(adapter, batch)
    if not found:
        return table
    more = pd.DataFrame(found, columns=["name", "value", "tolerance"])
    kind = more["name"].str.partition("/")[0]
    passed = np.where(kind.isin(AT_LEAST), more["value"] >= more["tolerance"], more["value"] <= more["tolerance"])
    more.insert(1, "passed", passed)
    return pd.concat([table, more], ignore_index=True)


def _card(adapter: AbstractAdapter, cells: Cells, batch: TokenBatch) -> _Found:
    """What the card says against what the model does."""
    card, known = adapter.card, adapter.gene_tokens(cells.genes)
    own_ids = np.unique(known[known >= 0])
    names, embeddings = adapter.gene_embeddings()
    states = adapter.forward(batch)
    parameters = sum(p.numel() for p in adapter.module.parameters())
    texts = (card.name, card.family, card.spec, card.sha256, card.namespace, card.tokenisation, card.normalisation)
    sizes = (card.n_layers, card.n_heads, card.width, card.vocabulary_size, card.max_length)
    wrong = {
        "card_is_filled_in": sum(not t for t in texts) + sum(s < 1 for s in sizes),
        "card_width": sum(tuple(s.shape) != (*batch.mask.shape, card.width) for s in states),
        "card_vocabulary": max(0, len(own_ids) - card.vocabulary_size),
        "card_max_length": max(0, int(batch.mask.sum(1).max()) - card.max_length),
        "card_parameters": abs(parameters - card.n_parameters),
        "gene_tokens_are_ids": int(known.dtype != np.int64 or known.shape != (len(cells.genes),) or known.min() < -1),
        "tokens_are_ids": int((batch.tokens < 0).sum()),
        "gene_embeddings_fit": int(
            (embeddings.ndim != 2) + (len(names) != len(embeddings)) + (len(set(names)) != len(names))
            + (not np.isfinite(embeddings).all())
        ),
        "no_gradients": sum(s.requires_grad for s in states),
        "evaluation_mode": sum(m.training for m in adapter.module.modules()),
    }  # fmt: skip
    return [(name, float(value), 0.0) for name, value in wrong.items()]


def _tokens(adapter: AbstractAdapter, cells: Cells, batch: TokenBatch, *, seed: int) -> _Found:
    """A cell's tokens and states, alone and in a batch in another order."""
    differ, apart = 0.0, 0.0
    together = adapter.forward(batch)[-1]
    turned = adapter.tokenize(cells, batch.cell[::-1].copy(), seed=seed)
    for i, row in enumerate(batch.cell):
        alone = adapter.tokenize(cells, np.array([row]), seed=seed)
        length = int(batch.mask[i].sum())
        for other, j in ((alone, 0), (turned, len(batch.cell) - 1 - i)):
            same = int(other.mask[j].sum()) == length and int(other.cell[j]) == int(row)
            for a, b in ((batch.tokens, other.tokens), (batch.gene, other.gene), (batch.values, other.values)):
                if same and a is not None and b is not None:
                    same = bool((a[i, :length] == b[j, :length]).all())
            differ += not same
        if int(alone.mask[0].sum()) == length:
            own = adapter.forward(alone)[-1][0, :length].cpu()
            apart = max(apart, float((own - together[i, :length].cpu()).abs().max()))
    return [("tokens_ignore_the_batch", differ, 0.0), ("hidden_ignores_the_batch", apart, HIDDEN_TOLERANCE)]


def _passes(adapter: AbstractAdapter, batch: TokenBatch) -> _Found:
    """Whether the tap is free, shows what the heads read, and genes reach each other at all."""
    seen: list[LayerAttention] = []
    read: list[tuple[LayerAttention, torch.Tensor]] = []

    def keep(layer: LayerAttention, out: torch.Tensor) -> torch.Tensor:
        read.append((layer, out.clone()))
        return out

    plain = adapter.forward(batch)
    found = [
        ("tap_changes_nothing", _bits(plain, adapter.forward(batch, tap=seen.append)), 0.0),
        ("no_edits_change_nothing", _bits(plain, adapter.forward(batch, edits=NO_EDITS)), 0.0),
    ]
    same = Edits(embedding=lambda x: x, head_output=keep, mlp_output=lambda _, y: y)
    found.append(("identity_edits_change_nothing", _bits(plain, adapter.forward(batch, edits=same)), 0.0))
    order = [layer.layer for layer, _ in read] == list(range(adapter.card.n_layers))
    found.append(("head_edits_in_order_of_layers", float(not order), 0.0))
    real = torch.as_tensor(batch.mask)
    for a, (_, out) in zip(seen, read):
        rows = query_rows(a, torch.arange(a.q.shape[2]))
        gap = (rows.to(a.v.dtype) @ a.v - out).abs().amax(dim=(1, 3)).cpu()[real]
        allowed = 10 * weight_tolerance(a, batch.mask)
        found.append((f"heads_read_the_captured_map/L{a.layer:02d}", float(gap.max()), allowed))
    # The last token is in reach of nothing but itself when a model is causal; so the first gene is what is moved.
    column = int(np.argmax((batch.gene >= 0)[0]))
    shift = _at(column, lambda x: x + x.abs().mean() + 1)
    moved = adapter.forward(batch, edits=Edits(embedding=shift))[-1]
    other = real.clone()
    other[:, column] = False
    reach = (moved.cpu() - plain[-1].cpu()).abs()[0][other[0]]
    found.append(("genes_reach_each_other", float(reach.max()) if len(reach) else 0.0, _REACHED))
    return found


def _at(column: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    def edit(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, column] = change(x[:, column])
        return y

    return edit


def _edits(adapter: AbstractAdapter, batch: TokenBatch) -> _Found:
    """One head zeroed, one feed-forward output zeroed, per layer: it reaches the end and touches nothing earlier."""
    plain = adapter.forward(batch)
    real = torch.as_tensor(batch.mask)
    found: _Found = []
    for at in range(adapter.card.n_layers):

        def head(layer: LayerAttention, out: torch.Tensor, at: int = at) -> torch.Tensor:
            if layer.layer != at:
                return out
            out = out.clone()
            out[:, 0] = 0
            return out

        def mlp(layer: int, y: torch.Tensor, at: int = at) -> torch.Tensor:
            return torch.zeros_like(y) if layer == at else y

        for what, edits in (("head", Edits(head_output=head)), ("mlp", Edits(mlp_output=mlp))):
            states = adapter.forward(batch, edits=edits)
            reach = float((states[-1].cpu() - plain[-1].cpu()).abs()[real].max())
            found.append((f"{what}_edit_reaches_the_end/L{at:02d}", reach, _REACHED))
            found.append(
                (f"{what}_edit_leaves_earlier_layers/L{at:02d}", _bits(plain[: at + 1], states[: at + 1]), 0.0)
            )
    return found


def _bits(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Number of values that are not the same bits, over all hidden states."""
    if len(a) != len(b):
        return float("inf")
    return float(sum(int((x != y).sum()) for x, y in zip(a, b)))
