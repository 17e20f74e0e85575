"""The run folder: the one place where a sweep's results are written and read (docs/run-folder.md).

    RUN/sweep.yaml   RUN/run.json   RUN/trials.jsonl   RUN/adapters/ID/   RUN/outcomes/ID.parquet
    RUN/analysis/NAME.json   RUN/report.html   RUN/tables/NAME.csv   RUN/tune/

Files appear whole: they are written beside their place and renamed. `trials.jsonl` is only ever appended to; when
a trial stands there twice, the later line counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from pydantic import ValidationError

from lora_sweep.errors import RunFolderError
from lora_sweep.records import TrialRecord

if TYPE_CHECKING:
    import pandas as pd


class RunFolder:
    """Reads and writes one run's files.

    Use `create` for a new run and `open` for an existing one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new, empty run folder.

        Raises:
            RunFolderError: something already stands at `path`, or nothing can be made there.
        """
        check_is_free(path)
        with as_run_folder_error(path):
            for part in ("adapters", "outcomes", "analysis", "tables"):
                (path / part).mkdir(parents=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            RunFolderError: `path` is no run folder.
        """
        if not (path / "run.json").is_file():
            rule = "must be a run folder (with a run.json inside)"
            raise RunFolderError(str(path), rule, None, "`lora-sweep run` makes one and prints its path.")
        return cls(path)

    # Configuration and run information -------------------------------------------------------------------------

    @property
    def sweep_file(self) -> Path:
        return self.path / "sweep.yaml"

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json: versions, commit, devices, seeds, start, end, status, hashes of base and data."""
        _write_json(self.path / "run.json", info)

    def info(self) -> dict[str, Any]:
        """The content of run.json."""
        return _read_json(self.path / "run.json")

    # Trials ----------------------------------------------------------------------------------------------------

    def append_record(self, record: TrialRecord) -> None:
        """Add one trial's outcome, flushed to the disk before this returns."""
        self.append_records([record])

    def append_records(self, records: Iterable[TrialRecord]) -> None:
        """Add the outcomes of several trials, flushed to the disk before this returns."""
        with (self.path / "trials.jsonl").open("ab+") as file:
            _drop_cut_off_line(file)
            for record in records:
                file.write(record.to_line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[TrialRecord]:
        """All trials in the order in which they ended; a last line cut off by a crash is left out.

        Raises:
            RunFolderError: a line before the last is no record.
        """
        file = self.path / "trials.jsonl"
        # not splitlines(): it also cuts at separators that JSON leaves inside its texts
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []
        if lines and not lines[-1]:
            lines.pop()
        records: dict[str, TrialRecord] = {}
        for number, line in enumerate(lines, start=1):
            try:
                record = TrialRecord.model_validate_json(line)
            except ValidationError as error:
                if number == len(lines):
                    break
                place = f"{file}: line {number}"
                raise RunFolderError(place, "must be a trial record", line, str(error.errors()[0]["msg"])) from None
            records.pop(record.trial_id, None)
            records[record.trial_id] = record
        return list(records.values())

    def adapter_dir(self, trial_id: str) -> Path:
        """Where the trial's adapter lies, in PEFT's format."""
        return self.path / "adapters" / _as_name(trial_id)

    # Outcomes --------------------------------------------------------------------------------------------------

    def write_outcomes(self, trial_id: str, outcomes: pd.DataFrame) -> None:
        """Replace the trial's outcomes on the splits that `outcomes` holds; rows of other splits stay.

        Args:
            trial_id: the trial.
            outcomes: one row per example: example_id, split, step, then label, prediction, logits
                (classification) or nll_sum, tokens (causal-lm).
        """
        import pandas as pd

        file = self._outcomes_file(trial_id)
        if file.exists():
            kept = pd.read_parquet(file)
            kept = kept[~kept["split"].isin(outcomes["split"].unique())]
            if len(kept):
                outcomes = pd.concat([kept, outcomes], ignore_index=True)
        part = file.with_suffix(".part")
        outcomes.to_parquet(part, index=False)
        part.replace(file)

    def outcomes(self, trial_id: str) -> pd.DataFrame | None:
        """The trial's outcome on every example it was evaluated on; None when it has none."""
        import pandas as pd

        file = self._outcomes_file(trial_id)
        return pd.read_parquet(file) if file.exists() else None

    def _outcomes_file(self, trial_id: str) -> Path:
        return self.path / "outcomes" / f"{_as_name(trial_id)}.parquet"

    # Analyses --------------------------------------------------------------------------------------------------

    def write_analysis(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace RUN/analysis/NAME.json."""
        _write_json(self.path / "analysis" / f"{name}.json", content)

    def analysis(self, name: str) -> dict[str, Any] | None:
        """The content of RUN/analysis/NAME.json; None when that was not measured."""
        file = self.path / "analysis" / f"{name}.json"
        return _read_json(file) if file.exists() else None


def check_is_free(path: Path) -> None:
    """Refuse a run folder where something already stands.

    Raises:
        RunFolderError: with the ways out.
    """
    if path.exists():
        fix = "Choose another --output or --name, go on with `lora-sweep resume`, or remove it."
        raise RunFolderError(str(path), "the run folder must not exist yet", None, fix)


def check_made_here(run: RunFolder) -> None:
    """Refuse a run that was imported where a run's base, data or adapters are needed.

    Raises:
        RunFolderError: with the table that it came from.
    """
    imported = run.info().get("imported")
    if imported is not None:
        rule = f"this run was imported from {imported.get('table')}; it has no adapters and no base"
        raise RunFolderError(str(run.path), rule, None, "`report` and `pick` without --export work on it.")


@contextmanager
def as_run_folder_error(path: Path) -> Iterator[None]:
    """Say that a folder cannot be made at `path` when the file system refuses.

    Raises:
        RunFolderError: with the file system's reason.
    """
    try:
        yield
    except OSError as error:
        rule = f"must be where a folder can be made ({error.strerror})"
        raise RunFolderError(str(path), rule, None, "Choose another place.") from None


def _as_name(trial_id: str) -> str:
    """A trial's id as the name of a file: ids of imported trials may hold anything, a path among it."""
    name = quote(trial_id, safe="@ +=,")
    return name if name.strip(".") else name.replace(".", "%2E")


def _drop_cut_off_line(file: BinaryIO) -> None:
    """Cut the file behind its last whole line, or the next one would be glued to what a crash left."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
    part.replace(file)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunFolderError(str(file), f"must be JSON ({error})") from None
    if not isinstance(content, dict):
        raise RunFolderError(str(file), "must hold a JSON object")
    return content
