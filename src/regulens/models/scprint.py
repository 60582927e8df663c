"""How does scPRINT read a cell, and what does each of its layers attend to? Layout, tokenisation, forward pass.

Sources: Kalfon et al. 2025, Nature Communications 16:3607 (scPRINT), and the published code of version 1 (``_encoder``,
``FlashTransformer``, ``Collator``). For a cell of total count D with counts n over the chosen genes g::

    x      = E[g] + MLP(norm(n)) + PE[g]          # PE: sinusoids of the gene's place on the genome, from the file
    prefix = MLP(log2(1 + D)), C[0], C[1], …      # depth, then one token per kind of cell label
    layer:   x = x + Attention(LN(x));  x = x + W2 gelu(W1 LN(x))        # pre-norm, eps 1e-6, a last LN behind

``norm`` is n / Σn over the chosen genes or log2(1 + n): the checkpoint's settings say which, and how many heads and
key/value heads there are, and name the genes. The order of the tokens changes nothing; regulens keeps the model's.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from regulens.errors import ModelError, ParameterError, examples
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
from regulens.models.kernel import attend_layer, padding_mask
from regulens.models.loading import Family, check_tensors, count_layers, cross_check, head_count
from regulens.models.safe_pickle import read_torch, settings_of, tensors_of
from regulens.models.spec import Option
from regulens.models.tokens import pad
from regulens.provenance import sha256_file
from regulens.rng import stream
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

#: Heads and training-only tensors that attention does not pass through.
IGNORED = (
    "expr_decoder.",
    "cls_decoders.",
    "mvc_decoder.",
    "grad_reverse_discriminator_loss.",
    "bottleneck_mlps.",
)

#: Older files use the singular.
RENAMES = (("gene_encoder.embedding.weight", "gene_encoder.embeddings.weight"),)

#: Layers, width and heads of the published sizes.
PUBLISHED = {(4, 128, 2): "small", (8, 256, 4): "medium", (16, 512, 8): "large"}

#: Genes per cell in pre-training.
MAX_GENES = 2200

#: Upper end of a value before it is embedded.
MAX_VALUE = 100_000.0

#: What tells a file of scPRINT-2, or of a variant of version 1, whose forward pass is another one.
VARIANTS = {
    "cell_transformer.": "a second transformer for the cell tokens",
    "gene_encoder.0.": "gene embeddings passed through a network of their own",
    "expr_encoder.neighbors": "expression embedded together with neighbouring cells",
    "expr_encoder.self_layers.": "expression embedded together with neighbouring cells",
    "expr_encoder.embedding.": "expression embedded as categories",
}

OPTIONS = {
    "genes": Option(
        "filled",
        "filled: expressed genes, filled up with unexpressed ones to max_genes; expressed: expressed genes only",
        choices=("filled", "expressed"),
    ),
    "max_genes": Option(MAX_GENES, "most genes of a cell"),
}


class _Values(nn.Module):
    """A number per token to a vector: linear, then (LayerNorm, ReLU, dropout, linear) `layers` − 1 times."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Linear(1, width)]
        for _ in range(layers - 1):
            parts += [nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)]
        self.encoder = nn.ModuleList(parts)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        x = values.unsqueeze(-1).clamp(min=0, max=MAX_VALUE)
        for part in self.encoder:
            x = part(x)
        return x


class _Table(nn.Module):
    """Rows under the name that the published state dict uses."""

    def __init__(self, name: str, rows: int, width: int) -> None:
        super().__init__()
        self.add_module(name, nn.Embedding(rows, width))


class _Positions(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(shape))


