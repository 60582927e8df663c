"""How does C2S-Pythia read a cell, and what does each of its layers attend to? Layout, tokenisation, forward pass.

Sources: Levine et al. 2024, ICML (Cell2Sentence); Biderman et al. 2023, ICML (Pythia); the GPT-NeoX checkpoint format.
A cell is a sentence: its expressed genes by descending count, upper-case, separated by spaces, inside a prompt. The
network is a causal language model with pre-norm and, as published, attention and feed-forward part side by side::

    layer:   x = x + Attention(LN1(x)) + W2 gelu(W1 LN2(x))       # sequential where use_parallel_residual is false

Rows of the fused projection are ``(head, three, head_width)``: query, key and value alternate from head to head.
Rotary positions (Su et al. 2021) turn the first quarter of every query and key; the two halves of that quarter are the
pairs. A gene's name is cut into several word pieces; which piece belongs to which gene comes from the characters it
covers, never from its spelling. Checked against ``transformers``' GPT-NeoX in eager mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from regulens.errors import MissingExtraError, ModelError, examples
from regulens.models.base import NO_EDITS, AbstractAdapter, Edits, Kernel, Tap, TokenBatch
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
from regulens.models.spec import Option, Value
from regulens.models.tokens import pad
from regulens.provenance import sha256_file
from regulens.rng import stream
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells
from regulens.types.genes import GeneVocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Changes the output of a feed-forward part.
MlpEdit = Callable[[torch.Tensor], torch.Tensor]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")

#: Tensors that attention does not pass through.
IGNORED = ("lm_head.", "score.", "classifier.")

#: Causal masks and frequencies that older versions of the format saved with every layer.
BUFFERS = re.compile(r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$")

#: ``hidden_act`` of config.json; a name outside this table is refused, never guessed.
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}

#: What stands around the genes; ``cell_sentence.json`` in the folder replaces either. ``{n}`` stands for the number of
#: genes written. Every gene is preceded by a space.
SENTENCE = {
    "before": "The following is a list of {n} gene names ordered by descending expression level in a Homo sapiens "
    "cell. Cell sentence:",
    "after": ".\nThe cell type corresponding to these genes is:",
}

#: What every card of this family says.
NOTES = (
    (
        "causal: a gene sees only genes before it in the sentence, expressed at least as highly; a cell shows a pair "
        "in one order only, and in the other its attention is exactly zero and averaged in"
    ),
    "attention between genes sums over the word pieces of the key and averages over those of the query",
    "exact forward pass; one fixed prompt where training drew from several; not checked on published weights",
)

Rotation = tuple[torch.Tensor, torch.Tensor]


def rotation(positions: int, width: int, base: float, device: torch.device | str = "cpu") -> Rotation:
    """Cosine and sine of the rotary angles, each ``(position, width)``; both halves of the width share their angles."""
    frequency = 1.0 / (base ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width))
    angle = torch.arange(positions, dtype=torch.float32, device=device)[:, None] * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, turn: Rotation) -> torch.Tensor:
    """Turn the leading part of every head by its position; the rest passes unchanged.

    Parameters
    ----------
    x
        Shape ``(cell, head, position, head_width)``.
    turn
        From `rotation`; its width says how much of the head is turned. Element i forms a pair with i + width/2.
    """
    cos, sin = turn
    width = cos.shape[-1]
    first, rest = x[..., :width], x[..., width:]
    low, high = first.chunk(2, dim=-1)
    return torch.cat([first * cos + torch.cat([-high, low], dim=-1) * sin, rest], dim=-1)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.dense = nn.Linear(width, width, bias=bias)

    def project(self, x: torch.Tensor, turn: Rotation) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key (both turned) and value, each ``(cell, head, position, head_width)``."""
        b, s, d = x.shape
        fused = self.query_key_value(x).view(b, s, self.heads, 3 * (d // self.heads)).transpose(1, 2)
        q, k, v = fused.chunk(3, dim=-1)
        return rotate(q, turn), rotate(k, turn), v.contiguous()


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, act: str) -> None:
        super().__init__()
        self.act = ACTIVATIONS[act]
        self.dense_h_to_4h = nn.Linear(width, hidden)
        self.dense_4h_to_h = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense_4h_to_h(self.act(self.dense_h_to_4h(x)))


class _Layer(nn.Module):
    def __init__(
        self, width: int, heads: int, hidden: int, *, eps: float, act: str, parallel: bool, bias: bool
    ) -> None:
        super().__init__()
        self.parallel = parallel
        self.input_layernorm = nn.LayerNorm(width, eps=eps)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)
        self.attention = _Attention(width, heads, bias=bias)
        self.mlp = _Mlp(width, hidden, act)

    def project(self, x: torch.Tensor, turn: Rotation) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of the normed state."""
        return self.attention.project(self.input_layernorm(x), turn)

    def finish(self, x: torch.Tensor, heads_out: torch.Tensor, edit: MlpEdit | None = None) -> torch.Tensor:
        """Everything after attention; `heads_out` is ``(cell, head, position, head_width)``."""
        attended = self.attention.dense(heads_out.transpose(1, 2).flatten(2))
        if not self.parallel:
            x = attended + x
        read = self.mlp(self.post_attention_layernorm(x))
        read = read if edit is None else edit(read)
        return read + attended + x if self.parallel else read + x


class _Body(nn.Module):
    def __init__(self, rows: int, width: int, layers: list[_Layer], eps: float) -> None:
        super().__init__()
        self.embed_in = nn.Embedding(rows, width)
        self.layers = nn.ModuleList(layers)
        self.final_layer_norm = nn.LayerNorm(width, eps=eps)


class C2S(nn.Module):
    """The network; names of its parameters are those of the published state dict.

    Parameters
    ----------
    rows, width, n_layers, heads, hidden
        Rows of the embedding, width, layers, heads per layer, feed-forward width.
    turned, base
        Numbers of every query and key that rotary positions turn (even), and the base of their frequencies.
    eps, act, parallel, bias
        LayerNorm epsilon, activation (one of `ACTIVATIONS`), whether attention and feed-forward part stand side by
        side, whether the projections of attention have biases.
    head
        ``"own"``: output matrix of its own; ``"tied"``: the embedding; ``"none"``: absent.
    """

    def __init__(
        self, *, rows: int, width: int, n_layers: int, heads: int, hidden: int, turned: int, base: float = 10_000.0,
        eps: float = 1e-5, act: str = "gelu", parallel: bool = True, bias: bool = True, head: str = "own",
    ) -> None:  # fmt: skip
        super().__init__()
        self.turned, self.base, self.head = turned, base, head
        layers = [_Layer(width, heads, hidden, eps=eps, act=act, parallel=parallel, bias=bias) for _ in range(n_layers)]
        self.gpt_neox = _Body(rows, width, layers, eps)
        if head == "own":
            self.lm_head = nn.Linear(width, rows, bias=False)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers in order."""
        return self.gpt_neox.layers

    def turn(self, positions: int) -> Rotation:
        """Rotary angles of that many positions, on the network's device."""
        return rotation(positions, self.turned, self.base, self.gpt_neox.embed_in.weight.device)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Differentiable pass over right-padded tokens; returns the last state before the final norm."""
        x, turn = self.gpt_neox.embed_in(tokens), self.turn(tokens.shape[1])
        for layer in self.layers:
            x = layer.finish(x, F.scaled_dot_product_attention(*layer.project(x, turn), is_causal=True))
        return x

    def predict(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the next word piece, ``(…, rows)``, from the last state; needs a head."""
        if self.head == "none":
            message = "Expected a checkpoint with an output matrix (lm_head.weight), got one without it."
            raise ModelError(f"{message} Use the published causal language model for predictions.")
        weight = self.lm_head.weight if self.head == "own" else self.gpt_neox.embed_in.weight
        return F.linear(self.gpt_neox.final_layer_norm(hidden), weight)


