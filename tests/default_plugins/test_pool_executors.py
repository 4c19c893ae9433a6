"""The executors: the contract for all three, and what only processes promise."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest

from taskproc.default_plugins.pool_executors import ProcessExecutor, SerialExecutor, ThreadExecutor
from taskproc.errors import ExecutorBrokenError, WorkerDiedError
from taskproc.interfaces import AnnouncingExecutor
from taskproc.testing import ExecutorContract

# A worker that can serve and nothing else: it starts several times faster than a whole one.
SERVE = (
    f"import sys; sys.path[:0] = [{str(Path(__file__).parents[2])!r}];"
    " from taskproc.engine.serve import serve; serve(*map(int, sys.argv[2:]))"
)
WORKER = [sys.executable, "-c", SERVE]


class TestProcessExecutor(ExecutorContract):
    def make(self):
        return ProcessExecutor()


class TestThreadExecutor(ExecutorContract):
    def make(self):
        return ThreadExecutor()


class TestSerialExecutor(ExecutorContract):
    def make(self):
        return SerialExecutor()


@pytest.fixture
def pool():
    with ProcessExecutor().open(2, WORKER) as pool:
        yield pool


def eventually(condition, seconds=10.0):
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def is_alive(pid):
    try:
        # A zombie has ended: only its number is left.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def touch_and_sleep(path, seconds=60.0):
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)


def running(path):
    """The process id that a work wrote, once it runs."""
    assert eventually(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def start_a_child_and_sleep(path):
    child = subprocess.Popen(["sleep", "60"])
    Path(path).write_text(str(child.pid))
    time.sleep(60)


# Deaths.


@pytest.mark.parametrize(
    ("death", "words", "returncode"),
    [
        (lambda: os._exit(3), "ended with exit code 3", 3),
        (lambda: os._exit(0), "ended with exit code 0", 0),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "died of SIGKILL", -signal.SIGKILL),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "died of SIGTERM", -signal.SIGTERM),
        (lambda: os.abort(), "died of SIGABRT", -signal.SIGABRT),
        (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3), f"signal {signal.SIGRTMIN + 3}", None),
    ],
)
def test_a_work_that_kills_its_worker_fails_alone_and_the_message_says_how(pool, death, words, returncode):
    others = [pool.submit(pow, 2, number) for number in range(20)]
    guilty = pool.submit(death)
    others += [pool.submit(pow, 2, number) for number in range(20)]
    error = guilty.exception(timeout=30)
    assert isinstance(error, WorkerDiedError)
    assert words in str(error)
    assert returncode is None or error.returncode == returncode
    assert [future.result(timeout=30) for future in others] == [2**n for n in range(20)] * 2


def test_a_work_that_closes_every_descriptor_fails_alone(pool):
    def close_all():
        os.closerange(0, 1000)

    def close_all_and_stay():
        os.closerange(3, 1000)
        time.sleep(60)

    assert isinstance(pool.submit(close_all).exception(timeout=30), WorkerDiedError)
    started = time.monotonic()
    assert "closed its connection" in str(pool.submit(close_all_and_stay).exception(timeout=30))
    assert time.monotonic() - started < 20
    assert pool.submit(pow, 2, 2).result(timeout=30) == 4


def test_a_worker_without_its_connection_does_not_write_into_the_files_of_its_work(pool, tmp_path):
    def close_all_and_open_files(folder):
        os.closerange(3, 1000)
        globals()["kept"] = [open(f"{folder}/{number}", "w") for number in range(8)]  # noqa: SIM115

    assert isinstance(pool.submit(close_all_and_open_files, tmp_path).exception(timeout=30), WorkerDiedError)
    assert all(file.read_bytes() == b"" for file in tmp_path.iterdir())


def test_every_worker_may_die_and_all_else_is_done():
    with ProcessExecutor().open(2, WORKER) as pool:
        futures = [pool.submit(os._exit, 1) if n % 5 == 0 else pool.submit(abs, -n) for n in range(40)]
        wait(futures, timeout=60)
    for n, future in enumerate(futures):
        if n % 5 == 0:
            assert isinstance(future.exception(), WorkerDiedError)
        else:
            assert future.result() == n


def test_an_idle_worker_that_died_costs_the_next_work_nothing(pool):
    pid = pool.submit(os.getpid).result()
    for _ in range(5):
        os.kill(pid, signal.SIGKILL)
        # At once, so that the death may not have been seen yet.
        pid = pool.submit(os.getpid).result(timeout=30)


def test_a_worker_that_dies_takes_the_processes_of_its_group_along(pool, tmp_path):
    def leave_a_child():
        child = subprocess.Popen(["sleep", "60"])
        (tmp_path / "child").write_text(str(child.pid))
        os._exit(1)

    assert isinstance(pool.submit(leave_a_child).exception(timeout=30), WorkerDiedError)
    child = int((tmp_path / "child").read_text())
    assert eventually(lambda: not is_alive(child))


def test_a_forked_child_that_outlives_its_worker_does_not_hide_the_death(pool):
    def fork_a_sleeper_and_die():
        if os.fork() == 0:
            os.setsid()  # out of the group, so that it lives on, with our socket
            time.sleep(3)
            os._exit(0)
        os._exit(7)

    started = time.monotonic()
    assert "exit code 7" in str(pool.submit(fork_a_sleeper_and_die).exception(timeout=30))
    assert time.monotonic() - started < 2.5


def test_a_forked_child_that_returns_from_the_work_does_not_answer_in_its_place(pool):
    def fork_and_return():
        child = os.fork()
        if child:
            return "the parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return "the child"

    assert pool.submit(fork_and_return).result(timeout=30) == ("the parent", 0)
    assert pool.submit(pow, 2, 2).result(timeout=30) == 4


# Announcing, messages, killing.


def announce_and_die(payload, announcer):
    for position in range(int(payload)):
        announcer.announce(position)
    announcer.send(b"last words")
    os.kill(os.getpid(), signal.SIGKILL)


def echo(payload, announcer):
    for word in payload.split():
        announcer.send(word)
    return payload.upper()


def keep_the_announcer(payload, announcer):
    sys.kept_announcer = announcer


def use_the_kept_announcer(payload, announcer):
    sys.kept_announcer.send(b"late")


def fail_after_a_message(payload, announcer):
    announcer.send(b"so far")
    raise LookupError("here it ends")


def test_the_pool_offers_what_announcing_executors_offer(pool):
    assert isinstance(pool, AnnouncingExecutor)


def test_the_last_announced_position_is_told_of_a_death_and_messages_come_before_it(pool):
    heard = []
    error = pool.submit_work(announce_and_die, b"18", heard.append).exception(timeout=30)
    assert isinstance(error, WorkerDiedError)
    assert (error.position, heard) == (17, [b"last words"])


def test_a_position_is_forgotten_when_the_next_work_begins():
    with ProcessExecutor().open(1, WORKER) as pool:
        pool.submit_work(lambda payload, announcer: announcer.announce(5), b"", print).result()
        error = pool.submit(os._exit, 1).exception(timeout=30)
    assert error.position is None


def announce_step_by_step(payload, announcer):
    """Announce the numbers of the files that appear in a folder, until one of them is `end`."""
    folder, position = Path(payload.decode()), 0
    (folder / "began").write_text(str(os.getpid()))
    while not (folder / "end").exists():
        if (folder / str(position)).exists():
            announcer.announce(position)
            position += 1
        time.sleep(0.002)


def test_the_progress_of_a_work_names_its_worker_and_the_position_it_is_at(tmp_path):
    with ProcessExecutor().open(1, WORKER) as pool:
        assert pool.submit_work(lambda payload, announcer: announcer.announce(5), b"", print).result() is None
        work = pool.submit_work(announce_step_by_step, bytes(tmp_path), print)
        waiting = pool.submit(abs, -1)
        pid = running(tmp_path / "began")
        assert work.progress() == (pid, None)  # the position of the work before is not its own
        for position in range(3):
            (tmp_path / str(position)).touch()
            assert eventually(lambda position=position: work.progress() == (pid, position))
        assert waiting.progress() is None
        (tmp_path / "end").touch()
        work.result(timeout=30)
        assert work.progress() is None


def test_progress_may_be_asked_for_by_any_thread_while_works_come_go_and_die():
    with ProcessExecutor().open(2, WORKER) as pool:
        futures = [
            pool.submit_work(announce_and_die if n % 9 == 0 else echo, b"1", lambda _: None)
            for n in range(60)
        ]
        asked, wrong = [], []

        def ask():
            while not all(future.done() for future in futures):
                for future in futures:
                    answer = future.progress()
                    asked.append(answer)
                    if answer is not None and (answer[0] <= 0 or answer[1] not in (None, 0)):
                        wrong.append(answer)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert any(answer is not None for answer in asked)
    assert all(future.progress() is None for future in futures)


def test_a_work_that_is_killed_has_no_worker_any_more(pool, tmp_path):
    future = pool.submit(touch_and_sleep, tmp_path / "pid")
    pid = running(tmp_path / "pid")
    assert future.progress() == (pid, None)
    future.kill()
    assert future.progress() is None


def test_messages_arrive_in_order_and_before_the_result(pool):
    futures, heard = [], []
    for number in range(20):
        mine = []
        heard.append(mine)
        futures.append(pool.submit_work(echo, b"a b c %d" % number, mine.append))
    for number, future in enumerate(futures):
        assert future.result(timeout=30) == b"A B C %d" % number
        assert heard[number] == [b"a", b"b", b"c", b"%d" % number]


def test_messages_before_an_exception_arrive_too(pool):
    heard = []
    error = pool.submit_work(fail_after_a_message, b"", heard.append).exception(timeout=30)
    assert isinstance(error, LookupError)
    assert heard == [b"so far"]


def test_an_announcer_is_closed_after_its_work():
    with ProcessExecutor().open(1, WORKER) as pool:
        pool.submit_work(keep_the_announcer, b"", print).result(timeout=30)
        with pytest.raises(RuntimeError, match="over"):
            pool.submit_work(use_the_kept_announcer, b"", print).result(timeout=30)


def test_a_listener_that_raises_stops_neither_the_work_nor_the_others(pool, caplog):
    def refuse(message):
        raise ZeroDivisionError

    assert pool.submit_work(echo, b"a", refuse).result(timeout=30) == b"A"
    assert pool.submit_work(echo, b"b", print).result(timeout=30) == b"B"
    assert "on_message failed" in caplog.text


def test_a_running_work_can_be_killed_with_its_children(pool, tmp_path):
    future = pool.submit(start_a_child_and_sleep, tmp_path / "child")
    child = running(tmp_path / "child")
    other = pool.submit(pow, 2, 5)
    assert future.kill()
    error = future.exception(timeout=30)
    assert isinstance(error, WorkerDiedError)
    assert error.returncode == -signal.SIGKILL
    assert eventually(lambda: not is_alive(child))
    assert other.result(timeout=30) == 32
    assert not future.kill()


def test_a_waiting_work_is_cancelled_by_cancel_and_by_kill(tmp_path):
    with ProcessExecutor().open(1, WORKER) as pool:
        first = pool.submit(touch_and_sleep, tmp_path / "first")
        second, third = pool.submit(touch_and_sleep, tmp_path / "no"), pool.submit(abs, -1)
        fourth = pool.submit(abs, -4)
        running(tmp_path / "first")
        assert not first.cancel()
        assert second.cancel()
        assert third.kill()
        first.kill()
        assert fourth.result(timeout=30) == 4
        assert second.cancelled()
        with pytest.raises(CancelledError):
            third.result()
    assert not (tmp_path / "no").exists()


# What comes back.


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("never")


def raise_it(error):
    raise error


def test_an_exception_tells_where_it_was_raised(pool):
    error = pool.submit(raise_it, KeyError("here")).exception(timeout=30)
    assert isinstance(error, KeyError)
    assert "in raise_it" in str(error.__cause__)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_exceptions_that_end_programs_end_only_the_work(pool, kind):
    error = pool.submit(raise_it, kind("told")).exception(timeout=30)
    assert isinstance(error, kind)
    assert error.args == ("told",)


def test_an_exception_that_can_not_travel_is_told_in_words(pool):
    def raise_two():
        raise TwoArguments(1, 2)

    def raise_unpicklable():
        raise Unpicklable("told")

    assert "TwoArguments: 1 and 2" in str(pool.submit(raise_two).exception(timeout=30))
    assert "Unpicklable: told" in str(pool.submit(raise_unpicklable).exception(timeout=30))


def test_a_result_that_can_not_be_pickled_fails_its_work(pool):
    assert "pickle" in str(pool.submit(threading.Lock).exception(timeout=30))
    assert pool.submit(pow, 2, 2).result(timeout=30) == 4


def test_an_argument_that_can_not_be_pickled_fails_its_work(pool):
    assert "pickle" in str(pool.submit(print, threading.Lock()).exception(timeout=30))
    assert pool.submit(pow, 2, 2).result(timeout=30) == 4


def test_a_result_made_of_a_local_class_comes_back(pool):
    class Local:
        def __init__(self, value):
            self.value = value

    assert pool.submit(lambda: Local(5)).result(timeout=30).value == 5


@pytest.mark.parametrize("size", [0, 1, 65526, 65527, 65535, 65536, 200_000, 30_000_000])
def test_payloads_of_every_size_come_back_whole(pool, size):
    payload = os.urandom(1000) * (size // 1000 + 1)
    assert pool.submit(bytes.__add__, payload[:size], b"").result(timeout=60) == payload[:size]


def test_large_works_for_a_busy_pool_do_not_block_the_caller(pool, tmp_path):
    pool.submit(touch_and_sleep, tmp_path / "a", 0.5)
    started = time.monotonic()
    futures = [pool.submit(len, bytes(5_000_000)) for _ in range(4)]
    assert time.monotonic() - started < 0.45
    assert [future.result(timeout=30) for future in futures] == [5_000_000] * 4


def test_output_of_the_work_does_not_disturb_the_answers(capfd):
    def shout():
        os.write(1, b"raw\n")
        os.system("echo from a child; echo from a child >&2")
        print("printed")
        return 1

    with ProcessExecutor().open(1, WORKER) as pool:
        assert pool.submit(shout).result(timeout=30) == 1
    out, err = capfd.readouterr()
    assert out == "raw\nfrom a child\nprinted\n"
    assert err == "from a child\n"


def test_modules_that_only_this_process_can_find_are_found_by_the_worker(pool, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def triple(n): return 3 * n\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    assert pool.submit(only_here.triple, 5).result(timeout=30) == 15


# Workers.


def test_workers_are_started_only_as_there_is_work_for_them():
    with ProcessExecutor().open(4, WORKER) as pool:
        assert len({pool.submit(os.getpid).result(timeout=30) for _ in range(10)}) == 1


def test_works_run_at_the_same_time_but_never_more_than_asked(tmp_path):
    def meet(number):
        (tmp_path / str(number)).touch()
        return eventually(lambda: len(list(tmp_path.iterdir())) >= 3, 20)

    with ProcessExecutor().open(3, WORKER) as pool:
        assert [future.result(timeout=60) for future in [pool.submit(meet, n) for n in range(3)]] == [
            True
        ] * 3
        pids = {future.result(timeout=30) for future in [pool.submit(os.getpid) for _ in range(50)]}
    assert len(pids) <= 3


def test_a_worker_leads_a_session_of_its_own_and_reads_nothing_from_the_terminal(pool):
    def look():
        return os.getsid(0) == os.getpid() == os.getpgrp(), sys.stdin.read()

    assert pool.submit(look).result(timeout=30) == (True, "")


def test_programs_started_by_works_do_not_inherit_the_workers_descriptors(pool):
    def look():
        return subprocess.run(["ls", "/proc/self/fd"], capture_output=True, close_fds=False).stdout.split()

    assert set(pool.submit(look).result(timeout=30)) <= {b"0", b"1", b"2", b"3"}


def test_a_fork_in_a_work_does_not_warn_of_threads(pool):
    def fork():
        import warnings

        warnings.simplefilter("error")
        child = os.fork()
        if child == 0:
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len([*Path("/proc/self/task").iterdir()])

    assert pool.submit(fork).result(timeout=30) == (0, 1)


def test_a_command_that_does_not_exist_fails_the_work_and_says_so():
    with ProcessExecutor().open(2, ["/no/such/python", "-m", "x"]) as pool:
        for _ in range(2):
            with pytest.raises(ExecutorBrokenError, match=r"can't be started \(/no/such/python -m x\)"):
                pool.submit(pow, 1, 1).result(timeout=30)


def test_a_worker_that_ends_before_it_serves_is_not_started_for_ever(capfd):
    argv = [sys.executable, "-c", "import sys; sys.exit('not today')"]
    with ProcessExecutor().open(2, argv) as pool:
        futures = [pool.submit(pow, 1, 1) for _ in range(50)]
        for future in futures:
            with pytest.raises(ExecutorBrokenError, match="ended with exit code 1"):
                future.result(timeout=30)
    assert 1 <= capfd.readouterr().err.count("not today") <= 5


def test_fewer_workers_than_one_are_refused():
    with pytest.raises(ValueError, match="1 or more"):
        ProcessExecutor().open(0, WORKER)


# The end.


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def test_nothing_is_left_after_shutdown_whatever_happened():
    def live():
        with ProcessExecutor().open(2, WORKER) as pool:
            pids = {future.result(timeout=30) for future in [pool.submit(os.getpid) for _ in range(20)]}
            pool.submit(os._exit, 1).exception(timeout=30)
            killed = pool.submit(time.sleep, 60)
            killed.kill()
            killed.exception(timeout=30)
            pool.submit(os.closerange, 3, 1000).exception(timeout=30)
        return pids

    live()
    before, threads = descriptors(), threading.active_count()
    pids = live()
    gc.collect()
    assert (descriptors(), threading.active_count()) == (before, threads)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "a zombie was left"


def test_shutdown_without_waiting_lets_the_work_finish(tmp_path):
    pool = ProcessExecutor().open(1, WORKER)
    futures = [pool.submit(pow, 2, number) for number in range(5)]
    pool.shutdown(wait=False)
    assert [future.result(timeout=30) for future in futures] == [1, 2, 4, 8, 16]
    pool.shutdown()


def test_shutdown_cancels_what_waits_when_asked(tmp_path):
    pool = ProcessExecutor().open(1, WORKER)
    first = pool.submit(touch_and_sleep, tmp_path / "first", 0.2)
    others = [pool.submit(touch_and_sleep, tmp_path / "no") for _ in range(5)]
    running(tmp_path / "first")
    pool.shutdown(cancel_futures=True)
    assert first.exception() is None
    assert all(future.cancelled() for future in others)
    assert not (tmp_path / "no").exists()


def test_a_worker_that_does_not_end_by_itself_is_killed(tmp_path):
    def leave_a_thread():
        threading.Thread(target=time.sleep, args=(60,)).start()
        return os.getpid()

    started = time.monotonic()
    with ProcessExecutor().open(1, WORKER) as pool:
        pid = pool.submit(leave_a_thread).result(timeout=30)
    assert not is_alive(pid)
    assert time.monotonic() - started < 10


def test_a_worker_runs_its_exit_functions(tmp_path):
    def promise():
        import atexit

        atexit.register((tmp_path / "kept").touch)

    with ProcessExecutor().open(1, WORKER) as pool:
        pool.submit(promise).result(timeout=30)
    assert (tmp_path / "kept").exists()


def test_a_pool_that_is_dropped_ends_its_workers():
    pool = ProcessExecutor().open(1, WORKER)
    pid = pool.submit(os.getpid).result(timeout=30)
    del pool
    gc.collect()
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_a_callback_may_submit_and_shut_down():
    pool = ProcessExecutor().open(1, WORKER)
    done = threading.Event()

    def go_on(future):
        pool.submit(abs, -3).add_done_callback(lambda future: (pool.shutdown(wait=True), done.set()))

    pool.submit(abs, -2).add_done_callback(go_on)
    assert done.wait(30)
    pool.shutdown()


def run_program(tmp_path, text, **options):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, subprocess, sys, time\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[2])]!r}\n"
        "from taskproc.default_plugins.pool_executors import ProcessExecutor\n"
        f"pool = ProcessExecutor().open(2, {WORKER!r})\n" + textwrap.dedent(text)
    )
    return subprocess.Popen([sys.executable, "-W", "error", program], **options)


def test_a_program_that_forgets_its_pool_ends_after_the_work_is_done(tmp_path):
    text = """
        futures = [pool.submit(lambda: (time.sleep(0.1), os.write(1, b"done\\n"))) for _ in range(4)]
    """
    with run_program(tmp_path, text, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        out, err = program.communicate(timeout=30)
    assert (out, err, program.returncode) == (b"done\n" * 4, b"", 0)


BUSY = {
    "asleep": "time.sleep(60)",
    "in a loop": "\nwhile True: pass",
    "in C code that never lets go": "sum(range(10**13))",
    "waiting for a child": "subprocess.run(['sleep', '60'])",
}


@pytest.mark.parametrize("work", BUSY.values(), ids=BUSY.keys())
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_their_children_die_with_the_runner(tmp_path, work, death):
    text = f"""
        def busy(path):
            child = subprocess.Popen(["sleep", "61"])
            forked = os.fork()
            if forked == 0:
                time.sleep(62)
                os._exit(0)
            with open(path + ".part", "w") as file:
                file.write(f"{{os.getpid()}} {{child.pid}} {{forked}}")
            os.rename(path + ".part", path)
            exec({work!r}, globals())
        futures = [pool.submit(busy, {str(tmp_path / "pids")!r})]
        idle = pool.submit(os.getpid).result()
        open({str(tmp_path / "idle")!r}, "w").write(str(idle))
        time.sleep(60)
    """
    with run_program(tmp_path, text) as program:
        assert eventually((tmp_path / "pids").exists)
        idle = running(tmp_path / "idle")
        pids = [idle, *map(int, (tmp_path / "pids").read_text().split())]
        assert all(is_alive(pid) for pid in pids)
        program.send_signal(death)
        assert eventually(lambda: not any(is_alive(pid) for pid in pids), 5), [
            pid for pid in pids if is_alive(pid)
        ]


# Where the system tells of deaths less well.


@pytest.fixture
def without_pidfd(monkeypatch):
    monkeypatch.setattr(
        "taskproc.default_plugins.pool_executors.worker_process._open_pidfd", lambda pid: None
    )


def test_without_descriptors_of_processes_deaths_are_seen_too(without_pidfd, tmp_path):
    def fork_a_sleeper_and_die():
        if os.fork() == 0:
            os.setsid()
            time.sleep(3)
            os._exit(0)
        os._exit(7)

    with ProcessExecutor().open(2, WORKER) as pool:
        started = time.monotonic()
        assert "exit code 7" in str(pool.submit(fork_a_sleeper_and_die).exception(timeout=30))
        assert time.monotonic() - started < 2.5
        future = pool.submit(start_a_child_and_sleep, tmp_path / "child")
        child = running(tmp_path / "child")
        future.kill()
        assert "died of SIGKILL" in str(future.exception(timeout=30))
        assert eventually(lambda: not is_alive(child))
        pid = pool.submit(os.getpid).result(timeout=30)
    assert not Path(f"/proc/{pid}").exists()


# In place.


def test_in_place_an_interrupt_is_the_callers():
    with SerialExecutor().open(1, []) as executor, pytest.raises(KeyboardInterrupt):
        executor.submit(raise_it, KeyboardInterrupt())


def test_in_place_an_exit_ends_only_the_work():
    with SerialExecutor().open(1, []) as executor:
        assert isinstance(executor.submit(raise_it, SystemExit(0)).exception(), SystemExit)
