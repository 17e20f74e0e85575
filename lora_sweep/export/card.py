"""README.md of an exported folder: a model card that says what the adapter is, how good, and what to doubt.

Whatever is put into the template is escaped, so that a label or a path cannot become Markdown or HTML.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lora_sweep import __version__
from lora_sweep.adapters import AdapterFile, is_bias
from lora_sweep.export import card_figures
from lora_sweep.export.base_call import BaseCall
from lora_sweep.export.check import Check, NotChecked
from lora_sweep.export.front_matter import front_matter
from lora_sweep.export.markdown import escaped, fenced
from lora_sweep.export.serving import serving
from lora_sweep.export.subject import Subject
from lora_sweep.tasks import HOLDOUT
from reports import units

_FOLDER = "PATH_OF_THIS_FOLDER"


@dataclass(frozen=True)
class Contents:
    """What lies in the folder beside the adapter and the card.

    Attributes:
        tokenizer: whether its files do.
        merged: whether the merged model does.
        no_script: why there is no train.py; empty when there is one.
    """

    tokenizer: bool
    merged: bool
    no_script: str


def render_card(
    subject: Subject, adapter: AdapterFile, contents: Contents, checked: Check | NotChecked, chosen: Sequence[str]
) -> str:
    """The card.

    Args:
        subject: what was exported.
        adapter: its file.
        contents: of the folder.
        checked: what the evaluation through PEFT found, or why there was none.
        chosen: the sentences of the pick; empty where the adapter was just named.
    """
    environment = Environment(
        loader=PackageLoader("lora_sweep.export"),
        undefined=StrictUndefined,
        autoescape=False,  # that is HTML's; `finalize` does Markdown's
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    context = _context(subject, adapter, contents, checked) | {"chosen": tuple(chosen)}
    return environment.get_template("README.md.j2").render(context)


def _context(subject: Subject, adapter: AdapterFile, contents: Contents, checked: Check | NotChecked) -> dict[str, Any]:
    call = BaseCall.of(subject)
    run_name = str(subject.info.get("name") or subject.run.path.name)
    served = serving(adapter, call, f"{run_name}-{subject.name}".replace(" ", "-"), contents.merged)
    return {
        "front_matter": front_matter(subject, call, card_figures.headline(subject, checked)),
        "run_name": run_name,
        "title": subject.title,
        "base": call.source if not call.gguf else f"{call.source}/{call.options['gguf_file']}",
        "classification": subject.task["type"] == "classification",
        "labels": subject.labels,
        "classes": ", ".join(f"{number} {label}" for number, label in enumerate(subject.labels)),
        "size": _size(adapter),
        "cut": _cut(subject),
        "repeat_of": subject.record.repeat_of,
        "alarms": card_figures.alarms(checked),
        "loading": fenced(_loading(call, contents.tokenizer), "python"),
        "metrics": card_figures.metric_titles(subject),
        "figures": card_figures.rows(subject, checked),
        "checked": card_figures.sentences(subject, checked),
        "doubts": list(_doubts(subject, checked)),
        "data_use": _data_use(subject),
        "parts": list(_parts(subject)),
        "configuration": [(name, _setting(value)) for name, value in subject.record.config.model_dump().items()],
        "layers": _layers(adapter),
        "merged": contents.merged,
        "merging": fenced(
            'merged = model.merge_and_unload()\nmerged.save_pretrained("merged")\ntokenizer.save_pretrained("merged")',
            "python",
        ),
        "serving": None if served.command is None else fenced(served.command, "sh"),
        "serving_text": served.text,
        "script": None if contents.no_script else _script_text(subject),
        "script_command": fenced("python train.py", "sh"),
        "no_script": contents.no_script,
        "versions": _versions(subject),
    }


def _loading(call: BaseCall, tokenizer: bool) -> str:
    names = sorted([call.class_name, "AutoTokenizer", *(["GgufConfig"] if call.gguf else [])])
    arguments = [repr(call.source), *(f"{key}={value!r}" for key, value in call.tokenizer_options.items())]
    if tokenizer:
        arguments = [f'"{_FOLDER}"']
    return (
        f"from peft import PeftModel\nfrom transformers import {', '.join(names)}\n\n{call.code()}\n"
        f'model = PeftModel.from_pretrained(base, "{_FOLDER}").eval()\n'
        f"tokenizer = AutoTokenizer.from_pretrained({', '.join(arguments)})"
    )


def _size(adapter: AdapterFile) -> str:
    lora = sum(tensor.numel() for name, tensor in adapter.tensors.items() if ".lora_" in name)
    biases = sum(tensor.numel() for name, tensor in adapter.tensors.items() if is_bias(name))
    rest = sum(tensor.numel() for tensor in adapter.tensors.values()) - lora - biases
    own = f", {units.count(biases)} in the biases of these layers" if biases else ""
    beside = f" and {units.count(rest)} in modules that were trained in full" if rest else ""
    layers = units.plural(len(adapter.spec.target_modules), "layer")
    return f"{units.count(lora)} parameters in A and B of {layers}{own}{beside}, stored in float32."


def _layers(adapter: AdapterFile) -> str:
    """How many of each kind: hundreds of full names would bury the rest."""
    kinds = Counter(name.rpartition(".")[2] for name in adapter.spec.target_modules)
    named = ", ".join(f"{units.plural(number, 'layer')} {kind}" for kind, number in sorted(kinds.items()))
    return f"{named}; their full names are in adapter_config.json" if named else "none"


def _cut(subject: Subject) -> str:
    if subject.cut is None:
        return ""
    return (
        f"the update of {subject.record.trial_id} was truncated by singular value decomposition after training; it was "
        f"not trained at these ranks. It holds {100 * subject.cut['energy']:.1f} % of the update's energy. The "
        "configuration below is the trial's; ranks and alphas of the cut are in adapter_config.json."
    )


def _doubts(subject: Subject, checked: Check | NotChecked) -> Iterator[str]:
    config = subject.record.config
    if subject.record.status == "stopped":
        reached = subject.record.history[-1].step if subject.record.history else subject.record.step
        yield f"The scheduler stopped the trial after {reached} of {config.steps} steps."
    if subject.cut is not None:
        yield "The cut was looked at on the evaluation data beside other cuts, so that its figure there flatters."
    if isinstance(checked, NotChecked):
        yield "The exported files were not evaluated: whether they answer as in the run was not tested."
    yield (
        f"One adapter, trained with the seed {config.seed}: another seed gives another adapter, and the intervals over "
        "examples do not say how far apart the two may lie."
    )
    yield "Texts unlike those of the test data were not tried."
    notes = subject.info.get("data", {}).get("notes")
    yield from (str(note) for note in notes) if isinstance(notes, list) else ()


def _data_use(subject: Subject) -> str:
    task = subject.task
    columns = [f"{key}: {task[key]}" for key in ("text", "label", "prompt", "response", "messages") if task.get(key)]
    learnt = {
        "text": "the loss was on every token but the first",
        "response": "the loss was on the response and its end, not on the prompt",
        "messages": "the loss was on the assistant's turns",
    }
    how = next((text for key, text in learnt.items() if task.get(key)), "") if not task.get("label") else ""
    return f"Columns: {', '.join(columns)}. At most {task['max_length']} tokens an example{'; ' + how if how else ''}."


def _parts(subject: Subject) -> Iterator[Mapping[str, Any]]:
    parts = subject.info.get("data", {}).get("parts", {})
    for name in ("train", "eval", "test", *([HOLDOUT] if HOLDOUT in parts else [])):
        part = parts.get(name, {})
        yield {
            "name": name,
            "path": part.get("path") or f"set aside from {subject.source_of(name)}",
            "examples": f"{part['examples']:,}" if "examples" in part else units.MISSING,
            "sha256": part.get("sha256") or units.MISSING,
        }


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {one}" for name, one in value.items()) or "none"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return units.MISSING if value is None or value == "" else str(value)


def _script_text(subject: Subject) -> str:
    cut = " It trains the trial and then cuts it to the same ranks." * (subject.cut is not None)
    return (
        "train.py trains this configuration again on the same data with PEFT and Transformers alone, and prints eval "
        "and test metrics. Data order and schedule are the same, the random numbers of the start and of dropout are "
        f"not: expect what another seed gives.{cut}"
    )


def _versions(subject: Subject) -> str:
    recorded = ", ".join(f"{name} {version}" for name, version in (subject.info.get("versions") or {}).items())
    here = ", ".join(f"{name} {metadata.version(name)}" for name in ("peft", "torch", "transformers"))
    base = subject.info["model"].get("sha256") or subject.info["model"].get("commit")
    identity = f" The base's weights and config have the hash {base}." if base else ""
    return (
        f"Trained with {recorded or 'versions that the run does not name'}. Exported by lora_sweep {__version__} with "
        f"{here}, Python {platform.python_version()}.{identity}"
    )
