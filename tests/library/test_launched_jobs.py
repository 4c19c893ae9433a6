"""Launched jobs whose runner, client or queue dies: adopted or ended, and never computed twice at once.

The queue is a small script: it starts each job in a session of its own, so that the job outlives
its client and its runner, and lets it wait until the test says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], Path]
Start = Callable[..., "subprocess.Popen[str]"]

QUEUE = """
import os, sys, time

name, *command = sys.argv[1:]
pid = os.fork()
if pid == 0:
    os.setsid()
    with open("queued", "a") as stream:
        stream.write(f"{os.getpid()} {name}\\n")
    while not os.path.exists("release"):
        if os.path.exists(f"cancelled-{name}"):
            os._exit(9)
        time.sleep(0.02)
    os.execvp(command[0], command)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
"""

TASKS = """
import json, os, sys, time
from dataclasses import dataclass
from taskproc import Cache, FutureList, Task
from taskproc.interfaces import Launcher

def note(text):
    with open("log", "a") as stream:
        stream.write(text + "\\n")

@dataclass(frozen=True)
class Queue(Launcher):
    name = "queue"
    cancels: str = "works"
    hung: int = -1
    default_max_jobs = 10

    def command(self, argv, job):
        if job.args["n"] == self.hung:
            return ["sleep", "600"]
        return [sys.executable, "cluster.py", job.name, *argv]

    def cancel(self, jobs):
        for job in jobs:
            note(f"cancel {job.name} {os.getpid()}")
            if self.cancels == "hangs":
                time.sleep(600)
            if self.cancels == "works":
                open(f"cancelled-{job.name}", "w").close()

class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        note(f"start {self.n} {os.getpid()}")
        while not os.path.exists("finish"):
            time.sleep(0.02)
        note(f"end {self.n} {os.getpid()}")
        return self.n

class Top(Task):
    def __init__(self, count):
        self.parts = FutureList([Leaf(n) for n in range(count)])

    def run_task(self):
        return sum(self.parts.get_result())

if __name__ == "__main__":
    with Cache("cache"):
        task = Top(3)
    launcher = Queue(**json.loads(sys.argv[1]) if sys.argv[1:] else {})
    answer, stats = task.run_graph(max_workers=2, launchers={"tasks.Leaf": launcher})
    print(json.dumps([answer, stats["stats"].get("tasks.Leaf", 0), stats["cached"].get("tasks.Leaf", 0)]))
