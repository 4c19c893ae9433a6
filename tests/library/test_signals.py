"""A signal ends a run in good order: nothing new, nothing left behind, nothing lost; a second one kills."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from stopped_runs import LEAVES, QUICK, WAYS, Site, Stopped, alive, stopping_site, wait_for

from taskproc import Cache, FailedTaskError, FutureList, Outcome, RunReport, Task
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Reporter

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
# Promised is an end within 5 s and no start after 0.1 s; the rest is for a machine with other work.
IN_TIME, NOTHING_NEW = 8.0, 0.5


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with stopping_site(tmp_path / "a place") as opened:
        yield opened


def check_the_end(site: Site, done: Stopped) -> None:
    assert done.seconds < IN_TIME, done.stderr
    assert done.latest_start < NOTHING_NEW
    assert alive(done.pids()) == set()
    assert site.scratch() == []


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("way", WAYS)
def test_the_first_signal_ends_the_command_in_good_order(
    way: str, number: signal.Signals, site: Site
) -> None:
    site.environment["CHILD"] = "1"
    runner = site.command(way)
    site.until_held(1 if way == "serial" else 2)
    done = site.stop(runner, number, group=number == signal.SIGHUP)
    assert done.returncode == CODES[number], done.stderr
    assert done.stdout == ("holding on\n" if way == "serial" else "")
    assert "Traceback" not in done.stderr
    told = re.findall(
        rf"^taskproc: interrupted by {number.name}: (\d+) tasks finished, (.*)$", done.stderr, re.M
    )
    assert len(told) == 1, done.stderr
    finished, rest = told[0]
    assert int(finished) == QUICK
    count = 1 if way == "serial" else 2
    name = "Leaf" if count == 1 else "Leaf x2"
    ended = f"0 cancelled, 2 left running ({name})" if way == "thread" else f"{count} cancelled ({name})"
    assert rest == (
        f"{ended}, {LEAVES - QUICK - count + 1} not started; what is finished is stored: "
        "the same command goes on from there"
    )
    check_the_end(site, done)
    assert site.leases() == []
    again = site.rerun()
    assert again.returncode == 0, again.stderr
    ends = [n for what, n, _, _ in site.notes() if what == "end"]
    assert sorted(ends) == list(range(LEAVES))  # each once: what was finished was not lost


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("way", WAYS)
def test_the_first_signal_ends_a_script_in_good_order(way: str, number: signal.Signals, site: Site) -> None:
    runner = site.script(way)
    site.until_held(1 if way == "serial" else 2)
    done = site.stop(runner, number)
    if number == signal.SIGINT:
        assert done.returncode in (130, -signal.SIGINT)
        assert "KeyboardInterrupt" in done.stderr
    else:
        assert done.returncode == CODES[number]
        assert "Traceback" not in done.stderr
    assert done.stderr.count(f"interrupted by {number.name}: {QUICK} tasks finished") == 1, done.stderr
    assert done.notes[-1][0] == "over"  # its `finally` was run
    check_the_end(site, done)
    assert site.rerun().returncode == 0


@pytest.mark.parametrize("way", WAYS)
def test_ten_signals_at_once_are_one(way: str, site: Site) -> None:
    runner = site.command(way)
    site.until_held()
    for _ in range(9):
        runner.send_signal(signal.SIGINT)
        time.sleep(0.005)
    done = site.stop(runner, signal.SIGTERM)
    assert done.returncode == 130, done.stderr
    assert done.stderr.count("interrupted by SIGINT") == 1
    check_the_end(site, done)


def test_a_second_signal_kills_at_once_and_leaves_no_worker(site: Site) -> None:
    prefix = ["sh", "-c", 'trap "" TERM; "$@"; sleep 300', "sh"]
    runner = site.command("process", "--prefix", f"tasks.Leaf={' '.join(prefix[:2])} '{prefix[2]}' sh")
    site.until_held()
    runner.send_signal(signal.SIGINT)
    time.sleep(0.5)
    done = site.stop(runner, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert done.seconds < 3
    assert "Traceback" not in done.stderr
    assert alive(done.pids()) == set()


@pytest.mark.parametrize("way", ["process", "prefix"])
def test_no_process_outlives_a_runner_that_is_killed_while_it_cleans_up(way: str, site: Site) -> None:
    site.environment["CHILD"] = "1"
    runner = site.command(way)
    site.until_held(2)
    runner.send_signal(signal.SIGTERM)
    done = site.stop(runner, signal.SIGKILL)
    if way == "process":  # a launched job that outlives its runner is for the next run to adopt
        assert alive(done.pids()) == set()
    again = site.rerun()
    assert again.returncode == 0, again.stderr


SLOW_START = """
import time
from pathlib import Path
from taskproc import Task

