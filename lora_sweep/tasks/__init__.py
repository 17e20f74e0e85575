"""What to learn: data in, encoded arrays and metrics out."""

from lora_sweep.tasks.encoded import EncodedSplit, EncodedTask, Rows, Source, TaskType
from lora_sweep.tasks.metrics import (
    METRIC_MODES,
    causal_lm_metrics,
    classification_metrics,
    majority_baseline,
    outcomes_frame,
)
from lora_sweep.tasks.prepare import prepare_task

__all__ = [
    "METRIC_MODES",
    "EncodedSplit",
    "EncodedTask",
    "Rows",
    "Source",
    "TaskType",
    "causal_lm_metrics",
    "classification_metrics",
    "majority_baseline",
    "outcomes_frame",
    "prepare_task",
]
