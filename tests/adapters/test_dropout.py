"""Masks by counter: the right share, no correlation, the same whatever else is going on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lora_sweep.adapters import DropoutStream, stream_key


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_share_of_dropped_elements(p: float) -> None:
    mask = DropoutStream(3, np.arange(64)).keep_mask("layer", p, 4096)
    share = 1 - mask.float().mean().item()
    assert abs(share - p) < 5 * (p * (1 - p) / mask.numel()) ** 0.5 + 2**-16


def test_mask_of_a_row_depends_on_its_number_alone() -> None:
    whole = DropoutStream(3, np.arange(10)).keep_mask("layer", 0.3, 101)
    part = DropoutStream(3, np.array([7, 2])).keep_mask("layer", 0.3, 101)
    assert torch.equal(part, whole[[7, 2]])


def test_different_steps_modules_seeds_and_rows_are_uncorrelated() -> None:
    rows = np.arange(2)
    masks = [
        DropoutStream(stream_key(seed, step), rows).keep_mask(module, 0.5, 100_000)
        for seed, step, module in [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b")]
    ]
    flat = torch.stack([row.double() for mask in masks for row in mask])
    correlation = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlation.abs().max() < 0.02  # 6 standard errors of 1/sqrt(100,000)


def test_neighbouring_elements_are_uncorrelated() -> None:
    mask = DropoutStream(1, np.arange(1)).keep_mask("a", 0.5, 400_000)[0].double()
    for lag in (1, 2, 3, 4, 5, 8, 384):
        pair = torch.stack([mask[:-lag], mask[lag:]])
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.01


def test_bits_are_philox_of_the_counter() -> None:
    """The first block of a row against plain Python integers (Salmon et al., SC'11, Philox4x64-10)."""
    word, key, row = (1 << 64) - 1, stream_key(5, "m"), 3
    c, k = [1, 0, 0, row], [key, 0]  # numpy counts up before it draws
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], 1 << 64)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], 1 << 64)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) & word, (k[1] + 0xBB67AE8584CAA73B) & word]
    lanes = [(z >> shift) & 0xFFFF for z in c for shift in (0, 16, 32, 48)]
    signed = [lane - 65536 if lane >= 32768 else lane for lane in lanes]
    mask = DropoutStream(5, np.array([row])).keep_mask("m", 0.25, 16)
    assert mask[0].tolist() == [value >= round(0.25 * 65536) - 32768 for value in signed]


def test_key_keeps_its_parts_apart() -> None:
    assert stream_key(12, 3) != stream_key(1, 23)
    assert stream_key(0, "lora_A", "x") == 0xB3FAFA9D6C765770