def wait():
    Path(__file__).with_name("waiting").touch()
    {body}

{top}

class Main(Task):
    def __init__(self):
        {init}

    def run_task(self):
        return 1
"""
SLEEP, SWALLOW = (
    "time.sleep(60)",
    "\n    ".join(["try:", "    time.sleep(60)", "except BaseException:", "    pass"]),
)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("top", "init", "body"),
    [("wait()", "pass", SLEEP), ("", "wait()", SLEEP), ("wait()", "pass", SWALLOW), ("", "wait()", SWALLOW)],
    ids=["import", "construct", "import that swallows it", "construct that swallows it"],
)
def test_a_signal_in_the_first_moments_ends_the_command(
    top: str, init: str, body: str, number: signal.Signals, site: Site
) -> None:
    (site.folder / "slow.py").write_text(SLOW_START.format(top=top, init=init, body=body))
    runner = site.start("-m", "taskproc", "slow.py", "-o", "cache")
    wait_for(lambda: (site.folder / "waiting").exists())
    site.folder.joinpath("notes").write_text("begin 0 1 0.0\n")
    done = site.stop(runner, number)
    assert (done.returncode, done.stdout) == (CODES[number], ""), done.stderr
    assert "Traceback" not in done.stderr
    assert f"taskproc: interrupted by {number.name}\n" in done.stderr
    assert done.seconds < IN_TIME


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_that_does_not_wake_the_main_thread_ends_the_command_all_the_same(
    number: signal.Signals, site: Site
) -> None:
    # As when it comes in the moment before a blocking call: Python's handler waits for that to end.
    top = (
        "import signal, threading\n"
        f"to_itself = lambda: signal.pthread_kill(threading.get_ident(), {int(number)})\n"
        "threading.Timer(0.2, to_itself).start()\ntime.sleep(60)\n"
    )
    (site.folder / "slow.py").write_text(SLOW_START.format(top=top, init="pass", body="pass"))
    runner = site.start("-m", "taskproc", "slow.py", "-o", "cache")
    _, stderr = runner.communicate(timeout=30)
    assert runner.returncode == CODES[number], stderr
    assert stderr == f"taskproc: interrupted by {number.name}\n"


def test_a_signal_while_the_command_is_being_imported_ends_it_without_a_traceback(site: Site) -> None:
    (site.folder / "click.py").write_text("print('here', flush=True)\nimport time\ntime.sleep(60)\n")
    site.environment["PYTHONPATH"] = f"{site.folder}{os.pathsep}{site.environment['PYTHONPATH']}"
    runner = site.start("-m", "taskproc", "tasks.py", "-o", "cache")
    assert runner.stdout is not None
    assert runner.stdout.readline() == "here\n"
    runner.send_signal(signal.SIGTERM)
    _, stderr = runner.communicate(timeout=60)
    assert (runner.returncode, stderr) == (143, "")


def test_a_task_that_swallows_the_interruption_is_the_last_one_and_is_not_stored(site: Site) -> None:
    text = (site.folder / "tasks.py").read_text()
    swallowing = """    try:
        time.sleep(seconds)
    except BaseException:
        note("swallowed", 0, 0, 0)
