"""regulens: what a single-cell model knows about gene regulation beyond co-expression and prominence.

The public names are loaded when they are first used, so that ``import regulens`` costs nothing and needs no extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regulens._version import __version__

if TYPE_CHECKING:
    from regulens import errors, models
    from regulens.api import as_cells, audit, evaluate, extract, mean_cell_attention, score, scores_from_table
    from regulens.io.cells import read_cells
    from regulens.io.demo import load_demo
    from regulens.io.references import read_reference, read_regulators
    from regulens.io.screens import read_screen
    from regulens.parallel import cluster
    from regulens.plan import Plan
    from regulens.report.build import build_report
    from regulens.run.audit import Run
    from regulens.run.preview import Preview, preview
    from regulens.stats.screen_effects import effects_of
    from regulens.types.attention import Direction
    from regulens.types.cells import Cells
    from regulens.types.edges import EdgeScores, EdgeUniverse
    from regulens.types.networks import ReferenceNetwork

__all__ = [
    "Cells",
    "Direction",
    "EdgeScores",
    "EdgeUniverse",
    "Plan",
    "Preview",
    "ReferenceNetwork",
    "Run",
    "__version__",
    "as_cells",
    "audit",
    "build_report",
    "cluster",
    "effects_of",
    "errors",
    "evaluate",
    "extract",
    "load_demo",
    "mean_cell_attention",
    "models",
    "preview",
    "read_cells",
    "read_reference",
    "read_regulators",
    "read_screen",
    "score",
    "scores_from_table",
]

#: Public name to "module:object"; an empty object is the module itself.
_LAZY = {
    "Cells": "regulens.types.cells:Cells",
    "Direction": "regulens.types.attention:Direction",
    "EdgeScores": "regulens.types.edges:EdgeScores",
    "EdgeUniverse": "regulens.types.edges:EdgeUniverse",
    "Plan": "regulens.plan:Plan",
    "Preview": "regulens.run.preview:Preview",
    "ReferenceNetwork": "regulens.types.networks:ReferenceNetwork",
    "Run": "regulens.run.audit:Run",
    "as_cells": "regulens.api:as_cells",
    "audit": "regulens.api:audit",
    "build_report": "regulens.report.build:build_report",
    "cluster": "regulens.parallel:cluster",
    "effects_of": "regulens.stats.screen_effects:effects_of",
    "errors": "regulens.errors:",
    "evaluate": "regulens.api:evaluate",
    "extract": "regulens.api:extract",
    "load_demo": "regulens.io.demo:load_demo",
    "mean_cell_attention": "regulens.api:mean_cell_attention",
    "models": "regulens.models:",
    "preview": "regulens.run.preview:preview",
    "read_cells": "regulens.io.cells:read_cells",
    "read_reference": "regulens.io.references:read_reference",
    "read_regulators": "regulens.io.references:read_regulators",
    "read_screen": "regulens.io.screens:read_screen",
    "score": "regulens.api:score",
    "scores_from_table": "regulens.api:scores_from_table",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'regulens' has no attribute '{name}'"
        raise AttributeError(message)
    from importlib import import_module

    module, _, attribute = _LAZY[name].partition(":")
    found = import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
