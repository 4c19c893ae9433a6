"""What a run posts, heard by a cache that keeps every post, and by real caches."""

from __future__ import annotations

import getpass
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from taskproc import Cache, FutureList, Task
from taskproc.core.records import JSON, Event, Failure, Outcome, Plan, Reason, RunStats, TaskKey
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.engine.board import AtWork, Board, Subject, UnderWay
from taskproc.errors import FailedTaskError, TaskprocError

# --- a board alone ---

FIT = TaskKey("m.Fit", "f" * 32)
MAIN = TaskKey("m.Main", "0" * 32)


@dataclass
class Wall:
    """Where a board posts, in place of a cache."""

    location: str = "/cache"
    posted: list[Mapping[str, JSON]] = field(default_factory=list[Mapping[str, JSON]])
    noted: list[Event] = field(default_factory=list[Event])
    taken_down: list[str] = field(default_factory=list[str])
    error: Exception | None = None
    seconds: float = 0.0

    def scratch(self) -> Path:
        return Path(self.location, "jobs")

    def post(self, run: str, facts: Mapping[str, JSON]) -> None:
        if self.error is not None:
            raise self.error
        time.sleep(self.seconds)
        self.posted.append(facts)

    def unpost(self, run: str) -> None:
        if self.error is not None:
            raise self.error
        self.taken_down.append(run)

    def note(self, event: Event) -> None:
        if self.error is not None:
            raise self.error
        self.noted.append(event)


def board_on(wall: Wall, args: Mapping[str, JSON] | None = None, captured: bool = True) -> Board:
    plan = Plan(MAIN, {FIT: Reason("missing", ""), MAIN: Reason("missing", "")}, [])
    counts = {"waiting": 1, "running": 1, "done": 0, "failed": 0}
    stats = RunStats(
        stats={}, cached={}, failed={}, waiting_seconds={}, running_seconds={}, total_seconds={},
        elapsed_seconds=0.0,
    )  # fmt: skip
    subject = Subject("r1", plan, lambda: counts, lambda: stats, lambda key: args or {}, captured)
    return Board(wall, subject)  # type: ignore[arg-type]  # all of a cache that a board needs


def at_work(*jobs: UnderWay, settled: bool = True) -> Callable[[], AtWork]:
    return lambda: AtWork(jobs, settled)


def test_a_post_says_who_runs_what_and_how_far_it_is() -> None:
    wall = Wall()
    board = board_on(wall, {"n": 3})
    before = time.time()
    board.put_up(at_work(UnderWay(FIT, time.monotonic() - 10, pid=7)))
    board.refresh()
    (post,) = wall.posted
    assert (post["run"], post["entry"], post["pid"], post["host"], post["user"]) == (
        "r1", "m.Main", os.getpid(), os.uname().nodename, getpass.getuser(),
    )  # fmt: skip
    assert before - 1 <= post["started"] <= time.time()
    assert post["counts"] == {"total": 2, "finished": 0, "failed": 0, "cached": 0}
    assert post["left"] == {"m.Main": 1}
    (job,) = post["running"]
    assert (job["task"], job["key"], job["args"]) == ("m.Fit", "f" * 32, {"n": 3})
    assert (job["pid"], job["label"], job["log"]) == (7, "", "jobs/r1-7")
    assert before - 11 <= job["since"] <= before - 9


def test_output_is_where_the_kind_of_worker_has_it() -> None:
    wall = Wall()
    jobs = [
        UnderWay(FIT, 0.0, pid=os.getpid()),
        UnderWay(MAIN, 0.0, spool="/cache/jobs/t-1/task", label="gpu"),
        UnderWay(TaskKey("m.X", "a"), 0.0, spool="/elsewhere/task", label="gpu"),
    ]
    board = board_on(wall)
    board.put_up(at_work(*jobs))
    board.refresh()
    logs = [job["log"] for job in wall.posted[0]["running"]]
    assert logs == [f"jobs/r1-{'f' * 32}", "jobs/t-1/task", "/elsewhere/task"]


