"""A pick as plain data, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reports.pick import Pick
from reports.pick_text import test_examples
from reports.results import Results
from reports.statistics import Comparison, TieSet


def pick_data(pick: Pick, results: Results) -> dict[str, Any]:
    """Everything that a pick says, by name; what is not known is None or NaN.

    `chosen`, `runner_up`, `as_trained`, `best` and `smaller` are rows of `candidate_frame`; `against_*` compares the
    chosen one with them on the evaluation data, where a positive `gain` is in its favour.
    """
    chosen = pick.chosen
    test = results.interval("test", pick.trial_id, chosen["test_quality"], test_examples(chosen, results))
    return {
        "trial_id": pick.trial_id,
        "kind": chosen["kind"],
        "why": list(pick.why),
        "metric": asdict(pick.metric),
        "chosen": chosen,
        "runner_up": pick.runner_up,
        "as_trained": pick.as_trained,
        "best": pick.best,
        "smaller": pick.smaller,
        "against_best": _comparison(pick.against_best),
        "against_runner_up": _comparison(pick.against_runner_up),
        "intervals": {"eval": results.interval("eval", pick.trial_id, chosen["quality"]), "test": test},
        "candidates": {"all": pick.candidates, "cuts": pick.cuts, "within_limits": pick.within},
        "limits": asdict(pick.limits),
        "cost": {"weights": dict(pick.cost.weights), "values": pick.costs},
        "parsimony": pick.parsimony,
        "tie_set": None if pick.ties is None else _tie_set(pick.ties),
        "ruled_out_over_seeds": pick.ruled_out,
        "behind_for_want_of_seeds": pick.unrepeated,
    }


def _comparison(found: Comparison | None) -> Mapping[str, Any] | None:
    if found is None:
        return None
    return {"gain": found.gain, "bounds": found.bounds, "p_value": found.p_value, "paired": found.paired}


def _tie_set(ties: TieSet) -> dict[str, Any]:
    rows = zip(ties.trial_ids, ties.p_values, ties.behind_at_most, ties.within_one_error, strict=True)
    return {
        "members": ties.member_ids,
        "compared": {
            name: {"p_value": float(p), "behind_at_most": float(most), "within_one_error": bool(within)}
            for name, p, most, within in rows
        },
        "level": ties.level,
    }
