"""The threads that start and watch launched jobs hear of every one of them, whatever goes wrong."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from taskproc.engine import exit_watch, launch
from taskproc.engine.jobs import Answer, pack_answers
from taskproc.engine.launch import Launches
from taskproc.interfaces import Failure, Holder, Job, Launcher, Outcome, TaskKey

TOO_LONG = Failure("TooLong", "it took too long")


@dataclass(frozen=True)
class Leaves(Launcher):
    """Leaves an outcome file of this content, and fails."""

    name: ClassVar[str] = "leaves"
    content: bytes = b""

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        (Path(job.job_directory) / "outcome.pkl").write_bytes(self.content)
        return ["false"]


@dataclass(frozen=True)
class Shell(Launcher):
    """Runs a script in the job's folder, and notes what it is to cancel."""

    name: ClassVar[str] = "shell"
    script: str
    cancelled: list[list[str]] = field(default_factory=list[list[str]])

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        return ["sh", "-c", f'cd "$1"; {self.script}', "sh", job.job_directory]

    def cancel(self, jobs: Sequence[Job]) -> None:
        self.cancelled.append([job.name for job in jobs])


def job(folder: Path, number: int = 0) -> Job:
    return Job(
        key=TaskKey("tasks.One", f"{number:032}"),
        task_id=1,
        args={},
        labels=("tasks.One",),
        label="tasks.One",
        job_directory=str(folder),
        stdout=str(folder / "client.out"),
        stderr=str(folder / "client.err"),
        name=f"t-One-{number}",
    )


def answer_of(kind: str, number: int = 0) -> bytes:
    return pack_answers([Answer(Outcome(job(Path(), number).key, kind, 1.5))])  # type: ignore[arg-type]


