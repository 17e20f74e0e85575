"""Engines on tiny bases, and what a trial leaves behind to be compared with its solo run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions, SlotState
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.scores import Scores
from lora_sweep.engine.slot import Slot
from lora_sweep.model_files import load_tokenizer
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.task_config import TaskConfig
from lora_sweep.tasks import EncodedTask, prepare_task

MakeEngine = Callable[..., Engine]
LEAST_LOSS = 0.1
"""Below it a loss is compared with this: it comes of logits whose rounding does not shrink with it."""


def _maker(folder: Path, config: TaskConfig, metric: str, mode: Any) -> MakeEngine:
    model = ModelConfig(name=str(folder), dtype="float32")
    task = prepare_task(config, load_tokenizer(model), seed=0)

    @cache
    def loaded(dtype: str, device: str) -> Any:
        return load_base(model.model_copy(update={"dtype": dtype}), task.type, task.labels, device)

    def make(
        slots: int = 20, tokens_per_pass: int = 16_384, dtype: str = "float32", device: str = "cpu", **options: Any
    ) -> Engine:
        base = loaded(dtype, device)
        chosen = {"metric": metric, "mode": mode, "tokens_per_pass": tokens_per_pass} | options
        own = replace(base, model=copy.deepcopy(base.model))
        return Engine(own, task, EngineOptions(device, slots, 1, **chosen))

    return make


def _classification(files: dict[str, Path]) -> TaskConfig:
    data = {part: str(file) for part, file in files.items()}
    return TaskConfig(type="classification", data=data, text="text", label="label", max_length=32)


def _causal(files: dict[str, Path]) -> TaskConfig:
    data = {part: str(file) for part, file in files.items()}
    return TaskConfig(type="causal-lm", data=data, prompt="prompt", response="response", max_length=40)


@pytest.fixture(scope="session")
def classifier(bert_dir: Path, sentiment_files: dict[str, Path]) -> MakeEngine:
    return _maker(bert_dir, _classification(sentiment_files), "accuracy", "max")


@pytest.fixture(scope="session")
def wide_classifier(wide_bert_dir: Path, sentiment_files: dict[str, Path]) -> MakeEngine:
    return _maker(wide_bert_dir, _classification(sentiment_files), "accuracy", "max")


@pytest.fixture(scope="session")
def language_model(llama_dir: Path, text_files: dict[str, Path]) -> MakeEngine:
    return _maker(llama_dir, _causal(text_files), "loss", "min")


@pytest.fixture(scope="session")
def gpt2_model(gpt2_dir: Path, text_files: dict[str, Path]) -> MakeEngine:
    return _maker(gpt2_dir, _causal(text_files), "loss", "min")


@pytest.fixture
def task(classifier: MakeEngine) -> EncodedTask:
    return classifier().task


@dataclass(frozen=True)
class Drift:
    """How far a trial lies from its solo run: differences relative to the solo run's norms; NaN where not finite.

    Attributes:
        losses: of a step's loss, the largest over the steps.
        weights: of all that it trains, as one vector; `moments` likewise, the larger of the optimizer's two.
        tensor: of a single tensor's weights or moments, the largest over the tensors.
        scores: of what an evaluation said, as one vector over all examples.
    """

    losses: float
    weights: float
    moments: float
    tensor: float
    scores: float

    def within(self, **limits: float) -> bool:
        """Whether no figure is above its limit; NaN is above any."""
        return all(value <= limits[name] for name, value in vars(self).items())


@dataclass(frozen=True)
class Trace:
    """What a trial went through: each step's loss, its state at the end, and an evaluation.

    Attributes:
        losses: fp32 [steps].
        sizes: elements of each of its tensors, in the order of the state's vectors.
    """

    losses: np.ndarray
    state: SlotState
    sizes: tuple[int, ...]
    scores: Scores

    @classmethod
    def of(cls, slot: Slot, scores: Scores, earlier: Iterable[np.ndarray] = ()) -> Trace:
        """Of a trial that is still open; `earlier` has its losses before it was opened here."""
        sizes = tuple(parameter.numel() for parameter in slot.weights.named.values())
        return cls(np.concatenate([*earlier, cls.losses_of(slot)]), slot.state(), sizes, scores)

    @staticmethod
    def losses_of(slot: Slot) -> np.ndarray:
        """The losses of its steps since a slot was opened."""
        return torch.stack(slot.losses).cpu().numpy() if slot.losses else np.empty(0, np.float32)

    def drift(self, solo: Trace) -> Drift:
        ours, alone = self.state, solo.state
        assert (ours.step, ours.tokens, ours.padded_tokens) == (alone.step, alone.tokens, alone.padded_tokens)
        assert ours.moments.keys() == alone.moments.keys() and self.sizes == solo.sizes
        assert self.losses.shape == solo.losses.shape
        vectors = {"weights": (ours.weights, alone.weights)}
        vectors |= {name: (ours.moments[name], alone.moments[name]) for name in alone.moments}
        answers = [(getattr(self.scores, name), getattr(solo.scores, name)) for name in ("nll_sum", "logits")]
        return Drift(
            losses=float(np.max(np.abs(self.losses - solo.losses) / np.maximum(solo.losses, LEAST_LOSS))),
            weights=distance(ours.weights, alone.weights),
            moments=largest(distance(a, b) for name, (a, b) in vectors.items() if name != "weights"),
            tensor=largest(distance(a, b) for pair in vectors.values() for a, b in self._tensors(*pair)),
            scores=largest(distance(a, b) for a, b in answers if b is not None),
        )

    def _tensors(self, *vectors: np.ndarray) -> Iterable[tuple[np.ndarray, ...]]:
        ends = np.cumsum(self.sizes)
        assert all(len(vector) == ends[-1] for vector in vectors)
        return zip(*(np.split(vector, ends[:-1]) for vector in vectors), strict=True)


def distance(ours: np.ndarray, alone: np.ndarray) -> float:
    """|ours - alone| / |alone|; 0 where nothing differs."""
    gap = np.linalg.norm(ours.astype(np.float64) - alone)
    return float(gap / np.linalg.norm(alone.astype(np.float64))) if gap else 0.0


def largest(values: Iterable[float]) -> float:
    """NaN when any is; 0 of none."""
    return float(np.max([0.0, *values]))


@pytest.fixture(scope="session")
def trace() -> type[Trace]:
    return Trace


@pytest.fixture(scope="session")
def solo() -> Callable[..., Trace]:
    """Train one trial with nobody beside it."""

    def run(make: MakeEngine, config: TrialConfig, steps: int, **options: Any) -> Trace:
        engine = make(slots=1, **options)
        slot = engine.open("solo", config)
        for _ in range(steps):
            engine.train_step([slot])
        return Trace.of(slot, engine.evaluate([slot], "eval")[0])

    return run
