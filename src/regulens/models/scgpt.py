"""How does scGPT read a cell, and what does each of its layers attend to? Layout, tokenisation, forward pass.

Sources: Cui et al. 2024, Nature Methods 21:1470 (scGPT), and the published code (``TransformerModel._encode``,
``DataCollator``, ``binning``). In short, for a cell with expressed genes g and values v::

    x      = LN(E[g]) + LN(W2 relu(W1 min(v, 512)))                     # <cls> first, with value pad_value
    layer:   x = LN(x + Attention(x));  x = LN(x + W2 relu(W1 x))       # post-norm, eps 1e-5, no final norm

Values are bins of the cell's own non-zero counts. The order of the published zero-shot path is kept: **all**
expressed genes are binned first, and only then are genes sampled down to the maximal length. There are no
positions, so the order of tokens changes nothing; regulens keeps genes in column order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from regulens.errors import ModelError
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
from regulens.models.dictionaries import check_ids, read_dictionary
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
from regulens.models.tokens import pad
from regulens.provenance import sha256_file
from regulens.rng import stream
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

#: Changes the output of a feed-forward part.
MlpEdit = Callable[[torch.Tensor], torch.Tensor]

SPECIAL = ("<pad>", "<cls>", "<eoc>")
WEIGHTS = ("model.safetensors", "best_model.safetensors", "best_model.pt", "model.pt")

#: Heads and training-only tensors that attention does not pass through.
IGNORED = (
    "decoder.",
    "mvc_decoder.",
    "cls_decoder.",
    "flag_encoder.",
    "grad_reverse_discriminator.",
    "sim.",
    "creterion_cce.",
)

#: Names under which the same fused projection has been saved: published, git head since 2026, without flash-attention.
RENAMES = (
    ("self_attn._impl.", "self_attn."),
    ("self_attn.in_proj_weight", "self_attn.Wqkv.weight"),
    ("self_attn.in_proj_bias", "self_attn.Wqkv.bias"),
)

#: Tensors of variants whose forward pass is another one, and what to say about them.
VARIANTS = {
    "dsbn.": "domain-specific batch normalisation, which needs a batch label per cell",
    "batch_encoder.": "batch labels among its inputs",
    "value_encoder.embedding.": "values embedded as categories",
}


class _GeneEncoder(nn.Module):
    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, width)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.enc_norm(self.embedding(tokens))


class _ValueEncoder(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        x = values.unsqueeze(-1).clamp(max=512)
        return self.dropout(self.norm(self.linear2(F.relu(self.linear1(x)))))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.Wqkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key, value, each ``(cell, head, position, head_width)``; rows of Wqkv are ``(three head width)``."""
        b, s, d = x.shape
        q, k, v = self.Wqkv(x).view(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def finish(self, x: torch.Tensor, heads_out: torch.Tensor, edit: MlpEdit | None = None) -> torch.Tensor:
        """Everything after attention; `heads_out` is ``(cell, head, position, head_width)``."""
        x = self.norm1(x + self.dropout(self.self_attn.out_proj(heads_out.transpose(1, 2).flatten(2))))
        read = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(read if edit is None else edit(read)))


class _Encoder(nn.Module):
    def __init__(self, n_layers: int, *sizes: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(*sizes) for _ in range(n_layers))


