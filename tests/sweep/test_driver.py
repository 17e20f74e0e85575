from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from lora_sweep.errors import ConfigError, ModelError, RunFolderError
from lora_sweep.sweep.driver import run_sweep
from lora_sweep.sweep.lock import hold


def finish(sweep, diary):
    run_sweep(sweep.config, sweep.task, sweep.run, facts={"data": {"marker": 1}}, listener=diary)
    return sweep.run.records()


def test_random_with_fifo_completes_every_trial_and_the_new_seeds_of_finalists(make_sweep, diary, local_ray):
    sweep = make_sweep(finalists={"top": 2, "seeds": 2})
    everything = finish(sweep, diary)
    records = [record for record in everything if record.repeat_of is None]
    assert sorted(record.trial_id[:3] for record in records) == ["000", "001", "002", "003"]
    assert {record.status for record in records} == {"complete"}
    assert len({record.config.fingerprint() for record in records}) == 4
    assert all([point.step for point in record.history] == [4, 8, 12] for record in records)
    assert all((sweep.run.adapter_dir(record.trial_id) / "adapter_model.safetensors").is_file() for record in records)

    info = sweep.run.info()
    assert info["status"] == "complete"
    assert info["trials"] == {"planned": 4, "complete": 4, "stopped": 0, "failed": 0}
    assert info["repeats"] == {"planned": 4, "complete": 4, "failed": 0}
    assert info["data"] == {"marker": 1}
    assert len(info["devices"]) == 1 and info["devices"][0]["busy_seconds"] > 0

    assert diary.trials == 8
    assert len(diary.reports) == 24 and len(diary.ends) == 8
    assert "training 2 new seeds of each finalist" in diary.stages
    assert not list((sweep.run.path / "tune").rglob("checkpoint_*"))

    baselines = {row["name"]: row for row in sweep.run.analysis("baselines")["rows"]}
    assert set(baselines) == {"majority", "head-only"}
    assert baselines["head-only"]["trainable_parameters"] > 0
    assert all(set(row["metrics"]) == {"eval", "test"} for row in baselines.values())
    best = max(records, key=lambda record: record.metrics["accuracy"]).metrics["accuracy"]
    leader = next(record for record in records if record.trial_id == chosen_of(sweep)[0])
    assert leader.metrics["accuracy"] == best
    check_repeats(sweep)
    json.dumps(info)


def chosen_of(sweep) -> list[str]:
    return [row["trial_id"] for row in sweep.run.analysis("finalists")["rows"] if row["repeat_of"] is None]


def check_repeats(sweep) -> None:
    """Every finalist was trained again with other seeds to the full budget; all of them are scored on test."""
    records = {record.trial_id: record for record in sweep.run.records()}
    repeats = {name: record for name, record in records.items() if record.repeat_of is not None}
    assert set(repeats) == {f"{name}-seed{number}" for name in chosen_of(sweep) for number in (2, 3)}
    for name, repeat in repeats.items():
        first = records[repeat.repeat_of]
        assert name.startswith(first.trial_id) and repeat.status == "complete"
        assert repeat.history[-1].step == repeat.config.steps
        assert repeat.config.model_copy(update={"seed": first.config.seed}) == first.config
    assert len({record.config.seed for record in records.values()}) == len(records)
    finalists = sweep.run.analysis("finalists")
    assert (finalists["top"], finalists["seeds"], len(finalists["rows"])) == (2, 2, 6)
    assert {row["trial_id"] for row in finalists["rows"]} == {*chosen_of(sweep), *repeats}
    assert all(0 <= row["metrics"]["test"]["accuracy"] <= 1 and row["examples"] == 80 for row in finalists["rows"])
    assert all(set(sweep.run.outcomes(row["trial_id"])["split"]) == {"eval", "test"} for row in finalists["rows"])


