"""Results come in the order of the tasks, on one thread each, whatever the number of workers."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl

from regulens.errors import ParameterError
from regulens.parallel import run_ordered, single_thread, workers


def _threads(task: int) -> tuple[int, int]:
    np.ones((8, 8)) @ np.ones((8, 8))
    return task, max((p["num_threads"] for p in threadpoolctl.threadpool_info()), default=1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_order_and_single_thread(jobs):
    assert list(run_ordered(_threads, [3, 1, 2], jobs=jobs)) == [(3, 1), (1, 1), (2, 1)]


def test_settings_are_restored():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with pytest.raises(KeyError), single_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


def _fails(task: int) -> int:
    if task == 1:
        message = "Expected 0, got 1."
        raise ParameterError(message)
    return task


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_ours_stays_ours(jobs):
    with pytest.raises(ParameterError, match="got 1"):
        list(run_ordered(_fails, [0, 1, 2], jobs=jobs))


def test_jobs():
    assert workers(-1) >= 1
    with pytest.raises(ParameterError, match="jobs >= 1"):
        workers(0)
    assert list(run_ordered(abs, [], jobs=2)) == []