def piece_owners(text: str, spans: list[tuple[int, int]], offsets: list[tuple[int, int]]) -> np.ndarray:
    """Which word each piece of a text belongs to, from the characters that it covers.

    Parameters
    ----------
    text
        What was cut into pieces.
    spans
        First and one-past-last character of each word, ascending, not overlapping.
    offsets
        The same for each piece; a piece may also cover spaces before or after a word.

    Returns
    -------
    Int64, shape ``(piece,)``: position in `spans`, −1 for pieces of the text around the words.

    Raises
    ------
    ModelError
        When a piece covers characters of two words, or of a word and of what is around it.

    Examples
    --------
    >>> piece_owners("cell: CD3E LYZ.", [(6, 10), (11, 14)], [(0, 5), (5, 8), (8, 10), (10, 14), (14, 15)]).tolist()
    [-1, 0, 0, 1, -1]
    """
    owner = np.full(len(text), -1, dtype=np.int64)
    for word, (start, end) in enumerate(spans):
        owner[start:end] = word
    solid = np.array([not c.isspace() for c in text], dtype=bool)
    found = np.full(len(offsets), -1, dtype=np.int64)
    for piece, (start, end) in enumerate(offsets):
        own = owner[start:end][solid[start:end]]
        if not len(own):
            continue
        if (own != own[0]).any():
            message = (
                f"Expected word pieces that belong to one gene each, got the piece '{text[start:end]}' across two words"
            )
            raise ModelError(f"{message}. Use the tokenizer.json that was published with these weights.")
        found[piece] = own[0]
    return found


