"""What kills a worker, a runner or a stored result costs no more than it must."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, FailedTaskError, FutureList, Plan, Task
from taskproc.errors import DamagedEntryWarning
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Reporter

Write = Callable[[str, str], Path]
Python = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]


class Job(Task):
    """One of many; the tenth ends its worker, or itself, in the way it is told."""

    def __init__(self, n: int, how: str) -> None:
        self.n = n
        self.how = how

    def run_task(self) -> int:
        if self.n == 10:
            print("about to go", flush=True)
            self.go()
        return self.n

    def go(self) -> None:
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.how == "_exit":
            os._exit(3)
        elif self.how == "exit":
            raise SystemExit(0)
        elif self.how == "interrupt":
            raise KeyboardInterrupt
        elif self.how == "memory":
            raise MemoryError
        else:
            self.go()


class Jobs(Task):
    def __init__(self, how: str) -> None:
        self.parts = FutureList([Job(n, how) for n in range(20)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())


class Leaf(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> str:
        return f"leaf {self.n} " * 20


class Joined(Task):
    def __init__(self, count: int) -> None:
        self.parts = FutureList([Leaf(n) for n in range(count)])

    def run_task(self) -> str:
        return "".join(self.parts.get_result())


def stored(cache: Cache, cls: type[Task]) -> list[Path]:
    return sorted((Path(cache.location) / cls.task_name).rglob("result.pkl.gz"))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Large(Task):
    """Too large to come back with the outcome, and another one each time."""

    def run_task(self) -> bytes:
        return os.urandom(2000)


class Reader(Task):
    def __init__(self, n: int) -> None:
        self.n = n
        self.large = Large()

    def run_task(self) -> int:
        return self.n + len(self.large.get_result())


class Readers(Task):
    def __init__(self, count: int) -> None:
        self.parts = FutureList([Reader(n) for n in range(count)])

    def run_task(self) -> int:
        return len(self.parts.get_result())


class Leaves(Task):
    """Leaves something behind in its process if it is the third."""

    def __init__(self, n: int, what: str) -> None:
        self.n = n
        self.what = what

    def run_task(self) -> int:
        if self.n == 3 and self.what == "timer":
            signal.setitimer(signal.ITIMER_REAL, 0.1)
        elif self.n == 3 and self.what == "umask":
            os.umask(0o777)
        elif self.n == 3 and self.what == "folder":
            os.chdir("/")
        elif self.n == 3:
            os.closerange(3, 1000)
        elif self.n > 3 and self.what == "umask":
            (self.task_directory / "file").touch()
            return (self.task_directory / "file").stat().st_mode & 0o400
        time.sleep(0.02)
        return 0o400


class ClosesAll(Task):
    def run_task(self) -> None:
        os.closerange(0, 1000)
        os.write(1, b"nobody hears it")


class LeftBehind(Task):
    def __init__(self, what: str) -> None:
        self.parts = FutureList([Leaves(n, what) for n in range(20)])

    def run_task(self) -> list[int]:
        return self.parts.get_result()


# --- Deaths of workers ---


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("kill", "died of SIGKILL"),
        ("segv", "died of SIGSEGV"),
        ("_exit", "ended with exit code 3"),
        ("exit", "SystemExit: 0"),
        ("interrupt", "KeyboardInterrupt"),
        ("memory", "MemoryError"),
        ("recursion", "RecursionError"),
    ],
)
def test_whatever_ends_a_job_fails_that_job_alone(cache: Cache, how: str, told: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        Jobs(how).run_graph(max_workers=2, on_error="continue")
    (error,) = caught.value.exceptions
    assert isinstance(error, FailedTaskError)
    assert (error.task_name, error.task_args["n"]) == (Job.task_name, 10)
    assert told in str(error)
    assert "| about to go" in str(error)  # the last lines it printed
    assert str(Job(10, how).task_stdout) in str(error)
    plan = Jobs(how).plan()
    assert plan.run_counts == {Job.task_name: 1, Jobs.task_name: 1}


class Forks(Task):
    """Forks a child that comes back from `run_task` in its own way."""

    def __init__(self, how: str) -> None:
        self.how = how

    def run_task(self) -> tuple[str, int]:
        child = os.fork()
        if child:
            return "the parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if self.how == "raises":
            raise ZeroDivisionError("in the child")
        if self.how == "exits":
            sys.exit()
        return "the child", 0


@pytest.mark.parametrize("executor", ["process", "thread", "serial"])
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("exits", 0)])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_that_comes_back_ends_and_leaves_the_job_to_its_parent(
    cache: Cache, executor: str, how: str, code: int
) -> None:
    task = Forks(how)
    answer, stats = task.run_graph(executor=executor)
    assert (answer, stats["stats"]) == (("the parent", code), {task.task_name: 1})
    if executor != "serial":
        told = task.task_stderr.read_text() if task.task_stderr.exists() else ""
        assert ("in the child" in told) == (how == "raises")


def test_a_death_with_on_error_stop_is_one_error_that_names_the_signal(cache: Cache) -> None:
    with pytest.raises(FailedTaskError, match=r"Job failed: .*SIGKILL"):
        Jobs("kill").run_graph(max_workers=2)


def test_a_job_behind_a_prefix_that_dies_is_named_with_its_signal_and_its_log(cache: Cache) -> None:
    with pytest.raises(FailedTaskError) as caught:
        Job(10, "kill").run_graph(prefixes={Job.task_name: "env"})
    assert "died of SIGKILL" in str(caught.value)
    assert "| about to go" in str(caught.value)


DIES_WITH_ITS_RESULT_STORED = """
    import json, os, signal, sys
    from pathlib import Path
    from taskproc import Cache, Task
    from taskproc.default_plugins.directory_cache import DirectoryCache
    from taskproc.engine.capture import DescriptorCapture

    class Says(Task):
        task_label = "launched"

        def run_task(self):
            if Path("old").exists():
                print("old")
                print("old", file=sys.stderr)
                return 1
            print("said")
            where = Path("where").read_text()
            if where != "nothing":
                print("whispered", file=sys.stderr)
            keep = DirectoryCache.keep_logs

            def die(cache, key=None, stdout=None, stderr=None):
                if where in ("half", "nothing"):
                    keep(cache, key, stdout, None)
                elif where == "after":
                    keep(cache, key, stdout, stderr)
                os.kill(os.getpid(), signal.SIGKILL)

            if where == "before":
                DescriptorCapture.finish = die
            else:
                DirectoryCache.keep_logs = die
            return 2

    if __name__ == "__main__":
        options = {"prefixes": {"launched": "env A=1"}} if sys.argv[1:] else {}
        with Cache("cache"):
            task = Says()
            result = task.run_graph(force=True, **options)[0]
            paths = task.task_stdout, task.task_stderr
            logs = [path.read_text() if path.exists() else "" for path in paths]
            print(json.dumps([result, *logs]))
