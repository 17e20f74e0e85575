"""What the page shows beside its figures, as plain texts and small records for the template."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import units
from reports.candidates import cut_words
from reports.frame import UNKNOWN_TARGETS, bias_text
from reports.imported import facts_of_import
from reports.pick import Pick
from reports.pick_cost import COSTS
from reports.pick_text import test_examples
from reports.results import Results
from reports.table import times_rank

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Bar:
    """One bar of the headline comparison; positions are percentages of the bar's room."""

    name: str
    text: str
    width: float
    whisker: tuple[float, float] | None
    is_pick: bool


def pick_facts(pick: Pick) -> Facts:
    """The chosen configuration as readable facts."""
    row = pick.chosen
    share = f" ({units.share(row['share'])} of the base)" if not math.isnan(row["share"]) else ""
    times = times_rank(row["alpha_over_rank"], 1) if row["alpha_over_rank"] > 0 else ""
    alpha = units.number(row["alpha"]) + (f" ({times})" if times else "")
    if times and not row["alpha"] > 0:
        alpha = f"{times}, layer by layer"
    by_cut = [("Made", f"Trial {row['source']}{cut_words(row)}")] if pick.is_cut else []
    latency = COSTS["latency"].text(row["latency_seconds"])
    timed = [] if math.isnan(row["latency_seconds"]) else [("Latency, unmerged", latency)]
    solo = f", {units.duration(row['solo_seconds'])} alone ({row['solo_source']})" if row["solo_seconds"] > 0 else ""
    facts = [
        *by_cut,
        ("Rank", row["rank_text"]),
        ("Alpha", alpha),
        ("Dropout", units.number(row["dropout"], 2)),
        ("Biases", bias_text(row["bias"])),
        ("Targets", units.MISSING if row["target_label"] == UNKNOWN_TARGETS else str(row["target_label"])),
        ("Learning rate", units.number(row["learning_rate"], 2)),
        ("Batch size", units.number(row["batch_size"], 12)),
        ("Parameters", units.count(row["trainable_parameters"]) + share),
        ("Adapter on disk", units.size(row["adapter_bytes"] or None)),
        *timed,
        ("Training", f"{units.duration(row['device_seconds'])} of device time{solo}"),
        ("Kept step", _kept_step(pick)),
    ]
    missing = (units.MISSING, f"{units.MISSING} of device time", "an unknown number of")
    return [(name, value) for name, value in facts if value not in missing]


def _kept_step(pick: Pick) -> str:
    """Where the adapter comes from, and how far its trial went on after that."""
    row = pick.chosen
    text = units.progress(row["step"], row["steps"]).removesuffix(" steps")
    if not row["reached_step"] > row["step"]:
        return text
    why = "its best evaluation; " if pick.metric.keep == "best" else ""
    return f"{text} ({why}trained to {row['reached_step']:.0f})"


def comparison_bars(results: Results, pick: Pick) -> tuple[str, list[Bar]]:
    """The pick beside the baselines, best first, on the test data where the pick was measured there.

    Returns:
        The part of the data that the values come from, `test` or `eval`, and the bars.
    """
    metric, row = results.metric, pick.chosen
    column, part = ("quality", "eval") if math.isnan(row["test_quality"]) else ("test_quality", "test")
    examples = results.examples("eval") if part == "eval" else test_examples(row, results)
    baselines = zip(results.baselines["name"], results.baselines[column], strict=True)
    values = [(pick.trial_id, float(row[column]), True), *((str(name), float(v), False) for name, v in baselines)]
    values = sorted((one for one in values if not math.isnan(one[1])), key=lambda one: -metric.gain(one[1], 0.0))
    full = 1.0 if metric.is_proportion else 1.1 * max(abs(value) for _, value, _ in values) or 1.0
    bars = []
    for name, value, is_pick in values:
        # the evaluation data chose: an interval around that figure would claim too much
        bounds = results.interval(part, name, value, examples) if part == "test" else None
        whisker = (100 * bounds[0] / full, 100 * (bounds[1] - bounds[0]) / full) if bounds else None
        bars.append(Bar(name, metric.text(value), 100 * max(0.0, value) / full, whisker, is_pick))
    return part, bars


def other_test_metrics(results: Results, pick: Pick) -> Facts:
    """The pick's other metrics on the test data."""
    names = [str(name) for name in results.trials.columns if str(name).startswith("test_")]
    names = [name for name in names if name not in ("test_quality", "test_examples", f"test_{results.metric.name}")]
    known = [(name.removeprefix("test_"), pick.chosen[name]) for name in names]
    return [
        (name.replace("_", " ").replace("f1", "F1"), units.number(value, 4))
        for name, value in known
        if not math.isnan(value)
    ]


