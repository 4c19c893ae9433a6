"""The command and all its processes on a disk that fails, or where one of them is killed, at any call.

A shim before libc counts what the whole process tree does to the cache, and at one call it fails or
kills. Afterwards nothing is left running, no success was claimed without the right answer, and the
next run, on a sound disk, completes by itself to the right answer.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import taskproc
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.interfaces import CacheBackend

PACKAGE = Path(taskproc.__file__).parent

SAMPLE = 1
"""How many calls are tried of each course of a run and each way to fail; at night it is all."""

STUCK_SECONDS = 90
GONE_SECONDS = 20
"""How long a busy machine may take until processes are gone; what must be gone at once is timed elsewhere."""

SOURCE = """
import json

from taskproc import Task

EDITION = 1


class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        print("leaf", self.n)
        (self.task_directory / "file").write_text(f"file {self.n * EDITION}")
        return self.n * EDITION


class Small(Task):
    def __init__(self, n):
        self.n, self.leaf = n, Leaf(n)

    def run_task(self):
        return self.n + self.leaf.get_result()


class Main(Task):
    def __init__(self):
        self.small = [Small(n) for n in (1, 2)]

    def run_task(self):
        files = [(small.leaf.task_directory / "file").read_text() for small in self.small]
        answer = [small.get_result() for small in self.small]
        print(json.dumps([answer, files]))
        return answer
