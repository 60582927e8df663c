"""How does UCE read a cell, and what does each of its layers attend to? Layout, tokenisation, forward pass.

Sources: Rosen et al. 2023, bioRxiv 2023.11.28.568918 (UCE), and the published code (``sample_cell_sentences``,
``TransformerModel``). A cell is a sentence of genes **drawn with replacement**, each with probability
log(1 + count) / Σ log(1 + count); genes that express much come several times::

    sentence = <cls> [<chromosome> gene gene … <end>] [<chromosome> …] …    # chromosomes shuffled, genes by start
    x        = LN(gelu(W p̂ + b)) √width + PE[position]                      # p̂: protein embedding of unit length
    layer:     x = LN(x + Attention(x));  x = LN(x + W2 relu(W1 x))         # post-norm, eps 1e-5, no final norm

Padding: upstream hands its padding mask over as numbers, which torch adds to the logits, so that a padded key gets
+1 instead of being left out. ``mode=corrected`` leaves it out, which equals upstream on a cell run alone;
``mode=upstream`` adds the +1, with every sentence padded to one length so that a cell's numbers do not depend on its
company (upstream pads to the longest sentence of a batch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from regulens.errors import ModelError, ParameterError, examples
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
from regulens.models.dictionaries import read_dictionary
from regulens.models.kernel import attend_layer, padding_mask, wide_type
from regulens.models.loading import (
    Family,
    check_tensors,
    count_layers,
    cross_check,
    head_count,
    read_json,
    read_tensors,
)
from regulens.models.safe_pickle import read_torch
from regulens.models.spec import Option
from regulens.models.tokens import pad
from regulens.provenance import sha256_file
from regulens.rng import stream
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

Mode = Literal["corrected", "upstream"]

#: Rows of the token table with a role of their own; the row of chromosome c is `chromosome_offset` + c.
PAD, OPEN, CLOSE, CLS, FIRST_GENE = 0, 1, 2, 3, 4

#: What no tensor shape reveals, as the published code hard-codes it for tables of 5,120 and a width of 1,280.
PUBLISHED = {"nhead": 20, "sample_size": 1024, "chromosome_offset": 143_574}
PUBLISHED_SHAPE = (5120, 1280)

#: Files of protein embeddings by species.
PROTEINS = {
    "human": "Homo_sapiens.GRCh38",
    "mouse": "Mus_musculus.GRCm39",
    "frog": "Xenopus_tropicalis.Xenopus_tropicalis_v9.1",
    "zebrafish": "Danio_rerio.GRCz11",
    "mouse_lemur": "Microcebus_murinus.Mmur_3.0",
    "pig": "Sus_scrofa.Sscrofa11.1",
    "macaca_fascicularis": "Macaca_fascicularis.Macaca_fascicularis_6.0",
    "macaca_mulatta": "Macaca_mulatta.Mmul_10",
}

#: Other ``.torch`` files of the published folder.
TOKEN_FILE = "all_tokens.torch"

#: Heads that attention does not pass through.
IGNORED = ("decoder.", "binary_decoder.", "gene_embedding_layer.")

OPTIONS = {
    "mode": Option(
        "corrected", "padding: left out, or as upstream +1 on its logits", choices=("corrected", "upstream")
    ),
    "species": Option("human", "whose genes the cells have", choices=tuple(PROTEINS)),
    "draw": Option(0, "which of the random sentences of a cell; average several"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UceGenes:
    """Genes of one species as UCE knows them; all arrays of shape ``(gene,)``.

    Parameters
    ----------
    names
        Upper-case symbols.
    token
        Int64, row of the token table.
    chromosome
        Int64, code of the chromosome among those of all species.
    start
        Int64, first base.
    """

    names: tuple[str, ...]
    token: np.ndarray
    chromosome: np.ndarray
    start: np.ndarray


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key, value, each ``(cell, head, position, head_width)``; rows are ``(three head width)``."""
        b, s, d = x.shape
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(b, s, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return q, k, v


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)


class _Layers(nn.Module):
    def __init__(self, n_layers: int, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(*sizes) for _ in range(n_layers))


class _Positions(nn.Module):
    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(length, 1, width))


