"""A whole study of a screen in miniature: cells of eight knock-downs, a random checkpoint and a plan.

Small enough for a run to take seconds, real enough to pass through every stage: an ``.h5ad`` with raw counts, one
perturbation a cell in the columns of public collections, two guides a gene and two replicates. Every perturbation
lowers its own gene and moves a set of genes, so that labels exist; the weights are random, so no number of such a run
means anything.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from regulens.plan import Plan
from regulens.rng import stream
from regulens.testing.tiny_study import tiny_genes

#: Perturbed genes: transcription factors, all of them in the bundled list.
TARGETS = ("ATF4", "CEBPB", "IRF1", "JUN", "MYC", "RELA", "SPI1", "STAT1")
#: Label of a control cell.
CONTROL = "control"


def screen_genes(n_genes: int = 150) -> pd.DataFrame:
    """The perturbed genes, then the first of the bundled table; columns ``symbol, ensembl``."""
    table = tiny_genes(1 << 30)
    own = table[table["symbol"].isin(TARGETS)]
    rest = table[~table["symbol"].isin(TARGETS)].head(n_genes - len(own))
    return pd.concat([own, rest], ignore_index=True)


def write_screen_cells(
    path: Path, *, n_cells: int = 400, n_genes: int = 150, n_responders: int = 25, seed: int = 0
) -> Path:
    """Write an ``.h5ad`` of a knock-down screen.

    ``obs`` has ``perturbation`` (symbol, or ``control``), ``guide`` and ``replicate``; 32 cells or more a perturbation
    at 400 cells. ``X`` holds gamma-Poisson counts.
    """
    import anndata as ad
    import scipy.sparse as sp

    rng = stream(seed, "tiny/screen")
    genes = screen_genes(n_genes)
    symbols = genes["symbol"].to_numpy()
    n_perturbed = int(0.64 * n_cells)
    who = np.concatenate([np.arange(n_perturbed) % len(TARGETS), np.full(n_cells - n_perturbed, -1)])
    change = np.zeros((len(TARGETS) + 1, n_genes))  # the last row, of control cells, stays zero
    for k, target in enumerate(TARGETS):
        chosen = rng.choice(n_genes, n_responders, replace=False)
        change[k, chosen] = rng.choice([-1.6, 1.6], n_responders)
        change[k, symbols == target] = -2.0
    level = np.exp(1.0 + 0.6 * rng.normal(size=n_genes))
    mean = level * np.exp(change[who]) * rng.gamma(8.0, 1 / 8.0, (n_cells, 1))
    counts = rng.poisson(mean * rng.gamma(4.0, 1 / 4.0, mean.shape))
    names = np.array([*TARGETS, CONTROL], dtype=object)[who]
    obs = pd.DataFrame(
        {
            "perturbation": names,
            "guide": [f"{name}_g{1 + k % 2}" for name, k in zip(names, rng.integers(0, 2, n_cells))],
            "replicate": [f"rep{1 + k % 2}" for k in rng.permutation(n_cells)],
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    order = rng.permutation(n_cells)
    data = ad.AnnData(
        sp.csr_matrix(counts[order].astype(np.float32)), obs=obs.iloc[order], var=pd.DataFrame(index=symbols)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    data.write_h5ad(path)
    return path


def write_tiny_screen(
    folder: Path, *, n_cells: int = 400, n_genes: int = 150, n_layers: int = 2, seed: int = 0,
    analyses: tuple[str, ...] | None = None,
) -> Plan:  # fmt: skip
    """Write the cells of a screen and a checkpoint into `folder`; return the plan, with paths in `folder`.

    The model reads the control cells of the same file.

    Parameters
    ----------
    analyses
        Names; what a study of a screen runs by default where None.
    """
    from regulens.testing.checkpoints import write_scgpt

    source = write_screen_cells(folder / "screen.h5ad", n_cells=n_cells, n_genes=n_genes, seed=seed)
    vocab = screen_genes(n_genes)["symbol"].tolist()
    write_scgpt(folder / "scgpt-tiny", vocab=vocab, n_layers=n_layers, seed=seed)
    plan = Plan.from_options(
        cells={"source": str(source), "perturbation": "perturbation", "control": CONTROL},
        models=[f"scgpt:{folder / 'scgpt-tiny'}"],
        references=[],
        screens=[{"source": str(source), "name": "tiny-screen", "replicate": "replicate", "modality": "crispri"}],
        universe={"genes": n_genes, "min_cells_expressing": 3},
        statistics={"bootstrap": 200, "permutations": 199},
        **({} if analyses is None else {"analyses": list(analyses)}),
    )
    (folder / "study.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    return plan
