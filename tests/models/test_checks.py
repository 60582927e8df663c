"""`verify` passes on sound models and names the right check on each broken twin."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from small_cells import poisson_cells  # noqa: E402

from regulens import models  # noqa: E402
from regulens.errors import ParameterError  # noqa: E402
from regulens.models.base import NO_EDITS, TokenBatch  # noqa: E402
from regulens.models.scgpt import ScGPTAdapter  # noqa: E402
from regulens.testing.checkpoints import write_geneformer, write_scgpt  # noqa: E402

SYMBOLS = [f"G{i}" for i in range(40)]


class Twin(ScGPTAdapter):
    """A copy of a sound adapter in which one thing is wrong."""

    fault = ""

    def tokenize(self, cells, rows, *, seed):
        if self.fault == "shared stream":
            seed = int(np.random.default_rng().integers(1 << 30))
        batch = super().tokenize(cells, rows, seed=seed)
        tokens = batch.tokens.copy()
        if self.fault == "shifted tokens":
            tokens[:, 1:] = np.where(batch.mask[:, 1:], (tokens[:, 1:] + 1) % 40, tokens[:, 1:])
        mask, gene = batch.mask, batch.gene
        if self.fault == "no special token":
            tokens, mask, gene = tokens[:, 1:], mask[:, 1:], gene[:, 1:]
            return TokenBatch(tokens=tokens, values=batch.values[:, 1:], gene=gene, mask=mask, cell=batch.cell)
        return TokenBatch(tokens=tokens, values=batch.values, gene=gene, mask=mask, cell=batch.cell)

    def forward(self, batch, *, tap=None, kernel="fused", edits=NO_EDITS):
        def wrong(a):
            if self.fault == "transposed":
                turned = None if a.probabilities is None else a.probabilities.transpose(-1, -2)
                a = replace(a, q=a.k, k=a.q, probabilities=turned)
            if self.fault == "scale":
                a = replace(a, scale=a.scale * 1.1)
            if self.fault == "layer order":
                a = replace(a, layer=1 - a.layer)
            tap(a)

        if self.fault == "padding":
            batch = TokenBatch(
                tokens=batch.tokens,
                values=batch.values,
                gene=batch.gene,
                mask=np.ones_like(batch.mask),
                cell=batch.cell,
            )
        states = super().forward(batch, tap=None if tap is None else wrong, kernel=kernel, edits=edits)
        if self.fault == "stray randomness":
            states[-1] = states[-1] + 1e-3 * torch.randn_like(states[-1])
        return states


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ("transposed", "rows_sum_to_one/L00"),
        ("scale", "fused_equals_plain/L00"),
        ("layer order", "layers_and_heads"),
        ("padding", "masked_keys_zero/L00"),
        ("padding", "hidden_ignores_padding"),
        ("stray randomness", "hidden_deterministic"),
        ("shifted tokens", "tokens_match_genes"),
        ("no special token", "special_tokens"),
    ],
)
def test_each_fault_is_caught_by_its_check(tmp_path, fault, caught):
    adapter = models.load(str(write_scgpt(tmp_path / "m", vocab=SYMBOLS, n_heads=4)))
    adapter.__class__ = Twin
    cells = poisson_cells()
    sound = models.verify(adapter, cells)
    assert sound["passed"].all(), sound[~sound["passed"]]
    adapter.fault = fault
    table = models.verify(adapter, cells).set_index("name")
    assert not table.loc[caught, "passed"]


@pytest.mark.parametrize("family", ["scgpt", "geneformer"])
def test_twelve_layers_pass_in_numeric_order(tmp_path, family):
    write = {"scgpt": write_scgpt, "geneformer": write_geneformer}[family]
    vocab = SYMBOLS if family == "scgpt" else [f"ENSG{i:011d}" for i in range(40)]
    table = models.verify(str(write(tmp_path / "m", vocab=vocab, n_layers=12)), poisson_cells())
    assert table["passed"].all()
    assert [n for n in table["name"] if n.startswith("rows")] == [f"rows_sum_to_one/L{i:02d}" for i in range(12)]


def test_no_gene_in_common_fails_one_check(tmp_path):
    table = models.verify(str(write_scgpt(tmp_path / "m", vocab=["A", "B"])), poisson_cells()).set_index("name")
    assert not table.loc["genes_known", "passed"]


def test_no_cell_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="at least one cell"):
        models.verify(str(write_scgpt(tmp_path / "m", vocab=SYMBOLS)), poisson_cells(), n_cells=0)


@pytest.mark.parametrize(("statement", "loaded"), [("import regulens.models", False), ("import torch", True)])
def test_importing_the_package_of_models_loads_no_torch(statement, loaded):
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert bool(subprocess.run([sys.executable, "-c", code], check=False).returncode) == loaded