class Uce(nn.Module):
    """The network; names of its parameters are those of the published state dict.

    Parameters
    ----------
    rows, protein_width
        Shape of the token table (protein embeddings, chromosomes and special tokens).
    width, n_layers, heads, hidden
        Embedding width, layers, heads per layer, feed-forward width.
    length
        Longest sentence.
    """

    def __init__(
        self, *, rows: int, protein_width: int, width: int, n_layers: int, heads: int, hidden: int, length: int
    ) -> None:
        super().__init__()
        self.pe_embedding = nn.Embedding(rows, protein_width)
        self.encoder = nn.Sequential(nn.Linear(protein_width, width), nn.GELU(), nn.LayerNorm(width))
        self.pos_encoder = _Positions(length, width)
        self.transformer_encoder = _Layers(n_layers, width, heads, hidden)

    def embed_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens without their place in the sentence, shape of `tokens` with the width behind."""
        # At least in float32, also in a pass in half precision, where the row of the padding, all zeros, would be 0/0.
        rows = self.pe_embedding(tokens)
        unit = F.normalize(rows.to(wide_type(rows)), dim=-1)
        encoded = self.encoder(unit)
        return encoded * math.sqrt(encoded.shape[-1])

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """What enters the first layer, ``(cell, position, width)``."""
        return self.embed_tokens(tokens) + self.pos_encoder.pe[: tokens.shape[1], 0]


def sample_sentence(
    counts: np.ndarray, chromosome: np.ndarray, start: np.ndarray, *, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a cell's sentence as UCE does.

    Parameters
    ----------
    counts, chromosome, start
        Shape ``(gene,)``: the cell's expressed genes, all counts positive.
    size
        Genes drawn, with replacement.
    rng
        Stream of this cell.

    Returns
    -------
    gene
        Int64, shape ``(position,)``: index of the drawn gene, −1 at special tokens.
    special
        Same shape: −1 at genes, `CLS`, `CLOSE`, or −2 − c where the block of chromosome c opens.

    Examples
    --------
    >>> drawn = sample_sentence(np.array([9]), np.array([4]), np.array([50]), size=2, rng=np.random.default_rng(0))
    >>> drawn[0].tolist(), drawn[1].tolist()
    ([-1, -1, 0, 0, -1], [3, -6, -1, -1, 2])
    """
    weight = np.log1p(counts.astype(np.float64))
    drawn = rng.choice(len(counts), size=size, replace=True, p=weight / weight.sum())
    genes, specials = [np.array([-1])], [np.array([CLS])]
    for c in rng.permutation(np.unique(chromosome[drawn])):
        block = drawn[chromosome[drawn] == c]
        block = block[np.argsort(start[block], kind="stable")]
        genes += [np.array([-1]), block, np.array([-1])]
        specials += [np.array([-2 - c]), np.full(len(block), -1), np.array([CLOSE])]
    return np.concatenate(genes), np.concatenate(specials)