"""
    (site.folder / "tasks.py").write_text(text.replace("    time.sleep(seconds)\n", swallowing))
    runner = site.command("serial")
    site.until_held()
    done = site.stop(runner, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert [n for what, n, *_ in done.notes if what == "begin"] == [*range(QUICK), QUICK]
    assert done.notes[-1][:2] == ("end", QUICK)  # it came to its end, with whatever it had
    assert site.rerun().returncode == 0
    assert [n for what, n, *_ in site.notes() if what == "begin"].count(QUICK) == 2


def test_a_task_that_goes_on_and_on_is_ended_all_the_same(site: Site) -> None:
    text = (site.folder / "tasks.py").read_text()
    stubborn = """    while True:
        try:
            time.sleep(seconds)
        except BaseException:
            pass
"""
    (site.folder / "tasks.py").write_text(text.replace("    time.sleep(seconds)\n", stubborn))
    runner = site.command("serial")
    site.until_held()
    done = site.stop(runner, signal.SIGTERM)
    assert done.returncode == 143, done.stderr
    assert "taskproc: interrupted by SIGTERM" in done.stderr
    check_the_end(site, done)


def test_a_hangup_that_is_ignored_stays_ignored(site: Site) -> None:
    site.environment["HOLD"] = "2"
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    script = f"import os, signal, sys; {ignore}; os.execv(sys.executable, sys.argv[1:])"
    words = [sys.executable, "-m", "taskproc", "tasks.py", "-o", "cache", *WAYS["process"][0], "-n", "4"]
    runner = site.start("-c", script, *words)
    site.until_held()
    done = site.stop(runner, signal.SIGHUP)
    assert done.returncode == 0, done.stderr


HANDLERS = """
import signal, sys, time
import tasks
from taskproc import Cache

heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
with Cache("cache"):
    answer, stats = tasks.Main().run_graph(max_workers=4)
assert heard == [signal.SIGTERM]
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
print(answer)
"""


def test_handlers_of_the_user_are_respected_and_all_are_as_before_after_the_run(site: Site) -> None:
    site.environment["HOLD"] = "2"
    (site.folder / "own.py").write_text(HANDLERS)
    runner = site.start("own.py")
    site.until_held()
    done = site.stop(runner, signal.SIGTERM)
    assert (done.returncode, done.stdout) == (0, f"{sum(range(LEAVES))}\n"), done.stderr


ANYWHERE = """
import os, signal, time
import tasks
from taskproc import Cache

ASK = signal.getsignal
asked = 0


def ask(number):
    global asked
    asked += 1
    if asked == at:  # while handlers are taken over, or given back
        os.kill(os.getpid(), signal.SIGINT)
    return ASK(number)


def is_interrupted():
    global asked
    asked = 0
    signal.getsignal = ask
    try:
        with Cache("cache"):
            tasks.Main().run_graph(executor="serial")
    except KeyboardInterrupt:
        return True
    finally:
        signal.getsignal = ASK
    return False


at = 0
assert not is_interrupted()
assert not is_interrupted()  # all is stored: as often it is asked from now on
assert asked >= 9
for at in range(1, asked + 1):
    assert is_interrupted(), at
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert handlers == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL], (at, handlers)
time.sleep(1.6)  # nobody reminds us of it any more
with Cache("cache"):
    print(tasks.Main().run_graph(executor="serial")[0])
"""


def test_a_signal_while_handlers_are_taken_over_or_given_back_leaves_none_behind(site: Site) -> None:
    site.environment["HOLD"] = "0"
    (site.folder / "anywhere.py").write_text(ANYWHERE)
    out, err = site.start("anywhere.py").communicate(timeout=120)
    assert (out, err) == (f"{sum(range(LEAVES))}\n", "")


ASIDE = """
import signal, threading
import tasks
from taskproc import Cache