def run_facts(results: Results) -> Facts:
    """How the run was made: what run.json says, in the order of interest."""
    info, model = results.info, results.section("model")
    versions = ", ".join(f"{name} {version}" for name, version in results.section("versions").items())
    wall = info.get("wall_seconds")
    facts = [
        ("Model", _said(model.get("name"))),
        ("Model parameters", units.count(model.get("parameters"))),
        ("Model dtype", _said(model.get("dtype"))),
        ("Model path", _said(model.get("path"))),
        ("Model SHA-256", _said(model.get("sha256"))),
        ("Metric", f"{results.metric.name}, {results.metric.mode}, keep {results.metric.keep or 'unknown'}"),
        *((name.title(), _listed(results.section(name))) for name in ("search", "scheduler", "budget", "task")),
        ("Trials", _listed(results.section("trials"))),
        ("New seeds", _listed(results.section("repeats"))),
        ("Seed", _said(info.get("seed"))),
        ("Started", _said(info.get("started"))),
        ("Ended", _said(info.get("ended"))),
        ("Took", units.duration(wall) if isinstance(wall, (int, float)) else ""),
        ("Versions", versions),
        ("Commit", _said(info.get("commit"))),
        ("Command", _said(info.get("command"))),
    ]
    facts += facts_of_import(results)
    return [(name, value) for name, value in facts if value and value != units.MISSING]


def data_facts(results: Results) -> list[tuple[str, str, str, str]]:
    """Part, examples, file and hash of each part of the data."""
    found = []
    for name in results.section("data", "parts"):
        part, examples = results.section("data", "parts", name), results.examples(name)
        found.append((name, f"{examples:,}" if examples else "", _said(part.get("path")), _said(part.get("sha256"))))
    return found


def device_facts(results: Results) -> list[tuple[str, ...]]:
    """Engine, device, dtype, slots, threads, busy time, peak memory and padding of each device."""
    devices = results.info.get("devices")
    rows = [one for one in devices if isinstance(one, Mapping)] if isinstance(devices, list) else []
    plain = ("engine", "device", "dtype", "slots", "threads")
    return [
        (
            *(_said(one.get(name)) for name in plain),
            units.duration(one.get("busy_seconds")),
            units.size(one.get("peak_memory_bytes") or None),
            units.share(_padding(one)),
        )
        for one in rows
    ]


def _padding(device: Mapping[str, Any]) -> float | None:
    """The share of the trained tokens that only filled up rows."""
    tokens, padded = device.get("tokens"), device.get("padded_tokens")
    return 1 - tokens / padded if tokens and padded else None


def cost_facts(results: Results, pick: Pick | None) -> Facts:
    """What the whole sweep cost, and the pick's part of it."""
    trials, repeats = results.trials, results.repeats
    tokens, total = _sum(trials["tokens"]), device_seconds_of_all(results)
    again = float(repeats["device_seconds"].sum()) if len(repeats) else 0.0
    facts = [
        ("Device time of all trials", units.duration(total)),
        ("Tokens trained", units.count(tokens + (repeats["tokens"].sum() if len(repeats) else 0))),
    ]
    if again > 0:
        facts.append(("Spent on new seeds of finalists", f"{units.duration(again)} ({units.share(again / total)})"))
    wall = results.info.get("wall_seconds")
    if isinstance(wall, (int, float)):
        facts.insert(0, ("Wall time of the sweep", units.duration(wall)))
    for status, name in (("stopped", "Spent on stopped trials"), ("failed", "Spent on failed trials")):
        spent = float(results.with_status(status)["device_seconds"].sum())
        if spent > 0:
            facts.append((name, f"{units.duration(spent)} ({units.share(spent / total)})"))
    if pick is not None:
        facts.append(("Device time of the pick", units.duration(pick.chosen["device_seconds"])))
    return [(name, value) for name, value in facts if value != units.MISSING]


def device_seconds_of_all(results: Results) -> float:
    """What all trials took, with those that repeat others with new seeds; NaN where nobody measured it."""
    repeats = results.repeats["device_seconds"]
    return _sum(results.trials["device_seconds"]) + (float(repeats.sum()) if len(repeats) else 0.0)


def _sum(values: pd.Series[float]) -> float:
    # of what nobody measured the sum is unknown, and not 0
    return float(values.sum(min_count=min(1, len(values))))


def pick_command(results: Results, pick: Pick) -> str:
    """The command that exports the picked adapter."""
    path = shlex.quote(str(results.path))
    return f"lora-sweep pick {path} --trial {shlex.quote(pick.trial_id)} --export my-adapter"


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return _listed(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(one) for one in value)
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return "" if value is None else str(value)


def _listed(values: Mapping[str, Any]) -> str:
    said = {str(name).replace("_", " "): _said(value) for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in said.items() if value)
