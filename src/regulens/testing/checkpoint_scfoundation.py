"""How does one get an scFoundation checkpoint without downloading one? A small random one in the published layout.

One pickle with three models, each a configuration and a state dict whose names start with ``model.``, decoder tensors
included, and the gene list beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from regulens.testing.checkpoints import _randomise

KEYS = ("gene", "cell", "rde")


def write_gene_list(folder: Path, genes: Sequence[str]) -> Path:
    """Write ``OS_scRNA_gene_index.<n>.tsv`` as scFoundation and AIDO.Cell publish it."""
    path = folder / f"OS_scRNA_gene_index.{len(genes)}.tsv"
    rows = "".join(f"{name}\t{i}\n" for i, name in enumerate(genes))
    path.write_text(f"gene_name\tindex\n{rows}", encoding="utf-8")
    return path


def _decoder(width: int, seed_width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the Performer decoder and the read-out, one layer."""
    d = "decoder.performer.net.layers.0"
    shapes = {"decoder_embed.weight": (width, seed_width), "decoder_embed.bias": (width,)}
    shapes |= {f"{d}.0.fn.fast_attention.projection_matrix": (8, width // 2)}
    for part in ("q", "k", "v", "out"):
        shapes |= {f"{d}.0.fn.to_{part}.weight": (width, width), f"{d}.0.fn.to_{part}.bias": (width,)}
    for n, shape in (("1", (4 * width, width)), ("2", (width, 4 * width))):
        shapes |= {f"{d}.1.fn.fn.w{n}.weight": shape, f"{d}.1.fn.fn.w{n}.bias": shape[:1]}
    for name in (f"{d}.0.norm", f"{d}.1.norm", "decoder.norm", "norm"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes | {"to_final.weight": (1, width), "to_final.bias": (1,)}


def write_scfoundation(
    folder: Path,
    *,
    vocab: Sequence[str],
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    hidden: int | None = None,
    bins: int = 10,
    keys: Sequence[str] = KEYS,
    container: Literal["zip", "legacy"] = "zip",
    seed: int = 0,
) -> Path:
    """Write ``models.ckpt`` and the gene list as scFoundation publishes them.

    Parameters
    ----------
    folder
        Made if absent.
    vocab
        Symbols in the order of the list.
    hidden
        Feed-forward width; four times the width by default, as published.
    keys
        Models in the file; each has weights of its own.
    container
        torch's file format; ``"legacy"`` cannot be memory-mapped.
    """
    import torch

    from regulens.models.scfoundation import ScFoundationEncoder

    folder.mkdir(parents=True, exist_ok=True)
    write_gene_list(folder, vocab)
    with torch.device("meta"):
        network = ScFoundationEncoder(
            rows=len(vocab) + 3, width=width, n_layers=n_layers, heads=n_heads, hidden=hidden or 4 * width, bins=bins
        )
    encoder = {"module_type": "transformer", "hidden_dim": width, "depth": n_layers, "heads": n_heads}
    decoder = {"module_type": "performer", "hidden_dim": width // 2, "depth": 1, "heads": 2, "dim_head": 4}
    special = {"n_class": 104, "pad_token_id": 103, "mask_token_id": 102, "bin_num": bins, "bin_alpha": 1.0}
    sizes = {"seq_len": len(vocab) + 2, "gene_num": len(vocab) + 2, "mae_encoder_max_seq_len": 15000}
    models = {}
    for key in keys:
        tensors = _randomise(network, seed, f"checkpoint/scfoundation/{key}", 2.0)
        tensors |= {k: torch.zeros(shape) for k, shape in _decoder(width // 2, width).items()}
        tensors["decoder.performer.calls_since_last_redraw"] = torch.tensor(0)
        model = {**special, **sizes, "encoder": {**encoder, "norm_first": False}, "decoder": decoder}
        config = {
            "model": "mae_autobin",
            "model_config": {"mae_autobin": model},
            "dataset_config": {"rnaseq": {"rawcount": True, "gene_num": len(vocab) + 2}},
        }
        models[key] = {"config": config, "state_dict": {f"model.{k}": v for k, v in tensors.items()}}
    torch.save(models, folder / "models.ckpt", _use_new_zipfile_serialization=container == "zip")
    return folder
