"""RUN/run.json: what ran, where, for how long, and how it ended."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lora_sweep
from lora_sweep.engine.api import EngineInfo
from lora_sweep.records import SCHEMA_VERSION
from lora_sweep.store import RunFolder

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

PACKAGES = ("ray", "torch", "transformers", "optuna", "safetensors", "numpy")

RunStatus = Literal["running", "complete", "interrupted", "failed"]


class RunLog:
    """Keeps run.json up to date while a sweep runs.

    Args:
        config: the sweep.
        run: its folder.
        facts: the caller's part: model, data and whatever else belongs on record.
    """

    def __init__(self, config: SweepConfig, run: RunFolder, facts: Mapping[str, Any]) -> None:
        self._run = run
        self._began = time.monotonic()
        before = run.info() if (run.path / "run.json").is_file() else {}
        self._earlier_seconds = float(before.get("wall_seconds") or 0)
        self._info = before | _description(config) | dict(facts)
        self._info.setdefault("name", config.name or run.path.name)
        self._info.setdefault("started", _now())
        self._info.setdefault("devices", [])
        self._info["trials"] = {"planned": config.search.trials}

    def write(self, status: RunStatus, error: str | None = None) -> None:
        """Write the file anew, with the trials counted from their records."""
        records = self._run.records()
        searched: list[str] = [record.status for record in records if record.repeat_of is None]
        repeated: list[str] = [record.status for record in records if record.repeat_of is not None]
        for name in ("complete", "stopped", "failed"):
            self._info["trials"][name] = searched.count(name)
        for name in ("complete", "failed") if "repeats" in self._info else ():
            self._info["repeats"][name] = repeated.count(name)
        self._info["status"] = status
        self._info["error"] = error
        self._info["ended"] = None if status == "running" else _now()
        self._info["wall_seconds"] = round(self._earlier_seconds + time.monotonic() - self._began, 3)
        self._run.write_info(self._info)

    def plan(self, trials: int, notes: Sequence[str]) -> None:
        """Take down how many trials there will be."""
        self._info["trials"]["planned"] = trials
        self._info["search_notes"] = list(notes)

    def plan_repeats(self, repeats: int) -> None:
        """Take down how many times finalists will be trained again."""
        self._info["repeats"] = {"planned": repeats}

    @property
    def planned(self) -> int:
        """Trials and repeats, those of before a resume included."""
        return int(self._info["trials"]["planned"]) + int(self._info.get("repeats", {}).get("planned", 0))

    def engines(self, infos: Sequence[EngineInfo]) -> None:
        """Take down what the engines say; kept figures of a restarted engine begin at its restart."""
        self._info["devices"] = [
            {"engine": number, **{name: value for name, value in asdict(info).items() if name != "open_trials"}}
            for number, info in enumerate(infos)
        ]


def _description(config: SweepConfig) -> dict[str, Any]:
    parts = config.model_dump(mode="json")
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "schema_version": SCHEMA_VERSION,
        "versions": {"lora_sweep": lora_sweep.__version__, "python": platform.python_version(), **versions},
        "commit": _commit(),
        "seed": config.search.seed,
        **{name: parts[name] for name in ("model", "task", "metric", "search", "scheduler", "budget")},
    }


def _commit() -> str | None:
    """Of this package's own source, when it runs from a git checkout."""
    source = Path(lora_sweep.__file__).parent
    command = ["git", "-C", str(source), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # an installed copy below somebody else's repository is not that repository's commit
    tracked = subprocess.run(
        [*command[:3], "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 and tracked.returncode == 0 else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
