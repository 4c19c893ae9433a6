"""Real runners on one cache, in processes of their own, and somebody who kills them.

Decides how runners are started, killed and started again, and what counts as an error; what a
round has to show is for the tests.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graph_of_cells import COUNTING, TASKS, Graph

import taskproc

ROOT = Path(taskproc.__file__).parent.parent
SEED = os.environ.get("TASKPROC_SEED", "0")
PATIENCE = 120.0
"""Seconds after which a round counts as stuck, on a machine however loaded."""


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for a condition; a machine however loaded has to come to it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never came to that")
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """The processes below this one, as far as they can be seen now."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [(int(one), int(parent)) for one, parent in map(str.split, listed.stdout.splitlines())]
    found = [pid]
    for parent in found:
        found += [one for one, its_parent in pairs if its_parent == parent]
    return found[1:]


@dataclass
class Site:
    """A folder with the scripts, the cache, and what the tasks wrote down."""

    folder: Path
    locks: bool = True
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "counting.py").write_text(COUNTING)
        (self.folder / "tasks.py").write_text(TASKS)

    def lines(self, name: str) -> list[list[str]]:
        """What was written to one of the journals, split into words."""
        path = self.folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `python WORDS` in the folder."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))
        }
        environment = {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"}
        if not self.locks:
            environment["NO_LOCKS"] = "1"
        pipe = subprocess.PIPE
        command = [sys.executable, *words]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        self.running.append(process)
        return process

    def script(self, task: str, arguments: Any, options: Any, *words: str) -> subprocess.Popen[str]:
        """Start a script that runs a task; with the word `wait` it says `ready` and waits for a file `go`."""
        return self.start("tasks.py", json.dumps([task, arguments, options]), *words)

    def runner(self, graph: Graph, options: dict[str, Any], by_command: bool) -> subprocess.Popen[str]:
        """Start a runner of this graph: the command, or a script of its own."""
        if not by_command:
            return self.script("Main", graph.arguments, options)
        words = ["-m", "taskproc", "run", "tasks.py", "-o", "counting:cache", "-p", "counting"]
        words += ["--kwargs", json.dumps(graph.arguments), "--dont-force-entrypoint"]
        words += ["-x", options["executor"], "-n", str(options["max_workers"])]
        for label, prefix in options.get("prefixes", {}).items():
            words += ["--prefix", f"{label}={prefix}"]
        return self.start(*words)

    def stored_twice(self) -> dict[str, int]:
        """The tasks of which more than one result was stored, and how many."""
        counts = Counter(words[0] for words in self.lines("cache.saves"))
        return {key: count for key, count in counts.items() if count > 1}

    def answers(self) -> list[tuple[dict[str, int], int]]:
        """The stored answers of `Main` with its arguments, read without the library."""
        entries = [path.parent for path in (self.folder / "cache" / "tasks.Main").glob("*/record.json")]
        return [
            (
                json.loads((entry / "record.json").read_text())["args"],
                pickle.loads(gzip.decompress((entry / "result.pkl.gz").read_bytes())),
            )
            for entry in entries
        ]

    def end_all(self) -> None:
        """Leave no runner behind, whatever a test came to."""
        for process in self.running:
            if process.poll() is None:
                for one in [process.pid, *descendants(process.pid)]:
                    with suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
            process.communicate()


class Slot:
    """One runner that is started again as often as somebody kills it, until it has its answer."""

    def __init__(self, site: Site, graph: Graph, options: dict[str, Any], by_command: bool) -> None:
        self.graph = graph
        self._by_command = by_command
        self.struck: list[str] = []
        """What was done to the process of now."""
        self.deaths = 0
        self.errors: list[str] = []
        self._start = lambda: site.runner(graph, options, by_command)
        self.process = self._start()
        self.thread = threading.Thread(target=self._keep_going, daemon=True)
        self.thread.start()

    @property
    def is_alive(self) -> bool:
        return self.thread.is_alive() and self.process.poll() is None

    def _keep_going(self) -> None:
        while True:
            try:
                out, err = self.process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.errors.append(f"stuck: {self.graph}")
                return
            code = self.process.returncode
            if code == 0:
                # The command shows what the entry task printed then; of a serial run nothing was kept.
                if set(out.splitlines()) not in (
                    {f"answer {self.graph.answer}"},
                    set() if self._by_command else None,
                ):
                    self.errors.append(f"answer {out!r}, not {self.graph.answer}, after {self.struck}: {err}")
                if "Traceback" in err or "Warning" in err or "damaged" in err:
                    self.errors.append(err)
                return
            if not self._was_killed(code, err):
                self.errors.append(f"exit {code} after {self.struck}: {err}")
                return
            self.deaths += 1
            self.struck = []
            self.process = self._start()

    def _was_killed(self, code: int, err: str) -> bool:
        """Whether the runner, or a worker of it, ended as the killer has it."""
        numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)
        if code == 1:
            return "died of SIGSEGV" in err or ("died of SIGKILL" in err and "a worker" in self.struck)
        return code in [-number for number in numbers] or code == 128 + signal.SIGTERM


class Killer:
    """Strikes runners and their workers at random moments, by a seed."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._stopped: list[threading.Timer] = []
        self.strikes: Counter[str] = Counter()

    def strike(self, slots: Sequence[Slot], times: int) -> None:
        """Strike so many times, or until nobody is left; what was stopped goes on after a while."""
        ways = [self._kill, self._terminate, self._segfault, self._stumble, self._kill_a_worker, self._stop]
        for _ in range(times):
            time.sleep(self._random.uniform(0.02, 0.5))
            alive = [slot for slot in slots if slot.is_alive]
            if not alive:
                break
            self._random.choice(ways)(self._random.choice(alive))
        for timer in self._stopped:
            timer.join()

    def _send(self, slot: Slot, number: signal.Signals, what: str) -> None:
        self.strikes[what] += 1
        slot.struck.append(what)
        slot.process.send_signal(number)

    def _kill(self, slot: Slot) -> None:
        self._send(slot, signal.SIGKILL, "SIGKILL")

    def _terminate(self, slot: Slot) -> None:
        self._send(slot, signal.SIGTERM, "SIGTERM")

    def _segfault(self, slot: Slot) -> None:
        self._send(slot, signal.SIGSEGV, "SIGSEGV")

    def _stumble(self, slot: Slot) -> None:
        self.strikes["a segfault in a task"] += 1
        (self._site.folder / "segfault").touch()

    def _kill_a_worker(self, slot: Slot) -> None:
        if below := descendants(slot.process.pid):
            self.strikes["SIGKILL to a worker"] += 1
            slot.struck.append("a worker")
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(below), signal.SIGKILL)

    def _stop(self, slot: Slot) -> None:
        process = slot.process
        self._send(slot, signal.SIGSTOP, "SIGSTOP")
        timer = threading.Timer(self._random.uniform(0.5, 4), process.send_signal, [signal.SIGCONT])
        timer.start()
        self._stopped.append(timer)


@contextmanager
def site_in(folder: Path, locks: bool = True) -> Iterator[Site]:
    """A site, and an end to all its runners."""
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(folder, locks)
    try:
        yield site
    finally:
        site.end_all()
