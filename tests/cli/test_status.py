"""`taskproc status`: of what is stored, and of runs in other processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskproc.cli.figures import columns, moment_for_people, size_for_people
from taskproc.cli.status import as_lines
from taskproc.core.overview import TaskRow

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]
Write = Callable[[str, str], Path]

TASKS = """
import os, time
from taskproc import FutureList, Task

class Held(Task):
    '''Runs until the file `go` is there.'''
    task_label = "held"
    def __init__(self, n: int):
        self.n = n
        self.sum = Sum(3)
    def run_task(self):
        print("held", self.n, flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
        return os.getpid()

class Quick(Task):
    def __init__(self, n: int):
        self.n = n
    def run_task(self):
        return self.n

class Sum(Task):
    def __init__(self, n: int = 3):
        self.parts = FutureList([Quick(i) for i in range(n)])
    def run_task(self):
        return sum(self.parts.get_result())

class Main(Task):
    def __init__(self, n: int = 2):
        self.held = FutureList([Held(i) for i in range(n)])
    def run_task(self):
        return self.held.get_result()

class Fails(Task):
    def __init__(self, n: int = 0):
        self.n = n
    def run_task(self):
        return 1 / self.n
"""


@pytest.fixture
def tasks(write: Write) -> Path:
    return write("tasks.py", TASKS)


def until(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = look()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} s")


def status_of(run: Run, cache: str = "cache") -> dict[str, Any]:
    done = run("status", "-o", cache, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def counts(status: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """(done, failed, running, stale) by task name without its module."""
    return {
        name.partition(".")[2]: (row["done"], row["failed"], row["running"], row["stale"])
        for name, row in status["tasks"].items()
    }


def all_files(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in [folder, *folder.rglob("*")]:
        state = path.lstat()
        found[str(path)] = (state.st_size, state.st_mtime_ns)
    return found


# --- what is stored ---


def test_what_is_stored_is_counted_by_task_name(run: Run, tasks: Path) -> None:
    assert run(f"{tasks}:Sum", "-o", "cache", "-x", "serial").returncode == 0
    status = status_of(run)
    assert counts(status) == {"Quick": (3, 0, 0, 0), "Sum": (1, 0, 0, 0)}
    assert status["runs"] == []
    row = status["tasks"]["tasks.Quick"]
    assert row["bytes"] > 0
    assert row["seconds_total"] >= row["seconds_median"] > 0
    assert abs(row["last_run"] - time.time()) < 60


def test_the_table_has_a_row_for_each_name_and_no_colour_in_a_pipe(run: Run, tasks: Path) -> None:
    assert run(f"{tasks}:Sum", "-o", "cache", "-x", "serial").returncode == 0
    done = run("status", "-o", "cache")
    assert done.returncode == 0, done.stderr
    head, quick, total = done.stdout.splitlines()
    assert head.split() == [
        "TASK",
        "DONE",
        "FAILED",
        "RUNNING",
        "STALE",
        "SIZE",
        "TOTAL",
        "MEDIAN",
        "LAST",
        "RUN",
    ]
    assert re.fullmatch(r"tasks\.Quick +3 +- +- +- +\d.* B .* (s ago|just now)", quick), quick
    assert total.startswith("tasks.Sum")
    assert "\x1b" not in done.stdout


def test_a_result_whose_upstream_changed_is_stale(run: Run, tasks: Path) -> None:
    assert run(f"{tasks}:Sum", "-o", "cache", "-x", "serial").returncode == 0
    tasks.write_text(TASKS.replace("return self.n\n\nclass Sum", "return self.n + 1\n\nclass Sum"))
    assert run(f"{tasks}:Quick", "-o", "cache", "-x", "serial", "-a", "n=1").returncode == 0
    assert counts(status_of(run)) == {"Quick": (3, 0, 0, 0), "Sum": (1, 0, 0, 1)}


def test_a_result_whose_upstream_was_removed_by_hand_is_stale(run: Run, tasks: Path, tmp_path: Path) -> None:
    assert run(f"{tasks}:Sum", "-o", "cache", "-x", "serial").returncode == 0
    entry = next((tmp_path / "cache" / "tasks.Quick").iterdir())
    for file in entry.iterdir():
        file.unlink()
    entry.rmdir()
    assert counts(status_of(run)) == {"Quick": (2, 0, 0, 0), "Sum": (1, 0, 0, 1)}


def test_a_failed_task_is_counted_until_it_succeeds(run: Run, tasks: Path) -> None:
    assert run(f"{tasks}:Fails", "-o", "cache", "-x", "process").returncode == 1
    assert counts(status_of(run)) == {"Fails": (0, 1, 0, 0)}
    tasks.write_text(TASKS.replace("1 / self.n", "1 + self.n"))
    assert run(f"{tasks}:Fails", "-o", "cache", "-x", "process").returncode == 0
    assert counts(status_of(run)) == {"Fails": (1, 0, 0, 0)}


def test_status_writes_nothing(run: Run, tasks: Path, tmp_path: Path) -> None:
    assert run(f"{tasks}:Sum", "-o", "cache", "-x", "serial").returncode == 0
    before = all_files(tmp_path / "cache")
    assert run("status", "-o", "cache").returncode == 0
    assert all_files(tmp_path / "cache") == before


def test_an_empty_cache_is_said_to_be_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    done = run("status", "-o", "cache")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"nothing is stored in {tmp_path / 'cache'}, and no run is under way\n"
    assert status_of(run) == {"tasks": {}, "runs": []}
    assert list((tmp_path / "cache").iterdir()) == []


# --- errors ---


def test_a_cache_that_is_not_there_is_an_error_and_is_not_made(
    run: Run, tmp_path: Path, expect_one_error: Callable[..., None]
) -> None:
    for words in (["status"], ["logs", "Main"], ["logs", "Main", "-f"]):
        expect_one_error(run(*words, "-o", "nowhere"), 2, "no cache", "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["status"], ["logs", "Main"]])
def test_something_else_than_a_cache_is_an_error(
    run: Run, tmp_path: Path, words: list[str], expect_one_error: Callable[..., None]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("x")
    expect_one_error(run(*words, "-o", "file"), 2, "is a file")
    expect_one_error(run(*words, "-o", "folder"), 2, "not a cache")
    expect_one_error(run(*words, "-o", "nosuch://x"), 2, "nosuch")
    expect_one_error(run(*words, "-o", "cache", "-p", "./missing.py"), 2, "missing.py")
    expect_one_error(run(*words), 2, "-o")
    expect_one_error(run(*words, "-o", ""), 2, "empty")


def test_a_backend_that_can_not_list_is_an_error(
    run: Run, write: Write, tmp_path: Path, expect_one_error: Callable[..., None]
) -> None:
    write("quiet.py", QUIET_BACKEND)
    expect_one_error(run("status", "-p", "./quiet.py", "-o", "quiet:x"), 2, "can't list")


QUIET_BACKEND = """
from dataclasses import dataclass
from typing import Any, ClassVar
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import CacheBackend

def nothing(*_: Any, **__: Any) -> Any:
    raise NotImplementedError

@dataclass(frozen=True)
class Quiet(CacheBackend):
    name: ClassVar[str] = "quiet"
    location = "quiet:x"
    @classmethod
    def from_url(cls, url): return cls()
    def open(self): pass
    look_up = load = begin = save = abandon = index = discard = discard_all = set_aside = nothing
    lease = release = data_directory = list_data = log_paths = keep_logs = scratch = nothing

@hookimpl
def taskproc_register_cache_backends(): return [Quiet]
"""

ELSEWHERE = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from taskproc.hookspecs import hookimpl
from taskproc.default_plugins.directory_cache import DirectoryCache

@dataclass(frozen=True)
class Elsewhere(DirectoryCache):
    name: ClassVar[str] = "elsewhere"
    @classmethod
    def from_url(cls, url): return cls(Path("there") / url)

@hookimpl
def taskproc_register_cache_backends(): return [Elsewhere]
"""


def test_the_backend_of_a_plugin_is_asked(run: Run, tasks: Path, write: Write) -> None:
    write("elsewhere.py", ELSEWHERE)
    where = ["-p", "./elsewhere.py", "-o", "elsewhere:mine"]
    assert run(f"{tasks}:Sum", *where, "-x", "serial").returncode == 0
    done = run("status", *where, "--json")
    assert counts(json.loads(done.stdout)) == {"Quick": (3, 0, 0, 0), "Sum": (1, 0, 0, 0)}


def test_help_tells_what_the_columns_mean(run: Run) -> None:
    done = run("status", "--help")
    assert done.returncode == 0
    for word in ("DONE", "FAILED", "RUNNING", "STALE", "SIZE", "TOTAL", "MEDIAN", "--json", "-p, --plugin"):
        assert word in done.stdout
    assert "status" in run("--help").stdout


# --- runs under way ---


@pytest.mark.parametrize(
    "options",
    [
        ["-x", "process"],
        ["-x", "thread"],
        ["-x", "serial"],
        ["--prefix", "held=nice -n 1"],
    ],
    ids=["process", "thread", "serial", "launched"],
)
def test_a_run_is_seen_from_another_process_and_no_ghost_is_left_when_it_is_killed(
    run: Run, start: Start, tasks: Path, tmp_path: Path, options: list[str]
) -> None:
    runner = start("run", tasks, "-o", "cache", "-n", "2", *options)
    jobs = 1 if options[-1] == "serial" else 2

    def held() -> dict[str, Any] | None:
        if not (tmp_path / "cache" / "taskproc.json").exists():
            return None
        status = status_of(run)
        running = [job["task"] for one in status["runs"] for job in one["running"]]
        return status if running == ["tasks.Held"] * jobs else None

    status = until(held)
    assert counts(status) == {"Quick": (3, 0, 0, 0), "Sum": (1, 0, 0, 0), "Held": (0, 0, jobs, 0)}
    (one,) = status["runs"]
    assert (one["pid"], one["host"], one["entry"]) == (runner.pid, os.uname().nodename, "tasks.Main")
    assert one["counts"]["total"] == 7
    assert one["counts"]["finished"] == 4
    text = run("status", "-o", "cache").stdout
    assert re.search(
        rf"run of tasks\.Main by \S+, process {runner.pid}, for .* s: 4 of 7 done, {jobs} running", text
    )
    assert len(re.findall(r"^  tasks\.Held/\w{8}  for .*\{\"n\": \d\}$", text, re.MULTILINE)) == jobs
    if options[0] == "--prefix":
        assert "launched for held" in text
    elif options[-1] != "process":
        assert len(re.findall(rf"for .* s  process {runner.pid}  ", text)) == jobs
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    after = status_of(run)
    assert after["runs"] == []
    assert counts(after) == {"Quick": (3, 0, 0, 0), "Sum": (1, 0, 0, 0)}
    (tmp_path / "go").touch()  # a launched job outlives its runner


def test_the_worker_that_runs_a_job_is_named(run: Run, start: Start, tasks: Path, tmp_path: Path) -> None:
    runner = start("run", tasks, "-o", "cache", "-n", "2", "-x", "process")

    def workers() -> list[int] | None:
        if not (tmp_path / "cache" / "taskproc.json").exists():
            return None
        jobs = [job for one in status_of(run)["runs"] for job in one["running"]]
        held = sorted((job["args"]["n"], job["pid"]) for job in jobs if job["task"] == "tasks.Held")
        return [pid for _, pid in held] if len(held) == 2 and all(pid for _, pid in held) else None

    pids = until(workers)
    (tmp_path / "go").touch()
    runner.communicate(timeout=60)
    assert runner.returncode == 0
    answer = run_and_read(tmp_path, run)
    assert answer == pids


def run_and_read(tmp_path: Path, run: Run) -> list[int]:
    """What `Main` came to, read from the cache without taskproc."""
    import gzip
    import pickle

    (entry,) = (tmp_path / "cache" / "tasks.Main").iterdir()
    with gzip.open(entry / "result.pkl.gz") as file:
        answer: list[int] = pickle.load(file)
    return answer


# --- words ---


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (999_950, "1.0 MB"),
        (10**13 * 999, "9990.0 TB"),
    ],
)
def test_sizes_are_said_in_the_unit_that_fits(size: int, text: str) -> None:
    assert size_for_people(size) == text