class C2SAdapter(AbstractAdapter):
    """A loaded C2S-Pythia: cell sentences, exact causal attention through the tap.

    Parameters
    ----------
    network, tokenizer, card
        As built by `load`.
    top_genes
        Genes written at most.
    before, after
        Texts around them; see `SENTENCE`.
    """

    one_token_per_gene = False

    def __init__(
        self, network: C2S, tokenizer: Tokenizer, card: ModelCard, *, top_genes: int, before: str, after: str
    ) -> None:
        self.network, self.tokenizer, self.card = network, tokenizer, card
        self.top_genes, self.before, self.after = top_genes, before, after
        network.eval()

    @property
    def module(self) -> C2S:
        """The network."""
        return self.network

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Id of the first word piece of each symbol. Any symbol can be spelled; −1 only where there is none."""
        out = np.full(len(genes), -1, dtype=np.int64)
        named = [i for i, s in enumerate(genes.symbols) if _spelled(s)]
        pieces = self.tokenizer.encode_batch([f" {genes.symbols[i].upper()}" for i in named], add_special_tokens=False)
        out[named] = [p.ids[0] for p in pieces]
        return out

    def tokenize(self, cells: Cells, rows: np.ndarray, *, seed: int) -> TokenBatch:
        """Word pieces of the prompt and of each cell's leading genes; a gene has as many tokens as its name has pieces.

        Genes are sorted by descending count (every scaling by cell and monotone transform gives the same order); ties
        are shuffled by a stream named by the cell. Genes that would not fit into the longest sequence are left out.
        """
        rows = np.asarray(rows, dtype=np.int64)
        symbols = cells.genes.symbols
        tokens, genes = [], []
        for row in rows:
            span = slice(cells.counts.indptr[row], cells.counts.indptr[row + 1])
            columns, counts = cells.counts.indices[span].astype(np.int64), cells.counts.data[span]
            use = np.array([c > 0 and _spelled(symbols[i]) for i, c in zip(columns, counts)], dtype=bool)
            columns, counts = columns[use], counts[use]
            shuffled = stream(seed, f"c2s/ties/{cells.obs.index[row]}").permutation(len(columns))
            order = shuffled[np.argsort(-counts[shuffled], kind="stable")][: self.top_genes]
            ids, gene = self._sentence([symbols[i].upper() for i in columns[order]], columns[order])
            tokens.append(ids)
            genes.append(gene)
        token, mask = pad(tokens, 0)
        gene, _ = pad(genes, -1)
        return TokenBatch(tokens=token, values=None, gene=gene, mask=mask, cell=rows)

    def expected_tokens(self, genes: GeneVocabulary, detected: np.ndarray) -> np.ndarray:
        """Word pieces of the prompt, and for every gene written the mean number of pieces of a name, rounded up."""
        names = [f" {s.upper()}" for s in genes.symbols if _spelled(s)]
        pieces = self.tokenizer.encode_batch([*names, self.before + self.after], add_special_tokens=False)
        *lengths, prompt = (len(p.ids) for p in pieces)
        each = sum(lengths) / max(len(lengths), 1)
        tokens = prompt + np.ceil(np.minimum(detected, self.top_genes) * each).astype(np.int64)
        return np.where(detected > 0, np.minimum(tokens, self.card.max_length), 0)

    def _sentence(self, names: list[str], columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a cell's text and the column that each belongs to (−1: prompt), within the longest sequence."""
        while True:
            text = self.before.replace("{n}", str(len(names)))
            spans = []
            for name in names:
                spans.append((len(text) + 1, len(text) + 1 + len(name)))
                text += f" {name}"
            text += self.after
            encoded = self.tokenizer.encode(text, add_special_tokens=False)
            owner = piece_owners(text, spans, encoded.offsets)
            excess = len(encoded.ids) - self.card.max_length
            if excess <= 0:
                # The last entry stands for the prompt, whose pieces have owner −1.
                return np.array(encoded.ids, dtype=np.int64), np.append(columns, -1)[owner]
            if not names:
                message = (
                    f"Expected a prompt of at most {self.card.max_length:,} word pieces, got {len(encoded.ids):,} "
                    "without a single gene. Shorten it in cell_sentence.json."
                )
                raise ModelError(message)
            # Drop the shortest tail of genes that holds the pieces in excess.
            pieces = np.bincount(owner[owner >= 0], minlength=len(names))
            dropped = int(np.searchsorted(np.cumsum(pieces[::-1]), excess)) + 1
            names, columns = names[:-dropped], columns[: len(names) - dropped]

    @torch.no_grad()
    def forward(
        self, batch: TokenBatch, *, tap: Tap | None = None, kernel: Kernel = "fused", edits: Edits = NO_EDITS
    ) -> list[torch.Tensor]:
        """Run in evaluation mode; states after the embedding and after every layer, before the final norm."""
        self.network.eval()
        device = self.network.gpt_neox.embed_in.weight.device
        x = self.network.gpt_neox.embed_in(torch.as_tensor(batch.tokens, device=device))
        key_mask, turn = padding_mask(batch.mask, device), self.network.turn(x.shape[1])
        if edits.embedding is not None:
            x = edits.embedding(x)
        states = [x]
        for index, layer in enumerate(self.network.layers):
            out = attend_layer(
                index, *layer.project(x, turn), key_mask=key_mask, causal=True, kernel=kernel, tap=tap, edits=edits
            )
            x = layer.finish(x, out, None if edits.mlp_output is None else partial(edits.mlp_output, index))
            states.append(x)
        return states

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Approved human symbols and the mean of their word pieces' rows: the model has no vocabulary of genes."""
        from regulens.io.gene_ids import GeneMap

        names = tuple(str(s) for s in GeneMap.bundled().table["symbol"] if _spelled(str(s)))
        encoded = self.tokenizer.encode_batch([f" {n.upper()}" for n in names], add_special_tokens=False)
        rows = self.network.gpt_neox.embed_in.weight.detach().cpu().numpy()
        return names, np.stack([rows[e.ids].mean(axis=0) for e in encoded]).astype(np.float32)

    def output_projection(self, layer: int) -> torch.Tensor:
        """Weight of a layer's output projection."""
        return self.network.layers[layer].attention.dense.weight


