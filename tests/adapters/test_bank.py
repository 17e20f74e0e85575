"""Rows of a bank: kept while it grows, clean for the next tenant, padded without a trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lora_sweep.adapters import AdaptedModel, DropoutStream, Segment
from lora_sweep.adapters import model as model_module
from lora_sweep.records import AdapterSpec

SPECS = [AdapterSpec(rank=rank, alpha=3, dropout=0.2, target_modules="0") for rank in (1, 2, 5, 7)]


def make(seeded: bool = True) -> AdaptedModel:
    torch.manual_seed(0)
    adapted = AdaptedModel(torch.nn.Sequential(torch.nn.Linear(12, 20)))
    for slot, spec in enumerate(SPECS if seeded else []):
        add(adapted, slot, spec)
    return adapted


def add(adapted: AdaptedModel, slot: int, spec: AdapterSpec) -> None:
    weights = adapted.add(slot, spec, seed=slot)
    b = weights.named["0.lora_B.weight"]
    b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(slot)))
    weights.refresh()


def outputs_and_gradients(adapted: AdaptedModel) -> tuple[torch.Tensor, list[torch.Tensor]]:
    slots = sorted(adapted.slots, key=adapted.routing.position)
    segments = [Segment(s, 2 * i, 2 * i + 2, DropoutStream(s, np.arange(2))) for i, s in enumerate(slots)]
    x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(9)).repeat(len(slots), 1, 1)
    with adapted.routing.segmented(segments):
        out = adapted.model(x)
        out.square().sum().backward()
    found = {slot: rows for slot, rows in zip(slots, out.detach().split(2), strict=True)}
    weights = [adapted.slots[slot][2] for slot in sorted(slots)]
    return torch.stack([found[slot] for slot in sorted(slots)]), [w.flat(w.bank.gradient) for w in weights]


@pytest.mark.parametrize("padding", [8, 16])
def test_padded_ranks_change_nothing(padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks 1, 2, 5 and 7 in one bank, against a bank for each."""
    monkeypatch.setattr(AdaptedModel, "_padded_rank", lambda _self, rank: rank)
    alone, expected = outputs_and_gradients(make())
    monkeypatch.setattr(AdaptedModel, "_padded_rank", lambda _self, _rank: padding)
    padded = make()
    assert len({id(weights.bank) for _, _, weights in padded.slots.values()}) == 1
    out, found = outputs_and_gradients(padded)
    torch.testing.assert_close(out, alone)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    bank = padded.slots[0][2].bank
    true = torch.zeros_like(bank.vector)
    for _, _, weights in padded.slots.values():
        for view in weights.views(true).values():
            view.fill_(1)
    for tensor in (bank.vector, bank.gradient):
        assert (tensor[true == 0] == 0).all() and (tensor[true == 1] != 0).any()


@pytest.mark.parametrize(
    ("rank", "plain", "for_kernel"), [(1, 16, 16), (16, 16, 16), (17, 32, 64), (256, 256, 256), (257, 272, 272)]
)
def test_ranks_are_padded_to_16_and_for_the_kernel_to_few_levels(
    rank: int, plain: int, for_kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted = make(seeded=False)
    assert adapted._padded_rank(rank) == plain
    monkeypatch.setattr(model_module, "has_kernel", lambda *_: True)
    assert adapted._padded_rank(rank) == for_kernel


@pytest.mark.parametrize("allocation", range(5))
def test_growing_without_memory_leaves_everything_as_it_was(allocation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = AdaptedModel(torch.nn.Sequential(torch.nn.Linear(12, 20)).bfloat16())
    add(adapted, 0, SPECS[1])
    weights = adapted.slots[0][2]
    weights.bank.extra("exp_avg")[weights.row] = 2.5
    before = {name: tensor.clone() for name, tensor in weights.named.items()}
    left = [allocation]

    def fails(allocate):
        def tried(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise torch.OutOfMemoryError("no memory")
            return allocate(*args, **kwargs)

        return tried

    with monkeypatch.context() as patched:
        for name in ("new_zeros", "new_ones"):
            patched.setattr(torch.Tensor, name, fails(getattr(torch.Tensor, name)))
        with pytest.raises(torch.OutOfMemoryError):
            add(adapted, 1, SPECS[1])
    assert len(weights.bank.vector) == len(weights.bank.rounded) == 1 and list(adapted.slots) == [0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.named.items())
    assert (weights.bank.extra("exp_avg") == 2.5).all()
    add(adapted, 1, SPECS[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.named.items())


def test_an_adapter_that_cannot_be_initialised_leaves_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = make(seeded=False)
    with monkeypatch.context() as patched:
        patched.setattr(AdaptedModel, "_initialise_heads", lambda *_: 1 / 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                add(adapted, 0, SPECS[0])
    assert not adapted._banks
    add(adapted, 0, SPECS[0])
    assert len(adapted.slots[0][2].bank.vector) == 1


def test_growing_keeps_what_is_there() -> None:
    adapted = make(seeded=False)
    spec = SPECS[1]
    add(adapted, 0, spec)
    weights = adapted.slots[0][2]
    weights.bank.extra("exp_avg")[weights.row] = 2.5
    before = weights.flat(weights.bank.vector)
    for slot in range(1, 6):
        add(adapted, slot, spec)
    assert len(weights.bank.vector) == 8 and weights.bank.version == 4
    assert torch.equal(weights.flat(weights.bank.vector), before)
    assert (weights.bank.extra("exp_avg")[weights.row] == 2.5).all()


def test_nothing_of_a_tenant_is_left() -> None:
    adapted = make(seeded=False)
    for slot in range(3):
        add(adapted, slot, SPECS[0])
    bank, row = adapted.slots[1][2].bank, adapted.slots[1][2].row
    for tensor in (bank.vector, bank.gradient, bank.extra("exp_avg")):
        tensor[row] = float("nan")
    adapted.remove(1)
    assert all((tensor[row] == 0).all() for tensor in (bank.vector, bank.gradient, bank.extra("exp_avg")))
    add(adapted, 7, SPECS[0])
    assert adapted.slots[7][2].row == row


def test_rows_with_a_gap_equal_rows_without() -> None:
    full = make(seeded=False)
    for slot in range(4):
        add(full, slot, SPECS[0])
    full.remove(1)
    dense = make(seeded=False)
    for slot in (0, 2, 3):
        add(dense, slot, SPECS[0])
    (ours, gradients), (theirs, expected) = outputs_and_gradients(full), outputs_and_gradients(dense)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)
