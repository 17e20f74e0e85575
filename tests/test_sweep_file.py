from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lora_sweep.errors import ConfigError
from lora_sweep.sweep_file import load_resolved, load_sweep, parse_sweep
from search_spaces import Space

SWEEP = yaml.safe_load((Path(__file__).parent / "plain_sweep.yaml").read_text())


def write(sweep_folder, raw=SWEEP):
    path = sweep_folder / "sweep.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    return path


def test_yaml_round_trip(sweep_folder, tmp_path_factory):
    raw = SWEEP | {"name": "first", "training": {"clip": 2}, "space": {"rank": [4, 8], "clip": [None, 1]}}
    config = load_sweep(write(sweep_folder, raw))
    elsewhere = tmp_path_factory.mktemp("run")
    assert load_sweep(write(elsewhere, config.to_yaml())) == config
    assert parse_sweep(yaml.safe_load(config.to_yaml()), "sweep.yaml", elsewhere) == config


def test_a_space_in_a_file_of_its_own(sweep_folder):
    (sweep_folder / "mine.yaml").write_text("rank: [2, 4]")
    assert load_sweep(write(sweep_folder, SWEEP | {"space": "mine.yaml"})).resolved_space() == Space.parse(
        {"rank": [2, 4]}
    )


def test_overrides(sweep_folder):
    path = write(sweep_folder)
    config = load_sweep(
        path,
        [
            "search.trials=3",
            "budget={epochs: 1}",
            "training.weight_decay=1e-3",
            "space.rank=[2, 4]",
            "metric.name=loss",
        ],
    )
    assert (config.search.trials, config.budget.epochs, config.training.weight_decay) == (3, 1, 1e-3)
    assert config.resolved_space().possible("rank") == [2, 4]
    assert config.resolved_space().possible("target_modules") == ["attention-qv", "all-linear"]
    assert config.metric.mode == "min"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "budget.stesp=3",
            "--set budget.stesp=3: is not a known key. Did you mean 'steps'? Known keys: steps, epochs, eval_every.",
        ),
        (
            "serach.trials=3",
            "--set serach.trials=3: serach: is not a known key. Did you mean 'search'? Known keys: name, model, task, "
            "metric, space, search, scheduler, budget, training, resources, finalists.",
        ),
        ("search.trials=0", "--set search.trials=0: must be at least 1, got 0"),
        ("search.trials", "--set search.trials: must be KEY=VALUE. For instance --set search.trials=32."),
        ("space.rank=0", "--set space.rank=0: must be a whole number of at least 1, got 0"),
        ("space={rank: 0}", "--set space={rank: 0}: space.rank: must be a whole number of at least 1, got 0"),
        ("search=3", "--set search=3: must be a mapping of keys, got 3"),
        (
            "model.name.x=3",
            "sweep.yaml: model.name: must be a mapping to set a key in it, got 'base'. Set model.name as a whole.",
        ),
        (
            "space.rank=[1",
            "--set space.rank=[1: line 1, column 3: must be valid YAML (expected ',' or ']', but got '<stream end>')",
        ),
    ],
)
def test_a_wrong_override_is_named(sweep_folder, override, message):
    with pytest.raises(ConfigError) as error:
        load_sweep(write(sweep_folder), [override])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [", "sweep.yaml: line 1, column 9: must be valid YAML"),
        ("model: {}\nmodel: {}", "sweep.yaml: line 2, column 1: must be valid YAML (the key 'model' stands twice)"),
        ("", "sweep.yaml: must be a mapping with model, task, space and budget, got null"),
        ("- 3", "sweep.yaml: must be a mapping with model, task, space and budget, got [3]"),
        ("3: 4", "sweep.yaml: 3: is not a known key. Known keys: name, model, "),
    ],
)
def test_files_that_are_no_sweep(sweep_folder, content, message):
    with pytest.raises(ConfigError) as error:
        load_sweep(write(sweep_folder, content))
    assert str(error.value).startswith(message)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: must be a readable file \(No such file or directory\)$"):
        load_sweep(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: must be text in UTF-8$"):
        load_sweep(tmp_path / "binary.yaml")


def test_a_run_that_is_older_than_a_key_is_read_as_it_was_made(sweep_folder):
    config = load_sweep(write(sweep_folder))
    assert config.task.data.holdout == 0.05
    assert load_resolved(write(sweep_folder, config.to_yaml())) == config
    old = yaml.safe_load(config.to_yaml())
    del old["task"]["data"]["holdout"], old["finalists"]["seeds"], old["search"]["repeats"]
    read = load_resolved(write(sweep_folder, old))
    assert (read.task.data.holdout, read.finalists.seeds, read.search.repeats) == (0, 0, 1)
    assert load_sweep(write(sweep_folder, old)).finalists.seeds == 3
