"""Runs beside each other: compared where they had the same data, and only shown where they had not."""

from __future__ import annotations

import copy
import shutil
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lora_sweep.errors import ConfigError
from lora_sweep.store import RunFolder
from reports import write_comparison
from reports.comparison import compare_runs
from reports.comparison_figure import get_fronts_info, plot_fronts
from reports.page_comparison import _leading_rows, render_comparison
from reports.statistics import holm
from reports.sweep_difference import sweep_differences

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from chromium import Chromium, find_chromium  # noqa: E402  the path must be there before

EVIL = "<script>alert('x')</script>"
LABELS = np.arange(400) % 3


def outcomes(right: int, split: str, step: int, shift: int = 0, names: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    hits = np.roll(np.arange(400) < right, shift)
    predicted = np.where(hits, LABELS, (LABELS + 1) % 3)
    number = np.array(names)
    frame = pd.DataFrame({"example_id": [f"{split}:{i}" for i in range(400)], "split": split, "step": step})
    frame = frame.assign(label=number[LABELS], prediction=number[predicted])
    return frame.assign(logits=list(np.eye(3, dtype=np.float32)[number[predicted]]))


@pytest.fixture
def make_side(make_run, make_record, make_info):
    """A run whose best trial is right on `right` of 400 examples of eval and test."""

    def make(name: str, right: int, *, shift: int = 0, answers: bool = True, names=(0, 1, 2), **changes):
        info = copy.deepcopy(make_info(name=name) | changes)
        for part in ("eval", "test"):
            info["data"]["parts"][part]["examples"] = 400
        records = [
            make_record("best", right / 400, parameters=50_000),
            make_record("other", 0.4, parameters=1000, target_label="mlp"),
        ]
        run = make_run(records, info, None, {"best": right / 400, "other": 0.4}, name.strip("<>/'()").replace("/", ""))
        if answers:
            run.write_outcomes("best", outcomes(right, "eval", 200, shift, names))
            run.write_outcomes("best", outcomes(right, "test", 0, shift, names))
            run.write_outcomes("other", outcomes(160, "eval", 200, shift, names))
        return run

    return make


def test_the_picks_example_by_example(make_side) -> None:
    found = compare_runs([make_side("one", 340), make_side("two", 320)])
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.part, pair.same_data) == ("one", "two", "test", True)
    assert pair.found.paired and pair.found.gain == pytest.approx(0.05)
    # nested answers: 20 of 400 disagree, all for the first
    assert pair.found.bounds[0] > 0 and pair.p_value < 0.001
    assert found.ties.member_ids == ("one: best",)
    page = render_comparison(found)
    assert "The pick of one is better than that of two on the test data, by 5.0 points" in page


def test_picks_that_cannot_be_told_apart(make_side) -> None:
    found = compare_runs([make_side("one", 340), make_side("two", 336, shift=100)])
    assert found.pairs[0].p_value > 0.05 and set(found.ties.member_ids) == {"one: best", "two: best"}
    page = render_comparison(found)
    assert "The picks of one and two cannot be told apart on the test data" in page
    assert page.count('<span class="tag">tie</span>') == 2


def test_several_runs_are_corrected_for_their_number(make_side) -> None:
    single = compare_runs([make_side("a", 340), make_side("b", 325, shift=11)]).pairs[0].p_value
    several = compare_runs([make_side(name, right, shift=shift)
                            for name, right, shift in (("c", 340, 0), ("d", 325, 11), ("e", 330, 37))])  # fmt: skip
    assert len(several.pairs) == 3
    assert several.pairs[0].p_value >= single
    assert "adjusted for 3 comparisons (Holm)" in render_comparison(several)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == [] and holm([0.02]) == [0.02]


def other_data(make_info, part: str):
    data = copy.deepcopy(make_info()["data"])
    data["parts"][part]["sha256"] = "f" * 64
    return data


def test_other_data_are_not_compared(make_side, make_info) -> None:
    data = other_data(make_info, "eval")
    data["parts"]["test"]["sha256"] = "f" * 64
    found = compare_runs([make_side("one", 340), make_side("two", 320, data=data)])
    assert found.agreement("eval") == found.agreement("test") == "different" and found.agreement("train") == "same"
    assert found.pairs == () and found.ties is None and get_fronts_info(found).front == ()
    page = render_comparison(found)
    assert "The picks cannot be compared" in page and "no common front" in page
    assert "did not all have the same evaluation data" in page and "did not all have the same test data" in page


