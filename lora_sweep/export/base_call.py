"""How transformers alone loads a run's base: the call that the card shows is the call that the check makes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from lora_sweep.export.subject import Subject
from lora_sweep.model_files import gguf_file, without_bars


@dataclass(frozen=True)
class BaseCall:
    """`CLASS.from_pretrained(source, **options)`, and what to set on the model afterwards.

    Attributes:
        class_name: of transformers.
        source: a hub id or a folder.
        options: plain Python values.
        gguf: whether it is a GGUF file, to be unpacked.
        pad_id: the padding that the trial saw; None where nothing rests on it.
    """

    class_name: str
    source: str
    options: Mapping[str, Any]
    gguf: bool
    pad_id: int | None

    @classmethod
    def of(cls, subject: Subject) -> BaseCall:
        """The call for the base of an adapter."""
        config, labels = subject.model_config, subject.labels
        classification = subject.task["type"] == "classification"
        options: dict[str, Any] = {}
        if classification:
            # the checkpoint may have a head of another size, which the adapter's own replaces
            options = {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "ignore_mismatched_sizes": True}
        if config.trust_remote_code:
            options["trust_remote_code"] = True
        if (revision := subject.info["model"].get("commit") or config.revision) is not None:
            options["revision"] = revision
        gguf = gguf_file(config)
        if gguf is not None:
            options["gguf_file"] = gguf.name
        name = "AutoModelForSequenceClassification" if classification else "AutoModelForCausalLM"
        pad_id = subject.task.get("pad_id") if classification else None
        return cls(name, config.name if gguf is None else str(gguf.parent), options, gguf is not None, pad_id)

    @property
    def tokenizer_options(self) -> dict[str, Any]:
        """Those of the options that a tokenizer needs too."""
        keys = ("trust_remote_code", "revision", "gguf_file")
        return {key: self.options[key] for key in keys if key in self.options}

    def code(self) -> str:
        """The lines that load `base`."""
        arguments = [repr(self.source), *(f"{key}={value!r}" for key, value in self.options.items())]
        if self.gguf:
            arguments.append("quantization_config=GgufConfig(dequantize=True)")
        line = f"base = {self.class_name}.from_pretrained({', '.join(arguments)})"
        if len(line) > 100:
            line = f"base = {self.class_name}.from_pretrained(\n    " + ",\n    ".join(arguments) + ",\n)"
        return line if self.pad_id is None else f"{line}\nbase.config.pad_token_id = {self.pad_id}"

    def load(self, dtype: torch.dtype, device: str) -> Any:
        """The base on a device, in eval mode."""
        import transformers

        options = dict(self.options) | {"dtype": dtype}
        if self.gguf:
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        # unpacking GGUF draws a bar of its own
        quiet = redirect_stderr(StringIO()) if self.gguf else nullcontext()
        with without_bars(), quiet:
            model = getattr(transformers, self.class_name).from_pretrained(self.source, **options)
        if self.pad_id is not None:
            model.config.pad_token_id = self.pad_id
        return model.to(device).eval()


def is_local(call: BaseCall) -> bool:
    """Whether the base lies in a folder here, and has no name that others know."""
    return Path(call.source).exists()
