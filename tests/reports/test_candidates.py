"""Trials and their cuts as candidates: one frame, one tie set, one front."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from reports import figures, pick, read_results, write_tables
from reports.candidates import describe
from reports.doubts import doubts
from reports.figure_info import front_frame, get_front_info
from reports.statistics import read_outcomes
from reports.table import table_rows

# `a` is the best trial: one cut as good and small, one clearly worse
CUTS = {"a@rank1": (250, 0, 700), "a@rank4": (341, 0, 3_000), "a@layer-energy90": (338, 10, 4_000)}


def names(frame) -> list[str]:
    return list(frame["trial_id"])


def test_cuts_have_their_own_size_and_figures_and_the_time_of_their_trial(make_tied, add_cuts, add_latency) -> None:
    run = make_tied(tested={"a": 0.84})
    add_cuts(run, CUTS)
    add_latency(run, {"a": 7.0})
    rows = read_results(run).candidates.set_index("trial_id").to_dict("index")
    assert set(rows) == {"a", "b", "c", "d", "s", *CUTS}
    cut, source = rows["a@rank4"], rows["a"]
    assert (cut["kind"], cut["source"], cut["rank_text"], cut["made"]) == ("cut", "a", "4", "cut to rank 4")
    assert (cut["trainable_parameters"], cut["adapter_bytes"]) == (3_000, 12_000)
    assert cut["quality"] == cut["eval_accuracy"] == 341 / 400
    assert cut["alpha"] / cut["rank"] == source["alpha"] / source["rank"]
    assert cut["device_seconds"] == source["device_seconds"] and cut["step"] == source["step"]
    assert math.isnan(cut["test_quality"]) and source["test_quality"] == 0.84
    assert source["latency_seconds"] == pytest.approx(0.007) and math.isnan(cut["latency_seconds"])
    energy = {"trial_id": "a@layer-energy90", **rows["a@layer-energy90"]}
    assert energy["rank_text"] == "1 to 3" and math.isnan(energy["alpha"])
    assert describe(energy) == (
        "Trial a cut to 90 % of every layer's energy (ranks 1 to 3) by SVD, with no further training"
    )
    assert describe({"trial_id": "a", **source}) == "Trial a"


def test_what_is_no_candidate(make_run, make_record, add_cuts) -> None:
    repeat = make_record("a-seed2", 0.99).model_copy(update={"repeat_of": "a"})
    records = [make_record("a", 0.8), make_record("s", 0.9, status="stopped", reached=50), repeat]
    run = make_run([*records, make_record("f", 0.9, status="failed", error="x")])
    add_cuts(run, {f"{name}@rank2": (390, 0, 50) for name in ("a-seed2", "s", "f", "gone")} | {"a@rank2": (300, 0, 50)})
    assert names(read_results(run).candidates) == ["a", "s", "a@rank2"]
    assert pick(run).trial_id == "a"
    broken = make_run([make_record("a", 0.8)], name="broken")
    add_cuts(broken, {"a@rank2": (300, 0, 50)}, metrics={"accuracy": math.nan})
    assert names(read_results(broken).candidates) == ["a"]


def test_no_trial_no_candidate(make_run) -> None:
    results = read_results(make_run())
    assert len(results.candidates) == 0 and not results.has_cuts and results.tied is None
    assert get_front_info(results).points == ()


def test_what_was_measured_at_an_export_is_the_test_figure(make_tied, add_cuts, outcomes) -> None:
    run = make_tied(tested={"a": 0.84})
    add_cuts(run, CUTS)
    rows = [
        {"trial_id": "a@rank4", "metrics": {"test": {"accuracy": 0.8325}}, "examples": 400},
        {"trial_id": "b", "metrics": {"test": {"accuracy": 0.8}}, "examples": 400},
        {"trial_id": "a", "metrics": {"test": {"accuracy": 0.5}}, "examples": 400},
        {"trial_id": "c", "metrics": {}, "examples": 0},
    ]
    run.write_analysis("exports", {"rows": rows})
    run.write_outcomes("a@rank4", outcomes(333, "test", 0))
    run.write_outcomes("a", outcomes(336, "test", 0))
    results = read_results(run)
    found = results.candidates.set_index("trial_id")["test_quality"]
    assert found["a@rank4"] == 0.8325 and found["b"] == 0.8 and math.isnan(found["c"])
    assert found["a"] == 0.84, "a finalist's figure stands first"
    assert results.trials.set_index("trial_id").loc["b", "test_quality"] == 0.8
    chosen = pick(results)
    assert chosen.trial_id == "a@rank4"
    assert chosen.why[1].startswith("Test accuracy: 83.2 % on 400 test examples, 95 % interval")
    assert "for all 2 adapters measured there at once" in chosen.why[1]


def test_cuts_count_in_the_tie_set_and_in_every_correction(make_tied, add_cuts) -> None:
    run = make_tied()
    alone = read_results(run)
    many = {f"c@rank{2**i}": (336 - i, 7 * i, 30_000 + i) for i in range(8)}
    add_cuts(run, CUTS | many)
    together = read_results(run)
    assert set(together.ties().trial_ids) == {"a", "b", "c", "d", *CUTS, *many}
    assert together.tied == {"a", "b", "c"} and {"a@rank4", "a"} < together.tied_candidates
    assert "a@rank1" not in together.tied_candidates
    # the more were looked at, the less the lead of one says, and the more the best of them flatters
    first, second = alone.evidence["eval"][0], together.evidence["eval"][0]
    assert together.ties().at_most_behind("b") > alone.ties().at_most_behind("b")
    assert second.optimism() > first.optimism()


def test_the_cap_holds_and_is_said(make_tied, add_cuts, monkeypatch) -> None:
    run = make_tied()
    add_cuts(run, CUTS)
    monkeypatch.setattr("reports.results.MOST_COMPARED", 3)
    monkeypatch.setattr("reports.doubts.MOST_COMPARED", 3)
    results = read_results(run)
    found = pick(results)
    assert found.ties.trial_ids == ("a@rank4", "a", "a@layer-energy90") and found.candidates == 7
    assert "Compared: 3 of the 7 candidates (4 complete trials and 3 cuts of them)" in found.text
    assert "The other 4 were not tested: the best may be among them." in found.text
    assert "Only the 3 leading of 7 candidates were compared with the best; the others were not tested." in doubts(
        results, found
    )


def test_what_was_not_compared_is_neither_tied_nor_ruled_out(make_tied, monkeypatch) -> None:
    run = make_tied()
    monkeypatch.setattr("reports.results.MOST_COMPARED", 2)
    results = read_results(run)
    assert [results.tied_with_best(name) for name in "acbds"] == [True, True, None, None, None]
    marks = {row.name: (row.tied, row.texts["tie"]) for row in table_rows(results)}
    assert marks["a"] == (True, "tie") and marks["d"] == (None, "–")


def test_a_trial_without_outcomes_is_not_ruled_out(make_tied) -> None:
    run = make_tied()
    for name in "bcd":
        (run.path / "outcomes" / f"{name}.parquet").unlink()
        results = read_results(run)
        found = pick(results)
        assert results.tied_with_best(name) is None and found.trial_id != name
    # `a` alone is left of four: it is not the only complete one, and nothing says that it is the best
    assert "only complete" not in found.text and "alone can be the best" not in found.text
    assert "No other of the 4 complete trials could be compared with it" in found.text
    assert not any("0 of the other" in doubt for doubt in doubts(results, found))


def test_a_limit_beyond_the_cap_compares_those_within_it(make_tied, add_cuts, monkeypatch) -> None:
    from reports import Limits

    run = make_tied()
    add_cuts(run, CUTS)
    monkeypatch.setattr("reports.results.MOST_COMPARED", 2)
    found = pick(run, limits=Limits(max_parameters=1_000))
    assert set(found.ties.trial_ids) == {"a@rank1", "d"} and found.trial_id == "a@rank1"
    assert found.against_best.paired and found.against_runner_up.paired


def test_the_front_holds_cuts_as_the_naive_one_does(make_run, make_record, add_cuts) -> None:
    random = np.random.default_rng(11)
    # few values, so that equals are common
    records = [
        make_record(f"t{i}", float(random.integers(300, 320)) / 400, parameters=int(random.integers(1, 9)) * 1000)
        for i in range(12)
    ]
    run = make_run(records)
    add_cuts(
        run,
        {f"t{i}@rank{k}": (int(random.integers(300, 320)), 0, 1000 * k) for i in range(12) for k in (2, 4, 8)},
    )
    frame = front_frame(read_results(run), "trainable_parameters")
    rows = list(zip(frame["trainable_parameters"], -frame["quality"], strict=True))
    naive = [not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in rows) for a in rows]
    assert frame["on_front"].tolist() == naive and len(frame) == 48
    assert set(frame.loc[frame["on_front"], "kind"]) == {"cut", "trial"}


def test_figures_and_tables_tell_cuts_from_trials(make_tied, add_cuts) -> None:
    run = make_tied()
    add_cuts(run, CUTS)
    info = get_front_info(run)
    assert {point.trial_id for point in info.points if point.is_cut} == set(CUTS)
    assert [point.label for point in info.front] == ["@rank1", "@rank4"]
    cuts = [trace for trace in figures.plot_front(info).data if trace.marker.symbol == "asterisk-open"]
    assert sum(len(trace.x) for trace in cuts) == 3 and cuts[0].name == "attention-qv, cut"
    assert "trial a cut to rank 4" in "".join(cuts[0].hovertext)
    # a cut took the time that its trial took: on time it has nothing to show
    assert not any(point.is_cut for point in get_front_info(run, "device_seconds").points)
    assert not any(point.is_cut for point in figures.get_rank_info(run).points)
    write_tables(run)
    pareto = pd.read_csv(run.path / "tables" / "pareto.csv").set_index("trial_id")
    assert pareto.loc["a@rank4", "kind"] == "cut" and pareto.loc["a@rank4", "source"] == "a"
    assert not pareto.loc[list(set(pareto.index) & set(CUTS)), "front_device_seconds"].any()


def test_rank_curves_show_trials_as_trained(make_tied, add_cuts) -> None:
    from reports.analysis_info import get_rank_curves_info

    run = make_tied()
    add_cuts(run, CUTS)
    info = get_rank_curves_info(run)
    assert info is not None and {name for name, *_ in info.trained} == {"a", "b", "c", "d"}


def test_cuts_are_read_at_the_step_of_their_trial(make_tied, add_cuts, outcomes) -> None:
    run = make_tied()
    add_cuts(run, CUTS)
    run.write_outcomes("a@rank4", outcomes(341, step=100))
    results = read_results(run)
    assert results.evidence["eval"][1].left_out == {"a@rank4": "its outcomes are of step 100, its record of step 200"}
    # the best has no comparable answers: nothing is said about the others
    assert results.ties() is None and pick(results).trial_id == "a@rank4"
    assert read_outcomes(run, ["a"], "eval").trial_ids == ("a",)
