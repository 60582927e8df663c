import inspect

import pytest

from regulens.errors import DuplicateTestError, OpenFamilyError, ParameterError, UnplannedTestError
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import PlannedTest, TestLedger, TestRecord


def planned(test_id, **changes):
    base = {
        "id": test_id, "analysis": "a", "model": "m", "reference": "r", "hypothesis": "h", "family": "f",
        "side": "greater", "unit": "regulator", "method": "t", "endpoint": Endpoint.REFERENCE_RECOVERY,
    }  # fmt: skip
    return PlannedTest(**(base | changes))


def filled(*tests, p=(0.01, 0.04, 0.03)):
    ledger = TestLedger(list(tests))
    for test, value in zip(tests, p):
        ledger.record(TestRecord(id=test.id, p_raw=value))
    return ledger


def test_a_result_that_nobody_planned_is_refused_with_the_nearest_name():
    with pytest.raises(UnplannedTestError, match="Did you mean 'pooled'"):
        TestLedger([planned("pooled")]).record(TestRecord(id="poled", p_raw=0.5))


def test_a_test_is_planned_once_and_recorded_once():
    with pytest.raises(DuplicateTestError):
        TestLedger([planned("a"), planned("a")])
    ledger = filled(planned("a"))
    with pytest.raises(DuplicateTestError):
        ledger.record(TestRecord(id="a", p_raw=0.5))


def test_no_q_before_closing_and_no_record_after():
    ledger = filled(planned("a"), planned("b"))
    for ask in (lambda: ledger.adjusted("a"), ledger.table):
        with pytest.raises(OpenFamilyError):
            ask()
    ledger.close()
    assert ledger.adjusted("a") == 0.02
    with pytest.raises(OpenFamilyError):
        ledger.record(TestRecord(id="a", p_raw=0.5))


def test_a_ledger_with_a_hole_does_not_close():
    ledger = TestLedger([planned("a"), planned("b")])
    ledger.record(TestRecord(id="a", p_raw=0.5))
    with pytest.raises(OpenFamilyError, match="1 are missing, first 'b'"):
        ledger.close()


def test_families_are_adjusted_apart_and_an_undefined_test_takes_no_place():
    tests = [planned("a"), planned("b"), planned("c", family="g"), planned("d")]
    ledger = TestLedger(tests)
    for test_id, p in (("a", 0.01), ("b", 0.04), ("c", 0.04)):
        ledger.record(TestRecord(id=test_id, p_raw=p))
    ledger.record(TestRecord(id="d", undefined="no positives"))
    ledger.close()
    assert [ledger.adjusted(i) for i in "abcd"] == [0.02, 0.04, 0.04, None]
    table = ledger.table().set_index("id")
    assert table.loc["a", "family_size"] == 2
    assert table.loc["a", "p_holm"] == pytest.approx(0.02)
    assert table.loc["b", "q_by"] == pytest.approx(0.04 * 1.5)
    assert table.loc["d", "undefined"] == "no positives"
    assert table["q_value"].isna().sum() == 1


def test_descriptive_and_reproduced_tests_are_never_adjusted():
    ledger = filled(planned("a"), planned("b", confirmatory=False), planned("c", protocol=Protocol.PUBLISHED))
    ledger.close()
    assert ledger.adjusted("a") == 0.01
    assert ledger.adjusted("b") is None
    assert ledger.adjusted("c") is None


def test_a_q_value_cannot_be_typed_in():
    for cls in (PlannedTest, TestRecord, TestLedger):
        assert not [p for p in inspect.signature(cls).parameters if p.startswith("q") or "adjust" in p]


@pytest.mark.parametrize(
    "values", [{}, {"p_raw": 0.0}, {"p_raw": 1.2}, {"p_raw": float("nan")}, {"p_raw": 0.1, "undefined": "x"}]
)
def test_a_record_holds_a_p_value_or_a_reason(values):
    with pytest.raises(ParameterError):
        TestRecord(id="a", **values)
