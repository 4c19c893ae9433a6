"""The same faults for any taskproc: `python tests/faults/published.py PYTHON [PYTHON ...]`.

Each PYTHON is one of an environment with a taskproc in it, say the published 0.25.3 and this one;
one script serves both, with each one's own process executor and two workers. Prints a table in
Markdown. No test: it is run by hand for docs/reliability.md, and takes some minutes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from many_runners import descendants

TASKS = '''
import hashlib, os, random, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
from taskproc import FutureList, Task
try:
    from taskproc import Cache
    OURS = True
except ImportError:
    from taskproc import Graph as Cache
    OURS = False

def note(text):
    with open("notes", "a") as stream:
        stream.write(text + "\\n")

class Large(Task):
    task_compress_level = 1
    def __init__(self, size):
        self.size = size
    def run_task(self):
        return random.Random(1).randbytes(self.size)

class Digest(Task):
    def __init__(self, size):
        self.large = Large(size)
    def run_task(self):
        return hashlib.sha256(self.large.get_result()).hexdigest()

class Small(Task):
    def __init__(self):
        pass
    def run_task(self):
        return {"weights": [0.25, 0.5, 1.0, 2.0, 1e-3], "classes": ["cat", "dog", "bird"], "n": 12345}

class Job(Task):
    def __init__(self, n, seconds, dies):
        self.n = n
        self.seconds = seconds
        self.dies = dies
    def run_task(self):
        note(f"{self.n} {os.getpid()}")
        if self.dies and self.n == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return self.n

class Jobs(Task):
    def __init__(self, count, seconds, dies=False):
        self.jobs = FutureList([Job(n, seconds, dies) for n in range(count)])
    def run_task(self):
        return sum(self.jobs.get_result())

def run(task):
    if OURS:
        return task.run_graph(max_workers=2, on_error="continue")[0]
    return task.run_graph(executor=ProcessPoolExecutor(2), error_handling="lazy")[0]

def main():
    words = [value_of(word) for word in sys.argv[2:]]
    with Cache("cache"):
        print("answer", run({"Digest": Digest, "Small": Small, "Jobs": Jobs}[sys.argv[1]](*words)))

def value_of(word):
    return float(word) if "." in word else bool(word) if word == "True" else int(word)

def flip():
    """Every single bit of the stored result of `Small`: how it loads."""
    import warnings
    warnings.simplefilter("ignore")
    (path,) = [os.path.join(folder, name) for folder, _, names in os.walk("cache")
               for name in names if name == "result.pkl.gz"]
    sound = open(path, "rb").read()
    counts = {"another value": 0, "right": 0, "an error": 0}
    with Cache("cache"):
        small = Small()
        right = small.run_task()
        for position in range(len(sound) * 8):
            data = bytearray(sound)
            data[position // 8] ^= 1 << position % 8
            open(path, "wb").write(data)
            try:
                value = small.get_result() if OURS else small.task_worker.cache.load_result()
                counts["right" if value == right else "another value"] += 1
            except BaseException:
                counts["an error"] += 1
    open(path, "wb").write(sound)
    print(len(sound) * 8, counts["another value"])

if __name__ == "__main__":
    flip() if sys.argv[1] == "flip" else main()
'''

SIZE = 20_000_000


class Bench:
    """Runs the script with one Python, each time in a new folder if asked."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self.renew()

    def renew(self) -> None:
        """Start with an empty cache."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        (self.folder / "tasks.py").write_text(TASKS)

    def start(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))
        }
        command = ["sh", "-c", f'{before} exec "$@"', "sh", self.python, "tasks.py", *words]
        output = (self.folder / "output").open("w")
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=kept,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, before: str = "") -> str:
        """The last line of the output, or `error`, or `stuck` after two minutes."""
        process = self.start(*words, before=before)
        try:
            code = process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.end(process)
            return "stuck"
        lines = (self.folder / "output").read_text(errors="replace").splitlines()
        return lines[-1] if code == 0 and lines else "error"

    def end(self, process: subprocess.Popen[str]) -> None:
        for pid in [process.pid, *descendants(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def results(self, size: int = 0) -> list[Path]:
        """The files of the cache that hold more than `size` bytes."""
        found = [Path(folder, name) for folder, _, names in os.walk(self.folder / "cache") for name in names]
        kept = []
        for path in found:
            with suppress(FileNotFoundError):
                kept += [path] if path.stat().st_size > size else []
        return kept

    def started(self) -> list[int]:
        """The processes of the tasks that began."""
        notes = self.folder / "notes"
        return [int(line.split()[1]) for line in notes.read_text().splitlines()] if notes.exists() else []


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


def is_alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def killed_while_writing(bench: Bench) -> str:
    bench.renew()
    right = bench.run("Digest", str(SIZE))
    bad = 0
    for _ in range(10):
        bench.renew()
        process = bench.start("Digest", str(SIZE))
        wait_until(lambda: bench.results(SIZE // 20))
        bench.end(process)
        bad += bench.run("Digest", str(SIZE)) != right
    return f"{bad} of 10"


def write_that_fails(bench: Bench) -> str:
    """`ulimit -f` makes the write fail in the middle, as a full disk does."""
    bench.renew()
    right = bench.run("Digest", str(SIZE))
    bad = 0
    for blocks in (200, 2000, 20000):
        bench.renew()
        bench.run("Digest", str(SIZE), before=f"ulimit -f {blocks};")
        bad += bench.run("Digest", str(SIZE)) != right
    return f"{bad} of 3"


def truncated(bench: Bench) -> str:
    bench.renew()
    right = bench.run("Digest", "1000")
    results = [path for path in bench.results() if path.name == "result.pkl.gz" and ".Large" in str(path)]
    sound = results[0].read_bytes()
    for path in bench.results():  # the answer itself is to be computed again
        if ".Digest" in str(path) and path.name in ("result.pkl.gz", "record.json"):
            path.unlink()
    bad = 0
    for number in range(10):
        results[0].write_bytes(sound[: len(sound) * number // 10])
        bad += bench.run("Digest", "1000") != right
        for path in bench.results():
            if ".Digest" in str(path) and path.name in ("result.pkl.gz", "record.json"):
                path.unlink()
    return f"{bad} of 10"


def flipped(bench: Bench) -> str:
    bench.renew()
    bench.run("Small")
    tried, wrong = bench.run("flip").split()
    return f"{wrong} of {tried}"


def two_runners(bench: Bench) -> str:
    bad = 0
    for _ in range(6):
        bench.renew()
        processes = [bench.start("Jobs", "24", "0.02") for _ in range(2)]
        for process in processes:
            try:
                bad += process.wait(timeout=60) != 0
            except subprocess.TimeoutExpired:
                bench.end(process)
                bad += 1
    return f"{bad} of 12"


def dead_worker(bench: Bench) -> str:
    bench.renew()
    bench.run("Jobs", "20", "0.05", "True")
    done = [path for path in bench.results() if path.name == "result.pkl.gz" and ".Job/" in str(path)]
    return f"{20 - len(done)} of 20"


def interrupted(bench: Bench) -> str:
    bench.renew()
    process = bench.start("Jobs", "12", "2.0")
    wait_until(lambda: len(bench.started()) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    sent = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=60)
    seconds = time.monotonic() - sent
    started = len(bench.started())
    bench.end(process)
    return f"{seconds:.1f} s, {started} of 12 tasks begun"


def orphans(bench: Bench, number: signal.Signals) -> str:
    bench.renew()
    process = bench.start("Jobs", "12", "5.0")
    wait_until(lambda: len(bench.started()) >= 2)
    below = descendants(process.pid)
    process.send_signal(number)
    time.sleep(2)
    left = [pid for pid in below if is_alive(pid)]
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    bench.end(process)
    return f"{len(left)} of {len(below)}"


CASES: dict[str, Callable[[Bench], str]] = {
    "SIGKILL while a result is written: the next run fails or answers wrongly": killed_while_writing,
    "a write that fails in the middle: the next run fails or answers wrongly": write_that_fails,
    "a truncated result: the next run fails or answers wrongly": truncated,
    "one bit of a stored result flipped: loads as another value": flipped,
    "two runners on one cache: runners that fail": two_runners,
    "one worker killed in a run of 20 tasks: tasks without a result": dead_worker,
    "Ctrl-C with 2 of 12 tasks (of 2 s) running: time to exit": interrupted,
    "processes left 2 s after SIGTERM to the runner": lambda bench: orphans(bench, signal.SIGTERM),
    "processes left 2 s after SIGKILL to the runner": lambda bench: orphans(bench, signal.SIGKILL),
}


def version_in(python: str) -> str:
    code = "from importlib.metadata import version; print(version('taskproc'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def table(pythons: list[str]) -> Iterator[str]:
    yield "| | " + " | ".join(f"taskproc {version_in(python)}" for python in pythons) + " |"
    yield "|---" * (len(pythons) + 1) + "|"
    benches = [Bench(python) for python in pythons]
    for what, case in CASES.items():
        yield f"| {what} | " + " | ".join(case(bench) for bench in benches) + " |"
    for bench in benches:
        shutil.rmtree(bench.folder)


if __name__ == "__main__":
    for line in table(sys.argv[1:]):
        print(line, flush=True)