class _Mixer(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.Wqkv = nn.Linear(width, (heads + 2 * kv_heads) * self.size)
        self.out_proj = nn.Linear(width, width)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key, value, each ``(cell, head, position, head_width)``; rows of Wqkv are ``(q heads, k, v)``.

        With fewer key/value heads than heads, each serves a run of neighbouring heads.
        """
        b, s, _ = x.shape
        parts = self.Wqkv(x).view(b, s, self.heads + 2 * self.kv_heads, self.size).transpose(1, 2)
        q, k, v = parts.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        if self.kv_heads != self.heads:
            group = self.heads // self.kv_heads
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        return q, k, v


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.mixer = _Mixer(width, heads, kv_heads)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Mlp(width, hidden)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)


class _Transformer(nn.Module):
    def __init__(self, n_layers: int, width: int, *sizes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width, *sizes) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)


class ScPrint(nn.Module):
    """The network; names of its parameters are those of the published state dict.

    Parameters
    ----------
    rows, width, n_layers, heads, kv_heads, hidden
        Genes, embedding width, layers, query heads, key/value heads, feed-forward width.
    labels
        Rows of the table of cell tokens.
    normalisation
        ``"sum"`` or ``"log"``.
    value_layers
        Linear layers of the embeddings of expression and depth.
    positions
        Shape of the table of genomic positions, or None for a model without.
    depth, metacell
        Whether a depth token, and one that tells single cells from metacells, come first.
    dropout
        Used in training mode only.
    """

    def __init__(
        self, *, rows: int, width: int, n_layers: int, heads: int, kv_heads: int, hidden: int, labels: int,
        normalisation: str = "sum", value_layers: int = 2, positions: tuple[int, ...] | None = None,
        depth: bool = True, metacell: bool = False, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalisation, self.labels, self.rows = normalisation, labels, rows
        self.gene_encoder = _Table("embeddings", rows, width)
        self.expr_encoder = _Values(width, value_layers, dropout)
        if positions is not None:
            self.pos_encoder = _Positions(positions)
        self.class_encoder = _Table("embedding", labels, width)
        if depth:
            self.depth_encoder = _Values(width, value_layers, dropout)
        if metacell:
            self.metacell_encoder = _Table("embedding", 2, width)
        self.transformer = _Transformer(n_layers, width, heads, kv_heads, hidden)
        self.prefix = labels + depth + metacell

    def embed(self, tokens: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """What enters the first layer, ``(cell, position, width)``.

        Parameters
        ----------
        tokens
            ``(cell, position)``: `prefix` special tokens, then rows of the gene table.
        values
            Same shape: the cell's total count at position 0 where there is a depth token, counts at genes, else 0.
        """
        genes, counts = tokens[:, self.prefix :], values[:, self.prefix :]
        x = self.gene_encoder.embeddings(genes)
        if self.normalisation == "sum":
            shown = counts / counts.sum(1, keepdim=True).clamp(min=1)  # whole counts: 1 only where there are none
        else:
            shown = torch.log2(1 + counts)
        x = x + self.expr_encoder(shown)
        if hasattr(self, "pos_encoder"):
            x = x + self.pos_encoder.pe.view(self.rows, -1)[genes]
        front = [self.class_encoder.embedding.weight.expand(len(tokens), -1, -1)]
        if hasattr(self, "metacell_encoder"):
            front.insert(0, self.metacell_encoder.embedding.weight[:1].expand(len(tokens), -1, -1))  # row 0: one cell
        if hasattr(self, "depth_encoder"):
            front.insert(0, self.depth_encoder(torch.log2(1 + values[:, :1])))
        return torch.cat([*front, x], dim=1)


class ScPrintAdapter(AbstractAdapter):
    """A loaded scPRINT: published tokenisation, exact attention through the tap.

    Parameters
    ----------
    network, genes, card
        As built by `load`; `genes` are Ensembl ids in the order of the embedding.
    max_genes
        Most genes of a cell.
    fill
        Whether a cell with fewer expressed genes is filled up with unexpressed ones.
    """

    def __init__(
        self, network: ScPrint, genes: tuple[str, ...], card: ModelCard, *, max_genes: int = MAX_GENES,
        fill: bool = True,
    ) -> None:  # fmt: skip
        self.network, self.genes, self.card = network, genes, card
        self.max_genes, self.fill = max_genes, fill
        self.fixed_length, self.one_token_per_gene = (
            fill,
            not fill,
        )  # how many filling genes the cells do not have varies
        self.given: np.ndarray | None = None
        self._row = {g: i for i, g in enumerate(genes)}
        self._species = np.array([species_of(g) for g in genes])
        network.eval()

    @property
    def module(self) -> ScPrint:
        """The network."""
        return self.network

    def with_genes(self, ensembl: Sequence[str]) -> ScPrintAdapter:
        """Read exactly these genes in every cell, expressed or not, as upstream does with a list of variable genes.

        Parameters
        ----------
        ensembl
            Ensembl ids; the result shares the network with this adapter.

        Raises
        ------
        ParameterError
            When an id is unknown to the model or repeated.
        """
        unknown = [g for g in ensembl if g not in self._row]
        if unknown or len(set(ensembl)) != len(ensembl) or not len(ensembl):
            found = f"{len(unknown)} unknown ({examples(unknown)})" if unknown else f"{len(ensembl)} ids with repeats"
            message = (
                f"Expected unique Ensembl ids of scPRINT's {len(self.genes):,} genes, got {found}. Leave them out."
            )
            raise ParameterError(message)
        other = copy.copy(self)
        other.fixed_length, other.one_token_per_gene = True, False
        other.card = replace(
            self.card,
            max_length=len(ensembl) + self.network.prefix,
            tokenisation=f"{self.network.prefix} depth and cell tokens, {len(ensembl):,} given genes in every cell",
        )
        other.given = np.sort(np.array([self._row[g] for g in ensembl], dtype=np.int64))
        return other

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Rows of the gene table by Ensembl id."""
        return np.array([self._row.get(e, -1) if e else -1 for e in genes.ensembl], dtype=np.int64)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Depth and label tokens, then genes in the model's order.

        More expressed genes than `max_genes` are sampled down, fewer are filled up with unexpressed genes of the same
        species, both from a stream named by the cell. A filling gene that the cells do not have is in no pair.
        """
        known = self.gene_tokens(cells.genes)
        column = np.full(len(self.genes), -1, dtype=np.int64)
        column[known[known >= 0]] = np.flatnonzero(known >= 0)
        pool = np.flatnonzero(np.isin(self._species, np.unique(self._species[column >= 0])))
        prefix = self.network.prefix
        special = np.arange(len(self.genes), len(self.genes) + prefix)
        tokens, values = [], []
        for row in np.asarray(rows):
            span = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
            gene, count = known[cells.counts.indices[span]], cells.counts.data[span]
            keep = (gene >= 0) & (count > 0)
            full = np.zeros(len(self.genes), dtype=np.float32)
            full[gene[keep]] = count[keep]
            chosen = self._choose(full, pool, stream(seed, f"scprint/genes/{cells.obs.index[row]}"))
            front = np.zeros(prefix, dtype=np.float32)
            front[:1] = cells.total_counts[row]
            tokens.append(np.concatenate([special, chosen]))
            values.append(np.concatenate([front, full[chosen]]))
        token, mask = pad(tokens, 0)
        value, _ = pad(values, 0.0)
        own = mask.copy()
        own[:, :prefix] = False
        gene = np.where(own, column[np.where(own, token, 0)], -1)
        return TokenBatch(
            tokens=token, values=value.astype(np.float32), gene=gene, mask=mask, cell=np.asarray(rows, dtype=np.int64)
        )

    def _choose(self, counts: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows of the gene table that a cell is read by, ascending; `counts` is over the whole table."""
        if self.given is not None:
            return self.given
        expressed = np.flatnonzero(counts)
        if len(expressed) > self.max_genes:
            return np.sort(rng.permutation(expressed)[: self.max_genes])
        if not self.fill:
            return expressed
        silent = pool[counts[pool] == 0]
        extra = rng.permutation(silent)[: self.max_genes - len(expressed)]
        return np.sort(np.concatenate([expressed, extra]))

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; hidden states after the embedding and after every layer, the last behind its norm."""
        self.network.eval()
        device = self.network.gene_encoder.embeddings.weight.device
        x = self.network.embed(
            torch.as_tensor(batch.tokens, device=device), torch.as_tensor(batch.values, device=device)
        )
        if edits.embedding is not None:
            x = edits.embedding(x)
        key_mask = padding_mask(batch.mask, device)
        states = [x]
        for index, block in enumerate(self.network.transformer.blocks):
            q, k, v = block.mixer.project(block.norm1(x))
            out = attend_layer(index, q, k, v, key_mask=key_mask, kernel=kernel, tap=tap, edits=edits)
            x = x + block.mixer.out_proj(out.transpose(1, 2).flatten(2))
            read = block.mlp(block.norm2(x))
            x = x + (read if edits.mlp_output is None else edits.mlp_output(index, read))
            states.append(x)
        states[-1] = self.network.transformer.norm(x)
        return states

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of ``out_proj``, shape ``(width, width)``."""
        return self.network.transformer.blocks[layer].mixer.out_proj.weight.detach()

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the normalised state (``norm1``)."""
        block = self.network.transformer.blocks[layer]
        q, k, _ = block.mixer.project(block.norm1(x))
        return q, k

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes in the model's order and their rows of the gene table, without position and expression."""
        return self.genes, self.network.gene_encoder.embeddings.weight.detach().cpu().numpy().astype(np.float32)


def species_of(ensembl: str) -> str:
    """Letters in front of the number of an Ensembl id, which tell the species.

    >>> species_of("ENSG00000102145"), species_of("ENSMUSG00000000001")
    ('ENSG', 'ENSMUSG')
    """
    return re.match(r"[A-Za-z]*", ensembl).group()


def _checkpoint(folder: Path) -> Path:
    found = sorted(folder.glob("*.ckpt"))
    if len(found) != 1:
        names = f"{len(found)} ({examples([p.name for p in found])})" if found else "none"
        message = f"Expected one scPRINT checkpoint (*.ckpt) in {folder}, found {names}. Put one file into a folder."
        raise ModelError(message)
    return found[0]


def _check_variant(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse what is computed otherwise: scPRINT-2 and variants of version 1."""
    odd = [words for prefix, words in VARIANTS.items() if any(k.startswith(prefix) for k in tensors)]
    odd += ["genes listed per organism"] if isinstance(settings.get("genes"), Mapping) else []
    odd += ["cross-attention between genes and cell tokens"] if any(".mixer.Wkv." in k for k in tensors) else []
    if odd:
        message = (
            f"Expected scPRINT version 1 in {source}, got scPRINT-2 or a variant ({'; '.join(dict.fromkeys(odd))}). "
            "Its attention cannot be given exactly here: it reads neighbouring cells, its cell tokens take another "
            "path, and some of its layers are no softmax. Use small-v1, medium-v1.5 or large-v1."
        )
        raise ModelError(message)
    wanted = {
        "attn_bias": ("none", None), "expr_emb_style": ("continuous",), "transformer": ("flash", "normal"),
        "prenorm": (True,), "normalization": ("sum", "log"), "cell_specific_blocks": (False,),
        "domain_spec_batchnorm": ("None", "none", None),
    }  # fmt: skip
    wrong = [
        f"{k} = {settings[k]!r} (supported: {' or '.join(map(str, ok))})"
        for k, ok in wanted.items()
        if k in settings and settings[k] not in ok
    ]
    if wrong:
        message = f"Expected the published architecture in the settings of {source}, got {'; '.join(wrong)}."
        raise ModelError(f"{message} This variant computes something else and is not supported.")


def _read_genes(settings: Mapping[str, Any], rows: int, source: str) -> tuple[str, ...]:
    genes = settings.get("genes")
    if not isinstance(genes, list) or not all(isinstance(g, str) for g in genes) or len(set(genes)) != len(genes):
        message = (
            f"Expected the genes as a list of unique Ensembl ids under 'genes' in the settings of {source}, got "
            f"{type(genes).__name__}{' with repeats' if isinstance(genes, list) else ''}. Use the published checkpoint."
        )
        raise ModelError(message)
    if len(genes) != rows:
        message = (
            f"Expected one gene per row of the embedding in {source}, got {len(genes):,} genes and {rows:,} rows. "
            "Settings and weights do not belong together; use the published checkpoint."
        )
        raise ModelError(message)
    return tuple(genes)


def load(folder: Path, *, name: str, spec: str, options: Mapping[str, Any] | None = None) -> ScPrintAdapter:
    """Load a folder with one published Lightning checkpoint.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading` and `regulens.models.safe_pickle`.
    """
    chosen = {key: option.default for key, option in OPTIONS.items()} | dict(options or {})
    if chosen["max_genes"] < 1:
        message = f"Expected max_genes >= 1 for scPRINT, got {chosen['max_genes']}. Published: {MAX_GENES}."
        raise ModelError(message)
    path = _checkpoint(folder)
    checkpoint = read_torch(path, what="checkpoint")
    tensors = tensors_of(checkpoint, "state_dict", source=path.name)
    settings = settings_of(checkpoint, "hyper_parameters", source=path.name)
    del checkpoint
    for old, new in RENAMES:
        tensors = {new if k == old else k: v for k, v in tensors.items()}
    _check_variant(settings, tensors, path.name)

    embedding, first = (
        tensors.get(k) for k in ("gene_encoder.embeddings.weight", "transformer.blocks.0.mlp.fc1.weight")
    )
    labels = tensors.get("class_encoder.embedding.weight")
    if any(t is None or t.ndim != 2 for t in (embedding, first, labels)):
        message = (
            f"Expected scPRINT's tensors in {path.name} (gene_encoder.embeddings.weight, class_encoder.embedding."
            f"weight, transformer.blocks.0.…), got {len(tensors)} tensors without them. This is another family."
        )
        raise ModelError(message)
    rows, width = embedding.shape
    n_layers = count_layers(tensors, "transformer.blocks.")
    cross_check(settings, {"d_model": width, "nlayers": n_layers}, source=f"the settings of {path.name}")
    heads = head_count(settings, "nhead", width=width, source=f"the settings of {path.name}")
    kv_heads = settings.get("num_heads_kv") or heads
    if not isinstance(kv_heads, int) or heads % kv_heads:
        message = f"Expected num_heads_kv to divide nhead = {heads} in the settings of {path.name}, got {kv_heads!r}."
        raise ModelError(f"{message} Use the published checkpoint.")
    genes = _read_genes(settings, rows, path.name)

    table = tensors.get("pos_encoder.pe")
    positions = (rows, 1, width) if settings.get("gene_pos_enc") or table is not None else None
    if table is not None and table.ndim == 2:
        positions = (rows, width)
    steps = [int(k.split(".")[2]) for k in tensors if k.startswith("expr_encoder.encoder.")]
    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = ScPrint(
            rows=rows, width=width, n_layers=n_layers, heads=heads, kv_heads=kv_heads, hidden=first.shape[0],
            labels=len(labels), normalisation=settings.get("normalization", "sum"),
            value_layers=1 + max(steps, default=4) // 4, positions=positions,
            depth=bool(settings.get("depth_atinput", True)), metacell=bool(settings.get("use_metacell_token", False)),
            dropout=float(settings.get("dropout", 0.1)),
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=path.name, family="scPRINT")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)

    fill, most = chosen["genes"] == "filled", min(chosen["max_genes"], rows)
    size = PUBLISHED.get((n_layers, width, heads))
    notes = [f"layers, width and heads of the published {size} model"] if size else []
    notes += [f"tensors not used: {', '.join(sorted({k.split('.')[0] for k in ignored}))}"] if ignored else []
    notes += [
        "exact: attention per layer, head and cell (upstream's networks: averaged queries and keys)",
        "not checked on published weights",
    ]
    front = [*["<depth>"] * hasattr(network, "depth_encoder"), *["<metacell>"] * hasattr(network, "metacell_encoder")]
    front += [f"<cell {i}>" for i in range(len(labels))]
    card = ModelCard(
        name=name, family="scprint", spec=spec, n_layers=n_layers, n_heads=heads, width=width, vocabulary_size=rows,
        max_length=most + network.prefix, n_parameters=sum(p.numel() for p in network.parameters()),
        sha256=sha256_file(path), namespace="Ensembl gene id",
        tokenisation=f"{network.prefix} depth and cell tokens, at most {most:,} expressed genes, sampled beyond that"
        + (", filled up with unexpressed genes at random" if fill else ""),
        normalisation="share of the chosen genes' counts" if network.normalisation == "sum" else "log2(1 + count)",
        activation="gelu", special_tokens=tuple(front), licence="MIT", notes=tuple(notes),
    )  # fmt: skip
    return ScPrintAdapter(network, genes, card, max_genes=most, fill=fill)


def detect(folder: Path) -> bool:
    """Whether the folder holds a Lightning checkpoint (``models.ckpt`` is how scFoundation calls its own)."""
    return any(path.name != "models.ckpt" for path in folder.glob("*.ckpt"))


FAMILY = Family(
    name="scprint",
    title="scPRINT",
    files="one *.ckpt (small-v1, medium-v1.5 or large-v1)",
    detect=detect,
    load=load,
    options=OPTIONS,
)
