"""What mattered: what is compared, what the forests find, and how it is shown."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_sweep.records import EvalPoint
from reports import read_results
from reports.advice import advise
from reports.dynamics import get_dynamics_info
from reports.importance import (
    comparable,
    get_map_info,
    get_mattered_info,
    get_parallel_info,
    get_sweet_spots,
)
from reports.importance import figures as drawn
from reports.importance.comparable import sampled
from reports.importance.landscape import MOST_LINES
from reports.importance.mattered import MOST_DOTS, MOST_FITTED
from reports.importance.surrogate import fit_surrogate
from reports.page_mattered import mattered_part
from reports.savings import savings_texts


def points(values: list[float], every: int = 50) -> tuple[EvalPoint, ...]:
    return tuple(EvalPoint(step=every * i, metrics={"accuracy": value}) for i, value in enumerate(values, start=1))


@pytest.fixture
def make_varied(make_run, make_record):
    """Trials whose accuracy follows from rate and rank alone, with a little noise."""

    def make(number: int, noise: float = 0.005, seed: int = 0, **settings: Any):
        rng, records = random.Random(seed), []
        for i in range(number):
            rank, rate = rng.choice([2, 4, 8, 16]), 10 ** rng.uniform(-4, -2)
            quality = 0.8 - 0.06 * (math.log10(rate) + 2.6) ** 2 + 0.01 * math.log2(rank) + rng.gauss(0, noise)
            labels = {"target_label": rng.choice(["qv", "all"]), "dropout": rng.choice([0.0, 0.1])}
            own = {"rank": rank, "alpha": 2.0 * rank, "learning_rate": rate} | labels | settings
            records.append(make_record(f"t{i:05d}", quality, parameters=1000 * rank, **own))
        return make_run(records, name=f"varied-{number}-{seed}-{len(settings)}")

    return make


# What is compared ----------------------------------------------------------------------------------------------


def test_complete_trials_are_judged_by_their_kept_evaluation(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.7, rank=4, alpha=8.0), make_record("b", 0.8, rank=16, alpha=32.0)])
    table = comparable(read_results(run))
    assert table.final and table.when == "at the kept evaluation" and list(table.trials["value"]) == [0.7, 0.8]
    assert [one.name for one in table.varied] == ["rank"] and table.values_of(table.varied[0]) == [4.0, 16.0]


def test_stopped_trials_bring_all_back_to_the_last_common_evaluation(make_run, make_record) -> None:
    records = [
        make_record("a", 0.9, rank=4).model_copy(update={"history": points([0.5, 0.6, 0.7, 0.9])}),
        make_record("b", 0.8, rank=8).model_copy(update={"history": points([0.6, 0.7, 0.75, 0.8])}),
        make_record("s", 0.7, rank=16, status="stopped", reached=100).model_copy(
            update={"history": points([0.4, 0.7])}
        ),
        make_record("f", None, status="failed", error="x"),
        make_record("a-seed2", 0.1, rank=4).model_copy(update={"repeat_of": "a"}),
    ]
    table = comparable(read_results(make_run(records)))
    assert dict(zip(table.trials["trial_id"], table.trials["value"], strict=True)) == {"a": 0.6, "b": 0.7, "s": 0.7}
    assert table.when == "at step 100 of 200" and not table.final
    assert table.why.startswith("1 trial did not train to the end, so all are compared at step 100 of 200, the last")


def test_batch_sizes_with_other_steps_meet_at_the_same_evaluation(make_run, make_record) -> None:
    records = [
        make_record("a", 0.9, batch_size=8).model_copy(update={"history": points([0.5, 0.9], every=100)}),
        make_record("s", 0.7, batch_size=16, steps=100, status="stopped", reached=50).model_copy(
            update={"history": points([0.4])}
        ),
    ]
    table = comparable(read_results(make_run(records)))
    assert list(table.trials["value"]) == [0.5, 0.4] and table.when == "at evaluation 1, about 50 % of the budget"


def test_trials_without_lora_and_without_evaluations_are_left_out(make_run, make_record) -> None:
    records = [
        make_record("a", 0.7, rank=4),
        make_record("b", 0.8, rank=8),
        make_record("head", 0.6, target_label="", target_modules=()),
        make_record("s", None, status="stopped", reached=0),
    ]
    table = comparable(read_results(make_run(records)))
    assert set(table.trials["trial_id"]) == {"a", "b"} and table.left_out == 2


def test_sampled() -> None:
    assert list(sampled(3, 5)) == [0, 1, 2]
    drawn_rows = sampled(1000, 10)
    assert len(set(drawn_rows)) == 10 == len(drawn_rows) and list(drawn_rows) == sorted(drawn_rows)
    assert drawn_rows == sampled(1000, 10)


def test_what_is_not_known_is_left_out(make_varied) -> None:
    """Results of other programs may lack any setting."""
    results = read_results(make_varied(12))
    unknown = ["rank", "alpha_over_rank", "steps", "reached_step", "tokens", "device_seconds", "trainable_parameters"]
    trials = results.trials.assign(**dict.fromkeys(unknown, math.nan), status=["complete", "stopped"] * 6)
    part = mattered_part(replace(results, trials=trials))
    assert part is not None and "over-rank" not in part.marginals and "over-learning_rate" in part.marginals
    assert "are compared at evaluation 4, the last" in part.sentences[0]
    assert get_dynamics_info(replace(results, trials=trials)) and advise(replace(results, trials=trials)) is not None
    assert savings_texts(replace(results, trials=trials)).rows[0] == ("Trained and evaluated", "–", "–", "–")


# What the forests find -----------------------------------------------------------------------------------------


def linear(trials: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """y = 2 a + b + noise of four uniform numbers: shares of the variance 4/5 and 1/5 times what is no noise."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(-1, 1, (trials, 4))
    return [table[:, [k]] for k in range(4)], 2 * table[:, 0] + table[:, 1] + rng.normal(0, 0.1, trials)


