"""The documentation's examples: every YAML block is a sweep, a space or a map of columns that validates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from lora_sweep.config import SweepConfig
from lora_sweep.importing import ImportMap, parse_map
from lora_sweep.importing.fields import FIELDS
from lora_sweep.sweep_file import parse_sweep
from search_spaces import Space, presets
from search_spaces.keys import KEYS
from search_spaces.texts import read_yaml

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))
SWEEP_FILE = ROOT / "docs" / "sweep-file.md"


def yaml_blocks(file: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


BLOCKS = [
    pytest.param(block, id=f"{file.stem}-{number}")
    for file in DOCUMENTS
    for number, block in enumerate(yaml_blocks(file))
]


def parse(block: str, folder: Path) -> SweepConfig:
    """Parse a sweep whose files are made, empty, in `folder`."""
    raw = read_yaml(block, "example")
    data = raw["task"]["data"]
    names = [] if data.get("hub") else [data.get(part) for part in ("train", "eval", "test")]
    model = raw["model"]["name"]
    names += [model] if model.endswith(".gguf") or model.startswith((".", "/")) else []
    for name in filter(None, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return parse_sweep(raw, "example", folder)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_validates(block: str, tmp_path: Path) -> None:
    if block.startswith("columns:"):
        parse_map(block, "example")
    elif "model:" in block:
        parse(block, tmp_path)
    else:
        Space.parse(read_yaml(block, "example"))


def test_the_written_out_sweep_holds_every_key_at_its_default(tmp_path: Path) -> None:
    shortest, whole = yaml_blocks(SWEEP_FILE)[:2]
    assert parse(shortest, tmp_path) == parse(whole, tmp_path)
    missing = set(_keys(SweepConfig)) - set(_given(yaml.safe_load(whole)))
    assert not missing


def test_every_key_and_preset_of_a_space_is_told() -> None:
    text = SWEEP_FILE.read_text(encoding="utf-8")
    assert not {name for name in (*KEYS, *presets()) if f"`{name}`" not in text}


def test_every_key_and_field_of_a_map_is_told() -> None:
    text = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    assert not {name for name in FIELDS if f"`{name}`" not in text}
    (block,) = yaml_blocks(ROOT / "docs" / "import.md")
    assert set(yaml.safe_load(block)) == set(ImportMap.model_fields)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_links_lead_somewhere(file: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (file.parent / link).exists()]


def test_the_readme_names_folders_that_are_there() -> None:
    tree = re.search(r"^```\n(lora_sweep/ .*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert tree is not None
    parent = ""
    missing = []
    for line in tree[1].splitlines():
        name = line.split()[0]
        parent, place = (parent, parent + name) if line.startswith("  ") else (name, name)
        if not (ROOT / place).is_dir():
            missing.append(place)
    assert not missing


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted keys of a model and of the models in it."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _keys(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _given(raw: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in raw.items():
        found += _given(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [prefix + name]
    return found
