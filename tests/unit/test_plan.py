import pytest

from regulens.errors import PlanError
from regulens.plan import Plan


def problem(**options):
    with pytest.raises(PlanError) as caught:
        Plan.from_options(**options)
    return str(caught.value)


def test_the_empty_plan_is_the_embedded_default():
    plan = Plan()
    assert plan.cells.source == "demo:immune"
    assert [m.spec for m in plan.models] == ["bundled:scgpt-mini", "bundled:geneformer-mini"]
    assert plan.run_name() == "demo-immune"


def test_all_problems_come_in_one_message_with_their_paths():
    text = problem(
        statistics={"bootstap": 3, "alpha": "x"}, cells={"cell_stat": "a", "donor": True}, models=[{"nam": "x"}]
    )
    assert text.startswith("The plan has 6 problems: ")
    assert "statistics.bootstap: unknown key. Did you mean 'bootstrap'?" in text
    assert "statistics.alpha" in text
    assert "cells.cell_stat: unknown key. Did you mean 'cell_state'?" in text
    assert "cells.donor: expected text, got True; quote it in the study file" in text
    assert "models[0].nam: unknown key" in text
    assert "models[0].spec: required, but absent" in text


def test_unknown_analyses_and_parameters_get_the_nearest_name():
    assert "Did you mean 'reference_recovery'?" in problem(analyses=["reference_recovry"])
    assert "no parameter 'sped'" in problem(analyses=[{"name": "expression_matched", "parameters": {"sped": 1}}])
    assert "listed twice" in problem(analyses=["expression_matched", "expression_matched"])


def test_strings_stand_for_lists_and_numbers_may_be_text():
    plan = Plan.from_options(models="scgpt:/m", references="trrust.tsv", statistics={"alpha": "1e-2"})
    assert plan.models[0].spec == "scgpt:/m"
    assert plan.references[0].source == "trrust.tsv"
    assert plan.statistics.alpha == 0.01


def test_a_study_file_reads_back(tmp_path):
    plan = Plan.from_options(seed=7, cells={"source": "cells.h5ad", "cell_state": "type"})
    path = tmp_path / "study.yaml"
    path.write_text(plan.to_yaml())
    assert Plan.read(path).model_dump() == plan.model_dump()
    assert Plan.read(path).digest == plan.digest
    assert Plan.read(path).resolve("cells.h5ad") == str(tmp_path / "cells.h5ad")
    assert Plan.read(path).resolve("scgpt:model") == f"scgpt:{tmp_path / 'model'}"
    assert Plan.read(path).resolve("demo:immune") == "demo:immune"


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1", "syntax error at line"), ("- 1\n- 2\n", "mapping"), ("sead: 1", "Did you mean 'seed'")]
)
def test_a_bad_study_file_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=said):
        Plan.read(path)
    with pytest.raises(PlanError, match="Check the path"):
        Plan.read(tmp_path / "absent.yaml")


def test_overrides_replace_single_keys_and_are_validated():
    plan = Plan().with_overrides({"statistics.bootstrap": 300, "seed": 1, "models": ["scgpt:/x"]})
    assert (plan.statistics.bootstrap, plan.seed, plan.models[0].spec) == (300, 1, "scgpt:/x")
    with pytest.raises(PlanError, match="Did you mean 'bootstrap'"):
        Plan().with_overrides({"statistics.bootstrp": 3})
    with pytest.raises(PlanError, match="Did you mean 'statistics'"):
        Plan().with_overrides({"statistic.bootstrap": 3})


def test_the_digest_covers_what_changes_numbers_and_nothing_else():
    plan = Plan.from_options(cells={"source": "/a/cells.h5ad"})
    assert plan.digest == Plan.from_options(cells={"source": "/b/cells.h5ad"}, name="x").digest
    assert plan.digest != Plan.from_options(cells={"source": "/a/cells.h5ad"}, seed=1).digest


def test_a_primary_score_is_named_as_the_tables_name_it():
    assert Plan.from_options(primary="L03_mean").primary == "L03_mean"
    assert "L03_mean" in problem(primary="layer 3")


def test_the_digest_keeps_the_options_of_a_model():
    def digest(spec):
        return Plan.from_options(models=[spec]).digest

    base = digest("aido_cell:/a/3M?genes=/x/y.tsv")
    assert base == digest("aido_cell:/elsewhere/3M?genes=/other/y.tsv")
    for other in ("3M?genes=/x/z.tsv", "10M?genes=/x/y.tsv", "3M", "3M?list=/x/y.tsv"):
        assert base != digest(f"aido_cell:/a/{other}"), other
    assert digest("uce:/a/3M") != digest("scgpt:/a/3M")


@pytest.mark.parametrize(("text", "n"), [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), (5_000_000, 5_000_000)])
def test_memory_is_a_size(text, n):
    plan = Plan.from_options(extraction={"memory": text})
    assert plan.extraction.memory == n
    assert plan.digest == Plan.from_options(extraction={"memory": n}).digest


def test_a_size_that_is_none():
    for wrong in ("2 potatoes", "GB", True, -1):
        assert "extraction.memory" in problem(extraction={"memory": wrong})
    assert "500MB" in problem(extraction={"memory": "much"})
