"""The frozen base, loaded or planned: its weights or its mere structure, and which of its modules train.

Where its files are is told in `model_files.py`. A base must fit one device; `load_base` is the seam where several
would come in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from lora_sweep.adapters.layer import is_linear
from lora_sweep.errors import ModelError
from lora_sweep.model_files import as_model_error, model_source, read_description, without_bars

if TYPE_CHECKING:
    from lora_sweep.config import ModelConfig

_logger = logging.getLogger(__name__)

TaskType = Literal["classification", "causal-lm"]
PEFT_TASK: dict[str, str] = {"classification": "SEQ_CLS", "causal-lm": "CAUSAL_LM"}


@dataclass(frozen=True)
class FrozenBase:
    """A base model on its device.

    Attributes:
        model: with every parameter frozen; in eval mode.
        name: what the user calls it; goes into exported adapters.
        task: what it was loaded for.
        trained: full names of the modules that every adapter trains in full: the task head and what is new.
        new: those that the checkpoint lacks.
        called: full names of the linear layers that a forward pass calls with the batch's rows in front.
    """

    model: nn.Module
    name: str
    task: TaskType
    trained: tuple[str, ...]
    new: tuple[str, ...]
    called: frozenset[str]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


def choose_attention(device: str) -> str:
    """The attention of a base on a device, by its name in Transformers.

    On a CPU the backward of the fused one is slow in bf16. On a GPU cuDNN's is switched off for this process: torch
    takes it first on Hopper from 2.11 on, and it plans anew, for about a second, for every shape that it meets.
    """
    if not device.startswith("cuda"):
        return "eager"
    torch.backends.cuda.enable_cudnn_sdp(False)
    return "sdpa"


def use_attention(model: nn.Module, name: str, attend: Callable[..., Any] | None = None) -> None:
    """Change a model's attention.

    Args:
        model: one whose attention goes through Transformers' `AttentionInterface`.
        name: of an attention there.
        attend: what to register by that name first; it gets masks as the eager one does.
    """
    if attend is not None:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import eager_mask

        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, eager_mask)
    cast(Any, model).set_attn_implementation(name)


def load_base(config: ModelConfig, task: TaskType, labels: tuple[str, ...] = (), device: str = "cpu") -> FrozenBase:
    """Load a base for a task, frozen, in the dtype that `config` asks for.

    Args:
        config: name, dtype, whether its own code may run.
        task: classification gets a head for `labels`.
        labels: class names in the order of their numbers.
        device: `cpu` or `cuda`.

    Raises:
        ModelError: no such model, no weights, not loadable for this task, or too large for the device.
    """
    source = model_source(config)
    dtype = resolve_dtype(config.dtype, device)
    _check_fits(config, task, labels, dtype, device)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": choose_attention(device)}
    options |= _task_options(task, labels)
    model, info = _from_pretrained(config, task, source, options | {"output_loading_info": True})
    model.config.use_cache = False
    model.requires_grad_(False).eval().to(device)
    new = _new_modules(config, model, info, task)
    _set_pad_token(model)
    with as_model_error(config):
        called = called_linear(model)
    trained = _trained(head_modules(model, task), new)
    return FrozenBase(model, config.name, task, trained, new, called)


def meta_base(config: ModelConfig, task: TaskType, labels: tuple[str, ...] = ()) -> FrozenBase:
    """The base's structure on the meta device: shapes and names without weights.

    Raises:
        ModelError: no such model, or an architecture that has no class for this task.
    """
    description = read_description(config, **(_label_options(labels) if task == "classification" else {}))
    with without_bars(), as_model_error(config), torch.device("meta"):
        model = _auto_class(task).from_config(
            description, trust_remote_code=config.trust_remote_code, attn_implementation="eager"
        )
    model.config.use_cache = False
    _set_pad_token(model)
    model.requires_grad_(False).eval()
    head = head_modules(model, task)
    try:
        called = called_linear(model)
    except Exception as error:  # an architecture that cannot run on meta tensors is checked when it is loaded
        _logger.info("cannot trace %s without weights: %s", config.name, error)
        called = frozenset(name for name, module in model.named_modules() if is_linear(module))
    return FrozenBase(model, config.name, task, head, (), called)


def planned_base(config: ModelConfig, task: TaskType, labels: tuple[str, ...] = ()) -> FrozenBase:
    """`meta_base`, with the modules that the checkpoint lacks; its weights are mapped into memory, not read.

    Raises:
        ModelError: as `load_base`, but for the size.
    """
    base = meta_base(config, task, labels)
    options = {"dtype": "auto", **_task_options(task, labels)}
    model, info = _from_pretrained(config, task, model_source(config), options | {"output_loading_info": True})
    new = _new_modules(config, model, info, task)
    return replace(base, new=new, trained=_trained(base.trained, new))


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """`auto` is bf16 where the hardware multiplies it fast, else fp32."""
    if dtype != "auto":
        return cast(torch.dtype, getattr(torch, dtype))
    if device == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        fast = torch.cuda.is_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def called_linear(model: nn.Module) -> frozenset[str]:
    """Full names of the linear layers that a forward pass calls with the batch's rows in front.

    Rows in front, [rows, length, features] or flattened [rows * length, features], are what packing rests on: a layer
    that also sees something else, such as position embeddings that all rows share, is not among them.
    """
    rows, length = 7, 5
    called: dict[str, bool] = {}

    def note(name: str, inputs: Any) -> None:
        called[name] = called.get(name, True) and inputs[0].shape[0] % rows == 0

    handles = [
        module.register_forward_hook(lambda _, inputs, __, name=name: note(name, inputs))
        for name, module in model.named_modules()
        if is_linear(module)
    ]
    device = next(model.parameters()).device
    tokens = torch.ones((rows, length), dtype=torch.long, device=device)
    try:
        with torch.no_grad():
            try:
                model(input_ids=tokens)
            except RuntimeError:  # without a mask decoders look into values, which meta tensors do not have
                if device.type != "meta":
                    raise
                model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(name for name, in_front in called.items() if in_front)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that an architecture stacks, as transformers marks them for activation checkpointing; may be none."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def head_modules(model: nn.Module, task: TaskType) -> tuple[str, ...]:
    """Full names of a classifier's modules with parameters outside of the base model proper; none for causal-lm."""
    if task != "classification":
        return ()
    body = getattr(model, "base_model_prefix", "")
    parts = dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters())
    return tuple(part for part in parts if part != body)


