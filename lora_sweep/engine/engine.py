"""A frozen base on one device that trains and evaluates several adapters at once.

Every trial of a pack gets its own rows, its own loss (its negative log-likelihood over its own targets), its own
gradient, clipping and optimizer step; only the products with the base's weights are shared. What a trial computes does
not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lora_sweep.adapters import AdaptedModel, base_parameters, linear_names, read_adapter, save_adapter, to_device
from lora_sweep.engine.api import EngineOptions, SlotState
from lora_sweep.engine.checkpointing import checkpoint_blocks
from lora_sweep.engine.graphs import Graphs
from lora_sweep.engine.memory import as_out_of_memory, forgotten
from lora_sweep.engine.meter import Meter
from lora_sweep.engine.narrowing import install_narrowing
from lora_sweep.engine.objective import Outcome, make_objective
from lora_sweep.engine.optimizer import MOMENTS, optimizer_step, zero_gradients
from lora_sweep.engine.order import DataOrder
from lora_sweep.engine.passes import PackRows, evaluation_lengths, evaluation_passes, passes, targets_per_example
from lora_sweep.engine.runner import Runner
from lora_sweep.engine.scores import Scores
from lora_sweep.engine.slot import Slot
from lora_sweep.engine.unpadding import install_unpadding
from lora_sweep.errors import AdapterStateError, InputError, OutOfMemoryError
from lora_sweep.models import PEFT_TASK, FrozenBase
from lora_sweep.records import AdapterSpec, TrialConfig
from lora_sweep.tasks import EncodedSplit, EncodedTask

_CPU_EVALUATION_TOKENS = 4096
"""In a pass of an evaluation on a CPU: more are no faster, and their activations need twice the memory, which costs a
second when it is touched for the first time."""


class Engine:
    """Holds the base and the slots; single-threaded.

    Args:
        base: frozen, on its device.
        task: the data.
        options: see `EngineOptions`.
    """

    def __init__(self, base: FrozenBase, task: EncodedTask, options: EngineOptions) -> None:
        self.base, self.task, self.options = base, task, options
        # decoders with a classification head find the last token by the padding that the task writes
        base.model.config.pad_token_id = task.pad_id  # type: ignore[union-attr]
        self.adapted = AdaptedModel(base.model, base.trained, base.new, base.called, options.base_dropout)
        if options.activation_checkpointing:
            checkpoint_blocks(base.model, base.name)
        self.meter = Meter(base.device)
        on_gpu = base.device.type == "cuda"
        self.slots: dict[int, Slot] = {}
        self.parameters = base_parameters(base.model)
        self.steps = self.trial_steps = self.tokens = self.padded_tokens = 0
        self.tokens_per_pass = options.tokens_per_pass
        unpads = not on_gpu and install_unpadding(base.model)
        read = install_narrowing(base.model) if unpads and base.task == "classification" else None
        self.runner = Runner(
            self.adapted, make_objective(base), task.pad_id, base.device, Graphs(options.cuda_graphs and on_gpu),
            options.base_dropout, unpads, read,
        )  # fmt: skip
        self._targets = {name: targets_per_example(split) for name, split in task.splits.items()}
        self._lengths = {name: evaluation_lengths(task, split) for name, split in task.splits.items()}
        self._linear_parameters = _linear_parameters(base)

    # Slots -----------------------------------------------------------------------------------------------------

    def open(self, trial_id: str, config: TrialConfig, state: SlotState | None = None) -> Slot:
        """Give a trial a slot, new or from a state.

        Raises:
            AdapterStateError: every slot is taken.
            TargetError: the configuration does not fit the base.
            InputError: it has nothing to train, or the state is another configuration's.
            OutOfMemoryError: its weights and optimizer do not fit.
        """
        number = self._free_number()
        with as_out_of_memory("the adapter's weights"):
            weights = self.adapted.add(number, config, config.seed)
        order = DataOrder(len(self.task.splits["train"]), config.batch_size * config.accumulate, config.seed)
        try:
            if not weights.size:
                raise InputError(f"trial {trial_id}", "must train something: a LoRA target or a task head")
            with as_out_of_memory("the adapter's optimizer"):
                for name in MOMENTS[config.optimizer]:
                    weights.bank.extra(name)
            slot = Slot(number, trial_id, config, weights, order)
            if state is not None:
                slot.restore(state)
        except BaseException:
            self.adapted.remove(number)
            raise
        self.slots[number] = slot
        self.runner.graphs.clear()
        return slot

    def close(self, slot: Slot) -> None:
        """Free a slot; its weights and optimizer are gone."""
        del self.slots[slot.number]
        self.adapted.remove(slot.number)
        self.runner.graphs.clear()

    def _free_number(self) -> int:
        taken = self.adapted.slots
        if len(self.slots) >= self.options.slots:
            raise AdapterStateError(f"all {self.options.slots} slots are taken")
        return next(number for number in range(len(taken) + 1) if number not in taken)

    # Training --------------------------------------------------------------------------------------------------

    def train_step(self, slots: Sequence[Slot]) -> list[tuple[Slot, OutOfMemoryError]]:
        """One optimizer step for every given slot, in one pack.

        When memory runs out, passes are made smaller and the step is begun again; a trial of which not even one row
        fits is left out.

        Returns:
            The slots that do not fit, with the reason; they did not step.
        """
        self.meter.start()
        failed: list[tuple[Slot, OutOfMemoryError]] = []
        remaining = self._in_order(slots)
        while remaining:
            culprit = self._accumulate(remaining)
            if culprit is None:
                break
            slot, error = culprit
            if slot is not None:
                remaining.remove(slot)
                failed.append((slot, error))
        for slot in remaining:
            optimizer_step(slot.weights, slot.config, slot.step)
            slot.step += 1
        self.steps += bool(remaining)
        self.trial_steps += len(remaining)
        return failed

    def _accumulate(self, slots: Sequence[Slot]) -> tuple[Slot | None, OutOfMemoryError] | None:
        """Gradients and losses of one step; on exhausted memory, who (if one row was too much) and why."""
        split = self.task.splits["train"]
        rows = PackRows.of([slot.order.at(slot.step) for slot in slots])
        losses = torch.zeros(len(slots), device=self.base.device)
        targets = np.bincount(rows.owner, weights=self._targets["train"][rows.example], minlength=len(slots))
        share = (1 / np.maximum(targets, 1)).astype(np.float32)
        zero_gradients([slot.weights for slot in slots])

        cells = 0
        for length, part in passes(self.task, split, rows, self.tokens_per_pass):
            weights = share[part.owner]
            try:
                with as_out_of_memory(f"a training pass of {len(part.owner)} rows of {length} tokens"):
                    nll, seen = self.runner.train(slots, split, part, length, weights)
            except OutOfMemoryError as error:
                return self._shrink(slots, part, length, forgotten(error))
            owner = to_device(part.owner, losses.device)
            losses.index_add_(0, owner, nll * to_device(weights, losses.device))
            cells += seen
        self._note_training(slots, split, rows, losses)
        self.padded_tokens += cells
        return None

    def _shrink(
        self, slots: Sequence[Slot], part: PackRows, length: int, error: OutOfMemoryError
    ) -> tuple[Slot | None, OutOfMemoryError]:
        if self.runner.graphs.recorded:  # their memory goes first, and the pass is tried again as it is
            self.runner.graphs.clear()
            self.adapted.routing.forget()
            torch.cuda.empty_cache()
            return None, error
        if len(part.owner) == 1:
            return slots[int(part.owner[0])], error
        self.tokens_per_pass = max(length, len(part.owner) * length // 2)
        return None, error

    def _note_training(self, slots: Sequence[Slot], split: EncodedSplit, rows: PackRows, losses: Tensor) -> None:
        lengths = split.lengths[rows.example]
        seen = lengths if self.runner.unpads else self.task.bucket_of(lengths)
        tokens, padded = (np.bincount(rows.owner, weights=w, minlength=len(slots)).astype(int) for w in (lengths, seen))
        for i, slot in enumerate(slots):
            slot.losses.append(losses[i])
            slot.tokens += int(tokens[i])
            slot.padded_tokens += int(padded[i])
            self.meter.add(slot.trial_id, int(padded[i]) * self._training_flops(slot))
        self.tokens += int(tokens.sum())

    # Evaluation ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, slots: Sequence[Slot], split_name: str) -> list[Scores]:
        """Show a split to every given slot.

        Raises:
            OutOfMemoryError: not even one row of each slot fits.
        """
        self.meter.start()
        split = self.task.splits[split_name]
        for slot in slots:
            flops = self._linear_parameters + slot.weights.size
            self.meter.add(slot.trial_id, 2.0 * int(self._lengths[split_name].sum()) * flops)
        while True:
            try:
                with as_out_of_memory("evaluation"):
                    return self._evaluate(slots, split)
            except OutOfMemoryError:
                if self._tokens_per_evaluation_pass <= self.task.buckets[-1]:
                    raise
                self.tokens_per_pass = self._tokens_per_evaluation_pass // 2

    def _evaluate(self, slots: Sequence[Slot], split: EncodedSplit) -> list[Scores]:
        ordered = self._in_order(slots)
        outcomes: list[tuple[PackRows, Outcome]] = []
        for length, part in evaluation_passes(self._lengths[split.name], len(slots), self._tokens_per_evaluation_pass):
            outcomes.append((part, self.runner.evaluate(ordered, split, part, length)))
        owner, example = (
            np.concatenate([getattr(part, name) for part, _ in outcomes]) for name in ("owner", "example")
        )
        nll = np.zeros((len(slots), len(split)), dtype=np.float32)
        # one transfer at the end: the device is never waited for between two passes
        nll[owner, example] = torch.cat([outcome.nll for _, outcome in outcomes]).cpu().numpy()
        logits = np.zeros((len(slots), len(split), len(self.task.labels)), dtype=np.float32)
        if self.task.labels:
            logits[owner, example] = torch.cat([cast(Tensor, outcome.logits) for _, outcome in outcomes]).cpu().numpy()
        targets = self._targets[split.name]
        places = [ordered.index(slot) for slot in slots]
        return [Scores(logits[i] if self.task.labels else None, nll[i], targets) for i in places]

    @property
    def _tokens_per_evaluation_pass(self) -> int:
        if self.base.device.type == "cpu":
            return min(self.tokens_per_pass, _CPU_EVALUATION_TOKENS)
        return self.tokens_per_pass

    def score(self, adapter: Path | None, split_name: str) -> Scores:
        """Evaluate an adapter folder, or the untouched base, beside whatever is open.

        Raises:
            AdapterFormatError: the folder is no adapter for this base.
        """
        number = self._spare_number()
        if adapter is None:
            weights = self.adapted.add(number, AdapterSpec(target_modules=()), seed=0)
        else:
            file = read_adapter(adapter)
            weights = self.adapted.load(number, file.spec, file.tensors)
        guest = Slot(number, "score", TrialConfig(), weights, DataOrder(1, 1, 0))
        try:
            return self.evaluate([guest], split_name)[0]
        finally:
            self.adapted.remove(number)

    def _spare_number(self) -> int:
        return max(self.adapted.slots, default=-1) + 1

    def save(self, slot: Slot, folder: Path) -> int:
        """Write a slot's adapter in PEFT's format; returns the bytes of its weights file."""
        return save_adapter(self.adapted, slot.number, folder, self.base.name, PEFT_TASK[self.base.task])

    def _in_order(self, slots: Sequence[Slot]) -> list[Slot]:
        """Adapters of one bank next to each other, so that they share their products."""
        return sorted(slots, key=lambda slot: self.adapted.routing.position(slot.number))

    def _training_flops(self, slot: Slot) -> float:
        """FLOPs of one padded training token of a trial; see `meter`."""
        trained = slot.weights.size
        through_base = 2 if self.adapted.slots[slot.number][1] else 1
        return 2.0 * through_base * self._linear_parameters + 6.0 * trained


def _linear_parameters(base: FrozenBase) -> int:
    """Parameters of the base's linear layers: those that take part in every token's products."""
    names: Iterable[str] = linear_names(base.model, base.trained)
    modules: Mapping[str, nn.Module] = dict(base.model.named_modules())
    return sum(p.numel() for name in names for p in modules[name].parameters())
