"""From the run folder's outcomes to aligned ones.

Only examples that all trials share are kept, in the order of the first trial. A trial whose outcomes do not fit (none,
doubled examples, of another step than its record, other labels, too few shared examples) is left out with its reason:
comparing it would compare different things.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from reports.statistics.normal import Bools, Floats
from reports.statistics.outcomes import Outcomes

SHARED_AT_LEAST = 0.9
"""The part of the examples seen by at least half of the trials that each must have, or it is left out."""

NO_OUTCOMES = "it has no outcomes"
_KINDS = (("label", "prediction", "logits"), ("nll_sum", "tokens"), ("label", "prediction"), ("correct",))
"""What is on record of an example; imported runs may have no logits, or no more than whether it was right."""


class OutcomeSource(Protocol):
    """Whatever has outcomes by trial, as a run folder does."""

    def outcomes(self, trial_id: str) -> pd.DataFrame | None:
        """The trial's outcome on every example; None when it has none."""


def read_outcomes(
    run: OutcomeSource, trial_ids: Sequence[str], split: str, steps: Mapping[str, int] | None = None
) -> Outcomes:
    """Read and align the outcomes of some trials on one part of the data.

    Args:
        run: the run folder, or another source.
        trial_ids: whose outcomes, in the order of the result.
        split: `eval` or `test`.
        steps: the kept step of each trial; outcomes of another step are left out. None does not check.
    """
    parts: dict[str, pd.DataFrame] = {}
    left_out: dict[str, str] = {}
    for trial_id in trial_ids:
        part, reason = _part(run, trial_id, split, None if steps is None else steps.get(trial_id))
        if part is None:
            left_out[trial_id] = reason
        else:
            parts[trial_id] = part
    misfits = _misfits(parts, split)
    left_out |= misfits
    parts = {name: part for name, part in parts.items() if name not in left_out}
    found = _matrices(split, parts, left_out) if parts else Outcomes(split, left_out=left_out)
    return replace(found, misfits=tuple(misfits))


def _part(run: OutcomeSource, trial_id: str, split: str, step: int | None) -> tuple[pd.DataFrame | None, str]:
    """A trial's rows by example, or why they cannot be used."""
    try:
        frame = run.outcomes(trial_id)
    except (OSError, ValueError) as error:
        return None, f"its outcomes cannot be read ({type(error).__name__})"
    if frame is None:
        return None, NO_OUTCOMES
    columns = next((kind for kind in _KINDS if set(kind) <= set(frame.columns)), None)
    if columns is None or not {"example_id", "split", "step"} <= set(frame.columns):
        return None, "its outcomes lack columns"
    part = frame[frame["split"] == split]
    if part.empty:
        return None, f"it has no outcomes on {split}"
    if part["example_id"].duplicated().any():
        return None, f"its outcomes on {split} hold an example twice"
    seen = sorted(set(part["step"]))
    if step is not None and seen != [step]:
        return None, f"its outcomes are of step {', '.join(map(str, seen))}, its record of step {step}"
    part = part[["example_id", *columns]]
    if (reason := _unusable(part)) is not None:
        return None, f"its outcomes on {split} {reason}"
    return _lean(part).set_index("example_id"), ""


def _unusable(part: pd.DataFrame) -> str | None:
    """What is wrong with the figures of a trial's rows."""
    figures = part.drop(columns=["example_id", "logits"], errors="ignore")
    try:
        finite = np.isfinite(figures.to_numpy(dtype=np.float64)).all()
    except (TypeError, ValueError):
        return "are not numbers"
    if not finite:
        return "are not finite"
    if "label" not in part.columns:
        return None
    low, high = figures.to_numpy().min(), figures.to_numpy().max()
    if "logits" not in part.columns:
        return None if low >= 0 else "name a class below 0"
    sizes = {np.size(one) for one in part["logits"]}
    if len(sizes) > 1:
        return f"hold {min(sizes)} to {max(sizes)} logits an example"
    if low < 0 or high >= min(sizes):
        return f"name a class outside 0 to {min(sizes) - 1}, of which there are logits"
    return None if np.isfinite(np.stack(list(part["logits"]))).all() else "are not finite"


def _lean(part: pd.DataFrame) -> pd.DataFrame:
    """The rows without logits, which would fill the memory: of them the negative log-likelihood and C are kept."""
    if "logits" not in part.columns:
        return part
    return part.drop(columns="logits").assign(nll=_nll(part), classes=np.int16(np.size(part["logits"].iloc[0])))


