"""The spectra of trained updates, layer by layer, as RUN/analysis/spectra.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_sweep.adapters import read_adapter
from lora_sweep.analysis.layers import depth_of, kind_of
from lora_sweep.analysis.spectrum import LayerSpectrum, spectra
from lora_sweep.records import TrialRecord
from lora_sweep.store import RunFolder


def measure_spectra(run: RunFolder, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Decompose the updates of these trials and write RUN/analysis/spectra.json; needs the adapters alone.

    Returns:
        What was written: for each of `trials` its `layers`, with `energy` and `error` by rank, and `norms`, the
        norms of A, B and the update at the trial's evaluations where they are on record.
    """
    content = {"trials": [_trial(run, record) for record in records]}
    run.write_analysis("spectra", content)
    return content


def _trial(run: RunFolder, record: TrialRecord) -> dict[str, Any]:
    layers = spectra(read_adapter(run.adapter_dir(record.trial_id)))
    total = sum(layer.norm_update**2 for layer in layers)
    return {
        "trial_id": record.trial_id,
        "rank": record.config.rank,
        "target_label": record.config.target_label,
        "layers": [_layer(layer, total) for layer in layers],
        "norms": [
            {"step": point.step, **point.norms.model_dump()} for point in record.history if point.norms is not None
        ],
    }


def _layer(layer: LayerSpectrum, total: float) -> dict[str, Any]:
    return {
        "name": layer.name,
        "depth": depth_of(layer.name),
        "kind": kind_of(layer.name),
        "out": layer.shape[0],
        "in": layer.shape[1],
        "rank": layer.rank,
        "norm_a": layer.norm_a,
        "norm_b": layer.norm_b,
        "norm_update": layer.norm_update,
        "energy_share": layer.norm_update**2 / total if total else 0.0,
        "stable_rank": layer.stable_rank,
        "effective_rank": layer.effective_rank,
        "singular_values": list(layer.singular_values),
        "energy": list(layer.energy),
        "error": list(layer.errors),
    }
