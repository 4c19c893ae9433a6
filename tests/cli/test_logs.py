"""`taskproc logs`: of tasks that ran, and of tasks that run in other processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskproc.cli.chosen import Candidate, Wanted, full_name, read_wanted
from taskproc.core.records import TaskKey
from taskproc.errors import UsageError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]
Write = Callable[[str, str], Path]

TASKS = """
import os, sys, time
from taskproc import FutureList, Task

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

class Says(Task):
    def __init__(self, n: int, word: str = "word"):
        self.n = n
    def run_task(self):
        print("out", self.n)
        print("err", self.n, file=sys.stderr)
        return self.n

class Raw(Task):
    def run_task(self):
        os.write(1, bytes(range(256)))
        os.write(2, b"\\xff\\x00\\r\\n")

class Fails(Task):
    def __init__(self, n: int):
        self.n = n
    def run_task(self):
        print("it fails")
        return self.n / 0

class Mute(Task):
    def run_task(self):
        pass

class All(Task):
    def __init__(self):
        self.parts = FutureList([*[Says(n) for n in range(3)], Raw(), Mute()])
    def run_task(self):
        return len(self.parts.get_result())

class Held(Task):
    '''Prints at once, and again when the file `go` is there.'''
    task_label = "held"
    def __init__(self, n: int = 0):
        self.n = n
    def run_task(self):
        print("begin", self.n)
        print("begin err", self.n, file=sys.stderr)
        wait_for("go")
        for line in range(20000):
            print("line", line)
        print("end err", file=sys.stderr)

class Holding(Task):
    def __init__(self, n: int = 1):
        self.parts = FutureList([Held(i) for i in range(n)])
    def run_task(self):
        pass

class Quiet(Task):
    '''Prints nothing, and is held.'''
    def run_task(self):
        wait_for("go")

class Loud(Task):
    '''Runs after Quiet, on the same worker.'''
    def __init__(self):
        self.quiet = Quiet()
    def run_task(self):
        for n in range(100):
            print("loud", n)
            time.sleep(0.03)

class After(Task):
    '''Is not begun before the file `go` is there.'''
    def __init__(self):
        self.quiet = Quiet()
    def run_task(self):
        print("after")
