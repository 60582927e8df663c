"""How does one get a UCE folder in its published layout? A small random one: weights, proteins, places, offsets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regulens.rng import stream


def write_uce(
    folder: Path,
    *,
    symbols: Sequence[str],
    chromosomes: Sequence[str] | None = None,
    starts: Sequence[int] | None = None,
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    hidden: int = 24,
    protein_width: int = 12,
    sample_size: int = 24,
    length: int = 96,
    tokens: Literal["weights", "file"] = "weights",
    heads_of_other_tasks: Literal["none", "published"] = "published",
    seed: int = 0,
    file: str = "4layer_model.torch",
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder as UCE publishes it, for human genes and three of another species in front of them.

    Parameters
    ----------
    folder
        Made if absent.
    symbols
        Human genes in the order of the protein embeddings.
    chromosomes, starts
        One per gene; by default three chromosomes in turn, and descending starts.
    sample_size, length
        Genes per sentence; rows of the table of positions.
    tokens
        Whether the token table lies in the weights, as published, or only in ``all_tokens.torch``.
    heads_of_other_tasks
        Whether tensors lie in the file that attention does not need.
    changes
        Entries of ``uce.json`` to change or, with the value None, to leave out. The published folder has no such file;
        it says what the published code fixes for the published width.
    """
    import torch

    from regulens.models.uce import FIRST_GENE, Uce

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "protein_embeddings").mkdir(exist_ok=True)
    chromosomes = [str(i % 3 + 1) for i in range(len(symbols))] if chromosomes is None else list(chromosomes)
    starts = [1000 * (len(symbols) - i) for i in range(len(symbols))] if starts is None else list(starts)
    frogs = ["abc1", "xyz2", "foo3"]
    offset = FIRST_GENE + len(frogs)
    chromosome_offset = offset + len(symbols)
    rows = chromosome_offset + len(set(chromosomes)) + 1
    with torch.device("meta"):
        network = Uce(
            rows=rows, protein_width=protein_width, width=width, n_layers=n_layers, heads=n_heads, hidden=hidden,
            length=length,
        )  # fmt: skip
    rng = stream(seed, "checkpoint/uce")
    weights = {}
    for key, value in network.state_dict().items():
        draw = rng.standard_normal(tuple(value.shape)).astype(np.float32)
        norm = key.endswith("weight") and value.ndim == 1
        scale = 1.0 if key == "pe_embedding.weight" else 0.1 if value.ndim == 1 else 1.5 / np.sqrt(value.shape[-1])
        weights[key] = torch.from_numpy(np.asarray(draw * scale + norm, dtype=np.float32))
    weights["pe_embedding.weight"][0] = 0  # padding
    rate = np.exp(np.arange(0, width, 2) * (-np.log(10_000.0) / width))
    place = np.arange(length)[:, None] * rate
    waves = np.stack([np.sin(place), np.cos(place)], axis=-1).reshape(length, 1, width)
    weights["pos_encoder.pe"] = torch.from_numpy(waves.astype(np.float32))
    table = weights["pe_embedding.weight"].clone()
    if heads_of_other_tasks == "published":
        extra = {
            "decoder.0.0.weight": (8, width),
            "binary_decoder.3.bias": (1,),
            "gene_embedding_layer.0.weight": (width, protein_width),
        }
        weights |= {k: torch.zeros(s) for k, s in extra.items()}
    if tokens == "file":
        del weights["pe_embedding.weight"]
        torch.save(table, folder / "all_tokens.torch")
    torch.save(weights, folder / file)
    proteins = {s: table[offset + i].clone() for i, s in enumerate(symbols)}
    torch.save(proteins, folder / "protein_embeddings" / "Homo_sapiens.GRCh38.gene_symbol_to_embedding_ESM2.pt")
    (folder / "species_offsets.pkl").write_bytes(pickle.dumps({"frog": FIRST_GENE, "human": offset}))
    lines = [",species,gene_symbol,chromosome,start,end"]
    lines += [f"{i},frog,{s.upper()},9,{i + 1},{i + 9}" for i, s in enumerate(frogs)]
    lines += [
        f"{i + 3},human,{s.upper()},{c},{p},{p + 9}" for i, (s, c, p) in enumerate(zip(symbols, chromosomes, starts))
    ]
    (folder / "species_chrom.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings: dict[str, Any] = {"nhead": n_heads, "sample_size": sample_size, "chromosome_offset": chromosome_offset}
    settings |= dict(changes or {})
    settings = {k: v for k, v in settings.items() if v is not None}
    (folder / "uce.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return folder
