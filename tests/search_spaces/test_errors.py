"""Every rule of the language, with the message that a user reads."""

import pytest

from search_spaces import Space, SpaceError
from search_spaces.texts import read_number, read_yaml

KNOWN = (
    "Known keys: target_modules, rank, alpha, dropout, bias, learning_rate, batch_size, accumulate, optimizer, "
    "weight_decay, schedule, warmup, clip, seed, rank_pattern, alpha_pattern."
)
SETS = "Write {attention-qv: [q_proj, v_proj], all-linear: all-linear}: each set under a name of its own."
MESSAGES = [
    ({"rnak": 4}, f"space.rnak: is not a key of a space. Did you mean 'rank'? {KNOWN}"),
    ({"rank_pattern": 4}, "space.rank_pattern: must be ranks by full layer name, or labelled sets of them, got 4"),
    ({"rank_pattern": {"a.b": 0}}, "space.rank_pattern.a.b: must be a whole number of at least 1, got 0"),
    ({"alpha_pattern": {"x": {"a.b": 0}}}, "space.alpha_pattern.x.a.b: must be a number above 0, got 0"),
    ({"rank_pattern": {"x": {}, "y": {}}}, "space.rank_pattern: must not list a choice twice, got x and y"),
    ({"rank": "eight"}, "space.rank: must be a whole number of at least 1, got 'eight'"),
    ({"rank": True}, "space.rank: must be a whole number of at least 1, got True"),
    ({"rank": None}, "space.rank: must be a whole number of at least 1, got null"),
    ({"rank": [4, 0]}, "space.rank[1]: must be a whole number of at least 1, got 0"),
    ({"rank": [4.5]}, "space.rank[0]: must be a whole number of at least 1, got 4.5"),
    ({"rank": []}, "space.rank: must list at least one choice, got []"),
    ({"rank": [4, 8, 4.0]}, "space.rank: must not list a choice twice, got 4"),
    ({"rank": {"integer": [64, 8]}}, "space.rank: low must be <= high, got low=64, high=8. Write {integer: [8, 64]}."),
    (
        {"rank": {"uniform": [4, 8]}},
        "space.rank: uniform gives fractions where whole numbers belong, got {'uniform': [4, 8]}. Use integer.",
    ),
    ({"rank": {"integer": [4.5, 8]}}, "space.rank: integer must have whole numbers as bounds, got 4.5"),
    ({"rank": {"integer": [4, 8], "step": 0}}, "space.rank.step: must be a whole number of at least 1, got 0"),
    (
        {"rank": {"log_integer": [4, 8], "step": 2}},
        "space.rank: step belongs to integer ranges only, got {'log_integer': [4, 8], 'step': 2}",
    ),
    (
        {"rank": {"loguniform": [4, 8]}},
        "space.rank: loguniform is not a kind of range. Did you mean 'log_uniform'? "
        "Ranges: uniform, log_uniform, integer, log_integer.",
    ),
    ({"rank": {"integer": 4}}, "space.rank: integer must be [low, high], got 4"),
    (
        {"rank": {}},
        "space.rank: must be a value, a list of choices or one range, got {}. "
        "Write one value, a list of choices, {uniform: [low, high]}, {log_uniform: ...} or {integer: ...}.",
    ),
    (
        {"learning_rate": {"log_uniform": [0, 1]}},
        "space.learning_rate: low must be above 0 for log_uniform, got low=0, high=1. Use uniform.",
    ),
    ({"learning_rate": {"uniform": [0, 1]}}, "space.learning_rate: must be a number above 0, got 0"),
    (
        {"learning_rate": {"uniform": ["a", 1]}},
        "space.learning_rate: uniform must have finite numbers as bounds, got 'a'",
    ),
    ({"learning_rate": float("nan")}, "space.learning_rate: must be a number above 0, got nan"),
    ({"bias": "all"}, "space.bias: must be none or lora_only: other layers' biases stay frozen, got 'all'"),
    ({"dropout": 1}, "space.dropout: must be a number of at least 0 and below 1, got 1"),
    ({"dropout": {"uniform": [0, 1]}}, "space.dropout: must be a number of at least 0 and below 1, got 1"),
    ({"clip": 0}, "space.clip: must be a number above 0 or null, got 0"),
    ({"optimizer": "adam"}, "space.optimizer: must be adamw or sgd, got 'adam'"),
    ({"schedule": ["step"]}, "space.schedule[0]: must be linear, cosine or constant, got 'step'"),
    (
        {"optimizer": {"uniform": [0, 1]}},
        "space.optimizer: must be adamw or sgd, got {'uniform': [0, 1]}. Several are a list of choices.",
    ),
    ({"rank": {"times_rank": 2}}, "space.rank: only alpha may be given as times_rank, got {'times_rank': 2}"),
    (
        {"alpha": {"times_rank": 2, "step": 1}},
        "space.alpha: must hold times_rank alone, got {'times_rank': 2, 'step': 1}",
    ),
    ({"alpha": {"times_rank": [1, 0]}}, "space.alpha.times_rank[1]: must be a number above 0, got 0"),
    (
        {"target_modules": ["q_proj", "v_proj"]},
        "space.target_modules: a bare list is ambiguous: one set of modules, or several sets to choose from, "
        "got ['q_proj', 'v_proj']. One set: {NAME: [q_proj, v_proj]}. Several sets: {q_proj: q_proj, v_proj: v_proj}.",
    ),
    ({"target_modules": {}}, f"space.target_modules: must name at least one set of modules, got {{}}. {SETS}"),
    (
        {"target_modules": {"uniform": ["a", "b"]}},
        f"space.target_modules: each set of modules needs a name of its own, got 'uniform'. {SETS}",
    ),
    (
        {"target_modules": {"mine": []}},
        "space.target_modules.mine: must be a group, a module name or a list of module names, got []",
    ),
    (
        {"target_modules": 3},
        "space.target_modules: must be a group, a module name or a list of module names, got 3",
    ),
    ({"target_modules": {"a": ["q", "q"]}}, "space.target_modules.a: must not name a module twice, got ['q', 'q']"),
    ({"target_modules": {"a": "mlp", "b": "mlp"}}, "space.target_modules: must not list a choice twice, got a and b"),
    (
        {"target_modules": {"a": {"value": "mlp", "with": {"rank": [0]}}}},
        "space.target_modules.a.with.rank[0]: must be a whole number of at least 1, got 0",
    ),
    (
        {"rank": [{"value": 4, "wiht": {}}]},
        "space.rank[0]: must be a value, or {value: ..., with: {key: ...}}, got {'value': 4, 'wiht': {}}. "
        "Keys that hold for this choice only stand under `with`.",
    ),
    (
        {"rank": [{"value": 4, "with": 3}]},
        "space.rank[0].with: must be a mapping of keys to values, lists or ranges, got 3",
    ),
    (
        {"rank": [4, {"value": 8, "with": {"rank": 9}}]},
        "space.rank=8: rank is decided already, further out. Leave it out there.",
    ),
    (
        {"rank": [4, {"value": 8, "with": {"seed": 9}}], "seed": [1, {"value": 2, "with": {"rank": 9}}]},
        "space: rank and seed set each other under `with`. Let one of them decide the other.",
    ),
    (
        {"rank": [4, {"value": 8, "with": {"seed": 9}}], "dropout": [0, {"value": 0.1, "with": {"seed": 8}}]},
        "space.dropout=0.1: seed stands under `with` of rank=8 too, and both can hold at once. "
        "Keep one of them, or put one choice under the other's `with`.",
    ),
]


