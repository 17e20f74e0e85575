import copy
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lora_sweep.config import SweepConfig
from lora_sweep.errors import ConfigError
from lora_sweep.records import TrialConfig
from lora_sweep.sweep_file import parse_sweep
from lora_sweep.task_config import DataConfig, TaskConfig
from search_spaces import load

SWEEP = yaml.safe_load((Path(__file__).parent / "plain_sweep.yaml").read_text())
SPACES = "all-linear, attention, attention-mlp, attention-qv, quick, rank-grid"


def changed(changes):
    """SWEEP with `a.b` keys set; None removes."""
    raw = copy.deepcopy(SWEEP)
    for path, value in changes.items():
        *outer, last = path.split(".")
        inner = raw
        for key in outer:
            inner = inner.setdefault(key, {})
        if value is None:
            inner.pop(last)
        else:
            inner[last] = value
    return raw


def parse(sweep_folder, changes=None):
    return parse_sweep(changed(changes or {}), "sweep.yaml", sweep_folder)


# What is filled in ---------------------------------------------------------------------------------------------


def test_defaults_and_resolved_paths(sweep_folder):
    config = parse(sweep_folder)
    assert config.model.name == str(sweep_folder / "base")
    assert config.task.data.train == str(sweep_folder / "train.csv")
    assert (config.metric.name, config.metric.mode, config.metric.keep) == ("accuracy", "max", "best")
    assert (config.search.algorithm, config.search.trials, config.search.seed) == ("random", 16, 0)
    assert (config.scheduler.type, config.scheduler.grace, config.scheduler.reduction) == ("asha", 1, 3)
    assert (config.budget.steps, config.budget.eval_every) == (200, 50)
    assert (config.resources.engines, config.resources.tokens_per_pass) == ("auto", 16384)
    assert (config.finalists.top, config.finalists.seeds, config.search.repeats) == (3, 3, 1)
    assert config.resolved_space() == load("quick", sweep_folder)


def test_metric_by_task(sweep_folder):
    causal = {"task.type": "causal-lm", "task.label": None}
    config = parse(sweep_folder, causal)
    assert (config.metric.name, config.metric.mode) == ("loss", "min")
    assert parse(sweep_folder, causal | {"metric.name": "perplexity"}).metric.mode == "min"
    kept = parse(sweep_folder, {"metric": {"keep": "last"}})
    assert (kept.metric.name, kept.metric.keep) == ("accuracy", "last")


@pytest.mark.parametrize(
    "columns", [{"text": "t"}, {"prompt": "p", "response": "r"}, {"messages": "m"}], ids=["text", "prompt", "messages"]
)
def test_columns_of_causal_lm(sweep_folder, columns):
    task = {"type": "causal-lm", "data": {"train": "train.csv"}, **columns}
    assert parse(sweep_folder, {"task": task}).task.label is None


def test_a_hub_model_and_hub_data_are_left_alone(sweep_folder):
    config = parse(
        sweep_folder, {"model.name": "org/model", "task.data": {"hub": "org/data", "subset": "a", "train": "train"}}
    )
    assert config.model.name == "org/model"
    assert config.task.data.train == "train"


def test_parts_can_be_made_without_a_file():
    task = TaskConfig(type="classification", data=DataConfig(train="x.csv"), text="t", label="l")
    assert task.data.train == "x.csv"


@pytest.mark.parametrize(
    ("budget", "eval_every"),
    [
        ({"steps": 10}, 3),
        ({"steps": 1}, 1),
        ({"epochs": 2}, 0.5),
        ({"steps": "1e3"}, 250),
        ({"epochs": 1, "eval_every": 1}, 1),
    ],
)
def test_eval_every_is_a_fourth_of_the_budget(sweep_folder, budget, eval_every):
    assert parse(sweep_folder, {"budget": budget}).budget.eval_every == eval_every


def test_numbers_written_as_text(sweep_folder):
    config = parse(sweep_folder, {"training": {"weight_decay": "1e-2", "clip": "5"}, "resources.slots": "4"})
    assert (config.training.weight_decay, config.training.clip, config.resources.slots) == (0.01, 5.0, 4)


@pytest.mark.parametrize("name", SPACES.split(", "))
def test_every_preset_makes_trials(sweep_folder, name):
    config = parse(sweep_folder, {"space": name})
    trial = config.trial_config(config.resolved_space().sample(random.Random(0)), 100)
    assert trial.target_label and trial.steps == 200


def test_a_space_that_sets_the_seed_takes_the_place_of_new_ones(sweep_folder):
    config = parse(sweep_folder, {"space": {"seed": 7}, "finalists.top": 2})
    assert (config.finalists.top, config.finalists.seeds) == (2, 0)
    assert parse_sweep(config.model_dump(), "sweep.yaml", sweep_folder) == config
    assert parse(sweep_folder, {"space": {"seed": 7}, "finalists.seeds": 0}).finalists.seeds == 0


