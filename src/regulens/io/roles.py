"""Which column of ``obs`` plays which role? Only what the user names; labels become strings, gaps are counted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regulens.errors import SchemaError, examples, nearest

#: More distinct numbers than this in a role column: a measurement, hardly a label.
MAX_NUMERIC_LABELS = 50


def column_of(obs: pd.DataFrame, column: str, *, purpose: str, table: str = "obs") -> pd.Series:
    """The column, or a refusal that offers the nearest name and lists what there is.

    Raises
    ------
    SchemaError
        When there is no such column.
    """
    if column in obs.columns:
        return obs[column]
    names = [str(c) for c in obs.columns]
    there = f"columns {examples(names, limit=12)}" if names else "no columns at all"
    message = (
        f"Expected a column '{column}' in {table} for {purpose}, got {there}.{nearest(column, names)} Name a column "
        f"that exists."
    )
    raise SchemaError(message)


def labels_of(obs: pd.DataFrame, column: str, *, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of one role as strings, and which cells have one.

    Whole numbers stored as floats lose their ``.0`` (a gap turns integers into floats on reading).

    Parameters
    ----------
    column
        Name of a column of `obs`: strings, categories, booleans, or few distinct numbers.
    role
        For messages.

    Returns
    -------
    labels
        Object array of strings, shape ``(cell,)``; ``""`` where missing.
    present
        Bool, shape ``(cell,)``.

    Raises
    ------
    SchemaError
        When the column does not exist, has no value at all, or holds a measurement.
    """
    series = column_of(obs, column, purpose=f"the role {role}")
    plain = pd.Series(series.to_numpy(dtype=object), dtype=object)
    # Text that a gap becomes when a table is written out. "None" and "unknown" are left alone: they can be labels.
    words = plain.map(lambda v: v.strip() if isinstance(v, str) else v)
    present = (~plain.isna() & ~words.isin(["", "nan", "NaN", "NA", "<NA>"])).to_numpy(dtype=bool)
    if not present.any():
        message = f"Expected labels in obs['{column}'] for the role {role}, got missing values only. Name another one."
        raise SchemaError(message)
    known = plain[present]
    numeric = all(isinstance(v, int | float | np.number) and not isinstance(v, bool | np.bool_) for v in known)
    if numeric and known.nunique() > MAX_NUMERIC_LABELS:
        message = (
            f"Expected labels in obs['{column}'] for the role {role}, got {known.nunique()} distinct numbers "
            f"({examples([f'{v:g}' for v in known.unique()], limit=3)}), which is likely a measurement. Name a "
            f"column of labels, or turn the numbers into categories first."
        )
        raise SchemaError(message)
    labels = np.full(len(plain), "", dtype=object)
    labels[present] = [_text(v) for v in known]
    return labels, present


def _text(value: object) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def library_sizes(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Library sizes from a column, float64, shape ``(cell,)``.

    Raises
    ------
    SchemaError
        When the column does not exist or holds anything but positive numbers.
    """
    series = column_of(obs, column, purpose="library sizes (total_counts)")
    values = pd.to_numeric(pd.Series(series.to_numpy(dtype=object)), errors="coerce").to_numpy(dtype=np.float64)
    bad = int((~np.isfinite(values) | (values < 0)).sum())
    if bad:
        message = (
            f"Expected library sizes in obs['{column}'], got {bad} of {len(values)} that are missing, negative or no "
            f"numbers. Name another column, or leave total_counts out to use row sums."
        )
        raise SchemaError(message)
    return values