def _misfits(parts: Mapping[str, pd.DataFrame], split: str) -> dict[str, str]:
    """The trials that lack examples which most trials have, or state other facts about the same examples."""
    seen = Counter(name for part in parts.values() for name in part.index)
    common = pd.Index([name for name, times in seen.items() if 2 * times >= len(parts)], dtype=object)
    found: dict[str, str] = {}
    facts: dict[str, pd.Series[Any]] = {}
    for trial_id, part in parts.items():
        shared = int(part.index.isin(common).sum())
        if shared < SHARED_AT_LEAST * len(common):
            found[trial_id] = f"it has outcomes on {shared} of {len(common)} examples of {split}"
        # what is right or wrong states nothing about the example itself
        elif own := [part[name] for name in ("label", "tokens") if name in part.columns]:
            facts[trial_id] = own[0]
    return found | _at_odds(facts)


def _at_odds(facts: Mapping[str, pd.Series[Any]]) -> dict[str, str]:
    """The trials that state other facts about the examples than the most do; of equally many, than the first do."""
    groups: list[list[str]] = []
    for trial_id, own in facts.items():
        for group in groups:
            if own.name == facts[group[0]].name and _agree(own, facts[group[0]]):
                group.append(trial_id)
                break
        else:
            groups.append([trial_id])
    most = max(groups, key=len, default=[])
    names = {"label": "labels"}
    others = {trial_id: str(facts[trial_id].name) for group in groups if group is not most for trial_id in group}
    return {
        trial_id: f"its {names.get(what, what)} differ from those of the others" for trial_id, what in others.items()
    }


def _agree(facts: pd.Series[Any], first: pd.Series[Any]) -> bool:
    if facts.index.equals(first.index):
        return np.array_equal(facts.to_numpy(), first.to_numpy())
    shared = facts.index.intersection(first.index)
    return np.array_equal(facts.loc[shared].to_numpy(), first.loc[shared].to_numpy())


def _matrices(split: str, parts: Mapping[str, pd.DataFrame], left_out: Mapping[str, str]) -> Outcomes:
    frames = list(parts.values())
    shared = frames[0].index
    for part in frames[1:]:
        shared = shared if part.index.equals(shared) else shared[shared.isin(part.index)]
    dropped = len({name for part in frames for name in part.index}) - len(shared)
    is_language = "tokens" in frames[0].columns
    if is_language:
        # without a scored token an example says nothing
        shared = shared[(frames[0].loc[shared, "tokens"] > 0).to_numpy()]
    frames = [part if part.index.equals(shared) else part.loc[shared] for part in frames]
    labelled = all("label" in part.columns for part in frames)
    nll = [
        next((part[name].to_numpy(np.float64) for name in ("nll", "nll_sum") if name in part), None) for part in frames
    ]
    return Outcomes(
        split=split,
        trial_ids=tuple(parts),
        example_ids=shared.to_numpy(dtype=object),
        labels=frames[0]["label"].to_numpy(dtype=np.int64) if labelled else None,
        predictions=np.stack([part["prediction"].to_numpy(dtype=np.int64) for part in frames]) if labelled else None,
        hits=None if is_language else np.stack([_hits(part) for part in frames]),
        nll=np.stack([one for one in nll if one is not None]) if all(one is not None for one in nll) else None,
        tokens=frames[0]["tokens"].to_numpy(dtype=np.int64) if is_language else None,
        classes=_classes(frames) if labelled and len(shared) else 0,
        dropped=dropped,
        left_out=left_out,
    )


def _hits(part: pd.DataFrame) -> Bools:
    """Which examples were answered rightly."""
    if "correct" in part.columns:
        return part["correct"].to_numpy(dtype=np.bool_)
    hits: Bools = (part["label"] == part["prediction"]).to_numpy(dtype=np.bool_)
    return hits


def _classes(frames: Sequence[pd.DataFrame]) -> int:
    """C: as many as there are logits, or else as are named."""
    for part in frames:
        if "classes" in part.columns:
            return int(part["classes"].iloc[0])
    return 1 + max(int(part[name].max()) for part in frames for name in ("label", "prediction"))


def _nll(part: pd.DataFrame) -> Floats:
    """Each example's negative log-likelihood in nats, from its logits."""
    logits = np.stack(list(part["logits"])).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    labels = part["label"].to_numpy(dtype=np.int64)
    nll: Floats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return nll
