import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Space, SpaceError
from search_spaces.errors import SpaceError as PrivateSpaceError

CARD = {
    "rank": [4, 8, 16, 32],
    "alpha": {"times_rank": [1, 2]},
    "dropout": {"uniform": [0.0, 0.1]},
    "target_modules": {"attention-qv": ["q_proj", "v_proj"], "all-linear": "all-linear"},
    "learning_rate": {"log_uniform": ["1e-4", 3e-3]},
    "batch_size": 16,
}
BRANCHED = {
    "rank": [4, 8],
    "target_modules": {
        "attention-qv": "attention-qv",
        "all-linear": {"value": "all-linear", "with": {"rank": [16, 32], "dropout": [0.05, 0.1]}},
    },
    "optimizer": ["adamw", {"value": "sgd", "with": {"learning_rate": [0.01, {"value": 0.1, "with": {"clip": None}}]}}],
}


class Scripted:
    """Takes the option or number that stands under a name; records what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, {}

    def categorical(self, name, choices):
        self.asked[name] = list(choices)
        return list(choices).index(self.answers[name]) if name in self.answers else 0

    def uniform(self, name, low, high, log):
        self.asked[name] = (low, high, log)
        return self.answers.get(name, low)

    def integer(self, name, low, high, step, log):
        self.asked[name] = (low, high, step, log)
        return self.answers.get(name, low)


def test_defaults_of_an_empty_space():
    space = Space.parse({})
    assert space.sample(random.Random(0)) == {
        "target_modules": "all-linear",
        "target_label": "all-linear",
        "rank": 16,
        "alpha": 32.0,
        "dropout": 0.0,
        "learning_rate": 1e-3,
        "batch_size": 16,
    }
    assert space.size() == 1
    assert space.parameters() == ()


def test_suggest_asks_for_what_is_open_and_returns_plain_keys():
    chooser = Scripted(rank="8", alpha="2 x rank", target_modules="attention-qv")
    sample = Space.parse(CARD).suggest(chooser)
    assert sample == {
        "target_modules": ["q_proj", "v_proj"],
        "target_label": "attention-qv",
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.0,
        "learning_rate": 1e-4,
        "batch_size": 16,
    }
    assert chooser.asked == {
        "target_modules": ["attention-qv", "all-linear"],
        "rank": ["4", "8", "16", "32"],
        "alpha": ["1 x rank", "2 x rank"],
        "dropout": (0.0, 0.1, False),
        "learning_rate": (1e-4, 3e-3, True),
    }


def test_a_branch_takes_the_place_of_the_outer_key_under_a_qualified_name():
    space = Space.parse(BRANCHED)
    chooser = Scripted(target_modules="all-linear", **{"target_modules=all-linear/rank": "32"})
    sample = space.suggest(chooser)
    assert (sample["rank"], sample["alpha"], sample["dropout"]) == (32, 64.0, 0.05)
    assert "rank" not in chooser.asked
    outer = space.suggest(Scripted(target_modules="attention-qv", rank="8"))
    assert (outer["rank"], outer["dropout"]) == (8, 0.0)


def test_nested_branches():
    space = Space.parse(BRANCHED)
    sample = space.suggest(Scripted(optimizer="sgd", learning_rate="0.1"))
    assert (sample["optimizer"], sample["learning_rate"], sample["clip"]) == ("sgd", 0.1, None)
    plain = space.suggest(Scripted(optimizer="adamw"))
    assert plain["learning_rate"] == 1e-3
    assert "clip" not in plain


def test_a_choice_is_decided_before_what_it_sets():
    space = Space.parse({"rank": [4, 8], "seed": [0, {"value": 1, "with": {"rank": 64}}]})
    assert sorted((sample["seed"], sample["rank"]) for sample in space.grid()) == [(0, 4), (0, 8), (1, 64)]


def test_alpha_is_a_factor_of_the_rank_that_its_own_branch_sets():
    raw = {"rank": 4, "alpha": {"times_rank": [1, {"value": 2, "with": {"rank": [8, 16]}}]}}
    grid = [(sample["rank"], sample["alpha"]) for sample in Space.parse(raw).grid()]
    assert grid == [(4, 4.0), (8, 16.0), (16, 32.0)]


def test_an_inner_branch_overrides_an_outer_one():
    inner = {"seed": [0, {"value": 1, "with": {"dropout": 0.2}}], "dropout": 0.1}
    raw = {"rank": [4, {"value": 8, "with": inner}]}
    grid = [(sample["rank"], sample.get("seed"), sample["dropout"]) for sample in Space.parse(raw).grid()]
    assert grid == [(4, None, 0.0), (8, 0, 0.1), (8, 1, 0.2)]


def test_grid_is_distinct_and_as_large_as_size_says():
    space = Space.parse(BRANCHED)
    grid = space.grid()
    assert len({repr(sample) for sample in grid}) == len(grid) == space.size() == (2 + 4) * 3


def test_whole_number_ranges():
    space = Space.parse(
        {"rank": {"integer": [4, 17], "step": 4}, "seed": {"log_integer": [1, 3]}, "clip": {"integer": [1, 2]}}
    )
    assert [sample["rank"] for sample in space.grid()][::6] == [4, 8, 12, 16]
    assert space.size() == 4 * 3 * 2
    assert {type(sample["clip"]) for sample in space.grid()} == {float}
    assert space.to_dict()["rank"] == {"integer": [4, 16], "step": 4}


def test_a_range_of_one_number_is_fixed():
    assert Space.parse({"dropout": {"uniform": [0.1, 0.1]}}).parameters() == ()


@pytest.mark.parametrize(
    "raw", [{}, CARD, BRANCHED, {"alpha": 8, "clip": [None, 1], "target_modules": {"mine": ["a"]}}]
)
def test_round_trip(raw):
    space = Space.parse(raw)
    again = Space.parse(space.to_dict())
    assert again == space
    assert again.to_dict() == space.to_dict()
    assert pickle.loads(pickle.dumps(space)) == space


def test_round_trip_of_a_single_target_set_with_a_branch():
    space = Space.parse({"target_modules": {"mlp": {"value": "mlp", "with": {"rank": [2, 4]}}}})
    assert Space.parse(space.to_dict()) == space


def test_parameters_say_what_is_asked():
    infos = {info.name: info for info in Space.parse(BRANCHED).parameters()}
    assert list(infos) == [
        "target_modules",
        "rank",
        "target_modules=all-linear/rank",
        "dropout",
        "learning_rate",
        "optimizer",
    ]
    assert infos["target_modules=all-linear/rank"].conditions == ("target_modules=all-linear",)
    assert infos["target_modules=all-linear/rank"].options == ("16", "32")
    assert infos["rank"].conditions == ()
    assert infos["dropout"].conditions == ("target_modules=all-linear",)
    card = {info.name: info for info in Space.parse(CARD).parameters()}
    assert (card["learning_rate"].kind, card["learning_rate"].low, card["learning_rate"].high) == (
        "log_uniform",
        1e-4,
        3e-3,
    )
    assert (card["alpha"].kind, card["alpha"].times_rank) == ("categorical", True)


def test_parameters_leave_out_what_is_always_replaced():
    raw = {"rank": [4, 8], "target_modules": {"mlp": {"value": "mlp", "with": {"rank": [16, 32]}}}}
    space = Space.parse(raw)
    assert [info.conditions for info in space.parameters()] == [("target_modules=mlp",)]
    assert space.possible("rank") == [16, 32]


def test_possible():
    space = Space.parse(CARD)
    assert space.possible("rank") == [4, 8, 16, 32]
    assert space.possible("alpha") == [4.0, 8.0, 16.0, 32.0, 64.0]
    assert space.possible("target_modules") == [["q_proj", "v_proj"], "all-linear"]
    assert space.possible("learning_rate") == [1e-4, 3e-3]
    assert space.possible("weight_decay") == []
    assert Space.parse(BRANCHED).possible("rank") == [4, 8, 16, 32]
    with pytest.raises(SpaceError, match=r"^space\.rnk: is not a key of a space\. Did you mean 'rank'\?"):
        space.possible("rnk")


def test_grid_refuses_what_is_continuous():
    with pytest.raises(SpaceError) as error:
        Space.parse({"learning_rate": {"log_uniform": [1e-4, 1e-2]}}).grid()
    assert str(error.value) == (
        "space.learning_rate: must not be a continuous range for a grid, got {'log_uniform': [0.0001, 0.01]}. "
        "List what to try, e.g. [0.0001, 0.001, 0.01], or search with algorithm: random or tpe."
    )
    assert Space.parse({"learning_rate": {"log_uniform": [1e-4, 1e-2]}}).size() is None


def test_grid_refuses_what_is_too_large():
    with pytest.raises(SpaceError, match=r"^space: must have at most 100000 configurations for a grid, got 1000000\."):
        Space.parse({"rank": {"integer": [1, 1000]}, "seed": {"integer": [1, 1000]}}).grid()


def test_a_continuous_range_in_a_branch_is_named_with_its_path():
    raw = {"rank": [4, {"value": 8, "with": {"dropout": {"uniform": [0, 0.1]}}}]}
    with pytest.raises(SpaceError) as error:
        Space.parse(raw).grid()
    assert error.value.place == "space.rank=8/dropout"


numbers = st.floats(1e-6, 0.9, allow_nan=False)


@st.composite
def spaces(draw):
    def bounds(values):
        return sorted(draw(st.tuples(values, values)))

    raw = {
        "rank": draw(st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True)),
        "dropout": {"uniform": bounds(numbers)},
        "learning_rate": {"log_uniform": bounds(numbers)},
        "batch_size": {draw(st.sampled_from(["integer", "log_integer"])): bounds(st.integers(1, 64))},
    }
    if draw(st.booleans()):
        raw["rank"][0] = {
            "value": raw["rank"][0],
            "with": {"batch_size": {"integer": [2, 9], "step": draw(st.integers(1, 5))}},
        }
    return raw


@settings(max_examples=60, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_samples_stay_within_the_space(raw, seed):
    space = Space.parse(raw)
    sample = space.sample(random.Random(seed))
    assert sample == Space.parse(space.to_dict()).sample(random.Random(seed))
    assert sample["rank"] in space.possible("rank")
    for key in ("dropout", "learning_rate", "batch_size"):
        possible = space.possible(key)
        assert min(possible) <= sample[key] <= max(possible)
    assert isinstance(sample["batch_size"], int)
    assert sample["alpha"] == 2 * sample["rank"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=1, unique=True),
    st.integers(0, 99),
)
def test_samples_stand_in_the_grid(ranks, dropouts, seed):
    space = Space.parse({"rank": ranks, "dropout": dropouts, "alpha": {"times_rank": [1, 2]}})
    grid = space.grid()
    assert len(grid) == space.size() == 2 * len(ranks) * len(dropouts)
    assert space.sample(random.Random(seed)) in grid


def test_log_integer_reaches_both_ends():
    space = Space.parse({"rank": {"log_integer": [1, 8]}})
    rng = random.Random(0)
    drawn = [space.sample(rng)["rank"] for _ in range(400)]
    assert set(drawn) == set(range(1, 9))
    assert drawn.count(1) > drawn.count(8)


def test_errors_are_values_that_travel():
    error = SpaceError("space.rank", "must be a number", 3, "Do.")
    assert SpaceError is PrivateSpaceError
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "space.rank: must be a number, got 3. Do."


PATTERNS = {
    "rank": 4,
    "rank_pattern": {
        "same": {},
        "own": {"value": {"a.b": 1, "c.d": 7}, "with": {"rank": 2, "alpha_pattern": {"a.b": 2, "c.d": 14}}},
    },
}


def test_patterns_give_single_layers_their_numbers():
    space = Space.parse(PATTERNS)
    assert Space.parse(space.to_dict()) == space
    same, own = space.grid()
    assert (same["rank"], same["rank_pattern"], "alpha_pattern" in same) == (4, {}, False)
    assert (own["rank"], own["rank_pattern"]) == (2, {"a.b": 1, "c.d": 7})
    assert own["alpha_pattern"] == {"a.b": 2.0, "c.d": 14.0}
    assert space.possible("rank_pattern") == [{}, {"a.b": 1, "c.d": 7}]
    (parameter,) = space.parameters()
    assert (parameter.name, parameter.options) == ("rank_pattern", ("same", "own"))
    fixed = Space.parse({"rank_pattern": {"a.b": 3}})
    assert fixed.to_dict()["rank_pattern"] == {"a.b": 3} and fixed.size() == Space.parse({}).size()
