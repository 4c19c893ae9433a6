"""Runs in processes of their own that are told to stop, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import taskproc

QUICK, LEAVES = 3, 12
"""Of so many tasks the first few are quick, the others take as long as HOLD says."""

TASKS = """
import os
import subprocess
import sys
import time
from pathlib import Path

from taskproc import Cache, FutureList, Task

NOTES = Path(__file__).with_name("notes")


def note(*words):
    line = " ".join(map(str, words)) + "\\n"
    with open(NOTES, "a") as stream:
        stream.write(line)


class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        note("begin", self.n, os.getpid(), time.monotonic())
        if self.n >= QUICK and float(os.environ["HOLD"]):
            print("holding on", flush=True)
            if "CHILD" in os.environ:
                child = subprocess.Popen(["sleep", "300"])
                note("child", self.n, child.pid, time.monotonic())
            note("held", self.n, os.getpid(), time.monotonic())
            hold(float(os.environ["HOLD"]))
        note("end", self.n, os.getpid(), time.monotonic())
        return self.n


def hold(seconds):
    time.sleep(seconds)


class Main(Task):
    def __init__(self):
        self.leaves = FutureList([Leaf(n) for n in range(LEAVES)])

    def run_task(self):
        return sum(self.leaves.get_result())


if __name__ == "__main__":
    import json
    options = json.loads(sys.argv[1])
    with Cache("cache"):
        try:
            print(Main().run_graph(**options))
        finally:
            note("over", 0, os.getpid(), time.monotonic())
""".replace("QUICK", str(QUICK)).replace("LEAVES", str(LEAVES))

PREFIX = "tasks.Leaf=env"
WAYS: dict[str, tuple[Sequence[str], str]] = {
    "process": (("-x", "process", "-n", "2"), '{"executor": "process", "max_workers": 2}'),
    "thread": (("-x", "thread", "-n", "2"), '{"executor": "thread", "max_workers": 2}'),
    "serial": (("-x", "serial"), '{"executor": "serial"}'),
    "prefix": (("-n", "2", "--prefix", PREFIX), '{"max_workers": 2, "prefixes": {"tasks.Leaf": "env"}}'),
}
"""How the tasks run: the words of the command, and the options of the script."""


@dataclass
class Stopped:
    """A run that came to its end after signals; times are `time.monotonic()`."""

    returncode: int
    stdout: str
    stderr: str
    signalled: float
    seconds: float
    notes: list[tuple[str, int, int, float]]

    @property
    def latest_start(self) -> float:
        """Seconds from the first signal to the last start of a task; below 0 for none after it."""
        return max(when for what, _, _, when in self.notes if what == "begin") - self.signalled

    def pids(self) -> set[int]:
        return {pid for _, _, pid, _ in self.notes}


@dataclass
class Site:
    """A folder with the task file, and what is started in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    started: list[subprocess.Popen[str]] = field(default_factory=list["subprocess.Popen[str]"])

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tasks.py").write_text(TASKS)
        kept = {name: v for name, v in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))}
        root = str(Path(taskproc.__file__).parent.parent)
        self.environment = {**kept, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "HOLD": "60"}

    def command(self, way: str, *words: str) -> subprocess.Popen[str]:
        """`taskproc tasks.py -o cache ...`, in a process group of its own."""
        line = ["-m", "taskproc", "tasks.py", "-o", "cache", "--dont-show-progress", *WAYS[way][0], *words]
        return self.start(*line)

    def script(self, way: str) -> subprocess.Popen[str]:
        """`python tasks.py`, which calls `run_graph`."""
        return self.start("tasks.py", WAYS[way][1])

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **more,
        )
        self.started.append(process)
        return process

    def notes(self) -> list[tuple[str, int, int, float]]:
        try:
            lines = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(what, int(n), int(pid), float(when)) for what, n, pid, when in map(str.split, lines)]

    def held(self) -> int:
        return sum(what == "held" for what, *_ in self.notes())

    def until_held(self, count: int = 1) -> None:
        wait_for(lambda: self.held() >= count)

    def stop(self, process: subprocess.Popen[str], number: int, group: bool = False) -> Stopped:
        """Send a signal to the runner, or to its group, and wait for its end."""
        signalled = time.monotonic()
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        seconds = time.monotonic() - signalled
        return Stopped(process.returncode, stdout, stderr, signalled, seconds, self.notes())

    def scratch(self) -> list[str]:
        """What is left of jobs in flight."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self.folder / "cache" / "jobs"))
        return []

    def leases(self) -> list[str]:
        """What is left of claims."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self.folder / "cache" / "leases"))
        return []

    def rerun(self, way: str = "process") -> subprocess.CompletedProcess[str]:
        """The same command again, in which nothing holds on."""
        self.environment["HOLD"] = "0"
        process = self.command(way)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess("", process.returncode, stdout, stderr)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pid in {pid for what, _, pid, _ in self.notes() if what == "child"}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def stopping_site(folder: Path) -> Iterator[Site]:
    """A `Site` that is cleared at the end."""
    site = Site(folder)
    try:
        yield site
    finally:
        site.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def alive(pids: set[int], seconds: float = 2.0) -> set[int]:
    """Those of some processes that are there after so many seconds; looks no longer than needed."""
    deadline = time.monotonic() + seconds
    while (left := {pid for pid in pids if is_alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
