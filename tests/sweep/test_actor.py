from __future__ import annotations

import pickle

import pytest

from lora_sweep.errors import ModelError
from lora_sweep.records import TrialConfig
from lora_sweep.sweep import actor as module
from lora_sweep.sweep.layout import Placement
from lora_sweep.sweep.order import Order


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
def test_whatever_keeps_an_engine_from_starting_is_told_by_every_call(
    monkeypatch, make_sweep, tmp_path, raised, message
):
    def fail(*_):
        raise raised

    monkeypatch.setattr(module, "_build", fail)
    sweep = make_sweep()
    file = tmp_path / "order.pkl"
    model = sweep.config.model.model_copy(update={"name": "x"})
    config = sweep.config.model_copy(update={"model": model})
    Order(config, sweep.task, 1, str(sweep.run.path), TrialConfig()).write(file)
    actor = module.EngineActor(str(file), Placement("cpu", None, threads=1, cpus=1))
    for call in (actor.info, actor.leases):
        with pytest.raises(ModelError) as caught:
            call()
        assert str(caught.value) == message
        assert str(pickle.loads(pickle.dumps(caught.value))) == message
