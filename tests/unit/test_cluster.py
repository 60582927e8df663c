"""A Dask cluster does the same work to the same last bit, and one that cannot is refused in a sentence."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="extraction needs the extra 'models'")
pytest.importorskip("distributed", reason="needs the extra 'cluster'")

from distributed import LocalCluster

from regulens.errors import ParameterError
from regulens.parallel import cluster, run_ordered, workers
from regulens.run.audit import audit
from regulens.testing.tiny_study import write_tiny_study


@pytest.fixture(scope="module")
def two_workers():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as found:
        yield found.scheduler_address


def test_order_and_number_of_workers_are_the_clusters(two_workers):
    with cluster(two_workers) as n:
        assert n == workers(1) == workers(7) == 2
        assert list(run_ordered(abs, [-3, 1, -2])) == [3, 1, 2]
    assert workers(1) == 1


def test_a_run_on_a_cluster_is_the_run_of_one_process(two_workers, tmp_path):
    plan = write_tiny_study(tmp_path / "study", n_cells=60).with_overrides(
        {"analyses": [{"name": "reference_recovery"}], "models": [{"spec": str(tmp_path / "study" / "scgpt-tiny")}]}
    )
    alone = audit(plan, out=tmp_path / "alone", jobs=1)
    with cluster(two_workers):
        shared = audit(plan, out=tmp_path / "shared", jobs=1)
    # arrays of the store and tables alike; state names folders and times
    for pattern in ("*.tsv", "attention/**/*"):
        mine, other = (
            {p.relative_to(r.path): p.read_bytes() for p in sorted(r.path.glob(pattern)) if p.is_file()}
            for r in (alone, shared)
        )
        assert mine and mine == other


def test_nobody_at_the_address():
    with (
        pytest.raises(ParameterError, match=r"Expected a Dask scheduler at tcp://127\.0\.0\.1:9"),
        cluster("tcp://127.0.0.1:9", timeout=1.0),
    ):
        pass


def test_workers_of_several_threads_are_refused():
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as found,
        pytest.raises(ParameterError, match=r"one thread each at .* got one with 2 threads"),
        cluster(found.scheduler_address),
    ):
        pass
