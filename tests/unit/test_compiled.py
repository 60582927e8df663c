"""Many processes compile one function for different types at once: every one of them must find its own code again."""

import subprocess
import sys

import pytest

MODULE = """
{kernel}

@kernel
def total(x):
    s = x[0] * 0
    for i in range(x.size):
        s += x[i] * (i + 1)
    return s
"""

UNLOCKED = """
import numba
def kernel(function):
    return numba.njit(nogil=True, cache=True)(function)
"""

#: Waits between reading and writing the index, so that processes that do not lock are certain to collide.
WORKER = """
import sys, time
import numpy as np
from numba.core.caching import IndexDataCacheFile
sys.path.insert(0, {folder!r})
write = IndexDataCacheFile._save_index
IndexDataCacheFile._save_index = lambda self, overloads: (time.sleep({wait}), write(self, overloads))
from shared_code import total
print(float(total(np.arange(1, 5).astype(sys.argv[1]))))
"""

INDEX = """
import sys
sys.path.insert(0, {folder!r})
from shared_code import total
overloads = total._cache._cache_file._load_index()
print(len(overloads), len(set(overloads.values())))
"""

KINDS = ("int32", "float64", "float32")


def outputs(commands):
    processes = [subprocess.Popen([sys.executable, "-c", *c], stdout=subprocess.PIPE, text=True) for c in commands]
    return [p.communicate()[0].strip() for p in processes]


def compile_at_once(folder, kernel):
    (folder / "shared_code.py").write_text(MODULE.format(kernel=kernel))
    code = WORKER.format(folder=str(folder), wait=4.0)
    return outputs([(code, kind) for kind in KINDS])


@pytest.mark.parametrize(("kernel", "whole"), [("from regulens.compiled import kernel", True), (UNLOCKED, False)])
def test_functions_compiled_at_once_are_found_again_only_under_the_lock(tmp_path, kernel, whole):
    assert compile_at_once(tmp_path, kernel) == ["30.0"] * len(KINDS)
    found = outputs([(INDEX.format(folder=str(tmp_path)),)])
    assert (found == [f"{len(KINDS)} {len(KINDS)}"]) is whole
    if whole:  # with a broken index this would run code for other types
        assert outputs([(WORKER.format(folder=str(tmp_path), wait=0), kind) for kind in KINDS]) == ["30.0"] * len(KINDS)
