"""The broker on a plain event loop, with engines that answer as actor handles do."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import ActorUnavailableError

from lora_sweep.sweep import broker as module
from lora_sweep.sweep.errors import EngineLostError


class Method:
    def __init__(self, function):
        self.remote = function


class Engine:
    def __init__(self, held=None):
        self.held = dict(held or {})
        self.closed = []
        self.unreachable = 0
        self.close, self.leases = Method(self._close), Method(self._leases)

    async def _close(self, trial_id, epoch):
        self._answer()
        self.closed.append(trial_id)
        self.held.pop(trial_id, None)

    async def _leases(self):
        self._answer()
        return dict(self.held)

    def _answer(self):
        if self.unreachable:
            self.unreachable -= 1
            raise ActorUnavailableError("gone", None)


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.001)


def make_broker(engines, slots):
    return module.Broker(range(len(engines)), slots, find=engines.__getitem__)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0.001)


def test_slots_go_out_in_the_order_of_asking():
    async def story():
        engine = Engine()
        broker = make_broker([engine], slots=1)
        await broker.acquire("a")
        waiting = [asyncio.ensure_future(broker.acquire(trial)) for trial in "bc"]
        await settle()
        assert not any(task.done() for task in waiting)
        await broker.release("a")
        await settle()
        assert waiting[0].done() and not waiting[1].done()
        assert engine.closed == ["a"]
        await broker.release("b")
        assert (await waiting[1])[0] is engine

    asyncio.run(story())


def test_release_is_idempotent_and_respects_the_epoch():
    async def story():
        engine = Engine()
        broker = make_broker([engine], slots=1)
        _, epoch = await broker.acquire("a")
        await broker.release("a", epoch - 1)
        assert await broker.leases() == {"a": 0}
        await broker.release("a", epoch)
        await broker.release("a", epoch)
        await broker.release("a")
        await settle()
        assert engine.closed == ["a"] and await broker.leases() == {}

    asyncio.run(story())


def test_a_restarted_trial_supersedes_its_own_lease():
    async def story():
        broker = make_broker([Engine()], slots=1)
        _, first = await broker.acquire("a")
        _, second = await asyncio.wait_for(broker.acquire("a"), 1)
        assert second > first
        assert await broker.leases() == {"a": 0}

    asyncio.run(story())


def test_a_lost_engine_gets_no_trials_until_it_answers():
    async def story():
        engines = [Engine(), Engine()]
        broker = make_broker(engines, slots=1)
        first, epoch = await broker.acquire("a")
        lost = engines.index(first)
        await broker.acquire("b")
        first.unreachable = 1000
        await broker.lost("a", epoch)
        again = asyncio.ensure_future(broker.acquire("a"))
        await settle()
        assert not again.done()
        first.unreachable = 0
        assert (await asyncio.wait_for(again, 1))[0] is engines[lost]

    asyncio.run(story())


def test_leases_are_adopted_after_a_restart():
    async def story():
        broker = make_broker([Engine({"a": 5})], slots=2)
        await broker.acquire("b")
        waiting = asyncio.ensure_future(broker.acquire("c"))
        await settle()
        assert not waiting.done() and await broker.leases() == {"a": 0, "b": 0}
        await broker.release("a", 5)
        await asyncio.wait_for(waiting, 1)

    asyncio.run(story())


def test_only_what_the_driver_misses_twice_is_reaped():
    async def story():
        engine = Engine()
        broker = make_broker([engine], slots=2)
        await broker.acquire("a")
        await broker.acquire("b")
        await broker.keep(["a"])
        await settle()
        assert engine.closed == []
        await broker.keep(["a"])
        await settle()
        assert engine.closed == ["b"]

    asyncio.run(story())


def test_drain_waits_until_all_slots_are_closed():
    async def story():
        engine = Engine()
        broker = make_broker([engine], slots=2)
        await broker.acquire("a")
        await broker.acquire("b")
        await broker.drain()
        assert sorted(engine.closed) == ["a", "b"] and await broker.leases() == {}

    asyncio.run(story())


def test_without_any_engine_the_waiting_are_told():
    async def story():
        engine = Engine()
        engine._leases = None
        engine.leases = Method(lambda: _raise(EngineLostError("does not load")))
        broker = make_broker([engine], slots=1)
        with pytest.raises(EngineLostError):
            await asyncio.wait_for(broker.acquire("a"), 1)

    asyncio.run(story())


async def _raise(error):
    raise error
