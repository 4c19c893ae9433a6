"""Runs that are stopped or killed, and what becomes of others that share the cache with them."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskproc import Cache
from taskproc.default_plugins.directory_cache import other_leases
from taskproc.engine import elsewhere

TASKS = """
import errno
import fcntl
import os
import sys
import time
from pathlib import Path

from taskproc import Cache, FutureList, Task

NOTES = Path(__file__).with_name("notes")


class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        (self.task_directory / "n").write_text(str(self.n))
        with NOTES.open("a") as stream:
            stream.write(f"begin {self.n} {os.getppid()}\\n")
        while not NOTES.with_name(f"go-{os.getppid()}").exists():
            time.sleep(0.01)
        return self.n


class Main(Task):
    def __init__(self):
        self.leaves = FutureList([Leaf(n) for n in range(4)])

    def run_task(self):
        return sum(self.leaves.get_result())


def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")


if __name__ == "__main__":
    if "no-locks" in sys.argv:
        fcntl.fcntl = fcntl.flock = refuse
    with Cache("cache"):
        answer, stats = Main().run_graph(executor="process", max_workers=2)
    print(answer, sum(stats["stats"].values()), sum(stats["cached"].values()))
"""

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a stopped process is not known as one"
)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "standing.py").write_text(TASKS)
    (tmp_path / "notes").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begun(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


def go(folder: Path, pid: int) -> None:
    """Let the tasks of this runner's workers come to their end."""
    (folder / f"go-{pid}").touch()


@pytest.fixture
def here(folder: Path) -> object:
    """The tasks in this process, whose own leaves do not wait."""
    go(folder, os.getpid())
    sys.modules.pop("standing", None)
    return importlib.import_module("standing")


@on_linux
@pytest.mark.parametrize("whom", ["the runner alone", "the runner and its workers"])
def test_a_run_takes_over_what_a_stopped_one_has_claimed_and_both_come_to_the_right_answer(
    folder: Path, here: object, start: Callable[..., subprocess.Popen[str]], whom: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(other_leases, "STOPPED_SECONDS", 5.0)
    monkeypatch.setattr(elsewhere, "_TELL_SECONDS", 0.5)
    runner = start("standing.py")
    wait_until(lambda: len(begun(folder)) == 2)
    workers = workers_of(runner.pid)
    stopped = [runner.pid] + (workers if whom == "the runner and its workers" else [])
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with Cache(folder / "cache"), caplog.at_level(logging.WARNING, "taskproc"):
        answer, stats = here.Main().run_graph(executor="process", max_workers=2)  # type: ignore[attr-defined]
    assert (answer, stats["failed"]) == (6, {})
    (told,) = [record.getMessage() for record in caplog.records]
    words = f"another run is computing (pid {runner.pid} on host {os.uname().nodename}, which is stopped)"
    assert told == f"waiting for 2 tasks that {words}"
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    go(folder, runner.pid)
    out, err = runner.communicate(timeout=60)
    assert (out.split()[0], err, runner.returncode) == ("6", "", 0)
    with Cache(folder / "cache"):
        assert here.Main().run_graph()[1]["stats"] == {}  # type: ignore[attr-defined]
        assert sorted(path.read_text() for path in folder.glob("cache/standing.Leaf/*/data/n")) == list(
            "0123"
        )


@on_linux
def test_what_a_stopped_run_has_stored_is_taken_without_waiting_for_its_claims(
    folder: Path, here: object, start: Callable[..., subprocess.Popen[str]]
) -> None:
    runner = start("standing.py")
    wait_until(lambda: len(begun(folder)) == 2)
    os.kill(runner.pid, signal.SIGSTOP)
    go(folder, runner.pid)  # its workers go on, and store what they compute
    wait_until(lambda: len(list(folder.glob("cache/standing.Leaf/*/record.json"))) >= 2)
    begun_here = time.monotonic()
    with Cache(folder / "cache"):
        assert here.Main().run_graph(executor="process")[0] == 6  # type: ignore[attr-defined]
    assert time.monotonic() - begun_here < other_leases.STOPPED_SECONDS
    os.kill(runner.pid, signal.SIGCONT)
    out, err = runner.communicate(timeout=60)
    assert (out.split()[0], err, runner.returncode) == ("6", "", 0)


@pytest.mark.parametrize("locks", ["locks", "no-locks"])
def test_runs_share_the_work_and_what_a_killed_one_was_at_is_computed_at_once(
    folder: Path, start: Callable[..., subprocess.Popen[str]], locks: str
) -> None:
    runners = [start("standing.py", locks)]
    wait_until(lambda: len(begun(folder)) == 2)
    runners.append(start("standing.py", locks))
    wait_until(lambda: len(begun(folder)) == 4)
    assert len({line.split()[1] for line in begun(folder)}) == 4, "a task is computed twice"
    go(folder, runners[1].pid)
    runners[0].kill()
    killed = time.monotonic()
    out, err = runners[1].communicate(timeout=60)
    assert (out, err, runners[1].returncode) == ("6 5 0\n", "", 0)
    assert time.monotonic() - killed < 20, "generous: a takeover takes less than 5 s, the rest is computing"
    assert len(begun(folder)) == 6


def workers_of(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *workers_of(int(child))]
    return found
