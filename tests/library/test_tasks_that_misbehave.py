"""What a task does to its own process harms no other task, and ends with the run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, FutureList, Task
from taskproc.errors import FailedTaskError

COUNT = 6
GUILTY = 2

Write = Callable[[str, str], Path]


class Job(Task):
    """One of several in one process; one of them misbehaves. Each tells what state it found."""

    def __init__(self, n: int, how: str, folder: Path) -> None:
        self.n = n
        self.how = how
        self.folder = folder

    def run_task(self) -> dict[str, Any]:
        found = state_of_process()
        print(f"job {self.n} is at it", flush=True)
        if self.n == GUILTY:
            getattr(self, self.how)()
        return found

    def starts_a_daemon_thread(self) -> None:
        def live() -> None:
            while True:
                time.sleep(0.01)

        threading.Thread(target=live, daemon=True).start()

    def starts_a_thread_that_is_waited_for(self) -> None:
        threading.Thread(target=time.sleep, args=(600,)).start()

    def starts_a_thread_that_raises(self) -> None:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    def leaves_a_child_behind(self) -> None:
        child = subprocess.Popen(["sleep", "600"])
        child.returncode = 0  # forget it, as a careless task does
        (self.folder / "child").write_text(str(child.pid))

    def leaves_a_child_that_prints_for_ever(self) -> None:
        child = subprocess.Popen(["sh", "-c", "while :; do echo a child prints; sleep 0.01; done"])
        child.returncode = 0
        (self.folder / "child").write_text(str(child.pid))

    def prints_what_is_no_utf_8(self) -> None:
        os.write(1, b"\xff\xfe\x80\n")
        sys.stdout.buffer.write(b"\xff\n")
        print("\udc80")

    def closes_its_streams(self) -> None:
        sys.stdout.close()
        sys.stderr.close()
        for descriptor in (0, 1, 2):
            with suppress(OSError):  # closed with its stream
                os.close(descriptor)

    def changes_the_folder(self) -> None:
        os.chdir("/")

    def removes_the_folder_it_is_in(self) -> None:
        (self.folder / "gone").mkdir()
        os.chdir(self.folder / "gone")
        os.rmdir(self.folder / "gone")

    def changes_the_umask(self) -> None:
        os.umask(0o777)

    def changes_signal_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: 1 / 0)
        signal.signal(signal.SIGALRM, lambda *_: 1 / 0)

    def blocks_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD])

    def sets_an_alarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    def lowers_its_limits(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (10, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def traces(self) -> None:
        sys.settrace(lambda *_: None)
        sys.setprofile(lambda *_: None)
        threading.settrace(lambda *_: None)

    def starts_at_its_exit_what_does_not_end(self) -> None:
        import atexit

        atexit.register(time.sleep, 600)


class Jobs(Task):
    def __init__(self, how: str, folder: Path) -> None:
        self.parts = FutureList([Job(n, how, folder) for n in range(COUNT)])

    def run_task(self) -> list[dict[str, Any]]:
        return self.parts.get_result()


def state_of_process() -> dict[str, Any]:
    umask = os.umask(0o077)
    os.umask(umask)
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM]
    return {
        "folder": os.getcwd(),
        "umask": umask,
        "handlers": [str(signal.getsignal(number)) for number in numbers],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "trace": str((sys.gettrace(), sys.getprofile())),
    }


def is_alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


HOWS = [name for name in vars(Job) if name[0] != "_" and name != "run_task"]


@pytest.mark.parametrize("how", HOWS)
def test_whatever_a_task_does_to_its_process_the_next_ones_find_it_as_it_was(
    cache: Cache, tmp_path: Path, how: str
) -> None:
    begun = time.monotonic()
    found, _ = Jobs(how, tmp_path).run_graph(max_workers=1)
    assert found == [found[0]] * COUNT
    for n in range(COUNT):
        lines = Job(n, how, tmp_path).task_stdout.read_bytes().splitlines()
        assert lines[0] == b"job %d is at it" % n
        assert len(lines) == 1 or n == GUILTY
    assert os.listdir(cache.backend.scratch()) == []
    assert time.monotonic() - begun < 60, "something was waited for that does not end"
    with suppress(FileNotFoundError):
        child = int((tmp_path / "child").read_text())
        deadline = time.monotonic() + 20
        while is_alive(child):
            assert time.monotonic() < deadline, "a task's child outlived the run"
            time.sleep(0.02)


def test_what_is_no_utf_8_is_kept_as_it_is(cache: Cache, tmp_path: Path) -> None:
    task = Job(GUILTY, "prints_what_is_no_utf_8", tmp_path)
    task.run_graph()
    assert task.task_stdout.read_bytes() == b"job 2 is at it\n\xff\xfe\x80\n\xff\n\\udc80\n"


@pytest.mark.parametrize("how", ["starts_a_daemon_thread", "leaves_a_child_behind", "closes_its_streams"])
def test_a_launched_job_may_misbehave_as_well(cache: Cache, tmp_path: Path, how: str) -> None:
    task = Job(GUILTY, how, tmp_path)
    assert task.run_graph(prefixes={Job.task_name: "env"})[0]["umask"] == state_of_process()["umask"]
    with suppress(FileNotFoundError):
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


class Loud(Task):
    """Prints a gigabyte, by descriptor and by a child process."""

    def run_task(self) -> int:
        for _ in range(512):
            os.write(1, b"x" * (1 << 20))
        subprocess.run(["head", "-c", str(1 << 29), "/dev/zero"], check=True)
        return 1


class Quiet(Task):
    def __init__(self) -> None:
        self.loud = Loud()

    def run_task(self) -> int:
        return self.loud.get_result() + 1


def test_a_gigabyte_of_output_is_kept_and_costs_the_runner_no_memory(cache: Cache) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert Quiet().run_graph()[0] == 2
    assert Loud().task_stdout.stat().st_size == 1 << 30
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 1 << 28
    Loud().clear_task()


class Raises(Task):
    """Raises what no other process can unpickle, or what ends a program."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def run_task(self) -> None:
        class Local(Exception):
            def __init__(self, one: int, two: int) -> None:
                super().__init__(f"{one} and {two}")

            def __reduce__(self) -> Any:
                raise TypeError("not me")

        if self.kind == "unpicklable":
            raise Local(1, 2)
        if self.kind == "exit":
            raise SystemExit("enough")
        if self.kind == "interrupt":
            raise KeyboardInterrupt
        if self.kind == "generator":
            raise GeneratorExit
        raise BaseExceptionGroup("several", [ValueError("one"), KeyboardInterrupt()])


