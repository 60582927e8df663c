"""Small random models of both families with 12 layers, and cells that express different numbers of genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens.types.cells import Cells
from regulens.types.genes import GeneAlignment, GeneVocabulary

torch = pytest.importorskip("torch", reason="interventions run models, which need the extra `models`")

N_LAYERS, N_HEADS, N_GENES = 12, 3, 30


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Models this small run faster on one thread, by far where other processes are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cells() -> Cells:
    rng = np.random.default_rng(3)
    counts = rng.poisson(np.linspace(0.4, 1.6, 4)[:, None], (4, N_GENES)).astype(np.float32)
    counts[:, 0], counts[:, 1], counts[0, 2] = [3, 1, 2, 7], [1, 4, 0, 2], 0
    return Cells(
        counts=sp.csr_matrix(counts),
        genes=GeneVocabulary(
            symbols=tuple(f"G{i}" for i in range(N_GENES)), ensembl=tuple(f"ENSG{i:011d}" for i in range(N_GENES))
        ),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(4)]),
        total_counts=counts.sum(1).astype(float),
        alignment=GeneAlignment(table=pd.DataFrame(columns=["input", "status", "symbol", "ensembl", "reason"])),
        source="made in a test",
    )


@pytest.fixture(scope="session")
def folders(tmp_path_factory, cells):
    """Folder of a checkpoint by family; the last gene of the cells is unknown to both models."""
    from regulens.testing.checkpoints import write_geneformer, write_scgpt

    place = tmp_path_factory.mktemp("checkpoints")
    sizes = {"n_layers": N_LAYERS, "n_heads": N_HEADS, "width": 18, "hidden": 24}
    return {
        "scgpt": write_scgpt(place / "scgpt", vocab=cells.genes.symbols[:-1], **sizes),
        "geneformer": write_geneformer(place / "geneformer", vocab=cells.genes.ensembl[:-1], version="V2", **sizes),
    }


@pytest.fixture(params=["scgpt", "geneformer"])
def family(request) -> str:
    return request.param


@pytest.fixture
def adapter(family, folders):
    """Loaded anew for every test: some change its weights."""
    from regulens import models

    return models.load(f"{family}:{folders[family]}")


@pytest.fixture
def batch(adapter, cells):
    return adapter.tokenize(cells, np.arange(4), seed=0)


@pytest.fixture
def same(batch):
    """Largest difference of two states at real tokens; 0 means the same bits."""

    def difference(a, b) -> float:
        width = min(a.shape[1], b.shape[1])
        return float(np.abs(np.asarray(a)[:, :width] - np.asarray(b)[:, :width])[batch.mask[:, :width]].max())

    return difference
