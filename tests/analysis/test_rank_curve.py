from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lora_sweep.adapters import read_adapter
from lora_sweep.analysis.rank_curve import measure_rank_curves, plan_cuts
from lora_sweep.analysis.session import AnalysisSession, open_session


def test_a_curve_holds_all_that_a_figure_needs(session: AnalysisSession) -> None:
    records = session.leading(1)
    before = session.run.outcomes(records[0].trial_id)
    measured = measure_rank_curves(session, records)
    assert session.run.analysis("rank_curves") == measured
    assert (measured["metric"], measured["split"], measured["examples"]) == ("accuracy", "eval", 80)
    (trial,) = measured["trials"]
    whole, *cuts = trial["cuts"]
    assert whole["name"] == trial["trial_id"] == records[0].trial_id and whole["method"] == "whole"
    assert whole["metrics"] == pytest.approx(trial["recorded"], rel=1e-5)  # evaluated again: the same
    assert whole["parameters"] == records[0].trainable_parameters
    uniform = [one for one in cuts if one["method"] == "uniform"]
    powers = [2**i for i in range(10) if 2**i < records[0].config.rank]
    assert [one["amount"] for one in uniform] == powers
    assert [one["adapter_parameters"] for one in uniform] == [
        power * records[0].adapter_parameters // records[0].config.rank for power in powers
    ]
    assert all(0 < one["energy"] <= 1 + 1e-9 for one in cuts)
    again = session.run.outcomes(records[0].trial_id)
    assert before is not None and again is not None and before.equals(again)


def test_a_cut_is_a_candidate_with_its_own_adapter_and_outcomes(session: AnalysisSession) -> None:
    (record,) = session.leading(1)
    (trial,) = measure_rank_curves(session, [record])["trials"]
    row = trial["cuts"][1]
    assert row["name"] == f"{record.trial_id}@rank1"
    outcomes = session.run.outcomes(row["name"])
    assert outcomes is not None and set(outcomes["step"]) == {record.step}
    assert float((outcomes["label"] == outcomes["prediction"]).mean()) == pytest.approx(row["metrics"]["accuracy"])
    folder = session.run.adapter_dir(row["name"])
    assert (folder / "adapter_model.safetensors").stat().st_size == row["adapter_bytes"]
    scores = session.engine.score(folder, "eval")
    np.testing.assert_allclose(np.stack(outcomes["logits"]), scores.logits, rtol=1e-4, atol=1e-5)


def test_no_two_cuts_are_the_same(session: AnalysisSession) -> None:
    adapter = session.adapter("all")
    cuts = plan_cuts("all", adapter, shares=(0.001, 0.5, 0.5, 0.9, 1.0))
    ranks = [tuple(one.ranks.values()) for one in cuts]
    assert len(set(ranks)) == len(ranks) and ranks[0] == (4,) * len(ranks[0])
    assert len({one.name for one in cuts}) == len(cuts)
    assert cuts[0].adapter is adapter


def test_a_rank_of_1_cannot_be_cut_uniformly(make_run: Any) -> None:
    run = make_run({"one": {"rank": 1, "target_modules": "attention-qv"}})
    cuts = plan_cuts("one", read_adapter(run.adapter_dir("one")))
    assert not [one for one in cuts if one.method == "uniform"]


def test_a_language_model(make_run: Any, causal_raw: Any, llama_dir: Any) -> None:
    run = make_run({"t": {"rank": 4, "target_modules": "attention"}}, **causal_raw(llama_dir))
    session = open_session(run, "cpu", holdout_examples=16)
    (trial,) = measure_rank_curves(session, session.leading(3))["trials"]
    assert trial["cuts"][0]["metrics"] == pytest.approx(trial["recorded"], rel=1e-5)
    outcomes = run.outcomes("t@rank2")
    loss = outcomes["nll_sum"].sum() / outcomes["tokens"].sum()
    assert loss == pytest.approx(next(c for c in trial["cuts"] if c["name"] == "t@rank2")["metrics"]["loss"], rel=1e-6)
