"""Shared fixtures. Real data sets live outside the repository; a test that needs them skips with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("REGULENS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets, or a skip."""
    if not SHARED.is_dir():
        pytest.skip(f"real data sets are not at {SHARED}; set REGULENS_SHARED_DATA to run this test")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep every write of the tests inside pytest's folders."""
    os.environ.setdefault("REGULENS_CACHE", str(tmp_path_factory.mktemp("cache")))