def work():
    with Cache("cache"):
        tasks.Main().run_graph(max_workers=2)

thread = threading.Thread(target=work, daemon=True)
thread.start()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
thread.join()
"""


def test_a_run_on_another_thread_leaves_the_signals_alone_and_its_workers_end_with_it(site: Site) -> None:
    site.environment["CHILD"] = "1"
    (site.folder / "aside.py").write_text(ASIDE)
    runner = site.start("aside.py")
    site.until_held(2)
    done = site.stop(runner, signal.SIGTERM)
    assert done.returncode == -signal.SIGTERM
    assert alive(done.pids()) == set()


OWN_POOL = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
import tasks
from taskproc import Cache

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1])) as pool, Cache("cache"):
        try:
            tasks.Main().run_graph(executor=pool)
        except KeyboardInterrupt:
            assert pool.submit(abs, -1).result() == 1
            print("goes on")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_executor_of_somebody_else_is_not_shut_down_and_begins_nothing_more(
    method: str, site: Site
) -> None:
    site.environment["HOLD"] = "3"
    (site.folder / "pool.py").write_text(OWN_POOL)
    runner = site.start("-W", "ignore", "pool.py", method)
    site.until_held(2)
    done = site.stop(runner, signal.SIGINT)
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr
    assert "2 left running (Leaf x2)" in done.stderr
    # One more may wait in the pool's own line to its workers, where nobody can take it back.
    assert sum(what == "begin" for what, *_ in done.notes) <= QUICK + 3
    assert alive(done.pids()) == set()


FORKING = """
import os, signal, time
from pathlib import Path
from taskproc import Cache, Task

class Forks(Task):
    def __init__(self, number):
        self.number = number

    def run_task(self):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.3)
        os.kill(child, self.number)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

with Cache("cache"):
    for number in (signal.SIGTERM, signal.SIGHUP):
        assert Forks(int(number)).run_graph(executor="serial")[0] == -number
