"""An open cache, and scripts in processes of their own: there `__main__` is what a user has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import taskproc
from taskproc import Cache

ROOT = Path(taskproc.__file__).parent.parent


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """A Cache that is open during the test."""
    with Cache(tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """`write("a/b.py", text)` writes a file below tmp_path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment in which this very taskproc is imported, with none of the user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))}
    # Without bytecode files: Python takes an edit within one second that keeps the size for none.
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start("file.py", "word")` starts `python file.py word` in tmp_path; killed at the end if need be."""
    started: list[subprocess.Popen[str]] = []

    def start_python(*words: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=cwd or tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_python
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def python(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Any]:
    """`python("file.py")` runs a script in tmp_path and reads the JSON in its last line."""

    def run_python(*words: str | Path, cwd: Path | None = None, stdin: str = "") -> Any:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=cwd or tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run_python
