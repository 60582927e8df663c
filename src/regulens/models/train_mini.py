"""Where do the bundled demonstration models come from? This recipe: two small transformers trained on the demo cells.

They exist so that everything can be run on the first day, without a download, through the code that published
checkpoints go through. They have seen about a thousand blood cells; nothing they say generalises.

Recipe: vocabulary from the cells (most variable genes and regulators, and every gene of a small panel); width 64,
6 layers, 4 heads, feed-forward 128; the family's published masked objective (`regulens.models.mini_tasks`); AdamW with
a linear warm-up and a cosine to zero; one cell in ten held out. One thread, no dropout and named random streams,
so that a machine gives the same bytes again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from regulens.errors import ModelError, ParameterError, nearest
from regulens.models.geneformer import Geneformer, GeneformerAdapter
from regulens.models.mini_tasks import GeneformerTask, ScGPTTask, Sequences, Task, make_batch
from regulens.models.scgpt import ScGPT, ScGPTAdapter
from regulens.progress import SILENT, Progress
from regulens.rng import stream
from regulens.types.attention import ModelCard
from regulens.types.cells import Cells

#: Data sets with more genes than this are narrowed to variable genes and regulators; smaller panels are kept whole.
PANEL = 2_000

#: Last matrices of the attention and feed-forward branches, by the names of both families.
BRANCHES = ("out_proj.weight", "linear2.weight", "output.dense.weight")

LICENCE = "BSD-3-Clause"

NOTE = (
    "A small demonstration model, trained by regulens on about a thousand blood cells so that the software can be "
    "tried without a download. It is no foundation model; do not draw conclusions about biology from it."
)

#: The same of a model that somebody trains on other cells.
OWN_NOTE = (
    "A small model, trained by regulens on {n_cells} cells ({names}). It is no foundation model; what it says holds "
    "for a model of its size on these cells."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every number that the result depends on, written beside the weights."""

    width: int = 64
    layers: int = 6
    heads: int = 4
    hidden: int = 128
    max_length: int = 1024
    variable_genes: int = 1500
    regulator_min_cells: int = 28
    held_out: float = 0.1
    epochs: int = 12
    batch: int = 16
    crop: int = 256
    learning_rate: float = 2e-3
    embedding_spread: float = 0.02
    weight_decay: float = 0.01
    warm_up: float = 0.05


#: Recipe of the bundled models, per family. Geneformer's output matrix is its embedding, which therefore starts large
#: enough for logits of order one.
RECIPES = {"scgpt": Recipe(), "geneformer": Recipe(epochs=16, embedding_spread=0.125)}


