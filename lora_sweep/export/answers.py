"""What a model of plain Transformers answers on a part of the data: a loop over batches and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lora_sweep.tasks import EncodedSplit, EncodedTask, outcomes_frame

if TYPE_CHECKING:
    import pandas as pd

_TOKENS = {"classification": 8192, "causal-lm": 1024}
"""Padded tokens of a batch: a language model's logits are as wide as its vocabulary."""


@torch.no_grad()
def answers(model: Any, task: EncodedTask, part: str) -> pd.DataFrame:
    """The model's answers on every example of a part, as outcomes of the run folder (docs/run-folder.md).

    Args:
        model: of transformers or PEFT, on its device, in eval mode.
        task: the encoded data.
        part: `eval` or `test`.
    """
    split = task.splits[part]
    labelled = split.labels is not None
    logits = np.zeros((len(split), len(task.labels)), dtype=np.float32)
    nll, targets = np.zeros(len(split)), np.zeros(len(split), dtype=np.int64)
    for indices in _batches(split, _TOKENS[task.type]):
        rows = split.rows(indices, int(split.lengths[indices].max()), task.pad_id)
        ids, mask = (torch.from_numpy(array).to(model.device) for array in (rows.token_ids, rows.attention_mask))
        found = model(input_ids=ids, attention_mask=mask).logits.float()
        if labelled:
            logits[indices] = found.cpu().numpy()
        else:
            scored = torch.from_numpy(rows.scored).to(model.device)
            nll[indices] = _nll(found, ids, scored).cpu().numpy()
            targets[indices] = scored.sum(1).cpu().numpy()
    if labelled:
        return outcomes_frame(split, 0, logits=logits)
    return outcomes_frame(split, 0, nll_sum=nll, tokens=targets)


def _nll(logits: Tensor, ids: Tensor, scored: Tensor) -> Tensor:
    """Summed over each row's scored tokens: logits [b, n, vocabulary], ids and scored [b, n] -> [b]."""
    each = cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    return (each * scored[:, 1:]).sum(1)


def _batches(split: EncodedSplit, tokens: int) -> Iterator[np.ndarray]:
    """Positions of examples of like length, at most so many padded tokens together (but at least one example)."""
    order = np.argsort(split.lengths, kind="stable")
    start = 0
    while start < len(order):
        size = 1
        while start + size < len(order) and split.lengths[order[start + size]] * (size + 1) <= tokens:
            size += 1
        yield order[start : start + size]
        start += size
