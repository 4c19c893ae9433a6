"""Plugins of every kind import of taskproc only what is made for plugins.

import-linter holds the walls inside the package; this file holds those around the separate
distributions, which need not be installed for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPEN_TO_PLUGINS = {"taskproc.hookspecs", "taskproc.interfaces", "taskproc.errors"}


def plugin_sources() -> list[Path]:
    """Every source file of a default plugin, of the distributions and of the example plugin."""
    folders = [ROOT / "taskproc/default_plugins", *ROOT.glob("plugins/*/src"), ROOT / "examples/my_plugin"]
    return sorted(file for folder in folders for file in folder.rglob("*.py"))


def imports_of_taskproc(source: str, package: str) -> Iterator[str]:
    """The modules of taskproc that a source text imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "taskproc")
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module == "taskproc":
                yield from (f"taskproc.{alias.name}" for alias in node.names)
            elif module.startswith("taskproc."):
                yield module


def forbidden_imports(file: Path) -> list[str]:
    is_default = file.is_relative_to(ROOT / "taskproc")
    package = ".".join(file.parent.relative_to(ROOT).parts) if is_default else ""
    found = imports_of_taskproc(file.read_text(encoding="utf-8"), package)
    own = "taskproc.default_plugins"
    return [
        name
        for name in found
        if name not in OPEN_TO_PLUGINS and not (is_default and f"{name}.".startswith(f"{own}."))
    ]


@pytest.mark.parametrize("file", plugin_sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_plugin_imports_only_hookspecs_interfaces_and_errors(file):
    assert forbidden_imports(file) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from taskproc.core.task import Task", ["taskproc.core.task"]),
        ("from taskproc import Task", ["taskproc.Task"]),
        ("import taskproc", ["taskproc"]),
        ("def f():\n    import taskproc.engine.runner", ["taskproc.engine.runner"]),
        ("from ..registry import Registry", ["taskproc.registry"]),
        ("from .. import modules", ["taskproc.modules"]),
        ("import taskproc_docker, taskprocessing", []),
    ],
)
def test_the_check_sees_an_import_in_each_of_its_forms(source, found):
    assert list(imports_of_taskproc(source, "taskproc.default_plugins")) == found


def test_a_file_beyond_the_wall_is_reported(tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text("from taskproc.interfaces import Job\nfrom taskproc.registry import Registry\n")
    assert forbidden_imports(file) == ["taskproc.registry"]


def test_each_separate_distribution_is_looked_at():
    looked_at = {file.relative_to(ROOT).parts[:2] for file in plugin_sources()}
    for project in [*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "examples/my_plugin/pyproject.toml"]:
        assert project.parent.relative_to(ROOT).parts[:2] in looked_at
