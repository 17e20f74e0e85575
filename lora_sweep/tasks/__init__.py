"""What to learn: data in, encoded arrays and metrics out."""

from lora_sweep.tasks.buckets import choose_buckets
from lora_sweep.tasks.encoded import EncodedSplit, EncodedTask, Rows, Source, TaskType
from lora_sweep.tasks.metrics import (
    METRIC_MODES,
    causal_lm_metrics,
    classification_metrics,
    majority_baseline,
    outcomes_frame,
)
from lora_sweep.tasks.prepare import prepare_task
from lora_sweep.tasks.splits import HOLDOUT

__all__ = [
    "HOLDOUT",
    "METRIC_MODES",
    "EncodedSplit",
    "EncodedTask",
    "Rows",
    "Source",
    "TaskType",
    "causal_lm_metrics",
    "choose_buckets",
    "classification_metrics",
    "majority_baseline",
    "outcomes_frame",
    "prepare_task",
]
