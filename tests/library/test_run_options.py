"""The options of `run_graph`: limits, prefixes, executors, what a changed source does."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, FailedTaskError, FutureList, Task
from taskproc.engine import launch
from taskproc.errors import (
    CacheError,
    ComponentOptionError,
    OptionError,
    PrefixError,
    UnknownComponentError,
    UnknownLabelWarning,
    UsageError,
)

Span = tuple[float, float]


class Spans(Task):
    """Tells when it ran; `time.monotonic` is one clock for all processes of a machine."""

    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> Span:
        begun = time.monotonic()
        time.sleep(0.08)
        return begun, time.monotonic()


class Gpu(Spans):
    task_label = "gpu"


class Both(Spans):
    task_label = ["gpu", "memory"]


class All(Task):
    def __init__(self, counts: dict[str, int]) -> None:
        kinds = {"Spans": Spans, "Gpu": Gpu, "Both": Both}
        self.parts = {
            kind: FutureList([kinds[kind](n) for n in range(count)]) for kind, count in counts.items()
        }

    def run_task(self) -> dict[str, list[Span]]:
        return {kind: part.get_result() for kind, part in self.parts.items()}


class Where(Task):
    def __init__(self, n: int = 0) -> None:
        self.n = n

    def run_task(self) -> tuple[int, str]:
        time.sleep(0.02)
        return os.getpid(), threading.current_thread().name


class Wheres(Task):
    def __init__(self, count: int) -> None:
        self.parts = FutureList([Where(n) for n in range(count)])

    def run_task(self) -> list[tuple[int, str]]:
        return self.parts.get_result()


class Environment(Task):
    task_label = ["first", "second"]

    def __init__(self, *names: str) -> None:
        self.names = names

    def run_task(self) -> dict[str, str | None]:
        return {name: os.environ.get(name) for name in self.names}


class Dies(Task):
    def run_task(self) -> None:
        os._exit(3)


class Fails(Task):
    task_label = "first"

    def run_task(self) -> None:
        raise ValueError("in the job")


class Inline(Executor):
    """A stranger's executor, which does everything at once."""

    def __init__(self) -> None:
        self.is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut_down = True


