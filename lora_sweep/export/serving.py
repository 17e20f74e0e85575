"""How vLLM serves an adapter, and where it does not.

Read from vLLM's source: `vllm/config/lora.py` (the ranks), `vllm/lora/peft_helper.py` (what of adapter_config.json is
read and refused), `vllm/lora/lora_model.py` (tensors by shape, one scaling for all layers), main branch, 2026.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from lora_sweep.adapters import AdapterFile
from lora_sweep.export.base_call import BaseCall

MAX_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be; 1 is allowed too in newer versions."""


@dataclass(frozen=True)
class Serving:
    """What to do, and the command where there is one."""

    text: str
    command: str | None = None


def serving(adapter: AdapterFile, call: BaseCall, name: str, merged: bool) -> Serving:
    """How to serve an adapter.

    Args:
        adapter: as exported.
        call: its base.
        name: under which vLLM is to serve it.
        merged: whether the merged model was exported too.
    """
    obstacle = _obstacle(adapter, call)
    if obstacle is None:
        rank = max(_ranks(adapter))
        limit = next(one for one in MAX_RANKS if one >= rank)
        command = (
            f"vllm serve {shlex.quote(call.source)} --enable-lora --max-lora-rank {limit} \\\n"
            f"    --lora-modules {shlex.quote(name)}=PATH_OF_THIS_FOLDER"
        )
        text = f"The largest rank here is {rank}; --max-lora-rank must be one of {', '.join(map(str, MAX_RANKS))}."
        return Serving(text, command)
    where = "merged/" if merged else "what an export with --merge writes beside the adapter"
    text = f"vLLM does not serve this adapter as it is: {obstacle}. Serve the merged model ({where}) instead."
    if call.class_name == "AutoModelForCausalLM":
        return Serving(text, "vllm serve PATH_OF_THIS_FOLDER/merged" if merged else None)
    return Serving(f"{text} Whether vLLM serves this architecture as a classifier, its list of models tells.")


def _obstacle(adapter: AdapterFile, call: BaseCall) -> str | None:
    """Why vLLM cannot take it as a LoRA module; None when it can."""
    if adapter.trained or call.class_name != "AutoModelForCausalLM":
        return "it takes no modules that were trained in full (modules_to_save), such as this classification head"
    if adapter.spec.bias != "none":
        return "it takes no trained biases"
    if not _ranks(adapter):
        return "it adapts no layer"
    if max(_ranks(adapter)) > MAX_RANKS[-1]:
        return f"its rank is above {MAX_RANKS[-1]}"
    scalings = [adapter.spec.scaling_of(name) for name in adapter.spec.target_modules]
    if max(scalings) - min(scalings) > 1e-6 * max(scalings):
        return "it reads one alpha / rank for all layers, and these differ here (alpha_pattern, rank_pattern)"
    if call.gguf:
        return "its base is a GGUF file, which vLLM supports only as an experiment"
    return None


def _ranks(adapter: AdapterFile) -> list[int]:
    return [adapter.spec.rank_of(name) for name in adapter.spec.target_modules]
