"""Products with frozen weights equal torch's own, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lora_sweep.adapters import AdaptedModel, frozen_linear
from lora_sweep.adapters.frozen_linear import FrozenLinear, freeze_linear, product, thaw_linear

WITH_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.skipif(not WITH_ONEDNN, reason="no oneDNN"))])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With oneDNN, whatever this processor is, and without."""
    monkeypatch.setattr(frozen_linear, "onednn_is_faster", lambda: request.param)
    return request.param


def near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not WITH_ONEDNN, reason="no oneDNN")
def test_onednn_multiplies_where_it_is_faster(onednn: bool) -> None:
    layer, x = FrozenLinear(24, 7).requires_grad_(False), torch.randn(3, 24, requires_grad=True)
    with torch.profiler.profile() as recorded:
        layer(x).sum().backward()
    found = [event.name for event in recorded.events() if event.name == "mkldnn::_linear_pointwise"]
    assert len(found) == (2 if onednn else 0)  # forward and backward


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24), (0, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_product_equals_torch(onednn: bool, shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(24, 7, bias=bias)
    x = torch.randn(shape)
    assert near(product(x, layer.weight, layer.bias), layer(x))


def test_strides_do_not_matter(onednn: bool) -> None:
    weight, x = torch.randn(24, 7), torch.randn(24, 6).T
    assert near(product(x, weight.T), x @ weight)


def test_product_spreads_nan_along_its_row_only(onednn: bool) -> None:
    x = torch.randn(4, 24)
    x[1, 3] = float("nan")
    assert product(x, torch.randn(7, 24)).isnan().any(dim=1).tolist() == [False, True, False, False]


def test_frozen_layer_passes_the_gradient_on(onednn: bool) -> None:
    plain = nn.Linear(24, 7).requires_grad_(False)
    frozen = FrozenLinear(24, 7).requires_grad_(False)
    frozen.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 24)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    for layer, given in ((frozen, ours), (plain, theirs)):
        layer(given).square().sum().backward()
    assert near(ours.grad, theirs.grad)


@pytest.mark.parametrize("trained", ["weight", "bias"])
def test_layer_that_trains_is_torchs_own(onednn: bool, trained: str) -> None:
    layer = FrozenLinear(24, 7).requires_grad_(False)
    getattr(layer, trained).requires_grad_()
    layer(torch.randn(3, 24)).sum().backward()
    assert getattr(layer, trained).grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_torchs_own(onednn: bool, dtype: torch.dtype) -> None:
    layer = FrozenLinear(24, 7, dtype=dtype).requires_grad_(False)
    x = torch.randn(3, 24, dtype=dtype)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_freezing_is_undone(onednn: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4).bfloat16())
    freeze_linear(model)
    assert [type(module) is FrozenLinear for module in model] == [onednn, False, False]
    thaw_linear(model)
    assert [type(module) for module in model] == [nn.Linear, nn.LayerNorm, nn.Linear]


def test_base_is_frozen_but_where_torchs_own_products_are_asked_for(onednn: bool) -> None:
    adapted = AdaptedModel(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), trained=["1"])
    head = adapted.model[1].base
    assert type(adapted.model[0]) is (FrozenLinear if onednn else nn.Linear) and type(head) is nn.Linear
    with adapted.thawed():
        assert type(adapted.model[0]) is nn.Linear
    assert type(adapted.model[0]) is (FrozenLinear if onednn else nn.Linear) and type(head) is nn.Linear
