"""One layer: the equation, its gradients against autograd's own, merging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_sweep.adapters import AdaptedModel, DropoutStream, Segment
from lora_sweep.adapters.dropout import KeepTable, kept, module_key, window_starts
from lora_sweep.adapters.layer import LoraLinear, linear_shape
from lora_sweep.adapters.names import lora_names
from lora_sweep.errors import AdapterStateError
from lora_sweep.records import AdapterSpec


def make_layer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(12, 20) if kind == "linear" else Conv1D(20, 12)


def keep_mask(stream: DropoutStream, module: str, p: float, tokens: int, features: int) -> torch.Tensor:
    """1 where an element stays, 0 where it goes: [rows, tokens, features]."""
    keys, positions = torch.from_numpy(stream.row_keys()), torch.arange(tokens).repeat(len(stream.rows))
    starts = window_starts(keys.repeat_interleave(tokens), positions, module_key(module))[0]
    masks = KeepTable([p], torch.float32, torch.device("cpu")).masks(starts, features)
    return kept(torch.ones(len(starts), features), masks).view(len(stream.rows), tokens, features)


def adapted_layer(kind: str, *specs: AdapterSpec) -> AdaptedModel:
    """A one-layer model with an adapter in each slot; B is made non-zero."""
    adapted = AdaptedModel(nn.Sequential(make_layer(kind)))
    for slot, spec in enumerate(specs):
        weights = adapted.add(slot, spec.model_copy(update={"target_modules": "0"}), seed=slot)
        with torch.no_grad():
            weights.named["0.lora_B.weight"].normal_(generator=torch.Generator().manual_seed(slot))
    return adapted


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_new_adapter_leaves_the_output_exactly_as_it_was(kind: str) -> None:
    layer, x = make_layer(kind), torch.randn(4, 7, 12)
    before = layer(x)
    adapted = AdaptedModel(nn.Sequential(layer))
    adapted.add(0, AdapterSpec(rank=3, target_modules="0"), seed=0)
    with adapted.routing.whole(0):
        assert torch.equal(adapted.model(x), before)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_gradients_equal_autograd_of_the_equation(kind: str) -> None:
    specs = [AdapterSpec(rank=2, alpha=8), AdapterSpec(rank=5, alpha=3, dropout=0.4), AdapterSpec(rank=12)]
    adapted = adapted_layer(kind, *specs)
    layer = adapted.model[0]
    assert isinstance(layer, LoraLinear)
    x = torch.randn(9, 6, 12, requires_grad=True)
    stream = DropoutStream(7, np.arange(4))
    segments = [Segment(0, 0, 2), Segment(1, 2, 6, stream), Segment(2, 6, 8)]  # the last row is the base's alone
    segments.append(Segment(9, 8, 9))
    with adapted.routing.segmented(segments):
        out = adapted.model(x)
    loss_weights = torch.randn_like(out)
    (out * loss_weights).sum().backward()

    y = x.detach().clone().requires_grad_()
    mask = keep_mask(stream, "0", 0.4, 6, 12) / 0.6
    parts = []
    leaves = []
    for slot, rows, spec in [(0, slice(0, 2), specs[0]), (1, slice(2, 6), specs[1]), (2, slice(6, 8), specs[2])]:
        a, b = (adapted.slots[slot][2].named[name].clone().requires_grad_() for name in lora_names("0"))
        dropped = y[rows] * mask if slot == 1 else y[rows]
        parts.append(layer.base(y[rows]) + spec.alpha / spec.rank * (dropped @ a.T @ b.T))
        leaves.append((a, b))
    expected = torch.cat([*parts, layer.base(y[8:])])
    (expected * loss_weights).sum().backward()

    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x.grad, y.grad)
    for slot, (a, b) in enumerate(leaves):
        found = adapted.slots[slot][2].gradients
        for name, leaf in zip(lora_names("0"), (a, b), strict=True):
            # padded ranks add in another order: elements that cancel are off by a rounding of the largest
            torch.testing.assert_close(found[name], leaf.grad, rtol=1.3e-6, atol=1e-6 * float(leaf.grad.abs().max()))
    assert all(p.grad is None for p in layer.base.parameters())


def test_nan_rows_of_one_adapter_do_not_reach_another() -> None:
    adapted = adapted_layer("linear", AdapterSpec(rank=2, dropout=0.3), AdapterSpec(rank=4, dropout=0.3))
    x = torch.randn(4, 3, 12)
    x[:2] = float("nan")
    streams = [DropoutStream(1, np.arange(2)), DropoutStream(2, np.arange(2))]
    with adapted.routing.segmented([Segment(0, 0, 2, streams[0]), Segment(1, 2, 4, streams[1])]):
        out = adapted.model(x)
    out.sum().backward()
    assert out[:2].isnan().all() and out[2:].isfinite().all()
    first, second = (adapted.slots[slot][2].gradients.values() for slot in (0, 1))
    assert all(gradient.isnan().any() for gradient in first)
    assert all(gradient.isfinite().all() for gradient in second)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_merged_equals_unmerged_and_unmerge_restores_every_bit(kind: str) -> None:
    adapted = adapted_layer(kind, AdapterSpec(rank=4, alpha=8))
    layer = adapted.model[0]
    original, x = layer.base.weight.clone(), torch.randn(5, 12)
    with adapted.routing.whole(0), torch.no_grad():
        unmerged = adapted.model(x)
    adapted.merge(0)
    assert not torch.equal(layer.base.weight, original)
    torch.testing.assert_close(adapted.model(x), unmerged)
    adapted.unmerge()
    assert torch.equal(layer.base.weight, original)


def test_merging_twice_and_training_while_merged_are_errors() -> None:
    adapted = adapted_layer("linear", AdapterSpec(rank=4), AdapterSpec(rank=2))
    adapted.merge(0)
    with pytest.raises(AdapterStateError, match="slot 0 is merged"):
        adapted.merge(1)
    with pytest.raises(AdapterStateError, match="slot 0 is merged"):
        adapted.add(2, AdapterSpec(rank=2, target_modules="0"), seed=0)
    with adapted.routing.whole(1), pytest.raises(AdapterStateError, match="cannot train while slot 0 is merged"):
        adapted.model(torch.randn(2, 12))


def test_removing_the_last_adapter_puts_the_plain_layer_back() -> None:
    adapted = adapted_layer("linear", AdapterSpec(rank=4), AdapterSpec(rank=2))
    adapted.remove(0)
    assert isinstance(adapted.model[0], LoraLinear)
    adapted.remove(1)
    assert isinstance(adapted.model[0], nn.Linear)
    assert type(adapted.unwrap()[0]) is nn.Linear


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_shape_is_in_by_out(kind: str) -> None:
    assert linear_shape(make_layer(kind)) == (12, 20)


def test_bf16_base_gives_fp32_gradients() -> None:
    adapted = AdaptedModel(nn.Sequential(nn.Linear(8, 8, dtype=torch.bfloat16)))
    weights = adapted.add(0, AdapterSpec(rank=2, target_modules="0"), seed=0)
    with adapted.routing.whole(0):
        out = adapted.model(torch.randn(3, 8, dtype=torch.bfloat16))
    out.float().sum().backward()
    gradient = weights.gradients["0.lora_B.weight"]
    assert out.dtype is torch.bfloat16 and gradient.dtype is torch.float32
    assert gradient.abs().sum() > 0


def test_base_dropout_follows_the_trials_stream_and_is_off_without_one() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    adapted = AdaptedModel(model, base_dropout=True)
    x = torch.randn(6, 8)
    plain = adapted.model(x)
    stream = DropoutStream(4, np.arange(3))
    with adapted.routing.segmented([Segment(0, 0, 3, stream), Segment(1, 3, 6)]):
        out = adapted.model(x)
    torch.testing.assert_close(out[3:], plain[3:])
    keep = keep_mask(stream, "1", 0.5, 1, 8)[:, 0].bool()
    torch.testing.assert_close(out[:3], model[2](torch.where(keep, model[0](x[:3]), 0) / 0.5))
