from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lora_sweep.errors import ConfigError
from reports import pick, read_results, render_page, table_rows, write_tables
from reports.configurations import configuration_summaries, ruled_out_over_seeds, seed_text
from reports.figures import get_front_info, get_learning_curves_info
from reports.page_configurations import seed_figures, seed_section
from reports.pick_text import seed_sentence
from reports.statistics import compare_configurations

EXAMPLES = 500
LABELS = np.arange(EXAMPLES) % 3


def outcomes(hits: np.ndarray, split: str) -> pd.DataFrame:
    predictions = np.where(hits, LABELS, (LABELS + 1) % 3)
    names = [f"{split}:{i}" for i in range(EXAMPLES)]
    frame = pd.DataFrame({"example_id": names, "split": split, "step": 200 if split == "eval" else 0, "label": LABELS})
    return frame.assign(prediction=predictions, logits=list(np.eye(3, dtype=np.float32)[predictions]))


@pytest.fixture
def make_seeds(make_run, make_record):
    """Trials as id: (share right, fields of the record); ids with `-seed` repeat what stands before it."""

    def make(trials, with_outcomes=True, tested=True, **run):
        luck = {part: np.random.default_rng(i).random(EXAMPLES) for i, part in enumerate(("eval", "test"))}
        records, tests, frames = [], {}, {}
        for number, (name, (share, fields)) in enumerate(trials.items()):
            own = np.random.default_rng(100 + number).random(EXAMPLES) * 0.1
            hits = {part: luck[part] + own < share for part in luck}
            first = name.split("-seed")[0]
            config = {"learning_rate": 1e-3 * (1 + ord(first[0])), "seed": number} | fields.get("config", {})
            record = make_record(name, float(hits["eval"].mean()), **{**config, **fields.get("make", {})})
            records.append(record.model_copy(update={"repeat_of": first if first != name else None}))
            tests[name] = float(hits["test"].mean())
            frames[name] = hits
        complete = [record.trial_id for record in records if record.status == "complete"]
        folder = make_run(records, tested={n: tests[n] for n in complete} if tested else None, **run)
        for name in complete if with_outcomes else ():
            for part in ("eval", "test") if tested else ("eval",):
                folder.write_outcomes(name, outcomes(frames[name][part], part))
        return folder

    return make


FINALISTS = {
    "a": (0.90, {}), "b": (0.88, {}), "c": (0.50, {}),
    "a-seed2": (0.84, {}), "a-seed3": (0.85, {}), "a-seed4": (0.83, {}),
    "b-seed2": (0.70, {}), "b-seed3": (0.71, {}), "b-seed4": (0.69, {}),
}  # fmt: skip


def test_repeats_are_no_candidates(make_seeds) -> None:
    run = make_seeds({**FINALISTS, "b-seed3": (0.99, {})})
    results = read_results(run)
    assert list(results.trials["trial_id"]) == ["a", "b", "c"]
    assert len(results.repeats) == 6 and list(results.finalists["trial_id"]) == ["a", "b"]
    assert list(results.ranked()["trial_id"]) == ["a", "b", "c"]
    assert {*results.ties().trial_ids, *results.finalist_intervals} == {"a", "b", "c"}
    assert pick(results).trial_id in "ab"
    assert {row.name for row in table_rows(results)} == {"a", "b", "c"}
    assert {point.trial_id for point in get_front_info(results).points} == {"a", "b", "c"}
    assert {curve.trial_id for curve in get_learning_curves_info(results).curves} == {"a", "b", "c"}


@pytest.mark.parametrize("part", ["eval", "test"])
def test_finalists_are_judged_by_their_new_seeds_alone(make_seeds, part) -> None:
    results = read_results(make_seeds(FINALISTS))
    best, other = configuration_summaries(results, part)
    column = "quality" if part == "eval" else "test_quality"
    measured = results.repeats.set_index("trial_id")[column]
    assert (best.trial_id, other.trial_id, best.seeds, other.failed) == ("a", "b", 3, 0)
    assert dict(best.values) == {f"a-seed{n}": measured[f"a-seed{n}"] for n in (2, 3, 4)}
    assert best.mean == pytest.approx(measured[list(dict(best.values))].mean())
    assert best.selected == results.trials.set_index("trial_id")[column]["a"] > best.mean
    assert best.bounds[0] < best.mean < best.bounds[1] and best.gain == 0 and best.gain_bounds is None
    assert other.ruled_out and other.gain_bounds[0] < other.gain == other.mean - best.mean < other.gain_bounds[1] < 0
    ids = [*dict(best.values), *dict(other.values)]
    groups = [list(dict(one.values).values()) for one in (best, other)]
    assert ruled_out_over_seeds(results) == {"b"}
    naive = compare_configurations(groups, results.repeat_evidence[part].covariance(ids), 1)
    assert [one.bounds for one in naive] == [best.gain_bounds, other.gain_bounds]