"""


@pytest.fixture
def tasks(write: Write) -> Path:
    return write("tasks.py", TASKS)


@pytest.fixture
def logs(run: Run) -> Run:
    """`logs("Says", "n=1")` is `taskproc logs -o cache Says n=1`."""
    return lambda *words: run("logs", "-o", "cache", *words)


@pytest.fixture
def ran(run: Run, tasks: Path) -> None:
    """What `All` prints is stored."""
    assert run(f"{tasks}:All", "-o", "cache", "-n", "2").returncode == 0


def until(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = look()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} s")


def runs(run: Run, tmp_path: Path, name: str) -> Callable[[], bool]:
    """Whether a task of this name is running."""

    def look() -> bool:
        if not (tmp_path / "cache" / "taskproc.json").exists():
            return False
        return f"  tasks.{name}/" in run("status", "-o", "cache").stdout

    return look


def kept(tmp_path: Path, name: str, stream: str = "stdout") -> list[str]:
    """The logs of this name that are in the cache, read by hand."""
    return [
        file.read_text() for file in sorted((tmp_path / "cache" / f"tasks.{name}").glob(f"*/{stream}.txt"))
    ]


# --- what ran ---


@pytest.mark.usefixtures("ran")
def test_stdout_goes_to_stdout_and_stderr_to_stderr(logs: Run) -> None:
    done = logs("tasks.Says", "n=1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out 1\n", "err 1\n")


@pytest.mark.usefixtures("ran")
def test_one_stream_alone_can_be_asked_for(logs: Run) -> None:
    assert (logs("Says", "n=1", "--stdout").stdout, logs("Says", "n=1", "--stdout").stderr) == ("out 1\n", "")
    assert (logs("Says", "n=1", "--stderr").stdout, logs("Says", "n=1", "--stderr").stderr) == ("", "err 1\n")
    both = logs("Says", "n=1", "--stdout", "--stderr")
    assert (both.stdout, both.stderr) == ("out 1\n", "err 1\n")


@pytest.mark.usefixtures("ran")
def test_bytes_come_as_they_were_printed(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskproc", "logs", "-o", "cache", "Raw"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, bytes(range(256)), b"\xff\x00\r\n")


@pytest.mark.usefixtures("ran")
def test_a_task_that_printed_nothing_says_so_on_stderr_alone(logs: Run) -> None:
    done = logs("Mute")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"taskproc: nothing is kept of what tasks\.Mute/\w{32} printed\n", done.stderr)


@pytest.mark.usefixtures("ran")
def test_following_a_task_that_is_over_ends_at_once(logs: Run) -> None:
    done = logs("Says", "n=2", "-f")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out 2\n", "err 2\n")


@pytest.mark.usefixtures("ran")
def test_of_several_tasks_none_is_shown_and_all_are_listed(logs: Run, expect_one_error: Any) -> None:
    done = logs("Says")
    expect_one_error(done, 2, "3 tasks of the name tasks.Says match", "by its arguments")
    listed = re.findall(r"^  tasks\.Says/(\w{8})  done  .*  (\{.*\})$", done.stderr, re.MULTILINE)
    assert sorted(args for _, args in listed) == [f'{{"n": {n}, "word": "word"}}' for n in range(3)]
    for key, args in listed:
        assert logs(f"Says/{key}").stdout == f"out {args[6]}\n"


@pytest.mark.usefixtures("ran")
def test_arguments_are_given_as_json_or_as_text(logs: Run, expect_one_error: Any) -> None:
    assert logs("Says", "n=1", "word=word").stdout == "out 1\n"
    assert logs("Says", 'word="word"', "n=1.0").stdout == "out 1\n"
    expect_one_error(logs("Says", "n=9"), 2, "nothing is stored of Says n=9", '{"n": 0, "word": "word"}')
    expect_one_error(logs("Says", "wrd=1"), 2, "has an argument 'wrd'", "did you mean 'word'")
    expect_one_error(logs("Says", "n"), 2, "NAME=VALUE")
    expect_one_error(logs("Says/ffffffffff", "n=1"), 2, "nothing is stored of Says/ffffffffff n=1")


@pytest.mark.usefixtures("ran")
def test_a_name_that_is_not_there_is_guessed_at(logs: Run, expect_one_error: Any) -> None:
    expect_one_error(logs("Sayz"), 2, "'Sayz'", "did you mean 'Says'?")
    expect_one_error(logs("tasks.Sais"), 2, "did you mean 'tasks.Says'?")
    expect_one_error(logs("Quintessence"), 2, "there are tasks.All, tasks.Mute, tasks.Raw, tasks.Says")


def test_the_output_of_a_failed_task_is_shown(
    run: Run, tasks: Path, logs: Run, expect_one_error: Any
) -> None:
    for n in (1, 2):
        assert run(f"{tasks}:Fails", "-o", "cache", "-a", f"n={n}").returncode == 1
    assert logs("Fails", "n=2").stdout == "it fails\n"
    done = logs("Fails")
    expect_one_error(done, 2, "2 tasks")
    assert re.search(r'^  tasks\.Fails/\w{8}  failed  .*  \{"n": 1\}$', done.stderr, re.MULTILINE)


def test_nothing_is_stored_in_an_empty_cache(logs: Run, tmp_path: Path, expect_one_error: Any) -> None:
    (tmp_path / "cache").mkdir()
    expect_one_error(logs("Main"), 2, "nothing is stored of a task 'Main'")
    expect_one_error(logs("Main", "-f"), 2, "nothing is stored of a task 'Main'")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("ran")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m taskproc logs -o cache Says n=1 | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) in ((0, "err 1\n"), (0, ""))


# --- what runs ---

EXECUTORS = pytest.mark.parametrize(
    "options",
    [["-x", "process"], ["-x", "thread"], ["--prefix", "held=nice -n 1"]],
    ids=["process", "thread", "launched"],
)


@EXECUTORS
def test_following_shows_what_is_printed_while_it_is_and_every_byte_once(
    run: Run, start: Start, tasks: Path, tmp_path: Path, options: list[str]
) -> None:
    runner = start("run", f"{tasks}:Holding", "-o", "cache", "-n", "1", *options)
    until(runs(run, tmp_path, "Held"))
    follower = start("logs", "-o", "cache", "Held", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "begin 0\n"  # long before the task has ended
    assert not (tmp_path / "go").exists()
    (tmp_path / "go").touch()
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    assert runner.wait(60) == 0
    assert ["begin 0\n" + out] == kept(tmp_path, "Held")
    assert [err] == kept(tmp_path, "Held", "stderr") == ["begin err 0\nend err\n"]


@EXECUTORS
def test_without_following_what_was_printed_so_far_is_shown(
    run: Run, start: Start, tasks: Path, tmp_path: Path, logs: Run, options: list[str]
) -> None:
    start("run", f"{tasks}:Holding", "-o", "cache", *options)
    until(runs(run, tmp_path, "Held"))
    done = until(lambda: (now := logs("Held")).stdout and now)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begin 0\n", "begin err 0\n")
    (tmp_path / "go").touch()


def test_of_several_tasks_the_one_that_runs_is_followed(
    run: Run, start: Start, tasks: Path, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    assert run(f"{tasks}:Holding", "-o", "cache", "-a", "n=2").returncode == 0
    (tmp_path / "go").unlink()
    start("run", f"{tasks}:Holding", "-o", "cache", "-a", "n=3")
    until(runs(run, tmp_path, "Held"))
    follower = start("logs", "-o", "cache", "Held", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "begin 2\n"
    (tmp_path / "go").touch()
    assert follower.communicate(timeout=60)[0].endswith("line 19999\n")


def test_of_several_tasks_that_run_none_is_followed(
    run: Run, start: Start, tasks: Path, tmp_path: Path, logs: Run, expect_one_error: Any
) -> None:
    start("run", f"{tasks}:Holding", "-o", "cache", "-a", "n=2", "-n", "2")
    until(lambda: run("status", "-o", "cache").stdout.count("  tasks.Held/") == 2)
    done = logs("Held", "-f")
    expect_one_error(done, 2, "2 tasks of the name tasks.Held match")
    assert done.stderr.count("running") == 2
    (tmp_path / "go").touch()


@pytest.mark.parametrize("follow", [["-f"], []], ids=["followed", "looked at"])
def test_another_task_of_the_same_worker_is_never_taken_for_this_one(
    run: Run, start: Start, tasks: Path, tmp_path: Path, follow: list[str]
) -> None:
    runner = start("run", f"{tasks}:Loud", "-o", "cache", "-n", "1")
    until(runs(run, tmp_path, "Quiet"))
    followers = [start("logs", "-o", "cache", "Quiet", *follow) for _ in range(3)]
    time.sleep(0.7)
    (tmp_path / "go").touch()
    followers += [start("logs", "-o", "cache", "Quiet", *follow) for _ in range(3)]
    for follower in followers:
        out, err = follower.communicate(timeout=60)
        assert (follower.returncode, out) == (0, ""), err
        assert "nothing is kept of what tasks.Quiet/" in err
    assert runner.wait(60) == 0


def test_a_task_that_is_not_reached_yet_is_waited_for(
    run: Run, start: Start, tasks: Path, tmp_path: Path
) -> None:
    start("run", f"{tasks}:After", "-o", "cache")
    until(runs(run, tmp_path, "Quiet"))
    follower = start("logs", "-o", "cache", "After", "-f")
    assert follower.stderr is not None
    assert (
        follower.stderr.readline() == "taskproc: waiting for After: a run is under way that may come to it\n"
    )
    (tmp_path / "go").touch()
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out, err) == (0, "after\n", "")


def test_what_an_older_run_printed_is_not_shown_for_what_is_to_come(
    run: Run, start: Start, tasks: Path, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    assert run(f"{tasks}:After", "-o", "cache").returncode == 0
    (tmp_path / "go").unlink()
    # Quiet is edited too, or After would run at once.
    edited = TASKS.replace('print("after")', 'print("after the edit")')
    edited = edited.replace('wait_for("go")\n\nclass Loud', 'return wait_for("go")\n\nclass Loud')
    assert edited.count('return wait_for("go")') == 1
    tasks.write_text(edited)
    start("run", f"{tasks}:After", "-o", "cache")
    until(runs(run, tmp_path, "Quiet"))
    follower = start("logs", "-o", "cache", "After", "-f")
    assert follower.stderr is not None
    assert "waiting for tasks.After/" in follower.stderr.readline()
    (tmp_path / "go").touch()
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out, err) == (0, "after the edit\n", "")


def test_a_task_that_a_run_does_not_come_to_is_an_error_in_the_end(
    start: Start, tasks: Path, tmp_path: Path, run: Run, expect_one_error: Any
) -> None:
    runner = start("run", f"{tasks}:Holding", "-o", "cache", "-a", "n=3", "-n", "1")
    until(runs(run, tmp_path, "Held"))
    follower = start("logs", "-o", "cache", "Held", "n=99", "-f")
    assert follower.stderr is not None
    assert "waiting for Held n=99" in follower.stderr.readline()
    os.kill(runner.pid, signal.SIGKILL)
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out) == (2, "")
    assert err.startswith("taskproc: error: nothing is stored of Held n=99")


def test_following_ends_when_the_runner_is_killed(
    run: Run, start: Start, tasks: Path, tmp_path: Path
) -> None:
    runner = start("run", f"{tasks}:Holding", "-o", "cache", "-n", "1")
    until(runs(run, tmp_path, "Held"))
    follower = start("logs", "-o", "cache", "Held", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "begin 0\n"
    os.kill(runner.pid, signal.SIGKILL)
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out, err) == (0, "", "begin err 0\n")


def test_what_runs_in_place_is_said_to_go_elsewhere(
    run: Run, start: Start, tasks: Path, tmp_path: Path
) -> None:
    start("run", f"{tasks}:Quiet", "-o", "cache", "-x", "serial")
    until(runs(run, tmp_path, "Quiet"))
    follower = start("logs", "-o", "cache", "Quiet", "-f")
    assert follower.stderr is not None
    assert "goes to the terminal of its run, and is not kept" in follower.stderr.readline()
    (tmp_path / "go").touch()
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out, err) == (0, "", "")


def test_ctrl_c_ends_the_following_quietly(run: Run, start: Start, tasks: Path, tmp_path: Path) -> None:
    start("run", f"{tasks}:Holding", "-o", "cache")
    until(runs(run, tmp_path, "Held"))
    follower = start("logs", "-o", "cache", "Held", "-f")
    assert follower.stdout is not None
    assert follower.stderr is not None
    assert follower.stdout.readline() == "begin 0\n"
    assert follower.stderr.readline() == "begin err 0\n"
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out, err) == (130, "", "")
    (tmp_path / "go").touch()


def test_a_worker_that_dies_leaves_what_the_task_printed(
    run: Run, start: Start, tasks: Path, tmp_path: Path, logs: Run
) -> None:
    start("run", f"{tasks}:Holding", "-o", "cache")
    until(runs(run, tmp_path, "Held"))
    follower = start("logs", "-o", "cache", "Held", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "begin 0\n"
    pid = re.search(r"  tasks\.Held/\w+ .*process (\d+)", run("status", "-o", "cache").stdout)
    assert pid is not None
    os.kill(int(pid[1]), signal.SIGKILL)
    assert follower.communicate(timeout=60) == ("", "begin err 0\n")
    assert logs("Held").stdout == "begin 0\n"


# --- which task is meant ---


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("m.Fit", Wanted("m.Fit", "", {})),
        ("m.Fit/", Wanted("m.Fit", "", {})),
        ("m.Fit/12ab", Wanted("m.Fit", "12ab", {})),
        ("m.Fit/12AB", Wanted("m.Fit", "12ab", {})),
        ("m.Fit/x", Wanted("m.Fit/x", "", {})),
        ("/12ab", Wanted("/12ab", "", {})),
    ],
)
def test_a_key_stands_behind_the_name(text: str, wanted: Wanted) -> None:
    assert read_wanted(text, {}) == wanted


@pytest.mark.parametrize(
    ("text", "stored", "is_meant"),
    [
        ("1", 1, True),
        ("1", 1.0, True),
        ("1.0", 1, True),
        ("1", True, False),
        ("true", True, True),
        ("true", "true", True),
        ("1", "1", True),
        ('"1"', "1", True),
        ("null", None, True),
        ("[1, 2]", [1, 2], True),
        ("[1,true]", [1, 1], False),
        ('{"b": 1, "a": 2}', {"a": 2, "b": 1}, True),
        ("a b", "a b", True),
        ("", "", True),
        ("[", "[", True),
        ("[", [], False),
    ],
)
def test_a_typed_value_stands_for_a_stored_one(text: str, stored: Any, is_meant: bool) -> None:
    candidate = Candidate(TaskKey("m.Fit", "1"), {"x": stored}, "done", None)
    assert Wanted("m.Fit", "", {"x": text}).takes(candidate) is is_meant


def test_a_task_whose_arguments_are_not_known_is_meant_by_its_key_only() -> None:
    candidate = Candidate(TaskKey("m.Fit", "12ab"), None, "failed", None)
    assert Wanted("m.Fit", "12", {}).takes(candidate)
    assert not Wanted("m.Fit", "", {"n": "1"}).takes(candidate)


def test_a_class_alone_is_enough_where_there_is_just_one() -> None:
    names = ["m.Fit", "m.sub.Fit", "m.Outer.Inner"]
    assert full_name("Inner", names, "here") == full_name("Outer.Inner", names, "here") == "m.Outer.Inner"
    assert full_name("m.Fit", names, "here") == "m.Fit"
    assert full_name("sub.Fit", names, "here") == "m.sub.Fit"
    with pytest.raises(UsageError, match=r"'Fit' may be any of m\.Fit, m\.sub\.Fit; say which one"):
        full_name("Fit", names, "here")
