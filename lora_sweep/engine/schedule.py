"""Learning rate over a trial's steps."""

from __future__ import annotations

import math

from lora_sweep.records import TrialConfig


def learning_rate_at(config: TrialConfig, step: int) -> float:
    """The rate of the optimizer step with this number, counted from 0.

    Linear from 0 over the first `ceil(warmup * steps)` steps, then constant, or falling to 0 at `steps` linearly or
    as half a cosine: the schedules of `transformers.get_scheduler`, so that a trial trains as a Trainer would.
    """
    warm = math.ceil(config.warmup * config.steps)
    if step < warm:
        return config.learning_rate * step / warm
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warm) / max(1, config.steps - warm)
    if config.schedule == "linear":
        return config.learning_rate * max(0.0, 1 - progress)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
