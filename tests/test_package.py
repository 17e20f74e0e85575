"""The wheel: complete, and usable from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lora_sweep", "reports", "search_spaces")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the repository."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", dist, source, cwd=source)
    (file,) = dist.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    options = ("--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--quiet")
    run("-m", "pip", "install", *options, "--target", target, wheel, cwd=target)
    return target


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file())
    assert inside == {file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts}
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert {"search_spaces/presets/quick.yaml", "reports/templates/page.html.j2"} <= inside


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (place,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    said = message_from_string(archive.read(place).decode())
    assert said["Name"] == "lora-sweep" and said["License-Expression"] == "MIT" and said["License-File"] == "LICENSE"
    assert set(said.get_all("Provides-Extra") or ()) == {"bench", "demo", "dev", "gguf"}
    entry = archive.read(place.replace("METADATA", "entry_points.txt")).decode()
    assert "lora-sweep = lora_sweep.cli:main" in entry


def test_the_installed_package_finds_its_files(installed: Path, tmp_path: Path) -> None:
    def command(code: str) -> str:
        return run("-c", code, cwd=tmp_path, PYTHONPATH=str(installed))

    places = (
        "import lora_sweep, reports, search_spaces\nfor m in (lora_sweep, reports, search_spaces): print(m.__file__)"
    )
    assert all(Path(line).is_relative_to(installed) for line in command(places).split("\n") if line)
    spaces = command("import sys; sys.argv = ['lora-sweep', 'spaces']; from lora_sweep.cli import main; main()")
    for preset in (ROOT / "search_spaces" / "presets").glob("*.yaml"):
        assert f"{preset.stem}: " in spaces
    command(
        "from jinja2 import Environment, PackageLoader; PackageLoader('reports').get_source(Environment(), 'page.css')"
    )
