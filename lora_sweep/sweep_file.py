"""Reading SWEEP.yaml: `load_sweep` a file with its `--set` overrides, `parse_sweep` a mapping, `load_resolved` a run's.

All give a `SweepConfig` in which paths are absolute, the space is written out and every default is filled in. The
first rule that the input breaks becomes one `ConfigError`, which names the file or the override at fault.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lora_sweep.config import SweepConfig
from lora_sweep.errors import ConfigError
from lora_sweep.validation import UNKNOWN, as_config_error, expand_space, from_pydantic
from search_spaces import SpaceError
from search_spaces.errors import shown
from search_spaces.texts import read_yaml

KEYS_SINCE: Mapping[tuple[str, ...], object] = {("task", "data", "holdout"): 0, ("finalists", "seeds"): 0}
"""Keys that a run's sweep.yaml may lack because it is older than they are, with what was true of such a run."""


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read SWEEP.yaml.

    Args:
        path: the file; paths in it are relative to its folder.
        overrides: `a.b=c` each, as given to `--set`; c is YAML.

    Raises:
        ConfigError: the first rule that the file or an override breaks.
    """
    return _parse(_read(path), path.name, path.parent, overrides)


def load_resolved(path: Path) -> SweepConfig:
    """Read RUN/sweep.yaml, the configuration of a run that was made.

    It holds every key that there was then, so a missing key is not at its default: `KEYS_SINCE` says what held.

    Raises:
        ConfigError: the first rule that the file breaks.
    """
    raw = _read(path)
    for keys, value in KEYS_SINCE.items():
        inner = raw
        for key in keys[:-1]:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        if isinstance(inner, dict):
            inner.setdefault(keys[-1], value)
    return _parse(raw, path.name, path.parent, ())


def _read(path: Path) -> Any:
    try:
        return read_yaml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ConfigError(str(path), f"must be a readable file ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "must be text in UTF-8") from None
    except SpaceError as error:
        raise as_config_error(error) from None


def parse_sweep(raw: Mapping[str, Any], place: str, base: Path) -> SweepConfig:
    """Validate a sweep given as a mapping.

    Args:
        raw: the content of a SWEEP.yaml.
        place: what errors call it, e.g. `sweep.yaml`.
        base: the folder to which its paths are relative.

    Raises:
        ConfigError: the first rule that it breaks.
    """
    return _parse(raw, place, base, ())


def _parse(raw: object, place: str, base: Path, overrides: Sequence[str]) -> SweepConfig:
    if not isinstance(raw, Mapping):
        raise ConfigError(place, "must be a mapping with model, task, space and budget", shown(raw))
    settings = [_split_override(text) for text in overrides]
    try:
        raw = copy.deepcopy(dict(raw))
        for path, value, text in settings:
            _set(raw, path, value, text, base)
        return SweepConfig.model_validate(raw, context={"base": base})
    except ValidationError as error:
        refused = from_pydantic(error, SweepConfig)
    except ConfigError as error:
        refused = error
    where = _blame(refused, settings) or f"{place}: {refused.place}"
    raise ConfigError(where, refused.rule, refused.value, refused.fix) from None


# Overrides -----------------------------------------------------------------------------------------------------

Setting = tuple[tuple[str, ...], Any, str]


def _split_override(text: str) -> Setting:
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise ConfigError(f"--set {text}", "must be KEY=VALUE", None, "For instance --set search.trials=32.")
    try:
        return keys, read_yaml(value, f"--set {text}"), text
    except SpaceError as error:
        raise as_config_error(error) from None


def _set(raw: dict[str, Any], path: tuple[str, ...], value: object, text: str, base: Path) -> None:
    """Write one override into the raw configuration; a space given by name is written out first."""
    if path[0] == "space" and len(path) > 1 and isinstance(raw.get("space"), str):
        raw["space"] = expand_space(raw["space"], base)
    inner = raw
    for index, key in enumerate(path[:-1]):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            where = ".".join(path[: index + 1])
            raise ConfigError(where, "must be a mapping to set a key in it", inner, f"Set {where} as a whole.")
    inner[path[-1]] = value


def _blame(error: ConfigError, settings: Sequence[Setting]) -> str | None:
    """The override that brought the error, as a place."""
    for path, _, text in reversed(settings):
        dotted = ".".join(path)
        if error.place == dotted:
            return f"--set {text}"
        inside = error.place.startswith((f"{dotted}.", f"{dotted}["))
        if inside or (error.rule == UNKNOWN and dotted.startswith(f"{error.place}.")):
            return f"--set {text}: {error.place}"
    return None
