"""Writing an exported folder: everything in it, checked, before it gets its name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lora_sweep.adapters import read_adapter
from lora_sweep.errors import InputError, ModelError, RunFolderError
from lora_sweep.export import card_figures
from lora_sweep.export.card import Contents, render_card
from lora_sweep.export.check import Check, NotChecked, Tell, check_export
from lora_sweep.export.merged import check_base, write_merged
from lora_sweep.export.note import check_row, note_check
from lora_sweep.export.script import write_script
from lora_sweep.export.subject import Subject, read_subject
from lora_sweep.model_files import load_tokenizer
from lora_sweep.store import RunFolder, as_run_folder_error

MOST_TOKENIZER_BYTES = 32_000_000
"""A larger tokenizer is left with the base; with a smaller one the folder alone reads texts as the trial did."""


@dataclass(frozen=True)
class Exported:
    """An exported folder.

    Attributes:
        folder: where it is; `folder/merged` holds the merged model where that was asked for.
        figure: what the adapter reached through PEFT, a clause; empty when that was not evaluated.
        row: what was noted in RUN/analysis/exports.json; None when it was not evaluated.
        warnings: what is not as one would expect, a sentence each.
        errors: why the adapter is not to be used, a sentence each.
    """

    folder: Path
    figure: str
    row: dict[str, Any] | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def export_trial(
    run: RunFolder,
    trial_id: str,
    folder: Path,
    merge: bool,
    *,
    check: bool = True,
    chosen: Sequence[str] = (),
    tell: Tell = lambda _: None,
) -> Exported:
    """Write an adapter of a run into a new folder: with tokenizer, card and script, and with `merge` the merged model.

    Args:
        run: the run.
        trial_id: whose adapter; or the name of a cut, such as `009-a1df30@rank4`.
        folder: must not exist yet.
        merge: whether to write the base with the update added to its weights, in the checkpoint's own dtype.
        check: whether to load what was written with PEFT and evaluate it on the test part.
        chosen: why this adapter, for the card: the sentences of a pick.
        tell: is told what is going on.

    Raises:
        RunFolderError: the folder exists, or the trial left no adapter or no record.
        ModelError: the base is not the one that the run was made with, and a merged model was asked for.
        AdapterFormatError: the adapter's files are broken.
    """
    subject = read_subject(run, trial_id)
    if folder.exists():
        raise RunFolderError(str(folder), "the export folder must not exist yet", None, "Choose another, or remove it.")
    if merge:
        check_base(subject)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with as_run_folder_error(folder):
            shutil.copytree(subject.adapter, part)
        checked, warnings = _fill(subject, part, merge, check, chosen, tell)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    errors = tuple(card_figures.alarms(checked))
    if isinstance(checked, NotChecked):
        if check and not checked.alarm:
            warnings.append(f"The exported files were not evaluated: {checked.reason}")
        return Exported(folder, "", None, tuple(warnings), errors)
    figure = card_figures.headline_text(subject, checked)
    try:
        row = note_check(subject, checked)
    except OSError as error:
        warnings.append(f"The run folder could not be written ({error.strerror}): it does not know of this export.")
        row = check_row(subject, checked)
    return Exported(folder, figure, row, tuple(warnings), errors)


def _fill(
    subject: Subject, folder: Path, merge: bool, check: bool, chosen: Sequence[str], tell: Tell
) -> tuple[Check | NotChecked, list[str]]:
    """Put everything but the adapter into the folder; returns what the check found, and warnings."""
    adapter = read_adapter(subject.adapter)
    warnings: list[str] = []
    merged = folder / "merged" if merge else None
    if merged is not None:
        tell("merging")
        write_merged(subject, merged)
    tokenizer = _tokenizer(subject, warnings)
    has_tokenizer = tokenizer is not None and _write_tokenizer(tokenizer, folder)
    checked: Check | NotChecked = NotChecked("it was asked for so (--no-check)")
    if check:
        checked = check_export(subject, folder, merged, tell)
    no_script = _write_script(subject, folder, tokenizer, has_tokenizer, checked)
    if no_script:
        warnings.append(f"There is no train.py: {no_script}")
    contents = Contents(has_tokenizer, merged is not None, no_script)
    (folder / "README.md").write_text(render_card(subject, adapter, contents, checked, chosen), encoding="utf-8")
    return checked, warnings


def _tokenizer(subject: Subject, warnings: list[str]) -> Any | None:
    """The base's tokenizer; None, with a warning, where the base is not here any more."""
    try:
        return load_tokenizer(subject.model_config)
    except ModelError as error:
        warnings.append(f"The tokenizer's files are not in the folder: {error}")
        return None


def _write_tokenizer(tokenizer: Any, folder: Path) -> bool:
    """Put the tokenizer beside the adapter unless it is large; returns whether it is there."""
    with TemporaryDirectory(dir=folder) as aside:
        tokenizer.save_pretrained(aside)
        files = [file for file in Path(aside).rglob("*") if file.is_file()]
        if sum(file.stat().st_size for file in files) > MOST_TOKENIZER_BYTES:
            return False
        for file in Path(aside).iterdir():
            file.rename(folder / file.name)
    return True


def _write_script(
    subject: Subject, folder: Path, tokenizer: Any | None, has_tokenizer: bool, checked: Check | NotChecked
) -> str:
    """Write train.py; returns why it could not be written, or nothing."""
    if tokenizer is None:
        return "the base's tokenizer is not here to tell how texts are written."
    chat = bool(getattr(tokenizer, "chat_template", None)) and not subject.task.get("text")
    try:
        write_script(subject, folder, chat, has_tokenizer, checked)
    except InputError as error:
        return str(error)
    return ""
