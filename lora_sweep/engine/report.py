"""From an evaluation to a trial's history, its kept adapter and its record."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np

from lora_sweep.adapters import WEIGHTS_FILE
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.memory import peak_bytes
from lora_sweep.engine.schedule import learning_rate_at
from lora_sweep.engine.scores import Scores
from lora_sweep.engine.slot import Slot
from lora_sweep.errors import NonFiniteLossError
from lora_sweep.records import Cost, EvalPoint, TrialRecord, WeightNorms
from lora_sweep.store import RunFolder
from lora_sweep.tasks import EncodedTask, causal_lm_metrics, classification_metrics, outcomes_frame


def metrics_of(task: EncodedTask, split: str, scores: Scores) -> dict[str, float]:
    """The task's metrics of one adapter's answers."""
    labels = task.splits[split].labels
    if scores.logits is not None and labels is not None:
        return classification_metrics(scores.logits, labels)
    return causal_lm_metrics(scores.nll_sum, scores.targets)


class Reporter:
    """Notes evaluations and writes what is kept of them.

    Args:
        engine: read for counts and for writing adapters.
        run: None to write nothing.
    """

    def __init__(self, engine: Engine, run: RunFolder | None) -> None:
        self._engine, self._run = engine, run

    def rehearse(self) -> None:
        """Note an evaluation of nobody, for all that the first one imports."""
        task, split = self._engine.task, self._engine.task.splits["eval"]
        logits = np.zeros((len(split), len(task.labels)), np.float32) if task.labels else None
        scores = Scores(logits, np.zeros(len(split), np.float32), np.ones(len(split), np.int64))
        metrics_of(task, "eval", scores)
        outcomes = outcomes_frame(split, 0, logits=logits, nll_sum=scores.nll_sum, tokens=scores.targets)
        outcomes.to_parquet(BytesIO(), index=False)

    def reconcile(self, slot: Slot) -> None:
        """Keep the next evaluation of a restored trial when the run folder holds another one than its state says.

        So it is after a crash between the writing of an adapter and of the state that goes with it.
        """
        if self._run is None or slot.kept is None:
            return
        outcomes = self._run.outcomes(slot.trial_id)
        steps = set() if outcomes is None else set(outcomes.loc[outcomes["split"] == "eval", "step"])
        if steps != {slot.history[slot.kept].step}:
            slot.kept = None

    def note(self, slot: Slot, scores: Scores) -> None:
        """Add an evaluation on the eval split to the slot's history; when it is to be kept, write its adapter.

        Raises:
            NonFiniteLossError: the loss of an example is not finite, or a metric overflows.
        """
        metrics = {}
        if np.isfinite(scores.nll_sum).all():
            metrics = metrics_of(self._engine.task, "eval", scores)
        if not metrics or not all(map(math.isfinite, metrics.values())):
            raise NonFiniteLossError(f"the evaluation loss became {scores.nll_sum.mean()} at step {slot.step}")
        decisive = metrics[self._engine.options.metric]
        steps = slot.step - (slot.history[-1].step if slot.history else 0)
        slot.history.append(
            EvalPoint(
                step=slot.step,
                metrics=metrics,
                train_loss=slot.loss_sum / steps,
                learning_rate=learning_rate_at(slot.config, slot.step - 1),
                tokens=slot.tokens,
                wall_seconds=slot.elapsed_seconds,
                device_seconds=slot.device_seconds,
                norms=self._norms(slot),
            )
        )
        slot.loss_sum = 0.0
        if self._is_kept(slot, decisive):
            slot.kept = len(slot.history) - 1
            self._write(slot, scores)

    def record(self, slot: Slot) -> TrialRecord:
        """The trial as of now."""
        kept = slot.history[slot.kept or 0]
        spec, names, weights = self._engine.adapted.slots[slot.number]
        lora = sum(p.numel() for name, p in weights.named.items() if ".lora_" in name)
        total = weights.size
        return TrialRecord(
            trial_id=slot.trial_id,
            status="complete" if slot.done else "stopped",
            config=slot.config,
            metrics=kept.metrics,
            step=kept.step,
            history=tuple(slot.history),
            trainable_parameters=total,
            adapter_parameters=lora,
            base_parameters=self._engine.parameters,
            adapter_bytes=self._adapter_bytes(slot),
            tokens=slot.tokens,
            cost=self._cost(slot),
        )

    def _adapter_bytes(self, slot: Slot) -> int:
        """Of the weights file; of the bare tensors where nothing is written."""
        if self._run is None:
            return 4 * slot.weights.size
        return (self._run.adapter_dir(slot.trial_id) / WEIGHTS_FILE).stat().st_size

    def _norms(self, slot: Slot) -> WeightNorms | None:
        _, layers, _ = self._engine.adapted.slots[slot.number]
        return self._engine.adapted.norms(slot.number) if layers else None

    def _cost(self, slot: Slot) -> Cost:
        solo = None
        if slot.probes:
            solo = slot.padded_tokens * sum(slot.probes) / len(slot.probes) + slot.evaluation_seconds
        moments = 2 if slot.config.optimizer == "adamw" else 0
        return Cost(
            wall_seconds=slot.elapsed_seconds,
            device_seconds=slot.device_seconds,
            evaluation_seconds=slot.evaluation_seconds,
            solo_seconds=solo,
            solo_source="probed" if slot.probes else None,
            state_bytes=4 * (2 + moments) * slot.weights.size,
            peak_memory_bytes=peak_bytes(self._engine.base.device),
        )

    def _is_kept(self, slot: Slot, value: float) -> bool:
        if slot.kept is None or self._engine.options.keep == "last":
            return True
        best = slot.history[slot.kept].metrics[self._engine.options.metric]
        return value > best if self._engine.options.mode == "max" else value < best

    def _write(self, slot: Slot, scores: Scores) -> None:
        if self._run is None:
            return
        self._engine.save(slot, self._run.adapter_dir(slot.trial_id))
        split = self._engine.task.splits["eval"]
        frame = outcomes_frame(split, slot.step, logits=scores.logits, nll_sum=scores.nll_sum, tokens=scores.targets)
        self._run.write_outcomes(slot.trial_id, frame)
