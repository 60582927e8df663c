"""How are the inner loops compiled, so that many processes can share the machine code on disk without harm?

numba keeps compiled functions beside the source, one file per argument types, with an index. It takes the next free
file name from the index without a lock: two processes that compile the same function for different types at once can
both take the same name, and then the index leads one of them to machine code for other types, for good. Writing is
therefore done under a lock here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter lock; keep the machine code on disk where a folder can be written.

    Examples
    --------
    >>> import numpy as np
    >>> def total(x):
    ...     s = 0.0
    ...     for v in x:
    ...         s += v
    ...     return s
    >>> kernel(total)(np.ones(3))
    3.0
    """
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in: compile anew in every process
        return numba.njit(nogil=True)(function)
    cache = compiled._cache
    write = cache.save_overload
    lock = FileLock(Path(cache.cache_path) / f".{function.__module__}.{function.__qualname__}.lock")

    def write_alone(signature: Any, data: Any) -> None:
        try:
            with lock:
                write(signature, data)
        except OSError:  # the folder went away or is read-only: the function works, only its copy on disk is lost
            return

    cache.save_overload = write_alone
    return compiled
