"""A cut as the pick: its words, its data, its place on the page, and who may not be chosen."""

from __future__ import annotations

import importlib
import json
from html import unescape

import pytest

from lora_sweep.errors import ConfigError
from reports import pick, read_results, render_page, table_rows
from reports.doubts import doubts
from reports.pick_data import pick_data


@pytest.fixture
def run(make_tied, add_cuts):
    made = make_tied(tested={"a": 0.84, "b": 0.83})
    add_cuts(made, {"a@rank1": (250, 0, 700), "a@rank4": (338, 0, 3_000)})
    return made


def test_a_cut_is_picked_and_says_what_it_is(run) -> None:
    found = pick(run)
    assert found.trial_id == "a@rank4" and found.is_cut and found.candidates == 6 and found.cuts == 2
    assert found.runner_up["trial_id"] == "b" and found.as_trained["trial_id"] == "b"
    assert found.why[0] == (
        "Cut a@rank4 has the fewest trainable parameters (3k) of the 4 that cannot be told from the best. It is trial "
        "a cut to rank 4 by SVD, with no further training."
    )
    assert found.why[1].startswith("It was not measured on the test data: its 84.5 % (95 % interval ")
    assert found.why[1].endswith("Trial a, before the cut, reached 84.0 % on test.")
    assert "Compared: the 6 candidates (4 complete trials and 2 cuts of them), each with all others" in found.text
    assert (
        "Take it if you want one that was measured on test (83.0 %), or you want one that is used as it" in found.text
    )


def test_the_cheapest_as_trained_is_named_where_it_is_not_the_second(run, add_cuts) -> None:
    add_cuts(run, {"a@rank4": (338, 0, 3_000), "a@rank8": (339, 0, 4_000)})
    found = pick(run)
    assert found.runner_up["trial_id"] == "a@rank8"
    assert (
        "Of the trials as they were trained, it would be b (5k parameters, 83.5 % on the evaluation data, 83.0 % on "
        "test)." in found.why
    )


def test_a_cut_by_name(run) -> None:
    found = pick(run, trial="a@rank1")
    assert "Cut a@rank1 was asked for by its id: 62.5 %" in found.why[0]
    assert "That rules it and 1 other out as the best (95 %)" in found.text
    with pytest.raises(ConfigError, match=r"or a cut of one, got 'a@rnk4'. Close to it: a@rank4"):
        pick(run, trial="a@rnk4")


def test_without_outcomes_the_best_figure(make_run, make_record, add_cuts) -> None:
    run = make_run([make_record("a", 0.8), make_record("b", 0.7)])
    add_cuts(run, {"a@rank4": (324, 0, 3_000)})
    for file in (run.path / "outcomes").iterdir():
        file.unlink()
    found = pick(run)
    assert found.trial_id == "a@rank4" and found.ties is None
    assert "has the best figure among the 3 candidates (2 complete trials and 1 cut of them): 81.0 %" in found.why[0]


def test_the_baselines_on_evaluation_data_for_want_of_a_test_figure(run, outcomes) -> None:
    rows = [
        {"name": "head", "trial_id": "h", "metrics": {"eval": {"accuracy": 0.75}, "test": {"accuracy": 0.7}}},
        {"name": "other", "metrics": {"eval": {"accuracy": 0.9}}},
    ]
    run.write_analysis("baselines", {"rows": rows})
    run.write_outcomes("h", outcomes(300))
    text = pick(run).text
    assert "On the evaluation data, which chose it, it is 9.5 points better than head (95 % interval +6.6 to" in text
    assert "paired)." in text and "The baseline other is no worse: 90.0 % on the evaluation data." in text
    assert "On the test data it is 13.0 points better than head" in pick(run, trial="b").text


def test_data_for_programs(run) -> None:
    results = read_results(run)
    found = pick_data(pick(results), results)
    assert json.dumps(found, default=str)
    assert found["trial_id"] == "a@rank4" and found["kind"] == "cut" and found["chosen"]["source"] == "a"
    assert found["runner_up"]["trial_id"] == found["as_trained"]["trial_id"] == "b"
    assert set(found["tie_set"]["members"]) == {"a", "b", "c", "a@rank4"} == set(found["cost"]["values"])
    assert set(found["tie_set"]["compared"]) == {"a", "b", "c", "d", "a@rank1", "a@rank4"}
    assert found["candidates"] == {"all": 6, "cuts": 2, "within_limits": 6}
    low, high = found["against_best"]["bounds"]
    assert found["against_best"]["gain"] == pytest.approx(-0.005) and found["against_best"]["paired"]
    assert low < -0.005 < high
    assert found["intervals"]["test"] is None and found["intervals"]["eval"][0] < 0.845


def test_the_page_shows_a_picked_cut(run) -> None:
    page = render_page(run)
    assert "Cut <strong>a@rank4</strong>" in page and "<dd>Trial a cut to rank 4 by SVD, with no further" in page
    assert (
        "“tie” marks the 3 trials (and 1 cut) that cannot" in page
        and "Asterisks: trained trials cut to lower ranks" in page
    )


def test_the_doubts_count_cuts(run) -> None:
    results = read_results(run)
    text = " ".join(doubts(results, pick(results)))
    assert "3 of the other 5 candidates cannot be told apart from the best" in text
    assert "chose it among 7 (2 of them cuts; 1 of them stopped by the scheduler, on the same data)" in text
    assert "uncut instead of" not in text


def test_cuts_that_were_measured_elsewhere_are_doubted(run) -> None:
    content = run.analysis("rank_curves")
    content |= {"device": "cpu", "dtype": "bfloat16"}
    whole = {"name": "a", "method": "whole", "metrics": {"accuracy": 0.83}, "amount": 8, "ranks": {}, "parameters": 1}
    content["trials"][0] |= {"recorded": {"accuracy": 0.85}, "cuts": [whole, *content["trials"][0]["cuts"]]}
    run.write_analysis("rank_curves", content)
    results = read_results(run)
    assert (
        "The cuts of a were evaluated on cpu in bfloat16, where it reaches 83.0 % uncut instead of 85.0 %."
        in doubts(results, pick(results))
    )


def test_what_other_seeds_rule_out_is_not_chosen(run, monkeypatch) -> None:
    module = importlib.import_module("reports.pick_order")
    monkeypatch.setattr(module, "ruled_out_over_seeds", lambda results: frozenset({"a"}))
    found = pick(run)
    assert found.trial_id == "b" and found.ruled_out == ("a", "a@rank4")
    assert "with other seeds their configuration is ruled out as the best: a, a@rank4." in found.text
    # where it would leave nobody, it decides nothing
    monkeypatch.setattr(module, "ruled_out_over_seeds", lambda results: frozenset({"a", "b", "c"}))
    assert pick(run).trial_id == "a@rank4" and pick(run).ruled_out == ()


def test_the_table_has_a_row_for_the_picked_cut(run) -> None:
    results = read_results(run)
    row = next(row for row in table_rows(results, "a@rank4") if row.name == "a@rank4")
    assert (row.kind, row.place, row.tied, row.texts["rank"]) == ("complete", None, True, "4")
    assert "a@rank4" not in {row.name for row in table_rows(results)}
    page = unescape(render_page(results))
    trials, cuts = len(results.tied), len(results.tied_candidates) - len(results.tied)
    assert f"marks the {trials} trials (and {cuts} cut" in page and "Of cuts the table shows the picked one" in page
    table = page[page.index('id="trials-table"') :]
    assert 'class="tag">pick' in table[: table.index("</table>")]