def test_leading_trials_on_other_data_are_not_ranked_together(make_side, make_info) -> None:
    found = compare_runs([make_side("one", 320), make_side("two", 340, data=other_data(make_info, "eval"))])
    rows = [(cells[0], cells[1]) for _, cells in _leading_rows(found)]
    assert rows == [("1", "one"), ("2", "one"), ("1", "two"), ("2", "two")]
    assert "each stands by itself" in render_comparison(found)
    assert "each stands by itself" not in render_comparison(compare_runs([make_side("a", 320), make_side("b", 340)]))


def test_parts_set_aside_from_other_data_are_not_compared(make_side, make_info) -> None:
    """They have no hash and may be of the same size."""
    sides = []
    for name, digit in (("one", "1"), ("two", "f"), ("three", "1")):
        data = copy.deepcopy(make_info()["data"])
        data["parts"]["train"]["sha256"] = digit * 64
        for part in ("eval", "test"):
            del data["parts"][part]["sha256"]
        sides.append(make_side(name, 320, data=data, answers=False))
    one, two, three = sides
    assert compare_runs([one, two]).pairs == () and compare_runs([one, two]).agreement("test") == "different"
    assert len(compare_runs([one, three]).pairs) == 1


def test_picks_with_outcomes_of_other_examples_are_not_compared(make_side, make_info) -> None:
    data = copy.deepcopy(make_info()["data"])
    for part in data["parts"].values():
        del part["sha256"]
    one, two = make_side("one", 340), make_side("two", 320, data=data)
    assert compare_runs([one, two]).pairs
    frame = two.outcomes("best")
    two.write_outcomes("best", frame.assign(example_id="other:" + frame["example_id"]))
    found = compare_runs([one, two])
    assert found.agreement("test") == "unknown" and found.pairs == ()
    assert "The picks cannot be compared" in render_comparison(found)


def test_where_only_test_differs_eval_is_compared(make_side, make_info) -> None:
    found = compare_runs([make_side("one", 340), make_side("two", 320, data=other_data(make_info, "test"))])
    assert found.pairs[0].part == "eval" and found.pairs[0].found.paired
    assert "The evaluation data chose the picks" in render_comparison(found)


def test_of_three_runs_two_may_share_data(make_side, make_info) -> None:
    data = other_data(make_info, "test")
    data["parts"]["eval"]["sha256"] = "f" * 64
    found = compare_runs([make_side("a", 340), make_side("b", 320), make_side("c", 330, data=data)])
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b")] and found.ties is None


def test_without_hashes_names_and_labels_decide(make_side, make_info) -> None:
    data = copy.deepcopy(make_info()["data"])
    for part in data["parts"].values():
        del part["sha256"]
    found = compare_runs([make_side("one", 340), make_side("two", 320, data=data)])
    assert found.agreement("eval") == "unknown"
    assert found.pairs[0].found.paired and found.pairs[0].same_data
    assert "not known, because not all have a hash" in render_comparison(found)


def test_without_outcomes_only_figures_are_compared(make_side, make_info) -> None:
    data = copy.deepcopy(make_info()["data"])
    for part in data["parts"].values():
        del part["sha256"]
    found = compare_runs([make_side("one", 340), make_side("two", 320, answers=False, data=data)])
    pair = found.pairs[0]
    assert not pair.found.paired and not pair.same_data and 0.05 < pair.p_value < 0.07
    assert "on the test data, if both had the same (no hash is on record)" in render_comparison(found)


def test_labels_are_matched_by_name(make_side) -> None:
    words = ["anger", "joy", "sadness"]
    turned = {"type": "classification", "labels": [words[2], words[0], words[1]]}
    found = compare_runs([make_side("one", 340), make_side("two", 320, names=(1, 2, 0), task=turned)])
    assert found.pairs[0].found.paired and found.pairs[0].found.gain == pytest.approx(0.05)