def test_no_output_is_kept_of_what_runs_in_place() -> None:
    wall = Wall()
    board = board_on(wall, captured=False)
    board.put_up(at_work(UnderWay(FIT, 0.0, pid=os.getpid())))
    board.refresh()
    assert wall.posted[0]["running"][0]["log"] is None


def test_changes_are_posted_twice_a_second_at_most_and_the_run_is_told_when_to_post_the_last() -> None:
    wall = Wall()
    board = board_on(wall)
    jobs: list[UnderWay] = []
    board.put_up(lambda: AtWork(list(jobs), True))
    begun = time.monotonic()
    while time.monotonic() - begun < 1.2:
        jobs[:] = [UnderWay(TaskKey("m.Fit", f"{time.monotonic()}"), 0.0)]
        board.refresh()
        time.sleep(0.001)
    assert 2 <= len(wall.posted) <= 3
    patience = board.patience(None)
    assert patience is not None
    assert 0 < patience <= 0.5
    assert board.patience(0.0) == 0.0
    time.sleep(patience)
    board.refresh()
    assert wall.posted[-1]["running"][0]["key"] == jobs[0].key.digest
    assert board.patience(None) is None


def test_what_did_not_change_is_not_posted_again() -> None:
    wall = Wall()
    board = board_on(wall)
    board.put_up(at_work(UnderWay(FIT, None, pid=7), settled=False))
    board.refresh()
    assert board.patience(None) is not None  # as it may change by itself
    time.sleep(0.55)
    board.refresh()
    assert len(wall.posted) == 1


def test_a_slow_cache_is_told_less_often_and_others_are_told_how_often() -> None:
    wall = Wall(seconds=0.03)
    board = board_on(wall)
    number = iter(range(100))
    board.put_up(lambda: AtWork([UnderWay(TaskKey("m.Fit", str(next(number))), 0.0)], True))
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:
        board.refresh()
        time.sleep(0.01)
    assert next(post["every"] for post in wall.posted) == 0.5
    assert len(wall.posted) == 2
    assert wall.posted[1]["every"] >= 1.5


def test_long_arguments_are_cut() -> None:
    wall = Wall()
    args = {
        "n": 1,
        "name": "x",
        "none": None,
        "list": [1, 2],
        "long": list(range(10_000)),
        "text": "y" * 10_000,
    }
    board = board_on(wall, args)
    board.put_up(at_work(UnderWay(FIT, 0.0)))
    board.refresh()
    shown = wall.posted[0]["running"][0]["args"]
    assert {name: shown[name] for name in ("n", "name", "none", "list")} == {
        "n": 1, "name": "x", "none": None, "list": [1, 2],
    }  # fmt: skip
    assert len(shown["long"]) == len(shown["text"]) == 400
    assert shown["long"].startswith("[0, 1, ")
    assert shown["long"].endswith("...")


def test_a_board_that_breaks_says_so_once_and_is_silent_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wall = Wall(error=ValueError("no wall"))
    board = board_on(wall)
    board.put_up(at_work())
    with caplog.at_level(logging.WARNING, logger="taskproc"):
        for _ in range(3):
            board.refresh()
            board.before_in_place(None)
            assert board.patience(None) is None  # the run must not turn in circles for it
            board.note_failure(Outcome(FIT, "failed", failure=Failure("ValueError", "x")))
        board.take_down()
    assert [record.getMessage() for record in caplog.records] == [
        "the cache /cache can't tell others of this run, which goes on: ValueError: no wall"
    ]


def test_a_board_that_never_posted_has_nothing_to_take_down() -> None:
    wall = Wall()
    board_on(wall).take_down()
    assert wall.taken_down == []


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure("ZeroDivisionError", "division by zero"), "ZeroDivisionError: division by zero"),
        (Failure("KeyboardInterrupt", ""), "KeyboardInterrupt"),
        (Failure("m.Wrong", "one\n  two\n"), "m.Wrong: one two"),
        (None, "failed"),
    ],
)
def test_a_failure_is_noted_in_one_line(failure: Failure | None, text: str) -> None:
    wall = Wall()
    board_on(wall, {"n": 3}).note_failure(Outcome(FIT, "failed", failure=failure))
    (event,) = wall.noted
    assert (event.kind, event.key, event.text, event.args) == ("failed", FIT, text, {"n": 3})
    assert event.when is not None
    assert abs(event.when - time.time()) < 5
    assert event.who == f"{getpass.getuser()}@{os.uname().nodename}, process {os.getpid()}"