def train_mini(
    family: str,
    *,
    out: Path | str,
    cells: list[Cells] | None = None,
    seed: int = 42,
    recipe: Recipe | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train a small model and write it as a folder in the family's published layout.

    Parameters
    ----------
    family
        ``"scgpt"`` or ``"geneformer"``.
    out
        Folder to write; it must be empty or absent.
    cells
        Data sets to train on; by default both bundled demo sets.
    seed
        Root seed of every random choice.
    recipe
        Sizes and schedule; by default the one of the bundled models (`RECIPES`).

    Returns
    -------
    The training record, which is also written as ``training.json``: recipe, seed, digests of the data, held-out errors.

    Raises
    ------
    ParameterError
        On an unknown family, or a folder that holds something already.
    """
    if family not in RECIPES:
        message = (
            f"Expected a family with a recipe ({', '.join(RECIPES)}), got '{family}'.{nearest(family, [*RECIPES])}"
        )
        raise ParameterError(message)
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        message = f"Expected an empty or absent folder at {out}, got one with files. Choose another or empty it."
        raise ParameterError(message)
    note = NOTE
    if cells is not None:
        n_cells, names = sum(c.n_cells for c in cells), ", ".join(c.name for c in cells)
        note = OWN_NOTE.format(n_cells=f"{n_cells:,}", names=names)
    else:
        from regulens.io.demo import load_demo

        cells = [load_demo("immune"), load_demo("pbmc68k")]
    recipe = recipe or RECIPES[family]
    symbols, ensembl = vocabulary(cells, recipe)
    build = _scgpt if family == "scgpt" else _geneformer
    adapter, task, files = build(cells, symbols, ensembl, recipe, seed)
    first = 1 if adapter.card.special_tokens else 0

    data = _tokenise(adapter, cells, seed)
    order = stream(seed, "train-mini/held-out").permutation(len(data.tokens))
    n_test = max(1, round(recipe.held_out * len(order)))
    train, test = data.take(np.sort(order[n_test:])), data.take(np.sort(order[:n_test]))
    task.prepare(train)
    with _one_thread():
        losses = _fit(adapter.module, task, train, recipe, first=first, seed=seed, family=family, progress=progress)
        errors = task.held_out(train, test, stream(seed, "train-mini/held-out-masks"))
    record = {
        "demonstration": True,
        "licence": LICENCE,
        "note": note,
        "family": family,
        "seed": seed,
        "recipe": asdict(recipe),
        "hidden_fraction": task.fraction,
        "n_parameters": sum(p.numel() for p in adapter.module.parameters()),
        "n_genes": len(symbols),
        "n_cells": {"train": len(train.tokens), "held_out": len(test.tokens)},
        "data": [{"name": c.name, "source": c.source, "n_cells": c.n_cells, "digest": c.digest} for c in cells],
        "loss_per_epoch": [round(x, 4) for x in losses],
        "held_out": _rounded(errors),
    }
    _write(out, adapter.module, {**files, "training.json": record})
    return record


def vocabulary(cells: list[Cells], recipe: Recipe) -> tuple[list[str], list[str]]:
    """Symbols (sorted) and Ensembl ids of the genes that a small model knows; genes without an Ensembl id are left out.

    From a data set with more than `PANEL` genes: the most variable genes, and every regulator of the bundled
    reference or list detected in enough cells. From a smaller one: every gene that is expressed at all.
    """
    from regulens.io.genes_selection import select_genes
    from regulens.io.references import read_reference, read_regulators

    known: dict[str, str] = {}
    regulators: set[str] | None = None
    for c in cells:
        if c.n_genes > PANEL:
            if regulators is None:
                regulators = {*read_regulators("bundled:tfs"), *read_reference("bundled:dorothea").edges["source"]}
            index, _ = select_genes(
                c, n_top=recipe.variable_genes, regulators=sorted(regulators), min_cells=recipe.regulator_min_cells
            )
        else:
            index = np.flatnonzero(c.counts.getnnz(axis=0))
        known |= {c.genes.symbols[i]: c.genes.ensembl[i] for i in index if c.genes.ensembl[i]}
    symbols = sorted(known)
    return symbols, [known[s] for s in symbols]


def _card(family: str, recipe: Recipe, rows: int, special: tuple[str, ...]) -> ModelCard:
    """Just enough of a card for tokenising; the loader writes the full one when the folder is read back."""
    return ModelCard(
        name="untrained", family=family, spec="", n_layers=recipe.layers, n_heads=recipe.heads, width=recipe.width,
        vocabulary_size=rows, max_length=recipe.max_length, n_parameters=0, sha256="", namespace="", tokenisation="",
        normalisation="", activation="relu", special_tokens=special,
    )  # fmt: skip


def _scgpt(
    cells: list[Cells], symbols: list[str], ensembl: list[str], recipe: Recipe, seed: int
) -> tuple[ScGPTAdapter, Task, dict[str, Any]]:
    tokens = {t: i for i, t in enumerate([*symbols, "<pad>", "<cls>", "<eoc>"])}
    network = ScGPT(
        rows=len(tokens),
        width=recipe.width,
        n_layers=recipe.layers,
        heads=recipe.heads,
        hidden=recipe.hidden,
        dropout=0.0,
    )
    _initialise(network, seed, "train-mini/initial/scgpt", recipe.embedding_spread)
    args = {
        "embsize": recipe.width, "nheads": recipe.heads, "nlayers": recipe.layers, "d_hid": recipe.hidden,
        "dropout": 0.0, "n_bins": 51, "max_seq_len": recipe.max_length, "input_style": "binned",
        "input_emb_style": "continuous", "pad_token": "<pad>", "pad_value": -2, "mask_value": -1, "no_cls": True,
    }  # fmt: skip
    with torch.no_grad():  # start from the middle bin instead of 0
        network.decoder.fc[4].bias.fill_(args["n_bins"] / 2)
    card = _card("scgpt", recipe, len(tokens), ("<cls>",))
    adapter = ScGPTAdapter(network, tokens, card, n_bins=args["n_bins"], pad_value=args["pad_value"])
    return adapter, ScGPTTask(network, mask_value=args["mask_value"]), {"args.json": args, "vocab.json": tokens}


def _geneformer(
    cells: list[Cells], symbols: list[str], ensembl: list[str], recipe: Recipe, seed: int
) -> tuple[GeneformerAdapter, Task, dict[str, Any]]:
    tokens = {t: i for i, t in enumerate(["<pad>", "<mask>", *ensembl])}
    medians = _medians(cells, ensembl)
    network = Geneformer(
        rows=len(tokens), width=recipe.width, n_layers=recipe.layers, heads=recipe.heads, hidden=recipe.hidden,
        positions=recipe.max_length, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    _initialise(network, seed, "train-mini/initial/geneformer", recipe.embedding_spread)
    ranks = network.bert.embeddings.position_embeddings.weight
    with torch.no_grad():  # neighbouring ranks start out alike; learned from there
        ranks.copy_(math.sqrt(2) * recipe.embedding_spread * _sinusoids(*ranks.shape))
    config = {
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.0, "hidden_act": "relu",
        "hidden_dropout_prob": 0.0, "hidden_size": recipe.width, "initializer_range": 0.02,
        "intermediate_size": recipe.hidden, "layer_norm_eps": 1e-12, "max_position_embeddings": recipe.max_length,
        "model_type": "bert", "num_attention_heads": recipe.heads, "num_hidden_layers": recipe.layers,
        "pad_token_id": 0, "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": len(tokens),
    }  # fmt: skip
    card = _card("geneformer", recipe, len(tokens), ())
    adapter = GeneformerAdapter(network, card, vocabulary=tokens, medians=medians, mapping={})
    files = {"config.json": config, "token_dictionary.json": tokens, "gene_median_dictionary.json": medians}
    return adapter, GeneformerTask(network, mask_id=tokens["<mask>"]), files


def _medians(cells: list[Cells], ensembl: list[str]) -> dict[str, float]:
    """Median over all cells of a gene's non-zero counts per 10,000, as Geneformer normalises; 1 where never seen."""
    found: dict[str, list[np.ndarray]] = {}
    for c in cells:
        scaled = c.counts.astype(np.float64).multiply(1e4 / np.maximum(c.total_counts, 1)[:, None]).tocsc()
        for j, e in enumerate(c.genes.ensembl):
            values = scaled.data[scaled.indptr[j] : scaled.indptr[j + 1]]
            if e and len(values):
                found.setdefault(e, []).append(values)
    return {e: float(np.median(np.concatenate(found[e]))) if e in found else 1.0 for e in ensembl}


def _initialise(network: nn.Module, seed: int, name: str, spread: float) -> None:
    """Normal matrices (`spread` for embeddings, Glorot elsewhere), zero biases, unit norms, from a named stream.

    What a layer adds to its input starts out small: in a post-norm network of full-sized branches each of the twelve
    norms would halve the share of the input, and the deepest layers would see little of gene and rank.
    """
    rng = stream(seed, name)
    with torch.no_grad():
        for key, p in network.named_parameters():
            if p.ndim == 1:
                p.fill_(1.0 if key.endswith("weight") else 0.0)
                continue
            scale = spread if "embedding" in key else math.sqrt(2.0 / sum(p.shape))
            scale *= 0.1 if key.endswith(BRANCHES) and ".layer" in key else 1.0
            p.copy_(torch.from_numpy((rng.standard_normal(tuple(p.shape)) * scale).astype(np.float32)))


def _sinusoids(n: int, width: int) -> torch.Tensor:
    """Sines and cosines of the position at geometric wavelengths (Vaswani et al. 2017), shape ``(n, width)``."""
    angle = np.arange(n)[:, None] / 10_000 ** (np.arange(width // 2) / (width // 2))
    return torch.from_numpy(np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32))


def _tokenise(adapter: ScGPTAdapter | GeneformerAdapter, cells: list[Cells], seed: int) -> Sequences:
    """Every cell that has at least ten known genes, through the adapter's own tokenisation."""
    tokens, values, origin = [], [], []
    for n, c in enumerate(cells):
        batch = adapter.tokenize(c, np.arange(c.n_cells), seed=seed)
        for i in range(c.n_cells):
            own = batch.mask[i]
            if own.sum() < 11:
                continue
            tokens.append(batch.tokens[i][own])
            values.append(None if batch.values is None else batch.values[i][own])
            origin.append(n)
    if len(tokens) < 20:
        message = f"Expected at least 20 cells with ten genes of the vocabulary, got {len(tokens)}. Give more cells."
        raise ModelError(message)
    none = values[0] is None
    return Sequences(tokens=tokens, values=None if none else values, origin=np.array(origin))


def _fit(
    network: nn.Module,
    task: Task,
    train: Sequences,
    recipe: Recipe,
    *,
    first: int,
    seed: int,
    family: str,
    progress: Progress,
) -> list[float]:
    """Mean loss per epoch."""
    rng = stream(seed, f"train-mini/batches/{family}")
    n = len(train.tokens)
    per_epoch = math.ceil(n / recipe.batch)
    steps = recipe.epochs * per_epoch
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    warm = max(1, round(recipe.warm_up * steps))

    def factor(step: int) -> float:
        return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    stage = progress.stage(f"training {family}", steps)
    losses = []
    network.train()
    for _ in range(recipe.epochs):
        total = 0.0
        for index in np.array_split(rng.permutation(n), per_epoch):
            batch = make_batch(train, index, crop=recipe.crop, fraction=task.fraction, first=first, rng=rng)
            loss = task.loss(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(index)
            stage.advance()
        losses.append(total / n)
    network.eval()
    stage.close()
    return losses


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch with one thread, then as before: the order of sums, and so the last bits, depends on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def _write(out: Path, network: nn.Module, files: dict[str, Any]) -> None:
    """Write weights and JSON files; the folder appears only when it is complete."""
    from safetensors.torch import save_file

    partial = out.with_name(f".{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().contiguous() for k, v in network.state_dict().items()}
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)
    for name, value in files.items():
        (partial / name).write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (partial / "README.md").write_text(
        f"{files['training.json']['note']}\n\nLicence of the weights: {LICENCE}.\n", encoding="utf-8"
    )
    if out.exists():
        out.rmdir()
    partial.rename(out)
