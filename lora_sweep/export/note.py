"""What the run folder remembers of an export: RUN/analysis/exports.json, and answers that it did not have."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lora_sweep.export.agreement import Agreement
from lora_sweep.export.check import Check
from lora_sweep.export.figures import recorded_outcomes
from lora_sweep.export.subject import Subject


def check_row(subject: Subject, check: Check) -> dict[str, Any]:
    """One row of RUN/analysis/exports.json (docs/export.md)."""
    row: dict[str, Any] = {
        "trial_id": subject.name,
        "metrics": {"test": dict(check.figures.metrics)},
        "intervals": {"test": {name: list(bounds) for name, bounds in check.figures.bounds.items()}},
        "examples": check.figures.examples,
        "dtype": check.dtype,
        "device": check.device,
        "through": "peft",
        "peft": check.peft,
        "run_dtype": subject.run_dtype,
        "agreement": _agreement(check.agreement),
        "seconds": check.seconds,
        "merged": None,
    }
    if check.merged is not None:
        row["merged"] = {
            "metrics": {"test": dict(check.merged.figures.metrics)},
            "dtype": check.merged.dtype,
            "agreement": _agreement(check.merged.agreement),
        }
    return row


def note_check(subject: Subject, check: Check) -> dict[str, Any]:
    """Replace the adapter's row, and keep its answers on test where the run has none.

    Returns:
        The row.
    """
    run, row = subject.run, check_row(subject, check)
    rows = (run.analysis("exports") or {}).get("rows") or []
    run.write_analysis("exports", {"rows": [*(one for one in rows if one["trial_id"] != subject.name), row]})
    if recorded_outcomes(subject, "test") is None:
        run.write_outcomes(subject.name, check.outcomes)
    return row


def _agreement(own: Agreement | None) -> dict[str, Any] | None:
    return None if own is None else asdict(own)
