"""The real command, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import taskproc

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ROOT = Path(taskproc.__file__).parent.parent


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment in which this very taskproc is imported, with none of the user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """`run("file.py", "-o", "cache")` is `python -m taskproc file.py -o cache` in tmp_path."""

    def run_command(
        *words: str | Path, module: str = "taskproc", cwd: Path | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=cwd or tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run_command


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start("run", "file.py")` starts the command in tmp_path; killed at the end if need be."""
    started: list[subprocess.Popen[str]] = []

    def start_command(*words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskproc", *map(str, words)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below tmp_path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def expect_one_error() -> Callable[..., None]:
    """Check that the command failed with this code and told why, with no traceback of ours."""

    def check(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        errors = [
            line for line in done.stderr.splitlines() if line.startswith(("taskproc: error:", "Error:"))
        ]
        assert len(errors) == 1, done.stderr
        for word in words:
            assert word in done.stderr
        assert str(ROOT / "taskproc") not in done.stderr, done.stderr
        assert "site-packages" not in done.stderr, done.stderr

    return check