def test_shares_of_a_known_function() -> None:
    columns, values = linear(400, 0)
    found = fit_surrogate(columns, values, [np.array([[-0.8], [0.8]])] * 4, resamples=40)
    assert found.r_squared > 0.95 and found.r_squared_bounds[0] > 0.9
    assert found.importance == pytest.approx([0.8, 0.2, 0, 0], abs=0.06)
    assert (found.bounds[:2, 0] > 0).all() and (found.bounds[2:, 0] <= 0.005).all()
    rise = [curve[1, 0] - curve[0, 0] for curve in found.dependence]
    assert rise == pytest.approx([3.2, 1.6, 0, 0], abs=0.3)
    assert all((curve[:, 1] <= curve[:, 0]).all() and (curve[:, 0] <= curve[:, 2]).all() for curve in found.dependence)


def test_the_same_seed_gives_the_same_figures() -> None:
    columns, values = linear(30, 1)
    first, second = (fit_surrogate(columns, values, [np.zeros((1, 1))] * 4, resamples=10) for _ in range(2))
    assert (first.importance == second.importance).all() and first.r_squared_bounds == second.r_squared_bounds


def test_intervals_of_what_does_nothing_hold_nothing() -> None:
    """15 sweeps of 25 trials: the inert hyperparameters' intervals reach 0 in nearly all, the leading one's in none."""
    inert, leading = 0, 0
    for seed in range(15):
        columns, values = linear(25, seed)
        bounds = fit_surrogate(columns, values, [np.zeros((1, 1))] * 4, resamples=40, seed=seed).bounds
        inert += int((bounds[2:, 0] <= 0).sum())
        leading += int(bounds[0, 0] > 0)
    assert inert >= 28 and leading == 15


