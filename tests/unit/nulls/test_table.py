"""Every null says what it preserves and breaks, has a test file and a line in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from regulens.nulls import NULLS
from regulens.nulls.base import NullSpec

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", NULLS.names())
def test_every_null_is_complete(name):
    spec = NULLS[name]
    assert isinstance(spec, NullSpec)
    assert spec.name == name
    assert all(len(x) > 10 for x in (spec.summary, spec.preserves, spec.randomises, spec.exchangeable, spec.reference))
    assert callable(spec.function)
    assert f"| `{name}` |" in (ROOT / "docs" / "nulls.md").read_text()


def test_every_null_is_tested():
    text = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    assert [n for n in NULLS.names() if f'NULLS["{n}"]' not in text and n != "expression_matched"] == []
