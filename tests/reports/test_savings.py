"""Cost and what was saved, and the dynamics of the leading trials."""

from __future__ import annotations

import math

import pytest

from lora_sweep.records import EvalPoint, WeightNorms
from reports import read_results, trial_frame, write_tables
from reports.dynamics import MOST_TRIALS, get_dynamics_info, plot_norms, plot_rate
from reports.page_dynamics import dynamics_figures_of
from reports.savings import get_savings, savings_texts


def test_what_stopping_and_packing_saved(make_run, make_record) -> None:
    solo = {"solo_seconds": 30.0, "solo_source": "probed"}
    records = [
        make_record("a", 0.8, cost={"device_seconds": 20.0} | solo),
        make_record("s", 0.6, status="stopped", reached=50, cost={"device_seconds": 6.0} | solo),
        make_record("f", None, status="failed", reached=0, error="x", cost={"device_seconds": 1.0}),
        make_record("a-seed2", 0.7, cost={"device_seconds": 10.0}).model_copy(update={"repeat_of": "a"}),
    ]
    baselines = {"rows": [{"name": "head", "metrics": {}, "device_seconds": 3.0}]}
    found = get_savings(make_run(records, {"devices": [{"busy_seconds": 44.0}]}, baselines))
    assert (found.trained.steps, found.trained.tokens, found.trained.device_seconds) == (450, 135_000, 37.0)
    # 150 of 200 steps were spared, each at 300 tokens and 6 / 50 seconds
    assert (found.spared.steps, found.spared.tokens, found.spared.device_seconds) == (150, 45_000, pytest.approx(18.0))
    assert found.stopped == 1 and found.repeat_trials == 1 and found.repeats.device_seconds == 10.0
    assert found.packing.trials == 2 and found.packing.saved == pytest.approx(34.0)
    assert found.other_seconds == pytest.approx(4.0)
    said = savings_texts(make_run(records, {"devices": [{"busy_seconds": 44.0}]}, baselines, name="again"))
    assert [row[0] for row in said.rows] == [
        "Trained and evaluated", "of it again with other seeds (1)", "Spared by stopping 1 early, about"
    ]  # fmt: skip
    text = " ".join(said.sentences)
    assert "spared about 33 % of the device time" in text and "34 s less" in text and "4 s of it belongs to" in text


def test_packing_that_did_not_pay_is_said(make_run, make_record) -> None:
    cost = {"device_seconds": 40.0, "solo_seconds": 30.0, "solo_source": "probed"}
    text = " ".join(savings_texts(make_run([make_record("a", 0.8, cost=cost)])).sentences)
    assert "10 s more, so packing shows no gain here" in text


def test_nothing_stopped_nothing_probed(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.8)], info={})
    assert get_savings(run).packing is None and len(savings_texts(run).rows) == 1
    assert savings_texts(run).sentences == (
        "How much of the trials' device time their evaluations took is not on record.",
    )
    assert savings_texts(make_run(name="empty")).rows == (("Trained and evaluated", "–", "–", "–"),)


def test_what_evaluations_took(make_run, make_record) -> None:
    noted = {"device_seconds": 20.0, "evaluation_seconds": 4.0}
    records = [make_record("a", 0.8, cost=noted), make_record("b", 0.7, cost=noted)]
    records.append(make_record("f", None, status="failed", reached=0, cost={"device_seconds": 0.0}))
    run = make_run(records)
    assert get_savings(run).evaluation_seconds == 8.0
    assert savings_texts(run).rows[1] == ("of it evaluations", "–", "–", "8 s (20 %)")
    assert trial_frame(run)["evaluation_seconds"].tolist()[:2] == [4.0, 4.0]
    # of a run that went on with records from before, a part is unknown
    run.append_record(make_record("old", 0.6))
    assert math.isnan(get_savings(run).evaluation_seconds)


def with_norms(record, rate: float | None = 1e-3):
    history = tuple(
        EvalPoint(
            step=s, metrics={"accuracy": 0.5}, learning_rate=rate, norms=WeightNorms(a=3, b=s / 100, update=s / 50)
        )
        for s in (50, 100)
    )
    return record.model_copy(update={"history": history})


def test_dynamics_of_the_leading_trials(make_run, make_record) -> None:
    records = [with_norms(make_record(f"t{i}", 0.5 + i / 100)) for i in range(8)]
    records += [with_norms(make_record("s", 0.99, status="stopped", reached=100))]
    run = make_run(records)
    info = get_dynamics_info(run)
    assert [one.trial_id for one in info] == ["t7", "t6", "t5", "t4", "t3"] and len(info) == MOST_TRIALS
    assert info[0].steps == (50, 100) and info[0].b == (0.5, 1.0) and info[0].update == (1.0, 2.0)
    assert len(plot_norms(info, "b").data) == 5 and plot_rate(info).data[0].y == (1e-3, 1e-3)
    assert {key for key, *_ in dynamics_figures_of(read_results(run))} == {
        "dynamics-update", "dynamics-b", "dynamics-a", "dynamics-rate"
    }  # fmt: skip
    curves = next(file for file in write_tables(run) if file.stem == "curves").read_text()
    assert "norm_a,norm_b,norm_update" in curves.splitlines()[0]


def test_norms_that_were_not_noted(make_run, make_record) -> None:
    info = get_dynamics_info(make_run([make_record("a", 0.8)]))
    assert plot_norms(info, "update") is None and plot_rate(info) is None
    assert get_dynamics_info(make_run(name="empty")) == ()