class UceAdapter(AbstractAdapter):
    """A loaded UCE: published sentences, exact attention through the tap. Genes repeat within a sentence.

    Parameters
    ----------
    network, genes, card
        As built by `load`.
    sample_size, chromosome_offset
        Genes per sentence; row of the first chromosome in the token table.
    mode
        What becomes of padding, see the module.
    draw
        Number of the random sentence; another one gives other sentences for the same seed.
    """

    one_token_per_gene = False
    fixed_length = True

    def __init__(
        self, network: Uce, genes: UceGenes, card: ModelCard, *, sample_size: int, chromosome_offset: int,
        mode: Mode = "corrected", draw: int = 0,
    ) -> None:  # fmt: skip
        self.network, self.genes, self.card = network, genes, card
        self.sample_size, self.chromosome_offset = sample_size, chromosome_offset
        self.mode, self.draw = mode, draw
        self._index = {name: i for i, name in enumerate(genes.names)}
        network.eval()

    @property
    def module(self) -> Uce:
        """The network."""
        return self.network

    def _known(self, genes: GeneVocabulary) -> np.ndarray:
        """Index into the model's genes by upper-case symbol, −1 where unknown; a second match is left out."""
        index = np.array([self._index.get(s.upper(), -1) for s in genes.symbols], dtype=np.int64)
        first = np.zeros(len(index), dtype=bool)
        first[np.unique(index, return_index=True)[1]] = True
        return np.where(first, index, -1)

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Rows of the token table by upper-case symbol."""
        index = self._known(genes)
        return np.where(index >= 0, self.genes.token[index], -1)

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """One random sentence per cell, from a stream named by the cell.

        Raises
        ------
        ModelError
            When a sentence is longer than the model's positions.
        ParameterError
            When a cell expresses no gene that the model knows.
        """
        known = self._known(cells.genes)
        tokens, genes = [], []
        for row in np.asarray(rows):
            cell = cells.obs.index[row]
            span = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
            column, count = cells.counts.indices[span].astype(np.int64), cells.counts.data[span]
            keep = (count > 0) & (known[column] >= 0)
            column, count = column[keep], count[keep]
            if not len(column):
                message = f"Expected cells with genes that UCE knows, got none in cell '{cell}'. Leave this cell out."
                raise ParameterError(message)
            own = known[column]
            drawn, special = sample_sentence(
                count, self.genes.chromosome[own], self.genes.start[own], size=self.sample_size,
                rng=stream(seed, f"uce/sentence/{self.draw}/{cell}"),
            )  # fmt: skip
            opening = self.chromosome_offset - 2 - special
            tokens.append(np.where(drawn >= 0, self.genes.token[own][drawn], np.where(special < -1, opening, special)))
            genes.append(np.where(drawn >= 0, column[drawn], -1))
        token, mask = pad(tokens, PAD)
        gene, _ = pad(genes, -1)
        if self.mode == "upstream":
            wide = self._longest(known) - token.shape[1]
            token, gene, mask = (
                np.pad(a, ((0, 0), (0, wide)), constant_values=v) for a, v in ((token, PAD), (gene, -1), (mask, False))
            )
        if token.shape[1] > len(self.network.pos_encoder.pe):
            message = (
                f"Expected sentences of at most {len(self.network.pos_encoder.pe):,} tokens, got {token.shape[1]:,}: "
                "genes of these cells lie on too many chromosomes and scaffolds. Leave out genes on scaffolds."
            )
            raise ModelError(message)
        return TokenBatch(tokens=token, values=None, gene=gene, mask=mask, cell=np.asarray(rows, dtype=np.int64))

    def _longest(self, known: np.ndarray) -> int:
        """Length of a sentence that touches every chromosome that genes of these cells lie on."""
        chromosomes = len(np.unique(self.genes.chromosome[known[known >= 0]]))
        return 1 + self.sample_size + 2 * min(chromosomes, self.sample_size)

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; hidden states after the embedding and after every layer."""
        self.network.eval()
        device = self.network.pe_embedding.weight.device
        x = self.network.embed(torch.as_tensor(batch.tokens, device=device))
        if edits.embedding is not None:
            x = edits.embedding(x)
        key_mask, key_bias = padding_mask(batch.mask, device), None
        if self.mode == "upstream" and key_mask is not None:
            key_mask, key_bias = None, (~key_mask).to(x.dtype)
        states = [x]
        for index, layer in enumerate(self.network.transformer_encoder.layers):
            q, k, v = layer.self_attn.project(x)
            out = attend_layer(
                index, q, k, v, key_mask=key_mask, key_bias=key_bias, kernel=kernel, tap=tap, edits=edits
            )
            x = layer.norm1(x + layer.self_attn.out_proj(out.transpose(1, 2).flatten(2)))
            read = layer.linear2(F.relu(layer.linear1(x)))
            x = layer.norm2(x + (read if edits.mlp_output is None else edits.mlp_output(index, read)))
            states.append(x)
        return states

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of ``out_proj``, shape ``(width, width)``."""
        return self.network.transformer_encoder.layers[layer].self_attn.out_proj.weight.detach()

    def query_key(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key of the state as it is (post-norm)."""
        q, k, _ = self.network.transformer_encoder.layers[layer].self_attn.project(x)
        return q, k

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes of the species and what enters the first layer for them, without the place in the sentence."""
        with torch.no_grad():
            rows = self.network.embed_tokens(
                torch.as_tensor(self.genes.token, device=self.network.pe_embedding.weight.device)
            )
        return self.genes.names, rows.cpu().numpy().astype(np.float32)


def _weights(folder: Path) -> Path | None:
    found = [p for p in sorted(folder.glob("*.torch")) if p.name != TOKEN_FILE]
    return found[0] if len(found) == 1 else None


def _read_genes(
    folder: Path, species: str, table: torch.Tensor, *, chromosome_offset: int
) -> tuple[UceGenes, list[str]]:
    """Genes of a species with a protein embedding and a place on a chromosome, and notes."""
    name = f"{PROTEINS[species]}.gene_symbol_to_embedding_ESM2.pt"
    path = next((p for p in (folder / "protein_embeddings" / name, folder / name) if p.is_file()), None)
    if path is None:
        message = (
            f"Expected UCE's protein embeddings of {species} at {folder / 'protein_embeddings' / name}, found none: "
            "their order is the order of the tokens. Unpack the published protein_embeddings.tar.gz into the folder."
        )
        raise ModelError(message)
    proteins = read_torch(path, what="table of protein embeddings", mmap=True)
    if not isinstance(proteins, dict) or not all(isinstance(v, torch.Tensor) for v in proteins.values()):
        message = f"Expected {path.name} to map gene symbols to protein embeddings, got {type(proteins).__name__}."
        raise ModelError(message + " Use the published file.")
    by_name = {str(k).upper(): v for k, v in proteins.items()}
    offsets = read_dictionary(folder / "species_offsets.pkl", what="table of species offsets")
    offset = offsets.get(species)
    last = len(table) if not isinstance(offset, int) else offset + len(by_name)
    if not isinstance(offset, int) or offset < FIRST_GENE or last > min(len(table), chromosome_offset):
        message = (
            f"Expected the genes of {species} within rows {FIRST_GENE} to {chromosome_offset:,} of the token table "
            f"({len(table):,} rows), got offset {offset!r} and {len(by_name):,} genes. Files of different "
            "releases were mixed; use those published together."
        )
        raise ModelError(message)
    names = list(by_name)
    for i in np.unique(np.linspace(0, len(names) - 1, 64).astype(int)):
        if not torch.equal(by_name[names[i]].float(), table[offset + i]):
            message = (
                f"Expected row {offset + i:,} of the token table to be the protein embedding of {names[i]} in "
                f"{path.name}, got another one. Files of different releases were mixed; use those published together."
            )
            raise ModelError(message)
    places, notes = _read_places(folder / "species_chrom.csv", species)
    kept = [i for i, n in enumerate(names) if n in places.index]
    places = places.loc[[names[i] for i in kept]]
    code = places["code"].to_numpy(dtype=np.int64)
    if not kept or chromosome_offset + code.max() >= len(table):
        message = (
            f"Expected a token for every chromosome that {species} genes of species_chrom.csv lie on, got "
            f"{len(kept):,} placed genes and {len(table):,} rows from {chromosome_offset:,} on. Use the files "
            "published together with the weights."
        )
        raise ModelError(message)
    if len(kept) < len(names):
        notes.append(f"{len(names) - len(kept):,} of {len(names):,} genes without a chromosome left out")
    genes = UceGenes(
        names=tuple(names[i] for i in kept), token=offset + np.array(kept, dtype=np.int64), chromosome=code,
        start=places["start"].to_numpy(dtype=np.int64),
    )  # fmt: skip
    return genes, notes


def _read_places(path: Path, species: str) -> tuple[pd.DataFrame, list[str]]:
    """Chromosome code and start of a species' genes by symbol; codes number the chromosomes of all species by name."""
    wanted = ["species", "gene_symbol", "chromosome", "start"]
    try:
        frame = pd.read_csv(path, usecols=wanted, dtype=dict.fromkeys(wanted[:3], str))
    except FileNotFoundError:
        message = f"Expected UCE's table of chromosomes at {path}, found no such file. Put it beside the weights."
        raise ModelError(message) from None
    except (ValueError, UnicodeDecodeError) as error:  # absent columns, text for numbers, no table at all
        message = (
            f"Expected a table with columns {', '.join(wanted)} at {path.name}, got another ({error}). Replace it."
        )
        raise ModelError(message) from None
    frame["code"] = pd.Categorical(frame["species"] + "_" + frame["chromosome"]).codes
    own = frame[(frame["species"] == species) & (frame["code"] >= 0) & frame["start"].notna()]
    twice = int(own["gene_symbol"].duplicated().sum())
    notes = [f"{twice:,} genes have several places; the first one listed is used"] if twice else []
    return own.drop_duplicates("gene_symbol").set_index("gene_symbol")[["code", "start"]], notes


