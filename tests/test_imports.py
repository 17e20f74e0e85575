"""Who may import whom, as docs/design.md draws it: the imports of every module are read, none is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lora_sweep", "reports", "search_spaces")
BASE = ("lora_sweep.errors", "lora_sweep.records", "lora_sweep.target_groups", "lora_sweep.text_rows")
"""Modules of ours that every part may use: they load without torch and import nothing but each other."""

# What each part may import of ours, and of other people's packages (None: whatever is installed).
# Imports for type checkers alone are free: nothing is loaded by them.
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
    "search_spaces": ((), ("yaml",)),
    "lora_sweep.errors": ((), ()),
    "lora_sweep.garbage": ((), ()),
    "lora_sweep.target_groups": ((), ()),
    "lora_sweep.records": ((), ("pydantic",)),
    "lora_sweep.text_rows": (("lora_sweep.errors",), ()),
    "lora_sweep.validation": ((*BASE, "search_spaces"), ("pydantic", "pydantic_core")),
    "lora_sweep.budget": ((*BASE, "search_spaces", "lora_sweep.validation"), ("pydantic",)),
    "lora_sweep.task_config": ((*BASE, "search_spaces", "lora_sweep.validation"), ("pydantic",)),
    "lora_sweep.config": (
        (*BASE, "search_spaces", "lora_sweep.validation", "lora_sweep.budget", "lora_sweep.task_config"),
        ("pydantic", "yaml"),
    ),
    "lora_sweep.sweep_file": ((*BASE, "search_spaces", "lora_sweep.validation", "lora_sweep.config"), ("pydantic",)),
    "lora_sweep.store": (BASE, ("pydantic", "pandas")),
    "lora_sweep.adapters": (BASE, ("torch", "safetensors", "numpy", "pydantic")),
    "lora_sweep.model_files": (BASE, ("torch", "transformers")),
    "lora_sweep.models": ((*BASE, "lora_sweep.adapters", "lora_sweep.model_files"), ("torch", "transformers")),
    "lora_sweep.tasks": (BASE, ("datasets", "transformers", "numpy", "pandas", "pyarrow", "jinja2", "sklearn")),
    "lora_sweep.engine": (
        (*BASE, "lora_sweep.adapters", "lora_sweep.tasks", "lora_sweep.models", "lora_sweep.store"),
        ("torch", "numpy"),
    ),
    "lora_sweep.analysis": (
        (
            *BASE,
            "lora_sweep.sweep_file",
            "lora_sweep.engine",
            "lora_sweep.adapters",
            "lora_sweep.tasks",
            "lora_sweep.models",
            "lora_sweep.store",
            "lora_sweep.config",
            "lora_sweep.preflight",
        ),
        ("torch", "numpy"),
    ),
    "lora_sweep.sweep": (
        (
            *BASE,
            "lora_sweep.garbage",
            "lora_sweep.engine",
            "lora_sweep.analysis",
            "lora_sweep.tasks",
            "lora_sweep.store",
            "lora_sweep.config",
            "reports.finalists",
        ),
        None,
    ),
    "lora_sweep.importing": (
        (*BASE, "search_spaces", "lora_sweep.validation", "lora_sweep.store"),
        ("pydantic", "pandas", "pyarrow"),
    ),
    "reports": (
        (*BASE, "lora_sweep.store", "search_spaces"),
        ("jinja2", "markupsafe", "numpy", "pandas", "plotly", "scipy", "sklearn", "yaml"),
    ),
    "lora_sweep.export": (
        (
            *BASE,
            "reports",
            "lora_sweep.sweep_file",
            "lora_sweep.config",
            "lora_sweep.adapters",
            "lora_sweep.tasks",
            "lora_sweep.models",
            "lora_sweep.model_files",
            "lora_sweep.store",
        ),
        ("torch", "transformers", "peft", "numpy", "pandas", "jinja2", "yaml"),
    ),
}

Import = tuple[str, str, bool]
"""The importing module, what it imports, and whether the import is for type checkers alone."""


def imports_of(module: str, file: Path) -> Iterator[Import]:
    """Every import of a module, those inside of functions included."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        for name in _imported(node, package):
            yield module, name, id(node) in guarded