class Run:
    """Launches, the outcomes that came out, and what the run answers when it is asked."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.holder: Holder | None = None
        self.saved: Outcome | None = None
        self.kept: list[Path] = []
        self.launches = Launches(
            self.outcomes.put,
            lambda _: self.saved,
            lambda _, spool, __: self.kept.append(spool),
            lambda _: self.holder,
            lambda: {"run": "r1", "ticket": "t1"},
        )

    def start(self, launcher: Launcher, number: int = 0) -> Job:
        started = job(self.folder / f"job{number}", number)
        self.launches.start(started, launcher, ["worker"], b"orders")
        return started

    def next(self) -> Outcome:
        return self.outcomes.get(timeout=30)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(launch, "_LATE_RECORD_SECONDS", 0.3)
    one = Run(tmp_path)
    yield one
    one.launches.close()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def noted(path: Path) -> list[int]:
    """The numbers of processes that a script wrote to a file, a line each."""
    with suppress(FileNotFoundError):
        text = path.read_text()
        return [int(line) for line in text.splitlines()] if text.endswith("\n") else []
    return []


# --- Outcomes ---


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x05\x95half", b"cno_such_module\nX\n.", pickle.dumps([(1, 2)]), pickle.dumps(None)],
    ids=["empty", "half", "another version's", "too short", "nothing"],
)
def test_an_outcome_that_cant_be_read_is_none_and_the_job_fails(run: Run, content: bytes) -> None:
    run.start(Leaves(content=content))
    outcome = run.next()
    assert outcome.kind == "failed"
    assert outcome.failure is not None
    assert "left no result" in outcome.failure.message


def test_a_cache_that_raises_while_it_is_asked_for_a_record_fails_that_job(tmp_path: Path) -> None:
    def ask(_: Job) -> Outcome | None:
        raise ZeroDivisionError("the cache")

    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    launches = Launches(outcomes.put, ask, lambda *_: None)
    launches.start(job(tmp_path / "job"), Leaves(), [], b"")
    outcome = outcomes.get(timeout=10)
    launches.close()
    assert outcome.failure is not None
    assert outcome.failure.type == "ZeroDivisionError"


def test_a_worker_that_gives_its_job_back_again_and_again_fails_it_in_the_end(run: Run) -> None:
    outcomes: list[Outcome] = []
    for _ in range(3):
        run.start(Leaves(content=answer_of("returned")))
        outcomes.append(run.next())
    assert [outcome.kind for outcome in outcomes] == ["returned", "returned", "failed"]
    failure = outcomes[-1].failure
    assert failure is not None
    assert "could not claim the task" in failure.message


def test_a_job_that_another_run_ended_and_tidied_up_is_given_back(run: Run) -> None:
    run.start(Shell("touch started; exec sleep 600"))
    wait_for(lambda: (run.folder / "job0" / "started").exists())
    shutil.rmtree(run.folder / "job0")
    for process in list(run.launches._running):
        process.kill()
    assert run.next().kind == "returned"


def test_the_orders_of_a_failed_job_are_taken_away_and_what_its_client_said_stays(run: Run) -> None:
    one = run.start(Shell("echo no such queue >&2; exit 3"))
    outcome = run.next()
    assert outcome.failure is not None
    assert "exit code 3" in outcome.failure.message
    assert "no such queue" in outcome.failure.message
    assert sorted(os.listdir(one.job_directory)) == ["client.err", "client.out", "job.json"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_jobs_folder_and_files_are_its_owners_alone_whatever_the_umask(run: Run, umask: int) -> None:
    before = os.umask(umask)
    try:
        one = run.start(Shell("while [ ! -e ../go ]; do sleep 0.02; done"))
        folder = Path(one.job_directory)
        # The second time it is written with the client in it.
        wait_for(lambda: (folder / "job.json").exists() and b"client" in (folder / "job.json").read_bytes())
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(["job.json", "orders.pkl", "client.out", "client.err"], 0o600)
    (run.folder / "go").touch()
    run.next()


# --- Clients that hang ---


@pytest.mark.parametrize("kind", ["finished", "failed"])
def test_a_client_that_hangs_when_its_job_is_over_is_ended_and_the_outcome_taken(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(launch, "_HUNG_CLIENT_SECONDS", 0.2)
    (run.folder / "answer").write_bytes(answer_of(kind))
    script = "cp ../answer outcome.part; mv outcome.part outcome.pkl; sleep 600 & echo $! > ../pids; "
    run.start(Shell(f'trap "" TERM; {script} wait; sleep 600'))
    outcome = run.next()
    assert (outcome.kind, outcome.seconds) == (kind, 1.5)
    (left,) = noted(run.folder / "pids")
    wait_for(lambda: not is_alive(left))


def test_a_client_that_never_starts_its_job_holds_up_no_other(run: Run) -> None:
    run.start(Shell("sleep 600"), 0)
    for number in (1, 2, 3):
        run.start(Leaves(content=answer_of("finished", number)), number)
        assert run.next().key == job(Path(), number).key
    assert run.launches.started(job(Path(), 0).key) is None


def test_a_launcher_that_hangs_when_it_is_asked_for_its_command_holds_up_its_own_jobs_only(run: Run) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Hangs(Leaves):
        def command(self, argv: Sequence[str], job: Job) -> list[str]:
            asked.set()
            answer.wait(60)
            return super().command(argv, job)

    run.start(Hangs(content=answer_of("finished", 0)), 0)
    assert asked.wait(30)
    run.start(Leaves(content=answer_of("finished", 1)), 1)
    assert run.next().key == job(Path(), 1).key
    answer.set()
    assert run.next().kind == "finished"


def test_a_job_whose_launcher_hangs_when_it_is_asked_for_its_command_can_be_cancelled(run: Run) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Hangs(Shell):
        def command(self, argv: Sequence[str], job: Job) -> list[str]:
            asked.set()
            answer.wait(60)
            return super().command(argv, job)

    one = run.start(Hangs("touch ../ran"))
    assert asked.wait(30)
    run.launches.cancel()
    assert run.next().kind == "cancelled"
    answer.set()
    wait_for(lambda: not os.path.exists(one.job_directory))
    assert not (run.folder / "ran").exists()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("command", "ZeroDivisionError"),
        ("environment", "ZeroDivisionError"),
        ("missing", "FileNotFoundError"),
    ],
)
def test_a_client_that_cant_be_started_fails_its_own_job_and_leaves_nothing(
    run: Run, what: str, told: str
) -> None:
    class Broken(Leaves):
        def command(self, argv: Sequence[str], job: Job) -> list[str]:
            if what == "command":
                raise ZeroDivisionError("in the launcher")
            return ["/no/such/command"]

        def environment(self, job: Job) -> dict[str, str]:
            if what == "environment":
                raise ZeroDivisionError("in the launcher")
            return {}

    one = run.start(Broken(), 0)
    outcome = run.next()
    assert outcome.failure is not None
    assert outcome.failure.type == told
    assert not os.path.exists(one.job_directory)
    run.start(Leaves(content=answer_of("finished", 1)), 1)
    assert run.next().kind == "finished"


# --- Clients that end before their jobs ---


def test_a_job_that_goes_on_without_its_client_is_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "_HELD_PAUSE", 0.05)
    asked: list[TaskKey] = []

    def holder(key: TaskKey) -> Holder:
        asked.append(key)
        return Holder("node7", 4711, True, "pid 4711 on host node7")

    run.launches._holder = holder
    with caplog.at_level(logging.WARNING, "taskproc"):
        one = run.start(Shell("kill -9 $$"))
        wait_for(lambda: len(asked) > 3)
    assert run.outcomes.empty()
    assert [record.getMessage().count("node7") for record in caplog.records] == [1]
    assert not (Path(one.job_directory) / "orders.pkl").exists()  # nobody may begin with them now
    (Path(one.job_directory) / "outcome.pkl").write_bytes(answer_of("finished"))
    assert run.next().kind == "finished"


def test_a_job_that_has_stored_its_result_and_not_told_so_is_waited_for_as_it_still_keeps_its_output(
    run: Run,
) -> None:
    one = job(Path())
    run.holder = Holder("node7", 4711, True, "pid 4711 on host node7")
    run.saved = Outcome(one.key, "finished", 1.0)
    run.start(Shell("exit 1"))
    wait_for(lambda: run.launches._ended and run.launches._ended[0].pause)  # it was looked at
    assert run.outcomes.empty()
    (run.folder / "job0" / "outcome.pkl").write_bytes(answer_of("finished"))
    run.holder = None
    assert run.next().seconds == 1.5
    assert run.kept == []


def test_what_a_job_printed_that_died_when_its_result_was_stored_is_kept(run: Run) -> None:
    run.saved = Outcome(job(Path()).key, "finished", 1.0)
    run.start(Shell("kill -9 $$"))
    assert run.next().kind == "finished"
    assert run.kept == [run.folder / "job0" / "task"]


def test_a_job_that_dies_after_its_client_has_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_HELD_PAUSE", 0.05)
    run.holder = Holder("node7", 4711, True, "pid 4711 on host node7")
    run.start(Shell("exit 1"))
    wait_for(lambda: run.launches._ended and run.launches._ended[0].is_orphan)
    run.holder = None
    outcome = run.next()
    assert outcome.failure is not None
    assert "exit code 1" in outcome.failure.message


def test_a_claim_of_a_runner_is_not_waited_for(run: Run) -> None:
    run.holder = Holder("node7", 4711, False, "pid 4711 on host node7")
    run.start(Shell("exit 1"))
    assert run.next().kind == "failed"


def test_a_job_whose_client_is_killed_and_that_nobody_holds_has_failed(run: Run) -> None:
    launcher = Shell("kill -9 $$")
    run.start(launcher)
    outcome = run.next()
    assert outcome.failure is not None
    assert "SIGKILL" in outcome.failure.message
    wait_for(lambda: launcher.cancelled)  # it may still wait in a queue


def test_a_launcher_that_hangs_when_it_is_asked_why_a_job_failed_is_not_asked_again(run: Run) -> None:
    answer = threading.Event()

    class Hangs(Shell):
        def explain(self, returncode: int, stderr: str) -> str:
            answer.wait(60)
            return "too late"

    hangs, begun = Hangs("exit 3"), time.monotonic()
    for number in range(20):
        run.start(hangs, number)
    failures = [run.next().failure for _ in range(20)]
    assert time.monotonic() - begun < 30  # 20 times its patience are 40
    answer.set()
    assert all(failure is not None and "does not answer" in failure.message for failure in failures)
    assert all(failure is not None and "exit code 3" in failure.message for failure in failures)


# --- Ending ---


def test_all_jobs_are_cancelled_once_a_launcher_though_one_hangs_and_one_raises(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    class Hangs(Shell):
        def cancel(self, jobs: Sequence[Job]) -> None:
            done.wait(60)

    class Raises(Shell):
        def cancel(self, jobs: Sequence[Job]) -> None:
            raise ZeroDivisionError("no connection")

    works, hangs, raises = Shell("echo > up; sleep 600"), Hangs("sleep 600"), Raises("sleep 600")
    jobs = [run.start([works, hangs, raises][number % 3], number) for number in range(12)]
    wait_for(lambda: all((Path(one.job_directory) / "up").exists() for one in jobs[::3]))
    wait_for(lambda: len(run.launches._running) == 12)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, "taskproc"):
        run.launches.cancel()
    assert time.monotonic() - begun < 4
    done.set()
    assert sorted(run.next().kind for _ in jobs) == ["cancelled"] * 12
    assert works.cancelled == [[one.name for one in jobs[::3]]]
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "it does not answer" in told
    assert "no connection" in told
    # What could not be cancelled is kept for the next run.
    assert sorted(os.listdir(run.folder)) == sorted(f"job{n}" for n in range(12) if n % 3)


def test_nothing_of_a_hundred_clients_that_ignore_sigterm_is_left_within_four_seconds(run: Run) -> None:
    for number in range(100):
        run.start(Shell(f'trap "" TERM; echo $$ > ../pid{number}; while :; do sleep 600; done'), number)
    wait_for(lambda: all(noted(run.folder / f"pid{number}") for number in range(100)), seconds=120)
    begun = time.monotonic()
    run.launches.cancel()
    seconds = time.monotonic() - begun
    assert seconds < 4
    assert {run.next().kind for _ in range(100)} == {"cancelled"}
    assert sessions_of([noted(run.folder / f"pid{number}")[0] for number in range(100)]) == []


def sessions_of(leaders: list[int]) -> list[str]:
    """The processes that are left in these sessions."""
    done = subprocess.run(["ps", "-eo", "sess=,stat=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [" ".join(line) for line in lines if int(line[0]) in leaders and line[1][0] != "Z"]


def test_what_a_client_started_in_process_groups_of_its_own_ends_with_it(run: Run) -> None:
    # With job control a shell gives each command in the background a process group.
    script = "set -m; sh -c \"trap '' TERM; sleep 600\" & sleep 601 & echo $$ > ../pid; wait"
    run.start(Shell(script))
    wait_for(lambda: noted(run.folder / "pid"))
    (leader,) = noted(run.folder / "pid")
    wait_for(lambda: len(sessions_of([leader])) >= 3)
    run.launches.cancel()
    assert run.next().kind == "cancelled"
    wait_for(lambda: not sessions_of([leader]), seconds=2)


def test_one_job_is_ended_for_a_reason_and_the_others_go_on(run: Run) -> None:
    ends, stays = Shell("touch started; sleep 600"), Shell("while [ ! -e ../go ]; do sleep 0.02; done")
    run.start(ends, 0)
    run.start(stays, 1)
    key = job(Path(), 0).key
    wait_for(lambda: run.launches.started(key))
    begun = run.launches.started(key)
    assert begun is not None
    assert 0 <= time.monotonic() - begun < 30
    run.launches.end(key, TOO_LONG)
    run.launches.end(key, TOO_LONG)  # the second time changes nothing
    outcome = run.next()
    assert (outcome.key, outcome.kind, outcome.failure) == (key, "failed", TOO_LONG)
    assert [spool.name for spool in run.kept] == ["task"]  # what it printed is kept
    wait_for(lambda: ends.cancelled == [["t-One-0"]])
    (run.folder / "go").touch()
    assert run.next().key == job(Path(), 1).key
    assert run.outcomes.empty()


def test_a_job_that_is_ended_though_its_result_is_there_has_finished(run: Run) -> None:
    (run.folder / "answer").write_bytes(answer_of("finished"))
    run.start(Shell("cp ../answer outcome.part; mv outcome.part outcome.pkl; sleep 600"))
    wait_for(lambda: (run.folder / "job0" / "outcome.pkl").exists())
    run.launches.end(job(Path()).key, TOO_LONG)
    assert run.next().kind == "finished"


def test_a_job_is_ended_whose_client_has_ended_already(run: Run) -> None:
    run.holder = Holder("node7", 4711, True, "pid 4711 on host node7")
    launcher = Shell("kill -9 $$")
    run.start(launcher)
    wait_for(lambda: run.launches._ended and run.launches._ended[0].is_orphan)
    run.launches.end(job(Path()).key, TOO_LONG)
    outcome = run.next()
    assert outcome.failure == TOO_LONG
    wait_for(lambda: launcher.cancelled)


# --- Many of them ---


@pytest.mark.parametrize("how", ["told", "asked"])
def test_the_ends_of_many_clients_are_heard_of(run: Run, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "asked":
        monkeypatch.setattr(exit_watch.resource, "getrlimit", lambda _: (4, 4))
    for number in range(40):
        run.start(Shell("while [ ! -e ../go ]; do sleep 0.1; done"), number)
    wait_for(lambda: len(run.launches._running) == 40)
    (run.folder / "go").touch()
    assert {run.next().key.digest for _ in range(40)} == {f"{number:032}" for number in range(40)}


def test_a_watch_hears_of_ends_by_descriptors_and_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_watch.resource, "getrlimit", lambda _: (8, 8))  # two descriptors, and no more
    watch = exit_watch.ExitWatch()
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(4)]
    for process in processes:
        watch.add(process)
    assert watch.wait(0.01) == []
    watch.wake()
    assert watch.wait(60) == []
    for process in processes:
        process.send_signal(signal.SIGKILL)
    heard: list[subprocess.Popen[bytes]] = []
    deadline = time.monotonic() + 30
    while len(heard) < 4 and time.monotonic() < deadline:
        heard += watch.wait(1)
    watch.close()
    assert sorted(process.pid for process in heard) == sorted(process.pid for process in processes)
    assert {process.returncode for process in heard} == {-signal.SIGKILL}


def test_a_job_whose_client_can_not_be_killed_has_not_failed_if_its_result_is_stored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(launch, "end_clients", lambda _: [])  # as one that hangs in a dead disk
    run.start(Shell("touch started; sleep 600"))
    key = job(Path()).key
    wait_for(lambda: run.launches.started(key))
    run.saved = Outcome(key, "finished", 1.0)
    run.launches.end(key, TOO_LONG)
    assert run.next().kind == "finished"
