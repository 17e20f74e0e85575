"""Which adapter to use: the cheapest of those that cannot be told from the best, and what speaks against it.

Candidates are the complete trials and the cuts of their adapters. The tie set comes from the outcomes on the evaluation
examples; where a run has none, the best figure is picked and the text says so. The text says no more than the run
shows: the evaluation data chose, so its figure flatters; the test figure is the headline; trials that were stopped are
not compared with those that trained to the end.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lora_sweep.errors import ConfigError, RunFolderError
from lora_sweep.store import RunFolder
from reports import units
from reports.frame import whole
from reports.metric import Metric
from reports.pick_cost import PARAMETERS, CostRule
from reports.pick_limits import NO_LIMITS, Limits
from reports.pick_order import Order, Parsimony, order_of_choice
from reports.pick_text import explain
from reports.results import MOST_COMPARED, Results, read_results
from reports.statistics import Comparison, TieSet


@dataclass(frozen=True)
class Pick:
    """One chosen adapter and how it stands beside the others.

    The rows are rows of `candidate_frame` as mappings.

    Attributes:
        chosen: the trial or cut to use.
        runner_up: the second choice: the next cheapest of the tie set, or else the next best that was open to choice;
            None when there is no other.
        as_trained: where `chosen` is a cut, the cheapest trial of the tie set; None where there is none.
        best: the best of all comparable candidates, without any limit; often `chosen` itself.
        smaller: the smallest candidate that cannot be told apart from `chosen`, has fewer parameters and was not left
            out because of other seeds; None where `chosen` has the fewest.
        against_best: `chosen` compared with `best` on the evaluation data; its gain is at most 0 as a rule.
        against_runner_up: `chosen` compared with `runner_up`; None without one.
        tied: how many other candidates cannot be told apart: from the best where `ties` is known, else from `chosen`;
            None where that is not known.
        candidates: how many candidates there were, `cuts` of them cut.
        within: how many of them keep to the limits.
        why: the reasons and reservations, a sentence or two each, the weightiest first.
        metric: what quality means here.
        ties: the tie set of the candidates that were open to choice; None where outcomes are absent.
        costs: by id, what each member of the tie set that was open to choice costs; NaN where that was not measured.
        cost: what "cheapest" means.
        limits: what the pick had to keep to.
        parsimony: which members of the tie set were open to choice.
        ruled_out: members of the tie set that were left out because of other seeds.
        unrepeated: members that come behind those that other seeds do not rule out, because theirs had no other seed;
            empty where other seeds rule out nobody.
        by_name: whether it was asked for by its name.
    """

    chosen: Mapping[str, Any]
    runner_up: Mapping[str, Any] | None
    as_trained: Mapping[str, Any] | None
    best: Mapping[str, Any]
    smaller: Mapping[str, Any] | None
    against_best: Comparison
    against_runner_up: Comparison | None
    tied: int | None
    candidates: int
    cuts: int
    within: int
    why: tuple[str, ...]
    metric: Metric
    ties: TieSet | None = None
    costs: Mapping[str, float] | None = None
    cost: CostRule = PARAMETERS
    limits: Limits = NO_LIMITS
    parsimony: Parsimony = "tie-set"
    ruled_out: tuple[str, ...] = ()
    unrepeated: tuple[str, ...] = ()
    by_name: bool = False

    @property
    def trial_id(self) -> str:
        """The candidate's name: of a trial, or of a cut such as `009-a1df30@rank4`."""
        return str(self.chosen["trial_id"])

    @property
    def is_cut(self) -> bool:
        return bool(self.chosen["kind"] == "cut")

    @property
    def unfinished(self) -> bool:
        """Whether it was stopped and yet asked for, so that what it stands beside trained longer."""
        return bool(self.chosen["status"] == "stopped" and self.best["status"] == "complete")

    @property
    def text(self) -> str:
        """The reasons as a list: the choice, then a line for each."""
        return "\n".join([self.why[0], *(f"- {sentence}" for sentence in self.why[1:])])

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
    trial: str | None = None,
    limits: Limits = NO_LIMITS,
    cost: CostRule | None = None,
    parsimony: Parsimony = "tie-set",
) -> Pick:
    """Choose the adapter to use.

    The cheapest within the limits of the complete candidates that cannot be told from the best by the run's metric at
    the kept evaluation; where none of these keeps to the limits, of those that cannot be told from the best that does.
    Equals are decided by quality, then by parameters, then by id. Without outcomes: the best figure, equals by
    fewer parameters. Only when no trial is complete, the best of the stopped ones.

    Args:
        run: the run folder, or what was read from it.
        trial: this trial or cut and no other, whatever its rank.
        limits: what it must keep to.
        cost: what "cheapest" means; by default the fewest trainable parameters, or the best figure where nobody knows
            them.
        parsimony: `one-standard-error` chooses only among members of the tie set within one standard error of the
            best figure: a convention that gives up less quality, and no test.

    Raises:
        RunFolderError: no trial has a value of the metric.
        ConfigError: `trial` is unknown, failed, has no metric or breaks a limit, no candidate keeps to the limits, or
            a `cost` that was given was measured for none of those that may be chosen.
    """
    results = read_results(run)
    pool = _comparable(results)
    room = pool if trial is not None else limits.within(pool, results.metric)
    ties = _ties(results, pool, room)
    order = order_of_choice(room, ties, cost, parsimony, results)
    if trial is not None:
        chosen = _named(results, trial)
        limits.check(chosen, results.metric)
    else:
        chosen = _as_row(order.rows)
    bare = replace(
        _beside_others(results, pool, order, chosen, ties),
        within=len(room),
        cost=cost or PARAMETERS,
        limits=limits,
        parsimony=parsimony,
        by_name=trial is not None,
    )
    return replace(bare, why=tuple(explain(bare, results)))


