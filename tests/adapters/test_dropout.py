"""Masks by counter: the right share, no correlation, the same whatever else is going on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lora_sweep.adapters import DropoutStream, stream_key
from lora_sweep.adapters.dropout import KeepTable, keep_, kept, module_key, window_starts

CPU = torch.device("cpu")
FEATURES = 384


def windows(stream: DropoutStream, tokens: int, module_keys: torch.Tensor) -> torch.Tensor:
    """Where the masks of so many tokens of every row begin: [modules, rows * tokens]."""
    keys = torch.from_numpy(stream.row_keys())
    return window_starts(keys.repeat_interleave(tokens), torch.arange(tokens).repeat(len(keys)), module_keys)


def keep_mask(stream: DropoutStream, module: str, p: float, tokens: int, dtype=torch.float32) -> torch.Tensor:
    """1 where an element stays: [rows, tokens, features]."""
    starts = windows(stream, tokens, module_key(module))[0]
    masks = KeepTable([p], dtype, CPU).masks(starts, FEATURES)
    return kept(torch.ones(len(starts), FEATURES, dtype=dtype), masks).view(len(stream.rows), tokens, FEATURES).double()


def correlation(masks: torch.Tensor) -> float:
    """The largest between two of some masks, [masks, elements]."""
    return (torch.corrcoef(masks) - torch.eye(len(masks))).abs().max().item()


@pytest.mark.parametrize("p", [0.01, 0.05, 0.1, 0.5, 0.9])
def test_share_of_dropped_elements(p: float) -> None:
    mask = keep_mask(DropoutStream(3, np.arange(64)), "layer", p, 40)
    share = 1 - mask.mean().item()
    # the table's own share differs from p too; both by five standard errors at most
    assert abs(share - p) < 5 * (p * (1 - p)) ** 0.5 * (mask.numel() ** -0.5 + 2**-10) + 2**-16


def test_without_dropout_all_stays_bit_for_bit() -> None:
    x = torch.randn(5, FEATURES)
    masks = KeepTable([0.0, 0.5], torch.float32, CPU).masks(torch.arange(5), FEATURES)
    assert torch.equal(kept(x, masks), x)


def test_what_is_dropped_is_zero_whatever_it_was() -> None:
    table, starts = KeepTable([0.5], torch.float32, CPU), torch.arange(4) * 1000
    mask = table.masks(starts, FEATURES).bool()
    dropped = keep_(torch.full((4, FEATURES), float("nan")), table.masks(starts, FEATURES))
    assert (dropped[~mask] == 0).all() and dropped[mask].isnan().all()


def test_mask_of_a_row_depends_on_its_number_alone() -> None:
    whole = keep_mask(DropoutStream(3, np.arange(10)), "layer", 0.3, 7)
    part = keep_mask(DropoutStream(3, np.array([7, 2])), "layer", 0.3, 7)
    assert torch.equal(part, whole[[7, 2]])


def test_mask_is_the_same_in_every_dtype() -> None:
    stream = DropoutStream(9, np.arange(3))
    fp32, bf16 = (keep_mask(stream, "layer", 0.2, 5, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(fp32, bf16)


def test_different_steps_modules_seeds_rows_and_tokens_are_uncorrelated() -> None:
    rows = np.arange(2)
    masks = [
        keep_mask(DropoutStream(stream_key(seed, step), rows), module, 0.5, 260).flatten(1)
        for seed, step, module in [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b")]
    ]
    assert correlation(torch.cat(masks)) < 0.02  # 6 standard errors of 1/sqrt(100,000)
    tokens = keep_mask(DropoutStream(1, np.arange(1)), "a", 0.5, 64)[0]
    assert correlation(tokens) < 6 / FEATURES**0.5


def test_neighbouring_elements_are_uncorrelated() -> None:
    mask = keep_mask(DropoutStream(1, np.arange(8)), "a", 0.5, 130).flatten()
    for lag in (1, 2, 3, 4, 5, 8, FEATURES):
        pair = torch.stack([mask[:-lag], mask[lag:]])
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.01


def test_windows_are_spread_over_the_whole_table() -> None:
    starts = windows(DropoutStream(5, np.arange(200)), 50, torch.cat([module_key(name) for name in "abc"]))
    assert starts.shape == (3, 10_000) and starts.min() >= 0 and starts.max() < 2**20
    counts = torch.histc(starts.double(), bins=64, min=0, max=2**20)
    expected = starts.numel() / 64
    # chi-square with 63 degrees of freedom: mean 63, standard deviation 11.2
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * 11.2
    assert len(starts.unique()) > 0.98 * starts.numel()


def test_the_start_is_murmurs_hash_of_the_counter() -> None:
    """Against plain Python integers."""
    word, stream, row, token = (1 << 64) - 1, 12345, 3, 2
    golden, first, second = 0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
    key = (row * golden + stream) & word
    key = ((key ^ key >> 32) * second) & word
    z = (key + token * golden + stream_key("m")) & word
    z = ((z ^ z >> 33) * first) & word
    z = ((z ^ z >> 33) * second) & word
    found = windows(DropoutStream(stream, np.array([row])), 4, module_key("m"))
    assert found[0, token] == z >> 44


def test_key_keeps_its_parts_apart() -> None:
    assert stream_key(12, 3) != stream_key(1, 23)
    assert stream_key(0, "lora_A", "x") == 0xB3FAFA9D6C765770
