"""How does Geneformer read a cell, and what does each of its layers attend to? Layout, tokenisation, forward pass.

Sources: Theodoris et al. 2023, Nature 618:616 (V1) and the published tokeniser and BERT checkpoints (V2, 2024).
A cell is its expressed genes in descending order of ``counts / total · 10⁴ / median of the gene``; the network is
BERT (Devlin et al. 2019), post-norm, where the position of a gene is its rank::

    x      = LN(E[gene] + P[rank] + T[0])
    layer:   x = LN(x + Attention(x));  x = LN(x + W2 act(W1 x))

V1 has no special tokens, V2 puts ``<cls>`` first and ``<eos>`` last; the token dictionary decides. Genes with equal
values keep their column order (upstream's sort leaves it open). Checked against ``transformers``' BERT in eager mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import nn

from regulens.errors import ModelError, examples
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
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

#: Changes the output of a feed-forward part.
MlpEdit = Callable[[torch.Tensor], torch.Tensor]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")

#: Tensors that attention does not pass through; the masked-token head ``cls.predictions`` is kept where it is complete.
IGNORED = ("bert.pooler.", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids", "cls.", "classifier.")

#: ``hidden_act`` of config.json; a name outside this table is refused, never guessed.
ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swish": F.silu,
}

TARGET_SUM = 10_000.0


class _Block(nn.Module):
    """Children under the names that the published state dict uses (one of them is ``self``)."""

    def __init__(self, /, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class _Layer(nn.Module):
    def __init__(
        self, width: int, heads: int, hidden: int, *, eps: float, act: str, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.rate, self.act = heads, attention_dropout, ACTIVATIONS[act]
        parts = {n: nn.Linear(width, width) for n in ("query", "key", "value")}
        self.attention = _Block(
            self=_Block(**parts), output=_Block(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=eps))
        )
        self.intermediate = _Block(dense=nn.Linear(width, hidden))
        self.output = _Block(dense=nn.Linear(hidden, width), LayerNorm=nn.LayerNorm(width, eps=eps))
        self.dropout = nn.Dropout(dropout)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value, each ``(cell, head, position, head_width)``."""
        b, s, d = x.shape
        own, shape = self.attention.self, (b, s, self.heads, d // self.heads)
        q, k, v = (project(x).view(shape).transpose(1, 2) for project in (own.query, own.key, own.value))
        return q, k, v

    def finish(self, x: torch.Tensor, heads_out: torch.Tensor, edit: MlpEdit | None = None) -> torch.Tensor:
        """Everything after attention; `heads_out` is ``(cell, head, position, head_width)``."""
        out = self.attention.output
        x = out.LayerNorm(x + self.dropout(out.dense(heads_out.transpose(1, 2).flatten(2))))
        read = self.output.dense(self.act(self.intermediate.dense(x)))
        return self.output.LayerNorm(x + self.dropout(read if edit is None else edit(read)))


class Geneformer(nn.Module):
    """The network; names of its parameters are those of the published state dict.

    Parameters
    ----------
    rows, width, n_layers, heads, hidden, positions, types
        Vocabulary rows, embedding width, layers, heads per layer, feed-forward width, longest sequence, token types.
    eps, act
        LayerNorm epsilon; name of the activation (one of `ACTIVATIONS`).
    dropout, attention_dropout
        Used in training mode only.
    head, tied
        Whether the masked-token head is present; whether its output matrix is the embedding.
    """

    def __init__(
        self, *, rows: int, width: int, n_layers: int, heads: int, hidden: int, positions: int, types: int = 2,
        eps: float = 1e-12, act: str = "relu", dropout: float = 0.02, attention_dropout: float = 0.02,
        head: bool = True, tied: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.act = ACTIVATIONS[act]
        layers = nn.ModuleList(
            _Layer(width, heads, hidden, eps=eps, act=act, dropout=dropout, attention_dropout=attention_dropout)
            for _ in range(n_layers)
        )
        self.bert = _Block(
            embeddings=_Block(
                word_embeddings=nn.Embedding(rows, width),
                position_embeddings=nn.Embedding(positions, width),
                token_type_embeddings=nn.Embedding(types, width),
                LayerNorm=nn.LayerNorm(width, eps=eps),
                dropout=nn.Dropout(dropout),
            ),
            encoder=_Block(layer=layers),
        )
        if head:
            transform = _Block(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=eps))
            self.cls = _Block(predictions=_Block(transform=transform))
            self.cls.predictions.bias = nn.Parameter(torch.zeros(rows))
            if not tied:
                self.cls.predictions.decoder = nn.Linear(width, rows, bias=False)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers in order."""
        return self.bert.encoder.layer

    def embed(self, tokens: torch.Tensor, ranks: torch.Tensor | None = None) -> torch.Tensor:
        """Embedding of tokens by gene and rank (the position by default), ``(cell, position, width)``."""
        e = self.bert.embeddings
        ranks = torch.arange(tokens.shape[1], device=tokens.device) if ranks is None else ranks
        x = e.word_embeddings(tokens) + e.token_type_embeddings.weight[0] + e.position_embeddings(ranks)
        return e.dropout(e.LayerNorm(x))

    def forward(
        self, tokens: torch.Tensor, key_mask: torch.Tensor | None = None, ranks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Differentiable pass for training, with dropout in training mode; returns the last hidden state."""
        x = self.embed(tokens, ranks)
        mask = None if key_mask is None else key_mask[:, None, None, :]
        for layer in self.layers:
            q, k, v = layer.project(x)
            rate = layer.rate if self.training else 0.0
            x = layer.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate))
        return x

    def predict(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits over the vocabulary, ``(…, rows)``; needs the head."""
        p = self.cls.predictions
        x = p.transform.LayerNorm(self.act(p.transform.dense(hidden)))
        weight = p.decoder.weight if hasattr(p, "decoder") else self.bert.embeddings.word_embeddings.weight
        return F.linear(x, weight, p.bias)


class GeneformerAdapter(AbstractAdapter):
    """A loaded Geneformer: published rank-value tokenisation, exact attention through the tap.

    Parameters
    ----------
    network, card
        As built by `load`.
    vocabulary, medians
        Token id per Ensembl id and special token; non-zero median expression per Ensembl id.
    mapping
        Other identifiers (retired Ensembl ids, upper-case symbols) to the Ensembl ids of the vocabulary; may be empty.
    """

    def __init__(
        self,
        network: Geneformer,
        card: ModelCard,
        *,
        vocabulary: dict[str, int],
        medians: dict[str, float],
        mapping: dict[str, str],
    ) -> None:
        self.network, self.card = network, card
        self.vocabulary, self.medians, self.mapping = vocabulary, medians, mapping
        network.eval()

    @property
    def module(self) -> Geneformer:
        """The network."""
        return self.network

    def _name(self, symbol: str, ensembl: str) -> str:
        """Ensembl id under which the model knows a gene, or an empty string."""
        if self.mapping:
            ensembl = self.mapping.get(ensembl.upper()) or self.mapping.get(symbol.upper()) or ensembl
        return ensembl if ensembl in self.vocabulary and ensembl in self.medians else ""

    def _columns(self, genes: GeneVocabulary) -> tuple[list[str], np.ndarray]:
        """Name per column, and the column that represents it (itself, unless another one has the same name).

        Upstream sums columns that map to one identifier. The one whose own Ensembl id it is represents them.
        """
        names = [self._name(s, e) for s, e in zip(genes.symbols, genes.ensembl)]
        first: dict[str, int] = {}
        for i, name in enumerate(names):
            if name and (name not in first or genes.ensembl[i] == name):
                first[name] = i
        return names, np.array([first[n] if n else -1 for n in names], dtype=np.int64)

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Ids by Ensembl id. A column that is summed into another one has −1: the model sees it only there."""
        names, column = self._columns(genes)
        own = np.arange(len(names)) == column
        return np.array([self.vocabulary[n] if o else -1 for n, o in zip(names, own)], dtype=np.int64)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Tokens of each cell's expressed genes by descending normalised expression; `seed` is not used.

        Ties keep column order. Truncated to the longest sequence, special tokens included.
        """
        known, (_, column) = self.gene_tokens(cells.genes), self._columns(cells.genes)
        rows = np.asarray(rows, dtype=np.int64)
        used = np.flatnonzero(column >= 0)
        gather = sp.csr_matrix((np.ones(len(used)), (used, column[used])), shape=(len(known), len(known)))
        counts = sp.csr_matrix(cells.counts[rows].astype(np.float64) @ gather)
        counts.sort_indices()
        median = np.ones(len(known))
        for i in np.flatnonzero(known >= 0):
            median[i] = self.medians[self._name(cells.genes.symbols[i], cells.genes.ensembl[i])]
        special = "<cls>" in self.vocabulary
        keep = self.card.max_length - (2 if special else 0)
        tokens, genes = [], []
        for n, row in enumerate(rows):
            span = slice(counts.indptr[n], counts.indptr[n + 1])
            columns, x = counts.indices[span].astype(np.int64), counts.data[span]
            columns, x = columns[x > 0], x[x > 0]
            # The order of the operations is upstream's: a different one can break ties by rounding.
            x = x / cells.total_counts[row] * TARGET_SUM / median[columns]
            columns = columns[np.argsort(-x, kind="stable")[:keep]]
            ids = known[columns]
            if special:
                ids = np.concatenate([[self.vocabulary["<cls>"]], ids, [self.vocabulary["<eos>"]]])
                columns = np.concatenate([[-1], columns, [-1]])
            tokens.append(ids)
            genes.append(columns)
        token, mask = pad(tokens, self.vocabulary["<pad>"])
        gene, _ = pad(genes, -1)
        return TokenBatch(tokens=token, values=None, gene=gene, mask=mask, cell=rows)

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; hidden states after the embedding and after every layer."""
        self.network.eval()
        device = self.network.bert.embeddings.word_embeddings.weight.device
        x = self.network.embed(torch.as_tensor(batch.tokens, device=device))
        key_mask = padding_mask(batch.mask, device)
        if edits.embedding is not None:
            x = edits.embedding(x)
        states = [x]
        for index, layer in enumerate(self.network.layers):
            out = attend_layer(index, *layer.project(x), key_mask=key_mask, kernel=kernel, tap=tap, edits=edits)
            x = layer.finish(x, out, None if edits.mlp_output is None else partial(edits.mlp_output, index))
            states.append(x)
        return states

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of the layer's ``attention.output.dense``."""
        return self.network.layers[layer].attention.output.dense.weight

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the state as it is (post-norm)."""
        q, k, _ = self.network.layers[layer].project(x)
        return q, k

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Ensembl ids in id order and their rows of the token embedding."""
        named = sorted((i, k) for k, i in self.vocabulary.items() if not k.startswith("<"))
        rows = self.network.bert.embeddings.word_embeddings.weight.detach().cpu().numpy()
        return tuple(k for _, k in named), rows[[i for i, _ in named]].astype(np.float32)


def _places(folder: Path) -> list[Path]:
    """Where dictionaries lie: beside the weights, one folder up, or as in the published repository."""
    up = folder.resolve().parent
    return [folder, up, up / "geneformer", up / "geneformer" / "gene_dictionaries_30m"]


def _files(place: Path, stem: str) -> list[Path]:
    return sorted([*place.glob(f"{stem}*.json"), *place.glob(f"{stem}*.pkl")])


def _dictionaries(folder: Path, rows: int) -> tuple[dict[str, int], dict[str, float], dict[str, str]]:
    """Token, median and mapping dictionaries of the first place whose token dictionary has `rows` entries."""
    seen = []
    for place in _places(folder):
        for path in _files(place, "token_dictionary"):
            tokens = read_dictionary(path, what="token dictionary")
            seen.append(f"{path.name} with {len(tokens):,}")
            if len(tokens) != rows:
                continue
            check_ids(tokens, rows=rows, source=path.name)
            absent = [t for t in ("<pad>", "<mask>") if t not in tokens]
            absent += [t for t in ("<cls>", "<eos>") if t not in tokens and ("<cls>" in tokens or "<eos>" in tokens)]
            if absent:
                message = (
                    f"Expected special tokens in {path.name}, found no {', '.join(absent)}. Use the published file."
                )
                raise ModelError(message)
            suffix = path.stem.removeprefix("token_dictionary")
            found = _files(place, f"gene_median_dictionary{suffix}")
            if not found:
                message = f"Expected gene_median_dictionary{suffix}.json or .pkl beside {path.name}, found none."
                raise ModelError(f"{message} It is published together with the token dictionary.")
            medians = read_dictionary(found[0], what="median dictionary")
            bad = [k for k, v in medians.items() if isinstance(v, str) or not np.isfinite(v) or v <= 0]
            if bad:
                message = f"Expected positive medians in {found[0].name}, got others for {examples(bad)}."
                raise ModelError(f"{message} Use the published file.")
            maps = _files(place, f"ensembl_mapping_dict{suffix}")
            mapping = read_dictionary(maps[0], what="Ensembl mapping") if maps else {}
            return tokens, medians, {k.upper(): str(v) for k, v in mapping.items()}
    message = (
        f"Expected a token dictionary (token_dictionary*.json or .pkl) of {rows:,} entries, as the embedding has rows, "
        f"beside the weights or one folder up, got {'; '.join(seen) or 'none'}. "
        "V1 and V2 dictionaries are not interchangeable; put the ones published with this model there."
    )
    raise ModelError(message)


def _check_config(config: dict[str, Any]) -> str:
    act = config.get("hidden_act")
    if act not in ACTIVATIONS:
        message = f"Expected hidden_act in config.json to be one of {', '.join(ACTIVATIONS)}, got {act!r}."
        raise ModelError(
            f"{message} The activation cannot be inferred from the weights; use the published config.json."
        )
    odd = [f"position_embedding_type = {config['position_embedding_type']!r}"] * (
        config.get("position_embedding_type", "absolute") != "absolute"
    ) + ["is_decoder = true"] * bool(config.get("is_decoder", False))
    if odd:
        message = f"Expected a BERT encoder with absolute positions in config.json, got {', '.join(odd)}."
        raise ModelError(message + " This variant computes something else and is not supported.")
    return act


def load(folder: Path, *, name: str, spec: str) -> GeneformerAdapter:
    """Load a published folder: ``config.json``, the weights, token and median dictionaries.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading`.
    """
    config = read_json(folder / "config.json", what="Geneformer's configuration (config.json)")
    act = _check_config(config)
    path = find_weights(folder, WEIGHTS)
    tensors = read_tensors(path)
    if "embeddings.word_embeddings.weight" in tensors:  # saved without a head
        tensors = {f"bert.{k}": v for k, v in tensors.items()}
    if "cls.predictions.decoder.bias" in tensors:  # twin of cls.predictions.bias: some writers store both, some one
        twin = tensors.pop("cls.predictions.decoder.bias")
        tensors.setdefault("cls.predictions.bias", twin)
    words = tensors.get("bert.embeddings.word_embeddings.weight")
    ranks = tensors.get("bert.embeddings.position_embeddings.weight")
    types = tensors.get("bert.embeddings.token_type_embeddings.weight")
    first = tensors.get("bert.encoder.layer.0.intermediate.dense.weight")
    if any(t is None or t.ndim != 2 for t in (words, ranks, types, first)):
        message = (
            f"Expected Geneformer's tensors in {path.name} (bert.embeddings.…, bert.encoder.layer.0.…), got "
            f"{len(tensors)} tensors without them. This is another family or another format."
        )
        raise ModelError(message)
    rows, width = words.shape
    n_layers = count_layers(tensors, "bert.encoder.layer.")
    sizes = {
        "vocab_size": rows, "hidden_size": width, "num_hidden_layers": n_layers, "intermediate_size": first.shape[0],
        "max_position_embeddings": ranks.shape[0], "type_vocab_size": types.shape[0],
    }  # fmt: skip
    cross_check(config, sizes, source="config.json")
    heads = head_count(config, "num_attention_heads", width=width, source="config.json")
    vocabulary, medians, mapping = _dictionaries(folder, rows)

    decoder = tensors.get("cls.predictions.decoder.weight")
    tied = decoder is None or (decoder.shape == words.shape and bool(torch.equal(decoder, words)))
    if tied:
        tensors.pop("cls.predictions.decoder.weight", None)
    head = "cls.predictions.bias" in tensors and "cls.predictions.transform.dense.weight" in tensors
    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = Geneformer(
            rows=rows, width=width, n_layers=n_layers, heads=heads, hidden=first.shape[0], positions=ranks.shape[0],
            types=types.shape[0], eps=float(config.get("layer_norm_eps", 1e-12)), act=act, head=head, tied=tied,
            dropout=float(config.get("hidden_dropout_prob", 0.1)),
            attention_dropout=float(config.get("attention_probs_dropout_prob", 0.1)),
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=path.name, family="Geneformer")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)

    training = folder / "training.json"
    record = read_json(training, what="the training record") if training.is_file() else {}
    special = "<cls>" in vocabulary
    genes = [k for k in vocabulary if not k.startswith("<")]
    without = sum(k not in medians for k in genes)
    notes = [f"tensors not used: {', '.join(ignored)}"] if ignored else []
    notes += [f"{without:,} genes of the vocabulary have no median and are unknown to the model"] if without else []
    card = ModelCard(
        name=name, family="geneformer", spec=spec, n_layers=n_layers, n_heads=heads, width=width, vocabulary_size=rows,
        max_length=ranks.shape[0], n_parameters=sum(p.numel() for p in network.parameters()), sha256=sha256_file(path),
        namespace="Ensembl gene id",
        tokenisation=f"{'V2, <cls> genes <eos>' if special else 'V1, no special tokens'}; genes by descending "
        f"expression, truncated to {ranks.shape[0]:,} tokens, ties in column order",
        normalisation="counts per 10,000 divided by the gene's published non-zero median",
        activation=act, special_tokens=("<cls>", "<eos>") if special else (),
        demonstration=record.get("demonstration") is True, licence=str(record.get("licence", "")), notes=tuple(notes),
    )  # fmt: skip
    return GeneformerAdapter(network, card, vocabulary=vocabulary, medians=medians, mapping=mapping)


def detect(folder: Path) -> bool:
    """Whether the folder holds a ``config.json`` of a BERT and token dictionaries lie in one of the usual places."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    try:
        config = read_json(path, what="configuration")
    except ModelError:
        return False
    bert = config.get("model_type") == "bert" or any("Bert" in str(a) for a in config.get("architectures", []))
    return bert and any(_files(place, "token_dictionary") for place in _places(folder))


FAMILY = Family(
    name="geneformer",
    title="Geneformer",
    files="config.json, model.safetensors or pytorch_model.bin, token and median dictionaries",
    detect=detect,
    load=load,
    companions=("geneformer/*token_dictionary*.pkl", "geneformer/*median_dictionary*.pkl", "geneformer/*mapping*.pkl"),
)
