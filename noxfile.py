"""Decide what is checked, and in which environments: `nox` runs everything that CI runs.

Knows nothing of any one machine. Sessions whose Python is not installed are skipped, with a
reason in the closing summary; `TASKPROC_REQUIRE_PYTHONS=1` makes that an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"

PROJECT = nox.project.load_toml("pyproject.toml")
PLUGINS = sorted(str(path.parent) for path in Path("plugins").glob("*/pyproject.toml"))
EXAMPLE_PLUGIN = "examples/my_plugin"


def is_installed(python: str) -> bool:
    """Whether this Python really starts: a version manager's shim on PATH alone does not count."""
    command = shutil.which(f"python{python}")
    return command is not None and subprocess.run([command, "-c", ""], capture_output=True).returncode == 0


RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = ["3.11", "3.12", "3.13"]
# The oldest and the newest by default; the one between them by name (`nox -s tests-3.12`).
BY_DEFAULT = ["3.11", "3.13"]
INSTALLED = [python for python in PYTHONS if python == RUNNING or is_installed(python)]
REQUIRE_ALL = os.environ.get("TASKPROC_REQUIRE_PYTHONS", "") not in ("", "0")
if not REQUIRE_ALL and not set(BY_DEFAULT) & set(INSTALLED):
    BY_DEFAULT = [*BY_DEFAULT, RUNNING]
    PYTHONS = sorted({*PYTHONS, RUNNING})
OLDEST = min(INSTALLED, key=PYTHONS.index, default=RUNNING)
NEWEST = max((python for python in BY_DEFAULT if python in INSTALLED), default=RUNNING)

# Much of what the tests do is waiting for processes, so two at a time take half as long.
TWO_AT_A_TIME = ["-n", "2", "--dist", "worksteal"]

# The tests come last, so that the last thing on the screen is how they ended.
nox.options.sessions = [
    "lint",
    "imports",
    "typing",
    "plugins",
    "faults",
    *(f"tests-{python}" for python in BY_DEFAULT),
]


def group(name: str) -> list[str]:
    """The requirements of one dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Check the formatting and the ruff rules."""
    session.install(*group("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def imports(session: nox.Session) -> None:
    """Check the walls between the layers."""
    session.install(*group("imports"))
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "."})


@nox.session(python=OLDEST)
def typing(session: nox.Session) -> None:
    """Check the types with mypy --strict and with pyright."""
    # On the oldest Python, as the checkers are told to check for that: the stubs of other
    # libraries have to be those that pip chooses for it.
    session.install(*group("typing"), "pytest>=8", "-e", ".[examples]")
    session.run("mypy", "--strict", "taskproc")
    sources = [f"{plugin}/src" for plugin in PLUGINS]
    # Each by itself, as modules of different plugins may well have one name.
    for folder in [*sources, EXAMPLE_PLUGIN]:
        session.run("mypy", "--strict", folder)
    for file in [*sorted(Path("examples").glob("*.py")), *sorted(Path("tests/typing").glob("*.py"))]:
        session.run("mypy", "--strict", str(file))
    session.run("pyright", "taskproc", *sources, "examples", "tests/typing")


@nox.session(reuse_venv=False)
def plugins(session: nox.Session) -> None:
    """Build every distribution as a wheel, install the wheels together, and use them."""
    wheels = Path(session.create_tmp()) / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    session.install("pip>=23")
    folders = [".", *PLUGINS, EXAMPLE_PLUGIN]
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), *folders)
    needed = [one for plugin in PLUGINS for one in test_requirements(plugin)]
    session.install(*sorted(str(wheel) for wheel in wheels.glob("*.whl")), "pytest>=8", *needed)
    check_that_components_are_found(session)
    for plugin in PLUGINS:
        # What is tested is the wheels: the command `pytest` leaves the working directory off the
        # path, and the option takes off it the sources, which are there for other times.
        session.run("pytest", "-q", "-o", "pythonpath=", f"{plugin}/tests")
    census = ["taskproc", "run", "examples/stdlib_census.py", "-o", str(wheels.parent / "cache")]
    session.run(*census, silent=True)


def test_requirements(plugin: str) -> list[str]:
    """What the tests of a plugin need beside pytest: its extra `test`, if it has one."""
    project = nox.project.load_toml(f"{plugin}/pyproject.toml")["project"]
    return list(project.get("optional-dependencies", {}).get("test", []))


def check_that_components_are_found(session: nox.Session) -> None:
    """Each installed distribution offers something, and none failed to load."""
    text = session.run("taskproc", "plugins", "--json", silent=True)
    listed = json.loads(str(text))
    if listed["failures"]:
        session.error(f"plugins that failed to load: {listed['failures']}")
    offered = json.dumps(listed["components"])
    for folder in [*PLUGINS, EXAMPLE_PLUGIN]:
        name = nox.project.load_toml(f"{folder}/pyproject.toml")["project"]["name"]
        if name not in offered:
            session.error(f"{name} is installed, but offers no component: {offered}")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; warnings are errors (see pyproject.toml). Words after `--` go to pytest."""
    if session.python not in INSTALLED and not REQUIRE_ALL:
        session.skip(f"Python {session.python} is not installed here")
    extras = "test,docs,examples" if session.python == NEWEST else "test,docs"
    session.install("-e", f".[{extras}]", *group("parallel"))
    session.run("pytest", *TWO_AT_A_TIME, *session.posargs)


@nox.session(python=NEWEST)
def faults(session: nox.Session) -> None:
    """Kill, damage, fill the disk, start many at once; prints the figures of docs/reliability.md."""
    session.install("-e", ".[test]", *group("parallel"))
    file = str(Path(session.create_tmp()).resolve() / "figures.json")
    session.run("pytest", *TWO_AT_A_TIME, "tests/faults", *session.posargs, env={"TASKPROC_FIGURES": file})
    if not session.posargs:
        session.run("python", "tests/faults/figures_of_docs.py", file)


@nox.session(python=NEWEST)
def nightly(session: nox.Session) -> None:
    """Compare the keys of a million pairs of arguments, decode as many values, and try every fault."""
    session.install("-e", ".[test]", *group("parallel"))
    files = ["tests/core/test_arguments.py", "tests/core/test_decoder.py"]
    session.run("pytest", "--hypothesis-profile", "nightly", *files, *session.posargs)
    everything = {"TASKPROC_FAULTS": "all", "HYPOTHESIS_PROFILE": "nightly"}
    session.run("pytest", *TWO_AT_A_TIME, "tests/faults", env=everything)
