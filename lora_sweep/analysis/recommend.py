"""A rank for every adapted layer under a budget of parameters, from measured importance. Trains nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.allocation import allocate, gained
from lora_sweep.analysis.cut import Svds, decompose, lora_layers, without
from lora_sweep.analysis.directions import measure_slopes, slopes_along
from lora_sweep.analysis.gains import LayerEvidence, check_difference
from lora_sweep.analysis.importance import importance_of
from lora_sweep.analysis.ranks import with_ranks
from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.errors import InputError, RunFolderError
from lora_sweep.records import TrialRecord
from lora_sweep.tasks import HOLDOUT

WIDEST = 4
"""No layer gets more than this many times the uniform rank: the evidence is from a trial that was not that wide."""
FEWEST_EXAMPLES = 16
RULE = (
    "One rank after the other goes to the layer where it gains most loss per parameter. A layer's gain is what the "
    "trained trial owes to it by the empirical Fisher information, spread over ranks as the gradient at the start is "
    "over its directions."
)


@dataclass(frozen=True)
class Budget:
    """The parameters to place.

    Attributes:
        asked: LoRA parameters.
        uniform_rank: the largest that they pay for in every layer.
        parameters: of the uniform adapter with that rank; what the recommendation may spend.
    """

    asked: int
    uniform_rank: int
    parameters: int


def recommend(session: AnalysisSession, trial: str | None = None, parameters: int | None = None) -> dict[str, Any]:
    """Measure a trial's layers on the hold-out and write RUN/analysis/recommendation.json.

    Args:
        session: the run, see `open_session`.
        trial: whose layers; by default the best complete one with LoRA layers.
        parameters: budget of LoRA parameters; by default the trial's own.

    Returns:
        What was written.

    Raises:
        RunFolderError: no such trial, or the hold-out is too small.
        InputError: the budget does not pay for rank 1 in every layer.
    """
    started = time.perf_counter()
    record = _record(session, trial)
    adapter = session.adapter(record.trial_id)
    svds = decompose(adapter)
    budget = plan_budget(svds, record.adapter_parameters if parameters is None else parameters)
    uniform = {name: min(budget.uniform_rank, _smaller(svds, name)) for name in svds}
    seed, halves = int(session.run.info().get("seed") or 0), two_halves(session)
    evidence = measure_evidence(session, adapter, svds, budget.uniform_rank, halves)
    gains = {name: one.gains() for name, one in evidence.items()}
    ranks = allocate(gains, {name: one.cost for name, one in evidence.items()}, budget.parameters)
    check = check_difference(evidence, uniform, budget.parameters, halves, seed)
    spent = sum(ranks[name] * one.cost for name, one in evidence.items())
    measures = {row["name"]: row for row in importance_of(session, record)["layers"]}
    content = {
        "trial_id": record.trial_id,
        "rule": RULE,
        "split": HOLDOUT,
        "examples": len(halves[0]) + len(halves[1]),
        "note": session.holdout_note,
        **session.facts(),
        "budget": asdict(budget),
        "parameters": spent,
        "saved": budget.parameters - spent,
        "predicted_gain": gained(gains, ranks) / max(gained(gains, uniform), 1e-30) - 1,
        "check": {**asdict(check), "differs": check.differs},
        "adapter": peft_ranks(record, svds, ranks),
        "layers": [_layer(svds, name, one, uniform, ranks, measures[name]) for name, one in evidence.items()],
        "seconds": time.perf_counter() - started,
    }
    session.run.write_analysis("recommendation", content)
    return content


def plan_budget(svds: Svds, asked: int) -> Budget:
    """The uniform adapter that a number of parameters pays for.

    Raises:
        InputError: not even rank 1.
    """
    each = sum(svd.parameters_per_rank for svd in svds.values())
    if asked < each:
        raise InputError("--parameters", f"must pay for rank 1 in every layer, {each:,} parameters", asked)
    rank = min(asked // each, max(_smaller(svds, name) for name in svds))
    spent = sum(min(rank, _smaller(svds, name)) * svd.parameters_per_rank for name, svd in svds.items())
    return Budget(asked, rank, spent)


def peft_ranks(record: TrialRecord, svds: Svds, ranks: Mapping[str, int]) -> dict[str, Any]:
    """The recommendation in PEFT's words; every layer keeps the trial's scaling lora_alpha / r."""
    spec = with_ranks(record.config, ranks, {name: svd.scaling for name, svd in svds.items()})
    return {
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "target_modules": list(spec.target_modules),
        "rank_pattern": dict(spec.rank_pattern),
        "alpha_pattern": dict(spec.alpha_pattern),
    }


def _record(session: AnalysisSession, trial: str | None) -> TrialRecord:
    leading = session.leading(len(session.run.records()))
    found = [record for record in leading if trial in (None, record.trial_id)]
    if found:
        return found[0]
    place = str(session.run.path)
    if trial is None:
        raise RunFolderError(place, "must hold a complete trial with LoRA layers and its adapter")
    raise RunFolderError(place, "must hold the trial, complete and with LoRA layers", trial)


def two_halves(session: AnalysisSession) -> tuple[np.ndarray, np.ndarray]:
    """Two seeded halves of the hold-out: ascending positions.

    Raises:
        RunFolderError: it is too small.
    """
    count = len(session.engine.task.splits[HOLDOUT])
    if count < FEWEST_EXAMPLES:
        rule = f"must have a hold-out of at least {FEWEST_EXAMPLES} examples"
        fix = "Make a run with a larger task.data.holdout, or with more training data."
        raise RunFolderError(str(session.run.path), rule, count, fix)
    order = np.random.default_rng([int(session.run.info().get("seed") or 0), 0xD19]).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def measure_evidence(
    session: AnalysisSession, adapter: AdapterFile, svds: Svds, rank: int, halves: tuple[np.ndarray, np.ndarray]
) -> dict[str, LayerEvidence]:
    """Level and slopes of every layer, on the hold-out.

    Args:
        session: the run.
        adapter: the trained one; `svds` is its decomposition.
        rank: the uniform rank, of which `WIDEST` times as many directions are measured.
        halves: positions in the hold-out, see `two_halves`.
    """
    everyone = np.arange(len(halves[0]) + len(halves[1]))
    with session.loaded([adapter]) as (slot,):
        device = session.engine.base.device
        bases = {name: (svd.u.float().to(device), svd.v.float().to(device)) for name, svd in svds.items()}
        trained = slopes_along(session, slot, bases, HOLDOUT, everyone)
    most = {name: min(WIDEST * rank, _smaller(svds, name)) for name in svds}
    with session.loaded([without(adapter, lora_layers(adapter))]) as (slot,):
        slopes = measure_slopes(session, slot, most, HOLDOUT, halves)
    return {
        name: LayerEvidence(trained[name] * svd.scaling * svd.values.numpy(), slopes[name], svd.parameters_per_rank)
        for name, svd in svds.items()
    }


def _layer(
    svds: Svds,
    name: str,
    evidence: LayerEvidence,
    uniform: Mapping[str, int],
    ranks: Mapping[str, int],
    measures: Mapping[str, Any],
) -> dict[str, Any]:
    svd = svds[name]
    return {
        **measures,
        "out": svd.u.shape[0],
        "in": svd.v.shape[0],
        "trained_rank": svd.rank,
        "uniform_rank": uniform[name],
        "rank": ranks[name],
        "alpha": svd.scaling * ranks[name],
        "parameters": ranks[name] * svd.parameters_per_rank,
        "level": evidence.level,
        "slopes": evidence.slope.tolist(),
        "gains": evidence.gains(),
    }


def _smaller(svds: Svds, name: str) -> int:
    return min(svds[name].u.shape[0], svds[name].v.shape[0])
