"""A finished run opened for analysis: its base on an engine, its data, its adapters. Needs no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lora_sweep.adapters import AdapterFile, read_adapter
from lora_sweep.analysis.holdout import HELD_OUT, holdout_note, with_holdout
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.order import DataOrder
from lora_sweep.engine.report import metrics_of
from lora_sweep.engine.scores import Scores
from lora_sweep.engine.slot import Slot
from lora_sweep.errors import InputError
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder, check_made_here
from lora_sweep.tasks import outcomes_frame

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

_SLOTS = 8


@dataclass(frozen=True)
class Evaluation:
    """What one adapter reached on a split.

    Attributes:
        scores: its answers, in the split's order.
        metrics: name to value.
        parameters: all that the adapter trains, its head included; `lora_parameters` are A and B alone.
        adapter_bytes: of its weights file where it was written, else of its tensors.
    """

    scores: Scores
    metrics: Mapping[str, float]
    parameters: int
    lora_parameters: int
    adapter_bytes: int


class AnalysisSession:
    """A run with an engine of its own.

    Args:
        run: where adapters are read from and analyses are written to.
        engine: with the run's base and data, no slot open; see `open_session`.
        holdout_note: what a loss on the split `holdout` means.
    """

    def __init__(self, run: RunFolder, engine: Engine, holdout_note: str = HELD_OUT) -> None:
        self.run, self.engine, self.holdout_note = run, engine, holdout_note

    @property
    def device(self) -> str:
        """Human-readable, e.g. `cpu (2 threads)`."""
        device = self.engine.base.device
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        return f"cpu ({torch.get_num_threads()} threads)"

    def facts(self) -> dict[str, Any]:
        """On what the measurements were taken, for the record."""
        dtype = str(self.engine.base.dtype).removeprefix("torch.")
        return {"device": self.device, "dtype": dtype}

    def leading(self, top: int) -> list[TrialRecord]:
        """The complete trials with LoRA layers, best kept metric first, at most `top`; equals by fewer parameters."""
        options = self.engine.options
        sign = -1 if options.mode == "max" else 1
        searched = [record for record in self.run.records() if record.repeat_of is None]
        complete = [r for r in searched if r.status == "complete" and options.metric in r.metrics]
        adapted = [r for r in complete if r.adapter_parameters and self.run.adapter_dir(r.trial_id).is_dir()]
        adapted.sort(key=lambda r: (sign * r.metrics[options.metric], r.trainable_parameters, r.trial_id))
        return adapted[:top]

    def adapter(self, trial_id: str) -> AdapterFile:
        """The trial's adapter.

        Raises:
            AdapterFormatError: it has none.
        """
        return read_adapter(self.run.adapter_dir(trial_id))

    @contextmanager
    def loaded(self, adapters: Sequence[AdapterFile]) -> Iterator[list[Slot]]:
        """The adapters in slots inside the block.

        Raises:
            AdapterFormatError: one is not for this base.
        """
        slots: list[Slot] = []
        with ExitStack() as stack:
            for number, adapter in enumerate(adapters):
                weights = self.engine.adapted.load(number, adapter.spec, adapter.tensors)
                stack.callback(self.engine.adapted.remove, number)
                slots.append(Slot(number, f"guest {number}", TrialConfig(), weights, DataOrder(1, 1, 0)))
            yield slots

    def evaluate(self, adapters: Mapping[str, AdapterFile], split: str, write: bool = False) -> dict[str, Evaluation]:
        """Show a split to every adapter, as many at once as the engine has slots.

        Args:
            adapters: name to adapter.
            split: `eval`, `test` or `holdout`.
            write: whether to write each adapter to RUN/adapters/NAME.

        Returns:
            Name to what it reached, in the same order.
        """
        found: dict[str, Evaluation] = {}
        everyone, at_once = list(adapters), self.engine.options.slots
        for start in range(0, len(everyone), at_once):
            names = everyone[start : start + at_once]
            with self.loaded([adapters[name] for name in names]) as slots:
                scores = self.engine.evaluate(slots, split)
                self.engine.meter.settle(lambda *_: None)
                for name, slot, one in zip(names, slots, scores, strict=True):
                    found[name] = self._evaluation(slot, one, split, name if write else None)
        return found

    def write_outcomes(self, name: str, split: str, step: int, scores: Scores) -> None:
        """Keep the answers on every example as RUN/outcomes/NAME.parquet."""
        part = self.engine.task.splits[split]
        frame = outcomes_frame(part, step, logits=scores.logits, nll_sum=scores.nll_sum, tokens=scores.targets)
        self.run.write_outcomes(name, frame)

    def _evaluation(self, slot: Slot, scores: Scores, split: str, name: str | None) -> Evaluation:
        named = slot.weights.named
        size = 4 * slot.weights.size
        if name is not None:
            size = self.engine.save(slot, self.run.adapter_dir(name))
        lora = sum(p.numel() for key, p in named.items() if ".lora_" in key)
        metrics = metrics_of(self.engine.task, split, scores)
        return Evaluation(scores, metrics, slot.weights.size, lora, size)


def open_session(
    run: RunFolder, device: str = "auto", slots: int = _SLOTS, holdout_examples: int = 512
) -> AnalysisSession:
    """Open a run for analysis.

    Args:
        run: with run.json and sweep.yaml.
        device: `cpu`, `cuda`, or `auto`: CUDA where there is one.
        slots: adapters that are evaluated at once.
        holdout_examples: size of the split `holdout` where the run set none aside, see `with_holdout`.

    Raises:
        RunFolderError: base or data are no longer what the run was made with, or it was imported.
        InputError: they cannot be read, or there is no such device, or it cannot compute in the sweep's dtype.
    """
    from lora_sweep.preflight import check_unchanged, preflight
    from lora_sweep.sweep_file import load_resolved

    check_made_here(run)
    device = _device(device)
    config = load_resolved(run.sweep_file)
    checked = preflight(config, str(run.sweep_file))
    check_unchanged(run.info(), checked.facts)
    task = with_holdout(checked.task, config.search.seed, holdout_examples)
    model = config.model.model_copy(update={"dtype": _dtype(run, config.model.dtype, device)})
    base = load_base(model, config.task.type, task.labels, device)
    engine = Engine(base, task, _options(config, device, slots))
    return AnalysisSession(run, engine, holdout_note(checked.task))


def _dtype(run: RunFolder, asked: str, device: str) -> Any:
    """The dtype of the sweep, also where it was chosen for its device: another gives other figures."""
    devices = run.info().get("devices")
    used = {one.get("dtype") for one in devices if isinstance(one, dict)} if isinstance(devices, list) else set()
    dtype = used.pop() if asked == "auto" and len(used) == 1 else asked
    if dtype == "bfloat16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        fix = "Use --device cpu, or a device that can."
        raise InputError("--device", "must compute in the sweep's dtype, bfloat16", device, fix)
    return dtype or asked


def _device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise InputError("--device", "must be auto, cpu or cuda", name)
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise InputError("--device", "must be one that torch finds", name, "Use --device cpu.")
    return ("cuda" if cuda else "cpu") if name == "auto" else name


def _options(config: SweepConfig, device: str, slots: int) -> EngineOptions:
    return EngineOptions(
        device=device,
        slots=slots,
        threads=torch.get_num_threads(),
        metric=config.metric.name,
        mode=config.metric.mode,
        keep=config.metric.keep,
        tokens_per_pass=config.resources.tokens_per_pass,
    )
