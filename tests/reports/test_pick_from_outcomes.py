"""The pick, its words, the table and the figures where a run has outcomes on every example."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from reports import CostRule, Limits, figures, pick, read_results, summary_table, table_rows, write_tables
from reports.configurations import configuration_summaries
from reports.doubts import doubts


def test_the_cheapest_of_the_tie_set(make_tied) -> None:
    found = pick(make_tied())
    assert found.ties is not None and found.ties.member_ids == ("a", "c", "b")
    assert found.trial_id == "b" and found.best["trial_id"] == "a" and found.runner_up["trial_id"] == "c"
    assert found.tied == 2 and found.candidates == 4 and found.smaller is None
    assert found.quality_given_up == pytest.approx(0.015) and found.parameters_saved == 85_000
    assert found.against_best.paired and found.against_best.told_apart is False


def test_the_words_of_a_pick(make_tied) -> None:
    found = pick(make_tied(tested=None))
    assert list(found.why) == [
        "Trial b has the fewest trainable parameters (5k) of the 3 that cannot be told from the best.",
        "It was not measured on the test data: its 83.5 % (95 % interval 79.5 to 86.8 %) comes from the evaluation "
        "data, which also chose it, and is likely to flatter it.",
        "Compared: the 4 complete trials, each with all others at once on the same 400 examples of the evaluation "
        "data. 1 is ruled out as the best (95 %).",
        "It lies 1.5 points behind the best figure, that of a (95 % interval -1.4 to +4.4 points, p = 0.31, paired), "
        "with 85k fewer parameters. Allowing for chance and for the choice, it lies at most 5.0 points behind the "
        "best of those compared (95 %).",
        "Second choice: c (20k parameters), 0.5 points ahead (95 % interval -1.0 to +2.0 points, p = 0.73, paired). "
        "Take it if 0.5 points, which may be chance, are worth 15k parameters more.",
        "The intervals are over examples: how good each adapter is. How good its configuration is, one seed cannot "
        "say: every configuration was trained with one seed, and another may order them differently.",
    ]


def test_a_stopped_trial_is_left_out(make_tied) -> None:
    results = read_results(make_tied())
    assert "s" not in results.evidence["eval"][0].trial_ids and "s" not in results.tied


def test_a_limit_compares_with_the_best_inside_it(make_tied) -> None:
    found = pick(make_tied(), limits=Limits(max_parameters=1000))
    assert found.trial_id == "d" and found.ties.trial_ids == ("d",)
    assert "Trial d is the only complete candidate within the limits: 62.5 % accuracy" in found.text
    assert "22.5 points behind the best figure, that of a (95 % interval +1" in found.text
    assert "keeps to at most 1k parameters, as 1 of 4 candidates do" in found.text


def test_a_limit_that_the_pick_keeps_to_leaves_the_comparison_of_all(make_tied) -> None:
    found = pick(make_tied(), limits=Limits(max_parameters=20_000))
    assert found.trial_id == "b" and len(found.ties.trial_ids) == 4
    assert "open to choice, of the 3 that cannot be told from the best." in found.why[0]
    assert "not tested" not in found.text


def test_a_trial_by_name_that_is_ruled_out(make_tied) -> None:
    found = pick(make_tied(), trial="d")
    assert "asked for by its id" in found.text and "That rules it out as the best" in found.text
    assert found.runner_up["trial_id"] == "b"


def test_cost_and_parsimony(make_tied) -> None:
    run = make_tied()
    found = pick(run, parsimony="one-standard-error")
    assert found.trial_id == "b" and "within one standard error of it" in found.text
    assert "smallest adapter (20 kB)" in pick(run, cost=CostRule.parse("bytes")).text


def test_the_test_figure_is_for_all_finalists_at_once(make_tied, outcomes) -> None:
    run = make_tied(tested={"a": 0.84, "b": 0.83, "c": 0.835})
    for name, right, shift in (("a", 336, 0), ("b", 332, 3), ("c", 334, 6)):
        run.write_outcomes(name, outcomes(right, "test", 0, shift))
    results = read_results(run)
    alone = results.evidence["test"][0].interval("b")
    together = results.finalist_intervals["b"]
    assert together[0] < alone[0] < alone[1] < together[1]
    assert "% on 600 test examples, 95 % interval " in pick(results).text
    assert "for all 3 adapters measured there at once" in pick(results).text


def test_the_pick_beside_a_baseline_is_paired(make_tied, make_record, outcomes) -> None:
    rows = [{"name": "head only", "trial_id": "head-1", "metrics": {"test": {"accuracy": 0.8}}}]
    run = make_tied(tested={"b": 0.83}, baselines={"rows": rows})
    run.write_outcomes("b", outcomes(332, "test", 0))
    run.write_outcomes("head-1", outcomes(320, "test", 0))
    results = read_results(run)
    chosen = pick(results)
    found = results.beside_baseline(chosen.chosen, results.baselines.iloc[0].to_dict(), 600)
    # 12 examples apart, all in favour: unpaired, nothing could be said
    assert found.paired and found.told_apart is True
    assert not any("head only" in doubt for doubt in doubts(results, chosen))


def test_doubts_say_how_much_the_best_flatters_and_what_was_left_out(make_tied, outcomes) -> None:
    run = make_tied()
    run.write_outcomes("d", outcomes(250, step=150))
    results = read_results(run)
    text = " ".join(doubts(results, pick(results)))
    assert "None of the other 2 trials that could be compared can be told apart from the best" in text
    assert "flatters by about" in text and "best step flatters too" in text
    assert "1 trial could not be compared with the others example by example on eval" in text
    assert "its outcomes are of step 150, its record of step 200 (1)" in text


def test_without_the_outcomes_of_the_best_nothing_is_said(make_tied) -> None:
    run = make_tied()
    (run.path / "outcomes" / "a.parquet").unlink()
    found = pick(run)
    assert found.ties is None and found.trial_id == "a"


def test_seeds_answer_the_other_question(make_run, make_record, outcomes) -> None:
    rights = {"a": 340, "b": 330, "c": 336}
    records = [make_record(name, right / 400, seed=i) for i, (name, right) in enumerate(rights.items())]
    run = make_run(records)
    for name, right in rights.items():
        run.write_outcomes(name, outcomes(right))
    results = read_results(run)
    found = pick(results)
    (summary,) = configuration_summaries(results, "eval")
    assert summary.seeds == 3 and summary.bounds[1] - summary.bounds[0] > 2 * 4.303 * summary.spread / math.sqrt(3)
    assert "was trained with 3 seeds: mean accuracy on the evaluation data 83.8 %, 95 % interval" in found.text


def test_the_table_marks_ties_and_has_intervals(make_tied) -> None:
    run = make_tied()
    rows = {row.name: row for row in table_rows(run)}
    assert {name: row.tied for name, row in rows.items()} == {"a": True, "b": True, "c": True, "d": False, "s": None}
    assert rows["a"].texts["interval"] == "81.2 to 88.2 %" and rows["d"].texts["tie"] == ""
    assert [row.summary[3:5] for row in summary_table(run)][0] == ("81.2 to 88.2 %", "tie")
    write_tables(run)
    trials = pd.read_csv(run.path / "tables" / "trials.csv").set_index("trial_id")
    assert trials.loc["a", "quality_low"] == pytest.approx(0.812, abs=1e-3)
    assert trials.loc["d", "tied"] in (False, "False") and pd.isna(trials.loc["s", "tied"])


def test_figures_have_error_bars(make_tied) -> None:
    info = figures.get_front_info(make_tied())
    point = next(one for one in info.points if one.trial_id == "a")
    assert point.tied and point.bounds[0] < point.quality < point.bounds[1]
    bars = [trace.error_y for trace in figures.plot_front(info).data if trace.error_y.array is not None]
    assert bars and all(size > 0 for bar in bars for size in (*bar.array, *bar.arrayminus))
    hover = "".join(str(trace.hovertext) for trace in figures.plot_front(info).data)
    assert "95 % interval 81.2 to 88.2 %" in hover and "cannot be told from the best" in hover


def test_perplexity(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "perplexity", "mode": "min"})
    random = np.random.default_rng(0)
    tokens, base = random.integers(5, 40, 300), random.gamma(8.0, 0.25, 300)
    records, frames = [], {}
    for name, factor, parameters in (("a", 1.0, 900), ("b", 1.001, 100), ("c", 1.2, 50)):
        nll = tokens * base * factor * random.normal(1, 0.05, 300)
        records.append(
            make_record(name, math.exp(nll.sum() / tokens.sum()), metric="perplexity", parameters=parameters)
        )
        names = [f"eval:{i}" for i in range(300)]
        frames[name] = pd.DataFrame(
            {"example_id": names, "split": "eval", "step": 200, "nll_sum": nll, "tokens": tokens}
        )
    run = make_run(records, info)
    for name, frame in frames.items():
        run.write_outcomes(name, frame)
    found = pick(run)
    assert found.trial_id == "b" and set(found.ties.member_ids) == {"a", "b"}
    low, high = read_results(run).interval("eval", "b", found.chosen["quality"])
    assert low < found.chosen["quality"] < high and "%" not in found.why[0].replace("95 %", "")


def test_a_stopped_trial_by_name_is_not_compared_with_those_that_trained_to_the_end(make_tied) -> None:
    found = pick(make_tied(tested={"b": 0.83}), trial="s")
    assert list(found.why[1:4]) == [
        "It was not measured on the test data: its 95.0 % (95 % interval 92.8 to 96.6 %) comes from the evaluation "
        "data, which also chose the step that was kept, and may flatter it.",
        "It was left out of the comparison: what was stopped is not compared with what trained to the end.",
        "The pick among those that trained to the end is b (5k parameters, 83.5 % on the evaluation data).",
    ]
    assert "behind" not in found.text and "better than" not in found.text


def test_a_cost_that_others_share_is_not_called_the_only_least(make_run, make_record, outcomes) -> None:
    sizes = {"a": (340, 0, 5_000), "b": (334, 20, 5_000), "c": (336, 15, 20_000)}
    run = make_run([make_record(name, right / 400, parameters=size) for name, (right, _, size) in sizes.items()])
    for name, (right, shift, _) in sizes.items():
        run.write_outcomes(name, outcomes(right, shift=shift))
    assert pick(run).why[0] == (
        "Trial a shares the fewest trainable parameters (5k) with 1 other, which has no better figure, among the 3 "
        "that cannot be told from the best."
    )
    assert (
        "with 2 others, none of which has a better figure, among" in pick(run, cost=CostRule.parse("train-time")).text
    )


@pytest.mark.parametrize(
    ("rights", "text"),
    [
        ((340, 334), " The other trial cannot be told apart from the best."),
        ((340, 250), " The other trial can be told apart from the best."),
        ((340, 334, 336), " None of the other 2 trials can be told apart from the best."),
        ((340, 250, 240), " Each of the other 2 trials can be told apart from the best."),
    ],
)
def test_how_many_others_may_be_as_good(make_run, make_record, outcomes, rights, text) -> None:
    run = make_run([make_record(f"t{right}", right / 400) for right in rights])
    for right in rights:
        run.write_outcomes(f"t{right}", outcomes(right, shift={334: 20, 336: 15}.get(right, 0)))
    results = read_results(run)
    assert any(doubt.endswith(text) for doubt in doubts(results, pick(results)))
