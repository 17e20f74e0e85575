"""Attention with a softmax in fp32, against that of the architectures in whose place it stands."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn

from lora_sweep.engine.attention import IN_BASE_DTYPE, attend

ROWS, HEADS, LENGTH, FEATURES = 3, 2, 7, 8


@pytest.mark.parametrize("scaling", [FEATURES**-0.5, 0.3])
@pytest.mark.parametrize("architecture", sorted(IN_BASE_DTYPE))
def test_it_is_the_architectures_own(architecture: str, scaling: float) -> None:
    own = import_module(f"transformers.models.{architecture}.modeling_{architecture}").eager_attention_forward
    query, key, value = torch.randn(3, ROWS, HEADS, LENGTH, FEATURES)
    mask = torch.zeros(ROWS, 1, LENGTH, LENGTH)
    mask[:, :, :, 5:] = torch.finfo(torch.float32).min
    module = nn.Module().eval()
    expected = own(module, query, key, value, mask, scaling=scaling, dropout=0.5)
    torch.testing.assert_close(attend(module, query, key, value, mask, scaling=scaling, dropout=0.5), expected)


def test_in_bf16_it_is_nearer_to_fp32() -> None:
    query, key, value = torch.randn(3, 16, HEADS, 40, FEATURES)
    module = nn.Module().eval()
    own = import_module("transformers.models.bert.modeling_bert").eager_attention_forward
    exact, _ = attend(module, query, key, value, None)
    narrow = [x.bfloat16() for x in (query, key, value)]
    ours, theirs = ((run(module, *narrow, None)[0].float() - exact).square().mean() for run in (attend, own))
    assert ours <= theirs


def test_training_drops_weights() -> None:
    query, key, value = torch.randn(3, ROWS, HEADS, LENGTH, FEATURES)
    _, weights = attend(nn.Module().train(), query, key, value, None, dropout=0.5)
    assert 0 < int((weights == 0).sum()) < weights.numel()
