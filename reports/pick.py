"""Which trial to use: the best by the evaluation data among those that trained to the end, and what speaks against it.

The text says no more than the run shows: the evaluation data chose, so its figure flatters; the test figure is the
headline; differences within the noise of the evaluation data are called "cannot be told apart".
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lora_sweep.errors import ConfigError, RunFolderError
from lora_sweep.store import RunFolder
from reports import units
from reports.intervals import Comparison, compare
from reports.metric import Metric
from reports.pick_text import explain
from reports.results import Results, read_results


@dataclass(frozen=True)
class Pick:
    """One chosen trial and how it stands beside the others.

    The rows are rows of `trial_frame` as mappings.

    Attributes:
        chosen: the trial to use.
        runner_up: the next best that was open to choice; None when there is no other.
        best: the best of all comparable trials, without any limit; often `chosen` itself.
        smaller: the smallest trial that cannot be told apart from `chosen` and has fewer parameters.
        against_best: `chosen` compared with `best` on the evaluation data; its gain is at most 0 as a rule.
        against_runner_up: `chosen` compared with `runner_up`; None without one.
        tied: how many other trials cannot be told apart from `chosen`; None where that is not known.
        candidates: how many trials were compared.
        why: the reasons and reservations, a sentence or two each.
        metric: what quality means here.
    """

    chosen: Mapping[str, Any]
    runner_up: Mapping[str, Any] | None
    best: Mapping[str, Any]
    smaller: Mapping[str, Any] | None
    against_best: Comparison
    against_runner_up: Comparison | None
    tied: int | None
    candidates: int
    why: tuple[str, ...]
    metric: Metric

    @property
    def trial_id(self) -> str:
        return str(self.chosen["trial_id"])

    @property
    def text(self) -> str:
        """The reasons as one paragraph."""
        return " ".join(self.why)

    @property
    def quality_given_up(self) -> float:
        """How much worse on the evaluation data than the overall best, in the metric's unit; 0 when it is the best."""
        return max(0.0, -self.against_best.gain)

    @property
    def parameters_saved(self) -> int:
        """Trainable parameters less than the overall best has; negative when it has more."""
        return int(self.best["trainable_parameters"] - self.chosen["trainable_parameters"])


def pick(run: RunFolder | Results, *, max_parameters: int | None = None, trial: str | None = None) -> Pick:
    """Choose the trial to use.

    The best by the run's metric at the kept evaluation among the complete trials, or, only when none is complete,
    among the stopped ones. Equals are decided by fewer trainable parameters, then by id.

    Args:
        run: the run folder, or what was read from it.
        max_parameters: the most trainable parameters it may have, at least 1.
        trial: this trial and no other, whatever its rank.

    Raises:
        RunFolderError: no trial has a value of the metric.
        ConfigError: `trial` is unknown, failed, has no metric or is too large, or nothing is as small as
            `max_parameters`.
    """
    results = read_results(run)
    pool = _comparable(results)
    if trial is not None:
        chosen = _named(results, trial)
        _check_size(chosen, max_parameters)
    else:
        chosen = _as_row(_within(pool, max_parameters))
    return _beside_others(results, pool, chosen, max_parameters, by_name=trial is not None)


def _comparable(results: Results) -> pd.DataFrame:
    for status in ("complete", "stopped"):
        pool = results.ranked(status)
        if len(pool):
            return pool
    total, failed = len(results.trials), len(results.with_status("failed"))
    rule = f"must hold a trial with an evaluation of {results.metric.name}"
    found = f"{units.plural(total, 'trial')}, {failed} failed"
    raise RunFolderError(str(results.path), rule, found, "The report lists the reasons of failed trials.")


def _named(results: Results, trial: str) -> dict[str, Any]:
    rows = results.trials[results.trials["trial_id"] == trial]
    if rows.empty:
        ids = [str(name) for name in results.trials["trial_id"]]
        close = difflib.get_close_matches(trial, ids, n=5, cutoff=0.5) or ids[:5]
        fix = f"Close to it: {', '.join(close)}." if close else "The run has no trial yet."
        raise ConfigError("--trial", f"must be a trial of {results.path}", trial, fix)
    row = _as_row(rows)
    if row["status"] == "failed":
        raise ConfigError("--trial", "must be a trial that did not fail", trial, f"It failed: {row['error']}")
    if math.isnan(row["quality"]):
        rule = f"must be a trial with an evaluation of {results.metric.name}"
        raise ConfigError("--trial", rule, trial, f"Its status is {row['status']}.")
    return row


def _check_size(row: Mapping[str, Any], limit: int | None) -> None:
    if limit is not None and row["trainable_parameters"] > limit:
        rule = f"must have room for trial {row['trial_id']} with {int(row['trainable_parameters']):,} parameters"
        raise ConfigError("--max-parameters", rule, limit, "Leave out one of the two.")


def _within(pool: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    if limit is None:
        return pool
    small = pool[pool["trainable_parameters"] <= limit]
    if small.empty:
        least = pool.sort_values("trainable_parameters", kind="stable").iloc[0]
        fix = f"The smallest is {least['trial_id']} with {int(least['trainable_parameters']):,}."
        raise ConfigError("--max-parameters", "must leave at least one trial", limit, fix)
    return small


def _beside_others(
    results: Results, pool: pd.DataFrame, chosen: dict[str, Any], limit: int | None, *, by_name: bool
) -> Pick:
    metric, examples = results.metric, results.examples("eval")
    open_to_choice = pool if by_name else _within(pool, limit)
    others = open_to_choice[open_to_choice["trial_id"] != chosen["trial_id"]]
    rest = pool[pool["trial_id"] != chosen["trial_id"]]
    compared = [compare(metric, chosen["quality"], quality, examples) for quality in rest["quality"]]
    known = [one.told_apart for one in compared if one.told_apart is not None]
    runner_up = _as_row(others) if len(others) else None
    best = _as_row(pool)
    bare = Pick(
        chosen=chosen,
        runner_up=runner_up,
        best=best,
        smaller=_smaller(rest, compared, chosen),
        against_best=compare(metric, chosen["quality"], best["quality"], examples),
        against_runner_up=compare(metric, chosen["quality"], runner_up["quality"], examples) if runner_up else None,
        tied=known.count(False) if len(known) == len(compared) else None,
        candidates=len(pool),
        why=(),
        metric=metric,
    )
    sentences = explain(bare, results, max_parameters=limit, by_name=by_name)
    return Pick(**(vars(bare) | {"why": tuple(sentences)}))


def _smaller(rest: pd.DataFrame, compared: list[Comparison], chosen: Mapping[str, Any]) -> dict[str, Any] | None:
    tied = rest[np.array([one.told_apart is False for one in compared], dtype=np.bool_)]
    fewer = tied[tied["trainable_parameters"] < chosen["trainable_parameters"]]
    # stable: among the equally small the better one stays first
    return _as_row(fewer.sort_values("trainable_parameters", kind="stable")) if len(fewer) else None


def _as_row(rows: pd.DataFrame) -> dict[str, Any]:
    return {str(name): value for name, value in rows.head(1).to_dict("records")[0].items()}