def peak(spans: list[Span]) -> int:
    """How many of the spans overlap at most."""
    moments = sorted([(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most


# --- Rate limits ---


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_a_rate_limit_holds_and_is_used_up(cache: Cache, executor: str) -> None:
    got, _ = All({"Gpu": 6, "Spans": 6}).run_graph(
        executor=executor, max_workers=4, rate_limits={"gpu": 2, Spans.task_name: 1}
    )
    assert peak(got["Gpu"]) == 2
    assert peak(got["Spans"]) == 1
    assert peak(got["Gpu"] + got["Spans"]) == 3


def test_without_limits_all_workers_are_used(cache: Cache) -> None:
    got, _ = All({"Gpu": 8}).run_graph(max_workers=4)
    assert peak(got["Gpu"]) == 4


def test_a_task_of_two_labels_is_held_by_both_limits(cache: Cache) -> None:
    got, _ = All({"Both": 4, "Gpu": 4}).run_graph(max_workers=4, rate_limits={"gpu": 3, "memory": 1})
    assert peak(got["Both"]) == 1
    assert peak(got["Gpu"] + got["Both"]) <= 3


def test_a_rate_limit_holds_for_jobs_with_a_prefix(cache: Cache) -> None:
    got, _ = All({"Gpu": 4}).run_graph(max_workers=4, rate_limits={"gpu": 2}, prefixes={"gpu": "env"})
    assert peak(got["Gpu"]) <= 2


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2", None])
def test_a_rate_limit_that_is_no_integer_of_1_or_more_is_a_value_error_before_the_run(
    cache: Cache, tmp_path: Path, limit: Any
) -> None:
    with pytest.raises(ValueError, match=r"rate limit of 'gpu' is .*integer of 1 or more"):
        Gpu(1).run_graph(rate_limits={"gpu": limit})
    assert list(tmp_path.iterdir()) == []


def test_a_rate_limit_for_a_label_that_no_task_has_is_a_warning_with_a_guess(cache: Cache) -> None:
    with pytest.warns(UnknownLabelWarning, match=r"'gpus'.*did you mean 'gpu'"):
        Gpu(1).run_graph(executor="serial", rate_limits={"gpus": 1})


# --- Prefixes ---


def test_a_prefix_stands_in_front_of_the_job(cache: Cache) -> None:
    got, stats = Environment("MARK").run_graph(prefixes={"first": "env MARK='a b'"})
    assert got == {"MARK": "a b"}
    assert stats["stats"] == {Environment.task_name: 1}


def test_leading_words_with_an_equals_sign_become_environment(cache: Cache) -> None:
    got, _ = Environment("MARK").run_graph(prefixes={"first": "MARK=yes env"})
    assert got == {"MARK": "yes"}


def test_templates_are_replaced_and_other_braces_stay(cache: Cache) -> None:
    task = Environment("N", "I", "L", "D", "O", "E", "X")
    words = "env N={task_name} I={task_id} L={label} D={directory} O={stdout} E={stderr} X={other}"
    got, _ = task.run_graph(prefixes={"second": words})
    assert got["N"] == Environment.task_name
    assert got["I"] == str(task.task_id)
    assert got["L"] == "second"
    assert got["D"] == str(task.task_directory)
    assert got["X"] == "{other}"
    assert got["O"] not in (None, got["E"], str(task.task_stdout))  # the client's own logs


def test_a_prefix_may_be_a_list_of_words_taken_as_they_are(cache: Cache) -> None:
    got, _ = Environment("MARK").run_graph(prefixes={"first": ["env", "MARK=$HOME; 'x'"]})
    assert got == {"MARK": "$HOME; 'x'"}


def test_the_tasks_own_name_wins_over_its_labels_and_these_in_their_order(cache: Cache) -> None:
    prefixes = {"second": "env MARK=2", "first": "env MARK=1", Environment.task_name: "env MARK=own"}
    assert Environment("MARK").run_graph(prefixes=prefixes)[0] == {"MARK": "own"}
    del prefixes[Environment.task_name]
    assert Environment("MARK").run_graph(prefixes=prefixes, force=True)[0] == {"MARK": "1"}


def test_a_launcher_may_be_given_by_name(cache: Cache) -> None:
    got, _ = Environment("MARK").run_graph(launchers={"first": "prefix:prefix=env MARK=1"})
    assert got == {"MARK": "1"}


def test_a_prefix_and_a_launcher_on_one_label_is_an_error(cache: Cache) -> None:
    with pytest.raises(UsageError, match="'first' has both a prefix and a launcher"):
        Environment("MARK").run_graph(prefixes={"first": "env"}, launchers={"first": "prefix:prefix=env"})


def test_what_only_a_shell_understands_is_an_error_that_shows_the_shell_form(cache: Cache) -> None:
    with pytest.raises(PrefixError) as caught:
        Environment("MARK").run_graph(prefixes={"first": "env MARK=1 && nice"})
    assert """sh -c 'env MARK=1 && nice "$@"' sh""" in str(caught.value)


def test_a_prefix_whose_command_does_not_exist_is_an_error_before_anything_runs(
    cache: Cache, tmp_path: Path
) -> None:
    class Down(Task):
        def __init__(self) -> None:
            self.up = Environment("MARK")
            self.other = Where()

        def run_task(self) -> None: ...

    with pytest.raises(PrefixError, match=r"label 'first' needs the command 'no-such-command'"):
        Down().run_graph(prefixes={"first": "no-such-command -x"})
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_fails_behind_a_prefix_fails_as_anywhere(cache: Cache) -> None:
    with pytest.raises(FailedTaskError, match="ValueError: in the job") as caught:
        Fails().run_graph(prefixes={"first": "env"})
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_record_decides_success_and_not_the_exit_code(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_LATE_RECORD_SECONDS", 0.1)
    for command in ("false", "true"):
        with pytest.raises(FailedTaskError, match=rf"Environment failed: .*{command}.*left no result"):
            Environment("MARK").run_graph(prefixes={"first": command})
    with pytest.raises(FailedTaskError, match=r"command: sh -c 'exit 3; :' sh .*-m taskproc.engine.worker"):
        Environment("MARK").run_graph(prefixes={"first": "sh -c 'exit 3; :' sh"})
    got, _ = Environment("MARK").run_graph(prefixes={"first": ["sh", "-c", 'MARK=1 "$@"; exit 9', "sh"]})
    assert got == {"MARK": "1"}


# --- Executors ---


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_running_process_pool_is_used_and_not_shut_down(cache: Cache, method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        got, stats = Wheres(3).run_graph(executor=pool)
        assert stats["stats"] == {Where.task_name: 3, Wheres.task_name: 1}
        assert {pid for pid, _ in got} == {pool.submit(os.getpid).result()}


def test_a_running_thread_pool_is_used_and_not_shut_down(cache: Cache) -> None:
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        got, _ = Wheres(6).run_graph(executor=pool)
        assert all(pid == os.getpid() and name.startswith("mine") for pid, name in got)
        assert pool.submit(int, "7").result() == 7


def test_any_other_executor_works_and_is_not_shut_down(cache: Cache) -> None:
    mine = Inline()
    got, _ = Wheres(3).run_graph(executor=mine)
    assert {pid for pid, _ in got} == {os.getpid()}
    assert not mine.is_shut_down


def test_a_pool_that_breaks_fails_the_unfinished_jobs_as_executor_broken(cache: Cache) -> None:
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(FailedTaskError, match="executor broken"),
    ):
        Dies().run_graph(executor=pool)


def test_a_pool_that_was_shut_down_is_a_failure_that_says_so(cache: Cache) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(FailedTaskError, match="after shutdown"):
        Where().run_graph(executor=pool)


class Answers(Executor):
    """Answers every call with the same future, and calls nothing."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self.future


def done_with(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def cancelled() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    return future


@pytest.mark.parametrize(
    ("future", "told"),
    [
        (done_with(None), "not a batch's answer"),
        (done_with(pickle.dumps([])), "jobs are missing"),
        (cancelled(), "the executor cancels what it is given"),
        (None, "AttributeError"),
    ],
    ids=["nothing", "no answers", "cancelled", "no future"],
)
def test_an_executor_that_does_not_do_its_work_fails_the_jobs_and_hangs_nobody(
    cache: Cache, future: Any, told: str
) -> None:
    with pytest.raises(FailedTaskError, match=told):
        All({"Spans": 2}).run_graph(executor=Answers(future))


def test_the_default_executor_runs_tasks_in_processes_of_its_own(cache: Cache) -> None:
    got, _ = Wheres(8).run_graph(max_workers=2)
    pids = {pid for pid, _ in got}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_serial_runs_in_place_and_thread_in_threads(cache: Cache) -> None:
    got, _ = Wheres(3).run_graph(executor="serial")
    assert set(got) == {(os.getpid(), threading.current_thread().name)}
    Wheres.clear_all_tasks()
    Where.clear_all_tasks()
    got, _ = Wheres(6).run_graph(executor="thread", max_workers=2)
    assert {pid for pid, _ in got} == {os.getpid()}
    assert threading.current_thread().name not in {name for _, name in got}
    assert len({name for _, name in got}) <= 2


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_max_workers_is_the_most_that_run_at_once(cache: Cache, executor: str) -> None:
    got, _ = All({"Spans": 6}).run_graph(executor=executor, max_workers=3)
    assert peak(got["Spans"]) == 3


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_max_workers_that_is_no_integer_of_1_or_more_is_an_error(cache: Cache, workers: Any) -> None:
    with pytest.raises(OptionError, match="max_workers"):
        Where().run_graph(max_workers=workers)


def test_an_unknown_executor_or_option_is_an_error_with_a_guess(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UnknownComponentError, match=r"'proces'.*did you mean 'process'"):
        Where().run_graph(executor="proces")
    with pytest.raises(ComponentOptionError, match="frobnicate"):
        Where().run_graph(executor="process:frobnicate=1")
    with pytest.raises(UsageError, match=r"executor is 5"):
        Where().run_graph(executor=5)
    with pytest.raises(OptionError, match="on_error is 'never'"):
        Where().run_graph(on_error="never")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_show_progress_writes_to_stderr_and_nothing_to_stdout(
    cache: Cache, capfd: pytest.CaptureFixture[str]
) -> None:
    Wheres(2).run_graph(max_workers=1, show_progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "3 to run, 0 cached" in shown.err


def test_a_prefix_for_a_label_that_no_task_has_is_a_warning(cache: Cache) -> None:
    with pytest.warns(UnknownLabelWarning, match=r"prefix or launcher.*'frist'.*did you mean 'first'"):
        Environment("MARK").run_graph(executor="serial", prefixes={"frist": "env"})


def test_an_executor_may_be_a_provider_and_reporters_may_be_named(
    cache: Cache, capfd: pytest.CaptureFixture[str]
) -> None:
    provider = cache.registry.executor("serial")
    got, _ = Where().run_graph(executor=provider, reporters=["progress"])
    assert got[0] == os.getpid()
    assert "1 to run" in capfd.readouterr().err


# --- Paths of caches ---


def test_a_cache_path_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(CacheError, match="file"):
        Cache(path)
    assert path.read_text() == "mine"


def test_a_folder_with_something_else_in_it_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CacheError):
        Cache(tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("where", ["", None, 5])
def test_a_cache_without_a_path_is_an_error(where: Any) -> None:
    with pytest.raises(CacheError, match="give a path"):
        Cache(where)


def test_a_cache_is_made_from_a_path_a_name_or_a_backend(tmp_path: Path) -> None:
    with Cache(f'directory:{tmp_path}/it\'s a "cache"'):
        task = Where()
        task.run_graph(max_workers=1)
    with Cache(tmp_path / 'it\'s a "cache"') as again:
        assert Where().get_result()[0] != os.getpid()
    with Cache(again.backend):
        assert Where().get_result()[0] != os.getpid()
    with pytest.raises(TypeError, match="can't be pickled"):
        again.__reduce__()


# --- Changed sources ---

TASKS = """
LIMIT = {limit}

def helper(n):
    # {comment}
    return n {operator} LIMIT

from taskproc import Task

class Base(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        return helper(self.n)

class Top(Task):
    def __init__(self):
        self.up = Base(5)

    def run_task(self):
        return self.up.get_result()
"""

DRIVER = """
import json, sys
from taskproc import Cache
from tasks import Top

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    with Cache("cache"):
        answer, stats = Top().run_graph(executor="serial", **options)
    print(json.dumps([answer, sum(stats["stats"].values())]))
"""


def test_a_changed_helper_or_constant_reruns_what_reaches_it_unless_told_not_to(
    write: Callable[[str, str], Path], python: Callable[..., Any]
) -> None:
    def put(limit: int = 2, comment: str = "", operator: str = "+") -> None:
        write("tasks.py", TASKS.format(limit=limit, comment=comment, operator=operator))

    write("driver.py", DRIVER)
    put()
    assert python("driver.py", "{}") == [7, 2]
    assert python("driver.py", "{}") == [7, 0]
    put(comment="another comment")
    assert python("driver.py", "{}") == [7, 0]
    put(operator="*")
    assert python("driver.py", '{"detect_source_change": false}') == [7, 0]
    assert python("driver.py", "{}") == [10, 2]
    put(operator="*", limit=3)
    assert python("driver.py", "{}") == [15, 2]


def test_the_recursion_limit_and_the_path_are_left_alone(cache: Cache) -> None:
    before = sys.getrecursionlimit(), list(sys.path), os.getcwd(), dict(os.environ)
    Wheres(2).run_graph(max_workers=2)
    assert before == (sys.getrecursionlimit(), sys.path, os.getcwd(), dict(os.environ))
