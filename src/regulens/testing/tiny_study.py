"""A whole study in miniature: cells, two random checkpoints, a reference and a plan, written to a folder.

Everything is small enough for a run to take seconds, and real enough to pass through every stage: an ``.h5ad`` with
raw counts, three cell states and two donors, checkpoints in published layouts, a signed reference table. The weights
are random, so no number of such a run means anything; what is tested is that the same plan gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from regulens.plan import Plan
from regulens.rng import stream

STATES = ("alpha", "beta", "gamma")

#: Analyses of a study that is not asked for the whole battery: a run of these takes seconds.
FEW = ("reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance")


def tiny_genes(n_genes: int) -> pd.DataFrame:
    """The first genes of the bundled table that have a symbol and an Ensembl id; columns ``symbol, ensembl``."""
    from regulens.io.gene_ids import GeneMap

    table = GeneMap.bundled().table
    table = table[(table["ensembl"] != "") & (table["symbol"] != "")]
    return table[["symbol", "ensembl"]].drop_duplicates("ensembl").head(n_genes).reset_index(drop=True)


def write_cells(path: Path, *, n_cells: int = 90, n_genes: int = 60, seed: int = 0) -> Path:
    """Write an ``.h5ad`` of gamma-Poisson counts with three states, two donors and shared gene programmes."""
    import anndata as ad
    import scipy.sparse as sp

    rng = stream(seed, "tiny/cells")
    genes = tiny_genes(n_genes)
    state = rng.integers(0, 3, n_cells)
    level = rng.gamma(2.0, 1.0, n_genes)
    programme = rng.gamma(2.0, 0.5, (3, n_genes))
    mean = level * programme[state] * rng.gamma(5.0, 0.2, (n_cells, 1))
    counts = rng.poisson(mean)
    obs = pd.DataFrame(
        {"type": np.array(STATES)[state], "person": np.array(["p1", "p2"])[rng.integers(0, 2, n_cells)]},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    data = ad.AnnData(
        sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes["symbol"].to_numpy())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    data.write_h5ad(path)
    return path


def write_reference(
    path: Path, *, n_genes: int = 60, n_regulators: int = 12, n_targets: int = 8, seed: int = 0
) -> Path:
    """Write a decoupler-style table ``source, target, weight`` over the same genes."""
    rng = stream(seed, "tiny/reference")
    symbols = tiny_genes(n_genes)["symbol"].to_numpy()
    rows = []
    for i in range(n_regulators):
        others = np.delete(np.arange(n_genes), i)
        rows += [
            (symbols[i], symbols[j], int(rng.choice([-1, 1]))) for j in rng.choice(others, n_targets, replace=False)
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["source", "target", "weight"]).to_csv(path, sep="\t", index=False)
    return path


def write_tiny_study(
    folder: Path, *, n_cells: int = 90, n_genes: int = 60, n_layers: int = 2, seed: int = 0, battery: bool = False
) -> Plan:
    """Write cells, two checkpoints and a reference into `folder`; return the plan, with paths in `folder`.

    The plan runs the analyses of `FEW`, or all that a study runs by default where `battery` is asked for.
    """
    from regulens.testing.checkpoints import write_geneformer, write_scgpt

    genes = tiny_genes(n_genes)
    write_cells(folder / "cells.h5ad", n_cells=n_cells, n_genes=n_genes, seed=seed)
    write_reference(folder / "reference.tsv", n_genes=n_genes, seed=seed)
    write_scgpt(folder / "scgpt-tiny", vocab=genes["symbol"].tolist(), n_layers=n_layers, seed=seed)
    write_geneformer(folder / "geneformer-tiny", vocab=genes["ensembl"].tolist(), n_layers=n_layers, seed=seed)
    plan = Plan.from_options(
        cells={"source": str(folder / "cells.h5ad"), "cell_state": "type", "donor": "person"},
        models=[f"scgpt:{folder / 'scgpt-tiny'}", f"geneformer:{folder / 'geneformer-tiny'}"],
        references=[str(folder / "reference.tsv")],
        universe={"genes": n_genes, "min_cells_expressing": 3},
        statistics={"bootstrap": 200, "permutations": 199},
        **({} if battery else {"analyses": list(FEW)}),
    )
    (folder / "study.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    return plan
