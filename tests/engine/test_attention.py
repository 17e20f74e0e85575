"""Attention with a softmax in fp32, against that of the architectures in whose place it stands."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_sweep.engine.attention import IN_BASE_DTYPE, attend
from lora_sweep.engine.unpadding import _eager

ROWS, HEADS, LENGTH, FEATURES = 3, 2, 39, 8


@pytest.fixture(params=sorted(IN_BASE_DTYPE))
def code(request: pytest.FixtureRequest) -> Any:
    """The modeling code of an architecture."""
    return import_module(f"transformers.models.{request.param}.modeling_{request.param}")


def answers(attention: Callable[..., Any], dtype: torch.dtype, scaling: float) -> list[Tensor]:
    """What an attention gives for random rows, with padding, and the gradients by query, key and value."""
    torch.manual_seed(0)
    inputs = [x.to(dtype).requires_grad_() for x in torch.randn(3, ROWS, HEADS, LENGTH, FEATURES)]
    mask = torch.zeros(ROWS, 1, LENGTH, LENGTH, dtype=dtype)
    mask[1:, :, :, 33:] = torch.finfo(dtype).min
    out, weights = attention(nn.Module().eval(), *inputs, mask, scaling=scaling, dropout=0.5)
    out.backward(torch.randn(out.shape).to(dtype))
    return [out, weights, *(x.grad for x in inputs if x.grad is not None)]


@pytest.mark.parametrize("scaling", [FEATURES**-0.5, 0.3])
def test_it_is_the_architectures_own(code: Any, scaling: float) -> None:
    own = code.eager_attention_forward
    torch.testing.assert_close(answers(attend, torch.float32, scaling), answers(own, torch.float32, scaling))


def test_in_bf16_it_is_but_for_rounding(code: Any) -> None:
    ours, own = (answers(it, torch.bfloat16, 0.3) for it in (attend, code.eager_attention_forward))
    for one, other in zip(ours, own, strict=True):
        assert (one - other).float().norm() <= 2**-7 * other.float().norm()


def test_scaling_is_by_features_where_none_is_given() -> None:
    query, key, value = torch.randn(3, ROWS, HEADS, LENGTH, FEATURES)
    given = attend(nn.Module(), query, key, value, None, scaling=FEATURES**-0.5)
    torch.testing.assert_close(attend(nn.Module(), query, key, value, None), given)


def test_training_drops_weights() -> None:
    query, key, value = torch.randn(3, ROWS, HEADS, LENGTH, FEATURES)
    _, weights = attend(nn.Module().train(), query, key, value, None, dropout=0.5)
    assert 0 < int((weights == 0).sum()) < weights.numel()


def test_only_narrow_bases_of_these_architectures_get_it(code: Any) -> None:
    assert _eager(_of(code), torch.bfloat16) is attend
    assert _eager(_of(code), torch.float32) is code.eager_attention_forward
    llama = import_module("transformers.models.llama.modeling_llama")
    assert _eager(_of(llama), torch.bfloat16) is llama.eager_attention_forward


def _of(code: Any) -> nn.Module:
    """A module that is defined in that code."""
    return type("Attention", (nn.Module,), {"__module__": code.__name__})()
