"""A task that runs longer than its limit is ended and has failed, for that reason, and it alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stopped_runs import Site, alive, stopping_site, wait_for

from taskproc import Cache, FailedTaskError, FutureList, Outcome, Task
from taskproc.core.seconds import read_seconds
from taskproc.errors import (
    OptionError,
    TaskDefinitionError,
    TaskTimeoutError,
    TimeLimitWarning,
    UnknownLabelWarning,
)
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Reporter

HOLD = 60.0


class Held(Task):
    # The import of this module by a worker counts as well, on a machine that has other work.
    task_timeout: ClassVar[float | str | None] = 3
    task_label = ("slow", "held")

    def __init__(self, how: str = "sleep", folder: str = "") -> None:
        self.how = how
        self.folder = folder

    def run_task(self) -> str:
        print("printed before the end", flush=True)
        until = time.monotonic() + HOLD
        if self.how == "child":
            child = subprocess.Popen(["sleep", "300"])
            Path(self.folder, "pids").write_text(f"{child.pid} {os.getpid()}")
        while time.monotonic() < until:
            if self.how == "swallow":
                try:
                    time.sleep(HOLD)
                except BaseException:
                    return "never to be stored"
            else:
                time.sleep(HOLD)
        return "too late"


class Quick(Task):
    task_timeout = "1h"

    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


class Plain(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


class Mixed(Task):
    def __init__(self) -> None:
        self.held = Held()
        self.quick = FutureList([Quick(n) for n in range(20)])
        self.plain = FutureList([Plain(n) for n in range(200)])

    def run_task(self) -> int:
        return 0


WAYS: dict[str, Callable[[], Any]] = {
    "process": lambda: {"executor": "process", "max_workers": 2},
    "serial": lambda: {"executor": "serial"},
    "prefix": lambda: {"prefixes": {Held.task_name: "env"}, "max_workers": 2},
}


def failed(caught: pytest.ExceptionInfo[BaseException]) -> FailedTaskError:
    error = caught.value
    if isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, FailedTaskError)
    return error


@pytest.mark.parametrize("way", WAYS)
def test_a_task_that_runs_too_long_fails_for_that_reason_and_it_alone(cache: Cache, way: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ExceptionGroup) as caught:
        Mixed().run_graph(on_error="continue", **WAYS[way]())
    assert time.monotonic() - begun < HOLD / 2
    error = failed(caught)
    words = "ran longer than its time limit of 3 s (task_timeout)"
    assert f"{Held.task_name} failed: TaskTimeoutError: {words}" in str(error)
    assert isinstance(error.__cause__, TaskTimeoutError)
    assert isinstance(error.__cause__, TimeoutError)
    assert not Held().is_cached()
    assert all(Quick(n).is_cached() for n in range(20))
    assert all(Plain(n).is_cached() for n in range(200))
    if way != "serial":
        assert Held().task_stdout.read_text() == "printed before the end\n"
        assert "printed before the end" in str(error)
    assert os.listdir(cache.backend.scratch()) == [] or way == "prefix"
    assert os.listdir(os.path.join(cache.location, "leases")) == []


@pytest.mark.parametrize("way", ["process", "prefix"])
def test_what_the_task_started_ends_with_it(cache: Cache, tmp_path: Path, way: str) -> None:
    with pytest.raises(FailedTaskError, match="TaskTimeoutError"):
        Held("child", str(tmp_path)).run_graph(timeouts={"slow": 2}, **WAYS[way]())
    pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    assert alive(pids) == set()


def test_what_swallows_the_end_is_not_stored(cache: Cache) -> None:
    with pytest.raises(FailedTaskError, match=r"time limit of 3 s"):
        Held("swallow").run_graph(executor="serial")
    assert not Held("swallow").is_cached()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_of_somebody_elses_pool_keep_the_limit_themselves(cache: Cache, method: str) -> None:
    begun = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        with pytest.raises(ExceptionGroup) as caught:
            Mixed().run_graph(executor=pool, on_error="continue")
        assert "TaskTimeoutError: ran longer than its time limit of 3 s" in str(failed(caught))
        assert pool.submit(abs, -1).result() == 1  # its workers live
    assert time.monotonic() - begun < HOLD / 2


class Short(Task):
    task_timeout = 0.2

    def run_task(self) -> int:
        time.sleep(0.6)
        return 1


@pytest.mark.parametrize("executor", ["thread", "somebody's"])
def test_threads_can_not_be_ended_and_one_warning_says_so(cache: Cache, executor: str) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.warns(TimeLimitWarning, match="can't be kept.*threads") as seen,
    ):
        answer, _ = Short().run_graph(executor=pool if executor == "somebody's" else executor)
    assert answer == 1  # and what it computed is not lost
    assert len(seen) == 1


def test_the_serial_executor_on_another_thread_can_not_either(tmp_path: Path) -> None:
    seen: list[warnings.WarningMessage] = []

    def work() -> None:
        with Cache(tmp_path / "cache"):
            assert Short().run_graph(executor="serial")[0] == 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        seen += caught
    assert [type(one.message) for one in seen] == [TimeLimitWarning]


class Signals(Task):
    """Has a timer of its own, with which it must get along."""

    task_timeout = 30

    def run_task(self) -> list[int]:
        return [int(signal.getitimer(signal.ITIMER_REAL)[0]) // 25]


def test_a_timer_and_a_handler_of_the_user_are_there_again_after_a_task_with_a_limit(cache: Cache) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 300)
        assert Signals().run_graph(executor="serial")[0] == [1]
        assert 200 < signal.getitimer(signal.ITIMER_REAL)[0] <= 300
        signal.raise_signal(signal.SIGALRM)
        assert heard == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("timeouts", "source"),
    [
        ({}, "task_timeout"),
        ({"held": "400s", "slow": 0.3}, "timeout slow=0.3"),
        ({"held": 0.25}, "timeout held=0.25"),
        ({"slow": 300, Held.task_name: 0.2}, f"timeout {Held.task_name}=0.2"),
    ],
)
def test_the_run_goes_before_the_class_and_the_own_name_before_labels(
    cache: Cache, timeouts: dict[str, Any], source: str
) -> None:
    with pytest.raises(FailedTaskError) as caught:
        Held().run_graph(timeouts=timeouts, max_workers=1)
    assert f"({source})" in str(caught.value)


def test_a_run_may_lift_a_limit(cache: Cache) -> None:
    assert Short().run_graph(timeouts={Short.task_name: None})[0] == 1


class Later(Task):
    task_timeout = 30

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run_task(self) -> float:
        time.sleep(self.seconds)
        return self.seconds


class Laters(Task):
    def __init__(self) -> None:
        self.parts = FutureList([Later(1 + n / 1000) for n in range(8)])

    def run_task(self) -> float:
        return sum(self.parts.get_result())


def test_the_clock_does_not_run_while_a_job_waits_for_a_worker(cache: Cache) -> None:
    # Eight of a second each, one after the other: more than the limit in all.
    Laters().run_graph(max_workers=1, timeouts={Later.task_name: 7})


QUEUE = """\
import os, subprocess, sys, time
while not os.path.exists({go!r}):
    time.sleep(0.02)
