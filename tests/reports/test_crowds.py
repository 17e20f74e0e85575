"""Many trials in one figure: who is drawn, and what the band says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports import figures, page_figures
from reports.crowds import LEADING, MOST_CURVES, MOST_POINTS, drawn_singly, leading_ids, quantile_band
from reports.figure_info import front_frame, get_front_info
from reports.results import read_results


@pytest.fixture
def crowd(make_run: Any, make_record: Any) -> Any:
    """70 trials: 40 complete, 30 stopped at half of the steps; the last one is a finalist, and the worst."""
    rng = np.random.default_rng(3)
    records = [
        make_record(
            f"t{i:02d}",
            0.4 if i == 69 else 0.5 + 0.4 * rng.random(),
            status="stopped" if i % 7 < 3 else "complete",
            reached=100 if i % 7 < 3 else 200,
            rank=int(2 ** (i % 5)),
            parameters=1000 * (1 + i % 9),
        )
        for i in range(70)
    ]
    return make_run(records, tested={"t69": 0.6})


def test_a_scatter_plot_keeps_what_matters_and_the_proportions(crowd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.crowds.MOST_POINTS", 45)
    results = read_results(crowd)
    trials = front_frame(results, "trainable_parameters")
    drawn = drawn_singly(trials, results)
    assert len(drawn) == 45
    kept = {*leading_ids(results), *trials[trials["on_front"]]["trial_id"]}
    assert kept <= set(drawn["trial_id"]) and "t69" in kept and len(leading_ids(results)) == LEADING + 1
    others = trials[~trials["trial_id"].isin(kept)]["quality"]
    sampled = drawn[~drawn["trial_id"].isin(kept)]["quality"]
    assert (sampled.min(), sampled.max()) == (others.min(), others.max())
    assert len(sampled) < len(others)
    assert sampled.median() == pytest.approx(others.median(), abs=0.02)
    info = get_front_info(crowd)
    assert (len(info.points), info.total) == (45, 70) and len(info.front) == int(trials["on_front"].sum())


def test_all_points_are_drawn_up_to_the_limit(crowd: Any) -> None:
    info = get_front_info(crowd)
    assert len(info.points) == info.total == 70 <= MOST_POINTS


def test_many_curves_become_a_band_of_all_trials(crowd: Any) -> None:
    results = read_results(crowd)
    info = figures.get_learning_curves_info(results)
    assert info.total == 70 > MOST_CURVES and info.band is not None
    assert {curve.trial_id for curve in info.curves} == set(leading_ids(results))
    assert (info.band.steps, info.band.trials) == ((50, 100, 150, 200), (70, 70, 40, 40))
    at = results.points[results.points["step"] == 150]["quality"]
    expected = np.quantile(at, [0.1, 0.5, 0.9])
    assert (info.band.low[2], info.band.median[2], info.band.high[2]) == pytest.approx(tuple(expected))
    figure = figures.plot_learning_curves(info)
    assert [trace.name for trace in figure.data[:3]][1] == "middle 80 % of 70 trials"
    assert figure.data[1].fill == "tonexty" and figure.data[0].y == info.band.low
    caption = {key: caption for key, _, caption, _ in page_figures.run_figures_of(results)}["curves"]
    assert "all 70 trials" in caption and "70 trials reached step 50, 40 step 200" in caption


def test_a_few_curves_have_no_band(full_run: Any) -> None:
    info = figures.get_loss_curves_info(full_run)
    assert info.band is None and len(info.curves) == info.total == 15


def test_many_different_steps_are_joined() -> None:
    rows = [(f"t{i}", step, float(step)) for i in range(20) for step in range(1 + i, 1001, 20)]
    points = pd.DataFrame(rows, columns=["trial_id", "step", "quality"])
    band = quantile_band(points, "quality")
    assert band.steps == tuple(range(20, 1001, 20)) and set(band.trials) == {20}
    assert all(step - 20 < low < high <= step for step, low, high in zip(band.steps, band.low, band.high, strict=True))


def test_a_loss_curve_names_the_best_trial(make_run: Any, make_record: Any, make_info: Any) -> None:
    info = make_info(metric={"name": "perplexity", "mode": "min"})
    run = make_run([make_record("a", 12.0, metric="perplexity"), make_record("b", 9.5, metric="perplexity")], info)
    captions = {key: caption for key, _, caption, _ in page_figures.run_figures_of(read_results(run))}
    assert "The best, b, was trained at" in captions["rate"] and captions["losses"].count("Trial b:") == 1
