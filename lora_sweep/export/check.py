"""The exported files, evaluated as their user will load them: through PEFT on the plain base, and merged."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lora_sweep.errors import DataError, InputError
from lora_sweep.export.agreement import Agreement, agreement
from lora_sweep.export.answers import answers
from lora_sweep.export.base_call import BaseCall
from lora_sweep.export.figures import Figures, figures_of, recorded_figures, recorded_outcomes
from lora_sweep.export.merged import check_base
from lora_sweep.export.subject import Subject
from lora_sweep.model_files import as_model_error, gguf_file, load_tokenizer, without_bars
from lora_sweep.models import free_memory, resolve_dtype
from lora_sweep.sweep_file import load_resolved
from lora_sweep.tasks import EncodedTask, prepare_task

if TYPE_CHECKING:
    import pandas as pd

Tell = Callable[[str], None]

_ROOM = 1.3  # activations and the adapter beside the base's weights


@dataclass(frozen=True)
class MergedCheck:
    """The merged model on the test data, in the dtype that it was saved in."""

    figures: Figures
    dtype: str
    agreement: Agreement | None


@dataclass(frozen=True)
class Check:
    """The adapter on the test data through PEFT.

    Attributes:
        figures: what it reached.
        outcomes: its answers, one row an example.
        task: the run's data.
        agreement: beside the run's own answers on `test`, or where it has none there on `eval`; None without both.
        dtype: of the base's weights in this check.
        device: `cpu` or `cuda`.
        peft: the version of PEFT.
        seconds: that all of it took.
        merged: the merged model; None where it was not written.
    """

    figures: Figures
    outcomes: pd.DataFrame
    task: EncodedTask
    agreement: Agreement | None
    dtype: str
    device: str
    peft: str
    seconds: float
    merged: MergedCheck | None


@dataclass(frozen=True)
class NotChecked:
    """No check, and why.

    Attributes:
        reason: a clause, such as `the data have changed`.
        alarm: whether the exported files are at fault, rather than what the check needs.
    """

    reason: str
    alarm: bool = False


class _Unusable(Exception):
    """PEFT or Transformers do not load what was exported."""


def check_export(subject: Subject, folder: Path, merged: Path | None, tell: Tell) -> Check | NotChecked:
    """Evaluate what was exported on the run's test part.

    Args:
        subject: what was exported.
        folder: with the adapter.
        merged: the merged model's folder.
        tell: is told what is going on.
    """
    try:
        return _check(subject, folder, merged, tell)
    except _Unusable as error:
        return NotChecked(str(error), alarm=True)
    except ImportError as error:
        return NotChecked(f"PEFT is not installed as it must be ({error})")
    except (InputError, MemoryError, torch.OutOfMemoryError) as error:
        return NotChecked(str(error) or type(error).__name__)


def encoded_task(subject: Subject) -> EncodedTask:
    """The run's data, as its trials saw them.

    Raises:
        InputError: they cannot be read, or are no longer what they were.
    """
    config = load_resolved(subject.run.sweep_file)
    task = prepare_task(config.task, load_tokenizer(subject.model_config), config.search.seed)
    for part, source in task.sources.items():
        recorded = subject.info["data"]["parts"][part].get("sha256")
        if recorded != source.sha256:
            raise DataError(source.path, f"must still have the hash {recorded}", source.sha256)
    return task


def _check(subject: Subject, folder: Path, merged: Path | None, tell: Tell) -> Check:
    import peft

    started = time.perf_counter()
    tell("encoding the test data")
    task = encoded_task(subject)
    check_base(subject)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = _reference_dtype(subject, device)
    tell("loading the base and the adapter with PEFT")
    model = _through_peft(subject, folder, dtype, device)
    tell(f"evaluating the adapter through PEFT on {len(task.splits['test']):,} test examples")
    found = answers(model, task, "test")
    part = "test" if recorded_outcomes(subject, "test") is not None else "eval"
    compared = found if part == "test" else answers(model, task, part)
    own = _agreement(subject, compared, dtype)
    del model
    merged_check = None
    if merged is not None:
        tell("evaluating the merged model")
        merged_check = _check_merged(subject, merged, task, part, device)
    return Check(
        figures=figures_of(found),
        outcomes=found,
        task=task,
        agreement=own,
        dtype=_name(dtype),
        device=device,
        peft=peft.__version__,
        seconds=time.perf_counter() - started,
        merged=merged_check,
    )


def _check_merged(subject: Subject, folder: Path, task: EncodedTask, part: str, device: str) -> MergedCheck:
    import transformers

    kind = getattr(transformers, BaseCall.of(subject).class_name)
    code = subject.model_config.trust_remote_code
    try:
        with without_bars():
            model = kind.from_pretrained(folder, dtype="auto", trust_remote_code=code).to(device).eval()
    except Exception as error:  # whatever transformers raises
        raise _Unusable(f"transformers does not load the merged model ({_line(error)})") from error
    found = answers(model, task, "test")
    compared = found if part == "test" else answers(model, task, part)
    return MergedCheck(figures_of(found), _name(model.dtype), _agreement(subject, compared, model.dtype))


def _through_peft(subject: Subject, folder: Path, dtype: torch.dtype, device: str) -> Any:
    """The base with the adapter on it.

    Raises:
        _Unusable: PEFT does not load it, or misses weights in it.
    """
    import peft

    with as_model_error(subject.model_config):
        base = BaseCall.of(subject).load(dtype, device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = peft.PeftModel.from_pretrained(base, str(folder)).eval()
        except Exception as error:  # whatever PEFT raises
            raise _Unusable(f"PEFT does not load the adapter ({_line(error)})") from error
    missing = next((str(one.message) for one in caught if "missing adapter keys" in str(one.message)), None)
    if missing is not None:
        raise _Unusable(f"PEFT misses weights in the adapter ({missing.strip().splitlines()[0][:200]})")
    return model


def _agreement(subject: Subject, found: pd.DataFrame, dtype: torch.dtype) -> Agreement | None:
    part = str(found["split"].iloc[0])
    recorded, figures = recorded_outcomes(subject, part), recorded_figures(subject, part)
    if recorded is None:
        return None
    name = subject.metric.name
    # an engine works on a GGUF file's weights as they are rounded to bf16 when it is unpacked
    rounded = {subject.run_dtype, _name(dtype)} != {"float32"} or gguf_file(subject.model_config) is not None
    bounds = None if figures is None else figures.bounds.get(name)
    return agreement(found, recorded, figures_of(found).metrics[name], bounds, rounded)


def _reference_dtype(subject: Subject, device: str) -> torch.dtype:
    """fp32, or what the run asked for where fp32 weights do not fit."""
    free, parameters = free_memory(device), int(subject.info["model"].get("parameters") or 0)
    if free is None or _ROOM * 4 * parameters <= free:
        return torch.float32
    return resolve_dtype(subject.model_config.dtype, device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
