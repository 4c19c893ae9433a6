"""What people see of a run: lines where nobody watches, bars on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import taskproc
from taskproc.default_plugins import progress
from taskproc.default_plugins.progress import ProgressReporter
from taskproc.interfaces import Outcome, Plan, Reason, RunReport, TaskKey
from taskproc.registry import Registry

ROOT = Path(taskproc.__file__).parents[1]


def key(name: str, number: int = 0) -> TaskKey:
    return TaskKey(f"taskfile.{name}", f"{number:032x}")


def plan(leaves: int, cached: int = 0) -> Plan:
    """A Main over some leaves, of which some are cached."""
    run = {key("Leaf", number): Reason("missing", "no result") for number in range(leaves)}
    run[key("Main")] = Reason("forced", "asked for")
    return Plan(key("Main"), run, [key("Cached", number) for number in range(cached)])


def report(
    executed: int, cached: int, failed: int = 0, status: Any = "finished", seconds: float = 0.4
) -> RunReport:
    stats: Any = {
        "stats": {"taskfile.Leaf": executed} if executed else {},
        "cached": {"taskfile.Cached": cached} if cached else {},
        "failed": {"taskfile.Leaf": failed} if failed else {},
        "elapsed_seconds": seconds,
    }
    return RunReport(plan(0), stats, status)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until the test moves it."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress, "monotonic", lambda: Clock.now)
    return Clock


def test_the_first_and_the_last_line_say_what_runs_and_what_is_cached(capsys):
    reporter = ProgressReporter()
    reporter.taskproc_run_started(plan(leaves=2, cached=3))
    reporter.taskproc_run_finished(report(executed=3, cached=3))
    assert lines(capsys) == ["taskproc: 3 to run, 3 cached", "taskproc: done: 3 executed, 3 cached in 0.4 s"]


def test_a_run_of_the_entry_task_alone_says_so(capsys):
    reporter = ProgressReporter()
    reporter.taskproc_run_started(plan(leaves=0, cached=1812))
    reporter.taskproc_run_finished(report(executed=1, cached=1812))
    assert lines(capsys) == [
        "taskproc: 1 to run (the entry task taskfile.Main alone), 1812 cached",
        "taskproc: done: 1 executed, 1812 cached in 0.4 s",
    ]


def test_a_failed_and_an_interrupted_run_are_told_as_such(capsys):
    reporter = ProgressReporter()
    reporter.taskproc_run_started(plan(leaves=2))
    reporter.taskproc_run_finished(report(executed=1, cached=0, failed=1, status="failed", seconds=75))
    reporter.taskproc_run_started(plan(leaves=2))
    reporter.taskproc_run_finished(report(executed=1, cached=0, status="interrupted", seconds=7384))
    assert lines(capsys)[1::2] == [
        "taskproc: failed: 1 executed, 1 failed, 0 cached in 1 min 15 s",
        "taskproc: interrupted: 1 executed, 0 cached in 2 h 3 min",
    ]


def test_in_between_there_is_a_line_every_few_seconds_and_no_more(capsys, clock):
    reporter = ProgressReporter(interval=5)
    reporter.taskproc_run_started(plan(leaves=8))
    for number in range(8):
        clock.now += 2
        reporter.taskproc_job_started()
        kind = "failed" if number == 3 else "done elsewhere" if number == 4 else "finished"
        reporter.taskproc_job_finished(Outcome(key("Leaf", number), kind))
    assert lines(capsys)[1:] == [
        "taskproc: 3 of 9 done, 0 running after 6.0 s",
        "taskproc: 5 of 9 done, 0 running, 1 failed after 12.0 s",
    ]


def test_running_jobs_are_counted_and_cancelled_ones_are_not_done(capsys, clock):
    reporter = ProgressReporter(interval=0)
    reporter.taskproc_run_started(plan(leaves=3))
    for _ in range(3):
        reporter.taskproc_job_started()
    reporter.taskproc_job_finished(Outcome(key("Leaf", 0), "cancelled"))
    assert lines(capsys)[1:] == ["taskproc: 0 of 4 done, 2 running after 0.0 s"]


def test_a_task_that_the_plan_did_not_foresee_is_counted_too(capsys, clock):
    reporter = ProgressReporter(interval=0)
    reporter.taskproc_run_started(plan(leaves=0, cached=1))
    for number in range(2):
        reporter.taskproc_job_started()
        reporter.taskproc_job_finished(Outcome(key("Cached", number), "finished"))
    assert lines(capsys)[-1] == "taskproc: 2 of 2 done, 0 running after 0.0 s"


def test_the_end_of_a_run_that_never_began_is_told_and_events_before_it_are_ignored(capsys):
    reporter = ProgressReporter()
    reporter.taskproc_job_started()
    reporter.taskproc_job_finished(Outcome(key("Leaf"), "finished"))
    reporter.taskproc_run_finished(report(executed=0, cached=0, status="failed"))
    assert lines(capsys) == ["taskproc: failed: 0 executed, 0 cached in 0.4 s"]


@pytest.mark.parametrize("broken", ["closed", "none", "pipe"])
def test_a_stderr_that_takes_nothing_is_no_fault_of_the_run(monkeypatch, broken):
    if broken == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
        stream: Any = io.TextIOWrapper(io.FileIO(writing, "w", closefd=True), write_through=True)
    else:
        stream = io.StringIO() if broken == "closed" else None
    if broken == "closed":
        stream.close()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        reporter = ProgressReporter()
        reporter.taskproc_run_started(plan(leaves=1))
        reporter.taskproc_run_finished(report(executed=1, cached=0))
    if broken == "pipe":
        stream.detach().close()


def test_a_job_costs_a_few_microseconds():
    listeners = Registry().listen([ProgressReporter()])
    listeners.notify("taskproc_run_started", plan(leaves=1))
    outcome = Outcome(key("Leaf"), "finished")
    began = time.process_time()
    for _ in range(10_000):
        listeners.notify("taskproc_job_started", None)
        listeners.notify("taskproc_job_finished", outcome)
    assert time.process_time() - began < 0.5  # 50 us each; about 2 are needed


def test_without_a_terminal_rich_is_not_imported():
    script = """
        import sys
        from taskproc.registry import Registry
        from taskproc.interfaces import Plan, Reason, TaskKey
        key = TaskKey("a.B", "0" * 32)
        listeners = Registry().listen(["progress"])
        listeners.notify("taskproc_run_started", Plan(key, {key: Reason("missing", "")}, []))
        print([name for name in sys.modules if name.startswith("rich")])
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
    assert done.stderr == "taskproc: 1 to run, 0 cached\n"