class Both(Task):
    def __init__(self, kind: str) -> None:
        self.parts = [Raises(kind), Raises("none of these")]

    def run_task(self) -> None: ...


@pytest.mark.parametrize("executor", ["process", "thread", "serial"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("unpicklable", "1 and 2"),
        ("exit", "SystemExit: enough"),
        ("interrupt", "KeyboardInterrupt"),
        ("generator", "GeneratorExit"),
        ("group", "several"),
    ],
)
def test_whatever_a_task_raises_is_its_own_failure(cache: Cache, executor: str, kind: str, told: str) -> None:
    with pytest.raises(FailedTaskError, match=told) as caught:
        Raises(kind).run_graph(executor=executor)
    assert caught.value.task_args == {"kind": kind}


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGTERM", "SIGXCPU"])
def test_a_worker_that_dies_fails_its_own_task_with_the_signal_named_and_is_replaced(
    cache: Cache, signal_name: str
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        Deaths(signal_name).run_graph(max_workers=1, on_error="continue")
    (error,) = caught.value.exceptions
    assert isinstance(error, FailedTaskError)
    assert (error.task_args["n"], signal_name in str(error)) == (GUILTY, True)
    plan = Deaths(signal_name).plan()
    assert plan.run_counts == {Dies.task_name: 1, Deaths.task_name: 1}


class Dies(Task):
    def __init__(self, n: int, signal_name: str) -> None:
        self.n = n
        self.signal_name = signal_name

    def run_task(self) -> int:
        if self.n == GUILTY:
            os.kill(os.getpid(), signal.Signals[self.signal_name])
            time.sleep(60)
        return self.n


class Deaths(Task):
    def __init__(self, signal_name: str) -> None:
        self.parts = FutureList([Dies(n, signal_name) for n in range(COUNT)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())
