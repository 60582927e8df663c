"""Named, independent random streams from one root seed.

Every random draw of a run has a name (``"bootstrap/reference_recovery/scgpt-mini/dorothea"``). The stream
depends on the root seed and on that name only, so that adding an analysis, reordering the work or changing
the number of workers moves no other number.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator that belongs to `name` under the root `seed`.

    Parameters
    ----------
    seed
        Root seed of the run, ``>= 0``.
    name
        Path-like name of the use; equal names give equal streams.

    Examples
    --------
    >>> float(stream(42, "a").random()) == float(stream(42, "a").random())
    True
    >>> float(stream(42, "a").random()) == float(stream(42, "b").random())
    False
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=tuple(int(w) for w in words)))
