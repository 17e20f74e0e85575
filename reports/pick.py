"""Which trial to use: the cheapest of those that cannot be told from the best, and what speaks against it.

The tie set comes from the outcomes on the evaluation examples; where a run has none, the best figure is picked and the
text says so. The text says no more than the run shows: the evaluation data chose, so its figure flatters; the test
figure is the headline; trials that were stopped are not compared with those that trained to the end.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from lora_sweep.errors import ConfigError, RunFolderError
from lora_sweep.store import RunFolder
from reports import units
from reports.frame import whole
from reports.metric import Metric
from reports.pick_text import COST_NAMES, explain
from reports.results import Results, read_results
from reports.statistics import Comparison, TieSet

Parsimony = Literal["tie-set", "one-standard-error"]


@dataclass(frozen=True)
class Pick:
    """One chosen trial and how it stands beside the others.

    The rows are rows of `trial_frame` as mappings.

    Attributes:
        chosen: the trial to use.
        runner_up: the second choice: the next cheapest of the tie set, or else the next best that was open to choice;
            None when there is no other.
        best: the best of all comparable trials, without any limit; often `chosen` itself.
        smaller: the smallest trial that cannot be told apart from `chosen` and has fewer parameters; None where
            `chosen` is the cheapest of the tie set.
        against_best: `chosen` compared with `best` on the evaluation data; its gain is at most 0 as a rule.
        against_runner_up: `chosen` compared with `runner_up`; None without one.
        tied: how many other trials cannot be told apart: from the best where `ties` is known, else from `chosen`;
            None where that is not known.
        candidates: how many trials were compared.
        why: the reasons and reservations, a sentence or two each.
        metric: what quality means here.
        ties: the tie set of the trials that were open to choice; None where outcomes are absent.
        cost: the column of `trial_frame` that "cheapest" means.
        parsimony: which members of the tie set were open to choice.
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
    ties: TieSet | None = None
    cost: str = "trainable_parameters"
    parsimony: Parsimony = "tie-set"

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
        """Trainable parameters less than the overall best has; negative when it has more, 0 where that is unknown."""
        return whole(self.best["trainable_parameters"] - self.chosen["trainable_parameters"]) or 0


def pick(
    run: RunFolder | Results,
    *,
    max_parameters: int | None = None,
    trial: str | None = None,
    cost: str = "trainable_parameters",
    parsimony: Parsimony = "tie-set",
) -> Pick:
    """Choose the trial to use.

    The cheapest of the complete trials that cannot be told from the best by the run's metric at the kept evaluation.
    Equals are decided by quality, then by id. Without outcomes: the best figure, equals by fewer parameters. Only when
    no trial is complete, the best of the stopped ones.

    Args:
        run: the run folder, or what was read from it.
        max_parameters: the most trainable parameters it may have, at least 1.
        trial: this trial and no other, whatever its rank.
        cost: trainable_parameters, adapter_bytes, device_seconds or state_bytes.
        parsimony: `one-standard-error` chooses only among members of the tie set within one standard error of the
            best figure: a convention that gives up less quality, and no test.

    Raises:
        RunFolderError: no trial has a value of the metric.
        ConfigError: `trial` is unknown, failed, has no metric or is too large, nothing is as small as
            `max_parameters`, or `cost` is unknown.
    """
    if cost not in COST_NAMES:
        raise ConfigError("cost", f"must be one of {', '.join(COST_NAMES)}", cost)
    results = read_results(run)
    pool = _comparable(results)
    room = pool if trial is not None else _within(pool, max_parameters)
    ties = results.ties(room) if room["status"].iloc[0] == "complete" else None
    order = _order(room, ties, cost, parsimony)
    if trial is not None:
        chosen = _named(results, trial)
        _check_size(chosen, max_parameters)
    else:
        chosen = _as_row(order)
    bare = replace(_beside_others(results, pool, order, chosen, ties), cost=cost, parsimony=parsimony)
    sentences = explain(bare, results, max_parameters=max_parameters, by_name=trial is not None)
    return replace(bare, why=tuple(sentences))


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
        known = pool[pool["trainable_parameters"].notna()]
        if known.empty:
            rule = "must go with a run that has trainable parameters on record"
            raise ConfigError("--max-parameters", rule, limit, "Leave it out.")
        least = known.sort_values("trainable_parameters", kind="stable").iloc[0]
        fix = f"The smallest is {least['trial_id']} with {int(least['trainable_parameters']):,}."
        raise ConfigError("--max-parameters", "must leave at least one trial", limit, fix)
    return small


def _order(room: pd.DataFrame, ties: TieSet | None, cost: str, parsimony: Parsimony) -> pd.DataFrame:
    """The trials in the order of choice: the tie set from the cheapest up, then the others from the best down."""
    if ties is None:
        return room
    marks = ties.within_one_error if parsimony == "one-standard-error" else ties.members
    members = [name for name, mark in zip(ties.trial_ids, marks, strict=True) if mark]
    inside = room["trial_id"].isin(members)
    # stable: among the equally cheap the better one stays first
    return pd.concat([room[inside].sort_values(cost, kind="stable"), room[~inside]])


def _beside_others(
    results: Results, pool: pd.DataFrame, order: pd.DataFrame, chosen: dict[str, Any], ties: TieSet | None
) -> Pick:
    others = order[order["trial_id"] != chosen["trial_id"]]
    runner_up, best = _as_row(others) if len(others) else None, _as_row(pool)
    tied, smaller = _tied(results, pool, chosen, ties)
    return Pick(
        chosen=chosen,
        runner_up=runner_up,
        best=best,
        smaller=smaller,
        against_best=results.compare(chosen, best),
        against_runner_up=results.compare(chosen, runner_up) if runner_up else None,
        tied=tied,
        candidates=len(pool),
        why=(),
        metric=results.metric,
        ties=ties,
    )


def _tied(
    results: Results, pool: pd.DataFrame, chosen: Mapping[str, Any], ties: TieSet | None
) -> tuple[int | None, dict[str, Any] | None]:
    """How many others are tied, and the smallest of them if it is smaller than the chosen one."""
    rest = pool[pool["trial_id"] != chosen["trial_id"]]
    if ties is not None:
        mask = rest["trial_id"].isin(ties.member_ids).to_numpy()
        return int(mask.sum()), _smaller(rest[mask], chosen) if chosen["trial_id"] in ties.member_ids else None
    compared = [results.compare(chosen, row) for row in rest.to_dict("records")]
    if any(one.told_apart is None for one in compared):
        return None, None
    mask = np.array([one.told_apart is False for one in compared], dtype=np.bool_)
    return int(mask.sum()), _smaller(rest[mask], chosen)


def _smaller(tied: pd.DataFrame, chosen: Mapping[str, Any]) -> dict[str, Any] | None:
    fewer = tied[tied["trainable_parameters"] < chosen["trainable_parameters"]]
    # stable: among the equally small the better one stays first
    return _as_row(fewer.sort_values("trainable_parameters", kind="stable")) if len(fewer) else None


def _as_row(rows: pd.DataFrame) -> dict[str, Any]:
    return {str(name): value for name, value in rows.head(1).to_dict("records")[0].items()}
