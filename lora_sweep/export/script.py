"""train.py: the trial's training in PEFT and Transformers alone, for whoever gets the folder without lora_sweep."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from lora_sweep.adapters.peft_format import CONFIG_FILE
from lora_sweep.errors import RunFolderError
from lora_sweep.export.base_call import BaseCall
from lora_sweep.export.card_figures import headline
from lora_sweep.export.check import Check, NotChecked, encoded_task
from lora_sweep.export.figures import Figures
from lora_sweep.export.subject import Subject
from lora_sweep.tasks import HOLDOUT, EncodedSplit

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_PARTS = ("train", "eval", "test")
_SHAPE = (
    "r", "lora_alpha", "lora_dropout", "bias", "target_modules", "modules_to_save", "rank_pattern", "alpha_pattern",
    "fan_in_fan_out", "task_type",
)  # fmt: skip


_WIDTH = 100


class _Bare(str):
    """Code that is written as it stands."""

    __slots__ = ()


def write_script(subject: Subject, folder: Path, chat: bool, has_tokenizer: bool, checked: Check | NotChecked) -> None:
    """Write train.py, and splits.json where parts of the data were set aside.

    Args:
        subject: what is exported.
        folder: where.
        chat: whether the trial's examples went through a chat template.
        has_tokenizer: whether the tokenizer lies in the folder too.
        checked: its figures on test are what the script compares its own with. Without a check the data are encoded
            here, to find what was set aside.

    Raises:
        InputError: parts were set aside, and the data are not there to tell which examples.
    """
    set_aside = _set_aside(subject, checked)
    if set_aside:
        (folder / "splits.json").write_text(json.dumps(set_aside) + "\n", encoding="utf-8")
    expected = _expected(subject, headline(subject, checked))
    context = _context(subject, chat) | {"set_aside": bool(set_aside), "card": expected}
    context["held_out"] = HOLDOUT in set_aside
    context |= {"has_tokenizer": has_tokenizer, "trust": subject.model_config.trust_remote_code}
    context["needs_json"] = bool(set_aside or "jsonl" in context["suffixes"] or context["messages"])
    template = _environment().get_template("train.py.j2")
    (folder / "train.py").write_text(template.render(context), encoding="utf-8")


def _environment() -> Environment:
    """Whatever is put into the script is a literal, so that no text of the user's can become code."""
    environment = Environment(
        loader=PackageLoader("lora_sweep.export"),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, _Bare) else _literal(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["bare"] = _bare
    return environment


def _literal(value: Any, indent: str = "") -> str:
    """A value of plain Python types as code, broken into lines where it is long."""
    line = _line(value)
    if len(line) <= _WIDTH or not isinstance(value, dict | list):
        return line
    inner = indent + "    "
    if isinstance(value, dict):
        entries = [f"{_line(key)}: {_literal(one, inner)}" for key, one in value.items()]
    else:
        entries = [_literal(one, inner) for one in value]
    open_, close = "{}" if isinstance(value, dict) else "[]"
    return f"{open_}\n" + "".join(f"{inner}{entry},\n" for entry in entries) + f"{indent}{close}"


def _line(value: Any) -> str:
    if isinstance(value, str):
        text = repr(value)
        return text if "\\" in text or '"' in text else f'"{text[1:-1]}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_line(key)}: {_line(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_line, value)) + "]"
    return repr(value)


def _bare(name: str) -> _Bare:
    assert name.isidentifier()
    return _Bare(name)


def _context(subject: Subject, chat: bool) -> dict[str, Any]:
    call, task, config = BaseCall.of(subject), subject.task, subject.record.config
    data = dict(task["data"])
    given = {part: data[part] for part in _PARTS if data.get(part) is not None}
    parts = subject.info["data"]["parts"]
    encoding = str(data.get("encoding") or "utf-8")
    history = subject.record.history
    return {
        "name": subject.name,
        "class_name": call.class_name,
        "source": call.source,
        "options": dict(call.options),
        "tokenizer_options": call.tokenizer_options,
        "gguf": call.gguf,
        "dtype": subject.run_dtype if subject.run_dtype != "auto" else "float32",
        "classification": task["type"] == "classification",
        "chat": chat,
        "labels": list(subject.labels),
        **{key: task.get(key) for key in ("text", "label", "prompt", "response", "messages", "max_length")},
        "hub": data.get("hub"),
        "subset": data.get("subset"),
        "data": given,
        "hashes": {} if data.get("hub") else {part: parts[part]["sha256"] for part in given},
        "suffixes": set() if data.get("hub") else {Path(name).suffix.lower().lstrip(".") for name in given.values()},
        # as the sweep read it: without the mark that spreadsheets write at the beginning
        "encoding": "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding,
        "separator": data.get("separator"),
        "lora": _shape(subject),
        "ranks": None if subject.cut is None else dict(subject.cut["ranks"]),
        "biases": config.bias == "lora_only",
        "base_dropout": _base_dropout(subject),
        **config.model_dump(include={"seed", "batch_size", "accumulate", "steps", "eval_every", "learning_rate"}),
        **config.model_dump(include={"weight_decay", "clip", "optimizer"}),
        "warmup_steps": math.ceil(config.warmup * config.steps),
        "schedule": _SCHEDULES[config.schedule],
        "last_step": history[-1].step if history else config.steps,
        "metric": subject.metric.name,
        "mode": subject.metric.mode,
        "keep": subject.metric.keep or "best",
    }


def _shape(subject: Subject) -> dict[str, Any]:
    """The trial's own LoraConfig; for a cut that of the trial before the cut."""
    file = subject.run.adapter_dir(subject.record.trial_id) / CONFIG_FILE
    if not file.is_file():
        raise RunFolderError(str(file), "must be there: it says what the trial trained")
    config = json.loads(file.read_text(encoding="utf-8"))
    return {key: config[key] for key in _SHAPE if config.get(key) not in (None, {})}


def _base_dropout(subject: Subject) -> bool:
    file = subject.run.sweep_file
    sweep = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return bool((sweep.get("training") or {}).get("base_dropout", False))


def _expected(subject: Subject, card: Figures | None) -> tuple[str, float, tuple[float, float]] | None:
    name = subject.metric.name
    if card is None or name not in card.bounds:
        return None
    return name, card.metrics[name], card.bounds[name]


def _set_aside(subject: Subject, checked: Check | NotChecked) -> dict[str, dict[str, Any]]:
    """Of each part that stands in no file of its own: of which part it was taken, and its rows there, from 1."""
    parts = subject.info["data"]["parts"]
    missing = [part for part in (*_PARTS, HOLDOUT) if part in parts and "path" not in parts[part]]
    if not missing:
        return {}
    task = checked.task if isinstance(checked, Check) else encoded_task(subject)
    return {part: {"of": subject.source_of(part), "rows": _rows(task.splits[part])} for part in missing}


def _rows(split: EncodedSplit) -> list[int]:
    return sorted(int(str(example).rpartition(":")[2]) for example in split.example_ids)