@pytest.mark.slow
def test_an_interruption_among_the_new_seeds_is_resumed(make_sweep, diary, local_ray):
    search = {"algorithm": "random", "trials": 3, "seed": 0}
    sweep = make_sweep(search=search, finalists={"top": 2, "seeds": 2}, resources={"slots": 2})

    def interrupt(record):
        if any("-seed" in end.trial_id for end in diary.ends):
            raise KeyboardInterrupt

    diary.on_report = interrupt
    with pytest.raises(KeyboardInterrupt):
        finish(sweep, diary)
    before = {record.trial_id: record for record in sweep.run.records()}
    chosen = chosen_of(sweep)
    assert 3 < len(before) < 7 and len(chosen) == 2
    info = sweep.run.info()
    assert info["status"] == "interrupted" and info["repeats"]["planned"] == 4

    diary.on_report = lambda record: None
    diary.begun.clear()
    run_sweep(sweep.config, sweep.task, sweep.run, listener=diary)
    lines = (sweep.run.path / "trials.jsonl").read_text().splitlines()
    after = {record.trial_id: record for record in sweep.run.records()}
    assert len(lines) == len(after) == 7
    assert {name: after[name] for name in before} == before and not before.keys() & set(diary.begun)
    assert chosen_of(sweep) == chosen and diary.trials == 7
    assert sweep.run.info()["repeats"] == {"planned": 4, "complete": 4, "failed": 0}
    check_repeats(sweep)


def test_asha_stops_the_worse_trials(make_sweep, diary, local_ray):
    sweep = make_sweep(
        search={"algorithm": "random", "trials": 9, "seed": 1},
        scheduler={"type": "asha", "grace": 1, "reduction": 3},
        budget={"steps": 18, "eval_every": 2},
        metric={"name": "loss"},
    )
    records = finish(sweep, diary)
    stopped = [record for record in records if record.status == "stopped"]
    assert len(records) == 9 and stopped
    assert all(record.history[-1].step < 18 for record in stopped)
    assert all(record.history[-1].step == 18 for record in records if record.status == "complete")
    complete = {record.trial_id for record in records if record.status == "complete"}
    assert {row["trial_id"] for row in sweep.run.analysis("finalists")["rows"]} <= complete
    assert sweep.run.info()["trials"]["stopped"] == len(stopped)


@pytest.mark.slow
def test_tpe_runs_different_configurations(make_sweep, diary, local_ray):
    search = {"algorithm": "tpe", "trials": 3, "seed": 0, "repeats": 2}
    sweep = make_sweep(search=search, budget={"steps": 4, "eval_every": 2})
    records = finish(sweep, diary)
    assert len(records) == 6
    assert len({record.config.fingerprint() for record in records}) == 6
    assert len({record.config.model_copy(update={"seed": 0}).fingerprint() for record in records}) == 3


@pytest.mark.slow
def test_causal_lm_is_compared_with_the_untouched_base(make_sweep, diary, local_ray, llama_dir, text_files):
    data = {part: str(file) for part, file in text_files.items()}
    sweep = make_sweep(
        model={"name": str(llama_dir), "dtype": "float32"},
        task={"type": "causal-lm", "data": data, "prompt": "prompt", "response": "response", "max_length": 32},
        search={"algorithm": "random", "trials": 2, "seed": 0},
        budget={"steps": 8},
    )
    records = finish(sweep, diary)
    (base,) = sweep.run.analysis("baselines")["rows"]
    assert base["name"] == "base" and base["metrics"]["eval"]["loss"] > 0
    assert {record.status for record in records} == {"complete"}
    assert min(record.metrics["loss"] for record in records) < base["metrics"]["eval"]["loss"]


def test_trials_that_diverge_or_do_not_fit_are_failed_records_and_the_sweep_goes_on(make_sweep, diary, local_ray):
    """A hundred thousand million examples a step: the real allocation fails on any machine."""
    large = 10**11
    space = {"rank": [2, 4], "learning_rate": [1e-3, 1e30], "batch_size": [8, large], "target_modules": "all-linear"}
    sweep = make_sweep(space=space, search={"algorithm": "grid", "trials": 3}, scheduler={"type": "asha"})
    records = finish(sweep, diary)
    assert len(records) == 8 and sweep.run.info()["status"] == "complete"
    well = []
    for record in records:
        if record.config.batch_size == large:
            assert record.status == "failed" and "out of memory in a training step" in record.error
        elif record.config.learning_rate == 1e30:
            assert record.status == "failed" and "NonFiniteLossError" in record.error
        else:
            well.append(record.status)
    assert well in (["complete", "complete"], ["complete", "stopped"], ["stopped", "complete"])  # ASHA keeps the best
    assert [record.status for record in diary.ends].count("failed") == 6
    assert any("8 configurations" in note for note in diary.notes)