class _Decoder(nn.Module):
    """The published regression head for masked values (``decoder.fc``)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 1)
        )


class ScGPT(nn.Module):
    """The network; names of its parameters are those of the published state dict.

    Parameters
    ----------
    rows, width, n_layers, heads, hidden
        Vocabulary rows, embedding width, layers, heads per layer, feed-forward width.
    dropout
        Used in training mode only.
    decoder, batch_norm
        Whether the masked-value head, and the batch normalisation of older fine-tunes, are present.
    """

    def __init__(
        self, *, rows: int, width: int, n_layers: int, heads: int, hidden: int, dropout: float = 0.2,
        decoder: bool = True, batch_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = _GeneEncoder(rows, width)
        self.value_encoder = _ValueEncoder(width, dropout)
        self.transformer_encoder = _Encoder(n_layers, width, heads, hidden, dropout)
        if batch_norm:
            self.bn = nn.BatchNorm1d(width, eps=6.1e-5)
        if decoder:
            self.decoder = _Decoder(width)

    def embed(self, tokens: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Sum of gene and value embeddings, ``(cell, position, width)``."""
        x = self.encoder(tokens) + self.value_encoder(values)
        return self.bn(x.transpose(1, 2)).transpose(1, 2) if hasattr(self, "bn") else x

    def forward(self, tokens: torch.Tensor, values: torch.Tensor, key_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Differentiable pass for training, with dropout in training mode; returns the last hidden state."""
        x = self.embed(tokens, values)
        mask = None if key_mask is None else key_mask[:, None, None, :]
        for layer in self.transformer_encoder.layers:
            q, k, v = layer.self_attn.project(x)
            rate = layer.self_attn.rate if self.training else 0.0
            x = layer.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate))
        return x

    def predict(self, hidden: torch.Tensor) -> torch.Tensor:
        """Predicted bin at every position, ``(cell, position)``; needs the decoder."""
        return self.decoder.fc(hidden).squeeze(-1)


def bin_values(counts: np.ndarray, n_bins: int, uniform: np.ndarray) -> np.ndarray:
    """Bin a cell's non-zero values by their own quantiles, ties spread at random, as scGPT does.

    Parameters
    ----------
    counts
        Non-zero values of one cell, shape ``(gene,)``; monotone transforms give the same bins up to ties.
    n_bins
        Number of bins including the zero bin; ``n_bins - 1`` edges at equally spaced quantiles 0…1.
    uniform
        One number in [0, 1) per gene. A value that equals several edges gets one of their bins, each equally likely.

    Returns
    -------
    Float32 whole numbers in ``1 … n_bins - 1``, shape ``(gene,)``.

    Examples
    --------
    Four distinct values and the edges 1, 2, 3, 4 (five bins): nothing is tied, so the draws do not matter.

    >>> bin_values(np.array([4.0, 1.0, 3.0, 2.0]), 5, np.full(4, 0.5))
    array([4., 1., 3., 2.], dtype=float32)
    """
    if len(counts) == 0:
        return np.zeros(0, dtype=np.float32)
    edges = np.quantile(counts, np.linspace(0, 1, n_bins - 1))
    left = np.digitize(counts, edges)
    right = np.digitize(counts, edges, right=True)
    return np.ceil(left - uniform * (left - right)).astype(np.float32)


class ScGPTAdapter(AbstractAdapter):
    """A loaded scGPT: published zero-shot tokenisation, exact attention through the tap.

    Parameters
    ----------
    network, vocabulary, card
        As built by `load`.
    n_bins, pad_value
        From ``args.json``.
    """

    def __init__(
        self, network: ScGPT, vocabulary: dict[str, int], card: ModelCard, *, n_bins: int, pad_value: float
    ) -> None:
        self.network, self.vocabulary, self.card = network, vocabulary, card
        self.n_bins, self.pad_value = n_bins, pad_value
        network.eval()

    @property
    def module(self) -> ScGPT:
        """The network."""
        return self.network

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Ids by symbol, else ``SYMBOL_ENSG…`` (how the census vocabulary tells namesakes apart), else Ensembl id."""
        out = np.full(len(genes), -1, dtype=np.int64)
        for i, (symbol, ensembl) in enumerate(zip(genes.symbols, genes.ensembl)):
            for key in (symbol, f"{symbol}_{ensembl}", ensembl):
                if key and key in self.vocabulary and not key.startswith("<"):
                    out[i] = self.vocabulary[key]
                    break
        return out

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Tokens ``<cls> g1 g2 …`` of each cell's expressed genes, values binned, sampled down to the maximal length.

        Bins come from all expressed genes of the vocabulary; ties and samples from streams named by the cell.
        """
        known = self.gene_tokens(cells.genes)
        keep = self.card.max_length - 1
        genes, values = [], []
        for row in np.asarray(rows):
            span = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
            columns, counts = cells.counts.indices[span].astype(np.int64), cells.counts.data[span]
            expressed = (counts > 0) & (known[columns] >= 0)
            columns, counts = columns[expressed], counts[expressed]
            cell = cells.obs.index[row]
            uniform = stream(seed, f"scgpt/binning/{cell}").random(len(columns))
            bins = bin_values(counts, self.n_bins, uniform)
            if len(columns) > keep:
                chosen = np.sort(stream(seed, f"scgpt/sampling/{cell}").permutation(len(columns))[:keep])
                columns, bins = columns[chosen], bins[chosen]
            genes.append(np.concatenate([[-1], columns]))
            values.append(np.concatenate([np.float32([self.pad_value]), bins]))
        gene, mask = pad(genes, -1)
        tokens = np.where(gene >= 0, known[gene], np.where(mask, self.vocabulary["<cls>"], self.vocabulary["<pad>"]))
        value, _ = pad(values, self.pad_value)
        return TokenBatch(
            tokens=tokens, values=value.astype(np.float32), gene=gene, mask=mask, cell=np.asarray(rows, dtype=np.int64)
        )

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; hidden states after the embedding and after every layer."""
        self.network.eval()
        device = self.network.encoder.embedding.weight.device
        x = self.network.embed(
            torch.as_tensor(batch.tokens, device=device), torch.as_tensor(batch.values, device=device)
        )
        key_mask = padding_mask(batch.mask, device)
        if edits.embedding is not None:
            x = edits.embedding(x)
        states = [x]
        for index, layer in enumerate(self.network.transformer_encoder.layers):
            projected = layer.self_attn.project(x)
            out = attend_layer(index, *projected, key_mask=key_mask, kernel=kernel, tap=tap, edits=edits)
            x = layer.finish(x, out, None if edits.mlp_output is None else partial(edits.mlp_output, index))
            states.append(x)
        return states

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of the layer's ``self_attn.out_proj``."""
        return self.network.transformer_encoder.layers[layer].self_attn.out_proj.weight

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the state as it is (post-norm)."""
        q, k, _ = self.network.transformer_encoder.layers[layer].self_attn.project(x)
        return q, k

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes in id order and ``LN(E[g])``, which is what enters the first layer beside the value."""
        named = sorted((i, k) for k, i in self.vocabulary.items() if not k.startswith("<"))
        with torch.no_grad():
            rows = self.network.encoder(torch.tensor([i for i, _ in named]))
        return tuple(k for _, k in named), rows.numpy().astype(np.float32)


def _read_vocabulary(path: Path, rows: int) -> dict[str, int]:
    """Vocabulary with the special tokens that upstream appends when they are absent."""
    vocabulary = read_dictionary(path, what="vocabulary")
    for token in SPECIAL:
        if token not in vocabulary and len(vocabulary) < rows:
            vocabulary[token] = max(vocabulary.values(), default=-1) + 1
    check_ids(vocabulary, rows=rows, source=path.name)
    absent = [t for t in SPECIAL[:2] if t not in vocabulary]
    if absent or len(vocabulary) != rows:
        message = (
            f"Expected {rows:,} entries with {' and '.join(SPECIAL[:2])} in {path.name}, as the embedding has rows, "
            f"got {len(vocabulary):,}{' without ' + ', '.join(absent) if absent else ''}. "
            "Use the vocab.json that was published with these weights."
        )
        raise ModelError(message)
    return vocabulary


def _check_style(args: dict[str, Any]) -> None:
    wanted: dict[str, tuple[Any, Callable[[Any], bool]]] = {
        "input_emb_style": ("continuous", lambda v: v == "continuous"),
        "input_style": ("binned", lambda v: v == "binned"),
        "pre_norm": (False, lambda v: not v),
    }
    odd = [f"{k} = {args[k]!r} (supported: {w!r})" for k, (w, ok) in wanted.items() if k in args and not ok(args[k])]
    if odd:
        message = f"Expected the published scGPT architecture in args.json, got {'; '.join(odd)}."
        raise ModelError(message + " This variant computes something else and is not supported.")


def load(folder: Path, *, name: str, spec: str) -> ScGPTAdapter:
    """Load a published folder: ``args.json``, ``vocab.json`` and the weights.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading`.
    """
    args = read_json(folder / "args.json", what="scGPT's settings (args.json)")
    _check_style(args)
    path = find_weights(folder, WEIGHTS)
    tensors = read_tensors(path)
    renamed = []
    for old, new in RENAMES:
        renamed += [old] if any(old in k for k in tensors) else []
        tensors = {k.replace(old, new): v for k, v in tensors.items()}
    for prefix, words in VARIANTS.items():
        if any(k.startswith(prefix) for k in tensors):
            message = f"Expected the published scGPT architecture in {path.name}, got a variant with {words}"
            raise ModelError(f"{message} ({prefix}*). It is not supported; use a model without it.")

    embedding = tensors.get("encoder.embedding.weight")
    first = tensors.get("transformer_encoder.layers.0.linear1.weight")
    if embedding is None or embedding.ndim != 2 or first is None or first.ndim != 2:
        message = (
            f"Expected scGPT's tensors in {path.name} (encoder.embedding.weight, transformer_encoder.layers.0.…), got "
            f"{len(tensors)} tensors without them. This is another family or another format."
        )
        raise ModelError(message)
    rows, width = embedding.shape
    n_layers = count_layers(tensors, "transformer_encoder.layers.")
    found = {"embsize": width, "nlayers": n_layers, "d_hid": first.shape[0]}
    cross_check(args, found, source="args.json")
    heads = head_count(args, "nheads", width=width, source="args.json")
    vocabulary = _read_vocabulary(folder / "vocab.json", rows)

    decoder = tuple(getattr(tensors.get("decoder.fc.0.weight"), "shape", ())) == (width, width)
    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = ScGPT(
            rows=rows, width=width, n_layers=n_layers, heads=heads, hidden=first.shape[0],
            dropout=float(args.get("dropout", 0.2)), decoder=decoder,
            batch_norm=any(k.startswith("bn.") for k in tensors),
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=path.name, family="scGPT")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)

    training = folder / "training.json"
    record = read_json(training, what="the training record") if training.is_file() else {}
    max_length, n_bins = int(args.get("max_seq_len", 1200)), int(args.get("n_bins", 51))
    notes = [f"tensors not used: {', '.join(sorted({k.split('.')[0] for k in ignored}))}"] if ignored else []
    notes += [f"renamed on reading: {', '.join(renamed)}"] if renamed else []
    card = ModelCard(
        name=name, family="scgpt", spec=spec, n_layers=n_layers, n_heads=heads, width=width, vocabulary_size=rows,
        max_length=max_length, n_parameters=sum(p.numel() for p in network.parameters()), sha256=sha256_file(path),
        namespace="gene symbol",
        tokenisation=f"expressed genes after <cls>, sampled to {max_length:,} tokens after binning",
        normalisation=f"counts to {n_bins - 1} bins by the cell's own quantiles, ties at random",
        activation="relu", special_tokens=tuple(t for t in SPECIAL if t in vocabulary),
        demonstration=record.get("demonstration") is True, licence=str(record.get("licence", "")), notes=tuple(notes),
    )  # fmt: skip
    return ScGPTAdapter(network, vocabulary, card, n_bins=n_bins, pad_value=float(args.get("pad_value", -2)))


def detect(folder: Path) -> bool:
    """Whether the folder holds ``args.json`` and ``vocab.json``."""
    return (folder / "args.json").is_file() and (folder / "vocab.json").is_file()


FAMILY = Family(
    name="scgpt",
    title="scGPT",
    files="args.json, vocab.json, best_model.pt or model.safetensors",
    detect=detect,
    load=load,
)
