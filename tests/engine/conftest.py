from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.model_files import load_tokenizer
from lora_sweep.models import load_base
from lora_sweep.task_config import TaskConfig
from lora_sweep.tasks import EncodedTask, prepare_task

MakeEngine = Callable[..., Engine]


def _maker(folder: Path, config: TaskConfig, metric: str, mode: Any) -> MakeEngine:
    model = ModelConfig(name=str(folder), dtype="float32")
    task = prepare_task(config, load_tokenizer(model), seed=0)

    def make(slots: int = 20, tokens_per_pass: int = 16_384, dtype: str = "float32", **options: Any) -> Engine:
        base = load_base(model.model_copy(update={"dtype": dtype}), task.type, task.labels)
        chosen = {"metric": metric, "mode": mode, "tokens_per_pass": tokens_per_pass} | options
        return Engine(base, task, EngineOptions("cpu", slots, 1, **chosen))

    return make


@pytest.fixture(scope="session")
def classifier(bert_dir: Path, sentiment_files: dict[str, Path]) -> MakeEngine:
    data = {part: str(file) for part, file in sentiment_files.items()}
    config = TaskConfig(type="classification", data=data, text="text", label="label", max_length=32)
    return _maker(bert_dir, config, "accuracy", "max")


@pytest.fixture(scope="session")
def language_model(llama_dir: Path, text_files: dict[str, Path]) -> MakeEngine:
    data = {part: str(file) for part, file in text_files.items()}
    config = TaskConfig(type="causal-lm", data=data, prompt="prompt", response="response", max_length=40)
    return _maker(llama_dir, config, "loss", "min")


@pytest.fixture
def task(classifier: MakeEngine) -> EncodedTask:
    return classifier().task
