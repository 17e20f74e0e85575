"""Which layers matter, measured side by side on the hold-out.

What the loss asks of a layer and how large its inputs are (`gradients`), what training put there (the spectrum's
energy), and what is lost when the layer's update is taken away. They answer different questions and may disagree: none
is a rank by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.cut import lora_layers, without
from lora_sweep.analysis.gradients import at_start, sensitivity
from lora_sweep.analysis.layers import depth_of, kind_of
from lora_sweep.analysis.session import AnalysisSession, Evaluation
from lora_sweep.analysis.spectrum import spectra
from lora_sweep.records import TrialRecord
from lora_sweep.tasks import HOLDOUT


def measure_importance(session: AnalysisSession, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Measure the layers of these trials and write RUN/analysis/importance.json.

    Returns:
        What was written: for each of `trials` the metrics of the `whole` adapter and `without_update`, then `layers`
        and `kinds` (all layers of one name in their blocks), with `loss_lost` and `quality_lost` without them.
    """
    options = session.engine.options
    content = {
        "metric": options.metric,
        "mode": options.mode,
        "split": HOLDOUT,
        "examples": len(session.engine.task.splits[HOLDOUT]),
        "note": session.holdout_note,
        **session.facts(),
        "trials": [importance_of(session, record) for record in records],
    }
    session.run.write_analysis("importance", content)
    return content


def importance_of(session: AnalysisSession, record: TrialRecord) -> dict[str, Any]:
    """One trial's layers by every measure, as in `measure_importance`; writes nothing."""
    started = time.perf_counter()
    adapter = session.adapter(record.trial_id)
    layers = lora_layers(adapter)
    groups = {"": [], "all": layers, **{f"kind {k}": names for k, names in _kinds(layers).items()}}
    groups |= {f"layer {name}": [name] for name in layers}
    lost = session.evaluate({key: without(adapter, names) for key, names in groups.items()}, HOLDOUT)
    whole = lost[""]
    rows = _layers(session, adapter, {name: lost[f"layer {name}"] for name in layers}, whole)
    kinds = [
        {"kind": kind, "layers": len(names), **_lost(session, lost[f"kind {kind}"], whole)}
        for kind, names in _kinds(layers).items()
    ]
    return {
        "trial_id": record.trial_id,
        "rank": record.config.rank,
        "target_label": record.config.target_label,
        "seconds": time.perf_counter() - started,
        "whole": dict(whole.metrics),
        "without_update": dict(lost["all"].metrics),
        "layers": rows,
        "kinds": kinds,
    }


def _layers(
    session: AnalysisSession, adapter: AdapterFile, lost: Mapping[str, Evaluation], whole: Evaluation
) -> list[dict[str, Any]]:
    beginning, effects = at_start(session, adapter), sensitivity(session, adapter)
    found = spectra(adapter)
    total = sum(layer.norm_update**2 for layer in found)
    return [
        {
            "name": layer.name,
            "depth": depth_of(layer.name),
            "kind": kind_of(layer.name),
            "rank": layer.rank,
            "parameters_per_rank": sum(layer.shape),
            "gradient_squared": beginning[layer.name].gradient_squared,
            "activation_squared": beginning[layer.name].activation_squared,
            "sensitivity": effects[layer.name],
            "energy_share": layer.norm_update**2 / total if total else 0.0,
            **_lost(session, lost[layer.name], whole),
        }
        for layer in found
    ]


def _lost(session: AnalysisSession, found: Evaluation, whole: Evaluation) -> dict[str, float]:
    """How much worse it is without: positive where the update helps."""
    options = session.engine.options
    sign = 1 if options.mode == "max" else -1
    return {
        "loss_lost": found.metrics["loss"] - whole.metrics["loss"],
        "quality_lost": sign * (whole.metrics[options.metric] - found.metrics[options.metric]),
    }


def _kinds(layers: Sequence[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name in layers:
        kinds.setdefault(kind_of(name), []).append(name)
    return kinds