def test_the_front_of_all_runs(make_side, make_record) -> None:
    first, second = make_side("one", 320), make_side("two", 340)
    second.append_record(make_record("small", 0.84, parameters=20_000))
    info = get_fronts_info(compare_runs([first, second]))
    assert info.front == ((1000, 0.4), (20_000, 0.84), (50_000, 0.85))
    traces = plot_fronts(info).data
    assert [trace.name for trace in traces] == ["front of all runs", "one", "two"]
    assert len({trace.marker.color for trace in traces[1:]}) == 2


def test_what_differs_in_the_sweeps(make_side) -> None:
    one, two = make_side("one", 340), make_side("two", 320)
    one.sweep_file.write_text("name: x\nspace: {rank: [4, 8]}\nbudget: {steps: 100, epochs: null}\n")
    two.sweep_file.write_text("name: y\nspace: {rank: [4, 8], alpha: 8}\nbudget: {steps: 200, epochs: null}\n")
    found = compare_runs([one, two])
    expected = [("budget.steps", ("100", "200")), ("space.alpha", ("–", "8"))]
    assert sorted(sweep_differences([side.results for side in found.sides])) == expected
    two.sweep_file.write_text("a: [")
    assert sweep_differences([side.results for side in compare_runs([one, two]).sides]) == []


def test_names_are_unique(make_run, make_info, tmp_path) -> None:
    first, second = make_run(info=make_info(name="same"), name="x"), make_run(info=make_info(name="same"), name="y")
    assert [side.name for side in compare_runs([first, second]).sides] == ["x", "y"]


def test_a_run_without_a_pick(make_side, make_run, make_info) -> None:
    page = render_comparison(
        compare_runs([make_side("one", 340), make_run(info=make_info(name="empty"), name="empty")])
    )
    assert "one has no pick" in page and "empty" in page


def test_bad_choices_of_runs(make_side, make_info) -> None:
    one, two = make_side("one", 340), make_side("loss", 320, metric={"name": "loss", "mode": "min"})
    with pytest.raises(ConfigError, match="RUN: must be given once"):
        compare_runs([one, one])
    with pytest.raises(ConfigError, match=r"must all have one metric, found accuracy \(max\) in .*, loss \(min\) in"):
        compare_runs([one, two])


def test_free_text_is_escaped(make_side) -> None:
    one = make_side("one", 340, model={"name": EVIL})
    two = make_side(EVIL, 320)
    one.sweep_file.write_text("name: x\nbudget: 1\n")
    two.sweep_file.write_text(f'name: y\nbudget: "{EVIL}"\n')
    page = render_comparison(compare_runs([one, two]))
    assert "alert('x')</script>" not in page and EVIL in unescape(page)


def test_where_the_page_goes(make_side, tmp_path) -> None:
    runs = [make_side("one", 340), make_side("two", 320)]
    assert write_comparison(runs) == tmp_path / "comparison.html"
    assert write_comparison(runs, tmp_path / "new" / "page.html").is_file()


@pytest.mark.skipif(find_chromium() is None, reason="needs a chromium")
def test_opens_in_a_browser_without_an_error(make_side, tmp_path: Path) -> None:
    page = write_comparison([make_side("one", 340), make_side("two", 320)])
    with Chromium(tmp_path, height=8000) as browser:
        browser.open(page)
        browser.wait_for("document.querySelectorAll('.main-svg').length >= 1")
        assert browser.messages == []


def test_picks_that_are_cuts(make_tied, add_cuts, make_info, tmp_path) -> None:
    run = make_tied(name="one")
    add_cuts(run, {"a@rank2": (338, 3, 3_000), "c@energy90": (330, 12, 9_000)})
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    compared = compare_runs([run, RunFolder.open(other)])
    assert [side.pick.trial_id for side in compared.sides] == ["a@rank2"] * 2
    assert {"run: a@rank2", "other: a@rank2"} <= set(compared.ties.member_ids)
    assert set(compared.leading["key"]) >= {"run: a@rank2", "other: c@energy90"}
    html = unescape(render_comparison(compared))
    assert "a@rank2" in html and "rank 2, alpha 4 (2r), attention-qv" in html and "1 to 3" in html
