"""How does one get an AIDO.Cell checkpoint without downloading one? A small random one in the published layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from regulens.testing.checkpoint_scfoundation import write_gene_list
from regulens.testing.checkpoints import _randomise, _save


def write_aido_cell(
    folder: Path,
    *,
    vocab: Sequence[str],
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    hidden: int = 24,
    bins: int = 10,
    norm: Literal["LayerNorm", "RMSNorm"] = "LayerNorm",
    bias: bool = True,
    prefix: Literal["", "bert."] = "",
    heads_of_other_tasks: Literal["none", "published"] = "published",
    weights: str = "model.safetensors",
    seed: int = 0,
) -> Path:
    """Write ``config.json``, weights and the gene list as AIDO.Cell publishes them.

    Parameters
    ----------
    folder
        Made if absent.
    vocab
        Symbols in the order of the list.
    norm, bias
        Both kinds of normalisation and of linear maps exist in the published code.
    prefix
        ``"bert."``: as saved with a head.
    heads_of_other_tasks
        Whether tensors of the masked-value head lie in the file.
    """
    import torch

    from regulens.models.aido_cell import AidoCell

    folder.mkdir(parents=True, exist_ok=True)
    write_gene_list(folder, vocab)
    with torch.device("meta"):
        network = AidoCell(
            rows=len(vocab) + 2, width=width, n_layers=n_layers, heads=n_heads, hidden=hidden, bins=bins, norm=norm,
            bias=bias,
        )  # fmt: skip
    tensors = {f"{prefix}{k}": v for k, v in _randomise(network, seed, "checkpoint/aido_cell", 1.0).items()}
    if heads_of_other_tasks == "published":
        tensors |= {"cls.predictions.decoder.weight": torch.zeros(1, width), "cls.predictions.bias": torch.zeros(1)}
    _save(tensors, folder, weights)
    config = {
        "architectures": ["CellFoundationModel"], "model_type": "cellfoundation", "hidden_size": width,
        "num_hidden_layers": n_layers, "num_attention_heads": n_heads, "intermediate_size": hidden,
        "hidden_act": "swiglu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": len(vocab), "layer_norm_eps": 1e-5, "add_linear_bias": bias,
        "position_embedding_type": "absolute", "normalization_type": norm, "bin_num": bins, "bin_alpha": 1.0,
        "pad_token_id": -2, "mask_token_id": -1, "vocab_size": 16, "type_vocab_size": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return folder