def test_noise_alone_is_said_to_be_noise(make_run, make_record) -> None:
    rng = random.Random(3)
    records = [
        make_record(
            f"t{i}", 0.7 + rng.gauss(0, 0.02), rank=rng.choice([2, 4, 8]), learning_rate=10 ** rng.uniform(-4, -2)
        )
        for i in range(24)
    ]
    results = read_results(make_run(records))
    info = get_mattered_info(results)
    assert info.weak and info.r_squared < 0.3
    said = " ".join(mattered_part(results).sentences)
    assert "mean nothing" in said or "hints at most" in said


def test_what_mattered(make_varied) -> None:
    results = read_results(make_varied(80))
    info = get_mattered_info(results)
    assert [row.hyperparameter.name for row in info.rows][:2] == ["learning_rate", "rank"] and not info.weak
    assert info.fitted == 80 and info.missing == "" and info.entangled == ()
    rate = info.marginals[0]
    best = max(rate.curve, key=lambda point: point.middle)
    assert 5e-4 < best.x < 1e-2 and rate.values == () and len(rate.dots) == 80
    rank = info.marginals[1]
    assert rank.values == (2.0, 4.0, 8.0, 16.0) and rank.curve[0].middle < rank.curve[-1].middle
    part = mattered_part(results)
    assert "A forest was fitted to 80 trials." in part.sentences[1] and part.sentences[2].startswith("More than chance")


def test_too_few_trials_have_marginals_alone(make_varied) -> None:
    results = read_results(make_varied(8))
    info = get_mattered_info(results)
    assert info.rows == () and "8 trials can be compared, which is too few" in info.missing
    rank = next(one for one in info.marginals if one.hyperparameter.name == "rank")
    assert rank.curve and all(point.low == point.middle == point.high for point in rank.curve)
    part = mattered_part(results)
    assert "mattered" not in {key for key, *_ in part.figures} and "over-rank" in part.marginals


def test_entangled_hyperparameters_are_named(make_run, make_record) -> None:
    rates = {2: 1e-4, 4: 3e-4, 8: 1e-3, 16: 3e-3}
    records = [
        make_record(f"t{i}", 0.7 + 0.001 * i, rank=rank, alpha=2.0 * rank, learning_rate=rates[rank] * (1 + 0.01 * i))
        for i, rank in enumerate([2, 4, 8, 16] * 4)
    ]
    results = read_results(make_run(records))
    ((first, second, size),) = get_mattered_info(results).entangled
    assert {first, second} == {"rank", "learning rate"} and size > 0.9
    assert "Rank and learning rate went together" in " ".join(mattered_part(results).sentences)


@pytest.mark.parametrize("qualities", [[0.7] * 12, [0.7]])
def test_nothing_to_explain(make_run, make_record, qualities) -> None:
    records = [make_record(f"t{i}", q, rank=2 ** (i % 3)) for i, q in enumerate(qualities)]
    info = get_mattered_info(make_run(records))
    assert info.rows == () and info.missing


def test_an_empty_run(make_run) -> None:
    assert mattered_part(read_results(make_run())) is None


# How it is shown -----------------------------------------------------------------------------------------------


def test_lines_over_all_hyperparameters(make_varied) -> None:
    info = get_parallel_info(comparable(read_results(make_varied(40))))
    assert info is not None and len(info.lines) == 40 == info.total
    assert [axis.title for axis in info.axes][-1] == "accuracy" and len(info.axes) == 5
    assert [line.value for line in info.lines] == sorted(line.value for line in info.lines)
    assert info.lines[-1].heights[-1] == 1.0 and info.lines[0].heights[-1] == 0.0
    assert all(-0.05 <= height <= 1.05 for line in info.lines for height in line.heights)


def test_the_best_end_is_on_top_for_a_loss(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "loss", "mode": "min"})
    records = [
        make_record(f"t{i}", 1.0, metric="loss", rank=2**i, learning_rate=1e-3 * (i + 1)).model_copy(
            update={"metrics": {"loss": 3.0 - i}}
        )
        for i in range(3)
    ]
    found = get_parallel_info(comparable(read_results(make_run(records, info))))
    assert found is not None and found.lines[-1].value == 1.0 and found.lines[-1].heights[-1] == 1.0


