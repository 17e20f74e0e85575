"""From a name, a file or a mapping to a space; the presets that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from search_spaces.errors import SpaceError, hint, shown
from search_spaces.space import Space
from search_spaces.texts import read_yaml

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Preset:
    """A space that ships with the package.

    Attributes:
        name: by which a sweep calls it.
        description: what it is for, a sentence.
        space: the space as written; `Space.parse` validates it.
    """

    name: str
    description: str
    space: Mapping[str, Any]


def presets() -> dict[str, Preset]:
    """The presets by name, in alphabetical order."""
    files = [file for file in (resources.files("search_spaces") / "presets").iterdir() if file.name.endswith(".yaml")]
    found: dict[str, Preset] = {}
    for file in sorted(files, key=lambda file: file.name.removesuffix(".yaml")):
        content = read_yaml(file.read_text(encoding="utf-8"), file.name)
        name = file.name.removesuffix(".yaml")
        found[name] = Preset(name, content["description"], content["space"])
    return found


def load(reference: str | Mapping[str, Any], base: Path) -> Space:
    """The space that a sweep's `space:` means.

    Args:
        reference: a preset's name, a YAML file (a space, or `description:` and `space:` as the presets have it),
            or the space itself.
        base: the folder to which a file's path is relative.

    Raises:
        SpaceError: no such preset or file, or the space breaks a rule.
    """
    if isinstance(reference, Mapping):
        return Space.parse(reference)
    rule = "must be a preset, a YAML file, or the space itself"
    if not isinstance(reference, str):
        raise SpaceError("space", rule, shown(reference))
    known = presets()
    if reference in known:
        return Space.parse(known[reference].space)
    path = base / Path(reference).expanduser()
    if path.is_file():
        return _load_file(path)
    if reference.endswith(_SUFFIXES):
        raise SpaceError("space", "file must exist", str(path), f"Or name a preset: {', '.join(known)}.")
    raise SpaceError("space", rule, reference, hint(reference, known, "Presets"))


def _load_file(path: Path) -> Space:
    place = f"space ({path.name})"
    try:
        content = read_yaml(path.read_text(encoding="utf-8"), place)
    except UnicodeDecodeError:
        raise SpaceError(place, "must be text in UTF-8") from None
    if isinstance(content, Mapping) and "space" in content and set(content) <= {"description", "space"}:
        content = content["space"]
    return Space.parse({} if content is None else content, place)
