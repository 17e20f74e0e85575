"""Which modules of a model an adapter goes on: names, patterns, named groups, all-linear.

A target is one of
- a group: `attention-qv`, `attention`, `mlp`, `attention-mlp`, `all-linear`;
- a name: `q_proj` or `attention.self.query` matches every linear layer of that name or with that ending, as PEFT's
  lists do; a full name matches itself;
- anything else: a regular expression that must match a layer's full name, as PEFT's strings do.

The task head and the output embeddings are no targets (a head is trained in full); a group leaves poolers out as well.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable

from torch import nn

from lora_sweep.adapters.layer import is_linear, linear_shape
from lora_sweep.errors import TargetError
from lora_sweep.records import AdapterSpec, TargetModules
from lora_sweep.target_groups import ALL_LINEAR, GROUPS, ROLES

_logger = logging.getLogger(__name__)


def linear_names(model: nn.Module, excluded: Collection[str]) -> list[str]:
    """Full names of the linear layers that LoRA may go on, in the model's order.

    Args:
        model: the base, on any device, `meta` included.
        excluded: modules that are trained in full; they and what lies inside them are left out.
    """
    head = _output_embeddings(model)
    return [
        name
        for name, module in model.named_modules()
        if is_linear(module) and module is not head and not _inside(name, excluded)
    ]


def resolve_targets(
    model: nn.Module, targets: TargetModules, trained: Collection[str] = (), called: Collection[str] | None = None
) -> tuple[str, ...]:
    """The full names of the layers that the targets mean, in the model's order.

    Args:
        model: the base, on any device, `meta` included.
        targets: one target or several; none gives none.
        trained: full names of the modules that are trained in full.
        called: full names of the linear layers whose `forward` a pass through the model calls; None when unknown.

    Raises:
        TargetError: a target matches nothing, or names the head, or a layer whose `forward` is never called.
    """
    candidates = linear_names(model, trained)
    wanted = (targets,) if isinstance(targets, str) else targets
    chosen: set[str] = set()
    for target in wanted:
        matched = match_target(target, candidates)
        if not matched:
            raise _no_match(model, target, candidates)
        if called is not None:
            matched = _only_called(target, matched, called)
        chosen.update(matched)
    return tuple(name for name in candidates if name in chosen)


def match_target(target: str, names: Iterable[str]) -> list[str]:
    """The names that one target matches."""
    if target == ALL_LINEAR:
        return [name for name in names if "pooler" not in name.split(".")]
    if target in GROUPS:
        roles = GROUPS[target]
        return [name for name in names if role_of(name) in roles]
    if re.fullmatch(r"[\w.]+", target):
        exact = [name for name in names if name == target]
        return exact or [name for name in names if name.endswith("." + target)]
    try:
        pattern = re.compile(target)
    except re.error as error:
        fix = "Write a module name, a group, or a regular expression over full names."
        raise TargetError("target_modules", f"must be a valid pattern ({error})", target, fix) from None
    return [name for name in names if pattern.fullmatch(name)]


def role_of(name: str) -> str | None:
    """What a linear layer does, by its name: the role with the longest matching ending; None when unknown."""
    if "pooler" in name.split("."):
        return None
    endings = [(len(ending), role) for role, all_ in ROLES.items() for ending in all_ if _ends(name, ending)]
    return max(endings)[1] if endings else None


def check_ranks(model: nn.Module, names: Iterable[str], spec: AdapterSpec) -> None:
    """Refuse ranks that a layer cannot hold.

    Raises:
        TargetError: a rank is above the smaller side of its layer, or a per-layer key names no adapted layer.
    """
    names = tuple(names)
    for name in names:
        smaller = min(linear_shape(model.get_submodule(name)))
        if spec.rank_of(name) > smaller:
            rule = f"must be at most {smaller}, the smaller side of {name}"
            raise TargetError("rank", rule, spec.rank_of(name), "Lower the rank or leave that layer out.")
    for pattern in ("rank_pattern", "alpha_pattern"):
        for key in getattr(spec, pattern):
            if key not in names:
                raise TargetError(pattern, "must name adapted layers by their full names", key, _known(names))


def _only_called(target: str, matched: list[str], called: Collection[str]) -> list[str]:
    silent = [name for name in matched if name not in called]
    if not silent:
        return matched
    if target != ALL_LINEAR and target not in GROUPS:
        rule = f"must be layers that a forward pass calls with the batch's rows; {silent[0]} is not"
        fix = "It is used by its weight alone, or for something that all rows share: leave it out."
        raise TargetError("target_modules", rule, target, fix)
    _logger.warning("%s leaves out %s: not called with the batch's rows", target, ", ".join(silent))
    return [name for name in matched if name in called]


def _no_match(model: nn.Module, target: str, candidates: list[str]) -> TargetError:
    endings = sorted({name.rsplit(".", 1)[-1] for name in candidates})
    linear = [name for name, module in model.named_modules() if is_linear(module)]
    if match_target(target, linear):
        rule = "must not be the task head, a module that the checkpoint lacks, or the output embeddings"
        return TargetError("target_modules", rule, target, "The first two are trained in full beside every adapter.")
    close = difflib.get_close_matches(target, [*endings, *GROUPS, ALL_LINEAR], n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    fix = f"{hint}Its linear layers end in: {', '.join(endings)}; groups: {', '.join([*GROUPS, ALL_LINEAR])}."
    return TargetError("target_modules", "must match a linear layer of the model", target, fix)


def _known(names: tuple[str, ...]) -> str:
    return f"For example {names[0]}." if names else "This adapter has no LoRA layers."


def _output_embeddings(model: nn.Module) -> nn.Module | None:
    get = getattr(model, "get_output_embeddings", None)
    return get() if get is not None else None


def _inside(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith("." + ending)
