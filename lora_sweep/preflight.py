"""All that can be found out before the first trial: data, base, targets and ranks of a whole space.

Nothing is written and no weights are read, so that bad input never leaves a half-made run behind.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lora_sweep.adapters import AdaptedModel, base_parameters, count_parameters
from lora_sweep.errors import ConfigError, ModelError, RunFolderError, TargetError
from lora_sweep.model_files import load_tokenizer, model_facts, read_description
from lora_sweep.models import FrozenBase, planned_base
from lora_sweep.records import AdapterSpec, fingerprint
from lora_sweep.tasks import EncodedTask, prepare_task

if TYPE_CHECKING:
    from lora_sweep.config import ModelConfig, SweepConfig

_SAMPLES = 500  # of a space that cannot be enumerated


@dataclass(frozen=True)
class Preflight:
    """A sweep that can start.

    Attributes:
        task: the encoded data.
        base: the base's structure on the meta device.
        facts: what run.json records of model, task and data.
        notes: what of the space has no effect, one sentence each.
    """

    task: EncodedTask
    base: FrozenBase
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def read_task(config: SweepConfig, place: str) -> EncodedTask:
    """Encode a sweep's data for its base's tokenizer: the part of a preflight where most mistakes are found.

    Args:
        config: the sweep.
        place: what to call its file in errors.

    Raises:
        InputError: of the kind that says where the fault is.
    """
    description = read_description(config.model)
    tokenizer = load_tokenizer(config.model)
    task = prepare_task(config.task, tokenizer, config.search.seed)
    _check_length(config, task, description, tokenizer, place)
    return task


def preflight(config: SweepConfig, place: str, task: EncodedTask | None = None) -> Preflight:
    """Check a sweep and encode its data.

    Args:
        config: the sweep.
        place: what to call its file in errors.
        task: the data, where they are encoded already.

    Raises:
        InputError: of the kind that says where the fault is.
    """
    task = task or read_task(config, place)
    base = planned_base(config.model, config.task.type, task.labels)
    _check_vocabulary(task, base)
    notes = tuple(_bias_notes(check_space(config, base, place), base))
    return Preflight(task, base, _facts(config, task, base) | {"space_notes": list(notes)}, notes)


def check_unchanged(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose base or data are no longer what they were.

    Args:
        recorded: the run's run.json.
        found: the facts of a new preflight.

    Raises:
        RunFolderError: a hash differs, or the commit of a base from the hub.
    """
    pairs = [("model", recorded.get("model", {}), found["model"])]
    parts = recorded.get("data", {}).get("parts", {})
    pairs += [(f"data.{name}", parts.get(name, {}), part) for name, part in found["data"]["parts"].items()]
    fix = "Restore it, or start a new run."
    for name, before, now in pairs:
        if before.get("sha256") != now.get("sha256"):
            raise RunFolderError(
                f"run.json: {name}", f"must still have the hash {before.get('sha256')}", now.get("sha256"), fix
            )
        if before.get("commit") != now.get("commit"):
            rule = f"must still be of commit {before.get('commit')}"
            raise RunFolderError(f"run.json: {name}", rule, now.get("commit"), fix)


def check_space(config: SweepConfig, base: FrozenBase, place: str) -> list[tuple[str, AdapterSpec]]:
    """Find out whether every adapter of the space fits the base.

    Returns:
        The adapters that were tried, one for every set of targets and rank, each with the space's name for its
        targets.

    Raises:
        TargetError: one does not.
    """
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    specs = _specs(config)
    try:
        for _, spec in specs:
            adapted.targets(spec)
    except TargetError as error:
        raise TargetError(f"{place}: space.{error.place}", error.rule, error.value, error.fix) from None
    finally:
        adapted.unwrap()
    return specs


def _bias_notes(specs: Sequence[tuple[str, AdapterSpec]], base: FrozenBase) -> Iterator[str]:
    """PEFT is silent about it too: nothing fails, but the trial is the same as without."""
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    asked = [(label, count_parameters(adapted, spec)) for label, spec in specs if spec.bias == "lora_only"]
    adapted.unwrap()
    without = sorted({label for label, count in asked if count.layers and not count.biases})
    if without:
        yield (
            f"bias: lora_only trains no bias of {base.name} with the targets {', '.join(without)}: none of these "
            "layers has one, so that such a trial is the same as with none."
        )


