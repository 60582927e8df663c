"""The test ledger: planned before data is read, recorded once, adjusted when the family is closed.

Adjusted p-values cannot be typed in: no constructor takes one, `TestLedger.adjusted` derives them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from regulens.errors import DuplicateTestError, OpenFamilyError, ParameterError, UnplannedTestError, nearest
from regulens.types.endpoints import Endpoint, Protocol

Side = Literal["greater", "less", "two-sided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTest:
    """A test as registered before any data is seen.

    Parameters
    ----------
    id
        Unique, path-like: ``"reference_recovery/<model>/<reference>/pooled_above_chance"``.
    hypothesis
        One sentence that the test could refute.
    family
        Tests adjusted together (Benjamini-Hochberg): by default all of one endpoint in a run.
    unit
        What is resampled or permuted.
    confirmatory
        Only confirmatory tests enter the adjustment and verdicts; the others are descriptive.
    """

    id: str
    analysis: str
    model: str
    reference: str
    hypothesis: str
    family: str
    side: Side
    unit: str
    method: str
    endpoint: Endpoint
    protocol: Protocol = Protocol.CORRECTED
    confirmatory: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRecord:
    """The result of one planned test; either a p-value with its effect, or the reason why there is none."""

    __test__ = False  # not a pytest class

    id: str
    statistic: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p_raw: float | None = None
    n_units: int | None = None
    undefined: str = ""
    stream: str = ""

    def __post_init__(self) -> None:
        numbers = [self.statistic, self.effect, self.low, self.high, self.p_raw]
        if any(x is not None and not math.isfinite(x) for x in numbers):
            message = f"Expected finite numbers in the record of '{self.id}', got {numbers}. Give `undefined` instead."
            raise ParameterError(message)
        if (self.p_raw is None) == (not self.undefined):
            message = f"Expected either p_raw or a reason why '{self.id}' is undefined, got both or neither."
            raise ParameterError(message)
        if self.p_raw is not None and not 0 < self.p_raw <= 1:
            message = f"Expected 0 < p_raw <= 1 for '{self.id}', got {self.p_raw}."
            raise ParameterError(message)


class TestLedger:
    """Append-only list of planned tests and their records.

    Examples
    --------
    >>> plan = PlannedTest(id="a", analysis="x", model="m", reference="r", hypothesis="h", family="f",
    ...                    side="greater", unit="regulator", method="t", endpoint=Endpoint.REFERENCE_RECOVERY)
    >>> ledger = TestLedger([plan])
    >>> ledger.record(TestRecord(id="a", p_raw=0.03))
    >>> ledger.close()
    >>> ledger.table().loc[0, "q_value"].item()
    0.03
    """

    __test__ = False

    def __init__(self, planned: list[PlannedTest] | tuple[PlannedTest, ...]) -> None:
        self._planned: dict[str, PlannedTest] = {}
        self._records: dict[str, TestRecord] = {}
        self._q: dict[str, float] | None = None
        self._beside: dict[str, tuple[float, float]] = {}
        for test in planned:
            if test.id in self._planned:
                message = f"Expected unique test ids, got '{test.id}' twice. Give every test its own id."
                raise DuplicateTestError(message)
            self._planned[test.id] = test

    @property
    def planned(self) -> tuple[PlannedTest, ...]:
        """All planned tests, in the order of registration."""
        return tuple(self._planned.values())

    @property
    def is_closed(self) -> bool:
        """Whether adjusted values can be read."""
        return self._q is not None

    def record(self, record: TestRecord) -> None:
        """Record the result of a planned test, once."""
        if self.is_closed:
            message = f"Expected an open ledger, got a record of '{record.id}' after closing. Record before closing."
            raise OpenFamilyError(message)
        if record.id not in self._planned:
            hint = nearest(record.id, list(self._planned))
            message = f"Expected a planned test, got '{record.id}'.{hint} Plan tests before data is read."
            raise UnplannedTestError(message)
        if record.id in self._records:
            message = f"Expected one record per test, got a second one for '{record.id}'. Record each test once."
            raise DuplicateTestError(message)
        self._records[record.id] = record

    def close(self) -> None:
        """Adjust every family; planned tests without a record make it fail."""
        from regulens.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm

        lost = [i for i in self._planned if i not in self._records]
        if lost:
            message = f"Expected a record for every planned test, {len(lost)} are missing, first '{lost[0]}'."
            raise OpenFamilyError(message)
        families: dict[str, list[str]] = {}
        for test in self._planned.values():
            usable = test.confirmatory and test.protocol == Protocol.CORRECTED
            if usable and self._records[test.id].p_raw is not None:
                families.setdefault(test.family, []).append(test.id)
        q: dict[str, float] = {}
        beside: dict[str, tuple[float, float]] = {}
        for ids in families.values():
            p = np.array([self._records[i].p_raw for i in ids], dtype=np.float64)
            q |= dict(zip(ids, benjamini_hochberg(p).tolist()))
            beside |= dict(zip(ids, zip(benjamini_yekutieli(p).tolist(), holm(p).tolist())))
        self._q, self._beside = q, beside

    def adjusted(self, test_id: str) -> float | None:
        """q-value (Benjamini-Hochberg within the family) of a test; None where undefined or descriptive."""
        if self._q is None:
            message = "Expected a closed ledger before reading q-values, got an open one. Call close() first."
            raise OpenFamilyError(message)
        if test_id not in self._planned:
            message = f"Expected a planned test, got '{test_id}'.{nearest(test_id, list(self._planned))}"
            raise UnplannedTestError(message)
        return self._q.get(test_id)

    def get(self, test_id: str) -> TestRecord:
        """Record of a test."""
        if test_id not in self._records:
            message = f"Expected a recorded test, got '{test_id}'.{nearest(test_id, list(self._records))}"
            raise UnplannedTestError(message)
        return self._records[test_id]

    def table(self) -> pd.DataFrame:
        """One row per planned test, so the ledger must be closed.

        Derived columns: ``q_value`` (Benjamini-Hochberg, the one that verdicts read), ``q_by`` (Benjamini-Yekutieli,
        valid under any dependence), ``p_holm`` (family-wise error), ``family_size``.
        """
        if self._q is None:
            message = "Expected a closed ledger before its table, got an open one. Call close() first."
            raise OpenFamilyError(message)
        sizes: dict[str, int] = {}
        for i in self._q:
            sizes[self._planned[i].family] = sizes.get(self._planned[i].family, 0) + 1
        rows = []
        for i, test in self._planned.items():
            row = {k: str(v) if isinstance(v, (Endpoint, Protocol)) else v for k, v in asdict(test).items()}
            row |= {k: v for k, v in asdict(self._records[i]).items() if k != "id"}
            row |= {
                "q_value": self._q.get(i),
                "q_by": self._beside.get(i, (None, None))[0],
                "p_holm": self._beside.get(i, (None, None))[1],
                "adjustment": "Benjamini-Hochberg" if i in self._q else "",
                "family_size": sizes.get(test.family, 0) if i in self._q else 0,
            }
            rows.append(row)
        columns = list(rows[0]) if rows else []
        frame = pd.DataFrame(rows, columns=columns)
        for name in ("statistic", "effect", "low", "high", "p_raw", "q_value", "q_by", "p_holm"):
            if name in frame:
                frame[name] = frame[name].astype("Float64")
        if "n_units" in frame:
            frame["n_units"] = frame["n_units"].astype("Int64")
        return frame
