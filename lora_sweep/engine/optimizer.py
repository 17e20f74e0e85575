"""One optimizer step of a whole pack: a few operations on each bank, every adapter with its own rate.

AdamW as `torch.optim.AdamW` does it (arXiv 1711.05101, algorithm 2), SGD as `torch.optim.SGD` without momentum,
clipping as `torch.nn.utils.clip_grad_norm_`; the tests compare with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters import AdapterWeights, Bank
from lora_sweep.engine.schedule import learning_rate_at
from lora_sweep.records import TrialConfig

MOMENTS = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ()}
"""The names of the vectors that an optimizer keeps in a bank."""

_BETAS, _EPS = (0.9, 0.999), 1e-8

Stepping = tuple[AdapterWeights, TrialConfig, int]
"""An adapter, its configuration and the number of its step, counted from 0."""


@torch.no_grad()
def optimizer_step(pack: Sequence[Stepping]) -> None:
    """Clip each adapter's gradient by its own norm, update its weights and round them again."""
    for bank, rows, members in _runs(pack):
        gradient = bank.gradient[rows]
        _clip(gradient, [config for _, config, _ in members])
        if members[0][1].optimizer == "sgd":
            _sgd(bank.vector[rows], gradient, members)
        else:
            exp_avg, exp_avg_sq = (bank.extra(name)[rows] for name in MOMENTS["adamw"])
            _adamw(bank.vector[rows], gradient, exp_avg, exp_avg_sq, members)
        bank.refresh(rows)


def zero_gradients(pack: Sequence[AdapterWeights]) -> None:
    """Clear the gradients of some adapters."""
    for weights in pack:
        weights.bank.gradient[weights.row].zero_()


def _clip(gradient: Tensor, configs: Sequence[TrialConfig]) -> None:
    limits = [config.clip for config in configs]
    if any(limit is not None for limit in limits):
        largest = _column(gradient, [np.inf if limit is None else limit for limit in limits])
        norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient *= (largest / (norms + 1e-6)).clamp(max=1.0)


def _adamw(vector: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, members: Sequence[Stepping]) -> None:
    """All [adapters, size]."""
    rates = [learning_rate_at(config, step) for _, config, step in members]
    decay = [1 - rate * config.weight_decay for rate, (_, config, _) in zip(rates, members, strict=True)]
    size = [rate / (1 - _BETAS[0] ** (step + 1)) for rate, (_, _, step) in zip(rates, members, strict=True)]
    root = [(1 - _BETAS[1] ** (step + 1)) ** 0.5 for _, _, step in members]
    exp_avg.lerp_(gradient, 1 - _BETAS[0])
    exp_avg_sq.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
    change = exp_avg_sq.sqrt().div_(_column(vector, root)).add_(_EPS)
    torch.div(exp_avg, change, out=change)
    vector.mul_(_column(vector, decay)).sub_(change.mul_(_column(vector, size)))


def _sgd(vector: Tensor, gradient: Tensor, members: Sequence[Stepping]) -> None:
    rates = _column(vector, [learning_rate_at(config, step) for _, config, step in members])
    decay = _column(vector, [config.weight_decay for _, config, _ in members])
    vector.sub_((gradient + decay * vector).mul_(rates))


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    """[adapters, 1] beside [adapters, size]."""
    return torch.tensor(values, dtype=torch.float32).to(like.device, non_blocking=True).unsqueeze(1)


def _runs(pack: Sequence[Stepping]) -> Iterator[tuple[Bank, slice, list[Stepping]]]:
    """Adapters of one bank and optimizer in rows that follow each other."""
    banks = {id(bank): n for n, bank in enumerate(dict.fromkeys(weights.bank for weights, _, _ in pack))}

    def kind(member: Stepping) -> tuple[int, str]:
        return banks[id(member[0].bank)], member[1].optimizer

    for _, group in groupby(sorted(pack, key=lambda member: (*kind(member), member[0].row)), key=kind):
        members = list(group)
        # rows that follow each other have the same distance from their place in the list
        for _, run in groupby(enumerate(members), key=lambda pair: pair[1][0].row - pair[0]):
            found = [member for _, member in run]
            first = found[0][0].row
            yield found[0][0].bank, slice(first, first + len(found)), found