def test_a_long_message_of_a_failure_is_cut() -> None:
    wall = Wall()
    board_on(wall).note_failure(Outcome(FIT, "failed", failure=Failure("ValueError", "x" * 10_000)))
    assert len(wall.noted[0].text) == 300
    assert wall.noted[0].text.endswith("...")


def test_short_jobs_in_place_are_not_each_posted_and_a_long_one_is_at_once() -> None:
    wall = Wall(seconds=0.001)
    board = board_on(wall)
    number = iter(range(10_000))
    board.put_up(lambda: AtWork([UnderWay(TaskKey("m.Fit", str(next(number))), 0.0)], True))
    begun = time.monotonic()
    board.before_in_place(None)
    for _ in range(100):
        board.before_in_place(0.0001)
    posts = len(wall.posted)
    assert 1 <= posts <= 1 + (time.monotonic() - begun) / 0.05
    board.before_in_place(10.0)
    assert len(wall.posted) == posts + 1
    time.sleep(0.2)
    board.before_in_place(0.0001)
    assert len(wall.posted) == posts + 2


# --- runs ---


@dataclass(frozen=True)
class Watched(DirectoryCache):
    """A directory cache that lets a test see what is posted."""

    name: ClassVar[str] = "watched"
    posted: ClassVar[list[Mapping[str, JSON]]]

    def post(self, run: str, facts: Mapping[str, JSON]) -> None:
        type(self).posted.append(facts)
        super().post(run, facts)


