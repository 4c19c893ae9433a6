"""What a task prints on a disk that has no room for it: the result counts, and what was dropped is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# To a process with such a limit every file is a full disk from so many bytes on.
PRINTS = """
import json, os, resource, sys
from taskproc import Cache, Task

class Prints(Task):
    def run_task(self):
        for number in range(3000):
            print(f"{number:05}", "x" * 94)
        sys.stderr.write("said\\n")
        return 42

class Reads(Task):
    def __init__(self):
        self.prints = Prints()

    def run_task(self):
        print("a few words")
        return self.prints.get_result()

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    options = {"executor": sys.argv[1]}
    if sys.argv[1] == "launched":
        options = {"prefixes": {"tasks.Prints": "env", "tasks.Reads": "env"}}
    with Cache("cache"):
        answer, _ = Reads().run_graph(max_workers=1, **options)
        logs = [Prints().task_stdout, Prints().task_stderr, Reads().task_stdout]
        texts = [log.read_text() for log in logs]
    print(json.dumps([answer, texts]))
"""


@pytest.mark.parametrize("executor", ["thread", "process", "launched"])
def test_a_task_that_prints_more_than_the_disk_takes_finishes_and_its_first_lines_are_kept(
    write: Callable[[str, str], Path], start: Callable[..., subprocess.Popen[str]], executor: str
) -> None:
    runner = start(write("tasks.py", PRINTS), executor)
    out, err = runner.communicate(timeout=120)
    assert runner.returncode == 0, err
    answer, (stdout, stderr, other) = json.loads(out)
    assert (answer, stderr, other) == (42, "said\n", "a few words\n")
    lines = stdout.splitlines()
    assert len(stdout) == 100_000
    assert lines[0] == "00000 " + "x" * 94
    if executor != "launched":  # what a launched job says beside its task is in its client's log
        assert "a part of what a task printed was not kept: [Errno 27] File too large" in err


FAILS = """
import resource
from taskproc import Cache, Task

class Fails(Task):
    def run_task(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # now the disk is full
        raise ValueError("its own failure")

if __name__ == "__main__":
    with Cache("cache"):
        Fails().run_graph(prefixes={"tasks.Fails": "env"})
"""


def test_a_launched_job_that_cannot_even_write_how_it_failed_fails_with_the_path_and_the_reason(
    write: Callable[[str, str], Path], start: Callable[..., subprocess.Popen[str]]
) -> None:
    runner = start(write("tasks.py", FAILS))
    _, err = runner.communicate(timeout=120)
    assert runner.returncode == 1, err
    assert "tasks.Fails failed: OSError: [Errno 27] File too large: '" in err
    assert "outcome.pkl'" in err