sys.exit(subprocess.call(sys.argv[1:]))
"""


def test_the_clock_of_a_launched_job_starts_when_its_worker_does(cache: Cache, tmp_path: Path) -> None:
    queue = tmp_path / "queue.py"
    go = tmp_path / "go"
    queue.write_text(QUEUE.format(go=str(go)))
    threading.Timer(7.0, go.touch).start()
    answer, _ = Later(0.1).run_graph(
        prefixes={Later.task_name: ["python3", str(queue)]}, timeouts={Later.task_name: 6.5}
    )
    assert answer == 0.1


def test_a_limit_is_no_part_of_the_freshness(cache: Cache, tmp_path: Path) -> None:
    text = "from taskproc import Task\nclass One(Task):\n{}    def run_task(self):\n        return 1\n"
    stats = []
    for setting in ("", "    task_timeout = 5\n", "    task_timeout = '2h'\n"):
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        (folder / "one.py").write_text(text.format(setting))
        stats.append(run_one(folder))
    assert stats == [1, 0, 0]


def run_one(folder: Path) -> int:
    with stopping_site(folder / "site") as site:
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from taskproc import Cache; import one\n"
            "with Cache(sys.argv[1] + '/cache'): print(sum(one.One().run_graph()[1]['stats'].values()))"
        )
        stdout, stderr = site.start("-c", code, str(folder)).communicate(timeout=60)
        assert not stderr
        return int(stdout)


@pytest.mark.parametrize("value", [0, -1, "soon", "", "10 x", True, [], float("nan"), float("inf"), "0s"])
def test_a_bad_limit_is_an_error_when_the_class_is_made(value: Any) -> None:
    with pytest.raises(TaskDefinitionError, match=r"Bad\.task_timeout is .*above 0"):
        type("Bad", (Task,), {"task_timeout": value, "run_task": lambda self: 1})


@pytest.mark.parametrize("value", [0, -1, "soon", True, []])
def test_a_bad_limit_of_a_run_is_an_error_before_anything_runs(cache: Cache, value: Any) -> None:
    with pytest.raises(OptionError, match="the time limit of 'slow' is"):
        Held().run_graph(timeouts={"slow": value})


@pytest.mark.parametrize("given", [["slow"], "slow=3", {3: 3}, {None: 3}])
def test_limits_that_are_no_dict_of_labels_are_an_error_before_anything_runs(
    cache: Cache, given: Any
) -> None:
    with pytest.raises(OptionError, match=r"^timeouts(:| is) .*label"):
        Held().run_graph(timeouts=given)


def test_a_limit_for_a_label_that_no_task_has_is_warned_of(cache: Cache) -> None:
    with pytest.warns(UnknownLabelWarning, match="a time limit is given for the label 'hold'.*'held'"):
        Both().run_graph(timeouts={"hold": 10})


class Both(Task):
    task_label = "held"

    def run_task(self) -> int:
        return 1


def test_reporters_hear_of_it_as_of_any_failure(cache: Cache) -> None:
    heard: list[Outcome] = []

    class Ear(Reporter):
        name = "ear"

        @hookimpl
        def taskproc_job_finished(self, outcome: Outcome) -> None:
            heard.append(outcome)

    with pytest.raises(FailedTaskError):
        Held().run_graph(reporters=[Ear()])
    (outcome,) = heard
    assert outcome.kind == "failed"
    assert outcome.failure is not None
    assert outcome.failure.type == "TaskTimeoutError"
    (entry,) = cache.backend.stored(Held.task_name)
    assert entry.failure is not None
    assert "time limit of 3 s" in entry.failure.text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("7", 7),
        (" 3 s ", 3),
        (".5", 0.5),
    ],
)
def test_durations_are_read_from_text(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_number_of_seconds_is_itself(seconds: float) -> None:
    assert read_seconds(seconds) == seconds


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with stopping_site(tmp_path / "site") as opened:
        yield opened


def test_the_command_ends_a_task_by_its_option_and_tells_why(site: Site) -> None:
    site.environment["CHILD"] = "1"
    runner = site.command("process", "--timeout", "tasks.Leaf=3s")
    _, stderr = runner.communicate(timeout=60)
    assert runner.returncode == 1, stderr
    assert (
        "taskproc: error: tasks.Leaf failed: TaskTimeoutError: ran longer than its time limit of 3 s"
        in stderr
    )
    assert "(timeout tasks.Leaf=3)" in stderr
    assert "holding on" in stderr  # what it had printed
    assert alive({pid for _, _, pid, _ in site.notes()}) == set()
    bad = site.command("process", "--timeout", "tasks.Leaf=soon")
    _, stderr = bad.communicate(timeout=60)
    assert bad.returncode == 2
    assert "--timeout: the time limit of 'tasks.Leaf' is 'soon'" in stderr


def test_an_interruption_and_a_limit_do_not_get_into_each_others_way(site: Site) -> None:
    runner = site.command("serial", "--timeout", "tasks.Leaf=50s")
    site.until_held()
    done = site.stop(runner, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    wait_for(lambda: site.scratch() == [])