def _ties(results: Results, pool: pd.DataFrame, room: pd.DataFrame) -> TieSet | None:
    """The tie set of all candidates; of those within the limits, where no member keeps to them.

    So a limit that the pick keeps to already does not change the pick.
    """
    if room["status"].iloc[0] != "complete":
        return None
    ties = results.ties(pool)
    return results.ties(room) if ties is None or room["trial_id"].isin(ties.member_ids).sum() == 0 else ties


def _comparable(results: Results) -> pd.DataFrame:
    for status in ("complete", "stopped"):
        pool = results.comparable(status)
        if len(pool):
            return pool
    total, failed = len(results.trials), len(results.with_status("failed"))
    rule = f"must hold a trial with an evaluation of {results.metric.name}"
    found = f"{units.plural(total, 'trial')}, {failed} failed"
    raise RunFolderError(str(results.path), rule, found, "The report lists the reasons of failed trials.")


def _named(results: Results, trial: str) -> dict[str, Any]:
    known = results.candidates
    rows = known[known["trial_id"] == trial]
    failed = results.with_status("failed")
    if rows.empty and trial in set(failed["trial_id"]):
        error = failed.loc[failed["trial_id"] == trial, "error"].iloc[0]
        raise ConfigError("--trial", "must be a trial that did not fail", trial, f"It failed: {error}")
    repeated = results.repeats.loc[results.repeats["trial_id"] == trial, "repeat_of"]
    if len(repeated):
        first = repeated.iloc[0]
        rule = f"must be a candidate; this one repeats {first} with another seed and is none"
        raise ConfigError("--trial", rule, trial, f"Take {first}; the report shows its seeds.")
    if rows.empty:
        ids = [str(name) for name in (*results.trials["trial_id"], *known.loc[known["kind"] == "cut", "trial_id"])]
        close = difflib.get_close_matches(trial, ids, n=5, cutoff=0.5) or ids[:5]
        fix = f"Close to it: {', '.join(close)}." if close else "The run has no trial yet."
        raise ConfigError("--trial", f"must be a trial of {results.path}, or a cut of one", trial, fix)
    row = _as_row(rows)
    if math.isnan(row["quality"]):
        rule = f"must be a trial with an evaluation of {results.metric.name}"
        raise ConfigError("--trial", rule, trial, f"Its status is {row['status']}.")
    return row


def _beside_others(
    results: Results, pool: pd.DataFrame, order: Order, chosen: dict[str, Any], ties: TieSet | None
) -> Pick:
    others = order.rows[order.rows["trial_id"] != chosen["trial_id"]]
    left = others[~others["trial_id"].isin(order.ruled_out)]
    runner_up, best = _as_row(left) if len(left) else None, _as_row(pool)
    tied, smaller = _tied(results, pool, chosen, ties, order.ruled_out)
    trained = others[(others["kind"] == "trial") & others["trial_id"].isin(list(order.costs or ()))]
    return Pick(
        chosen=chosen,
        runner_up=runner_up,
        as_trained=_as_row(trained) if chosen["kind"] == "cut" and len(trained) else None,
        best=best,
        smaller=smaller,
        against_best=results.compare(chosen, best),
        against_runner_up=results.compare(chosen, runner_up) if runner_up else None,
        tied=tied,
        candidates=len(pool),
        cuts=int((pool["kind"] == "cut").sum()),
        within=len(order.rows),
        why=(),
        metric=results.metric,
        ties=ties,
        costs=order.costs,
        ruled_out=order.ruled_out,
        unrepeated=order.unrepeated,
    )


def _tied(
    results: Results, pool: pd.DataFrame, chosen: Mapping[str, Any], ties: TieSet | None, ruled_out: tuple[str, ...]
) -> tuple[int | None, dict[str, Any] | None]:
    """How many others are tied, and the smallest of them if it is smaller than the chosen one."""
    rest = pool[pool["trial_id"] != chosen["trial_id"]]
    if ties is not None:
        mask = rest["trial_id"].isin(ties.member_ids).to_numpy()
        open_to_choice = rest[mask & ~rest["trial_id"].isin(ruled_out).to_numpy()]
        return int(mask.sum()), _smaller(open_to_choice, chosen) if chosen["trial_id"] in ties.member_ids else None
    rest = rest.head(MOST_COMPARED)
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
