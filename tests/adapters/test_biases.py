"""Trained biases: the equation, its gradients, packs, merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_sweep.adapters import AdaptedModel, Segment, bias_name, count_parameters, is_bias
from lora_sweep.records import AdapterSpec

SPECS = [AdapterSpec(rank=2, bias="lora_only"), AdapterSpec(rank=3), AdapterSpec(rank=4, bias="lora_only")]
SEGMENTS = [Segment(0, 0, 2), Segment(1, 2, 3), Segment(2, 3, 6), Segment(9, 6, 7)]  # the last row is the base's alone


def model(kind: str = "linear", dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5) if kind == "linear" else Conv1D(5, 6)
    with torch.no_grad():
        layer.bias.normal_()
    return nn.Sequential(layer.to(dtype), nn.Tanh().to(dtype))


def adapted(kind: str = "linear", dtype: torch.dtype = torch.float32, change: float = 0.5) -> AdaptedModel:
    """Three adapters, of which the first and the last train the bias; B and biases are moved away from their start."""
    made = AdaptedModel(model(kind, dtype))
    for slot, spec in enumerate(SPECS):
        weights = made.add(slot, spec.model_copy(update={"target_modules": "0"}), seed=slot)
        generator = torch.Generator().manual_seed(slot)
        with torch.no_grad():
            for name, parameter in weights.named.items():
                if "lora_A" not in name:
                    parameter.add_(change * torch.randn(parameter.shape, generator=generator))
        weights.refresh()
    return made


def own(made: AdaptedModel, slot: int, part: str) -> Tensor:
    return made.slots[slot][2].named[f"0.{part}"].detach()


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_a_new_bias_is_the_bases_and_leaves_the_output_exactly_as_it_was(kind: str) -> None:
    made = AdaptedModel(model(kind))
    x = torch.randn(4, 7, 6)
    before = made.model(x)
    weights = made.add(0, AdapterSpec(rank=2, target_modules="0", bias="lora_only"), seed=0)
    assert torch.equal(weights.named[bias_name("0")], made.model[0].base.bias)
    with made.routing.whole(0):
        assert torch.equal(made.model(x), before)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_outputs_and_gradients_equal_autograd_of_the_equation(kind: str) -> None:
    made = adapted(kind)
    x = torch.randn(7, 3, 6, requires_grad=True)
    with made.routing.segmented(SEGMENTS):
        out = made.model(x)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()

    y, layer = x.detach().clone().requires_grad_(), made.model[0].base
    matrix = layer.weight if kind == "linear" else layer.weight.T
    biases = {slot: own(made, slot, "base_layer.bias").clone().requires_grad_() for slot in (0, 2)}
    parts = []
    for segment in SEGMENTS:
        rows = y[segment.start : segment.stop]
        h = rows @ matrix.T + biases.get(segment.slot, layer.bias)
        if segment.slot < 3:
            spec = SPECS[segment.slot]
            a, b = own(made, segment.slot, "lora_A.weight"), own(made, segment.slot, "lora_B.weight")
            h = h + spec.alpha / spec.rank * (rows @ a.T @ b.T)
        parts.append(h.tanh())
    expected = torch.cat(parts)
    (expected * weight).sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x.grad, y.grad)
    for slot, bias in biases.items():
        torch.testing.assert_close(made.slots[slot][2].gradients[bias_name("0")], bias.grad)
    assert layer.bias.grad is None


def test_gradients_add_up() -> None:
    made, x = adapted(), torch.randn(2, 3, 6)
    weights = made.slots[0][2]
    sizes = []
    for _ in range(2):
        with made.routing.whole(0):
            made.model(x).sum().backward()
        sizes.append(weights.gradients[bias_name("0")].clone())
    assert sizes[0].abs().min() > 0
    torch.testing.assert_close(sizes[1], 2 * sizes[0])


@pytest.mark.parametrize("where", ["rows", "bias"])
def test_nan_of_one_adapter_does_not_reach_another(where: str) -> None:
    made, x = adapted(), torch.randn(7, 3, 6)
    clean, _ = outputs_and_gradients(made, x)
    if where == "rows":
        x[:2] = float("nan")
    else:
        with torch.no_grad():
            made.slots[0][2].named[bias_name("0")].fill_(float("nan"))
    out, gradients = outputs_and_gradients(made, x)
    assert out[:2].isnan().all() and torch.equal(out[2:], clean[2:])
    assert gradients[0].isnan().any() and gradients[1].isfinite().all() and gradients[2].isfinite().all()


def outputs_and_gradients(made: AdaptedModel, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    for *_, weights in made.slots.values():
        weights.bank.gradient.zero_()
    with made.routing.segmented(SEGMENTS):
        out = made.model(x)
    out.sum().backward()
    return out.detach(), [weights.flat(weights.bank.gradient) for *_, weights in made.slots.values()]


def test_packed_rows_equal_rows_alone() -> None:
    made, x = adapted(), torch.randn(7, 3, 6)
    out, gradients = outputs_and_gradients(made, x)
    for segment in SEGMENTS[:3]:
        weights = made.slots[segment.slot][2]
        weights.bank.gradient.zero_()
        with made.routing.whole(segment.slot):
            alone = made.model(x[segment.start : segment.stop])
        alone.sum().backward()
        torch.testing.assert_close(out[segment.start : segment.stop], alone)
        torch.testing.assert_close(gradients[segment.slot], weights.flat(weights.bank.gradient))


def test_a_bias_on_a_bf16_base_is_kept_and_added_in_fp32() -> None:
    """A step of 2**-12 on a bias near 1 is below bf16's resolution there, but not below that of an output near 0."""
    layer = nn.Linear(1, 1, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(-1.0)
        layer.bias.fill_(1.0)
    made = AdaptedModel(nn.Sequential(layer))
    weights = made.add(0, AdapterSpec(rank=1, target_modules="0", bias="lora_only"), seed=0)
    with torch.no_grad():
        weights.named[bias_name("0")].add_(2**-12)
    weights.refresh()
    with made.routing.whole(0):
        out = made.model(torch.ones(300, 2, 1, dtype=torch.bfloat16))
    assert out.dtype is torch.bfloat16 and (out == 2**-12).all()
    out.sum().backward()
    # 600 ones do not add up in bf16
    gradient = weights.gradients[bias_name("0")]
    assert gradient == 600 and gradient.dtype is torch.float32


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_merged_equals_unmerged_and_unmerge_restores_every_bit(kind: str) -> None:
    made, x = adapted(kind), torch.randn(5, 6)
    layer = made.model[0].base
    before = [parameter.clone() for parameter in layer.parameters()]
    for slot in range(3):
        with made.routing.whole(slot), torch.no_grad():
            unmerged = made.model(x)
        made.merge(slot)
        assert torch.equal(layer.bias, before[1]) == (slot == 1)
        torch.testing.assert_close(made.model(x), unmerged)
        made.unmerge()
        assert all(torch.equal(now, old) for now, old in zip(layer.parameters(), before, strict=True))


def test_only_layers_with_a_bias_train_one_and_the_count_says_so() -> None:
    base = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4, bias=False))
    made = AdaptedModel(base, called=("0", "1"))
    spec = AdapterSpec(rank=2, target_modules=("0", "1"), bias="lora_only")
    assert [name for name in made.shapes(spec) if is_bias(name)] == [bias_name("0")]
    count = count_parameters(made, spec)
    assert (count.lora, count.biases, count.trained_in_full) == (2 * (6 + 5) + 2 * (5 + 4), 5, 0)
    assert count.trainable == made.add(0, spec, seed=0).size == count.lora + 5
    frozen: Any = spec.model_copy(update={"bias": "none"})
    assert count_parameters(made, frozen).biases == 0


def test_norms_are_of_the_matrices_alone() -> None:
    made = adapted()
    before = made.norms(0)
    with torch.no_grad():
        made.slots[0][2].named[bias_name("0")].fill_(100.0)
    assert made.norms(0) == before
