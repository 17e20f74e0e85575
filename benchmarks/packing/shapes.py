"""Bases with the shapes of known models and random weights, built on the device in the dtype that they run in."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import transformers
from torch import nn

from lora_sweep.models import FrozenBase, TaskType, called_linear, choose_attention, head_modules


@dataclass(frozen=True)
class Shape:
    """What decides how much a model computes.

    Attributes:
        config: class name of the configuration in transformers.
        task: what the base is built for.
        sizes: arguments of the configuration.
    """

    config: str
    task: TaskType
    sizes: dict[str, Any]


def _decoder(
    config: str, vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, mlp: int, tied: bool
) -> Shape:
    return Shape(
        config,
        "causal-lm",
        {
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_heads,
            "intermediate_size": mlp,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": tied,
        },
    )


SHAPES: dict[str, Shape] = {
    "minilm": Shape(
        "BertConfig",
        "classification",
        {
            "vocab_size": 30522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
            "max_position_embeddings": 512,
            "num_labels": 3,
        },
    ),
    "smollm2-135m": _decoder("LlamaConfig", 49152, 576, 30, 9, 3, 1536, tied=True),
    "qwen2.5-0.5b": _decoder("Qwen2Config", 151936, 896, 24, 14, 2, 4864, tied=True),
    "llama-3.2-1b": _decoder("LlamaConfig", 128256, 2048, 16, 32, 8, 8192, tied=True),
    "llama-3.1-8b": _decoder("LlamaConfig", 128256, 4096, 32, 32, 8, 14336, tied=False),
    "tiny-llama": _decoder("LlamaConfig", 64, 32, 2, 4, 2, 64, tied=True),
    "tiny-bert": Shape(
        "BertConfig",
        "classification",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 512,
            "num_labels": 3,
        },
    ),
}
"""The sizes of sentence-transformers/all-MiniLM-L6-v2, HuggingFaceTB/SmolLM2-135M, Qwen/Qwen2.5-0.5B,
meta-llama/Llama-3.2-1B and meta-llama/Llama-3.1-8B; the last two are for tests."""


def build_base(name: str, device: str, dtype: torch.dtype) -> FrozenBase:
    """A frozen base with random weights.

    Args:
        name: a key of SHAPES.
        device: `cpu`, `cuda` or `meta`.
        dtype: of its weights.
    """
    shape = SHAPES[name]
    config = getattr(transformers, shape.config)(pad_token_id=0, **shape.sizes)
    classification = shape.task == "classification"
    auto = transformers.AutoModelForSequenceClassification if classification else transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    with torch.device(device):
        model = cast(Any, auto).from_config(config, dtype=dtype, attn_implementation=choose_attention(device))
    model.config.use_cache = False
    model.requires_grad_(False).eval()
    head = head_modules(model, shape.task)
    return FrozenBase(model, name, shape.task, head, head, called_linear(model))


def same_weights(base: FrozenBase) -> FrozenBase:
    """The base with modules of its own over the same tensors, so that others can wrap them without a second copy."""
    tensors = (*base.model.parameters(), *base.model.buffers())
    model: nn.Module = copy.deepcopy(base.model, {id(tensor): tensor for tensor in tensors})
    return replace(base, model=model)