@pytest.mark.parametrize(("raw", "message"), MESSAGES, ids=[message[:60] for _, message in MESSAGES])
def test_message(raw, message):
    with pytest.raises(SpaceError) as error:
        Space.parse(raw)
    assert str(error.value) == message


def test_a_space_must_be_a_mapping():
    with pytest.raises(SpaceError, match=r"^mine: must be a mapping of keys to values, lists or ranges, got \[4\]$"):
        Space.parse([4], "mine")


@pytest.mark.parametrize(
    ("raw", "value"),
    [("1e-4", 1e-4), (" 16 ", 16), ("-2.5E+3", -2500.0), (".5", 0.5), ("5.", 5.0), (7, 7), ("1" * 30, float("1" * 30))],
)
def test_numbers_written_as_text(raw, value):
    assert read_number(raw) == value


@pytest.mark.parametrize(
    "raw", ["nan", "inf", "1_000", "0x10", "", "1e999", "9" * 5000, 10**400, True, None, [1], float("inf")]
)
def test_what_is_no_number(raw):
    assert read_number(raw) is None


def test_yaml_errors_name_line_and_column():
    with pytest.raises(SpaceError) as error:
        read_yaml("rank: [4\nalpha: 3", "mine.yaml")
    assert error.value.place == "mine.yaml: line 2, column 6"
    with pytest.raises(SpaceError) as error:
        read_yaml("rank: 4\nalpha: 3\nrank: 8", "mine.yaml")
    assert str(error.value) == "mine.yaml: line 3, column 1: must be valid YAML (the key 'rank' stands twice)"
    with pytest.raises(SpaceError, match="must be valid YAML"):
        read_yaml("a: \x00", "mine.yaml")
    with pytest.raises(SpaceError, match="a key must be plain text"):
        read_yaml("[a]: 3", "mine.yaml")
