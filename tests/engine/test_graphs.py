"""Recorded passes on a GPU: the same training as without, and forgotten when adapters come or go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.graphs import Graphs
from lora_sweep.model_files import load_tokenizer
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.task_config import TaskConfig
from lora_sweep.tasks import prepare_task


def test_off_a_gpu_every_pass_runs_as_it_is() -> None:
    graphs, seen = Graphs(enabled=False), []

    def work(tensors):
        seen.append(tensors)
        return [tensors[0] + 1]

    for value in range(6):
        (out,) = graphs.run("key", [torch.tensor(value)], work)
        assert out == value + 1
    assert len(seen) == 6 and graphs.recorded == 0


def make_engine(folder: Path, files: dict[str, Path], dtype: str, cuda_graphs: bool) -> Engine:
    model = ModelConfig(name=str(folder), dtype=dtype)
    data = {part: str(file) for part, file in files.items()}
    # one bucket that holds every response whole, so that every pass has the same composition
    config = TaskConfig(type="causal-lm", data=data, prompt="prompt", response="response", max_length=25)
    task = prepare_task(config, load_tokenizer(model), seed=0)
    assert task.buckets == (25,)
    base = load_base(model, task.type, task.labels, "cuda")
    return Engine(base, task, EngineOptions("cuda", 8, 1, "loss", "min", cuda_graphs=cuda_graphs))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_replayed_training_equals_plain_training(dtype: str, llama_dir: Path, text_files: dict[str, Path]) -> None:
    states, losses = [], []
    for cuda_graphs in (False, True):
        engine = make_engine(llama_dir, text_files, dtype, cuda_graphs)
        trials = [TrialConfig(rank=2 + n, dropout=0.1 * n, seed=n, steps=12, batch_size=3) for n in range(3)]
        slots = [engine.open(str(n), trial) for n, trial in enumerate(trials)]
        for _ in range(8):
            engine.train_step(slots)
        assert (engine.runner.graphs.recorded > 0) == cuda_graphs
        engine.close(slots.pop())
        assert engine.runner.graphs.recorded == 0
        for _ in range(4):
            engine.train_step(slots)
        assert (engine.runner.graphs.recorded > 0) == cuda_graphs
        losses.append(torch.stack([torch.stack(slot.losses) for slot in slots]).cpu().numpy())
        states.append([slot.state().weights for slot in slots])
    tolerance = 1e-2 if dtype == "bfloat16" else 1e-5
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)
    for ours, theirs in zip(states[1], states[0], strict=True):
        assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)