class Quick(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


class Wide(Task):
    def __init__(self, width: int) -> None:
        self.parts = FutureList([Quick(n) for n in range(width)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())


class Held(Task):
    """Runs until a file is there, after a quick upstream."""

    def __init__(self, path: str, label: str = "held") -> None:
        self.path = path
        self.label = label
        self.upstream = Quick(1)

    def run_task(self) -> int:
        print("held")
        deadline = time.monotonic() + 30
        while not os.path.exists(self.path) and time.monotonic() < deadline:
            time.sleep(0.01)
        return os.getpid()


class Mixed(Task):
    """Tasks that nobody can tell apart beforehand, and one of them takes its time."""

    def __init__(self, path: str, number: int, slow: int) -> None:
        self.path = path
        self.number = number
        self.slow = slow

    def run_task(self) -> int:
        if self.number == self.slow:
            deadline = time.monotonic() + 30
            while not os.path.exists(self.path) and time.monotonic() < deadline:
                time.sleep(0.01)
        return os.getpid()


class Mixture(Task):
    def __init__(self, path: str, size: int, slow: int) -> None:
        self.parts = FutureList([Mixed(path, number, slow) for number in range(size)])

    def run_task(self) -> list[int]:
        return self.parts.get_result()


class Fails(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> float:
        print("it fails")
        return 1 / self.n


class SeesItself(Task):
    """Looks, while it runs, at what is posted of its own run."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.upstreams = FutureList([Quick(n) for n in range(20)])

    def run_task(self) -> list[Any]:
        return [job["task"] for post in DirectoryCache(Path(self.root)).posts() for job in post["running"]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Runs a function in a thread; what comes back has its result."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


def until(look: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first answer of `look` that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = look()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"nothing came within {seconds} s")


def running_in(root: Path) -> list[Mapping[str, JSON]]:
    return [job for post in DirectoryCache(root).posts() for job in post["running"]]


def run_held(root: Path, go: Path, **options: Any) -> int:
    with Cache(root):
        answer, _ = Held(str(go)).run_graph(**options)
        return int(answer)


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "thread"},
        {"executor": "process"},
        {"executor": "serial"},
        {"prefixes": {"test_board.Held": "nice -n 1"}},
    ],
    ids=["thread", "process", "serial", "launched"],
)
def test_a_long_job_is_seen_while_it_runs_and_the_run_is_gone_at_its_end(
    root: Path, tmp_path: Path, in_background: Any, options: dict[str, Any]
) -> None:
    go = tmp_path / "go"
    future = in_background(lambda: run_held(root, go, **options))
    try:
        held = lambda: [job for job in running_in(root) if job["task"].endswith("Held")]  # noqa: E731
        pid = os.getpid() if options.get("executor") in ("thread", "serial") else None
        if options.get("executor") == "process":
            until(lambda: any(job["pid"] for job in held()))
        (job,) = until(held)
        assert abs(job["since"] - time.time()) < 20
        assert pid is None or job["pid"] == pid
        (post,) = DirectoryCache(root).posts()
        assert post["counts"] == {"total": 2, "finished": 1, "failed": 0, "cached": 0}
        assert post["left"] == {}
        if job["log"] is not None:
            spool = root / f"{job['log']}.out"
            until(lambda: spool.exists() and spool.read_text() == "held\n")
        else:
            assert options == {"executor": "serial"}
    finally:
        go.touch()
    if options.get("executor") == "process":
        assert future.result() == job["pid"]
    future.result()
    assert DirectoryCache(root).posts() == []


def test_which_job_of_a_batch_runs_is_told_with_its_process(
    root: Path, tmp_path: Path, in_background: Any
) -> None:
    go = tmp_path / "go"
    slow = 570

    def run() -> list[int]:
        with Cache(root):
            answer: list[int] = Mixture(str(go), 600, slow).run_graph(executor="process", max_workers=1)[0]
            return answer

    future = in_background(run)
    try:
        (job,) = until(lambda: [job for job in running_in(root) if job["args"].get("number") == slow])
    finally:
        go.touch()
    assert future.result()[slow] == job["pid"]


def test_a_run_of_many_quick_tasks_posts_hardly_ever(root: Path) -> None:
    Watched.posted = []
    with Cache(Watched(root)):
        _, stats = Wide(3000).run_graph(executor="thread")
    assert stats["stats"]["test_board.Quick"] == 3000
    assert 1 <= len(Watched.posted) <= 2 + 2.1 * stats["elapsed_seconds"]


def test_a_run_with_nothing_to_do_posts_nothing(root: Path) -> None:
    Watched.posted = []
    with Cache(Watched(root)):
        Quick(1).run_graph(executor="serial")
        assert Watched.posted
        Watched.posted = []
        Quick(1).run_graph(executor="serial")
    assert Watched.posted == []


def test_a_job_in_place_is_posted_before_it_runs(root: Path) -> None:
    with Cache(root):
        seen, _ = SeesItself(str(root)).run_graph(executor="serial")
    assert seen == ["test_board.SeesItself"]


def test_a_failed_job_is_noted_with_its_arguments_and_the_post_is_gone(root: Path) -> None:
    with Cache(root) as cache:
        with pytest.raises(FailedTaskError):
            Fails(0).run_graph(executor="thread")
        (entry,) = cache.backend.stored("test_board.Fails")
        assert entry.record is None
        assert entry.failure is not None
        assert entry.failure.text == "ZeroDivisionError: division by zero"
        assert entry.failure.args == {"n": 0}
        assert cache.backend.posts() == []


def test_a_cancelled_job_is_no_failure_and_an_interrupted_run_is_gone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(root) as cache:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), 2))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            Held(str(tmp_path / "never")).run_graph(executor="process", max_workers=1)
        timer.join()
        assert cache.backend.posts() == []
        assert list(cache.backend.stored("test_board.Held")) == []


def test_a_cache_that_can_not_post_does_not_hurt_the_run(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @dataclass(frozen=True)
    class Mute(DirectoryCache):
        name: ClassVar[str] = "mute"

        def post(self, run: str, facts: Mapping[str, JSON]) -> None:
            raise TaskprocError("nothing is posted here")

        unpost = note = post  # type: ignore[assignment]

    with caplog.at_level(logging.WARNING, logger="taskproc"), Cache(Mute(root)):
        assert Wide(300).run_graph(executor="thread")[0] == sum(range(300))
        assert Wide(301).run_graph(executor="serial")[0] == sum(range(301))
        with pytest.raises(FailedTaskError, match="division by zero"):
            Fails(0).run_graph(executor="serial")
    assert len(caplog.records) == 3  # once for each run
