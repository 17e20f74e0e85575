"""What a pick must keep to."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_sweep.errors import ConfigError
from reports import Limits, Metric, pick
from reports.pick_limits import parse_amount, parse_quality

NUMBERS = st.one_of(st.none(), st.integers(1, 9))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(1, 9)] * 4), min_size=1, max_size=8),
    NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["max", "min"]),
)  # fmt: skip
def test_equals_the_naive_filter(rows, parameters, size, latency, quality, mode) -> None:
    frame = pd.DataFrame(
        [{"trial_id": i, "trainable_parameters": p, "adapter_bytes": b, "latency_seconds": t / 1000, "quality": q}
         for i, (p, b, t, q) in enumerate(rows)]
    )  # fmt: skip
    limits = Limits(parameters, size, latency, quality)
    naive = [
        i
        for i, (p, b, t, q) in enumerate(rows)
        if (parameters is None or p <= parameters)
        and (size is None or b <= size)
        and (latency is None or t <= latency)
        and (quality is None or (q >= quality if mode == "max" else q <= quality))
    ]
    metric = Metric("loss", mode)
    if naive:
        assert list(limits.within(frame, metric)["trial_id"]) == naive
    else:
        with pytest.raises(ConfigError, match="must leave at least one candidate"):
            limits.within(frame, metric)


@pytest.mark.parametrize(
    ("text", "value"),
    [("300000", 300_000), ("300k", 300_000), ("4M", 4_000_000), ("1MB", 10**6), ("1.5 kB", 1500), ("2g", 2 * 10**9)],
)
def test_amounts(text, value) -> None:
    assert parse_amount(text, "--max-bytes") == value


@pytest.mark.parametrize("text", ["", "k", "0", "-3", "1e5", "3 apples", "0.2", "1T"])
def test_bad_amounts(text) -> None:
    with pytest.raises(ConfigError, match="--max-bytes: must be a number of at least 1, such as 300k or 4M, got"):
        parse_amount(text, "--max-bytes")


def test_qualities() -> None:
    assert (parse_quality("0.7"), parse_quality("72.5%"), parse_quality("2.31")) == (0.7, 0.725, 2.31)
    for text in ("", "good", "7%0", "nan", "inf"):
        with pytest.raises(ConfigError, match="--min-quality: must be a value of the metric"):
            parse_quality(text)


@pytest.fixture
def run(make_tied, add_cuts, add_latency):
    """`a` 340 right, 90k; `c` 336, 20k; `b` 334, 5k; `d` 250, 900; a cut of `a`, 338, 3k; `a` and `b` are timed."""
    made = make_tied()
    add_cuts(made, {"a@rank4": (338, 0, 3_000)})
    add_latency(made, {"a": 9.0, "b": 6.0})
    return made


@pytest.mark.parametrize(
    ("limits", "chosen", "within"),
    [
        (Limits(), "a@rank4", 5),
        (Limits(max_parameters=2_000), "d", 1),
        (Limits(max_parameters=4_000), "a@rank4", 2),
        (Limits(max_bytes=20_000), "a@rank4", 3),
        (Limits(max_latency_ms=7), "b", 1),
        (Limits(max_latency_ms=9), "b", 2),
        (Limits(min_quality=0.848), "a", 1),
        (Limits(max_parameters=50_000, min_quality=0.84), "a@rank4", 2),
    ],
)
def test_every_limit(run, limits, chosen, within) -> None:
    found = pick(run, limits=limits)
    assert (found.trial_id, found.within, found.candidates) == (chosen, within, 5)
    assert found.best["trial_id"] == "a"
    # the tie set is that of all, unless none of its members keeps to the limits
    assert len(found.ties.trial_ids) == (within if chosen == "d" else 5)
    assert ("It keeps to at" in found.text) == (limits != Limits())
    assert found.trial_id == "a" or "the best figure, that of a (95 % interval" in found.text


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_parameters=10), "--max-parameters: must leave at least one candidate, got 10. "
                                    "The nearest is d with 900 parameters."),
        (Limits(max_bytes=10), "--max-bytes: must leave .* got 10. The nearest is d with 3,600 bytes."),
        (Limits(max_latency_ms=2.5), "--max-latency: must leave .* got 2.5. The nearest is b with 6 ms a pass. "
                                     "3 candidates were not timed. `lora-sweep analyze RUN --top N`"),
        (Limits(min_quality=0.9), "--min-quality: must leave .* got 0.9. "
                                  "The nearest is a with 85.0 % accuracy on the evaluation data."),
        (Limits(max_parameters=4_000, min_quality=0.848), "--min-quality: .* got 0.848. Of those within the other "
                                                          "limits, the nearest is a@rank4 with 84.5 %"),
        (Limits(min_quality=72), "--min-quality: must be between 0 and 1, got 72. Accuracy is a share: write 0.7"),
        (Limits(max_latency_ms=-1), "--max-latency: must be above 0, got -1"),
        (Limits(max_latency_ms=math.nan), "--max-latency: must be above 0, got nan"),
    ],
)  # fmt: skip
def test_nothing_keeps_to_it(run, limits, message) -> None:
    with pytest.raises(ConfigError, match=message):
        pick(run, limits=limits)


def test_no_latency_at_all(make_tied) -> None:
    with pytest.raises(ConfigError, match="No candidate has a measured latency. `lora-sweep analyze RUN --top N`"):
        pick(make_tied(), limits=Limits(max_latency_ms=10))


def test_a_named_one_is_held_to_the_limits(run) -> None:
    with pytest.raises(ConfigError, match="--max-parameters: must have room for a@rank4 with 3,000 parameters"):
        pick(run, trial="a@rank4", limits=Limits(max_parameters=2_000))
    with pytest.raises(ConfigError, match="--max-latency: must have room for c with an unknown value, got 10"):
        pick(run, trial="c", limits=Limits(max_latency_ms=10))
    assert "It keeps to at most 5 kB on disk." not in pick(run, trial="c").text


@pytest.mark.parametrize(
    ("tested", "words"),
    [
        (None, "Whether it keeps the 84.0 % that was asked for on new data is not known: it has no test figure."),
        (0.82, "Its test figure, 82.0 %, does not reach the 84.0 % that was asked for on the evaluation data."),
        (
            0.85,
            "Its test figure, 85.0 %, reaches the 84.0 % that was asked for, but its interval goes below.",
        ),
        (0.95, "Its test figure, 95.0 %, reaches the 84.0 % that was asked for."),
    ],
)
def test_how_the_test_figure_stands_to_the_quality(make_tied, tested, words) -> None:
    run = make_tied(tested=None if tested is None else {"a": tested, "c": tested})
    assert words in pick(run, limits=Limits(min_quality=0.84)).why


def test_a_loss_must_be_at_most(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "loss", "mode": "min"})
    records = [make_record(name, value, metric="loss") for name, value in (("a", 2.5), ("b", 2.1))]
    run = make_run(records, info)
    found = pick(run, limits=Limits(min_quality=2.2))
    assert found.trial_id == "b" and "It keeps to at most 2.200 loss on the evaluation data, as 1 of 2" in found.text
    with pytest.raises(ConfigError, match="The nearest is b with 2.100 loss"):
        pick(run, limits=Limits(min_quality=1.0))
