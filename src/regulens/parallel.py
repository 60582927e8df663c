"""How does work spread over processes so that the number of workers changes no number?

Every task runs on one thread, in a worker or in the calling process alike, because a matrix product on two threads
adds in another order than on one. Results come back in the order of the tasks. The backend is joblib's: processes on
this machine, or inside `cluster` the workers of a Dask cluster that see the same files.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import joblib
import threadpoolctl

from regulens._version import __version__
from regulens.errors import MissingExtraError, ParameterError

T = TypeVar("T")
R = TypeVar("R")

#: Workers of the Dask cluster in use; 0 outside of `cluster`.
_cluster_workers = 0


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Keep BLAS, OpenMP, numba and (where it is loaded) torch on one thread, and restore their settings afterwards."""
    torch, numba = sys.modules.get("torch"), sys.modules.get("numba")
    with threadpoolctl.threadpool_limits(limits=1), contextlib.ExitStack() as restore:
        for library in (torch, numba):
            if library is not None:
                restore.callback(library.set_num_threads, library.get_num_threads())
                library.set_num_threads(1)
        yield


@contextlib.contextmanager
def cluster(address: str, *, timeout: float = 20.0) -> Iterator[int]:
    """Let a Dask cluster do the work of everything inside the block, whatever number of jobs is asked for.

    The run folder must lie where every worker sees it under the same path. Workers run one thread each, since threads
    of one process would share the settings that keep numbers the same.

    Parameters
    ----------
    address
        Of the scheduler, ``"tcp://host:8786"``.
    timeout
        Seconds to wait for it.

    Yields
    ------
    The number of workers.

    Raises
    ------
    MissingExtraError
        Without the extra ``cluster``.
    ParameterError
        When nobody answers, no worker is connected, a worker runs several threads or another version of regulens.
    """
    global _cluster_workers
    try:
        from distributed import Client
    except ImportError:
        message = (
            "Expected Dask for a scheduler, got no installation. Install the extra: pip install 'regulens[cluster]'."
        )
        raise MissingExtraError(message) from None
    try:
        client = Client(address, timeout=timeout, set_as_default=True)
    except (OSError, TimeoutError, ValueError) as error:
        message = (
            f"Expected a Dask scheduler at {address}, got {type(error).__name__}. "
            "Start one (dask scheduler) and its workers, and name its address as tcp://HOST:PORT."
        )
        raise ParameterError(message) from None
    with client:
        threads = client.nthreads()
        if not threads or max(threads.values()) > 1:
            found = "none" if not threads else f"one with {max(threads.values())} threads"
            message = f"Expected workers of one thread each at {address}, got {found}. Start dask worker --nthreads 1."
            raise ParameterError(message)
        odd = {str(v) for v in client.run(_version).values()} - {__version__}
        if odd:
            message = (
                f"Expected regulens {__version__} on every worker, got {', '.join(sorted(odd))}. "
                "Install the same version everywhere, so that all parts of a run come from one."
            )
            raise ParameterError(message)
        before, _cluster_workers = _cluster_workers, len(threads)
        try:
            with joblib.parallel_config(backend="dask"):
                yield len(threads)
        finally:
            _cluster_workers = before


def _version() -> str:
    return __version__


def workers(jobs: int) -> int:
    """Number of workers meant by `jobs`: itself, or all cores for −1; inside `cluster`, as many as it has.

    >>> workers(3)
    3
    """
    if jobs != -1 and jobs < 1:
        message = f"Expected jobs >= 1, or -1 for all cores, got {jobs}. Use 1 to stay in this process."
        raise ParameterError(message)
    if _cluster_workers:
        return _cluster_workers
    return joblib.cpu_count() if jobs == -1 else int(jobs)


def run_ordered(function: Callable[[T], R], tasks: Sequence[T], *, jobs: int = 1) -> Iterator[R]:
    """Yield ``function(task)`` for every task, in the order of the tasks, as soon as each is ready.

    Parameters
    ----------
    function
        Importable from a module (workers look it up by name).
    tasks
        Picklable values. Keep them small: large inputs go through a file that the task names.
    jobs
        Workers; 1 stays in the calling process, −1 takes all cores. Never more than there are tasks.

    Examples
    --------
    >>> list(run_ordered(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    n = min(workers(jobs), max(len(tasks), 1))
    if n == 1 and not _cluster_workers:
        for task in tasks:
            with single_thread():
                result = function(task)
            yield result
        return
    # Twice the workers are in flight: enough to keep them busy, few enough to bound what waits to be consumed.
    pool = joblib.Parallel(n_jobs=n, return_as="generator", pre_dispatch=2 * n, batch_size=1)
    yield from pool(joblib.delayed(_alone)(function, task) for task in tasks)


def release_workers() -> None:
    """Let idle worker processes of this machine go; they hold a few hundred megabytes each until they time out."""
    from joblib.externals.loky import reusable_executor

    # Asking for the executor would start one; only an existing one is shut down.
    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True)


def _alone(function: Callable[[Any], Any], task: Any) -> Any:
    with single_thread():
        return function(task)
