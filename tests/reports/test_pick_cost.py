"""What "cheapest" means."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_sweep.errors import ConfigError
from reports import CostRule, pick
from reports.pick_cost import COSTS

COLUMNS = {name: cost.column for name, cost in COSTS.items()}
SIZES = st.sampled_from([math.nan, 1.0, 2.0, 3.0, 5.0, 8.0])


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(COSTS)), st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=2),
    st.lists(st.lists(SIZES, min_size=5, max_size=5), min_size=1, max_size=8),
)
def test_weighted_costs_equal_the_naive_sum(weights, rows) -> None:
    frame = pd.DataFrame(rows, columns=[COLUMNS[name] for name in COSTS])
    rule = CostRule.parse(",".join(f"{name}={weight}" for name, weight in weights.items()))
    found = list(rule.values(frame))
    for row, value in zip(rows, found, strict=True):
        total = 0.0
        for name, weight in weights.items():
            place = list(COSTS).index(name)
            known = [other[place] for other in rows if not math.isnan(other[place])]
            total += weight * (row[place] / max(known) if known else math.nan)
        assert value == pytest.approx(total, nan_ok=True)


def test_a_single_cost_is_itself_and_what_is_not_on_record_is_unknown() -> None:
    frame = pd.DataFrame({"state_bytes": [0, 300, 200], "trainable_parameters": [0, 1, 2]})
    memory = CostRule.parse("memory").values(frame)
    assert math.isnan(memory[0]) and list(memory[1:]) == [300, 200]
    assert list(CostRule.parse("parameters").values(frame)) == [0, 1, 2]
    assert CostRule.parse("parameters=2").weights == (("parameters", 2.0),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beauty", "--cost: must be of parameters, bytes, latency, memory, train-time, got 'beauty'"),
        ("bytes=0.5,beauty=1", "must be of parameters.*got 'beauty'"),
        ("bytes,latency", "--cost: must have weights above 0, got 'bytes,latency'. Write a weight for each"),
        ("bytes=0", "must have weights above 0"),
        ("bytes=-1,latency=2", "must have weights above 0"),
        ("bytes=nan", "must have weights above 0"),
        ("bytes=much", "must have weights above 0"),
        ("bytes=1,bytes=2", "--cost: must name bytes once"),
        ("", "--cost: must be of parameters"),
    ],
)
def test_bad_costs(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        CostRule.parse(text)


@pytest.fixture
def priced(make_run, make_record, outcomes, add_latency):
    """Two that cannot be told apart: `small` is the smaller, `quick` the faster to train and to run."""
    costs = {
        "small": (100, {"device_seconds": 90.0, "state_bytes": 4_000}),
        "quick": (900, {"device_seconds": 10.0, "state_bytes": 9_000}),
    }
    records = [make_record(name, 0.85, parameters=size, cost=cost) for name, (size, cost) in costs.items()]
    run = make_run([*records, make_record("bad", 0.5, parameters=1, cost={"device_seconds": 1.0})])
    for name, right, shift in (("small", 340, 0), ("quick", 340, 5), ("bad", 200, 0)):
        run.write_outcomes(name, outcomes(right, shift=shift))
    add_latency(run, {"small": 8.0, "quick": 5.0, "bad": 1.0})
    return run


@pytest.mark.parametrize(
    ("cost", "chosen", "words"),
    [
        ("parameters", "small", "fewest trainable parameters (100) of the 2"),
        ("bytes", "small", "smallest adapter (400 B) of the 2"),
        ("latency", "quick", "lowest unmerged latency (5 ms) of the 2"),
        ("memory", "small", "smallest training state (4 kB) of the 2"),
        ("train-time", "quick", "least device time (10 s) of the 2"),
        # 0.5 * 100/900 + 0.5 * 90/90 against 0.5 + 0.5 * 10/90
        ("parameters=0.5,train-time=0.5", "small", "lowest cost by 0.5 parameters + 0.5 train-time (0.556: 100 para"),
        ("parameters=0.4,train-time=0.6", "quick", "0.4 parameters + 0.6 train-time (0.467: 900 parameters, 10 s of"),
    ],
)
def test_a_pick_by_every_cost(priced, cost, chosen, words) -> None:
    found = pick(priced, cost=CostRule.parse(cost))
    assert found.trial_id == chosen and words in found.why[0]
    assert set(found.costs) == {"small", "quick"} and found.runner_up["trial_id"] in found.costs


def test_when_one_would_take_the_second(priced) -> None:
    assert "Take it if what counts is latency (5 ms instead of 8 ms) or train time (10 s instead of 1 min 30 s)." in (
        pick(priced).text
    )


def test_latency_says_what_it_rests_on(priced) -> None:
    text = pick(priced, cost=CostRule.parse("latency")).text
    assert "the quartiles are 4.5 to 5.5 ms" in text and "every candidate runs at the base's speed" in text


def test_only_what_was_timed_can_be_chosen_by_latency(make_tied, add_cuts, add_latency) -> None:
    run = make_tied()
    add_cuts(run, {"a@rank4": (341, 0, 3_000)})
    with pytest.raises(ConfigError, match=r"--cost: must have been measured .* got 'latency'. `lora-sweep analyze RUN"):
        pick(run, cost=CostRule.parse("latency"))
    add_latency(run, {"a": 5.0, "d": 1.0})
    found = pick(run, cost=CostRule.parse("latency"))
    assert found.trial_id == "a", "neither the one ruled out nor those that were not timed"
    assert "3 of the 4 open to choice were not timed" in found.text


def test_without_outcomes_the_cost_has_no_part(make_run, make_record) -> None:
    found = pick(make_run([make_record("a", 0.9), make_record("b", 0.8, parameters=5)]), cost=CostRule.parse("latency"))
    assert found.trial_id == "a" and found.costs is None
    assert "The cost had no part in the choice: without outcomes" in found.text