def test_moments_are_ago_within_a_day_and_dates_from_then_on() -> None:
    now = time.time()
    assert moment_for_people(now - 2, now) == "2.0 s ago"
    assert moment_for_people(now - 0.5, now) == moment_for_people(now + 100, now) == "just now"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", moment_for_people(now - 100_000, now))


def test_columns_end_without_blanks() -> None:
    assert columns([("a", "1", "x"), ("bbb", "22", "")], right=[1]) == ["a     1  x", "bbb  22"]


def test_many_running_jobs_are_cut_and_a_strange_post_is_shown_as_far_as_it_makes_sense() -> None:
    jobs = [
        {"task": "m.Fit", "key": f"{n:032}", "since": 90.0, "pid": n, "args": {"n": n}} for n in range(500)
    ]
    lines = as_lines({}, [{"running": jobs, "counts": {"finished": 1, "total": 501}}], now=100.0)
    assert lines[0] == "run of ? by ?@?, process ?, for ?: 1 of 501 done, 500 running"
    assert lines[-1] == "  and 480 more"
    assert len(lines) == 22
    assert as_lines({"m.A": TaskRow(done=1)}, [{"running": 3, "counts": None}], now=100.0)[-1].startswith(
        "run of ?"
    )


def test_with_a_file_an_edit_of_its_code_makes_results_stale(run: Run, write: Write) -> None:
    text = (
        "from taskproc import Task\n\nclass Up(Task):\n    def run_task(self):\n        return 1\n\n"
        "class Main(Task):\n    def __init__(self):\n        self.up = Up()\n\n"
        "    def run_task(self):\n        return self.up.get_result()\n"
    )
    file = write("edited.py", text)
    assert run(file, "-o", "cache").returncode == 0

    def stale(*words: str | Path) -> dict[str, int]:
        done = run("status", *words, "-o", "cache", "--json")
        assert done.returncode == 0, done.stderr
        return {name: row["stale"] for name, row in json.loads(done.stdout)["tasks"].items()}

    assert stale() == stale(file) == {"edited.Main": 0, "edited.Up": 0}
    write("edited.py", text.replace("return 1", "return 2"))
    assert stale() == {"edited.Main": 0, "edited.Up": 0}
    assert stale(file) == {"edited.Main": 1, "edited.Up": 1}


def test_a_result_that_looked_at_attributes_of_an_upstream_is_not_stale_for_that(
    run: Run, write: Write
) -> None:
    file = write(
        "looks.py",
        "from taskproc import Task\n\nclass Up(Task):\n    def __init__(self):\n        self.seen = 3\n"
        "    def run_task(self):\n        return 1\n\n"
        "class Main(Task):\n    def __init__(self):\n        self.up = Up()\n"
        "    def run_task(self):\n        return self.up.get_result() + self.up.seen\n",
    )
    assert run(file, "-o", "cache").returncode == 0
    tasks = json.loads(run("status", "-o", "cache", "--json").stdout)["tasks"]
    assert [row["stale"] for row in tasks.values()] == [0, 0]
