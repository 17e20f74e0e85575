"""From a trial of a run to what goes into production: its adapter in PEFT's format, or the merged model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lora_sweep.adapters import AdaptedModel, read_adapter
from lora_sweep.config import ModelConfig
from lora_sweep.errors import ModelError, RunFolderError
from lora_sweep.model_files import checkpoint_dtype, load_tokenizer, model_facts, without_bars
from lora_sweep.models import load_base
from lora_sweep.store import RunFolder, as_run_folder_error

_CARD = """# {name}: adapter of trial {trial}

LoRA adapter in PEFT's format for `{base}`{labels}.

```python
{imports}

base = {model}.from_pretrained({source}{options}){padding}
model = PeftModel.from_pretrained(base, "PATH_OF_THIS_FOLDER")
```
"""


def export_trial(run: RunFolder, trial_id: str, folder: Path, merge: bool) -> None:
    """Write a trial's adapter into a new folder, and with `merge` the merged model into `folder/merged`.

    Args:
        run: the run.
        trial_id: whose adapter.
        folder: must not exist yet.
        merge: whether to write the base with the update added to its weights, in the checkpoint's own dtype.

    Raises:
        RunFolderError: the folder exists, or the trial left no adapter.
        ModelError: the base is not the one that the run was made with.
    """
    source = run.adapter_dir(trial_id)
    if not source.is_dir():
        raise RunFolderError(str(source), "must hold the trial's adapter; it is not there", None, "Pick another trial.")
    if folder.exists():
        raise RunFolderError(str(folder), "the export folder must not exist yet", None, "Choose another, or remove it.")
    info = run.info()
    config = model_config(info)
    if merge:
        _check_base(config, info)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with as_run_folder_error(folder):
            shutil.copytree(source, part)
        (part / "README.md").write_text(_card(info, trial_id), encoding="utf-8")
        if merge:
            write_merged(config, info, source, part / "merged")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_merged(config: ModelConfig, info: dict[str, Any], adapter: Path, folder: Path) -> None:
    """Merge an adapter in fp32, round once to the checkpoint's dtype, and save model and tokenizer."""
    task = info["task"]
    exact = config.model_copy(update={"dtype": "float32"})
    base = load_base(exact, task["type"], tuple(task.get("labels") or ()))
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    file = read_adapter(adapter)
    adapted.load(0, file.spec, file.tensors)
    adapted.merge(0)
    model: Any = adapted.unwrap().to(checkpoint_dtype(config))
    model.config.use_cache = True
    tokenizer = load_tokenizer(config)
    if (pad_id := task.get("pad_id")) is not None:
        # decoders with a classification head find the last token by it
        model.config.pad_token_id = pad_id
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    with without_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def model_config(info: dict[str, Any]) -> ModelConfig:
    """The base of a run, from its run.json."""
    model = info["model"]
    keys = ("name", "dtype", "trust_remote_code", "revision")
    values = {key: model[key] for key in keys if model.get(key) is not None}
    return ModelConfig(**values | {"name": model.get("path") or model["name"]})


def _check_base(config: ModelConfig, info: dict[str, Any]) -> None:
    recorded, found = info["model"].get("sha256"), model_facts(config).get("sha256")
    if recorded != found:
        fix = "Restore the model that the run was made with."
        raise ModelError(f"model {config.name}", f"must have the recorded hash {recorded}", found, fix)


def _card(info: dict[str, Any], trial_id: str) -> str:
    task = info["task"]
    base = info["model"].get("path") or info["model"]["name"]
    labels = task.get("labels") or []
    classification = task["type"] == "classification"
    model = "AutoModelForSequenceClassification" if classification else "AutoModelForCausalLM"
    names = dict(enumerate(labels))
    gguf = str(base).endswith(".gguf")
    options = f", num_labels={len(labels)}, id2label={names}" if classification else ""
    options += ", quantization_config=GgufConfig(dequantize=True)" if gguf else ""
    padding = f"\nbase.config.pad_token_id = {task['pad_id']}" if classification and "pad_id" in task else ""
    return _CARD.format(
        name=info.get("name"),
        trial=trial_id,
        base=base,
        labels=f"; classes by number: {', '.join(f'{n} {label}' for n, label in names.items())}" if labels else "",
        imports=f"from peft import PeftModel\nfrom transformers import {model}{', GgufConfig' if gguf else ''}",
        model=model,
        source=f'"{Path(base).parent}", gguf_file="{Path(base).name}"' if gguf else f'"{base}"',
        options=options,
        padding=padding,
    )
