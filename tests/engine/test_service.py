"""The service: threads, packs, clocks, failures that stay with their trial."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_sweep.engine import service as module
from lora_sweep.engine.report import Reporter
from lora_sweep.engine.service import EngineService
from lora_sweep.errors import ModelError, NonFiniteLossError, OutOfMemoryError, TrialFailure
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder


def config(**changes: Any) -> TrialConfig:
    return TrialConfig(**({"rank": 4, "steps": 8, "eval_every": 4, "batch_size": 8} | changes))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def test_trials_asked_for_together_train_together(classifier: Any, run: RunFolder) -> None:
    service = EngineService(classifier, run)
    for name in "abc":
        service.open(name, config(seed=ord(name)))
    with ThreadPoolExecutor(3) as pool:
        first = list(pool.map(lambda name: service.run(name, True), "abc"))
        last = list(pool.map(lambda name: service.run(name, False), "abc"))
    info = service.info()
    assert info.trial_steps == 24 and info.steps < 24
    assert [interval.done for interval in first + last] == [False] * 3 + [True] * 3
    assert [interval.record.status for interval in last] == ["complete"] * 3
    for interval in last:
        assert [point.step for point in interval.record.history] == [4, 8]
        file = run.adapter_dir(interval.record.trial_id) / "adapter_model.safetensors"
        assert interval.record.adapter_bytes == file.stat().st_size
        outcomes = run.outcomes(interval.record.trial_id)
        assert set(outcomes["step"]) == {interval.record.step}
        assert interval.record.metrics["accuracy"] == (outcomes["label"] == outcomes["prediction"]).mean()
    service.shutdown()
    with pytest.raises(TrialFailure, match="shut down"):
        service.open("d", config())


def test_the_thread_that_makes_the_engine_works_with_it(classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, threads = classifier(), []
    step = engine.train_step
    monkeypatch.setattr(engine, "train_step", lambda slots: threads.append(threading.get_ident()) or step(slots))
    service = EngineService(lambda: threads.append(threading.get_ident()) or engine, None)
    service.open("a", config())
    service.run("a", False)
    assert len(threads) > 4 and len(set(threads)) == 1 and threads[0] != threading.get_ident()


def test_what_making_the_engine_raises_is_told() -> None:
    def make() -> Any:
        raise ModelError("model", "must be loadable", "nothing", "Choose another.")

    with pytest.raises(ModelError, match="must be loadable"):
        EngineService(make, None)


def test_clock_covers_the_work_and_a_probe_is_a_whole_step(classifier: Any) -> None:
    engine = classifier()
    service = EngineService(lambda: engine, None)
    service.open("a", config(batch_size=32))
    began = time.perf_counter()
    record = service.run("a", False).record
    wall = time.perf_counter() - began
    assert 0.5 * wall < record.cost.device_seconds <= wall
    slot = next(iter(engine.slots.values()))
    assert 0 < record.cost.evaluation_seconds < record.cost.device_seconds
    training = record.cost.device_seconds - record.cost.evaluation_seconds
    # two of the four steps are probes: their share of the padded tokens is about half of the training's time
    share = sum(slot.probes) / len(slot.probes) * slot.padded_tokens / training
    assert 0.2 < share < 5
    assert record.cost.solo_source == "probed"


def test_a_trial_waits_for_one_that_starts_with_it(classifier: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_LINGER_SECONDS", 30.0)  # a full engine does not wait, and neither does this test
    service = EngineService(lambda: classifier(slots=2), None)
    with ThreadPoolExecutor(2) as pool:
        service.open("a", config())
        first = pool.submit(service.run, "a", False)
        time.sleep(0.2)
        service.open("b", config())
        second = pool.submit(service.run, "b", False)
        assert first.result().record.history[-1].step == second.result().record.history[-1].step == 4
    assert service.info().steps == 6  # four of the eight trial steps are timed alone
    service.shutdown()


@pytest.mark.parametrize("maker", ["classifier", "language_model"])
def test_a_rehearsal_is_of_a_report(maker: str, request: Any, monkeypatch: Any) -> None:
    written: list[Any] = []
    monkeypatch.setattr("pandas.DataFrame.to_parquet", lambda frame, _file, **_: written.append(frame))
    engine = request.getfixturevalue(maker)()
    Reporter(engine, None).rehearse()
    (frame,) = written
    assert len(frame) == len(engine.task.splits["eval"])


def test_an_engines_first_steps_are_on_no_trials_bill(classifier: Any) -> None:
    engine, seen = classifier(), []
    step = engine.train_step

    def train_step(slots: Any) -> Any:
        seen.append([slot.trial_id for slot in slots])
        return step(slots)

    engine.train_step = train_step
    service = EngineService(lambda: engine, None, config())
    for name in "ab":
        service.open(name, config(steps=2))
    record = service.run("a", False).record
    info = service.info()
    assert seen == [["warm-up"], ["warm-up"], ["a"], ["a"]] and info.open_trials == ("a", "b")
    assert 0 < record.cost.device_seconds < info.busy_seconds
    assert (info.steps, info.trial_steps, info.tokens) == (2, 2, record.tokens)


def test_what_fails_in_warming_up_is_told_by_the_trial(classifier: Any) -> None:
    engine = classifier()

    def train_step(_slots: Any) -> Any:
        raise ValueError("broken")

    engine.train_step = train_step
    service = EngineService(lambda: engine, None, config())
    service.open("a", config())
    with pytest.raises(TrialFailure, match="ValueError: broken"):
        service.run("a", False)
    assert service.info().open_trials == () and not engine.slots


@pytest.mark.parametrize("steps", [4, 1])
def test_a_diverging_trial_fails_by_itself(classifier: Any, steps: int) -> None:
    """Also when it diverges in the very step before an evaluation: accuracy stays finite, the answers do not."""
    service = EngineService(classifier, None)
    service.open("wild", config(learning_rate=1e30, clip=None, warmup=0.0, eval_every=steps))
    service.open("calm", config(eval_every=steps))
    with ThreadPoolExecutor(2) as pool:
        wild, calm = pool.submit(service.run, "wild", False), pool.submit(service.run, "calm", False)
        with pytest.raises(NonFiniteLossError, match=r"loss became (nan|inf) at step"):
            wild.result()
        assert np.isfinite(calm.result().record.metrics["loss"])
    assert service.info().open_trials == ("calm",)


def test_evaluations_that_only_fit_alone_are_done_alone(classifier: Any) -> None:
    engine = classifier()
    together = engine.evaluate

    def evaluate(slots: Any, split: str) -> Any:
        if len(slots) > 1 or slots[0].trial_id == "c":
            raise OutOfMemoryError("out of memory in evaluation")
        return together(slots, split)

    engine.evaluate = evaluate
    service = EngineService(lambda: engine, None)
    for name in "abc":
        service.open(name, config())
    with ThreadPoolExecutor(3) as pool:
        runs = {name: pool.submit(service.run, name, False) for name in "abc"}
        assert runs["a"].result().record.history and runs["b"].result().record.history
        with pytest.raises(OutOfMemoryError):
            runs["c"].result()


def test_closing_wakes_a_run_in_progress(classifier: Any) -> None:
    service = EngineService(classifier, None)
    service.open("a", config(steps=100_000, eval_every=100_000))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(service.run, "a", False)
        time.sleep(0.3)
        service.close("a")
        with pytest.raises(TrialFailure, match="closed"):
            running.result()
    assert service.info().open_trials == ()


def test_a_state_older_than_the_run_folder_keeps_its_next_evaluation(classifier: Any, run: RunFolder) -> None:
    """A crash after an adapter was written and before its state was safe."""
    service = EngineService(lambda: classifier(keep="last"), run)
    service.open("a", config(steps=12))
    state = service.run("a", True).state
    service.run("a", False)  # writes step 8, whose state is lost
    service.close("a")
    other = EngineService(classifier, run)
    other.open("a", config(steps=12), state)
    record = other.run("a", False).record
    assert record.step == 8 and set(run.outcomes("a")["step"]) == {8}
