"""How many bytes are 2GB? Sizes as people write them, in study files and on the command line."""

from __future__ import annotations

import re

from regulens.errors import ParameterError

_UNITS = {
    "": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12,
    "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def read_size(value: int | float | str) -> int:
    """Bytes meant by a number or a text.

    Parameters
    ----------
    value
        Bytes, or a number with a unit: kB, MB, GB, TB are powers of 1,000, KiB, MiB, GiB, TiB powers of 1,024; in any
        case, with or without a space.

    Returns
    -------
    Whole bytes, rounded down.

    Raises
    ------
    ParameterError
        For anything else.

    Examples
    --------
    >>> read_size("2GB"), read_size("1.5 GiB"), read_size(500)
    (2000000000, 1610612736, 500)
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([a-z]*)\s*", value.lower())
        if found and found[2] in _UNITS:
            return int(float(found[1]) * _UNITS[found[2]])
    elif not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value < float("inf"):
        return int(value)
    message = f"Expected a size such as 2GB, 500MB or 1.5GiB, got {value!r}. Write a number with its unit, or bytes."
    raise ParameterError(message)
