from __future__ import annotations

import pickle

import pytest

from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions
from lora_sweep.errors import ModelError
from lora_sweep.sweep import actor as module


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ModelError("model x", "must have weights"), "model x: must have weights"),
        (
            ValueError("All examples must have\nthe same number of <eos> tokens."),
            "model x: must be one that an engine can train (ValueError: All examples must have the same number of "
            "<eos> tokens). Does its architecture support the task?",
        ),
    ],
)
def test_whatever_keeps_an_engine_from_starting_is_told_by_every_call(monkeypatch, raised, message):
    def fail(*_):
        raise raised

    monkeypatch.setattr(module, "_build", fail)
    options = EngineOptions(
        device="cpu", slots=1, threads=1, metric="loss", mode="min", keep="best", tokens_per_pass=64, base_dropout=False
    )
    actor = module.EngineActor(ModelConfig(name="x"), "task.pkl", options, "run")
    for call in (actor.info, actor.leases):
        with pytest.raises(ModelError) as caught:
            call()
        assert str(caught.value) == message
        assert str(pickle.loads(pickle.dumps(caught.value))) == message