"""


@pytest.mark.parametrize("launched", [[], ["launched"]], ids=["pool", "launched"])
@pytest.mark.parametrize("where", ["before", "handed over", "half", "after", "nothing"])
def test_what_a_task_printed_is_kept_if_its_worker_dies_when_the_result_is_stored(
    write: Write, python: Python, where: str, launched: list[str]
) -> None:
    """It dies before it hands its output over, before or between the moves of both streams, or after."""
    file = write("said.py", textwrap.dedent(DIES_WITH_ITS_RESULT_STORED))
    write("where", where)
    write("old", "")
    assert python(file, *launched) == [1, "old\n", "old\n"]
    Path(file.parent / "old").unlink()
    assert python(file, *launched) == [2, "said\n", "" if where == "nothing" else "whispered\n"]
    assert os.listdir(file.parent / "cache" / "jobs") == []


# --- Damaged results ---


def test_damaged_results_are_computed_again_in_the_same_run_with_one_warning_each(cache: Cache) -> None:
    answer, _ = Joined(6).run_graph(max_workers=2)
    Joined(6).clear_task()
    for path in stored(cache, Leaf)[:2]:
        flip_a_bit(path)
    with pytest.warns(DamagedEntryWarning) as caught:
        again, stats = Joined(6).run_graph(max_workers=2)
    assert again == answer
    assert len(caught) == 2
    assert all("Leaf(n=" in str(one.message) and cache.location in str(one.message) for one in caught)
    assert stats["stats"] == {Leaf.task_name: 2, Joined.task_name: 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Joined(6).run_graph()[1]["stats"] == {}


def test_a_damaged_answer_is_computed_again_in_the_same_run(cache: Cache) -> None:
    answer, _ = Joined(3).run_graph(max_workers=1)
    flip_a_bit(stored(cache, Joined)[0])
    with pytest.warns(DamagedEntryWarning, match=r"Joined\(count=3\)"):
        again, stats = Joined(3).run_graph(max_workers=1)
    assert again == answer
    assert stats["stats"] == {Joined.task_name: 1}


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_no_flipped_bit_ever_loads_as_another_value(cache: Cache, position: int) -> None:
    answer, _ = Leaf(1).run_graph(executor="serial")
    (path,) = stored(cache, Leaf)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << position % 8
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedEntryWarning)  # a bit of the header may mean nothing
        assert Leaf(1).run_graph(executor="serial")[0] == answer


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_a_damaged_result_that_many_jobs_under_way_wait_for_is_computed_again_once(
    cache: Cache, executor: str
) -> None:
    Large().run_graph(executor=executor)
    flip_a_bit(stored(cache, Large)[0])
    with pytest.warns(DamagedEntryWarning) as warned:
        answer, stats = Readers(150).run_graph(executor=executor, max_workers=2)
    assert answer == 150
    assert stats["stats"][Large.task_name] == 1
    assert Large.task_name not in stats["cached"]
    assert len(warned) == 1


def test_a_launched_job_that_finds_damage_is_launched_again(cache: Cache) -> None:
    Large().run_graph()
    flip_a_bit(stored(cache, Large)[0])
    with pytest.warns(DamagedEntryWarning):
        answer, _ = Reader(1).run_graph(prefixes={Reader.task_name: "env"})
    assert answer == 2001
    assert os.listdir(cache.backend.scratch()) == []


def test_a_truncated_or_emptied_entry_is_computed_again(cache: Cache) -> None:
    answer, _ = Joined(4).run_graph(executor="serial")
    Joined(4).clear_task()
    one, two, three, _ = stored(cache, Leaf)
    one.write_bytes(one.read_bytes()[:-5])
    two.write_bytes(b"")
    three.unlink()
    with pytest.warns(DamagedEntryWarning) as told:
        again, stats = Joined(4).run_graph(executor="serial")
    assert len(told) == 2  # one each; what was removed by hand is not damaged
    assert again == answer
    assert stats["stats"] == {Leaf.task_name: 3, Joined.task_name: 1}


# --- Several runners, and runners that end early ---

SHARED = """
import json, os, sys, time
from taskproc import Cache, FutureList, Task

