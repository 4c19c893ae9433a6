"""No module makes a program out of text: no eval, no shell, no `python -c` with something put in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskproc

ROOT = Path(taskproc.__file__).parent.parent
MODULES = sorted([*(ROOT / "taskproc").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")])

BUILTINS = {"eval", "exec", "__import__"}
CALLS = {
    "os": {"system", "popen", "execl", "execlp", "execv", "execvp", "spawnl", "spawnlp", "spawnv", "spawnvp"},
    "subprocess": {"getoutput", "getstatusoutput"},
    "asyncio": {"create_subprocess_shell"},
    "pty": {"spawn"},
}
PROGRAM_TEXT = {"-c", "-lc", "-ic"}

ALLOWED = {
    # A fixed text, into which nothing is put; the contract suite runs it as a user's unguarded script.
    ("taskproc/testing.py", "the word '-c'"),
}


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The places where a module could turn text into a program, and how."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in BUILTINS:
                yield node.lineno, f"{function.id}()"
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                if function.attr in CALLS.get(function.value.id, ()):
                    yield node.lineno, f"{function.value.id}.{function.attr}()"
                if function.value.id == "builtins" and function.attr in BUILTINS:
                    yield node.lineno, f"builtins.{function.attr}()"
            for keyword in node.keywords:
                if keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield node.lineno, "shell="
        elif isinstance(node, ast.ImportFrom) and node.module in CALLS:
            for name in node.names:
                if name.name in CALLS[node.module]:
                    yield node.lineno, f"{node.module}.{name.name}"
        elif isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                if isinstance(element, ast.Constant) and element.value in PROGRAM_TEXT:
                    yield node.lineno, f"the word {element.value!r}"


def test_no_module_makes_a_program_out_of_text() -> None:
    assert len(MODULES) > 100
    found = {
        (str(path.relative_to(ROOT)), what): line
        for path in MODULES
        for line, what in faults(ast.parse(path.read_text()))
    }
    assert found.keys() == ALLOWED, found


@pytest.mark.parametrize(
    "text",
    [
        "eval(x)",
        "exec(x, {})",
        "import os\nos.system(x)",
        "from subprocess import getoutput",
        "subprocess.run(x, shell=True)",
        "subprocess.run(x, shell=flag)",
        "Popen(['python', '-c', f'{x}'])",
        "run(('sh', '-c', x))",
    ],
)
def test_each_way_to_do_it_would_be_found(text: str) -> None:
    assert list(faults(ast.parse(text)))
