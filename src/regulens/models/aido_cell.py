"""How does AIDO.Cell read a cell, and what does each of its layers attend to? Layout, tokenisation, forward pass.

Sources: Ho et al. 2024 (AIDO.Cell) and the published code (``CellFoundationModel``). Every cell is the whole gene list
in its order, zeros and genes that were never measured included, followed by two depth tokens::

    v      = min(log1p(count / total · 10⁴), 20);   depth = max(log10(total), 5), twice
    x      = bins(v) + P[g]
    layer:   x = x + Wo Attention(N(x));  x = x + down(silu(gate z) · up z), z = N(x)      # pre-norm
    end:     x = N(x)

N is LayerNorm or RMSNorm; queries and keys come from the *normalised* state. There is no padding mask, because there
is no padding: all genes attend to all genes (19,266 tokens). That map is never formed (`regulens.models.kernel`).
Upstream runs in bfloat16 on GPUs; here everything is float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from regulens.errors import ModelError
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
from regulens.models.gene_list import GENES_OPTION, PUBLISHED, GeneList, expression, read_gene_list
from regulens.models.kernel import attend_layer, padding_mask
from regulens.models.loading import (
    Family,
    check_tensors,
    count_layers,
    cross_check,
    find_weights,
    head_count,
    read_json,
    read_tensors,
)
from regulens.models.value_bins import embed_values
from regulens.provenance import sha256_file
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: Before the names of files that were saved with a head.
PREFIX = "bert."
DEPTH_TOKENS = ("<depth1>", "<depth2>")
SMALLEST_DEPTH = 5.0
LARGEST_VALUE = 20.0

#: Heads of other tasks; attention does not pass through them.
IGNORED = ("cls.", "pooler.", "classifier.")

#: Choices of the published configuration class where config.json is silent; the tensors are checked against them.
DEFAULTS = {"layer_norm_eps": 1e-5, "bin_alpha": 1.0, "mask_token_id": -1, "pad_token_id": -2}

OPTIONS = {"genes": GENES_OPTION}

LICENCE = (
    "weights under the GenBio AI Community License: no commercial use. It counts attention maps, embeddings and "
    "gradients as output of the model: they may not be sold as a service or train a competing model"
)


class _RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class _Block(nn.Module):
    """Children under the names that the published state dict uses (one of them is ``self``)."""

    def __init__(self, /, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class _GeneEmbedding(nn.Module):
    def __init__(self, bins: int, width: int, *, alpha: float, mask_id: float, pad_id: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, bins)
        self.linear2 = nn.Linear(bins, bins)
        self.lookup_table = nn.Embedding(bins, width)
        self.mask_embedding = nn.Embedding(1, width)
        self.pad_embedding = nn.Embedding(1, width)
        self.alpha, self.mask_id, self.pad_id = alpha, mask_id, pad_id

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        marks = ((self.mask_id, self.mask_embedding.weight), (self.pad_id, self.pad_embedding.weight))
        return embed_values(values, self.linear1, self.linear2, self.lookup_table.weight, alpha=self.alpha, marks=marks)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, *, norm: str, eps: float, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        parts = {n: nn.Linear(width, width, bias=bias) for n in ("query", "key", "value")}
        self.attention = _Block(
            ln=_norm(norm, width, eps),
            self=_Block(**parts),
            output=_Block(dense=nn.Linear(width, width, bias=bias)),
        )
        self.ln = _norm(norm, width, eps)
        self.mlp = _Block(
            up_proj=nn.Linear(width, hidden, bias=bias),
            gate_proj=nn.Linear(width, hidden, bias=bias),
            down_proj=nn.Linear(hidden, width, bias=bias),
        )

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of the normalised state, each ``(cell, head, position, head_width)``."""
        b, s, d = x.shape
        own, shape, z = self.attention.self, (b, s, self.heads, d // self.heads), self.attention.ln(x)
        q, k, v = (project(z).view(shape).transpose(1, 2) for project in (own.query, own.key, own.value))
        return q, k, v

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """SwiGLU (Shazeer 2020) of the normalised state."""
        z = self.ln(x)
        return self.mlp.down_proj(F.silu(self.mlp.gate_proj(z)) * self.mlp.up_proj(z))


def _norm(kind: str, width: int, eps: float) -> nn.Module:
    return nn.LayerNorm(width, eps=eps) if kind == "LayerNorm" else _RMSNorm(width, eps)


class AidoCell(nn.Module):
    """The network; names of its parameters are those of the published state dict without ``bert.``.

    Parameters
    ----------
    rows, width, n_layers, heads, hidden, bins
        Rows of the position embedding (genes and two depths), width, layers, heads, feed-forward width, value bins.
    norm, eps, bias
        ``"LayerNorm"`` or ``"RMSNorm"``, its epsilon, and whether linear maps have a bias.
    alpha, mask_id, pad_id
        Of the value embedding.
    """

    def __init__(
        self, *, rows: int, width: int, n_layers: int, heads: int, hidden: int, bins: int, norm: str = "LayerNorm",
        eps: float = 1e-5, bias: bool = True, alpha: float = 1.0, mask_id: float = -1.0, pad_id: float = -2.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.gene_embedding = _GeneEmbedding(bins, width, alpha=alpha, mask_id=mask_id, pad_id=pad_id)
        self.position_embedding = nn.Embedding(rows, width)
        layers = (_Layer(width, heads, hidden, norm=norm, eps=eps, bias=bias) for _ in range(n_layers))
        self.encoder = _Block(layer=nn.ModuleList(layers), ln=_norm(norm, width, eps))


class AidoCellAdapter(AbstractAdapter):
    """A loaded AIDO.Cell: all genes of the list as tokens, exact attention through the tap.

    Parameters
    ----------
    network, genes, card
        As built by `load`.
    """

    every_gene = True

    def __init__(self, network: AidoCell, genes: GeneList, card: ModelCard) -> None:
        self.network, self.genes, self.card = network, genes, card
        network.eval()

    @property
    def module(self) -> AidoCell:
        """The network."""
        return self.network

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Row of the gene list by symbol, also under the symbol that the gene had before; −1 where absent."""
        return self.genes.rows(genes)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """The whole gene list with each cell's values, then two depths; `seed` is not used.

        Genes of the list that the cells lack are tokens with value zero and gene −1. All cells have the same length,
        so nothing is padded.
        """
        known = self.gene_tokens(cells.genes)
        rows = np.asarray(rows, dtype=np.int64)
        n_genes = len(self.genes)
        shape = (len(rows), n_genes + len(DEPTH_TOKENS))
        value, gene = np.zeros(shape, dtype=np.float32), np.full(shape, -1, dtype=np.int64)
        own = np.flatnonzero(known >= 0)
        gene[:, known[own]] = own
        for n, row in enumerate(rows):
            columns, values, total = expression(cells, row, known)
            value[n, known[columns]] = np.minimum(values, LARGEST_VALUE)
            value[n, n_genes:] = max(math.log10(total), SMALLEST_DEPTH) if total > 0 else SMALLEST_DEPTH
        token = np.broadcast_to(np.arange(shape[1], dtype=np.int64), shape).copy()
        return TokenBatch(tokens=token, values=value, gene=gene, mask=np.ones(shape, dtype=bool), cell=rows)

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; hidden states after the embedding and after every layer, the last one normalised."""
        net = self.network.eval()
        device = net.position_embedding.weight.device
        x = net.gene_embedding(torch.as_tensor(batch.values, device=device))
        x = x + net.position_embedding(torch.as_tensor(batch.tokens, device=device))
        # None for what `tokenize` makes. A batch that was padded by hand must not read from its padding.
        key_mask = padding_mask(batch.mask, device)
        if edits.embedding is not None:
            x = edits.embedding(x)
        states = [x]
        for index, layer in enumerate(net.encoder.layer):
            q, k, v = layer.project(x)
            out = attend_layer(index, q, k, v, key_mask=key_mask, kernel=kernel, tap=tap, edits=edits)
            x = x + layer.attention.output.dense(out.transpose(1, 2).flatten(2))
            y = layer.feed_forward(x)
            if edits.mlp_output is not None:
                y = edits.mlp_output(index, y)
            x = x + y
            states.append(x)
        states[-1] = net.encoder.ln(x)
        return states

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the normalised state (pre-norm)."""
        q, k, _ = self.network.encoder.layer[layer].project(x)
        return q, k

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes of the list and their rows of the position embedding."""
        rows = self.network.position_embedding.weight.detach().cpu().numpy()
        return self.genes.names, rows[: len(self.genes)].astype(np.float32)

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of a layer's output projection."""
        return self.network.encoder.layer[layer].attention.output.dense.weight


def _check_config(config: dict[str, Any]) -> None:
    wanted = {"hidden_act": "swiglu", "position_embedding_type": "absolute"}
    odd = [f"{k} = {config[k]!r}" for k, v in wanted.items() if config.get(k, v) != v]
    odd += [f"{k} = true" for k in ("is_decoder", "add_cross_attention") if config.get(k, False)]
    if odd:
        message = (
            f"Expected AIDO.Cell's architecture (SwiGLU, absolute positions) in config.json, got {', '.join(odd)}."
        )
        raise ModelError(f"{message} This variant computes something else and is not supported.")


def _number(config: dict[str, Any], key: str) -> float:
    value = config.get(key, DEFAULTS[key])
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"Expected a number as '{key}' in config.json, got {value!r}. Use the published config.json.")
    return float(value)


def load(folder: Path, *, name: str, spec: str, options: Mapping[str, Any] | None = None) -> AidoCellAdapter:
    """Load a published folder: ``config.json`` and weights, with the gene list put beside them.

    Parameters
    ----------
    options
        Values of `OPTIONS`; their defaults where None.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading`.
    """
    config = read_json(folder / "config.json", what="AIDO.Cell's configuration (config.json)")
    _check_config(config)
    path = find_weights(folder, WEIGHTS)
    tensors = {k.removeprefix(PREFIX): v for k, v in read_tensors(path).items()}
    first = tensors.get("encoder.layer.0.mlp.up_proj.weight")
    positions, table = tensors.get("position_embedding.weight"), tensors.get("gene_embedding.lookup_table.weight")
    if any(t is None or t.ndim != 2 for t in (first, positions, table)):
        message = (
            f"Expected AIDO.Cell's tensors in {path.name} (gene_embedding.…, position_embedding.weight, "
            f"encoder.layer.0.mlp.…), got {len(tensors)} tensors without them. This is another format."
        )
        raise ModelError(message)
    rows, width = positions.shape
    n_layers = count_layers(tensors, "encoder.layer.")
    found: dict[str, Any] = {
        "hidden_size": width, "num_hidden_layers": n_layers, "intermediate_size": first.shape[0],
        "max_position_embeddings": rows - 2, "bin_num": table.shape[0],
        "add_linear_bias": "encoder.layer.0.attention.self.query.bias" in tensors,
        "normalization_type": "LayerNorm" if "encoder.ln.bias" in tensors else "RMSNorm",
    }  # fmt: skip
    cross_check(config, found, source="config.json")
    heads = head_count(config, "num_attention_heads", width=width, source="config.json")
    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = AidoCell(
            rows=rows, width=width, n_layers=n_layers, heads=heads, hidden=first.shape[0], bins=table.shape[0],
            norm=found["normalization_type"], bias=found["add_linear_bias"], eps=_number(config, "layer_norm_eps"),
            alpha=_number(config, "bin_alpha"), mask_id=_number(config, "mask_token_id"),
            pad_id=_number(config, "pad_token_id"),
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=path.name, family="AIDO.Cell")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)
    genes = read_gene_list(folder, file=str((options or {}).get("genes", "")), n_genes=rows - len(DEPTH_TOKENS))

    notes = [
        "exact in float32; upstream runs in bfloat16, which rounds values, weights and states",
        "no padding mask, as in the published results: genes without a count are attended to",
        "the licence counts attention maps as output of the model, for non-commercial purposes only",
        "layout and formulas are those of the published code; not checked on the published weights",
    ]
    notes += [f"tensors not used: {', '.join(sorted({k.split('.')[0] for k in ignored}))}"] if ignored else []
    notes += [] if genes.published else ["the gene list beside the weights is not the published one"]
    card = ModelCard(
        name=name, family="aido_cell", spec=spec, n_layers=n_layers, n_heads=heads, width=width,
        vocabulary_size=rows, max_length=rows, n_parameters=sum(p.numel() for p in network.parameters()),
        sha256=sha256_file(path), namespace="gene symbol",
        tokenisation=f"all {len(genes):,} genes of the gene list, zeros included, then two depths",
        normalisation="log1p of counts per 10,000 of the model's own genes", activation="swiglu",
        special_tokens=DEPTH_TOKENS, licence=LICENCE, notes=tuple(notes),
    )  # fmt: skip
    return AidoCellAdapter(network, genes, card)


def detect(folder: Path) -> bool:
    """Whether the folder holds a ``config.json`` of AIDO.Cell (``cellfoundation``)."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    try:
        config = read_json(path, what="configuration")
    except ModelError:
        return False
    named = [config.get("model_type"), *map(str, config.get("architectures") or [])]
    return any(str(n).lower().startswith("cellfoundation") for n in named)


FAMILY = Family(
    name="aido_cell",
    title="AIDO.Cell",
    files=f"config.json, model.safetensors, {PUBLISHED}",
    detect=detect,
    load=load,
    options=OPTIONS,
)