def _specs(config: SweepConfig) -> list[tuple[str, AdapterSpec]]:
    space = config.resolved_space()
    size = space.size()
    if size is not None and size <= _SAMPLES:
        samples = space.grid()
    else:
        rng = random.Random(0)
        samples = [space.sample(rng) for _ in range(_SAMPLES)]
    found = {_key(spec): (str(sample["target_label"]), spec) for sample in samples for spec in [_spec(sample)]}
    dependent = space.possible("rank_pattern") or any(parameter.conditions for parameter in space.parameters())
    if not dependent:
        labels = {_frozen(sample["target_modules"]): str(sample["target_label"]) for sample in samples}
        largest = max(int(rank) for rank in space.possible("rank"))
        biases = space.possible("bias") or ("none",)
        for targets, bias in itertools.product(map(_frozen, space.possible("target_modules")), biases):
            spec = AdapterSpec(rank=largest, target_modules=targets, bias=bias)
            found.setdefault(_key(spec), (labels.get(targets, ""), spec))
    return sorted(found.values(), key=lambda pair: str((pair[1].rank, pair[1].target_modules, pair[1].bias)))


def _key(spec: AdapterSpec) -> str:
    return fingerprint(spec.model_dump(mode="json"))


def _spec(sample: Mapping[str, Any]) -> AdapterSpec:
    """What decides how many parameters a configuration has, and whether it fits the base."""
    others = {name: sample[name] for name in ("bias", "rank_pattern", "alpha_pattern") if name in sample}
    return AdapterSpec(rank=sample["rank"], target_modules=_frozen(sample["target_modules"]), **others)


def _frozen(targets: Any) -> str | tuple[str, ...]:
    return targets if isinstance(targets, str) else tuple(targets)


def _check_length(config: SweepConfig, task: EncodedTask, description: Any, tokenizer: Any, place: str) -> None:
    limit = getattr(description.get_text_config(), "max_position_embeddings", None)
    own = getattr(tokenizer, "model_max_length", None)
    limits = [int(value) for value in (limit, own) if isinstance(value, int) and 0 < value < 10**9]
    if limits and task.buckets[-1] > min(limits):
        rule = f"must be at most {min(limits)}, the longest input of {config.model.name}"
        fix = f"Set it to {min(limits)}: longer texts are cut."
        raise ConfigError(f"{place}: task.max_length", rule, task.max_length, fix)


def _check_vocabulary(task: EncodedTask, base: FrozenBase) -> None:
    largest = max(int(split.token_ids.max()) for split in task.splits.values())
    size = cast(Any, base.model).get_input_embeddings().num_embeddings
    if largest >= size:
        rule = f"must give token numbers below {size}, the model's vocabulary"
        fix = "Is the tokenizer in the model's folder the model's own?"
        raise ModelError(f"tokenizer of model {base.name}", rule, largest, fix)


def _facts(config: SweepConfig, task: EncodedTask, base: FrozenBase) -> dict[str, Any]:
    parts = {
        name: {"examples": len(split)} | ({"path": s.path, "sha256": s.sha256} if (s := task.sources.get(name)) else {})
        for name, split in task.splits.items()
    }
    model = config.model.model_dump(mode="json") | {"parameters": base_parameters(base.model)}
    model |= model_facts(config.model)
    if "sha256" not in model and (commit := _commit(config.model)) is not None:
        model["commit"] = commit
    return {
        "model": model,
        "task": {**config.task.model_dump(mode="json"), "labels": list(task.labels), "pad_id": task.pad_id},
        "data": {"parts": parts, "notes": list(task.notes)},
    }


def _commit(model: ModelConfig) -> str | None:
    """The commit of a hub model, which its revision names: the folder in the hub's cache that its files came from."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(model.name, "config.json", revision=model.revision)
    return Path(file).parent.name if isinstance(file, str) else None
