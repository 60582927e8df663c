"""What would the model see if a gene were not expressed, or two genes had each other's value? Changes of the input.

What "not expressed" means depends on how a family tells the model about expression:

============  =========================================================================================
family        rule of `ablate_gene`
============  =========================================================================================
scGPT         ``value``: the token stays and its binned value becomes 0, the bin of zero counts
Geneformer    ``remove``: the token goes and every later gene moves up one rank, as in a cell without it
scFoundation  ``remove``: genes that are not expressed have no token
AIDO.Cell     ``value``: every gene has a token in every cell, with 0 where it is not expressed
others        either, when asked for by name: `how` has no default there
============  =========================================================================================

`swap_gene_value` exchanges the identities of two tokens: each gene gets the other's value (scGPT) or rank
(Geneformer). Where only one of the two is expressed the other takes its place, which is the same exchange with a zero.
Cells with neither stay as they are. Nothing is binned, sampled, ranked or normalised anew, and tokens of sequencing
depth stay.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from regulens.errors import ParameterError, nearest
from regulens.interventions.intervention import Intervention
from regulens.models.base import AbstractAdapter, TokenBatch
from regulens.types.genes import GeneVocabulary

#: What a cell without the gene looks like to a family, where that is not open to choice.
RULES: dict[str, Literal["value", "remove"]] = {
    "scgpt": "value",
    "geneformer": "remove",
    "scfoundation": "remove",
    "aido_cell": "value",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditedBatch(TokenBatch):
    """Tokens after changes of the input, which remembers the changes so that they are not made twice.

    Parameters
    ----------
    by
        The interventions whose token changes were made, in order.
    """

    by: tuple[Intervention, ...]


def column_of(symbol: str, genes: GeneVocabulary, adapter: AbstractAdapter | None = None) -> int:
    """Column of a gene; a gene that the cells, or the model, do not know is a `ParameterError`."""
    (column,) = genes.index([symbol])
    if column < 0:
        message = f"Expected a gene of the cells ({len(genes):,} symbols), got '{symbol}'."
        raise ParameterError(f"{message}{nearest(symbol, genes.symbols)} Give its approved symbol.")
    if adapter is not None and adapter.gene_tokens(genes)[column] < 0:
        message = (
            f"Expected a gene that {adapter.card.name} knows, got '{symbol}', which has no token of its own there. "
            "Choose among the genes that adapter.gene_tokens gives a token."
        )
        raise ParameterError(message)
    return int(column)


def ablate_gene(symbol: str, *, genes: GeneVocabulary, how: Literal["value", "remove"] | None = None) -> Intervention:
    """Show the model cells in which a gene is not expressed.

    Parameters
    ----------
    symbol
        Approved symbol.
    genes
        Vocabulary of the cells that the batch was made from (``cells.genes``).
    how
        ``"value"`` or ``"remove"``, see the head of this file; by default the rule of the family.

    Raises
    ------
    ParameterError
        At once when the cells do not have the gene; when applied, if the model does not know it, the family has no
        rule and none was given, ``"value"`` is asked of a family without values, or a cell would be left empty.
    """
    column_of(symbol, genes)
    if how not in (None, "value", "remove"):
        message = f"Expected how to be 'value' or 'remove', got {how!r}."
        raise ParameterError(message)

    def edit(adapter: AbstractAdapter, batch: TokenBatch) -> TokenBatch:
        rule = how or RULES.get(adapter.card.family)
        if rule is None:
            message = (
                f"Expected a rule for ablating a gene in the family {adapter.card.family}, got none: there are "
                f"rules for {', '.join(RULES)}. Say how='value' or how='remove'."
            )
            raise ParameterError(message)
        there = batch.gene == column_of(symbol, genes, adapter)
        return _with_value(batch, there, 0.0, adapter) if rule == "value" else _removed(batch, there, symbol)

    return Intervention(name=f"ablate {symbol}" + (f" ({how})" if how else ""), tokens=edit)


def set_gene_value(symbol: str, value: float, *, genes: GeneVocabulary) -> Intervention:
    """Show the model a given value of a gene where it is among the tokens; for families with values only.

    Parameters
    ----------
    value
        In the model's own scale of values: for scGPT a bin, ``0 … n_bins − 1``.
    """
    column_of(symbol, genes)
    if not np.isfinite(value):
        message = f"Expected a finite value for {symbol}, got {value}. Use ablate_gene to take a gene away."
        raise ParameterError(message)

    def edit(adapter: AbstractAdapter, batch: TokenBatch) -> TokenBatch:
        return _with_value(batch, batch.gene == column_of(symbol, genes, adapter), float(value), adapter)

    return Intervention(name=f"{symbol} = {value:g}", tokens=edit)


def swap_gene_value(first: str, second: str, *, genes: GeneVocabulary) -> Intervention:
    """Show the model cells in which two genes have each other's value (scGPT) or rank (Geneformer).

    Raises
    ------
    ParameterError
        When a gene is not known, both are one, or either has several tokens in a cell.
    """
    if first == second:
        message = f"Expected two genes to swap, got '{first}' twice. Name another one."
        raise ParameterError(message)
    for symbol in (first, second):
        column_of(symbol, genes)

    def edit(adapter: AbstractAdapter, batch: TokenBatch) -> TokenBatch:
        known = adapter.gene_tokens(genes)
        columns = [column_of(s, genes, adapter) for s in (first, second)]
        gene, tokens = batch.gene.copy(), batch.tokens.copy()
        for here, other, symbol in zip(columns, columns[::-1], (first, second)):
            there = batch.gene == here
            if there.sum(1).max(initial=0) > 1 or (batch.tokens[there] != known[here]).any():
                message = (
                    f"Expected one token per gene in every cell for a swap, got {symbol} in several or as part of a "
                    "word. A swap has no meaning there; use ablate_gene(…, how='remove')."
                )
                raise ParameterError(message)
            gene[there], tokens[there] = other, known[other]
        return _replace(batch, gene=gene, tokens=tokens)

    return Intervention(name=f"swap {first} and {second}", tokens=edit)


def _with_value(batch: TokenBatch, there: np.ndarray, value: float, adapter: AbstractAdapter) -> TokenBatch:
    if batch.values is None:
        message = (
            f"Expected a model that is given values, got {adapter.card.name} ({adapter.card.family}), which is not. "
            "Use ablate_gene(…, how='remove') or swap_gene_value."
        )
        raise ParameterError(message)
    return _replace(batch, values=np.where(there, np.float32(value), batch.values).astype(batch.values.dtype))


def _removed(batch: TokenBatch, there: np.ndarray, symbol: str) -> TokenBatch:
    """Without the tokens at `there`: later ones move up, the end becomes padding, common padding is cut off."""
    if not there.any():
        return batch
    keep = batch.mask & ~there
    empty = np.flatnonzero(~keep.any(1))
    if len(empty):
        message = (
            f"Expected cells with tokens besides {symbol}, got {len(empty)} without (first: cell {empty[0]} of the "
            "batch). Leave these cells out."
        )
        raise ParameterError(message)
    width = int(keep.sum(1).max())
    order = np.argsort(~keep, axis=1, kind="stable")[:, :width]
    mask = np.take_along_axis(keep, order, 1)
    # What stands at padding is never seen; the values that the batch pads with, where there are any.
    padding = np.flatnonzero(~batch.mask.ravel())
    token = batch.tokens.ravel()[padding[0]] if len(padding) else 0
    moved = {"tokens": np.where(mask, np.take_along_axis(batch.tokens, order, 1), token)}
    moved["gene"] = np.where(mask, np.take_along_axis(batch.gene, order, 1), -1)
    if batch.values is not None:
        value = batch.values.ravel()[padding[0]] if len(padding) else 0
        moved["values"] = np.where(mask, np.take_along_axis(batch.values, order, 1), value).astype(batch.values.dtype)
    return _replace(batch, mask=mask, **moved)


def _replace(batch: TokenBatch, **changes: np.ndarray) -> TokenBatch:
    given = {f.name: getattr(batch, f.name) for f in fields(TokenBatch)}
    return TokenBatch(**(given | changes))