"""

RIGHT = {
    edition: [[1 + edition, 2 + 2 * edition], [f"file {edition}", f"file {2 * edition}"]]
    for edition in (1, 2)
}

EXECUTORS = {
    "serial": ["-x", "serial"],
    "process": ["-x", "process", "-n", "2"],
    "prefix": ["-x", "process", "-n", "2", "--prefix", "tasks.Leaf=env"],
}

WAYS = {
    "kill": ("kill", False),
    "kill-runner": ("kill-runner", False),
    "torn": ("torn", False),
    "short": ("short", True),
    "ENOSPC": ("ENOSPC", False),
    "ENOSPC for good": ("ENOSPC", True),
    "EIO": ("EIO", False),
    "EIO for good": ("EIO", True),
}


class Point(NamedTuple):
    """Which run, at which call, and how it fails there."""

    executor: str
    is_rerun: bool
    way: str
    at: int

    def __str__(self) -> str:
        course = "rerun" if self.is_rerun else "cold"
        return f"{self.executor}, {course}, {self.way} at call {self.at}"


class Ended(NamedTuple):
    """How a run of the command ended."""

    returncode: int | None
    stdout: str
    stderr: str


class Place:
    """A folder with a task file and a cache, in which the command is run."""

    def __init__(self, folder: Path, edition: int, cache: Path | None = None) -> None:
        self.folder, self.edition = folder, edition
        folder.mkdir()
        (folder / "tasks.py").write_text(SOURCE.replace("EDITION = 1", f"EDITION = {edition}"))
        if cache is not None:
            shutil.copytree(cache, folder / "cache", symlinks=True)
        self.counter = folder / "counter"
        self.counter.write_bytes(bytes(4096))

    def run(self, executor: str, shim: Path | None = None, way: str = "", at: int = 0) -> Ended:
        """Run the command; with the shim its calls are counted, and one of them fails."""
        kept = {
            name: word for name, word in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))
        }
        environment = {**kept, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        if shim is not None:
            how, is_sticky = WAYS.get(way, ("count", False))
            environment |= {
                "LD_PRELOAD": str(shim),
                "FAIL_BELOW": str(self.folder / "cache"),
                "FAIL_COUNTER": str(self.counter),
                "FAIL_AT": str(at),
                "FAIL_HOW": how,
                "FAIL_STICKY": str(int(is_sticky)),
            }
        words = [sys.executable, "-m", "taskproc", "tasks.py", "-o", "cache", "--dont-show-progress"]
        # Into files: a pipe that an orphan holds would be waited for.
        with open(self.folder / "out", "w+b") as out, open(self.folder / "err", "w+b") as err:
            runner = subprocess.Popen(
                [*words, *EXECUTORS[executor]],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
            returncode: int | None
            try:
                returncode = runner.wait(STUCK_SECONDS)
            except subprocess.TimeoutExpired:
                returncode = None
                runner.kill()
                runner.wait()
        return Ended(
            returncode,
            (self.folder / "out").read_text(errors="replace"),
            (self.folder / "err").read_text(errors="replace"),
        )

    def calls(self) -> tuple[int, int, str]:
        """How many calls there were, how many of them failed, and which was the first."""
        data = self.counter.read_bytes()
        count, fired, _ = struct.unpack_from("QQq", data)
        return count, fired, data[24 : 24 + 512].split(b"\0")[0].decode(errors="replace")

    def left_running(self) -> list[int]:
        """The processes of a run that failed which are still there after a while."""
        mark = f"FAIL_COUNTER={self.counter}".encode()
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            pids = [
                pid
                for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if mark in environment_of(pid)
            ]
            if not pids or time.monotonic() > deadline:
                return pids
            time.sleep(0.02)


def environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or somebody else's
        return []


def is_right(ended: Ended, edition: int) -> bool:
    lines = ended.stdout.splitlines()
    try:
        return bool(lines) and json.loads(lines[-1]) == RIGHT[edition]
    except ValueError:
        return False


def shows_our_traceback(stderr: str) -> bool:
    return "Traceback" in stderr and f'File "{PACKAGE}' in stderr


def not_repaired(root: Path) -> list[str]:
    """What is wrong in a cache and stays so when it is repaired."""
    if DirectoryCache.verify is CacheBackend.verify:
        return []
    backend = DirectoryCache(root)
    findings = [*backend.verify(repair=True), *backend.verify(repair=False)]
    return [f"{one.path}: {one.fault}" for one in findings if not (one.repaired or one.harmless)]


def faults_at(point: Point, folder: Path, shim: Path, base: Path) -> tuple[list[str], bool]:
    """Run to the point, then on a sound disk: what is not as it should be, and whether it came to it."""
    edition = 2 if point.is_rerun else 1
    place = Place(folder, edition, base if point.is_rerun else None)
    ended = place.run(point.executor, shim, point.way, point.at)
    _, fired, what = place.calls()
    faults: list[str] = []
    left = place.left_running()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        faults.append(f"left running: {left}")
    if ended.returncode is None:
        faults.append("stuck")
    was_told = not ended.stdout and "could not be kept" in ended.stderr
    if ended.returncode == 0 and not is_right(ended, edition) and not was_told:
        faults.append(f"claimed success with {ended.stdout!r}")
    if shows_our_traceback(ended.stderr):
        faults.append(f"showed a traceback of ours: {ended.stderr}")
    again = place.run(point.executor)
    if again.returncode is None:
        faults.append("the next run is stuck")
    elif again.returncode != 0:
        faults.append(f"the next run failed: {again.stderr}")
    elif not is_right(again, edition):
        faults.append(f"the next run answered {again.stdout!r}")
    elif shows_our_traceback(again.stderr):
        faults.append(f"the next run showed a traceback of ours: {again.stderr}")
    else:
        faults.extend(not_repaired(folder / "cache"))
    if not faults:
        shutil.rmtree(folder)
    return [f"{point} ({what}): {fault}" for fault in faults], fired > 0


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, made by whatever compiler is there."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    fault = "" if compiler else "there is no C compiler (cc, gcc or clang) to make the shim with"
    if not sys.platform.startswith("linux"):
        fault = "LD_PRELOAD and /proc are Linux's"
    if fault or compiler is None:
        if os.environ.get("TASKPROC_REQUIRE_ENGINES") == "1":
            pytest.fail(fault)
        pytest.skip(fault)
    made = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    source = Path(__file__).parent / "shim" / "failing_calls.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.mark.parametrize("is_rerun", [False, True], ids=["cold", "rerun"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_whatever_call_of_a_process_tree_fails_the_next_run_completes(
    executor: str, is_rerun: bool, shim: Path, tmp_path: Path, thorough: bool, figures: Any
) -> None:
    before = Place(tmp_path / "before", 1)
    assert is_right(before.run(executor), 1)
    base = before.folder / "cache"
    counted = Place(tmp_path / "counted", 1 + is_rerun, base if is_rerun else None)
    ended = counted.run(executor, shim)
    assert is_right(ended, 1 + is_rerun), ended
    calls, fired, _ = counted.calls()
    assert calls > 20
    assert fired == 0
    chance = random.Random(f"{executor} {is_rerun}")
    points = [
        Point(executor, is_rerun, way, at)
        for way in WAYS
        for at in (range(1, calls + 1) if thorough else chance.sample(range(1, calls + 1), SAMPLE))
    ]
    with ThreadPoolExecutor(2) as pool:
        folders = [tmp_path / str(number) for number in range(len(points))]
        done = list(pool.map(faults_at, points, folders, [shim] * len(points), [base] * len(points)))
    figures.count("calls of process trees tried", sum(came_to_it for _, came_to_it in done))
    faults = [fault for found, _ in done for fault in found]
    figures.count("calls of process trees with a wrong, stuck or failing next run", len(faults))
    assert not faults, "\n".join(faults)