# Errors --------------------------------------------------------------------------------------------------------

MESSAGES = [
    ({"modle": {}}, "modle: is not a known key. Did you mean 'model'? Known keys: name, model, task, metric, space, "),
    (
        {"budget.step": 3},
        "budget.step: is not a known key. Did you mean 'steps'? Known keys: steps, epochs, eval_every.",
    ),
    ({"task.data.trian": "x"}, "task.data.trian: is not a known key. Did you mean 'train'? Known keys: hub, subset, "),
    ({"model": None}, "model: is required"),
    ({"model": "base"}, "model: must be a mapping of keys, got 'base'"),
    ({"model.dtype": "fp16"}, "model.dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', got 'fp16'"),
    ({"model.trust_remote_code": "yes"}, "model.trust_remote_code: must be true or false, got 'yes'"),
    ({"model.name": ""}, "model.name: must not be empty, got ''"),
    ({"name": "../up"}, "name: must be letters, digits, spaces, dots, - and _ only, got '../up'"),
    ({"task.text": 3}, "task.text: must be text, got 3"),
    ({"task.type": ["x"]}, "task.type: must be 'classification' or 'causal-lm', got ['x']"),
    (
        {"task.label": None},
        "task: classification needs the columns text and label, got text. Give each the name of a column of the data.",
    ),
    (
        {"task.type": "causal-lm", "task.label": None, "task.prompt": "p"},
        "task: causal-lm needs exactly one of text, prompt + response, messages, got text + prompt. ",
    ),
    ({"task.max_length": True}, "task.max_length: must be a number, got True"),
    ({"task.max_length": 1.5}, "task.max_length: must be a whole number, got 1.5"),
    (
        {"task.data.subset": "a"},
        "task.data.subset: belongs to data from the hub, got 'a'. Give `hub:` too.",
    ),
    ({"metric.name": "f1"}, "metric.name: must be one of accuracy, macro_f1, loss for classification, got 'f1'"),
    (
        {"metric": {"name": "accuracy", "mode": "min"}},
        "metric.mode: must be max for accuracy, got 'min'. Leave it out.",
    ),
    ({"metric": "accuracy"}, "metric: must be a mapping of keys, got 'accuracy'"),
    ({"space": None}, "space: is required"),
    (
        {"space": "atention"},
        "space: must be a preset, a YAML file, or the space itself, got 'atention'. "
        f"Did you mean 'attention'? Presets: {SPACES}.",
    ),
    (
        {"space": {"rank": {"integer": [64, 8]}}},
        "space.rank: low must be <= high, got low=64, high=8. Write {integer: [8, 64]}.",
    ),
    ({"space": {"clip": 0}}, "space.clip: must be a number above 0 or null, got 0"),
    (
        {"search.algorithm": "grid"},
        "space.learning_rate: must not be a continuous range for a grid, got {'log_uniform': ",
    ),
    ({"search.seed": -1}, "search.seed: must be at least 0, got -1"),
    ({"search.trials": "many"}, "search.trials: must be a number, got 'many'"),
    ({"scheduler.type": "hyperband"}, "scheduler.type: must be 'asha' or 'fifo', got 'hyperband'"),
    ({"scheduler.reduction": 1}, "scheduler.reduction: must be at least 2, got 1"),
    ({"budget": {}}, "budget: must give exactly one of steps and epochs, got neither. Set the other to null."),
    ({"budget.epochs": 1}, "budget: must give exactly one of steps and epochs, got steps=200, epochs=1. "),
    ({"budget.eval_every": 300}, "budget.eval_every: must be at most the budget (200), got 300"),
    ({"budget.eval_every": 2.5}, "budget.eval_every: must be whole when the budget is in steps, got 2.5"),
    ({"budget.steps": 0}, "budget.steps: must be at least 1, got 0"),
    ({"budget": {"epochs": -1}}, "budget.epochs: must be above 0, got -1"),
    ({"training.warmup": 1}, "training.warmup: must be below 1, got 1"),
    ({"training.clip": float("inf")}, "training.clip: must be a number, got inf"),
    ({"resources.engines": 0}, "resources.engines: must be auto or a whole number of at least 1, got 0"),
    ({"finalists.top": 0}, "finalists.top: must be at least 1, got 0"),
    ({"finalists.seeds": -1}, "finalists.seeds: must be at least 0, got -1"),
    ({"search.repeats": 0}, "search.repeats: must be at least 1, got 0"),
    (
        {"space": {"seed": 7}, "finalists.seeds": 2},
        "finalists.seeds: needs other seeds than the space gives, got 2. Take `seed` out of the space: seeds then "
        "follow from search.seed.",
    ),
    (
        {"space": {"target_modules": {"a": {"value": "q", "with": {"seed": [1, 2]}}, "b": "v"}}, "search.repeats": 2},
        "search.repeats: needs other seeds than the space gives, got 2. Take `seed` out of the space: ",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MESSAGES, ids=[message[:50] for _, message in MESSAGES])
def test_message(sweep_folder, changes, message):
    with pytest.raises(ConfigError) as error:
        parse(sweep_folder, changes)
    assert str(error.value).startswith(f"sweep.yaml: {message}")
    assert message.endswith((" ", "'")) or str(error.value) == f"sweep.yaml: {message}"


def test_missing_files_are_named(sweep_folder):
    with pytest.raises(ConfigError) as error:
        parse(sweep_folder, {"task.data.eval": "../gone.csv"})
    assert str(error.value) == (
        f"sweep.yaml: task.data.eval: file must exist, got '{sweep_folder.parent}/gone.csv'. "
        "Paths are relative to the sweep's own file; with `hub:` these are names of splits."
    )
    for name in ("./gone", "/gone", "gone.gguf"):
        with pytest.raises(ConfigError, match=r"^sweep\.yaml: model\.name: file or folder must exist, got '/"):
            parse(sweep_folder, {"model.name": name})


# Candidates ----------------------------------------------------------------------------------------------------

SAMPLE = {
    "rank": 8,
    "alpha": 16.0,
    "dropout": 0.1,
    "target_modules": ["q"],
    "target_label": "mine",
    "learning_rate": 1e-3,
}


def test_a_sample_goes_over_the_training_defaults(sweep_folder):
    config = parse(sweep_folder, {"training": {"weight_decay": 0.1, "clip": 2, "accumulate": 2, "base_dropout": True}})
    trial = config.trial_config({**SAMPLE, "clip": None, "seed": 7, "batch_size": 4}, 100)
    expected = TrialConfig(
        **{**SAMPLE, "clip": None, "seed": 7, "batch_size": 4, "weight_decay": 0.1, "accumulate": 2},
        steps=200,
        eval_every=50,
    )
    assert trial == expected
    assert trial.target_modules == ("q",)


@pytest.mark.parametrize(
    ("budget", "examples", "steps"),
    [
        ({"epochs": 1}, 100, (13, 4)),
        ({"epochs": 1.1, "eval_every": 1.1}, 80, (11, 11)),
        ({"epochs": 0.01}, 100, (1, 1)),
        ({"steps": 7, "eval_every": 2}, 100, (7, 2)),
    ],
)
def test_epochs_become_steps(sweep_folder, budget, examples, steps):
    config = parse(sweep_folder, {"budget": budget, "training.accumulate": 2})
    trial = config.trial_config({**SAMPLE, "batch_size": 4}, examples)
    assert (trial.steps, trial.eval_every) == steps


def test_the_seed_follows_from_the_search_and_the_candidate(sweep_folder):
    config = parse(sweep_folder)
    seed = config.trial_config(SAMPLE, 100).seed
    assert seed == 1050034108  # the same on every machine
    assert config.trial_config({**SAMPLE, "bias": "none"}, 100).seed == seed
    assert config.trial_config({**SAMPLE, "bias": "lora_only"}, 100).seed != seed
    assert seed == parse(sweep_folder, {"budget.steps": 400}).trial_config({**SAMPLE, "target_label": "else"}, 50).seed
    assert seed != config.trial_config({**SAMPLE, "rank": 4}, 100).seed
    assert seed != parse(sweep_folder, {"search.seed": 1}).trial_config(SAMPLE, 100).seed


def test_other_seeds_follow_from_the_candidate_whichever_seed_it_has(sweep_folder):
    config = parse(sweep_folder)
    first = config.trial_config(SAMPLE, 100)
    third = config.with_seed(first, 3)
    assert config.with_seed(first, 1) == config.with_seed(third, 1) == first
    assert config.with_seed(config.with_seed(first, 2), 3) == third
    assert third.model_copy(update={"seed": first.seed}) == first
    assert len({config.with_seed(first, number).seed for number in range(1, 6)}) == 5


def test_a_clash_is_a_config_error(sweep_folder):
    with pytest.raises(ConfigError, match=r"^space\.dropout: must be below 1, got 1\.5$"):
        parse(sweep_folder).trial_config({**SAMPLE, "dropout": 1.5}, 100)
    with pytest.raises(ConfigError, match=r"^space\.rnak: is not a known key\. Did you mean 'rank'\?"):
        parse(sweep_folder).trial_config({**SAMPLE, "rnak": 4}, 100)


def test_a_sweep_can_be_made_from_its_parts(sweep_folder):
    config = parse(sweep_folder)
    assert SweepConfig.model_validate(config.model_dump()) == config
    assert SweepConfig(**dict(config)) == config


def test_loads_without_torch():
    code = "import sys, lora_sweep.config; assert not {'torch', 'ray', 'optuna', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
