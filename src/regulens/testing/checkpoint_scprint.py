"""How does one get a scPRINT checkpoint in its published layout? A small random one, same keys, same pickle.

The file is what PyTorch Lightning writes: weights beside settings, optimiser and callbacks, with the settings as a
class of Lightning's. That class is named in the file without being installed.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regulens.rng import stream

_MODULE = "lightning.fabric.utilities.data"


@contextmanager
def _lightning_settings():
    """A dict subclass that pickles under the name of Lightning's settings class."""
    names = [".".join(_MODULE.split(".")[: i + 1]) for i in range(_MODULE.count(".") + 1)]
    before = {n: sys.modules.get(n) for n in names}
    settings = type("AttributeDict", (dict,), {"__module__": _MODULE, "__qualname__": "AttributeDict"})
    try:
        for n in names:
            sys.modules[n] = types.ModuleType(n)
        sys.modules[_MODULE].AttributeDict = settings  # type: ignore[attr-defined]
        yield settings
    finally:
        for n, module in before.items():
            sys.modules.pop(n)
            if module is not None:
                sys.modules[n] = module


def write_scprint(
    folder: Path,
    *,
    genes: Sequence[str],
    n_layers: int = 2,
    n_heads: int = 2,
    n_kv_heads: int | None = None,
    width: int = 16,
    labels: Sequence[str] = ("cell_type_ontology_term_id", "sex_ontology_term_id"),
    normalisation: Literal["sum", "log"] = "sum",
    depth: bool = True,
    metacell: bool = False,
    positions: Literal["3d", "2d", "none"] = "3d",
    names: Literal["embeddings", "embedding"] = "embeddings",
    settings: Literal["lightning", "dict"] = "lightning",
    heads_of_other_tasks: Literal["none", "published"] = "published",
    seed: int = 0,
    file: str = "small-v1.ckpt",
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one Lightning checkpoint as scPRINT publishes it.

    Parameters
    ----------
    folder
        Made if absent.
    genes
        Ensembl ids in the order of the embedding.
    n_kv_heads
        Key/value heads where they are fewer than `n_heads`.
    labels
        Kinds of cell label; the table of cell tokens has one row more.
    positions
        Shape in which the table of genomic positions was saved, or none.
    names
        Spelling of the gene table; older files use the singular.
    settings
        As Lightning's class, or as a plain dict.
    heads_of_other_tasks
        Whether tensors lie in the file that attention does not need.
    changes
        Entries of the settings to change or, with the value None, to leave out.
    """
    import torch

    from regulens.models.scprint import ScPrint

    folder.mkdir(parents=True, exist_ok=True)
    rows = len(genes)
    shape = {"3d": (rows, 1, width), "2d": (rows, width), "none": None}[positions]
    with torch.device("meta"):
        network = ScPrint(
            rows=rows, width=width, n_layers=n_layers, heads=n_heads, kv_heads=n_kv_heads or n_heads,
            hidden=4 * width, labels=len(labels) + 1, normalisation=normalisation, positions=shape, depth=depth,
            metacell=metacell,
        )  # fmt: skip
    rng = stream(seed, "checkpoint/scprint")
    tensors = {}
    for key, value in network.state_dict().items():
        draw = rng.standard_normal(tuple(value.shape)).astype(np.float32)
        norm = key.endswith("weight") and value.ndim == 1
        table = ".embedding" in key or key.startswith("pos_encoder")
        scale = 1.0 if table else 0.1 if value.ndim == 1 else 1.5 / np.sqrt(value.shape[-1])
        tensors[key] = torch.from_numpy(np.asarray(draw * scale + norm, dtype=np.float32))
    if shape is not None:  # sinusoids of a place between 0 and 5,000, as upstream makes them
        place = rng.integers(0, 5000, rows)
        rate = np.exp(np.arange(0, width, 2) * (-np.log(10_000.0) / width))
        table = np.stack([np.sin(place[:, None] * rate), np.cos(place[:, None] * rate)], axis=-1).reshape(rows, width)
        tensors["pos_encoder.pe"] = torch.from_numpy(table.astype(np.float32)).reshape(shape)
    if heads_of_other_tasks == "published":
        extra = {
            "expr_decoder.fc.0.weight": (width, width),
            "cls_decoders.sex_ontology_term_id.out_layer.weight": (3, width),
            "grad_reverse_discriminator_loss.out_layer.bias": (4,),
        }
        tensors |= {k: torch.zeros(s) for k, s in extra.items()}
    if names == "embedding":
        tensors = {k.replace("gene_encoder.embeddings.", "gene_encoder.embedding."): v for k, v in tensors.items()}
    plain: dict[str, Any] = {
        "genes": list(genes), "organisms": ["NCBITaxon:9606"], "d_model": width, "nhead": n_heads,
        "nlayers": n_layers, "normalization": normalisation, "attn_bias": "none", "transformer": "flash",
        "expr_emb_style": "continuous", "expr_encoder_layers": 2, "depth_atinput": depth, "dropout": 0.1,
        "use_metacell_token": metacell, "classes": dict.fromkeys(labels, 3),
        "label_decoders": {k: {0: "a", 1: "b", 2: "c"} for k in labels}, "labels_hierarchy": {},
        "gene_pos_enc": None if shape is None else [int(p) for p in place], "num_heads_kv": n_kv_heads,
    }  # fmt: skip
    plain = {k: v for k, v in (plain | dict(changes or {})).items() if k not in (changes or {}) or v is not None}
    with _lightning_settings() as settings_class:
        checkpoint = {
            "epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.4.0", "state_dict": tensors,
            "hyper_parameters": settings_class(plain) if settings == "lightning" else plain,
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(1.0)}}, "optimizer_states": [],
        }  # fmt: skip
        torch.save(checkpoint, folder / file)
    return folder
