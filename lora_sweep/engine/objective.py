"""From a padded batch to the negative log-likelihood of every example: what an engine minimises and what it reports.

Each example's value is a sum over its own targets: one label, or the scored tokens of a text. The engine divides by
each trial's own number of targets, so that a loss never depends on who else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from lora_sweep.adapters.frozen_linear import product
from lora_sweep.errors import ModelError
from lora_sweep.models import FrozenBase

_LOGITS = {"cpu": 2**24, "cuda": 2**27}  # that stand in memory at once, in fp32


@dataclass(frozen=True)
class Batch:
    """Rows of one padded length on the device.

    Attributes:
        token_ids: int64 [b, length].
        attention_mask: int64 [b, length].
        labels: int64 [b]; None for causal-lm.
        scored: int64 [2, n], row and column of the tokens that are targets, never in the first column; None for
            classification.
    """

    token_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None
    scored: Tensor | None


@dataclass(frozen=True)
class Outcome:
    """What came of a batch.

    Attributes:
        nll: fp32 [b], summed over each row's targets, without gradient.
        total: sum of the weighted `nll`, with gradient.
        logits: fp32 [b, classes]; None for causal-lm.
    """

    nll: Tensor
    total: Tensor
    logits: Tensor | None


class Objective(Protocol):
    """How a task turns a batch into losses."""

    def __call__(self, batch: Batch, row_weights: Tensor) -> Outcome:
        """Weigh each row's loss, [b], and sum."""


def make_objective(base: FrozenBase) -> Objective:
    """The objective of the base's task.

    Raises:
        ModelError: a causal model computes its logits in a way that is not known here.
    """
    if base.task == "classification":
        return ClassificationObjective(base.model)
    objective = CausalLmObjective(base.model)
    objective.check(base.name)
    return objective


class ClassificationObjective:
    """Cross-entropy of one label per row."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __call__(self, batch: Batch, row_weights: Tensor) -> Outcome:
        """Logits in fp32, whatever the base's dtype."""
        logits = self._model(input_ids=batch.token_ids, attention_mask=batch.attention_mask).logits.float()
        nll = cross_entropy(logits, cast(Tensor, batch.labels), reduction="none")
        return Outcome(nll.detach(), nll @ row_weights, logits.detach())


class CausalLmObjective:
    """Next-token cross-entropy on the scored tokens; the head runs on their positions alone, in chunks."""

    def __init__(self, model: nn.Module) -> None:
        self._body = cast(nn.Module, model.base_model)
        self._model = model
        self._softcap = cast(float | None, getattr(model.config, "final_logit_softcapping", None))

    def __call__(self, batch: Batch, row_weights: Tensor) -> Outcome:
        """Logits never stand in memory for more than a chunk of positions."""
        hidden = self._body(input_ids=batch.token_ids, attention_mask=batch.attention_mask).last_hidden_state
        rows, columns = cast(Tensor, batch.scored)
        total, nll = _ChunkedNll.apply(  # type: ignore[no-untyped-call]
            hidden[rows, columns - 1], batch.token_ids[rows, columns], row_weights[rows], self._head(), self._softcap
        )
        per_row = torch.zeros_like(row_weights).index_add_(0, rows, nll)
        return Outcome(per_row, total, None)

    def check(self, name: str) -> None:
        """Compare with the model's own logits on a short input.

        Raises:
            ModelError: they differ.
        """
        device = next(self._model.parameters()).device
        ids = torch.arange(1, 9, device=device).unsqueeze(0)
        with torch.no_grad():
            ours = _logits(self._body(input_ids=ids).last_hidden_state, self._head(), self._softcap)
            theirs = self._model(input_ids=ids).logits.float()
        if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max())):
            rule = "its logits must be its head's output (final soft-capping is known, other scalings are not)"
            raise ModelError(f"model {name}", rule, type(self._model).__name__, "Use another architecture.")

    def _head(self) -> nn.Linear:
        return cast(nn.Linear, cast(Any, self._model).get_output_embeddings())


def _logits(hidden: Tensor, head: nn.Linear, softcap: float | None) -> Tensor:
    """In fp32: [..., vocabulary]."""
    logits = cast(Tensor, head(hidden)).float()
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


class _ChunkedNll(torch.autograd.Function):
    """Weighted negative log-likelihood through a frozen head, its gradient found in forward, chunk by chunk.

    The derivative by the logits z is softmax(z) - onehot(target), behind a soft cap c times 1 - (z / c)^2.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, weights: Tensor, head: nn.Linear, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        nll = torch.empty(len(targets), device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        at_once = max(1, _LOGITS[hidden.device.type] // head.out_features)
        for start in range(0, len(targets), at_once):
            part = slice(start, start + at_once)
            logits, target = _logits(hidden[part], head, softcap), targets[part, None]
            total = logits.logsumexp(dim=1, keepdim=True)
            nll[part] = (total - logits.gather(1, target)).squeeze(1)
            if gradient is not None:
                slope = None if softcap is None else 1 - (logits / softcap).square_()
                change = logits.sub_(total).exp_()
                change.scatter_add_(1, target, change.new_full(target.shape, -1.0))
                change *= weights[part, None] if slope is None else slope.mul_(weights[part, None])
                gradient[part] = product(change.to(hidden.dtype), head.weight.T)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nll)
        return nll @ weights, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _grad_nll: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_total.to(gradient.dtype), None, None, None, None