TERMINAL_SCRIPT = """
    import sys, time
    from taskproc.registry import Registry
    from taskproc.interfaces import Outcome, Plan, Reason, RunReport, TaskKey

    names = [f"file.Task{number}" for number in range(int(sys.argv[1]))]
    keys = [TaskKey(name, f"{number:032x}") for name in names for number in range(3)]
    plan = Plan(keys[-1], {key: Reason("missing", "") for key in keys}, [])
    listeners = Registry().listen([sys.argv[2]])
    listeners.notify("taskproc_run_started", plan)
    for number, key in enumerate(keys):
        listeners.notify("taskproc_job_started", None)
        listeners.notify("taskproc_job_finished", Outcome(key, "failed" if number == 1 else "finished"))
    time.sleep(0.5)  # long enough for a redraw that no job caused
    print("MARK", file=sys.stderr, flush=True)
    stats = {"stats": {"a": 3}, "cached": {}, "failed": {}, "elapsed_seconds": 1.0}
    listeners.notify("taskproc_run_finished", RunReport(plan, stats, "finished"))
    print("out")
"""


def on_terminal(*arguments: str, **environ: str) -> tuple[str, str]:
    """Run the script with stderr on a terminal of 24 lines; what it wrote there, and on stdout."""
    ours, theirs = pty.openpty()
    environ = {"TERM": "xterm", "COLUMNS": "100", "LINES": "24", "PATH": os.environ["PATH"], **environ}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TERMINAL_SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=ROOT,
        env=environ,
        text=True,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other side was closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, seen
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()), out


def test_on_a_terminal_there_is_a_bar_for_each_task_name():
    seen, out = on_terminal("2", "progress")
    before, _ = seen.split("MARK")
    assert "taskproc: 6 to run, 0 cached" in before
    assert re.search(r"file\.Task0 .*3/3 1 failed", before)
    assert re.search(r"file\.Task1 .*3/3", before)
    assert seen.rstrip().endswith("taskproc: done: 3 executed, 0 cached in 1.0 s")
    assert out == "out\n"


def test_task_names_without_room_share_a_bar():
    seen, _ = on_terminal("50", "progress")
    assert re.search(r"file\.Task19 .*3/3", seen)
    assert "file.Task20 " not in seen
    assert re.search(r"30 other tasks .*90/90", seen)


@pytest.mark.parametrize(("text", "environ"), [("progress:style=lines", {}), ("progress", {"TERM": "dumb"})])
def test_lines_can_be_had_on_a_terminal_too(text, environ):
    seen, _ = on_terminal("2", text, **environ)
    told = " ".join(seen.split())
    assert told == "taskproc: 6 to run, 0 cached MARK taskproc: done: 3 executed, 0 cached in 1.0 s"
