"""What the sweep cost, and what stopping early and packing are estimated to have saved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from lora_sweep.store import RunFolder
from reports import units
from reports.frame import finite
from reports.results import Results, read_results


@dataclass(frozen=True)
class Amount:
    """Some training: optimizer steps, tokens without padding, attributed device-seconds; NaN where not known."""

    steps: float = 0.0
    tokens: float = 0.0
    device_seconds: float = 0.0


@dataclass(frozen=True)
class Packing:
    """Device time of the trials that were probed: attributed in their packs, and what they would have taken alone.

    Attributes:
        trials: how many have both figures.
        packed_seconds, solo_seconds: sums over them.
    """

    trials: int
    packed_seconds: float
    solo_seconds: float

    @property
    def saved(self) -> float:
        """Seconds saved by packing; negative where it took longer."""
        return self.solo_seconds - self.packed_seconds


@dataclass(frozen=True)
class Savings:
    """The sweep's cost.

    Attributes:
        trained: by all trials, failed ones and repeats included.
        evaluation_seconds: the part of its device time that evaluations took; NaN where that is not on record of
            every trial that has device time.
        repeats: by trials that train another's configuration again with a new seed; `repeat_trials` of them.
        stopped: how many trials a scheduler stopped.
        spared: what these would have trained on to the end, at their own rate per step so far: an estimate.
        baseline_seconds: device time of baselines.
        busy_seconds: what the engines were busy; NaN where the run does not say.
        packing: None where no trial was probed.
    """

    trained: Amount
    evaluation_seconds: float
    repeats: Amount
    repeat_trials: int
    stopped: int
    spared: Amount
    baseline_seconds: float
    busy_seconds: float
    packing: Packing | None

    @property
    def other_seconds(self) -> float:
        """Busy time that belongs to no trial and no baseline: warming up, scoring finalists and the untouched base."""
        return self.busy_seconds - self.trained.device_seconds - self.baseline_seconds


def get_savings(run: RunFolder | Results) -> Savings:
    """Cost and savings of a run."""
    results = read_results(run)
    repeats, stopped = results.repeats, results.with_status("stopped")
    trials = pd.concat([results.trials, repeats]) if len(repeats) else results.trials
    devices = results.info.get("devices")
    busy = [finite(one.get("busy_seconds")) for one in devices or () if isinstance(one, Mapping)]
    return Savings(
        trained=_trained(trials),
        evaluation_seconds=_evaluations(trials),
        repeats=_trained(repeats),
        repeat_trials=len(repeats),
        stopped=int((stopped["reached_step"] > 0).sum()),
        spared=_spared(stopped),
        baseline_seconds=float(results.baselines["device_seconds"].astype(float).sum()),
        busy_seconds=sum(busy) if busy else float("nan"),
        packing=_packing(trials),
    )


@dataclass(frozen=True)
class SavingsTexts:
    """What the page shows: rows of what, steps, tokens and device time; and how the estimates were made."""

    rows: tuple[tuple[str, str, str, str], ...]
    sentences: tuple[str, ...]


def savings_texts(run: RunFolder | Results) -> SavingsTexts:
    """Cost and savings of a run for people."""
    savings = get_savings(run)
    rows = [_row("Trained and evaluated", savings.trained)]
    if not math.isnan(savings.evaluation_seconds):
        rows.append(_evaluation_row(savings))
    if savings.repeat_trials:
        rows.append(_row(f"of it again with other seeds ({savings.repeat_trials})", savings.repeats))
    if savings.stopped:
        rows.append(_row(f"Spared by stopping {savings.stopped} early, about", savings.spared))
    return SavingsTexts(tuple(rows), tuple(_sentences(savings)))


def _sentences(savings: Savings) -> Iterator[str]:
    full = savings.trained.device_seconds + savings.spared.device_seconds
    if savings.stopped and full > 0:
        part = savings.spared.device_seconds / full
        yield (
            f"Stopping early spared about {units.percent(part)} of the device time that training every trial to its "
            "end would have taken. That is an estimate: each stopped trial's missing steps at its own tokens and "
            "device time per step so far, its evaluations included."
        )
    if savings.packing is not None:
        yield _packing_sentence(savings.packing)
    if savings.baseline_seconds > 0:
        yield f"The baselines took {units.duration(savings.baseline_seconds)} of device time."
    if savings.other_seconds > 0.5:
        yield (
            f"The engines were busy for {units.duration(savings.busy_seconds)}; "
            f"{units.duration(savings.other_seconds)} of it belongs to no trial and no baseline, such as warming "
            "up and scoring finalists."
        )
    if math.isnan(savings.evaluation_seconds) and savings.trained.device_seconds > 0:
        yield "How much of the trials' device time their evaluations took is not on record."


def _packing_sentence(packing: Packing) -> str:
    alone, packed = units.duration(packing.solo_seconds), units.duration(packing.packed_seconds)
    less = units.duration(abs(packing.saved))
    verdict = f"{less} less" if packing.saved > 0 else f"{less} more, so packing shows no gain here"
    whom = units.plural(packing.trials, "trial")
    return (
        f"Packing: {whom} took {packed} of device time together and would have taken about {alone} one by one "
        f"(probed from single steps timed alone), {verdict}. Other work on the machine changes both figures."
    )


def _row(name: str, amount: Amount) -> tuple[str, str, str, str]:
    steps, hours = amount.steps, amount.device_seconds / 3600
    time = units.duration(amount.device_seconds) + (f" ({hours:.1f} device-hours)" if hours >= 1 else "")
    return name, units.MISSING if math.isnan(steps) else f"{steps:,.0f}", units.count(amount.tokens), time


def _evaluation_row(savings: Savings) -> tuple[str, str, str, str]:
    seconds, total = savings.evaluation_seconds, savings.trained.device_seconds
    part = f" ({units.percent(seconds / total)})" if total > 0 else ""
    return "of it evaluations", units.MISSING, units.MISSING, units.duration(seconds) + part


def _evaluations(trials: pd.DataFrame) -> float:
    busy = trials[trials["device_seconds"].astype(float) > 0]
    return float(busy["evaluation_seconds"].astype(float).sum(skipna=False)) if len(busy) else math.nan


def _trained(trials: pd.DataFrame) -> Amount:
    names = ("reached_step", "tokens", "device_seconds")
    return Amount(*(float(trials[name].astype(float).sum(min_count=1)) for name in names))


def _spared(stopped: pd.DataFrame) -> Amount:
    known = stopped[stopped["reached_step"] > 0]
    reached = known["reached_step"].astype(float)
    missing = (known["steps"].astype(float) - reached).clip(lower=0)
    per_step = missing / reached
    return Amount(
        float(missing.sum()),
        float((known["tokens"].astype(float) * per_step).sum()),
        float((known["device_seconds"].astype(float) * per_step).sum()),
    )


def _packing(trials: pd.DataFrame) -> Packing | None:
    solo, packed = trials["solo_seconds"].astype(float), trials["device_seconds"].astype(float)
    known = (solo > 0) & (packed > 0)
    if not known.any():
        return None
    return Packing(int(known.sum()), float(packed[known].sum()), float(solo[known].sum()))
