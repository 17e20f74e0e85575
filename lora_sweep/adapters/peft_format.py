"""Adapters on disk, in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

Source of the format: huggingface.co/docs/peft, "PEFT checkpoint format". Tensor names are the base's full module names
behind `base_model.model.`; target names are written in full, so that PEFT adapts the same layers and no others.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_sweep.adapters.layer import LoraLinear, is_conv1d
from lora_sweep.adapters.model import AdaptedModel
from lora_sweep.errors import AdapterFormatError
from lora_sweep.records import AdapterSpec, Bias

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# keys whose other values change what the adapter computes, and which this package does not do
_UNSUPPORTED = {
    "use_dora": False, "use_rslora": False, "use_bdlora": None, "alora_invocation_tokens": None,
    "layer_replication": None, "trainable_token_indices": None, "target_parameters": None, "use_qalora": False,
    "lora_bias": False, "arrow_config": None, "modules_to_tie": None,
}  # fmt: skip
_BIASES = get_args(Bias)
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class AdapterFile:
    """An adapter as read from its folder.

    Attributes:
        spec: what it injects.
        tensors: name to values, named as in `AdapterWeights.named`.
        trained: full names of the modules that it trains in full.
        base_name: the base that it was trained on, as its writer named it.
    """

    spec: AdapterSpec
    tensors: Mapping[str, Tensor]
    trained: tuple[str, ...]
    base_name: str | None


def save_adapter(adapted: AdaptedModel, slot: int, folder: Path, base_name: str, task_type: str | None) -> int:
    """Write the adapter in `slot`, replacing an older one in the same folder.

    Args:
        adapted: the model that holds it.
        slot: where.
        folder: made when absent.
        base_name: what to load the base from.
        task_type: PEFT's, `SEQ_CLS` or `CAUSAL_LM`.

    Returns:
        Size of the written weights file in bytes.
    """
    spec, names, weights = adapted.slots[slot]
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_PREFIX + name: tensor for name, tensor in weights.tensors().items()}
    part = folder / (WEIGHTS_FILE + ".part")
    save_file(tensors, part, metadata={"format": "pt"})
    config = _peft_config(spec, names, adapted.trained, base_name, task_type)
    config["fan_in_fan_out"] = any(_on_conv1d(adapted, name) for name in names)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copymode(folder / CONFIG_FILE, part)  # safetensors writes for the owner alone
    part.replace(folder / WEIGHTS_FILE)
    return (folder / WEIGHTS_FILE).stat().st_size


def read_adapter(folder: Path) -> AdapterFile:
    """Read an adapter folder that this package or PEFT wrote.

    Raises:
        AdapterFormatError: a file is missing or broken, or the adapter uses what is not supported here.
    """
    config = _read_config(folder)
    tensors = _read_tensors(folder)
    lora = {name for name in tensors if name.endswith((".lora_A.weight", ".lora_B.weight"))}
    modules = tuple(sorted({name.rsplit(".lora_", 1)[0] for name in lora}))
    others = config.get("modules_to_save") or ()
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    ranks = {name: tensors[f"{name}.lora_A.weight"].shape[0] for name in modules}
    try:
        alphas = {name: _pattern(config.get("alpha_pattern") or {}, name, alpha) for name in modules}
        spec = AdapterSpec(
            rank=rank,
            alpha=alpha,
            dropout=config.get("lora_dropout", 0.0),
            bias=config.get("bias") or "none",
            target_modules=modules,
            rank_pattern={name: r for name, r in ranks.items() if r != rank},
            alpha_pattern={name: a for name, a in alphas.items() if a != alpha},
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{folder / CONFIG_FILE}: {first['loc'][0]}"
        raise AdapterFormatError(place, first["msg"].lower(), first["input"]) from None
    except re.error as error:
        place = f"{folder / CONFIG_FILE}: alpha_pattern"
        raise AdapterFormatError(place, f"must hold valid patterns ({error})") from None
    return AdapterFile(spec, tensors, tuple(sorted(others)), config.get("base_model_name_or_path"))


def _peft_config(
    spec: AdapterSpec, names: tuple[str, ...], trained: tuple[str, ...], base_name: str, task_type: str | None
) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base_name,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": list(names),
        "modules_to_save": list(trained) or None,
        "rank_pattern": dict(spec.rank_pattern),
        "alpha_pattern": dict(spec.alpha_pattern),
        "bias": spec.bias,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _on_conv1d(adapted: AdaptedModel, name: str) -> bool:
    layer = adapted.model.get_submodule(name)
    return isinstance(layer, LoraLinear) and is_conv1d(layer.base)


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    if not file.is_file():
        fix = "A run keeps its adapters in RUN/adapters/TRIAL."
        raise AdapterFormatError(str(folder), f"must be an adapter folder, with {CONFIG_FILE} inside", None, fix)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdapterFormatError(str(file), f"must be JSON ({error})") from None
    if not isinstance(config, dict):
        raise AdapterFormatError(str(file), "must hold a JSON object", config)
    if config.get("peft_type") != "LORA":
        raise AdapterFormatError(f"{file}: peft_type", "must be LORA", config.get("peft_type"))
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_THE_BASE):
        fix = "Let PEFT convert it: save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        raise AdapterFormatError(f"{file}: init_lora_weights", "must leave the base's weights alone", start, fix)
    if (config.get("bias") or "none") not in _BIASES:
        rule = f"must be {' or '.join(map(repr, _BIASES))}: biases of other modules are not supported"
        raise AdapterFormatError(f"{file}: bias", rule, config["bias"])
    for key, plain in _UNSUPPORTED.items():
        if config.get(key, plain) not in (plain, None):
            raise AdapterFormatError(f"{file}: {key}", f"must be {plain!r}: nothing else is supported", config[key])
    return config


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        fix = "Save it with safe_serialization=True." if (folder / "adapter_model.bin").exists() else ""
        raise AdapterFormatError(str(folder), f"must hold {WEIGHTS_FILE}", None, fix)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise AdapterFormatError(str(file), f"must be a whole safetensors file ({error})") from None
    stray = [name for name in tensors if not name.startswith(_PREFIX)]
    if stray:
        raise AdapterFormatError(str(file), f"names must start with {_PREFIX}", stray[0])
    return {name.removeprefix(_PREFIX): tensor.float() for name, tensor in tensors.items()}


def _pattern(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value for a module, by PEFT's rule: a key is a regular expression for the end of the full name."""
    for key, value in patterns.items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default