def test_what_is_said_of_a_configuration(make_seeds) -> None:
    results = read_results(make_seeds(FINALISTS))
    best, other = configuration_summaries(results, "test")
    text = seed_text(results, "a")
    low, high = (f"{100 * end:.1f}" for end in best.bounds)
    assert text == (
        "Its configuration was trained again with 3 new seeds: mean accuracy on the test data "
        f"{100 * best.mean:.1f} %, 95 % interval {low} to {high} % over seeds and examples; the other figures are of "
        "this one adapter. It has the best mean of 2 configurations; the seeds rule out the other as the best."
    )
    assert "which rules it out as the best" in seed_text(results, "b")
    assert "points behind that of a (95 % interval -" in seed_text(results, "b")
    assert seed_text(results, "c") == ""
    assert text in pick(results, trial="a").why
    assert "one seed cannot say" in " ".join(pick(results, trial="c").why)


def test_failed_seeds_are_counted_and_said(make_seeds) -> None:
    fail = {"make": {"status": "failed", "error": "NonFiniteLossError"}}
    trials = {**FINALISTS, "a-seed4": (0.5, fail)} | {f"b-seed{n}": (0.5, fail) for n in (2, 3, 4)}
    results = read_results(make_seeds(trials))
    first, last = configuration_summaries(results, "test")
    assert (first.trial_id, first.seeds, first.failed) == ("a", 2, 1)
    assert (last.seeds, last.failed, last.bounds) == (0, 3, None) and math.isnan(last.mean)
    assert "with 2 new seeds, beside 1 that failed" in seed_text(results, "a")
    assert "with 3 new seeds, and every one failed" in seed_text(results, "b")
    rows = seed_section(results).rows
    assert rows[0][2] == "2 (+ 1 failed)" and rows[1][3] == "–" and rows[0][-2:] == ("best mean", "–")
    assert len(list(seed_figures(results))) == 1


def test_without_outcomes_there_are_means_and_no_intervals(make_seeds) -> None:
    results = read_results(make_seeds(FINALISTS, with_outcomes=False))
    best, other = configuration_summaries(results, "test")
    assert best.mean > other.mean and best.spread > 0
    assert best.bounds is None and other.gain_bounds is None and not other.ruled_out
    assert "% over seeds" not in seed_text(results, "a")
    assert [row[-1] for row in seed_section(results).rows] == ["–", "–"]


def test_before_the_test_the_evaluation_data_speak(make_seeds) -> None:
    results = read_results(make_seeds(FINALISTS, tested=False))
    assert "mean accuracy on the evaluation data" in seed_text(results, "a")
    assert "evaluation data" in seed_section(results).note


def test_seeds_of_the_search_count_all_unless_one_was_stopped(make_seeds) -> None:
    stop = {"make": {"status": "stopped", "reached": 50}}
    trials = {
        "a1": (0.8, {}), "a2": (0.82, {}), "a3": (0.81, {}), "b1": (0.6, {}), "b2": (0.61, {}), "b3": (0.6, {}),
        "c1": (0.9, {}), "c2": (0.1, stop),
        "d1": (0.7, {}),
    }  # fmt: skip
    results = read_results(make_seeds(trials, tested=False))
    best, other = configuration_summaries(results, "eval")
    assert (best.trial_id, set(dict(best.values)), other.trial_id) == ("a2", {"a1", "a2", "a3"}, "b2")
    assert ruled_out_over_seeds(results) == {"b1", "b2", "b3"}
    assert math.isnan(best.selected) and other.gain_bounds is not None
    assert configuration_summaries(results, "test") == ()
    assert seed_text(results, "a1") == seed_text(results, "a2") != ""
    assert seed_text(results, "c1") == seed_text(results, "d1") == ""
    assert "New seeds" not in seed_section(results).headings