def test_a_map_of_dots_or_of_cells(make_varied, make_run, make_record) -> None:
    dots = get_map_info(comparable(read_results(make_varied(30))))
    assert dots is not None and len(dots.points) == 30 and dots.cells == ()
    records = [
        make_record(f"{rank}-{rate}-{i}", 0.6 + rank / 100 + i / 100, rank=rank, learning_rate=rate)
        for rank in (2, 8)
        for rate in (1e-3, 2e-3)
        for i in range(3)
    ]
    cells = get_map_info(comparable(read_results(make_run(records))))
    assert cells is not None and cells.points == ()
    assert (1e-3, 2.0, pytest.approx(0.63), 3) in cells.cells and len(cells.cells) == 4
    assert drawn.plot_map(cells).data[0].type == "heatmap" and drawn.plot_map(dots).data[0].type == "scatter"


def test_no_figure_needs_code_built_in_the_browser(make_varied) -> None:
    """plotly's WebGL traces call `Function`, which the page's security policy forbids."""
    part = mattered_part(read_results(make_varied(30)))
    kinds = {trace.type for *_, figure in part.figures for trace in figure.data}
    assert kinds <= {"scatter", "bar", "heatmap"} and len(part.figures) == 7


def test_markup_in_names_is_text(make_run, make_record) -> None:
    records = [make_record(f"<b>{i}</b>", 0.6 + i / 50, target_label=("<i>x</i>", "y")[i % 2]) for i in range(12)]
    part = mattered_part(read_results(make_run(records)))
    assert part.figures and all("<i>x" not in figure.to_json() for *_, figure in part.figures)


def test_many_trials_are_sampled(make_varied) -> None:
    results = read_results(make_varied(1500))
    info = get_mattered_info(results)
    assert info.fitted == MOST_FITTED and len(info.marginals[0].dots) == MOST_DOTS
    lines = get_parallel_info(info.table)
    assert lines is not None and len(lines.lines) == MOST_LINES and lines.total == 1500
    leading = sorted(info.table.trials["value"])[-MOST_LINES // 2 :]
    assert [line.value for line in lines.lines[-MOST_LINES // 2 :]] == leading
    assert "to 600 trials, drawn at random from 1,500" in mattered_part(results).sentences[1]


# The sweet spot ------------------------------------------------------------------------------------------------


def test_sweet_spots(make_run, make_record) -> None:
    records = [
        make_record("a", 0.70, rank=4, alpha=8.0, parameters=100),
        make_record("b", 0.74, rank=4, alpha=4.0, parameters=120),
        make_record("c", 0.90, rank=16, alpha=32.0, parameters=400),
        make_record("s", 0.99, rank=16, alpha=32.0, status="stopped", reached=50),
        make_record("r", 0.10, rank=16, alpha=32.0).model_copy(update={"repeat_of": "c"}),
    ]
    ranks, ratios = get_sweet_spots(make_run(records))
    assert (ranks.name, ratios.name) == ("rank", "alpha_over_rank")
    four, sixteen = ranks.rows
    assert (four.value, four.trials, four.started, four.best_id, four.parameters) == ("4", 2, 2, "b", 100)
    assert four.median == pytest.approx(0.72) and (sixteen.trials, sixteen.started) == (1, 2)
    assert [row.value for row in ratios.rows] == ["1", "2"] and ranks.sentence == "" and four.tied is None
    low, high = sixteen.bounds
    assert low < 0.9 < high


def test_sets_of_targets_stand_by_size(make_run, make_record) -> None:
    sizes = {"zeta": 10, "alpha": 500, "mid": 70}
    records = [make_record(label, 0.7, target_label=label, parameters=size) for label, size in sizes.items()]
    (table,) = get_sweet_spots(make_run(records))
    assert [row.value for row in table.rows] == ["zeta", "mid", "alpha"]
