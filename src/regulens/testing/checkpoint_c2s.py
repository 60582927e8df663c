"""How does one get a C2S-Pythia checkpoint without downloading one? A small random one, same files and keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regulens.rng import stream


def _tokenizer(symbols: Sequence[str], merges: int, text: str) -> Any:
    """Byte-level word pieces in the style of GPT-NeoX, learned from the symbols so that names fall into pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=257 + merges,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text, *(f" {s.upper()}" for s in symbols)], trainer)
    return tokenizer


def write_c2s(
    folder: Path,
    *,
    vocab: Sequence[str],
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    hidden: int = 24,
    max_length: int = 256,
    merges: int = 60,
    seed: int = 0,
    act: str = "gelu",
    parallel: bool = True,
    config_style: Literal["old", "new"] = "old",
    names: Literal["published", "old", "bare"] = "published",
    weights: str = "model.safetensors",
    licence: str = "cc0-1.0",
    sentence: dict[str, str] | None = None,
) -> Path:
    """Write ``config.json``, ``tokenizer.json``, ``README.md`` and weights as C2S-Pythia publishes them.

    Parameters
    ----------
    folder
        Made if absent.
    vocab
        Gene symbols that the word pieces are learned from; other symbols are spelled with smaller pieces.
    merges
        How many pieces of more than one byte are learned; few make every name several pieces long.
    config_style
        ``"old"``: ``rotary_pct``; ``"new"``: ``rope_parameters``.
    names
        ``"old"``: ``embed_out`` and the causal masks of older versions lie in the file; ``"bare"``: the body alone,
        without the prefix and without the output matrix.
    licence
        Written to the head of ``README.md``; an empty one leaves the file out.
    sentence
        Written as ``cell_sentence.json`` when given.
    """
    import torch
    from safetensors.torch import save_file

    from regulens.models.c2s import C2S, SENTENCE

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(vocab, merges, SENTENCE["before"] + SENTENCE["after"])
    rows = tokenizer.get_vocab_size() + 7  # the published embedding is padded, too
    head_width = width // n_heads
    with torch.device("meta"):
        network = C2S(
            rows=rows, width=width, n_layers=n_layers, heads=n_heads, hidden=hidden, turned=head_width // 4, act=act,
            parallel=parallel,
        )  # fmt: skip
    rng = stream(seed, "checkpoint/c2s")
    tensors = {}
    for key, value in network.state_dict().items():
        draw = rng.standard_normal(tuple(value.shape))
        norm = "layer" in key and "norm.weight" in key
        scale = 0.1 if value.ndim == 1 else 1.0 if "embed_in" in key else 1.5 / np.sqrt(value.shape[-1])
        tensors[key] = torch.from_numpy(np.asarray(draw * scale + norm, dtype=np.float32))
    if names == "old":
        tensors["embed_out.weight"] = tensors.pop("lm_head.weight")
        for layer in range(n_layers):
            place = f"gpt_neox.layers.{layer}.attention"
            tensors[f"{place}.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
            tensors[f"{place}.masked_bias"] = torch.tensor(-1e9)
            tensors[f"{place}.rotary_emb.inv_freq"] = torch.ones(max(head_width // 8, 1))
    if names == "bare":
        tensors.pop("lm_head.weight")
        tensors = {k.removeprefix("gpt_neox."): v for k, v in tensors.items()}
    if weights.endswith(".safetensors"):
        save_file(tensors, folder / weights)
    else:
        torch.save(tensors, folder / weights)
    config: dict[str, Any] = {
        "architectures": ["GPTNeoXForCausalLM"], "attention_bias": True, "bos_token_id": 0, "eos_token_id": 0,
        "hidden_act": act, "hidden_size": width, "initializer_range": 0.02, "intermediate_size": hidden,
        "layer_norm_eps": 1e-05, "max_position_embeddings": max_length, "model_type": "gpt_neox",
        "num_attention_heads": n_heads, "num_hidden_layers": n_layers, "tie_word_embeddings": False,
        "use_parallel_residual": parallel, "vocab_size": rows,
    }  # fmt: skip
    if config_style == "old":
        config |= {"rotary_emb_base": 10000, "rotary_pct": 0.25}
    else:
        config["rope_parameters"] = {"partial_rotary_factor": 0.25, "rope_theta": 10000.0, "rope_type": "default"}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A model\n", encoding="utf-8")
    if sentence is not None:
        (folder / "cell_sentence.json").write_text(json.dumps(sentence) + "\n", encoding="utf-8")
    return folder