def test_a_loss_is_better_when_lower(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "loss", "mode": "min"})
    records = []
    for name, loss in (("a", 1.0), ("b", 0.9), ("a-seed2", 1.1), ("a-seed3", 1.2), ("b-seed2", 2.0), ("b-seed3", 2.2)):
        record = make_record(name, loss, metric="loss", learning_rate=1e-3 * ord(name[0]))
        again = name[0] if len(name) > 1 else None
        records.append(record.model_copy(update={"repeat_of": again, "metrics": {"loss": loss}}))
    best, other = configuration_summaries(read_results(make_run(records, info)), "eval")
    assert (best.trial_id, other.trial_id, other.gain) == ("a", "b", pytest.approx(-0.95))


def test_page_and_tables(make_seeds) -> None:
    run = make_seeds(FINALISTS)
    page = render_page(run)
    assert '<section id="configurations">' in page
    assert " points, ruled out</td>" in page and 'id="figure-seeds"' in page and "was selected by its figure" in page
    write_tables(run)
    table = pd.read_csv(run.path / "tables" / "configurations.csv")
    assert list(zip(table["part"], table["trial_id"], strict=True)) == [
        ("eval", "a"), ("eval", "b"), ("test", "a"), ("test", "b")
    ]  # fmt: skip
    assert table["ruled_out"].tolist() == [False, True, False, True]
    assert [pair.split("=")[0] for pair in table["values"][0].split()] == ["a-seed2", "a-seed3", "a-seed4"]
    assert (table["mean_low"] < table["mean"]).all() and table["seeds"].tolist() == [3] * 4
    assert len(pd.read_csv(run.path / "tables" / "repeats.csv")) == 6
    assert len(pd.read_csv(run.path / "tables" / "trials.csv")) == 3


def test_the_figure_has_a_dot_for_every_seed(make_seeds) -> None:
    ((_, _, _, figure),) = seed_figures(read_results(make_seeds(FINALISTS)))
    seeds, selected, means = figure.data
    assert len(seeds.x) == 6 and len(selected.x) == len(means.x) == 2
    assert all(size > 0 for size in (*means.error_y.array, *means.error_y.arrayminus))


def test_a_run_with_one_seed_has_no_section(full_run) -> None:
    assert seed_section(read_results(full_run)) is None
    assert 'id="seeds"' not in render_page(full_run)


RIVALS = {
    "a": (0.90, {"make": {"parameters": 90_000}}), "b": (0.89, {"make": {"parameters": 10_000}}),
    "c": (0.89, {"make": {"parameters": 500}}), "d": (0.30, {}),
    **{name: one for name, one in FINALISTS.items() if "-" in name},
}  # fmt: skip


def test_those_that_other_seeds_did_not_rule_out_come_before_untested_ones(make_seeds) -> None:
    found = pick(make_seeds(RIVALS))
    assert set(found.ties.member_ids) == {"a", "b", "c"}
    assert (found.trial_id, found.ruled_out, found.unrepeated) == ("a", ("b",), ("c",))
    # b is smaller and cannot be told apart, but other seeds rule it out
    assert found.runner_up["trial_id"] == "c" and found.smaller["trial_id"] == "c"
    assert found.why[0].startswith(
        "Trial a is the only one open to choice (90k) of the 3 that cannot be told from the best"
    )
    assert "ruled out as the best: b." in found.text and "because they were not: c." in found.text


def test_only_those_open_to_choice_are_counted(make_seeds) -> None:
    found = pick(make_seeds({name: one for name, one in RIVALS.items() if name != "c"}))
    assert found.trial_id == "a" and found.smaller is None and found.runner_up["trial_id"] == "d"
    assert "is the only one open to choice (90k) of the 2 that cannot be told" in found.why[0]


def test_what_is_said_of_seeds_where_others_were_trained_again(make_seeds) -> None:
    results = read_results(make_seeds(RIVALS))
    row = pick(results, trial="c").chosen
    assert "this configuration was not among those trained again" in seed_sentence(results, row)
    cut = {**pick(results, trial="a").chosen, "trial_id": "a@rank2", "kind": "cut"}
    assert seed_sentence(results, cut).startswith("Its configuration was trained again with 3 new seeds")
    assert seed_sentence(results, cut).endswith("The seeds are of the uncut configuration; the cut was not made again.")
    unknown = {**row, "trial_id": "c@rank2", "kind": "cut"}
    assert "its uncut configuration was not among" in seed_sentence(results, unknown)


def test_a_repeat_cannot_be_asked_for(make_seeds) -> None:
    with pytest.raises(ConfigError, match="this one repeats a with another seed and is none"):
        pick(make_seeds(FINALISTS), trial="a-seed2")
