"""A helper edited within the second, keeping its size: the new answer at once, whatever runs the task."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]

PIPELINE = """
import early
from package import value
from taskproc import Task

class Factors(Task):
    def run_task(self):
        import late
        return [early.FACTOR, early.by_default(), value(), late.FACTOR]

class Main(Task):
    def __init__(self):
        self.factors = Factors()

    def run_task(self):
        print(*self.factors.get_result(), early.FACTOR)

if __name__ == "__main__":
    Main.cli()
"""

# Where the number stands that is edited.
HELPERS = {
    "early.py": "FACTOR = 2\n\ndef by_default(factor=2):\n    return factor\n",
    "late.py": "FACTOR = 2\n",
    "package/inner.py": "class Inner:\n    factors = [2]\n",
}
PACKAGE = "from .inner import Inner\n\ndef value():\n    return Inner.factors[0]\n"

HOW_RUN = {
    "process": ["-x", "process", "-n", "1"],
    "thread": ["-x", "thread"],
    "serial": ["-x", "serial"],
    "launched": ["--prefix", "Factors=env", "--prefix", "Main=env"],
}


@pytest.fixture
def edit(tmp_path: Path, write: Write) -> Callable[[int], None]:
    """Write all helpers with this number, always at the same time in seconds and of the same size."""
    write("pipeline.py", PIPELINE)
    write("package/__init__.py", PACKAGE)
    moment = time.time_ns()

    def write_helpers(number: int) -> None:
        for name, text in HELPERS.items():
            path = write(name, text.replace("2", str(number)))
            os.utime(path, ns=(moment, moment))

    return write_helpers


@pytest.fixture
def plain_python(tmp_path: Path, environment: dict[str, str]) -> Callable[[str], str]:
    """What `python -c TEXT` prints, which leaves its bytecode behind."""

    def run_python(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    return run_python


@pytest.mark.parametrize("how", HOW_RUN)
def test_every_edit_counts_at_once(
    run: Run,
    edit: Callable[[int], None],
    plain_python: Callable[[str], str],
    how: str,
) -> None:
    edit(2)
    plain_python("import early, late, package")
    for number in (3, 4, 5):
        edit(number)
        assert plain_python("import early, late; print(early.FACTOR, late.FACTOR)") == "2 2\n"
        done = run("pipeline.py", "-o", "cache", "--dont-show-progress", *HOW_RUN[how])
        assert (done.returncode, done.stdout) == (0, f"{number} {number} {number} {number} {number}\n")


def test_a_big_project_is_not_compiled_again_at_each_start(
    run: Run, write: Write, environment: dict[str, str], tmp_path: Path
) -> None:
    names = [f"part{number}" for number in range(40)]
    for name in names:
        write(f"{name}.py", f"NAME = {name!r}\n")
    last = write(
        "big.py",
        f"import {', '.join(names)}\nfrom taskproc import Task\n\nclass Main(Task):\n"
        "    def run_task(self):\n        print(part39.NAME)\n",
    )
    time.sleep(max(0.0, last.stat().st_ctime + 2.1 - time.time()))
    environment["PYTHONVERBOSE"] = "1"  # Python then tells where each module comes from
    told = []
    for _ in range(2):
        done = run("big.py", "-o", "cache", "-x", "process", "-n", "1")
        assert (done.returncode, done.stdout) == (0, "part39\n")
        told.append(done.stderr)
    for name in names:
        source = tmp_path / f"{name}.py"
        bytecode = importlib.util.cache_from_source(str(source))
        assert f"# code object from {source}\n" in told[0]
        assert f"# code object from {source}\n" not in told[1]
        assert f"# {bytecode} matches {source}\n" in told[1]


@pytest.mark.parametrize("words", [["-m", "pipeline"], ["pipeline.py"]])
def test_a_script_that_runs_itself_refuses_old_code_and_is_right_at_its_next_start(
    edit: Callable[[int], None],
    plain_python: Callable[[str], str],
    environment: dict[str, str],
    tmp_path: Path,
    words: list[str],
) -> None:
    """Python has imported the script's helpers before anything of ours is asked."""

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words, "-o", "cache", "--dont-show-progress"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    edit(2)
    plain_python("import early, late")  # and not the package: one refusal is enough to see
    edit(3)
    refused = start()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{tmp_path / 'early.py'} was changed so that Python did not notice" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "cache").exists()
    done = start()
    assert (done.returncode, done.stdout) == (0, "3 3 3 3 3\n"), done.stderr
