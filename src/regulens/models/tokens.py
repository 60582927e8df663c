"""How are sequences of different length put into one rectangle? Right-padding, shared by all adapters."""

from __future__ import annotations

import numpy as np


def pad(sequences: list[np.ndarray], value: float) -> tuple[np.ndarray, np.ndarray]:
    """Right-pad to the longest sequence.

    Parameters
    ----------
    sequences
        One array per cell, shape ``(position,)``.
    value
        Put behind the end.

    Returns
    -------
    Array ``(cell, position)`` of the common type, and a bool mask of the same shape, True where a sequence reaches.

    Examples
    --------
    >>> pad([np.array([5, 6]), np.array([7])], -1)[0].tolist()
    [[5, 6], [7, -1]]
    """
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    mask = np.arange(lengths.max(initial=0))[None, :] < lengths[:, None]
    out = np.full(mask.shape, value, dtype=np.result_type(*sequences) if sequences else np.int64)
    if sequences:
        out[mask] = np.concatenate(sequences)
    return out, mask