def note(text):
    with open("log", "a") as stream:
        stream.write(text + "\\n")

class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        note(f"{os.getpid()} {self.n}")
        time.sleep(SECONDS)
        return self.n

class Top(Task):
    def __init__(self):
        self.parts = FutureList([Leaf(n) for n in range(COUNT)])

    def run_task(self):
        note(f"{os.getpid()} top")
        return sum(self.parts.get_result())

if __name__ == "__main__":
    with Cache("cache"):
        task = Top()
    print("ready", flush=True)
    while "wait" in sys.argv and not os.path.exists("go"):
        time.sleep(0.005)
    answer, stats = task.run_graph(max_workers=2, executor=EXECUTOR)
    print(json.dumps([answer, sum(stats["stats"].values()), sum(stats["cached"].values())]))
"""


def shared(seconds: float, count: int, executor: str = "process") -> str:
    text = SHARED.replace("SECONDS", str(seconds)).replace("COUNT", str(count))
    return text.replace("EXECUTOR", repr(executor))


def noted(tmp_path: Path) -> list[list[str]]:
    log = tmp_path / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_two_runners_on_one_cache_compute_each_task_once_between_them(
    write: Write, start: Start, tmp_path: Path
) -> None:
    script = write("tasks.py", shared(0.05, 24))
    runners = [start(script, "wait") for _ in range(2)]
    for runner in runners:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
    write("go", "")
    results = []
    for runner in runners:
        out, err = runner.communicate(timeout=60)
        assert runner.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    computed = [what for _, what in noted(tmp_path)]
    assert sorted(computed) == sorted([*map(str, range(24)), "top"])
    assert [answer for answer, _, _ in results] == [276, 276]
    assert sum(ran for _, ran, _ in results) == 25
    assert all(ran + cached == 25 for _, ran, cached in results)
    assert min(ran for _, ran, _ in results) > 0  # they shared the work


def test_what_another_runner_finished_since_the_first_look_is_taken_from_it(
    cache: Cache, tmp_path: Path
) -> None:
    class RunsItFirst(Reporter):
        name = "runs-it-first"

        @hookimpl
        def taskproc_run_started(self, plan: Plan) -> None:
            with Cache(tmp_path / "cache"):
                Joined(5).run_graph(executor="serial")

    answer, stats = Joined(5).run_graph(max_workers=2, reporters=[RunsItFirst()])
    assert answer == Joined(5).get_result()
    assert stats["stats"] == {}
    assert stats["cached"] == {Leaf.task_name: 5, Joined.task_name: 1}


def test_an_interrupted_runner_exits_leaves_no_worker_and_keeps_what_was_finished(
    write: Write, start: Start, python: Python, tmp_path: Path
) -> None:
    script = write("tasks.py", shared(0.2, 8))
    runner = start(script)
    wait_for(lambda: len(noted(tmp_path)) >= 5)
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=20)
    assert runner.returncode in (-signal.SIGINT, 130), err
    assert "KeyboardInterrupt" in err
    before = noted(tmp_path)
    workers = {int(pid) for pid, _ in before}
    wait_for(lambda: not any(map(is_alive, workers)), seconds=5)
    answer, ran, cached = python(script)
    assert answer == 28
    assert cached >= 3
    assert ran + cached == 9
    assert len(noted(tmp_path)) == len(before) + ran


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_an_interrupted_runner_without_processes_exits_too(
    write: Write, start: Start, python: Python, tmp_path: Path, executor: str
) -> None:
    script = write("tasks.py", shared(0.2, 12, executor))
    runner = start(script)
    wait_for(lambda: len(noted(tmp_path)) >= 4)
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=20)
    assert runner.returncode in (-signal.SIGINT, 130), err
    assert len(noted(tmp_path)) < 12
    answer, ran, cached = python(script)
    assert answer == 66
    assert cached >= 2
    assert ran + cached == 13


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_workers_of_a_killed_runner_end_and_its_cache_is_usable(
    write: Write, start: Start, python: Python, tmp_path: Path, number: int
) -> None:
    script = write("tasks.py", shared(0.2, 8))
    runner = start(script)
    wait_for(lambda: len(noted(tmp_path)) >= 5)
    workers = {int(pid) for pid, _ in noted(tmp_path)}
    runner.send_signal(number)
    runner.communicate(timeout=20)
    wait_for(lambda: not any(map(is_alive, workers)), seconds=5)
    answer, ran, cached = python(script)
    assert answer == 28
    assert cached >= 3
    assert ran + cached == 9


def test_an_interrupted_launched_job_ends_with_its_runner(write: Write, start: Start, tmp_path: Path) -> None:
    text = shared(30, 1).replace("executor='process'", 'prefixes={"tasks.Leaf": "env"}')
    runner = start(write("tasks.py", text))
    wait_for(lambda: noted(tmp_path))
    (client,) = {int(pid) for pid, _ in noted(tmp_path)}
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=20)
    wait_for(lambda: not is_alive(client), seconds=5)


def test_a_second_interrupt_kills_launched_jobs_that_ignore_the_first(
    write: Write, start: Start, tmp_path: Path
) -> None:
    prefix = ["sh", "-c", 'trap "" TERM; "$@"; sleep 60', "sh"]
    text = shared(30, 1).replace("executor='process'", f"prefixes={{'tasks.Leaf': {prefix!r}}}")
    runner = start(write("tasks.py", text))
    wait_for(lambda: noted(tmp_path))
    (client,) = {int(pid) for pid, _ in noted(tmp_path)}
    runner.send_signal(signal.SIGINT)
    time.sleep(0.3)
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=10)
    wait_for(lambda: not is_alive(client), seconds=5)


@pytest.mark.parametrize("what", ["timer", "umask", "folder", "descriptors"])
def test_what_a_task_leaves_behind_in_its_process_does_not_strike_the_next_one(
    cache: Cache, what: str
) -> None:
    assert LeftBehind(what).run_graph(max_workers=1)[0] == [0o400] * 20


def test_a_launched_job_that_closes_every_descriptor_still_says_why_it_failed(cache: Cache) -> None:
    with pytest.raises(FailedTaskError, match="Bad file descriptor") as caught:
        ClosesAll().run_graph(prefixes={ClosesAll.task_name: "env"})
    assert "left no result" not in str(caught.value)


def test_a_run_leaves_no_process_thread_or_descriptor_behind(cache: Cache) -> None:
    Joined(4).run_graph(max_workers=2)  # what is made once and kept is made here
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    before = len(os.listdir(folder)), threading.active_count()
    for count in (5, 6, 7):
        Joined(count).run_graph(max_workers=2)
    assert (len(os.listdir(folder)), threading.active_count()) == before
    with suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)


def test_the_scratch_folder_is_empty_after_a_run(cache: Cache) -> None:
    with pytest.raises(ExceptionGroup):
        Jobs("kill").run_graph(max_workers=2, on_error="continue")
    assert os.listdir(cache.backend.scratch()) == []
