"""Which axis of a matrix of edges holds the regulators? Said by the user or by declared default, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import InputError, SchemaError, examples, nearest

if TYPE_CHECKING:
    from anndata import AnnData

#: What the rows of a matrix are; ``auto`` asks where the file does not say.
Rows = Literal["auto", "regulators", "targets"]

_GAPS = {"", "na", "nan", "none"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawEdges:
    """Edges as read: names by code, so that a name is looked up once however often it occurs.

    Parameters
    ----------
    sources, targets
        Names as written, object, each once.
    row, column
        Positions of the ends in them, int64, shape ``(edge,)``.
    weight
        Float64, shape ``(edge,)``, may be negative; all 1 where the table has none.
    sign
        +1, −1 or 0, shape ``(edge,)``; None where neither a column nor a negative weight gives one.
    words
        How the file was read, for the user.
    weighted
        Whether the table has weights.
    reversed
        Edges at the end that were added to give both directions of an undirected table.
    """

    sources: np.ndarray
    targets: np.ndarray
    row: np.ndarray
    column: np.ndarray
    weight: np.ndarray
    sign: np.ndarray | None
    words: tuple[str, ...]
    weighted: bool
    reversed: int = 0


def is_numeric(values: pd.Series) -> bool:
    """Whether every value of a column is a finite number."""
    return bool(np.isfinite(pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)).all())


def as_matrix(table: pd.DataFrame, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Row names, column names and values (NaN where a cell is empty), or None when the table is no matrix.

    Raises
    ------
    SchemaError
        When most cells are numbers and one is not.
    """
    if table.shape[1] < 3 or table.empty or is_numeric(table.iloc[:, 0]):
        return None
    body = table.iloc[:, 1:]
    values = np.column_stack([pd.to_numeric(body.iloc[:, j], errors="coerce") for j in range(body.shape[1])])
    values = values.astype(np.float64)
    i, j = np.nonzero(~np.isfinite(values))
    said = [str(body.iat[a, b]).strip() for a, b in zip(i, j)] if len(i) < values.size else ["x"]
    wrong = [k for k, text in enumerate(said) if text.lower() not in _GAPS]
    if len(wrong) > 0.1 * values.size or len(i) == values.size:
        return None
    if wrong:
        k = wrong[0]
        message = (
            f"Expected numbers in the matrix {label}, got '{said[k]}' in row {table.iat[i[k], 0]}, column "
            f"{body.columns[j[k]]}. Leave cells without a weight empty."
        )
        raise SchemaError(message)
    down = table.iloc[:, 0].astype(str).str.strip().to_numpy(dtype=object)
    return down, np.array([str(c).strip() for c in body.columns], dtype=object), values


def from_matrix(
    down: np.ndarray, across: np.ndarray, values: np.ndarray | sp.coo_matrix, *, label: str, rows: Rows,
    words: tuple[str, ...],
) -> RawEdges:  # fmt: skip
    """Edges of a matrix; which axis the regulators are on is said, or asked for, never guessed."""
    for what, names in (("row", down), ("column", across)):
        seen = pd.Index(names)
        if seen.has_duplicates:
            lost = list(seen[seen.duplicated()].unique())
            message = f"Expected every {what} name of {label} once, got {examples(lost)} more than once. Merge them."
            raise SchemaError(message)
    square = set(down) == set(across)
    size = f"{len(down)} x {len(across)} matrix"
    if rows == "auto" and not square and len(down) > len(across):
        message = (
            f"Expected regulators in the rows of {label}, got a {size}, which has more rows than columns: the columns "
            "may be the regulators. Say what the rows are with --rows regulators or --rows targets."
        )
        raise SchemaError(message)
    said = "as asked" if rows != "auto" else "by default; --rows targets turns it" if square else "by default"
    turned = rows == "targets"
    words = (f"{size} [{'target, regulator' if turned else 'regulator, target'}] ({said})", *words)
    if sp.issparse(values):
        i, j, weight = values.row, values.col, np.asarray(values.data, dtype=np.float64)
    else:
        i, j = np.nonzero(np.isfinite(values))
        weight = values[i, j]
    if not len(weight):
        message = f"Expected numbers in the matrix {label}, got none. Check the file."
        raise InputError(message)
    if turned:
        i, j, down, across = j, i, across, down
    sign = np.sign(weight).astype(np.int64) if (weight < 0).any() else None
    return RawEdges(
        sources=down, targets=across, row=i.astype(np.int64), column=j.astype(np.int64), weight=weight, sign=sign,
        words=words if sign is None else (*words, "signs from negative weights"), weighted=True,
    )  # fmt: skip


def from_varp(data: AnnData, label: str, key: str | None, rows: Rows) -> RawEdges:
    """A gene × gene matrix in ``varp``; of a sparse one the stored entries, of a dense one all."""
    there = list(data.varp)
    if key is None and len(there) == 1:
        key = there[0]
    if key is None or key not in there:
        wanted = f"a matrix '{key}' in varp" if key else "to know which matrix in varp is meant"
        got = examples(there) if there else "none"
        message = f"Expected {wanted} of {label}, got {got}.{nearest(key or '', there)}"
        raise SchemaError(f"{message} Name one with --key, or as ?key=NAME.")
    names = data.var_names.astype(str).to_numpy(dtype=object)
    matrix = data.varp[key]
    if sp.issparse(matrix):
        values: np.ndarray | sp.coo_matrix = sp.coo_matrix(matrix)
        finite = np.isfinite(values.data).all()
    else:
        values = np.asarray(matrix, dtype=np.float64)
        finite = not np.isinf(values).any()
    if not finite:
        message = f"Expected finite numbers in varp['{key}'] of {label}, got others. Drop them first."
        raise SchemaError(message)
    return from_matrix(names, names, values, label=label, rows=rows, words=(f"varp['{key}']",))
