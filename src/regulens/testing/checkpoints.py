"""How does one get a checkpoint in a published layout without downloading one? Small random ones, same keys.

The folders load through the same code as published ones. Weights are random, so nothing that such a model says has
a meaning; shapes, names, dictionaries and special tokens are those of the real files.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from regulens.errors import ParameterError
from regulens.rng import stream


def _rename_qkv(tensors: dict, names: str) -> dict:
    if names == "Wqkv":
        return tensors
    if names == "_impl":
        return {k.replace("self_attn.", "self_attn._impl."): v for k, v in tensors.items()}
    if names == "in_proj":
        return {k.replace("self_attn.Wqkv.", "self_attn.in_proj_"): v for k, v in tensors.items()}
    message = f"Expected names 'Wqkv', '_impl' or 'in_proj', got {names!r}."
    raise ParameterError(message)


def _randomise(network, seed: int, name: str, spread: float) -> dict:
    """Normal weights, LayerNorms near 1 and 0, biases small: large enough that attention is far from uniform."""
    import torch

    rng = stream(seed, name)
    tensors = {}
    for key, value in network.state_dict().items():
        norm = key.endswith("weight") and value.ndim == 1
        draw = rng.standard_normal(tuple(value.shape)).astype(np.float32)
        scale = 0.1 if value.ndim == 1 else spread / np.sqrt(value.shape[-1])
        if "embedding" in key and value.ndim == 2:
            scale = 1.0
        tensors[key] = torch.from_numpy(np.asarray(draw * scale + norm, dtype=np.float32))
    return tensors


def _save(tensors: dict, folder: Path, weights: str) -> None:
    import torch
    from safetensors.torch import save_file

    if weights.endswith(".safetensors"):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / weights)
    else:
        torch.save(tensors, folder / weights)


def write_scgpt(
    folder: Path,
    *,
    vocab: Sequence[str],
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    hidden: int = 24,
    max_length: int = 1200,
    n_bins: int = 51,
    seed: int = 0,
    names: Literal["Wqkv", "_impl", "in_proj"] = "Wqkv",
    weights: str = "best_model.pt",
    heads_of_other_tasks: Literal["none", "published"] = "published",
) -> Path:
    """Write ``args.json``, ``vocab.json`` and weights as scGPT publishes them.

    Parameters
    ----------
    folder
        Made if absent.
    vocab
        Gene names; ``<pad>``, ``<cls>``, ``<eoc>`` follow them, as in the published census vocabulary.
    names
        Which of the three published spellings of the fused projection to use.
    weights
        File name; the suffix decides the format.
    heads_of_other_tasks
        Whether tensors lie in the file that attention does not need.
    """
    import torch

    from regulens.models.scgpt import ScGPT

    folder.mkdir(parents=True, exist_ok=True)
    tokens = {t: i for i, t in enumerate([*vocab, "<pad>", "<cls>", "<eoc>"])}
    with torch.device("meta"):
        network = ScGPT(rows=len(tokens), width=width, n_layers=n_layers, heads=n_heads, hidden=hidden)
    tensors = _randomise(network, seed, "checkpoint/scgpt", 2.0)
    if heads_of_other_tasks == "published":
        extra = {
            "flag_encoder.weight": (2, width),
            "mvc_decoder.gene2query.weight": (width, width),
            "mvc_decoder.W.weight": (width, width),
            "cls_decoder._decoder.0.weight": (width, width),
        }
        tensors |= {k: torch.zeros(shape) for k, shape in extra.items()}
    _save(_rename_qkv(tensors, names), folder, weights)
    args = {
        "embsize": width, "nheads": n_heads, "nlayers": n_layers, "d_hid": hidden, "n_layers_cls": 3, "dropout": 0.2,
        "n_bins": n_bins, "max_seq_len": max_length, "input_style": "binned", "input_emb_style": "continuous",
        "pad_token": "<pad>", "pad_value": -2, "mask_value": -1, "fast_transformer": True, "no_cls": True,
    }  # fmt: skip
    (folder / "args.json").write_text(json.dumps(args, indent=1) + "\n", encoding="utf-8")
    # The published file is not in id order either.
    (folder / "vocab.json").write_text(json.dumps(dict(sorted(tokens.items()))) + "\n", encoding="utf-8")
    return folder


def write_geneformer(
    folder: Path,
    *,
    vocab: Sequence[str],
    medians: Sequence[float] | None = None,
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    hidden: int = 24,
    max_length: int = 64,
    act: str = "relu",
    seed: int = 0,
    version: Literal["V1", "V2"] = "V1",
    dictionaries: Literal["json", "pkl"] = "json",
    mapping: dict[str, str] | None = None,
    weights: str = "model.safetensors",
) -> Path:
    """Write ``config.json``, weights and dictionaries as Geneformer publishes them.

    Parameters
    ----------
    folder
        Made if absent; dictionaries go beside the weights.
    vocab
        Ensembl ids, in id order after the special tokens of the version.
    medians
        One per gene; 1 by default.
    version
        ``"V1"``: ``<pad>``, ``<mask>``; ``"V2"``: also ``<cls>``, ``<eos>``.
    dictionaries
        Pickles hold numpy scalars, as the published ones do.
    mapping
        Written as ``ensembl_mapping_dict`` when given.
    """
    import torch

    from regulens.models.geneformer import Geneformer

    folder.mkdir(parents=True, exist_ok=True)
    special = ["<pad>", "<mask>"] + ["<cls>", "<eos>"] * (version == "V2")
    tokens = {t: i for i, t in enumerate([*special, *vocab])}
    scale = dict(zip(vocab, [1.0] * len(vocab) if medians is None else map(float, medians)))
    with torch.device("meta"):
        network = Geneformer(
            rows=len(tokens),
            width=width,
            n_layers=n_layers,
            heads=n_heads,
            hidden=hidden,
            positions=max_length,
            act=act,
        )
    _save(_randomise(network, seed, "checkpoint/geneformer", 2.0), folder, weights)
    config = {
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.02, "hidden_act": act,
        "hidden_dropout_prob": 0.02, "hidden_size": width, "initializer_range": 0.02, "intermediate_size": hidden,
        "layer_norm_eps": 1e-12, "max_position_embeddings": max_length, "model_type": "bert",
        "num_attention_heads": n_heads, "num_hidden_layers": n_layers, "pad_token_id": 0,
        "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": len(tokens),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    suffix = {"V1": "_gc30M", "V2": "_gc104M"}[version]
    tables: dict[str, dict] = {"token_dictionary": tokens, "gene_median_dictionary": scale}
    if mapping is not None:
        tables["ensembl_mapping_dict"] = mapping
    for stem, table in tables.items():
        if dictionaries == "json":
            (folder / f"{stem}{suffix}.json").write_text(json.dumps(table) + "\n", encoding="utf-8")
        else:
            cast = {"token_dictionary": np.int16, "gene_median_dictionary": np.float64}.get(stem, str)
            plain = {k: cast(v) for k, v in table.items()}
            (folder / f"{stem}{suffix}.pkl").write_bytes(pickle.dumps(plain))
    return folder
