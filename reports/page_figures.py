"""The figures on the page: each with a caption that says its main fact, what was left out, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from reports import figures, units
from reports.crowds import LEADING
from reports.figure_info import CurvesInfo, FrontInfo, LearningRateInfo, RankInfo, TrialPoint, get_front_info
from reports.metric import Metric
from reports.results import Results

Drawn = tuple[str, str, str, go.Figure]
"""Key, title, caption and figure: what every builder of figures for the page yields."""

_MOST_MEDIANS = 8


def run_figures_of(results: Results) -> Iterator[Drawn]:
    """The figures of the trials themselves that have something to show."""
    title = results.metric.title
    front = get_front_info(results)
    if front.points:
        note = "Nothing measured on the line is beaten on both quality and size."
        if any(point.is_cut for point in front.points):
            note += " Asterisks: trained trials cut to lower ranks, no further training."
        caption = _front_caption(front, note)
        yield "front", f"{title} against trainable parameters", caption, figures.plot_front(front)
    rank = figures.get_rank_info(results)
    if rank.points:
        yield "rank", f"{title} over rank", _rank_caption(rank), figures.plot_rank(rank)
    rate = figures.get_learning_rate_info(results)
    if rate.points:
        yield "rate", f"{title} against learning rate", _rate_caption(rate), figures.plot_learning_rate(rate)
    curves = figures.get_learning_curves_info(results)
    if curves.curves:
        caption = _curves_caption(curves, results, results.metric)
        yield "curves", f"{title} over steps", caption, figures.plot_learning_curves(curves)
    losses = figures.get_loss_curves_info(results)
    if losses.curves:
        caption = "Mean training loss between evaluations. " + _curves_caption(losses, results, Metric("loss", "min"))
        yield "losses", "Training loss over steps", caption, figures.plot_loss_curves(losses)
    cost = get_front_info(results, "device_seconds")
    if cost.points:
        note = "Device time is the engine's time shared among its trials by FLOPs, not the wall time of a pack."
        yield "cost", f"{title} against device time", _front_caption(cost, note), figures.plot_front(cost)


def _front_caption(info: FrontInfo, note: str) -> str:
    say = units.duration if info.cost == "device_seconds" else units.count
    ends = [f"{one.trial_id} ({info.metric.text(one.quality)}, {say(one.cost)})" for one in info.front]
    if not ends:
        fact = "No trial is complete, so there is no front."
    elif len(ends) == 1:
        fact = f"{ends[0]} alone is on the front."
    else:
        fact = f"{len(ends)} trials are on the front, from {ends[0]} to {ends[-1]}."
    return _joined(fact, note, _hollow(info.points), _left_out(info.points, info.total))


def _rank_caption(info: RankInfo) -> str:
    said = [(f"{info.metric.text(value)} at rank {rank}", value) for rank, value in info.medians]
    if not said:
        fact = ""
    elif len(said) == 1:
        fact = f"The median is {said[0][0]}."
    elif len(said) <= _MOST_MEDIANS:
        fact = f"The medians are {', '.join(text for text, _ in said)}."
    else:
        best = max(said, key=lambda one: info.metric.gain(one[1], 0.0))
        fact = f"The medians of {len(said)} ranks are best with {best[0]}."
    line = "The dotted line joins the medians. " if len(said) > 1 else ""
    note = f"{line}Other settings differ between these trials too."
    return _joined(fact, note, _left_out(info.points, info.total))


def _rate_caption(info: LearningRateInfo) -> str:
    rates = [point.learning_rate for point in info.points]
    best = max(info.points, key=lambda point: (point.status == "complete", info.metric.gain(point.quality, 0.0)))
    fact = f"The best, {best.trial_id}, was trained at {units.number(best.learning_rate, 2)}"
    tried = f"rates from {units.number(min(rates), 2)} to {units.number(max(rates), 2)} were tried."
    note = "A best rate at the edge of the plot asks for a wider space."
    return _joined(f"{fact}; {tried}", note, _left_out(info.points, info.total))


def _curves_caption(info: CurvesInfo, results: Results, metric: Metric) -> str:
    ranked = [str(name) for status in ("complete", "stopped") for name in results.ranked(status)["trial_id"].head(1)]
    curve = next((one for name in ranked for one in info.curves if one.trial_id == name), info.curves[0])
    first, last = metric.text(curve.values[0]), metric.text(curve.values[-1])
    fact = f"Trial {curve.trial_id}: {first} at step {curve.steps[0]}, {last} at step {curve.steps[-1]}."
    early = any(one.status != "complete" for one in info.curves)
    cross = "A cross ends what was stopped or failed." if early else ""
    if info.band is None:
        return _joined(fact, "One line a trial.", cross)
    singly = f"Lines of their own have the {LEADING} leading trials and the finalists, {len(info.curves)} in all."
    band = (
        f"The band holds the middle 80 % of all {info.total:,} trials at each step, the dotted line is their median; "
        f"{info.band.trials[0]:,} trials reached step {info.band.steps[0]}, "
        f"{info.band.trials[-1]:,} step {info.band.steps[-1]}: who was stopped is missing from there on."
    )
    return _joined(fact, singly, band, cross)


def _hollow(points: Sequence[TrialPoint]) -> str:
    return "Hollow: stopped early." if any(point.status != "complete" for point in points) else ""


def _left_out(points: Sequence[TrialPoint], total: int) -> str:
    """What a figure of very many trials leaves out, in numbers."""
    if len(points) >= total:
        return ""
    return (
        f"Drawn are {len(points):,} of {total:,} trials: the front, the leading ones, the finalists, those that cannot "
        "be told from the best, and of the others every so many-th in the order of quality."
    )


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