def _trained(head: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """The head's modules, whole, and what else is new."""
    return (*head, *(name for name in new if not any(name == part or name.startswith(part + ".") for part in head)))


def _auto_class(task: TaskType) -> Any:
    import transformers

    classification = task == "classification"
    return transformers.AutoModelForSequenceClassification if classification else transformers.AutoModelForCausalLM


def _task_options(task: TaskType, labels: tuple[str, ...]) -> dict[str, Any]:
    return {"ignore_mismatched_sizes": True, **_label_options(labels)} if task == "classification" else {}


def _label_options(labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _from_pretrained(config: ModelConfig, task: TaskType, source: str, options: dict[str, Any]) -> Any:
    with without_bars(), as_model_error(config):
        return _auto_class(task).from_pretrained(
            source, trust_remote_code=config.trust_remote_code, revision=config.revision, **options
        )


def _new_modules(config: ModelConfig, model: nn.Module, info: dict[str, Any], task: TaskType) -> tuple[str, ...]:
    """The modules that the checkpoint lacks, in the model's order."""
    missing = set(info["missing_keys"]) | {key[0] for key in info["mismatched_keys"]}
    owners = dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters() if name in missing)
    if task == "causal-lm" and owners:
        rule = f"its checkpoint must hold every weight of a causal language model; it lacks {next(iter(owners))}"
        raise ModelError(f"model {config.name}", rule, None, "Use a checkpoint of a causal language model.")
    for owner in owners:
        if any(True for _ in model.get_submodule(owner).children()):
            rule = f"its checkpoint lacks parameters of {owner or 'the model'} that no single module owns"
            raise ModelError(f"model {config.name}", rule, None, "Use a complete checkpoint.")
    if len(owners) > 8:
        rule = f"its checkpoint must fit its architecture; it lacks {len(owners)} modules, {next(iter(owners))} first"
        raise ModelError(f"model {config.name}", rule, None, "Use a complete checkpoint.")
    return tuple(owners)


def _set_pad_token(model: nn.Module) -> None:
    # decoders with a classification head find the last token by it
    config = cast(Any, model.config)
    if getattr(config, "pad_token_id", None) is None:
        eos = getattr(config, "eos_token_id", None)
        config.pad_token_id = eos[0] if isinstance(eos, list) else eos


def _check_fits(config: ModelConfig, task: TaskType, labels: tuple[str, ...], dtype: torch.dtype, device: str) -> None:
    parameters = sum(p.numel() for p in meta_base(config, task, labels).model.parameters())
    needed = parameters * dtype.itemsize
    available = free_memory(device)
    if available is not None and needed > available:
        rule = f"must fit one device: {needed / 2**30:.1f} GiB of weights, {available / 2**30:.1f} GiB free on {device}"
        raise ModelError(f"model {config.name}", rule, None, "Use a smaller base or dtype, or a larger device.")


def free_memory(device: str) -> int | None:
    """Bytes that are free on `cpu` or `cuda`; None where the system does not say."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
