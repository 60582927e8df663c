"""How does scFoundation read a cell, and what does each layer of its encoder attend to? Layout, tokens, forward pass.

Sources: Hao et al. 2024, Nature Methods 21:1481 (scFoundation), and the published code (``load.py``,
``get_embedding.py``). In short, for the expressed genes g of a cell with values v = log1p(count / total · 10⁴)::

    x      = bins(v) + P[g]                                             # then two depth tokens: T, S
    layer:   x = LN(x + Attention(x));  x = LN(x + W2 relu(W1 x))       # post-norm, eps 1e-5
    end:     x = LN(x)

S = log10(total) is the depth at which the cell was read, T the one that the model is asked for (``tgthighres``:
``t4`` is T = 4, ``f2`` is log10(2 · total), ``a5`` is S + 5). Only values above zero become tokens, in the order of
the gene list, so that genes without a count are never seen. The file holds three models: ``gene``, ``cell``, ``rde``.

The decoder is a Performer: it approximates attention by random features and never has a softmax matrix. Its tensors
are known by name and left alone; regulens offers no attention of it.
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

from regulens.errors import ModelError, examples
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
from regulens.models.gene_list import GENES_OPTION, PUBLISHED, GeneList, expression, read_gene_list
from regulens.models.kernel import attend_layer, padding_mask
from regulens.models.loading import Family, check_tensors, count_layers, cross_check, head_count
from regulens.models.safe_pickle import read_torch, settings_of, tensors_of
from regulens.models.spec import Option
from regulens.models.tokens import pad
from regulens.models.value_bins import embed_values
from regulens.provenance import sha256_file
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

WEIGHTS = "models.ckpt"
DEPTH_TOKENS = ("<T>", "<S>")

#: Decoder and read-out head; the encoder's attention does not pass through them.
IGNORED = ("decoder_embed.", "decoder.", "norm.", "to_final.")

#: Values are at most log1p(10⁴) ≈ 9.2. Larger ones are wrong, and 102 and 103 would be read as mask and padding.
LARGEST_VALUE = 20.0

LICENCE = "weights under scFoundation's MODEL_LICENSE: research only, no commercial use; do not pass them on"

OPTIONS = {
    "key": Option("gene", "which of the three models in the file", choices=("gene", "cell", "rde")),
    "tgthighres": Option("t4", "target depth T: tN is N, fN is log10(N * total), aN is log10(total) + N"),
    "genes": GENES_OPTION,
}


class _ValueEmbedding(nn.Module):
    def __init__(self, bins: int, width: int, *, alpha: float, mask_id: float, pad_id: float) -> None:
        super().__init__()
        self.mlp = nn.Linear(1, bins)
        self.mlp2 = nn.Linear(bins, bins)
        self.emb = nn.Embedding(bins, width)
        self.emb_mask = nn.Embedding(1, width)
        self.emb_pad = nn.Embedding(1, width)
        self.alpha, self.mask_id, self.pad_id = alpha, mask_id, pad_id

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        marks = ((self.mask_id, self.emb_mask.weight), (self.pad_id, self.emb_pad.weight))
        return embed_values(values, self.mlp, self.mlp2, self.emb.weight, alpha=self.alpha, marks=marks)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key, value, ``(cell, head, position, head_width)``; rows of in_proj are ``(three head width)``."""
        b, s, d = x.shape
        fused = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = fused.view(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)


class _Encoder(nn.Module):
    def __init__(self, n_layers: int, *sizes: int) -> None:
        super().__init__()
        self.transformer_encoder = nn.ModuleList(_Layer(*sizes) for _ in range(n_layers))
        self.norm = nn.LayerNorm(sizes[0])


