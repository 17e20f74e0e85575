from __future__ import annotations

import pickle
import sys
from importlib import import_module

import pytest

from lora_sweep.engine import service
from lora_sweep.errors import ModelError, RunFolderError
from lora_sweep.records import TrialConfig
from lora_sweep.sweep.actor import SLOW_IMPORTS, EngineActor
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

    monkeypatch.setattr(service, "build_service", fail)
    sweep = make_sweep()
    file = tmp_path / "order.pkl"
    model = sweep.config.model.model_copy(update={"name": "x"})
    config = sweep.config.model_copy(update={"model": model})
    Order(config, sweep.task, 1, str(sweep.run.path), TrialConfig()).write(file)
    actor = EngineActor(str(file), Placement("cpu", None, threads=1, cpus=1), None)
    for call in (actor.info, actor.leases):
        with pytest.raises(ModelError) as caught:
            call()
        assert str(caught.value) == message
        assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_an_order_that_an_engine_cannot_see_or_read_is_told(tmp_path):
    place = Placement("cpu", None, threads=1, cpus=1)
    (tmp_path / "garbled.pkl").write_bytes(b"no pickle")
    for name, rule in (("gone", "must be in a folder that all nodes"), ("garbled", "must be readable by every engine")):
        file = tmp_path / f"{name}.pkl"
        with pytest.raises(RunFolderError) as caught:
            EngineActor(str(file), place, patience=0.1).info()
        assert str(caught.value).startswith(f"{file}: {rule}")


@pytest.mark.parametrize("module", SLOW_IMPORTS)
def test_what_an_engine_imports_early_is_there(module):
    import_module(module)


def test_an_engine_whose_modules_do_not_load_is_told(monkeypatch, make_sweep, tmp_path):
    sweep, file = make_sweep(), tmp_path / "order.pkl"
    Order(sweep.config, sweep.task, 1, str(sweep.run.path), TrialConfig()).write(file)
    monkeypatch.setitem(sys.modules, "lora_sweep.engine.service", None)
    with pytest.raises(ModelError, match=r"must be one that an engine can train \(ModuleNotFoundError: "):
        EngineActor(str(file), Placement("cpu", None, threads=1, cpus=1), None).info()
