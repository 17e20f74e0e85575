"""The language-model head in chunks, against autograd through all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lora_sweep.engine import objective


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias", [False, True])
def test_chunks_equal_autograd(softcap: float | None, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "_LOGITS", {"cpu": 4 * 31})  # four positions at once
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(8, 31, bias=bias).requires_grad_(False)
    hidden = torch.randn(10, 8, generator=generator, requires_grad=True)
    targets, weights = torch.randint(31, (10,), generator=generator), torch.rand(10, generator=generator)
    total, nll = objective._ChunkedNll.apply(hidden, targets, weights, head, softcap)
    (2 * total).backward()

    other = hidden.detach().clone().requires_grad_()
    logits = head(other)
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    expected = cross_entropy(logits, targets, reduction="none")
    (2 * (expected @ weights)).backward()
    torch.testing.assert_close(nll, expected.detach())
    torch.testing.assert_close(total, expected @ weights)
    torch.testing.assert_close(hidden.grad, other.grad)