class ScFoundationEncoder(nn.Module):
    """The encoder; names of its parameters are those of the published state dict behind ``model.``.

    Parameters
    ----------
    rows, width, n_layers, heads, hidden
        Rows of the position embedding (genes, T, S, padding), embedding width, layers, heads, feed-forward width.
    bins, alpha, mask_id, pad_id
        Of the value embedding.
    """

    def __init__(
        self, *, rows: int, width: int, n_layers: int, heads: int, hidden: int, bins: int, alpha: float = 1.0,
        mask_id: float = 102.0, pad_id: float = 103.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.token_emb = _ValueEmbedding(bins, width, alpha=alpha, mask_id=mask_id, pad_id=pad_id)
        self.pos_emb = nn.Embedding(rows, width)
        self.encoder = _Encoder(n_layers, width, heads, hidden)


class ScFoundationAdapter(AbstractAdapter):
    """A loaded scFoundation encoder: published single-cell tokenisation, exact attention through the tap.

    Parameters
    ----------
    network, genes, card
        As built by `load`.
    target
        ``tgthighres``: letter and number.
    """

    def __init__(
        self, network: ScFoundationEncoder, genes: GeneList, card: ModelCard, *, target: tuple[str, float]
    ) -> None:
        self.network, self.genes, self.card, self.target = network, genes, card, target
        network.eval()

    @property
    def module(self) -> ScFoundationEncoder:
        """The encoder."""
        return self.network

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Row of the gene list by symbol, also under the symbol that the gene had before; −1 where absent."""
        return self.genes.rows(genes)

    def _target_depth(self, total: float) -> float:
        how, number = self.target
        if how == "t":
            return number
        return math.log10(total * number) if how == "f" else math.log10(total) + number

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Expressed genes in the order of the gene list, then T and S; `seed` is not used.

        Token ids are rows of the position embedding. As upstream, a depth of zero or below is not a token either
        (S of a cell with one count). A cell without any known gene becomes a row of padding.

        Raises
        ------
        ModelError
            When `tgthighres` leads to a depth that is none.
        """
        known = self.gene_tokens(cells.genes)
        rows = np.asarray(rows, dtype=np.int64)
        n_genes = len(self.genes)
        tokens, values, genes = [], [], []
        for row in rows:
            columns, value, total = expression(cells, row, known)
            depths = np.array([self._target_depth(total), math.log10(total)] if len(columns) else [0.0, 0.0])
            kept = np.flatnonzero(depths > 0)
            tokens.append(np.concatenate([known[columns], n_genes + kept]))
            values.append(np.concatenate([value, depths[kept]]).astype(np.float32))
            genes.append(np.concatenate([columns, np.full(len(kept), -1)]))
            if values[-1].max(initial=0.0) >= LARGEST_VALUE:
                message = f"Expected depths below {LARGEST_VALUE:g}, got T = {depths[0]:g} in {cells.obs.index[row]}."
                raise ModelError(f"{message} They are powers of ten; choose a smaller tgthighres (t4).")
        token, mask = pad(tokens, n_genes + 2)
        value, _ = pad(values, self.network.token_emb.pad_id)
        gene, _ = pad(genes, -1)
        return TokenBatch(tokens=token, values=value.astype(np.float32), gene=gene, mask=mask, cell=rows)

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; hidden states after the embedding and after every layer, the last one normalised."""
        net = self.network.eval()
        device = net.pos_emb.weight.device
        x = net.token_emb(torch.as_tensor(batch.values, device=device))
        x = x + net.pos_emb(torch.as_tensor(batch.tokens, device=device))
        key_mask = padding_mask(batch.mask, device)
        if edits.embedding is not None:
            x = edits.embedding(x)
        states = [x]
        for index, layer in enumerate(net.encoder.transformer_encoder):
            q, k, v = layer.self_attn.project(x)
            out = attend_layer(index, q, k, v, key_mask=key_mask, kernel=kernel, tap=tap, edits=edits)
            x = layer.norm1(x + layer.self_attn.out_proj(out.transpose(1, 2).flatten(2)))
            y = layer.linear2(F.relu(layer.linear1(x)))
            if edits.mlp_output is not None:
                y = edits.mlp_output(index, y)
            x = layer.norm2(x + y)
            states.append(x)
        states[-1] = net.encoder.norm(x)
        return states

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the state as it is (post-norm)."""
        q, k, _ = self.network.encoder.transformer_encoder[layer].self_attn.project(x)
        return q, k

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes of the list and their rows of the position embedding."""
        rows = self.network.pos_emb.weight.detach().cpu().numpy()
        return self.genes.names, rows[: len(self.genes)].astype(np.float32)

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of a layer's output projection."""
        return self.network.encoder.transformer_encoder[layer].self_attn.out_proj.weight


def _read_model(path: Path, key: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Merged configuration and named tensors of one of the models of the file."""
    # Mapped, so that the two other models are never read.
    found = read_torch(path, what="checkpoint", mmap=True)
    if not isinstance(found, Mapping) or key not in found:
        got = examples([str(k) for k in found]) if isinstance(found, Mapping) else type(found).__name__
        message = f"Expected the model '{key}' in {path.name}, got {got or 'an empty file'}."
        raise ModelError(f"{message} Name one that is there (?key=…), or use the published file.")
    source = f"the model '{key}' of {path.name}"
    raw = settings_of(found[key], "config", source=source)
    try:
        config = {**raw["model_config"][raw["model"]], **raw["dataset_config"]["rnaseq"], "model": raw["model"]}
        config["encoder"] = dict(config["encoder"])
    except (KeyError, TypeError, ValueError):
        message = f"Expected model_config, dataset_config and an encoder in the configuration of {source}, got others."
        raise ModelError(f"{message} Use the published file.") from None
    tensors = tensors_of(found[key], "state_dict", source=source)
    # A copy of what is used, so that the file can be let go.
    return config, {k: v if k.startswith(IGNORED) else v.clone() for k, v in tensors.items()}


def _number(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        message = f"Expected a number as '{key}' in the configuration inside {WEIGHTS}, got {value!r}."
        raise ModelError(f"{message} It cannot be inferred from the weights; use the published file.")
    return float(value)


def _check_config(config: Mapping[str, Any]) -> None:
    encoder = config["encoder"]
    odd = [f"model = {config['model']!r}"] * (config["model"] != "mae_autobin")
    odd += [f"module_type = {encoder.get('module_type')!r}"] * (encoder.get("module_type") != "transformer")
    odd += ["norm_first = true"] * bool(encoder.get("norm_first", False))
    if odd:
        message = f"Expected a post-norm transformer encoder (mae_autobin) in the configuration, got {', '.join(odd)}."
        raise ModelError(f"{message} This variant computes something else and is not supported.")


def _read_target(text: str) -> tuple[str, float]:
    """``t4`` → ``("t", 4.0)``."""
    try:
        how, number = text[:1], float(text[1:])
    except ValueError:
        how, number = "", 0.0
    if how not in ("t", "f", "a") or not math.isfinite(number) or (how == "f" and number <= 0):
        message = f"Expected tgthighres as a letter t, f or a and a number (t4, f1, a5), got '{text}'."
        raise ModelError(f"{message} The published default is t4.")
    return how, number


def load(folder: Path, *, name: str, spec: str, options: Mapping[str, Any] | None = None) -> ScFoundationAdapter:
    """Load a folder with ``models.ckpt`` and the gene list.

    Parameters
    ----------
    options
        Values of `OPTIONS`; their defaults where None.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading`.
    """
    chosen = {k: o.default for k, o in OPTIONS.items()} | dict(options or {})
    key, target = str(chosen["key"]), _read_target(str(chosen["tgthighres"]))
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"Expected weights in {folder} ({WEIGHTS}), found none. Put the published file there.")
    config, tensors = _read_model(path, key)
    _check_config(config)
    first = tensors.get("encoder.transformer_encoder.0.linear1.weight")
    positions, table = tensors.get("pos_emb.weight"), tensors.get("token_emb.emb.weight")
    if any(t is None or t.ndim != 2 for t in (first, positions, table)):
        message = (
            f"Expected scFoundation's tensors in {path.name} (pos_emb.weight, token_emb.…, encoder.…), got "
            f"{len(tensors)} tensors without them. This is another family or another format."
        )
        raise ModelError(message)
    rows, width = positions.shape
    n_layers = count_layers(tensors, "encoder.transformer_encoder.")
    source = f"the configuration of '{key}'"
    cross_check(config["encoder"], {"hidden_dim": width, "depth": n_layers}, source=source)
    cross_check(config, {"seq_len": rows - 1, "bin_num": table.shape[0]}, source=source)
    heads = head_count(config["encoder"], "heads", width=width, source=source)
    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = ScFoundationEncoder(
            rows=rows, width=width, n_layers=n_layers, heads=heads, hidden=first.shape[0], bins=table.shape[0],
            alpha=_number(config, "bin_alpha"), mask_id=_number(config, "mask_token_id"),
            pad_id=_number(config, "pad_token_id"),
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=f"{path.name}, '{key}'", family="scFoundation")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)
    genes = read_gene_list(folder, file=str(chosen["genes"]), n_genes=rows - 3)

    notes = [
        f"model '{key}' of {path.name}",
        "exact: the encoder; not offered: the decoder (a Performer, which has no softmax attention)",
        "layout and formulas are those of the published code; not checked on the published weights",
    ]
    notes += [f"tensors not used: {', '.join(sorted({k.split('.')[0] for k in ignored}))}"] if ignored else []
    notes += [] if genes.published else ["the gene list beside the weights is not the published one"]
    card = ModelCard(
        name=name, family="scfoundation", spec=spec, n_layers=n_layers, n_heads=heads, width=width,
        vocabulary_size=rows, max_length=rows - 1, n_parameters=sum(p.numel() for p in network.parameters()),
        sha256=sha256_file(path), namespace="gene symbol",
        tokenisation=f"encoder '{key}'; expressed genes in the order of the gene list, then depths T "
        f"({chosen['tgthighres']}) and S",
        normalisation="log1p of counts per 10,000 of the model's own genes", activation="relu",
        special_tokens=DEPTH_TOKENS, licence=LICENCE, notes=tuple(notes),
    )  # fmt: skip
    return ScFoundationAdapter(network, genes, card, target=target)


def detect(folder: Path) -> bool:
    """Whether the folder holds ``models.ckpt``."""
    return (folder / WEIGHTS).is_file()


FAMILY = Family(
    name="scfoundation",
    title="scFoundation",
    files=f"{WEIGHTS}, {PUBLISHED}",
    detect=detect,
    load=load,
    options=OPTIONS,
)
