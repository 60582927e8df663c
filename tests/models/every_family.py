"""A small random checkpoint of every family with attention, over the same made-up cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from small_cells import poisson_cells

from regulens import models
from regulens.models.base import AbstractAdapter
from regulens.testing.checkpoint_aido_cell import write_aido_cell
from regulens.testing.checkpoint_c2s import write_c2s
from regulens.testing.checkpoint_scfoundation import write_scfoundation
from regulens.testing.checkpoint_scprint import write_scprint
from regulens.testing.checkpoint_uce import write_uce
from regulens.testing.checkpoints import write_geneformer, write_scgpt
from regulens.types.cells import Cells

CELLS: Cells = poisson_cells()
_SYMBOLS, _IDS = CELLS.genes.symbols, CELLS.genes.ensembl

WRITE: dict[str, Callable[[Path], Path]] = {
    "geneformer": lambda folder: write_geneformer(folder, vocab=_IDS, n_layers=3),
    "scgpt": lambda folder: write_scgpt(folder, vocab=_SYMBOLS, n_layers=3),
    "scfoundation": lambda folder: write_scfoundation(folder, vocab=_SYMBOLS, n_layers=3),
    "aido_cell": lambda folder: write_aido_cell(folder, vocab=_SYMBOLS, n_layers=3),
    "scprint": lambda folder: write_scprint(folder, genes=_IDS, n_layers=3),
    "uce": lambda folder: write_uce(folder, symbols=_SYMBOLS, n_layers=3),
    "c2s": lambda folder: write_c2s(folder, vocab=_SYMBOLS, n_layers=3),
}


def load(family: str, folder: Path) -> AbstractAdapter:
    """Write and load a checkpoint of a family."""
    WRITE[family](folder)
    return models.load(f"{family}:{folder}")
