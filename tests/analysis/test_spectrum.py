from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.spectrum import product_singular_values, spectra
from lora_sweep.errors import AdapterFormatError
from lora_sweep.records import AdapterSpec


def adapter(tensors, **spec):
    return AdapterFile(AdapterSpec(**spec), tensors, (), "base")


def pair(name, a, b):
    return {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}


@settings(max_examples=40, deadline=None)
@given(
    size_out=st.integers(1, 12), size_in=st.integers(1, 12), rank=st.integers(1, 16), alpha=st.floats(0.1, 64),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_singular_values_are_those_of_the_product(size_out, size_in, rank, alpha, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, size_in, generator=generator)
    b = torch.randn(size_out, rank, generator=generator)
    (layer,) = spectra(adapter(pair("l", a, b), rank=rank, alpha=alpha))
    update = (alpha / rank) * b.double() @ a.double()
    found = torch.tensor(layer.singular_values, dtype=torch.float64)
    assert len(found) == min(rank, size_out, size_in)
    expected = torch.linalg.svdvals(update)
    largest = float(expected[0])
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-9, atol=1e-12 * max(1.0, largest))
    assert float(expected[len(found) :].sum()) < 1e-10 * max(1.0, largest)
    assert layer.norm_update == pytest.approx(float(update.norm()), rel=1e-9)
    assert 1 - 1e-9 <= layer.stable_rank <= len(found) + 1e-9


def test_a_known_matrix():
    a = torch.diag(torch.tensor([4.0, 2.0, 0.0]))
    (layer,) = spectra(adapter(pair("l", a, torch.eye(3)), rank=3, alpha=6))
    assert layer.singular_values == pytest.approx((8.0, 4.0, 0.0))
    assert layer.stable_rank == pytest.approx((64 + 16) / 64)
    assert (layer.shape, layer.rank) == ((3, 3), 3)
    assert (layer.norm_a, layer.norm_b) == (pytest.approx(math.sqrt(20)), pytest.approx(math.sqrt(3)))


def test_a_new_adapter_updates_nothing():
    (layer,) = spectra(adapter(pair("l", torch.randn(2, 5), torch.zeros(7, 2)), rank=2, alpha=4))
    assert layer.singular_values == (0.0, 0.0)
    assert (layer.norm_update, layer.stable_rank) == (0.0, 0.0)
    assert layer.shape == (7, 5)


def test_layers_with_ranks_and_scalings_of_their_own():
    tensors = pair("b", torch.eye(1, 3), torch.eye(3, 1)) | pair("a", torch.eye(2, 3), torch.eye(3, 2))
    layers = spectra(adapter(tensors, rank=2, alpha=4, rank_pattern={"b": 1}, alpha_pattern={"b": 5}))
    assert [(layer.name, layer.rank, layer.singular_values) for layer in layers] == [
        ("a", 2, (2.0, 2.0)),
        ("b", 1, (5.0,)),
    ]


def test_an_adapter_without_lora_has_no_layers():
    assert spectra(adapter({"classifier.weight": torch.ones(2, 2)}, rank=2, alpha=4)) == []


def test_half_precision_factors():
    b, a = torch.randn(6, 2).bfloat16(), torch.randn(2, 5).bfloat16()
    expected = torch.linalg.svdvals(b.double() @ a.double())[:2]
    torch.testing.assert_close(product_singular_values(b, a), expected)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"l.lora_A.weight": torch.ones(2, 3)},
            "adapter: l: must have A [rank, in] and B [out, rank], got 'A [2, 3], B missing'",
        ),
        (
            pair("l", torch.ones(2, 3), torch.ones(4, 3)),
            "adapter: l: must have A [rank, in] and B [out, rank], got 'A [2, 3], B [4, 3]'",
        ),
        (
            pair("l", torch.full((2, 3), math.nan), torch.ones(4, 2)),
            "adapter: l: must hold finite numbers, got 'NaN or infinity'",
        ),
    ],
)
def test_broken_adapters_are_refused(tensors, message):
    with pytest.raises(AdapterFormatError) as error:
        spectra(adapter(tensors, rank=2, alpha=4))
    assert str(error.value) == message
