"""The rank curve of a trained trial: its update cut to lower ranks and evaluated, without training.

A cut is a candidate like a trial: its adapter lies in RUN/adapters/NAME and its answers on the evaluation examples in
RUN/outcomes/NAME.parquet, NAME being `TRIAL@rank4`, `TRIAL@energy90` or `TRIAL@layer-energy90`. Cuts are chosen by
looking at `eval`, so they count in the correction for picking as trials do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.cut import (
    Svds,
    cut,
    decompose,
    energy_kept,
    global_energy_ranks,
    layer_energy_ranks,
    lora_layers,
    uniform_ranks,
)
from lora_sweep.analysis.session import AnalysisSession, Evaluation
from lora_sweep.records import TrialRecord

Method = Literal["whole", "uniform", "global-energy", "layer-energy"]
SHARES = (0.5, 0.9, 0.99)
"""Shares of the update's energy that the energy-based cuts keep."""
SPLIT = "eval"


@dataclass(frozen=True)
class Cut:
    """One point of a rank curve, before it is evaluated.

    Attributes:
        name: of the candidate; the trial's own id for the whole adapter.
        method: how the ranks were chosen; `amount` is the uniform rank, the energy share, or the trial's rank.
        ranks: layer to rank.
        energy: share of the whole update's energy that is left.
        adapter: the cut adapter.
    """

    name: str
    method: Method
    amount: float
    ranks: Mapping[str, int]
    energy: float
    adapter: AdapterFile


def plan_cuts(trial_id: str, adapter: AdapterFile, shares: Sequence[float] = SHARES) -> list[Cut]:
    """The cuts of a trial, the whole adapter (as it is) first; ranks that came up before are left out.

    Uniform ranks are the powers of two below the largest rank; for each share one cut takes the largest singular
    values of all layers, and one the share of every layer.
    """
    svds = decompose(adapter)
    whole = {name: len(svd.values) for name, svd in svds.items()}
    cuts = [Cut(trial_id, "whole", float(adapter.spec.rank), whole, 1.0, adapter)]
    seen = {tuple(whole.values())}
    for method, amount, name, ranks in _choices(svds, shares):
        key = tuple(ranks.values())
        if key not in seen and any(key):
            seen.add(key)
            smaller = cut(adapter, svds, ranks)
            cuts.append(Cut(f"{trial_id}@{name}", method, amount, ranks, energy_kept(svds, ranks), smaller))
    return cuts


def measure_rank_curves(
    session: AnalysisSession, records: Sequence[TrialRecord], shares: Sequence[float] = SHARES
) -> dict[str, Any]:
    """Evaluate the cuts of these trials on `eval` and write RUN/analysis/rank_curves.json.

    Returns:
        What was written: `metric`, `mode`, `split`, `examples`, device and dtype, and for each of `trials` its
        configuration, the `recorded` metrics, `seconds`, and `cuts`, the whole adapter first.
    """
    options = session.engine.options
    content = {
        "metric": options.metric,
        "mode": options.mode,
        "split": SPLIT,
        "examples": len(session.engine.task.splits[SPLIT]),
        **session.facts(),
        "trials": [_measure(session, record, shares) for record in records],
    }
    session.run.write_analysis("rank_curves", content)
    return content


def _choices(svds: Svds, shares: Sequence[float]) -> Iterator[tuple[Method, float, str, dict[str, int]]]:
    largest = max((len(svd.values) for svd in svds.values()), default=1)
    for power in range((largest - 1).bit_length()):
        yield "uniform", 2**power, f"rank{2**power}", uniform_ranks(svds, 2**power)
    for share in shares:
        yield "global-energy", share, f"energy{100 * share:g}", global_energy_ranks(svds, share)
        yield "layer-energy", share, f"layer-energy{100 * share:g}", layer_energy_ranks(svds, share)


def _measure(session: AnalysisSession, record: TrialRecord, shares: Sequence[float]) -> dict[str, Any]:
    started = time.perf_counter()
    whole, *cuts = plan_cuts(record.trial_id, session.adapter(record.trial_id), shares)
    # the trial's own adapter and outcomes are the sweep's: they stay as they are
    found = session.evaluate({whole.name: whole.adapter}, SPLIT)
    found |= session.evaluate({one.name: one.adapter for one in cuts}, SPLIT, write=True)
    for one in cuts:
        session.write_outcomes(one.name, SPLIT, record.step, found[one.name].scores)
    seconds = time.perf_counter() - started
    return {
        "trial_id": record.trial_id,
        "rank": record.config.rank,
        "alpha": record.config.alpha,
        "target_label": record.config.target_label,
        "layers": len(lora_layers(whole.adapter)),
        "step": record.step,
        "recorded": dict(record.metrics),
        "seconds": seconds,
        "cuts": [_row(one, found[one.name], record) for one in (whole, *cuts)],
    }


def _row(one: Cut, found: Evaluation, record: TrialRecord) -> dict[str, Any]:
    return {
        "name": one.name,
        "method": one.method,
        "amount": one.amount,
        "ranks": dict(one.ranks),
        "energy": one.energy,
        "metrics": dict(found.metrics),
        "parameters": found.parameters,
        "adapter_parameters": found.lora_parameters,
        "adapter_bytes": record.adapter_bytes if one.method == "whole" else found.adapter_bytes,
    }