"""


def test_a_child_that_a_task_forks_dies_of_signals_as_ever(site: Site) -> None:
    (site.folder / "forking.py").write_text(FORKING)
    runner = site.start("-W", "ignore", "forking.py")
    _, stderr = runner.communicate(timeout=60)
    assert runner.returncode == 0, stderr


class Raises(Task):
    def __init__(self, what: str) -> None:
        self.what = what

    def run_task(self) -> int:
        raise {"interrupt": KeyboardInterrupt, "exit": SystemExit}[self.what]


@pytest.mark.parametrize("executor", ["process", "thread", "serial"])
@pytest.mark.parametrize(("what", "kind"), [("interrupt", "KeyboardInterrupt"), ("exit", "SystemExit")])
def test_what_looks_like_an_interruption_and_is_the_tasks_own_is_its_failure(
    cache: Cache, executor: str, what: str, kind: str
) -> None:
    with pytest.raises(FailedTaskError, match=kind):
        Raises(what).run_graph(executor=executor)


class Waits(Task):
    def __init__(self, n: int, folder: str) -> None:
        self.n = n
        self.folder = folder

    def run_task(self) -> int:
        Path(self.folder, f"began-{self.n}").touch()
        until = time.monotonic() + 60
        while not Path(self.folder, "go").exists() and time.monotonic() < until:
            time.sleep(0.02)
        return self.n


class WaitForAll(Task):
    def __init__(self, folder: str) -> None:
        self.parts = FutureList([Waits(n, folder) for n in range(6)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())


class Hears(Reporter):
    name = "hears"

    def __init__(self) -> None:
        self.reports: list[RunReport] = []
        self.outcomes: list[Outcome] = []

    @hookimpl
    def taskproc_job_finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @hookimpl
    def taskproc_run_finished(self, report: RunReport) -> None:
        self.reports.append(report)


def signal_when(condition: Any, number: int) -> threading.Thread:
    def wait_and_signal() -> None:
        wait_for(condition)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_signal)
    thread.start()
    return thread


@pytest.mark.parametrize("executor", ["process", "thread", "serial"])
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_reporters_hear_of_an_interrupted_run_whatever_ended_it(
    cache: Cache, tmp_path: Path, executor: str, number: signal.Signals
) -> None:
    ear = Hears()
    thread = signal_when((tmp_path / "began-0").exists, number)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        WaitForAll(str(tmp_path)).run_graph(executor=executor, max_workers=2, reporters=[ear])
    thread.join()
    if number != signal.SIGINT:
        assert isinstance(caught.value, SystemExit)
        assert caught.value.code == CODES[number]
    (tmp_path / "go").touch()
    assert [report.status for report in ear.reports] == ["interrupted"]
    assert {outcome.kind for outcome in ear.outcomes} <= {"cancelled"}
    assert signal.getsignal(number) is (
        signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    )
    answer, _ = WaitForAll(str(tmp_path)).run_graph(executor=executor)
    assert answer == 15


@pytest.mark.parametrize("executor", ["own threads", "thread"])
def test_a_task_left_in_a_thread_keeps_its_claim_until_it_ends(
    cache: Cache, tmp_path: Path, executor: str
) -> None:
    thread = signal_when((tmp_path / "began-1").exists, signal.SIGINT)
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(KeyboardInterrupt):
            WaitForAll(str(tmp_path)).run_graph(
                executor=pool if executor == "own threads" else executor, max_workers=2
            )
        thread.join()
        keys = [task._task.key for task in cache.tasks(Waits)]
        assert keys == []
        waiting = [Waits(n, str(tmp_path))._task.key for n in range(6)]
        with Cache(tmp_path / "cache") as other:
            granted = other.backend.lease(waiting)
            assert len(granted) == 4  # the two that run are not to be had
            other.backend.release(granted)
            (tmp_path / "go").touch()
            answer, stats = WaitForAll(str(tmp_path)).run_graph(executor="serial")
    assert answer == 15
    # What the threads finished is taken from them.
    assert stats["cached"].get(Waits.task_name, 0) == 2


BARS = """
import os, pty, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "taskproc", "tasks.py", "-o", "cache", "-n", "2"])
text, sent = b"", False
while True:
    try:
        chunk = os.read(terminal, 4096)
    except OSError:
        chunk = b""
    if not chunk:
        break
    text += chunk
    if not sent and os.path.exists("notes") and "held" in open("notes").read():
        sent = True
        os.write(terminal, b"\\x03")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert code == 130, (code, text)
