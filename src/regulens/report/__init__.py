"""What did a run find? Figures, ``report.html`` and ``report.md``, made from the run folder alone."""

from __future__ import annotations

from regulens.report.build import build_report
from regulens.report.model import RunView, read_run

__all__ = ["RunView", "build_report", "read_run"]
