from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
import ray

from lora_sweep.errors import ModelError
from lora_sweep.sweep.engines import Engines
from lora_sweep.sweep.errors import EngineLostError
from lora_sweep.sweep.pool import Pool


class Loading:
    """An engine as the pool sees it: says what it is as soon as `file` is there, which says whether it stands."""

    def __init__(self, file):
        self._file = file

    def info(self):
        while not self._file.exists():
            time.sleep(0.02)
        if (said := self._file.read_text()) == "dies":
            os._exit(1)
        if said == "fails":
            raise ModelError("model x", "must have weights")
        return said

    def leases(self):
        return {}


@pytest.fixture
def loading(local_ray, tmp_path, request):
    """A pool of two engines, what it was told of them, and what makes an engine say something."""
    files = [tmp_path / name for name in "ab"]
    names = [f"{tmp_path.name}-{name}" for name in "ab"]
    actor = ray.remote(Loading)
    handles = tuple(actor.options(name=name, num_cpus=0).remote(file) for name, file in zip(names, files, strict=True))
    order = SimpleNamespace(slots=2, write=lambda file: file.touch())
    engines = Engines(handles, tuple(names), (), tmp_path / "tune" / "order-x.pkl")
    told = []
    pool = Pool(engines, order, told.append)

    def say(number, text):
        part = files[number].with_suffix(".part")
        part.write_text(text)
        part.replace(files[number])

    yield pool, told, say
    pool.stop()
    engines.stop()
    assert not engines.order_file.exists()


def until(pool, condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 60
        pool.check()


def test_engines_are_told_of_one_by_one_as_they_stand(loading):
    pool, told, say = loading
    pool.check()
    assert told == [] and pool.most_trials == 4
    say(1, "second")
    until(pool, lambda: told)
    say(0, "first")
    until(pool, lambda: len(told) == 2)
    pool.wait()
    assert told == [["second"], ["second", "first"]]


def test_an_engine_that_cannot_load_its_base_is_told_beside_one_that_stands(loading):
    pool, told, say = loading
    say(0, "first")
    until(pool, lambda: told)
    say(1, "fails")
    with pytest.raises(ModelError, match="model x: must have weights"):
        until(pool, lambda: len(told) == 2)


def test_an_engine_that_dies_is_missed_beside_one_that_stands(loading):
    pool, told, say = loading
    say(0, "dies")
    until(pool, lambda: len(pool._loading) == 1)
    say(1, "second")
    pool.wait()
    assert told == [["second"]] and pool.infos() == ["second"]
    assert pool.any_engine() is not None


@pytest.mark.parametrize("loading", [0, 20], indirect=True, ids=["never started again", "started again"])
def test_engines_that_die_whenever_they_load_end_the_sweep(loading):
    pool, told, say = loading
    say(0, "dies")
    say(1, "dies")
    with pytest.raises(EngineLostError, match="every engine died before it had loaded the base"):
        pool.wait()
    assert told == []
