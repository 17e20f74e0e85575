"""From an evaluation to a trial's history, its kept adapter and its record."""

from __future__ import annotations

import math

from lora_sweep.engine.engine import Engine, Scores
from lora_sweep.engine.memory import peak_bytes
from lora_sweep.engine.schedule import learning_rate_at
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
        self._adapter_bytes: dict[str, int] = {}

    def note(self, slot: Slot, scores: Scores) -> None:
        """Add an evaluation on the eval split to the slot's history; when it is to be kept, write its adapter.

        Raises:
            NonFiniteLossError: the metric that decides is not finite.
        """
        metrics = metrics_of(self._engine.task, "eval", scores)
        decisive = metrics[self._engine.options.metric]
        if not math.isfinite(decisive):
            raise NonFiniteLossError(f"{self._engine.options.metric} on eval became {decisive} at step {slot.step}")
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
        total = weights.vector.numel()
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
            adapter_bytes=self._adapter_bytes.get(slot.trial_id, 4 * total),
            tokens=slot.tokens,
            cost=self._cost(slot),
        )

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
            solo_seconds=solo,
            solo_source="probed" if slot.probes else None,
            state_bytes=4 * (2 + moments) * slot.weights.vector.numel(),
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
        self._adapter_bytes[slot.trial_id] = self._engine.save(slot, self._run.adapter_dir(slot.trial_id))
        split = self._engine.task.splits["eval"]
        frame = outcomes_frame(split, slot.step, logits=scores.logits, nll_sum=scores.nll_sum, tokens=scores.targets)
        self._run.write_outcomes(slot.trial_id, frame)