@pytest.mark.slow
def test_a_killed_engine_is_survived_and_changes_nothing(make_sweep, diary, local_ray):
    undisturbed = {record.trial_id: record for record in finish(make_sweep(), diary)}
    killed = []

    def kill_once(record):
        if len(diary.reports) == 12 + 5 and not killed:
            killed.extend(pids_of("ray::EngineActor"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    diary.on_report = kill_once
    records = finish(make_sweep(), diary)
    assert killed
    assert {record.trial_id for record in records} == set(undisturbed)
    for record in records:
        assert record.status == "complete"
        assert [p.metrics["loss"] for p in record.history] == pytest.approx(
            [p.metrics["loss"] for p in undisturbed[record.trial_id].history], rel=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("title", ["ray::Broker", "ray::SweepTrial"])
def test_a_killed_broker_or_trial_process_is_survived(make_sweep, diary, local_ray, title):
    killed = []

    def kill_once(record):
        if len(diary.reports) == 5 and not killed:
            killed.extend(pids_of(title)[:1])
            os.kill(killed[0], signal.SIGKILL)

    diary.on_report = kill_once
    records = finish(make_sweep(search={"algorithm": "random", "trials": 6, "seed": 0}), diary)
    assert killed
    assert len(records) == 6 and {record.status for record in records} == {"complete"}
    assert all([point.step for point in record.history] == [4, 8, 12] for record in records)


@pytest.mark.slow
def test_an_interrupted_sweep_is_resumed(make_sweep, diary, local_ray):
    sweep = make_sweep(search={"algorithm": "random", "trials": 6, "seed": 0}, scheduler={"type": "asha"})

    def interrupt(record):
        if len(diary.ends) >= 2:
            raise KeyboardInterrupt

    diary.on_report = interrupt
    with pytest.raises(KeyboardInterrupt):
        finish(sweep, diary)
    assert sweep.run.info()["status"] == "interrupted"
    before = {record.trial_id for record in sweep.run.records()}
    assert 2 <= len(before) < 6

    diary.on_report = lambda record: None
    diary.begun.clear()
    run_sweep(sweep.config, sweep.task, sweep.run, listener=diary)
    lines = (sweep.run.path / "trials.jsonl").read_text().splitlines()
    assert len(lines) == 6 and len({record.trial_id for record in sweep.run.records()}) == 6
    assert not before & set(diary.begun)
    info = sweep.run.info()
    assert info["status"] == "complete" and info["data"] == {"marker": 1}
    assert sweep.run.analysis("finalists")["rows"]


def test_a_base_that_does_not_load_ends_the_sweep_at_once(make_sweep, diary, local_ray, tmp_path):
    sweep = make_sweep()
    (tmp_path / "empty").mkdir()
    model = sweep.config.model.model_copy(update={"name": str(tmp_path / "empty")})
    sweep.config = sweep.config.model_copy(update={"model": model})
    with pytest.raises(ModelError) as caught:
        finish(sweep, diary)
    assert "RayTaskError" not in type(caught.value).__name__
    assert not list((sweep.run.path / "tune").glob("order-*"))
    assert sweep.run.info()["status"] == "failed"
    assert not sweep.run.records()


def test_more_engines_than_cores_are_refused(make_sweep, diary, local_ray):
    sweep = make_sweep(resources={"engines": 1000})
    with pytest.raises(ConfigError, match="resources.engines: must be at most the number of CPU cores"):
        finish(sweep, diary)
    assert not (sweep.run.path / "run.json").exists()


def test_a_run_that_another_driver_has_is_refused_and_left_alone(make_sweep, diary, local_ray):
    sweep = make_sweep()
    with hold(sweep.run):
        with pytest.raises(RunFolderError) as caught:
            finish(sweep, diary)
        assert not (sweep.run.path / "run.json").exists()
    assert str(caught.value) == (
        f"{sweep.run.path}: must not be run by another process. Wait for that process, or end it."
    )
    with hold(sweep.run):
        pass


def pids_of(title: str) -> list[int]:
    """Processes of actors with this title below this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _command(entry).startswith(title) and os.getpid() in _ancestors(entry):
            found.append(int(entry.name))
    return found


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text()
    except OSError:
        return ""


def _ancestors(entry: Path) -> list[int]:
    found: list[int] = []
    pid = int(entry.name)
    while pid > 1:
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
        found.append(pid)
    return found
