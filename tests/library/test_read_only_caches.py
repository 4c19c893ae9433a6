"""A cache that may not be written to answers all that it knows, and says in one sentence what it can't do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

TASKS = """
import json, sys, warnings
from taskproc import Cache, Task
from taskproc.errors import CacheError

warnings.simplefilter("error")

class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        print("leaf")
        (self.task_directory / "file").write_text("data")
        return self.n * 10

class Top(Task):
    def __init__(self, n):
        self.leaf = Leaf(n)

    def run_task(self):
        return self.leaf.get_result() + 1

def refusal(act):
    try:
        act()
    except CacheError as error:
        return str(error)
    return "no error"

def answers(executor):
    with Cache("cache") as cache:
        leaf = Leaf(2)
        return [
            Top(2).get_result(),
            Top(2).run_graph(executor=executor),
            [task.n for task in cache.tasks(Leaf)],
            (leaf.task_directory / "file").read_text() + leaf.task_stdout.read_text(),
            leaf.get_record().args["n"],
        ]

def refusals(executor):
    with Cache("cache"):
        return [
            refusal(lambda: Top(3).run_graph(executor=executor)),
            refusal(lambda: Top(2).run_graph(executor=executor, force=True)),
            refusal(Top(2).clear_task),
            refusal(Leaf.clear_all_tasks),
        ]

def make(executor):
    with Cache("cache"):
        return Top(2).run_graph(executor=executor)[0]

if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
"""

Write = Callable[[str, str], Path]
Confined = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def confined(tmp_path: Path, environment: dict[str, str]) -> Confined:
    """`confined("file.py", "word")` runs Python in tmp_path, as a user whom permissions hold back."""
    # Who runs the tests in a container is often root, whom they do not hold back.
    held_back: Sequence[str] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv to take that right away")
        held_back = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*held_back, sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def read_only(tmp_path: Path, write: Write, python: Callable[..., Any]) -> Iterator[Path]:
    """A cache with results in it, below which nothing may be written; `tasks.py` stands beside it."""
    assert python(write("tasks.py", TASKS), "make", "thread") == 21
    cache = tmp_path / "cache"
    set_writable(cache, False)
    yield cache
    set_writable(cache, True)


def set_writable(cache: Path, is_writable: bool) -> None:
    for folder, _, names in os.walk(cache):
        os.chmod(folder, 0o700 if is_writable else 0o500)
        for name in names:
            os.chmod(Path(folder, name), 0o600 if is_writable else 0o400)


EXECUTORS = ("serial", "thread", "process")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_all_that_is_stored_in_a_read_only_cache_can_be_had_and_run_without_a_warning(
    read_only: Path, confined: Confined, executor: str
) -> None:
    done = confined("tasks.py", "answers", executor)
    assert done.returncode == 0, done.stderr
    result, (answer, stats), found, texts, n = json.loads(done.stdout)
    assert (result, answer, stats["stats"], found, texts, n) == (21, 21, {}, [2], "dataleaf\n", 2)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_can_not_be_done_in_a_read_only_cache_is_one_clear_error(
    read_only: Path, confined: Confined, executor: str
) -> None:
    done = confined("tasks.py", "refusals", executor)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == 4
    for words in told:
        assert words.startswith(f"the cache {str(read_only)!r} can't be written to: Permission denied: ")
        assert words.endswith("; make it writable, or choose another path")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("status", "-o", "cache"), "tasks.Leaf"),
        (("why", "tasks.py:Top", "-a", "n=2", "-o", "cache"), "its stored result stands"),
        (("plan", "tasks.py:Top", "-a", "n=2", "-o", "cache"), "cached: 1 task"),
        (("logs", "tasks.Leaf", "n=2", "-o", "cache"), "leaf"),
        (("cache", "ls", "cache"), "tasks.Leaf"),
        (("cache", "verify", "cache"), "nothing is wrong"),
    ],
)
def test_the_commands_that_only_look_work_on_a_read_only_cache(
    read_only: Path, confined: Confined, command: Sequence[str], found: str
) -> None:
    done = confined("-m", "taskproc", *command)
    assert done.returncode == 0, done.stderr
    assert found in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    [
        ("run", "tasks.py:Top", "-a", "n=2", "-o", "cache"),
        ("run", "tasks.py:Top", "-a", "n=3", "-o", "cache"),
        ("cache", "clear", "cache", "--all", "--yes"),
    ],
)
def test_the_commands_that_would_write_to_a_read_only_cache_say_so_without_a_traceback(
    read_only: Path, confined: Confined, command: Sequence[str]
) -> None:
    done = confined("-m", "taskproc", *command)
    assert done.returncode not in (0, 130)
    assert "can't be written to: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "hidden", ["tasks.Leaf", "tasks.Leaf/*", "tasks.Leaf/*/result.pkl.gz", "tasks.Leaf/*/record.json", "jobs"]
)
def test_verify_tells_of_what_can_not_be_read_where_a_run_would_need_it(
    tmp_path: Path, write: Write, python: Callable[..., Any], confined: Confined, hidden: str
) -> None:
    assert python(write("tasks.py", TASKS), "make", "thread") == 21
    (path,) = (tmp_path / "cache").glob(hidden)
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        done = confined("-m", "taskproc", "cache", "verify", "cache")
    finally:
        path.chmod(mode)
    assert done.returncode == 1, done.stdout + done.stderr
    (wrong,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG: ")]
    assert wrong.startswith(f"WRONG: {path.relative_to(tmp_path / 'cache')}: ")
    assert "can't be read: Permission denied" in wrong
    assert confined("-m", "taskproc", "cache", "verify", "cache").returncode == 0
