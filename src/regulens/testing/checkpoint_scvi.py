"""How does one get a saved scvi-tools model without scvi-tools? A small random one, same file and keys."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regulens.rng import stream

Kind = Literal["SCVI", "LinearSCVI", "TOTALVI", "CondSCVI"]


def _shapes(kind: str, n: int, latent: int, hidden: int, n_layers: int, extra: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the decoder's tensors and of a few others that lie beside them."""
    shapes: dict[str, tuple[int, ...]] = {"px_r": (n,), "z_encoder.mean_encoder.weight": (latent, hidden)}

    def block(place: str, out: int, wide: int, *, norm: bool) -> None:
        shapes[f"{place}.0.weight"] = (out, wide)
        if norm:
            shapes.update({f"{place}.1.{k}": (out,) for k in ("weight", "bias", "running_mean", "running_var")})
            shapes[f"{place}.1.num_batches_tracked"] = ()

    if kind == "LinearSCVI":
        block("decoder.factor_regressor.fc_layers.Layer 0", n, latent + extra, norm=True)
        shapes["decoder.px_dropout_decoder.fc_layers.Layer 0.0.weight"] = (n, latent + extra)
        return shapes
    trunk = "decoder.fc_layers" if kind == "CondSCVI" else "decoder.px_decoder.fc_layers"
    for i in range(n_layers):
        place = f"{trunk}.Layer {i}"
        block(place, hidden, (hidden if i else latent) + extra, norm=kind != "CondSCVI")
        shapes[f"{place}.0.bias"] = (hidden,)
    if kind == "TOTALVI":
        shapes["encoder.z_mean_encoder.weight"] = shapes.pop("z_encoder.mean_encoder.weight")
        output, wide = "decoder.px_scale_decoder.fc_layers.Layer 0.0", hidden + latent + extra
    else:
        output, wide = {"CondSCVI": "px_decoder"}.get(kind, "decoder.px_scale_decoder.0"), hidden
    shapes |= {f"{output}.weight": (n, wide), f"{output}.bias": (n,)}
    return shapes


def write_scvi(
    folder: Path,
    *,
    vocab: Sequence[str],
    kind: Kind = "SCVI",
    n_latent: int = 4,
    width: int = 12,
    n_layers: int = 1,
    n_batch: int = 2,
    seed: int = 0,
    layout: Literal["new", "old"] = "new",
    prefix: str = "",
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write what ``model.save`` of scvi-tools writes.

    Parameters
    ----------
    folder
        Made if absent.
    vocab
        Names of the genes the model was trained on.
    kind
        Class of the model: non-linear, linear, for genes and proteins, or conditional on cell types.
    n_batch
        Categories of the one-hot covariate that every layer of the decoder reads (cell types for ``"CondSCVI"``);
        with 1 there is none.
    layout
        ``"new"``: everything in ``model.pt``; ``"old"``: ``model_params.pt``, ``var_names.csv`` and ``attr.pkl``.
    prefix
        Put before every file name.
    settings
        Further arguments recorded as those that the model was made with.
    """
    import pandas as pd
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    rng = stream(seed, "checkpoint/scvi")
    extra = n_batch if n_batch > 1 else 0
    state: OrderedDict[str, Any] = OrderedDict()
    for name, shape in _shapes(kind, len(vocab), n_latent, width, n_layers, extra).items():
        draw = rng.standard_normal(shape) / np.sqrt(shape[-1] if len(shape) > 1 else 4.0)
        if "running_var" in name or name.endswith(".1.weight"):
            draw = np.abs(draw) + 0.5
        dtype = torch.int64 if name.endswith("tracked") else torch.float32
        state[name] = torch.tensor(np.asarray(draw), dtype=dtype)
    covariate = "labels" if kind == "CondSCVI" else "batch"
    fields = {
        "X": {"data_registry": {"attr_name": "X", "attr_key": None}, "summary_stats": {"n_vars": len(vocab)}},
        covariate: {"summary_stats": {f"n_{covariate}": n_batch}, "state_registry": {}},
    }
    attributes = {
        "history_": {"elbo_train": pd.DataFrame({"elbo_train": [2.0, 1.0]})},
        "init_params_": {"kwargs": {"model_kwargs": {}}, "non_kwargs": {"n_latent": n_latent} | (settings or {})},
        "is_trained_": True,
        "registry_": {"scvi_version": "1.3.0", "model_name": kind, "setup_args": {}, "field_registries": fields},
        "train_indices_": np.arange(3),
    }
    names = np.array(list(vocab), dtype=object)
    if layout == "new":
        state["pyro_param_store"] = {"params": {}, "constraints": {}}
        saved = {"model_state_dict": state, "var_names": names, "attr_dict": attributes}
        torch.save(saved, folder / f"{prefix}model.pt")
    else:
        torch.save(state, folder / f"{prefix}model_params.pt")
        (folder / f"{prefix}var_names.csv").write_text("\n".join(vocab) + "\n", encoding="utf-8")
        (folder / f"{prefix}attr.pkl").write_bytes(pickle.dumps(attributes))
    return folder
