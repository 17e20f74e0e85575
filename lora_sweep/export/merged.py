"""The base with an adapter's update added to its weights: a model like any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lora_sweep.adapters import AdaptedModel, read_adapter
from lora_sweep.errors import ModelError
from lora_sweep.export.subject import Subject
from lora_sweep.model_files import checkpoint_dtype, load_tokenizer, model_facts, without_bars
from lora_sweep.models import load_base


def write_merged(subject: Subject, folder: Path) -> None:
    """Merge in fp32, round once to the checkpoint's dtype, and save model and tokenizer."""
    config = subject.model_config
    exact = config.model_copy(update={"dtype": "float32"})
    base = load_base(exact, subject.task["type"], subject.labels)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    file = read_adapter(subject.adapter)
    adapted.load(0, file.spec, file.tensors)
    adapted.merge(0)
    model: Any = adapted.unwrap().to(checkpoint_dtype(config))
    model.config.use_cache = True
    tokenizer = load_tokenizer(config)
    if (pad_id := subject.task.get("pad_id")) is not None:
        # decoders with a classification head find the last token by it
        model.config.pad_token_id = pad_id
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    with without_bars():
        model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written for the owner alone
        shutil.copymode(folder / "config.json", weights)
    tokenizer.save_pretrained(folder)


def check_base(subject: Subject) -> None:
    """Refuse a base that is not the one that the run was made with.

    Raises:
        ModelError: its hash differs.
    """
    config = subject.model_config
    recorded, found = subject.info["model"].get("sha256"), model_facts(config).get("sha256")
    if recorded != found:
        fix = "Restore the model that the run was made with."
        raise ModelError(f"model {config.name}", f"must have the recorded hash {recorded}", found, fix)
