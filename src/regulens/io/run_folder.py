"""The run folder: claimed by one plan, filled step by step, complete when ``run.json`` is there.

::

    run.json                 the record: plan, digests, versions, outcomes, verdicts (schema-versioned)
    plan.yaml                the complete plan
    tests.tsv/.parquet       the ledger          results.tsv/.parquet   every estimate
    tables/                  one table per analysis, model, reference
    attention/<model>.zarr   the attention store; <model>.<recipe>.zarr under a recipe that an analysis asks for
    figures/                 SVG and PNG         report.html, report.md
    timing.json              wall seconds and machine; the only file that differs between equal runs
    state/                   what a resumed run reuses
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from regulens.errors import DigestMismatchError, StoreError, VersionError
from regulens.io.atomic import read_json, remove_leftovers, write_json, write_text
from regulens.io.tables import read_table

SCHEMA_VERSION = 1
_CLAIM = "state/claim.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A folder that belongs to one plan."""

    path: Path

    @classmethod
    def check(cls, path: Path, *, plan_digest: str) -> None:
        """Refuse a folder that cannot be used for this plan, without touching it.

        Raises
        ------
        DigestMismatchError
            When it holds a run of another plan.
        StoreError
            When it holds something that is no run of regulens.
        """
        if not path.exists():
            return
        if not path.is_dir():
            message = f"Expected an output folder, got a file at {path}. Name another folder with --out."
            raise StoreError(message)
        claim = path / _CLAIM
        if not claim.is_file():
            if any(path.iterdir()):
                message = (
                    f"Expected an empty folder or a regulens run at {path}, got other files. "
                    "Name another folder with --out."
                )
                raise StoreError(message)
            return
        found = read_json(claim)
        if found.get("schema_version") != SCHEMA_VERSION:
            message = (
                f"Expected a run folder of schema {SCHEMA_VERSION} at {path}, got {found.get('schema_version')}. "
                "Name another folder with --out, or use the version of regulens that wrote it."
            )
            raise VersionError(message)
        if found.get("plan_digest") != plan_digest:
            message = (
                f"Expected the run of plan {plan_digest} at {path}, got that of plan {found.get('plan_digest')}. "
                "Name another folder with --out, or replace the old run with --overwrite."
            )
            raise DigestMismatchError(message)

    @classmethod
    def claim(cls, path: Path, *, plan_digest: str, plan_yaml: str, overwrite: bool = False) -> RunFolder:
        """Make or continue the folder of this plan; with `overwrite` an older regulens run is removed first."""
        if overwrite and (path / _CLAIM).is_file():
            shutil.rmtree(path)
        cls.check(path, plan_digest=plan_digest)
        try:
            for part in ("state", "tables", "figures", "attention"):
                (path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"Expected to be able to write to {path}, got {error.strerror}. Name another folder with --out."
            raise StoreError(message) from error
        remove_leftovers(path)
        write_text(path / "plan.yaml", plan_yaml)
        write_json(path / _CLAIM, {"schema_version": SCHEMA_VERSION, "plan_digest": plan_digest})
        return cls(path=path)

    @property
    def is_complete(self) -> bool:
        """Whether the record is there; it is written last but for the report."""
        return (self.path / "run.json").is_file()


def read_record(path: Path | str) -> dict[str, Any]:
    """Read ``run.json`` of a finished run.

    Raises
    ------
    StoreError
        When there is no finished run at `path`.
    VersionError
        When it was written under another schema.
    """
    path = Path(path)
    record = path / "run.json"
    if not record.is_file():
        message = (
            f"Expected a finished run (run.json) in {path}, found none. Name a run folder, or finish the run first."
        )
        raise StoreError(message)
    data: dict[str, Any] = read_json(record)
    if data.get("kind") != "regulens-run" or data.get("schema_version") != SCHEMA_VERSION:
        message = (
            f"Expected a regulens run of schema {SCHEMA_VERSION} in {path}, got {data.get('kind')!r} of schema "
            f"{data.get('schema_version')!r}. Use the version of regulens that wrote it."
        )
        raise VersionError(message)
    return data


def read_tables(path: Path | str) -> dict[str, pd.DataFrame]:
    """All tables of a finished run: ``tests``, ``results`` and every file stem of ``tables/``."""
    path = Path(path)
    stems = [path / "tests", path / "results", *sorted(p.with_suffix("") for p in (path / "tables").glob("*.parquet"))]
    return {stem.name: read_table(stem) for stem in stems}