def _spelled(symbol: str) -> bool:
    """Whether a symbol can be one word of a sentence."""
    return bool(symbol) and not any(c.isspace() for c in symbol)


def _tokenizer(path: Path, rows: int) -> Tokenizer:
    """Read the published tokenizer with the library that defines its format."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        message = "Expected the library tokenizers for C2S-Pythia's word pieces, found none."
        raise MissingExtraError(f"{message} Install it with: pip install tokenizers") from None
    if not path.is_file():
        message = f"Expected the word pieces at {path}, found no such file. Put the published tokenizer.json there."
        raise ModelError(message)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises its errors as bare exceptions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"Expected a tokenizer in {path.name}, got a file that cannot be read ({reason}). Download it again."
        raise ModelError(message) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= rows:
        message = (
            f"Expected word pieces with ids below {rows:,} (rows of the embedding) in {path.name}, got {highest:,}."
        )
        raise ModelError(f"{message} Use the tokenizer that was published with these weights.")
    return tokenizer


def _prompt(folder: Path) -> dict[str, str]:
    """Texts around the genes: defaults, or what ``cell_sentence.json`` says."""
    path = folder / "cell_sentence.json"
    found = read_json(path, what="prompt of the cell sentence") if path.is_file() else {}
    if set(found) - set(SENTENCE) or not all(isinstance(v, str) for v in found.values()):
        message = (
            f"Expected {path.name} to hold the texts 'before' and 'after' at most, got "
            f"{examples([f'{k} = {v!r}' for k, v in found.items()])}. Correct it or remove the file."
        )
        raise ModelError(message)
    return SENTENCE | found


def _rotary(config: dict[str, Any], head_width: int) -> tuple[int, float]:
    """Turned numbers per head and base of the frequencies, under the key names of older and newer configurations."""
    rope = config.get("rope_parameters") or {}
    kind = rope.get("rope_type", "default")
    if config.get("rope_scaling") or kind != "default":
        message = f"Expected plain rotary positions in config.json, got scaled ones ({kind}). They are not supported."
        raise ModelError(f"{message} Use a checkpoint with rope_type 'default'.")
    share = rope.get("partial_rotary_factor", config.get("rotary_pct", 0.25))
    base = rope.get("rope_theta", config.get("rope_theta", config.get("rotary_emb_base", 10_000)))
    turned = int(head_width * float(share))
    if turned < 2 or turned % 2 or turned > head_width:
        message = (
            f"Expected rotary positions to turn an even number of the {head_width} numbers of a head, got {turned} "
            f"(share {share}) in config.json. Use the configuration that was published with these weights."
        )
        raise ModelError(message)
    return turned, float(base)


def _licence(folder: Path) -> str:
    """Licence that the model card in the folder declares (``license:`` in its head), or an empty string."""
    path = folder / "README.md"
    if not path.is_file():
        return ""
    parts = path.read_text(encoding="utf-8", errors="replace").split("---")
    found = re.search(r"^license:\s*[\"']?([\w.\-]+)", parts[1], re.MULTILINE) if len(parts) > 2 else None
    if found is None:
        return ""
    name = found[1].lower()
    forbids = [w for part, w in (("nc", "commercial use"), ("nd", "sharing changed copies")) if part in name.split("-")]
    return f"{name}; forbids {' and '.join(forbids)}" if forbids else name


def load(folder: Path, *, name: str, spec: str, options: Mapping[str, Value]) -> C2SAdapter:
    """Load a published folder: ``config.json``, ``tokenizer.json`` and the weights.

    Raises
    ------
    ModelError
        On anything that does not fit: see `regulens.models.loading`.
    MissingExtraError
        Without the library ``tokenizers``.
    """
    config = read_json(folder / "config.json", what="C2S-Pythia's configuration (config.json)")
    act = config.get("hidden_act", "gelu")
    if act not in ACTIVATIONS:
        message = f"Expected hidden_act among {', '.join(ACTIVATIONS)} in config.json, got {act!r}."
        raise ModelError(f"{message} Use the configuration that was published with these weights.")
    path = find_weights(folder, WEIGHTS)
    tensors = {k: v for k, v in read_tensors(path).items() if not BUFFERS.search(k)}
    if "embed_in.weight" in tensors:  # saved without the language-model head around it
        tensors = {f"gpt_neox.{k}": v for k, v in tensors.items()}
    tensors = {k.replace("embed_out.", "lm_head."): v for k, v in tensors.items()}

    words = tensors.get("gpt_neox.embed_in.weight")
    first = tensors.get("gpt_neox.layers.0.mlp.dense_h_to_4h.weight")
    if words is None or words.ndim != 2 or first is None or first.ndim != 2:
        message = (
            f"Expected the tensors of a GPT-NeoX in {path.name} (gpt_neox.embed_in.weight, gpt_neox.layers.0.…), got "
            f"{len(tensors)} tensors without them. This is another family or another format."
        )
        raise ModelError(message)
    rows, width = words.shape
    n_layers = count_layers(tensors, "gpt_neox.layers.")
    sizes = {
        "vocab_size": rows, "hidden_size": width, "num_hidden_layers": n_layers, "intermediate_size": first.shape[0],
    }  # fmt: skip
    cross_check(config, sizes, source="config.json")
    heads = head_count(config, "num_attention_heads", width=width, source="config.json")
    max_length = config.get("max_position_embeddings")
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        message = f"Expected the longest sequence as 'max_position_embeddings' in config.json, got {max_length!r}."
        raise ModelError(f"{message} Use the configuration that was published with these weights.")
    turned, base = _rotary(config, width // heads)
    tokenizer = _tokenizer(folder / "tokenizer.json", rows)
    prompt, top_genes = _prompt(folder), int(options["top_genes"])
    if top_genes < 2:
        message = f"Expected top_genes of at least 2, which makes one pair, got {top_genes}. Published models use 200."
        raise ModelError(message)

    head = "own" if "lm_head.weight" in tensors else "tied" if config.get("tie_word_embeddings") else "none"
    parallel = bool(config.get("use_parallel_residual", True))
    with torch.device("meta"):  # no memory and no random numbers: every tensor comes from the file
        network = C2S(
            rows=rows, width=width, n_layers=n_layers, heads=heads, hidden=first.shape[0], turned=turned, base=base,
            eps=float(config.get("layer_norm_eps", 1e-5)), act=act, parallel=parallel,
            bias=bool(config.get("attention_bias", True)), head=head,
        )  # fmt: skip
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    ignored = check_tensors(tensors, expected, ignore=IGNORED, source=path.name, family="C2S-Pythia")
    network.load_state_dict({k: tensors[k] for k in expected}, strict=True, assign=True)

    licence = _licence(folder)
    notes = [f"tensors not used: {', '.join(ignored)}"] if ignored else []
    notes += NOTES
    notes += [] if licence else ["no licence in the folder (README.md); it differs between the published repositories"]
    card = ModelCard(
        name=name, family="c2s", spec=spec, n_layers=n_layers, n_heads=heads, width=width, vocabulary_size=rows,
        max_length=max_length, n_parameters=sum(p.numel() for p in network.parameters()), sha256=sha256_file(path),
        namespace="gene symbol, upper-case",
        tokenisation=f"cell sentence of at most {top_genes:,} expressed genes in word pieces, cut at "
        f"{max_length:,} pieces; before it {prompt['before']!r}, after it {prompt['after']!r}",
        normalisation="descending counts, ties shuffled per cell; only the order enters",
        activation=act, causal=True, licence=licence, notes=tuple(notes),
    )  # fmt: skip
    return C2SAdapter(network, tokenizer, card, top_genes=top_genes, **prompt)


def detect(folder: Path) -> bool:
    """Whether the folder holds a ``config.json`` of a GPT-NeoX and a ``tokenizer.json``."""
    path = folder / "config.json"
    if not path.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    try:
        return read_json(path, what="configuration").get("model_type") == "gpt_neox"
    except ModelError:
        return False


FAMILY = Family(
    name="c2s",
    title="C2S-Pythia",
    files="config.json, tokenizer.json, model.safetensors or pytorch_model.bin",
    detect=detect,
    load=load,
    options={"top_genes": Option(200, "genes in a cell sentence")},
)
