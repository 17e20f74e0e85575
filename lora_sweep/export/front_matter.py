"""The card's metadata, as the Hub reads them (huggingface.co/docs/hub/model-cards)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from lora_sweep.export.base_call import BaseCall, is_local
from lora_sweep.export.figures import Figures
from lora_sweep.export.markdown import Markdown
from lora_sweep.export.subject import Subject

_PIPELINES = {"classification": "text-classification", "causal-lm": "text-generation"}
_METRIC_TYPES = {"macro_f1": "f1"}


def front_matter(subject: Subject, call: BaseCall, figures: Figures | None) -> Markdown:
    """YAML, already Markdown's.

    The licence is left out: the run does not know it. So is `base_model` for a base in a folder and `datasets` for
    files, since the Hub takes nothing but its own ids there.

    Args:
        subject: what is exported.
        call: its base.
        figures: on test; None when there are none.
    """
    kind = subject.task["type"]
    hub = (subject.task.get("data") or {}).get("hub")
    content: dict[str, Any] = {"library_name": "peft"}
    if not is_local(call):
        content["base_model"] = call.source
    content["pipeline_tag"] = _PIPELINES[kind]
    content["tags"] = ["lora", "peft"]
    if hub and not Path(hub).exists():
        content["datasets"] = [hub]
    content["metrics"] = list(dict.fromkeys(_METRIC_TYPES.get(name, name) for name in subject.recorded_metrics("eval")))
    if figures is not None:
        content["model-index"] = [{"name": _name(subject), "results": [_result(subject, figures)]}]
    return Markdown(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _name(subject: Subject) -> str:
    return f"{subject.info.get('name') or subject.run.path.name}-{subject.name}"


def _result(subject: Subject, figures: Figures) -> dict[str, Any]:
    kind, data = subject.task["type"], subject.task.get("data") or {}
    test = data.get("test") or data.get("eval") or data.get("train") or "test"
    if hub := data.get("hub"):
        dataset = {"type": hub, "name": hub, "split": test}
        dataset |= {"config": data["subset"]} if data.get("subset") else {}
    else:
        dataset = {"type": Path(test).suffix.lstrip(".") or "file", "name": Path(test).name, "split": "test"}
    metrics = [
        {"type": _METRIC_TYPES.get(name, name), "name": name, "value": value}
        for name, value in figures.metrics.items()
        if math.isfinite(value)
    ]
    return {"task": {"type": _PIPELINES[kind]}, "dataset": dataset, "metrics": metrics}