def _imported(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    source = ".".join([*above, node.module] if node.module else above)
    # `from lora_sweep import store` imports a module, `from lora_sweep.store import RunFolder` a name in one
    return [f"{source}.{alias.name}" if _is_module(f"{source}.{alias.name}") else source for alias in node.names]


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.split(".")[0] in PACKAGES and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def modules() -> dict[str, Path]:
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


IMPORTS = [one for module, file in modules().items() for one in imports_of(module, file)]
LOADED = [(module, name) for module, name, for_types in IMPORTS if not for_types]


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def test_the_reader_sees_every_kind_of_import(tmp_path: Path) -> None:
    file = tmp_path / "broker.py"
    file.write_text(
        "import a.b, c\nfrom . import leases\nfrom ..store import RunFolder\nfrom lora_sweep import records, errors\n"
        "if TYPE_CHECKING:\n    from d import e\nelse:\n    import f\ndef g():\n    from h.i import j\n"
    )
    found = {(name, for_types) for _, name, for_types in imports_of("lora_sweep.sweep.broker", file)}
    ours = {"lora_sweep.sweep.leases", "lora_sweep.store", "lora_sweep.records", "lora_sweep.errors"}
    assert found == {(name, False) for name in ours | {"a.b", "c", "f", "h.i"}} | {("d", True)}


@pytest.mark.parametrize("part", RULES)
def test_a_part_imports_only_what_it_may(part: str) -> None:
    ours, theirs = RULES[part]
    wrong = []
    for module, name in LOADED:
        if not within(module, part):
            continue
        if is_ours(name):
            # `lora_sweep` itself holds nothing but the version
            allowed = name == "lora_sweep" or any(within(name, one) for one in (part, *ours))
        else:
            top = name.split(".")[0]
            allowed = theirs is None or top in theirs or top in sys.stdlib_module_names
        if not allowed:
            wrong.append(f"{module} imports {name}")
    assert any(within(module, part) for module in modules())
    assert not wrong


@pytest.mark.parametrize(
    ("package", "owner"),
    [
        ("ray", "lora_sweep.sweep"),
        ("optuna", "lora_sweep.sweep"),
        ("plotly", "reports"),
        ("peft", "lora_sweep.export"),
    ],
)
def test_only_one_part_imports(package: str, owner: str) -> None:
    users = {module for module, name, _ in IMPORTS if within(name, package)}
    assert users
    assert not {module for module in users if not within(module, owner)}


def test_nobody_imports_the_command_line() -> None:
    cli = "lora_sweep.cli"
    users = {module for module, name, _ in IMPORTS if within(name, cli) and not within(module, cli)}
    assert users == {"lora_sweep.__main__"}


def test_the_command_line_loads_its_commands_when_they_are_called() -> None:
    cli = "lora_sweep.cli"
    trees = [ast.parse(file.read_text(encoding="utf-8")) for name, file in modules().items() if within(name, cli)]
    names = {name for tree in trees for node in tree.body for name in _imported(node, cli) if is_ours(name)}
    assert {name for name in names if not within(name, cli)} == {
        "lora_sweep",
        "lora_sweep.errors",
        "lora_sweep.garbage",
    }


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    parts = [part for part in RULES if part not in BASE]
    edges = {
        (a, b)
        for module, name in LOADED
        for a in parts
        if within(module, a)
        for b in parts
        if within(name, b)
        if a != b
    }
    left = set(parts)
    while free := {part for part in left if not any(a == part and b in left for a, b in edges)}:
        left -= free
    assert not left


# Loading for real ----------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "datasets", "sklearn")
LIGHT = {
    "lora_sweep.errors": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.garbage": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.target_groups": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.records": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.text_rows": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.config": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.sweep_file": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.store": (*HEAVY, "ray", "pandas", "numpy"),
    "search_spaces": (*HEAVY, "ray", "pandas", "numpy"),
    "lora_sweep.importing": (*HEAVY, "ray", "pandas", "numpy", "pyarrow"),
    "lora_sweep.cli": (*HEAVY, "ray", "pandas", "numpy", "plotly"),
    "lora_sweep.engine.api": (*HEAVY, "ray"),
    "lora_sweep.sweep.broker": (*HEAVY, "optuna", "plotly"),
    "lora_sweep.sweep.trial": (*HEAVY, "optuna", "plotly"),
    "reports": (*HEAVY, "ray", "plotly"),
    "reports.finalists": (*HEAVY, "ray", "plotly"),
}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_loads_without(module: str) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)").split()
    assert not set(LIGHT[module]) & set(loaded)


def test_help_loads_no_torch_and_no_ray() -> None:
    code = (
        "import sys\n"
        "from lora_sweep.cli import main\n"
        "sys.argv = ['lora-sweep', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('LOADED', *sys.modules)"
    )
    text, _, loaded = run_python(code).partition("LOADED")
    for command in ("demo", "run", "resume", "plan", "analyze", "recommend", "report", "pick", "inspect", "spaces"):
        assert command in text
    assert not {*HEAVY, "ray", "pandas", "numpy", "plotly"} & set(loaded.split())
