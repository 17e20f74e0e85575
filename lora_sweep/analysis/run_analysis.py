"""All analyses of a run, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from lora_sweep.analysis.importance import measure_importance
from lora_sweep.analysis.latency import measure_latency
from lora_sweep.analysis.rank_curve import measure_rank_curves
from lora_sweep.analysis.session import open_session
from lora_sweep.analysis.spectra import measure_spectra
from lora_sweep.errors import InputError, RunFolderError
from lora_sweep.store import RunFolder

logger = logging.getLogger(__name__)

ANALYSES = ("spectra", "rank_curves", "importance", "latency")


def analyse_run(
    run: RunFolder,
    top: int = 3,
    skip: Collection[str] = (),
    device: str = "auto",
    told: Callable[[str], None] = logger.info,
) -> tuple[str, ...]:
    """Measure the leading complete trials of a run and write RUN/analysis/NAME.json.

    The layers' importance is measured on the best of them alone: it takes an evaluation for every layer.

    Args:
        run: the run.
        top: how many of the complete trials, best kept metric first.
        skip: analyses to leave out, of `ANALYSES`.
        device: `cpu`, `cuda` or `auto`.
        told: hears what is being measured.

    Returns:
        The analyses that were written.

    Raises:
        RunFolderError: no complete trial has LoRA layers, or base or data have changed.
        InputError: `skip` holds an unknown name.
    """
    unknown = sorted(set(skip) - set(ANALYSES))
    if unknown:
        raise InputError("--skip", f"must be of {', '.join(ANALYSES)}", unknown[0])
    session = open_session(run, device)
    records = session.leading(top)
    if not records:
        rule = "must hold a complete trial with LoRA layers and its adapter"
        raise RunFolderError(str(run.path), rule, None, "Stopped trials are not compared: let one run to its end.")
    steps: dict[str, Callable[[], object]] = {
        "spectra": lambda: measure_spectra(run, records),
        "rank_curves": lambda: measure_rank_curves(session, records),
        "importance": lambda: measure_importance(session, records[:1]),
        "latency": lambda: measure_latency(session, records),
    }
    wanted = tuple(name for name in ANALYSES if name not in skip)
    for name in wanted:
        told(name.replace("_", " "))
        steps[name]()
    return wanted