def load(folder: Path, *, name: str, spec: str, options: Mapping[str, Any] | None = None) -> UceAdapter:
    """Load the published folder: weights, protein embeddings, chromosomes, species offsets.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading`.
    """
    chosen = {key: option.default for key, option in OPTIONS.items()} | dict(options or {})
    path = _weights(folder)
    if path is None:
        found = [p.name for p in sorted(folder.glob("*.torch"))]
        message = (
            f"Expected one UCE weights file (4layer_model.torch or 33l_8ep_1024t_1280.torch) in {folder}, got "
            f"{examples(found) or 'none'}. Put one of them into a folder of its own."
        )
        raise ModelError(message)
    tensors = read_tensors(path)
    if "pe_embedding.weight" not in tensors and (folder / TOKEN_FILE).is_file():
        table = read_torch(folder / TOKEN_FILE, what="table of tokens")
        tensors |= {"pe_embedding.weight": table.float()} if isinstance(table, torch.Tensor) else {}
    first = tensors.get("transformer_encoder.layers.0.linear1.weight")
    table, encoder, positions = (tensors.get(k) for k in ("pe_embedding.weight", "encoder.0.weight", "pos_encoder.pe"))
    if any(t is None or t.ndim < 2 for t in (first, table, encoder, positions)):
        message = (
            f"Expected UCE's tensors in {path.name} (pe_embedding.weight, encoder.0.weight, pos_encoder.pe, "
            f"transformer_encoder.layers.0.…), got {len(tensors)} tensors without them. This is another family."
        )
        raise ModelError(message)
    width, protein_width = encoder.shape
    n_layers = count_layers(tensors, "transformer_encoder.layers.")
    beside = folder / "uce.json"
    settings = dict(PUBLISHED) if (protein_width, width) == PUBLISHED_SHAPE else {}
    settings |= read_json(beside, what="UCE's settings (uce.json)") if beside.is_file() else {}
    cross_check(settings, {"nlayers": n_layers, "d_hid": first.shape[0]}, source="uce.json")
    source = "uce.json (the published code fixes it for the published width of 1,280 only)"
    heads = head_count(settings, "nhead", width=width, source=source)
    for key in ("sample_size", "chromosome_offset"):
        if not isinstance(settings.get(key), int) or settings[key] < 1:
            message = f"Expected a whole number >= 1 as '{key}' in {source}, got {settings.get(key)!r}. Add it."
            raise ModelError(message)

    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = Uce(
            rows=len(table), protein_width=protein_width, width=width, n_layers=n_layers, heads=heads,
            hidden=first.shape[0], length=len(positions),
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=path.name, family="UCE")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)
    genes, notes = _read_genes(folder, chosen["species"], table, chromosome_offset=settings["chromosome_offset"])

    mode, size = chosen["mode"], settings["sample_size"]
    notes += [f"tensors not used: {', '.join(sorted({k.split('.')[0] for k in ignored}))}"] if ignored else []
    notes += [
        "padded keys are left out, as upstream does with a cell run alone"
        if mode == "corrected"
        else "padded keys get +1 on their logits, as upstream; sentences are padded to one length for all cells",
        f"one random sentence per cell (draw {chosen['draw']}); genes repeat in it",
        "genes in few cells are not filtered out, as upstream's command does by default",
        "not checked on published weights",
    ]
    card = ModelCard(
        name=name, family="uce", spec=spec, n_layers=n_layers, n_heads=heads, width=width,
        vocabulary_size=len(genes.names), max_length=len(positions),
        n_parameters=sum(p.numel() for p in network.parameters()), sha256=sha256_file(path),
        namespace="gene symbol",
        tokenisation=f"{size:,} genes drawn with replacement, by chromosome and start, chromosomes shuffled",
        normalisation="probability of a draw: share of log(1 + count)", activation="relu",
        special_tokens=("<cls>", "<chromosome>", "<end>"), licence="MIT", notes=tuple(notes),
    )  # fmt: skip
    return UceAdapter(
        network, genes, card, sample_size=size, chromosome_offset=settings["chromosome_offset"], mode=mode,
        draw=chosen["draw"],
    )  # fmt: skip


def detect(folder: Path) -> bool:
    """Whether the folder holds a ``.torch`` file and UCE's table of chromosomes."""
    return _weights(folder) is not None and (folder / "species_chrom.csv").is_file()


FAMILY = Family(
    name="uce",
    title="UCE",
    files="4layer_model.torch or 33l_8ep_1024t_1280.torch, species_chrom.csv, species_offsets.pkl, protein_embeddings/",
    detect=detect,
    load=load,
    options=OPTIONS,
)