"""

NO_CANCEL = '{"cancels": "nothing"}'


class Field:
    """A folder in which runs, jobs and their queue are at work, and what became of them."""

    def __init__(self, folder: Path, start: Start) -> None:
        self.folder = folder
        self._start = start

    def run(self, *words: str) -> subprocess.Popen[str]:
        return self._start(self.folder / "tasks.py", *words)

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def lines(self, name: str, first: str = "") -> list[list[str]]:
        with suppress(FileNotFoundError):
            lines = [line.split() for line in (self.folder / name).read_text().splitlines()]
            return [line for line in lines if line[0] == first or not first]
        return []

    def wait_for_jobs(self, count: int) -> None:
        """Until so many jobs have begun to compute."""
        wait_for(lambda: len(self.lines("log", "start")) >= count)

    def starts(self) -> Counter[str]:
        """How often each leaf was begun; fails if one was under way twice at a time."""
        under_way: dict[str, str] = {}
        for what, n, pid in self.lines("log"):
            if what == "start":
                assert n not in under_way or not is_alive(int(under_way[n]))
                under_way[n] = pid
            elif what == "end":
                assert under_way.pop(n) == pid
        return Counter(n for _, n, _ in self.lines("log", "start"))

    def jobs(self) -> list[str]:
        return sorted(os.listdir(self.folder / "cache" / "jobs"))

    def pids(self) -> list[int]:
        return [int(pid) for pid, _ in self.lines("queued")]


@pytest.fixture
def field(tmp_path: Path, write: Write, start: Start) -> Iterator[Field]:
    write("cluster.py", QUEUE)
    write("tasks.py", TASKS)
    one = Field(tmp_path, start)
    yield one
    for pid in one.pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(runner: subprocess.Popen[str]) -> None:
    runner.kill()
    runner.communicate()


def result_of(runner: subprocess.Popen[str], seconds: float = 90) -> tuple[str, str]:
    out, err = runner.communicate(timeout=seconds)
    assert runner.returncode == 0, err
    return out.splitlines()[-1], err


def first_words(runner: subprocess.Popen[str], words: str) -> str:
    """What a runner says on stderr, up to the line with these words."""
    said: list[str] = []
    assert runner.stderr is not None
    for line in runner.stderr:
        said.append(line)
        if words in line:
            return "".join(said)
    raise AssertionError("".join(said))


# --- The runner is killed ---


def test_jobs_that_run_when_their_runner_is_killed_go_on_and_the_next_run_takes_their_results(
    field: Field,
) -> None:
    field.touch("release")
    first = field.run()
    field.wait_for_jobs(3)
    kill(first)
    second = field.run()
    first_words(second, "still goes on")
    field.touch("finish")
    answer, _ = result_of(second)
    assert answer == "[3, 0, 3]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}
    assert field.lines("log", "cancel") == []
    wait_for(lambda: not any(map(is_alive, field.pids())))
    assert result_of(field.run())[0] == "[3, 0, 3]"


def test_jobs_that_wait_in_a_queue_when_their_runner_is_killed_are_ended_by_the_next_run(
    field: Field,
) -> None:
    first = field.run()
    wait_for(lambda: len(field.pids()) == 3)
    waiting = field.pids()
    kill(first)
    second = field.run()
    said = first_words(second, "that had not begun")
    assert "ended 3 jobs of a dead run" in said
    wait_for(lambda: not any(map(is_alive, waiting)))
    # One call for all of them, by the launcher as it was.
    assert len({pid for _, _, pid in field.lines("log", "cancel")}) == 1
    field.touch("release")
    field.touch("finish")
    assert result_of(second)[0] == "[3, 3, 0]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}
    assert field.jobs() == []


def test_jobs_that_nobody_can_cancel_end_themselves_when_they_start(field: Field) -> None:
    first = field.run(NO_CANCEL)
    wait_for(lambda: len(field.pids()) == 3)
    waiting = field.pids()
    kill(first)
    second = field.run(NO_CANCEL)
    wait_for(lambda: len(field.pids()) == 6)
    field.touch("release")
    wait_for(lambda: not any(map(is_alive, waiting)))
    field.touch("finish")
    assert result_of(second)[0] == "[3, 3, 0]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}


def test_a_job_that_starts_when_its_runner_is_dead_does_nothing_and_says_so(field: Field) -> None:
    first = field.run()
    wait_for(lambda: len(field.pids()) == 3)
    waiting = field.pids()
    kill(first)
    field.touch("release")  # before any other run has come by
    wait_for(lambda: not any(map(is_alive, waiting)))
    assert field.starts() == {}
    said = [path.read_text() for path in (field.folder / "cache" / "jobs").glob("*/client.err")]
    assert len(said) == 3
    assert all("not done: the run of the job" in text for text in said)
    field.touch("finish")
    assert result_of(field.run())[0] == "[3, 3, 0]"
    assert field.jobs() == []


def test_a_job_that_dies_after_its_runner_is_computed_by_the_next_run(field: Field) -> None:
    field.touch("release")
    first = field.run()
    field.wait_for_jobs(3)
    kill(first)
    second = field.run()
    first_words(second, "still goes on")
    orphans = {n: int(pid) for _, n, pid in field.lines("log", "start")}
    os.kill(orphans["1"], signal.SIGKILL)
    field.wait_for_jobs(4)
    field.touch("finish")
    assert result_of(second)[0] == "[3, 1, 2]"
    assert field.starts() == {"0": 1, "1": 2, "2": 1}


def test_two_next_runs_at_once_share_what_is_left(field: Field) -> None:
    field.touch("release")
    first = field.run()
    field.wait_for_jobs(3)
    kill(first)
    orphans = {n: int(pid) for _, n, pid in field.lines("log", "start")}
    os.kill(orphans["2"], signal.SIGKILL)
    runs = [field.run(), field.run()]
    field.wait_for_jobs(4)
    field.touch("finish")
    answers = [result_of(run)[0] for run in runs]
    assert sorted(answers) == ["[3, 0, 3]", "[3, 1, 2]"]
    assert field.starts() == {"0": 1, "1": 1, "2": 2}


def test_a_job_of_older_code_that_goes_on_is_waited_for_and_its_result_not_taken(
    field: Field, write: Write
) -> None:
    field.touch("release")
    first = field.run()
    field.wait_for_jobs(3)
    kill(first)
    write("tasks.py", TASKS.replace("return self.n\n", "return self.n + 10\n"))
    second = field.run()
    first_words(second, "still goes on")
    field.touch("finish")
    assert result_of(second)[0] == "[33, 3, 0]"
    assert field.starts() == {"0": 2, "1": 2, "2": 2}


def test_a_runner_that_is_stopped_for_long_loses_its_jobs_and_comes_to_the_right_answer(
    field: Field, write: Write
) -> None:
    module = "taskproc.default_plugins.directory_cache.other_leases"
    hurry = f"import {module} as leases\nleases.STOPPED_SECONDS = 2.0\n"
    write("tasks.py", hurry + TASKS)
    first = field.run()
    wait_for(lambda: len(field.pids()) == 3)
    first.send_signal(signal.SIGSTOP)
    second = field.run()
    first_words(second, "that had not begun")
    wait_for(lambda: len(field.pids()) == 6)
    field.touch("release")
    field.wait_for_jobs(3)
    first.send_signal(signal.SIGCONT)
    field.touch("finish")
    assert result_of(second)[0] == "[3, 3, 0]"
    assert result_of(first)[0] == "[3, 0, 3]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}


def test_a_run_in_a_copy_of_the_cache_leaves_alone_the_jobs_of_the_run_in_the_first(
    field: Field, tmp_path: Path, write: Write, start: Start
) -> None:
    first = field.run()
    wait_for(lambda: len(field.pids()) == 3)
    write("copied/tasks.py", TASKS.replace('"cache"', '"copied/cache"'))
    shutil.copytree(tmp_path / "cache", tmp_path / "copied" / "cache")
    second = start(tmp_path / "copied" / "tasks.py", NO_CANCEL)
    wait_for(lambda: len(field.pids()) == 6)
    field.touch("release")
    field.touch("finish")
    assert result_of(first)[0] == "[3, 3, 0]"
    assert result_of(second)[0] == "[3, 3, 0]"
    assert Counter(n for _, n, _ in field.lines("log", "start")) == {"0": 2, "1": 2, "2": 2}
    assert field.lines("log", "cancel") == []


def test_an_interrupt_leaves_alone_what_an_earlier_run_has_launched(field: Field) -> None:
    field.touch("release")
    first = field.run()
    field.wait_for_jobs(3)
    kill(first)
    second = field.run()
    first_words(second, "still goes on")
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    assert all(map(is_alive, field.pids()))
    field.touch("finish")
    wait_for(lambda: not any(map(is_alive, field.pids())))
    assert result_of(field.run())[0] == "[3, 0, 3]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}
    assert field.jobs() == []


def test_an_interrupt_cancels_jobs_that_wait_and_jobs_that_run_and_leaves_no_folder(field: Field) -> None:
    first = field.run()
    wait_for(lambda: len(field.pids()) == 3)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    wait_for(lambda: not any(map(is_alive, field.pids())))
    assert field.jobs() == []


def test_a_launcher_that_does_not_answer_does_not_hold_up_the_next_run(field: Field) -> None:
    first = field.run('{"cancels": "hangs"}')
    wait_for(lambda: len(field.pids()) == 3)
    waiting = field.pids()
    kill(first)
    second = field.run()
    first_words(second, "does not answer")
    wait_for(lambda: len(field.pids()) == 6)
    field.touch("release")
    wait_for(lambda: not any(map(is_alive, waiting)))
    field.touch("finish")
    assert result_of(second)[0] == "[3, 3, 0]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}


# --- The client dies, or hangs ---


def test_a_client_that_hangs_holds_up_one_job_and_an_interrupt_ends_it(field: Field, write: Write) -> None:
    write("tasks.py", TASKS.replace("Top(3)", "Top(6)"))
    field.touch("release")
    field.touch("finish")
    run = field.run('{"hung": 2, "max_jobs": 2}')
    wait_for(lambda: len(field.lines("log", "end")) == 5)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)
    assert field.starts() == {"0": 1, "1": 1, "3": 1, "4": 1, "5": 1}
    assert field.jobs() == []
    assert result_of(field.run())[0] == "[15, 1, 5]"


def test_a_job_whose_client_is_killed_goes_on_and_is_computed_once(field: Field) -> None:
    field.touch("release")
    run = field.run()
    field.wait_for_jobs(3)
    children = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(run.pid)], capture_output=True, text=True, check=True
    )
    clients = [int(line.split()[0]) for line in children.stdout.splitlines() if "cluster.py" in line]
    assert len(clients) == 3
    for client in clients:
        os.kill(client, signal.SIGKILL)
    first_words(run, "its job goes on")
    field.touch("finish")
    assert result_of(run)[0] == "[3, 3, 0]"
    assert field.starts() == {"0": 1, "1": 1, "2": 1}


# --- What is left in the folder of jobs ---


def test_what_a_failed_job_left_for_a_look_is_removed_by_the_next_run(field: Field, write: Write) -> None:
    field.touch("release")
    field.touch("finish")
    write("tasks.py", TASKS.replace("return self.n\n", "return 1 // self.n\n"))
    first = field.run()
    first.communicate(timeout=90)
    assert first.returncode == 1
    assert len(field.jobs()) == 1
    write("tasks.py", TASKS)
    assert result_of(field.run())[0] == "[3, 3, 0]"
    assert field.jobs() == []


def test_what_the_workers_of_a_killed_runner_were_printing_is_removed_by_the_next_run(
    field: Field, write: Write
) -> None:
    text = TASKS.replace('launchers={"tasks.Leaf": launcher}', "").replace(
        'note(f"start', 'print("so far", flush=True); note(f"start'
    )
    write("tasks.py", text)
    first = field.run()
    field.wait_for_jobs(2)
    wait_for(lambda: sum(name.endswith(".out") for name in field.jobs()) == 2)
    kill(first)
    left = field.jobs()
    # One died between the end of a task and the move of its output.
    (field.folder / "cache" / "jobs" / left[0].replace(".", ".1.")).write_text("so far")
    field.touch("finish")
    other = field.folder / "cache" / "jobs" / "not-ours.out"
    other.write_text("somebody else's")
    assert result_of(field.run())[0] == "[3, 3, 0]"
    assert len(left) >= 2
    assert field.jobs() == ["not-ours.out"]


def test_the_folder_of_a_job_of_which_only_its_outcome_is_left_is_removed_by_the_next_run(
    field: Field,
) -> None:
    first = field.run()
    wait_for(lambda: len(field.pids()) == 3)
    kill(first)
    jobs = field.folder / "cache" / "jobs"
    half, others = jobs / "t-tasks-Leaf-0a1b2c-0123456789abcdef", jobs / "t-mine"
    half.mkdir()  # as if its worker told its outcome while a run was removing it
    (half / "outcome.pkl").touch()
    others.mkdir()
    field.touch("release")
    field.touch("finish")
    assert result_of(field.run(NO_CANCEL))[0] == "[3, 3, 0]"
    assert field.jobs() == ["t-mine"]