assert b"\\x1b[?25l" in text
assert text.rindex(b"\\x1b[?25h") > text.rindex(b"\\x1b[?25l"), text
assert b"interrupted by SIGINT" in text, text
"""


def test_live_bars_give_the_terminal_back(site: Site) -> None:
    (site.folder / "bars.py").write_text(BARS)
    site.environment["TERM"] = "xterm"
    runner = site.start("-W", "ignore", "bars.py")
    _, stderr = runner.communicate(timeout=90)
    assert runner.returncode == 0, stderr


def test_an_interruption_after_the_last_task_is_one_too(site: Site) -> None:
    (site.folder / "late.py").write_text(
        "from taskproc import Task\n"
        "class Main(Task):\n    def run_task(self):\n        return Late()\n"
        "class Late:\n"
        "    def __setstate__(self, state):\n"
        "        import time\n        print('loading', flush=True)\n        time.sleep(60)\n"
        "    def __getstate__(self):\n        return {'a': 1}\n"
    )
    runner = site.start("-m", "taskproc", "late.py", "-o", "cache")
    assert runner.stdout is not None
    assert runner.stdout.readline() == "loading\n"
    runner.send_signal(signal.SIGINT)
    _, stderr = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert "interrupted by SIGINT: 1 task finished, 0 cancelled, 0 not started" in stderr


def test_a_hundred_launched_jobs_are_ended_in_time(site: Site) -> None:
    text = (site.folder / "tasks.py").read_text()
    (site.folder / "tasks.py").write_text(text.replace(f"range({LEAVES})", "range(60)"))
    site.environment["CHILD"] = "1"
    words = [
        "-m",
        "taskproc",
        "tasks.py",
        "-o",
        "cache",
        "--launcher",
        "tasks.Leaf=prefix:prefix=env,max_jobs=40",
    ]
    runner = site.start(*words)
    site.until_held(20)
    done = site.stop(runner, signal.SIGTERM)
    assert done.returncode == 143, done.stderr
    check_the_end(site, done)


def test_a_launcher_that_hangs_does_not_keep_the_command(site: Site) -> None:
    (site.folder / "hanging.py").write_text(
        "import time\n"
        "from dataclasses import dataclass\n"
        "from taskproc.hookspecs import hookimpl\n"
        "from taskproc.interfaces import Launcher\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Hanging(Launcher):\n"
        "    name = 'hanging'\n"
        "    def command(self, argv, job):\n        return list(argv)\n"
        "    def cancel(self, jobs):\n        time.sleep(300)\n"
        "@hookimpl\n"
        "def taskproc_register_launchers():\n    return [Hanging]\n"
    )
    words = [
        "-m",
        "taskproc",
        "tasks.py",
        "-o",
        "cache",
        "-p",
        "./hanging.py",
        "--launcher",
        "tasks.Leaf=hanging",
    ]
    runner = site.start(*words)
    site.until_held(2)
    done = site.stop(runner, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert done.seconds < IN_TIME
    assert alive(done.pids()) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="ctypes finds the C library so on Linux")
def test_nobody_waits_for_a_task_in_c(site: Site) -> None:
    text = (site.folder / "tasks.py").read_text()
    blocked = """    import ctypes
    libc = ctypes.CDLL(None)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        libc.sleep(int(seconds))
"""
    (site.folder / "tasks.py").write_text(text.replace("    time.sleep(seconds)\n", blocked))
    runner = site.command("process")
    site.until_held(2)
    done = site.stop(runner, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    check_the_end(site, done)


def test_the_command_of_a_module_ends_as_the_command_does(site: Site) -> None:
    (site.folder / "own.py").write_text(
        "from tasks import Main\nif __name__ == '__main__':\n    Main.cli()\n"
    )
    runner = site.start("-m", "own", "-o", "cache")
    site.until_held()
    done = site.stop(runner, signal.SIGTERM)
    assert done.returncode == 143, done.stderr
    assert re.search(r"^taskproc: interrupted by SIGTERM: \d tasks? finished, ", done.stderr, re.M), (
        done.stderr
    )
    check_the_end(site, done)


IN_C = """    import hashlib
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 10**9)
"""


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_serial_task_in_c_code_is_left_in_time(number: signal.Signals, site: Site) -> None:
    text = (site.folder / "tasks.py").read_text()
    (site.folder / "tasks.py").write_text(text.replace("    time.sleep(seconds)\n", IN_C))
    runner = site.command("serial")
    site.until_held()
    done = site.stop(runner, number)
    assert done.returncode == CODES[number], done.stderr
    assert f"taskproc: interrupted by {number.name} in C code" in done.stderr
    assert done.seconds < IN_TIME


@pytest.mark.parametrize("how", ["command", "script"])
def test_a_second_signal_does_not_wait_for_c_code(how: str, site: Site) -> None:
    text = (site.folder / "tasks.py").read_text()
    (site.folder / "tasks.py").write_text(text.replace("    time.sleep(seconds)\n", IN_C))
    runner = site.command("serial") if how == "command" else site.script("serial")
    site.until_held()
    runner.send_signal(signal.SIGINT)
    time.sleep(0.6)
    done = site.stop(runner, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert done.seconds < 3
