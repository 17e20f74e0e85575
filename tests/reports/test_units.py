import math

import pytest

from reports import units
from reports.metric import Metric, read_metric
from reports.statistics import compare, interval, wilson


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (512, "512"),
        (999, "999"),
        (999.6, "1k"),
        (4_194_304, "4.19M"),
        (6_742_609_920, "6.74G"),
        (149_000, "149k"),
    ],
)
def test_count(value: float, text: str) -> None:
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4214, "0.42 s"),
        (48, "48 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3599.9, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_other_units() -> None:
    assert units.size(594_000) == "594 kB"
    assert units.share(0.000622) == "0.0622 %"
    assert [units.number(v) for v in (0.05, 0.00032, 1e-4, 16.0, 0)] == ["0.05", "3.2e-4", "1e-4", "16", "0"]
    assert units.plural(1, "trial") == "1 trial" and units.plural(2000, "trial") == "2,000 trials"


@pytest.mark.parametrize("say", [units.count, units.size, units.duration, units.share, units.number])
def test_what_is_missing_is_a_dash(say) -> None:
    assert {say(None), say(math.nan), say(math.inf)} == {units.MISSING}


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    with pytest.raises(ValueError, match="share must be in"):
        wilson(1.2, 20)


def test_differences_inside_the_noise_are_not_told_apart() -> None:
    accuracy = Metric("accuracy")
    assert compare(accuracy, 0.80, 0.79, 500).told_apart is False
    assert compare(accuracy, 0.80, 0.60, 500).told_apart is True
    assert compare(accuracy, 0.80, 0.79, None).told_apart is None
    assert compare(Metric("loss", "min"), 0.2, 0.3, 500).gain == pytest.approx(0.1)
    assert interval(Metric("macro_f1"), 0.8, 500) is None


def test_metric_values() -> None:
    assert Metric("accuracy").text(0.8764) == "87.6 %" and Metric("accuracy").difference_text(-0.014) == "1.4 points"
    assert [Metric("perplexity", "min").text(v) for v in (9.5, 10, 1234.5, math.inf)] == [
        "9.500",
        "10.00",
        "1,234",
        "–",
    ]


def test_metric_from_run_json_or_by_default() -> None:
    assert read_metric({"metric": {"name": "macro_f1", "mode": "max", "keep": "last"}}) == Metric(
        "macro_f1", "max", "last"
    )
    assert read_metric({"task": {"type": "causal-lm"}}) == Metric("loss", "min")
    assert read_metric({}, {"perplexity": 3.0}) == Metric("perplexity", "min")
    assert read_metric({"metric": "accuracy"}) == Metric("accuracy")
