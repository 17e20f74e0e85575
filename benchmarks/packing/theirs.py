"""One adapter at a time with PEFT: what a sweep without the packed engine runs, in one process or in several.

The loop is ours, bare: batch to the device, loss by `model(labels=...)`, backward, `clip_grad_norm_`, fused AdamW (as
transformers' Trainer chooses it). There is no logging and no waiting for the device. The base's own dropout is off, as
on the engine; LoRA's is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor

from lora_sweep.engine.order import DataOrder
from lora_sweep.models import PEFT_TASK, FrozenBase
from lora_sweep.records import TrialConfig
from lora_sweep.tasks.encoded import EncodedTask, Rows
from packing.timing import Contender

AUTOCAST = "peft, fp32 adapter, bf16 autocast"
PURE = "peft, bf16 adapter"
PLAIN = "peft, fp32"


def variants(dtype: torch.dtype) -> tuple[str, ...]:
    """The ways to train that are tried for a base of this dtype; the fastest is the baseline.

    AUTOCAST is PEFT's default, an adapter in fp32, under autocast, as `Trainer(bf16=True)` runs it; PURE keeps the
    adapter in the base's bf16 and does without autocast; PLAIN is fp32 throughout.
    """
    return (AUTOCAST, PURE) if dtype is torch.bfloat16 else (PLAIN,)


def peft_step(
    base: FrozenBase, task: EncodedTask, config: TrialConfig, targets: Sequence[str], variant: str
) -> Contender:
    """One optimizer step of one adapter.

    Args:
        base: with modules of its own, which PEFT wraps.
        task: the data.
        config: as the engine's trials have it; rate and clipping are constant.
        targets: full names of the adapted layers.
        variant: one of `variants`.
    """
    model = _with_adapter(base, config, targets, variant)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    batches = _batches(task, config, base.device)
    device = base.device.type

    def step() -> int:
        inputs, tokens = next(batches)
        with torch.autocast(device, torch.bfloat16) if variant == AUTOCAST else nullcontext():
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad()
        return tokens

    return step


def _with_adapter(base: FrozenBase, config: TrialConfig, targets: Sequence[str], variant: str) -> Any:
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=int(config.alpha),
        lora_dropout=config.dropout,
        target_modules=list(targets),
        modules_to_save=list(base.trained) or None,
        task_type=PEFT_TASK[base.task],
    )
    model = peft.get_peft_model(base.model, lora, autocast_adapter_dtype=variant == AUTOCAST).eval()
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train()
    return model


def _batches(task: EncodedTask, config: TrialConfig, device: torch.device) -> Iterator[tuple[dict[str, Tensor], int]]:
    """Batches padded to their own longest row, and their valid tokens."""
    split = task.splits["train"]
    order = DataOrder(len(split), config.batch_size, config.seed)
    step = 0
    while True:
        examples = order.at(step)
        lengths = split.lengths[examples]
        rows = split.rows(examples, int(lengths.max()), task.pad_id)
        inputs = {"input_ids": rows.token_ids, "attention_mask": rows.attention_mask, "labels": _labels(rows)}
        yield (
            {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in inputs.items()},
            int(lengths.sum()),
        )
        step += 1


def _labels(rows: Rows) -> np.ndarray:
    if rows.scored is None:
        assert rows.labels is not None
        return rows.labels
    return np.where(rows.scored, rows.token_ids, -100)
