"""What an adapter costs in inference: one forward pass of the base, with the adapter beside it, and merged into it.

One pass over real evaluation examples of one padded length; a language model reads a text, it does not generate, and
gives the logits of the last position alone where it can: those of all would fill the memory of a large vocabulary.
`base` and `merged` run on the plain model, without any layer of ours; `unmerged` through this package's own layers.
All multiply as torch does, whatever the engine trains with. The three are measured in turns, so that a machine that
slows down slows them all.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.records import TrialRecord

SPLIT = "eval"
VARIANTS = ("base", "unmerged", "merged")


@dataclass(frozen=True)
class Plan:
    """How often to measure.

    Attributes:
        batch_sizes: examples in one pass.
        rounds: turns of the variants.
        passes: timed passes of a variant in its turn.
        warm_up: passes before the timed ones in each turn.
    """

    batch_sizes: tuple[int, ...] = (1, 32)
    rounds: int = 5
    passes: int = 6
    warm_up: int = 2


DEFAULT_PLAN = Plan()


def measure_latency(
    session: AnalysisSession, records: Sequence[TrialRecord], plan: Plan = DEFAULT_PLAN
) -> dict[str, Any]:
    """Time the forward passes of these trials and write RUN/analysis/latency.json.

    Returns:
        What was written: for each of `trials` its `rows`, one for each variant and batch size, with the median,
        quartiles and extremes of the passes in seconds, and the throughput at the median.
    """
    content = {
        **session.facts(),
        "split": SPLIT,
        "passes": plan.rounds * plan.passes,
        "warm_up": plan.warm_up,
        "trials": [_trial(session, record, plan) for record in records],
    }
    session.run.write_analysis("latency", content)
    return content


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes of some times."""
    low, quarter, median, three_quarters, high = np.quantile(seconds, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return {
        "median_seconds": median,
        "quartile_1_seconds": quarter,
        "quartile_3_seconds": three_quarters,
        "min_seconds": low,
        "max_seconds": high,
    }


def _trial(session: AnalysisSession, record: TrialRecord, plan: Plan) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    with session.loaded([session.adapter(record.trial_id)]) as (slot,), session.engine.adapted.thawed():
        for size in plan.batch_sizes:
            batch = _batch(session, size)
            times = _times(session, slot.number, batch, plan)
            rows += [_row(variant, batch, times[variant]) for variant in VARIANTS]
    return {
        "trial_id": record.trial_id,
        "rank": record.config.rank,
        "target_label": record.config.target_label,
        "rows": rows,
    }


def _row(variant: str, batch: dict[str, torch.Tensor], times: Sequence[float]) -> dict[str, Any]:
    examples, length = batch["input_ids"].shape
    measured = summary(times)
    return {
        "variant": variant,
        "batch_size": examples,
        "length": length,
        **measured,
        "examples_per_second": examples / measured["median_seconds"],
        "tokens_per_second": examples * length / measured["median_seconds"],
    }


def _batch(session: AnalysisSession, size: int) -> dict[str, torch.Tensor]:
    """Examples of the commonest padded length of the split, cycled where there are too few."""
    task = session.engine.task
    split = task.splits[SPLIT]
    lengths = task.bucket_of(split.lengths)
    values, counts = np.unique(lengths, return_counts=True)
    length = int(values[counts.argmax()])
    (candidates,) = np.nonzero(lengths == length)
    rows = split.rows(np.resize(candidates, size), length, task.pad_id)
    device = session.engine.base.device
    return {
        "input_ids": torch.from_numpy(rows.token_ids).to(device),
        "attention_mask": torch.from_numpy(rows.attention_mask).to(device),
    }


def _times(session: AnalysisSession, slot: int, batch: dict[str, torch.Tensor], plan: Plan) -> dict[str, list[float]]:
    """Seconds of every timed pass, by variant."""
    setups: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "base": session.engine.adapted.plain,
        "unmerged": lambda: session.engine.adapted.routing.whole(slot),
        "merged": lambda: _merged(session, slot),
    }
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(plan.rounds):
        for variant in VARIANTS:
            with setups[variant]():
                seconds = [_seconds(session, batch) for _ in range(plan.warm_up + plan.passes)]
            times[variant] += seconds[plan.warm_up :]
    return times


@contextmanager
def _merged(session: AnalysisSession, slot: int) -> Iterator[None]:
    adapted = session.engine.adapted
    with ExitStack() as stack:
        adapted.merge(slot)
        stack.callback(adapted.unmerge)
        stack.enter_context(adapted.plain())
        yield


@torch.inference_mode()
def _seconds(session: AnalysisSession, batch: dict[str, torch.Tensor]) -> float:
    device = session.engine.base.device
    options = _last_logits(session)
    started = _now(device)
    session.engine.base.model(**batch, **options)
    return _now(device) - started


def _last_logits(session: AnalysisSession) -> dict[str, int]:
    """What asks a language model for the logits of the last position alone; empty where it has no such option."""
    base = session.engine.base
    known = "logits_to_keep" in inspect.signature(base.model.forward).parameters
    return {"logits_to_keep": 1} if base.task == "causal-lm" and known else {}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
