"""Capture by descriptor, in programs of their own; capture by context, in threads of this one."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskproc.engine.thread_capture import RoutedStream, thread_capture

ROOT = Path(__file__).parents[2]

PRELUDE = f"""
import ctypes, json, os, subprocess, sys
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from taskproc.engine.capture import DescriptorCapture

scratch = Path(sys.argv[1])
logs = []

def task(work):
    capture.start()
    try:
        work()
    finally:
        out, err = capture.finish()
        logs.append([path and path.read_bytes().decode("latin-1") for path in (out, err)])

def descriptors():
    return len(os.listdir("/proc/self/fd"))
"""


def program(tmp_path, text, prelude=PRELUDE):
    """Run a program that captures; returns its logs, and what came out of it uncaptured."""
    ending = '\n(scratch / "logs.json").write_text(json.dumps(logs))\n'
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + textwrap.dedent(text) + ending, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / "logs.json").read_text()), done.stdout, done.stderr


def tasks(tmp_path, *works, after=""):
    """Capture each work in turn, between one word before and one after that are not captured."""
    text = "print('before')\ncapture = DescriptorCapture(scratch, 'spool')\n"
    for number, work in enumerate(works):
        body = textwrap.indent(textwrap.dedent(work), "    ")
        text += f"def work{number}():\n{body}\ntask(work{number})\n"
    text += "capture.close()\nprint('after')\n" + after
    logs, out, err = program(tmp_path, text)
    assert out == "before\nafter\n"
    assert err == ""
    return logs


def test_what_is_printed_is_kept_apart_by_stream_and_by_task(tmp_path):
    logs = tasks(
        tmp_path,
        "print('one'); print('wrong', file=sys.stderr)",
        "pass",
        "print('three', end='')",
    )
    assert logs == [["one\n", "wrong\n"], [None, None], ["three", None]]


def test_child_processes_and_raw_writes_are_captured(tmp_path):
    (log,) = tasks(tmp_path, "os.system('echo hi; echo ho >&2'); os.write(1, b'raw'); os.write(2, b'RAW')")
    assert log == ["hi\nraw", "ho\nRAW"]


def test_what_a_c_library_still_buffers_goes_to_its_own_task(tmp_path):
    printf = "ctypes.CDLL(None).printf(b'%s\\n', b'from C {}')"
    logs = tasks(tmp_path, printf.format(1), printf.format(2), "pass")
    assert logs == [["from C 1\n", None], ["from C 2\n", None], [None, None]]


def test_a_disk_that_does_not_take_the_output_of_one_task_keeps_that_of_the_next_apart(tmp_path):
    """And what is said of it is seen: it goes where nothing is captured."""
    text = """
        capture = DescriptorCapture(scratch, "spool")
        rename = Path.rename
        def refuse(*_):
            raise OSError(28, "No space left on device")
        Path.rename = refuse
        try:
            task(lambda: (print("lost"), print("lost too", file=sys.stderr)))
        except OSError as error:
            print(error.strerror, file=sys.stderr)
        Path.rename = rename
        task(lambda: (print("kept"), print("kept too", file=sys.stderr)))
        capture.close()
    """
    logs, out, err = program(tmp_path, text)
    assert (out, err) == ("", "No space left on device\n")
    assert logs == [["kept\n", "kept too\n"]]


def test_fifty_megabytes_are_kept_whole(tmp_path):
    text = """
        capture = DescriptorCapture(scratch, "spool")
        capture.start()
        line = "x" * 99 + "\\n"
        for _ in range(1000):
            print(line * 500, end="")
        out, err = capture.finish()
        logs.append([out.stat().st_size, out.read_text() == line * 500_000, err])
        capture.close()
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [[50_000_000, True, None]]


def test_text_that_is_no_text_is_escaped_and_bytes_stay_as_they_are(tmp_path):
    (log,) = tasks(
        tmp_path, "print('\\udc80 \\xe4'); sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff\\x00')"
    )
    assert log[0] == "\\udc80 \xc3\xa4\n\xff\x00"


def test_the_encoding_of_the_locale_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    (log,) = tasks(tmp_path, "print('\\xe4')")
    assert log[0] == "\xc3\xa4\n"


@pytest.mark.parametrize(
    "harm",
    [
        "sys.stdout.close()",
        "sys.stdout.detach()",
        "os.close(1)",
        "os.close(1); os.close(2)",
        "sys.stdout = None",
        "del sys.stdout",
        "import io; sys.stdout = io.StringIO()",
        "sys.stdout = 7",
        "import codecs; sys.stdout = codecs.getwriter('latin-1')(sys.stdout.buffer)",
        "import io; sys.stdout = io.TextIOWrapper(sys.stdout.buffer)",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
        "sys.stdout.reconfigure(encoding='latin-1', line_buffering=False)",
        "os.unlink(scratch / 'spool.out')",
    ],
)
def test_what_a_task_does_to_its_output_is_over_when_it_ends(tmp_path, harm):
    logs = tasks(tmp_path, f"print('first', flush=True)\n{harm}", "print('second')", "print('third')")
    assert logs[0] in (["first\n", None], [None, None])
    assert logs[0][0] or "unlink" in harm
    assert logs[1:] == [["second\n", None], ["third\n", None]]


def test_a_replacement_that_a_task_left_is_flushed_into_its_own_log(tmp_path):
    harm = "sys.stdout = os.fdopen(os.dup(1), 'w'); print('in a buffer')"
    text = f"""
        import warnings; warnings.simplefilter("ignore", ResourceWarning)
        capture = DescriptorCapture(scratch, "spool")
        def work():
            {harm}
        task(work)
        task(lambda: None)
        capture.close()
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [["in a buffer\n", None], [None, None]]


def test_a_stream_that_was_kept_from_before_is_captured_too(tmp_path):
    text = """
        import logging
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        kept = sys.stdout
        capture = DescriptorCapture(scratch, "spool")
        task(lambda: (logging.error("logged"), print("kept", file=kept)))
        task(lambda: logging.error("again"))
        capture.close()
        logging.error("uncaptured")
    """
    logs, out, err = program(tmp_path, text)
    assert logs == [["kept\n", "logged\n"], [None, "again\n"]]
    assert (out, err) == ("", "uncaptured\n")


def test_a_process_started_without_output_captures_all_the_same(tmp_path):
    text = """
        os.close(1); os.close(2)
        sys.stdout = sys.stderr = None
        capture = DescriptorCapture(scratch, "spool")
        task(lambda: (print("out"), print("err", file=sys.stderr), os.system("echo child")))
        capture.close()
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [["out\nchild\n", "err\n"]]


def test_a_task_that_raises_keeps_its_output(tmp_path):
    text = """
        capture = DescriptorCapture(scratch, "spool")
        def fail():
            print("so far")
            raise LookupError
        try:
            task(fail)
        except LookupError:
            pass
        capture.close()
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [["so far\n", None]]


def test_an_empty_spool_file_is_kept_for_the_next_task(tmp_path):
    text = """
        capture = DescriptorCapture(scratch, "spool")
        inodes = []
        for _ in range(3):
            capture.start(); inodes.append(os.stat(capture.stdout_path).st_ino); capture.finish()
        logs.append(len(set(inodes)))
        capture.close()
        logs.append(os.listdir(scratch))
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [1, []]


def test_finished_logs_have_names_of_their_own_and_stay_when_the_capture_closes(tmp_path):
    logs = tasks(
        tmp_path, "print(1)", "print(2)", "print(3)", after="logs.append(sorted(os.listdir(scratch)))"
    )
    assert logs[-1] == ["spool.1.out", "spool.2.out", "spool.3.out"]


def test_a_thousand_tasks_leave_no_descriptor_behind(tmp_path):
    text = """
        before = descriptors()
        capture = DescriptorCapture(scratch, "spool")
        for number in range(1000):
            capture.start()
            if number % 3 == 0: print(number)
            if number % 7 == 0: sys.stdout.close()
            out, err = capture.finish()
            if out: out.unlink()
        logs.append(descriptors() - before <= 4)
        capture.close()
        logs.append(descriptors() - before)
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [True, 0]


def test_the_output_of_a_process_that_was_killed_lies_where_it_was_said(tmp_path):
    text = """
        capture = DescriptorCapture(scratch, "name")
        assert capture.stdout_path == scratch / "name.out"
        assert capture.stderr_path == scratch / "name.err"
        capture.start()
        print("last line")
        print("last error", file=sys.stderr)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", PRELUDE + textwrap.dedent(text), tmp_path], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "name.out").read_text() == "last line\n"
    assert (tmp_path / "name.err").read_text() == "last error\n"


def test_a_background_process_writes_on_into_the_log_of_its_own_task(tmp_path):
    text = """
        capture = DescriptorCapture(scratch, "spool")
        capture.start()
        child = subprocess.Popen("echo at once; read x; echo later", shell=True, stdin=subprocess.PIPE)
        while not os.stat(capture.stdout_path).st_size: pass
        out, _ = capture.finish()
        task(lambda: child.communicate(b"go\\n"))
        logs.append(out.read_text())
        capture.close()
    """
    logs, _, _ = program(tmp_path, text)
    assert logs == [[None, None], "at once\nlater\n"]


# By context.


class Recorder(io.StringIO):
    """What stands for the terminal in these tests."""

    encoding = "ascii"

    def isatty(self):
        return True

    def fileno(self):
        return 77


@pytest.fixture
def terminal():
    return Recorder()


@pytest.fixture
def capture(tmp_path):
    def capture(name):
        return thread_capture(tmp_path / f"{name}.out", tmp_path / f"{name}.err")

    return capture


def on_terminal(test):
    """Run a test with streams of our own; pytest's change between a fixture and its test."""

    @functools.wraps(test)
    def run(**fixtures):
        out, err = fixtures.get("terminal", Recorder()), Recorder()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            test(**fixtures)
            assert sys.stdout is out, "the streams of before are not back"
            assert sys.stderr is err, "the streams of before are not back"

    return run


@on_terminal
def test_each_context_has_its_own_file_made_at_the_first_write(capture, tmp_path, terminal):
    with capture("a"):
        print("to a")
        print("error of a", file=sys.stderr)
        assert not (tmp_path / "b.out").exists()
    with capture("b"):
        pass
    print("to the terminal")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.out": "to a\n",
        "a.err": "error of a\n",
    }
    assert terminal.getvalue() == "to the terminal\n"


@on_terminal
def test_threads_are_kept_apart_and_others_go_on_to_the_terminal(capture, tmp_path, terminal):
    both = threading.Barrier(3, timeout=30)

    def work(name):
        with capture(name):
            both.wait()
            for number in range(500):
                print(name, number)
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, name) for name in "ab"]
        both.wait()
        for number in range(500):
            print("main", number)
        both.wait()
        for future in futures:
            future.result()
    for name, text in [
        ("a", (tmp_path / "a.out").read_text()),
        ("b", (tmp_path / "b.out").read_text()),
        ("main", terminal.getvalue()),
    ]:
        assert text.splitlines() == [f"{name} {number}" for number in range(500)]


@on_terminal
def test_many_threads_that_come_and_go_leave_the_streams_as_they_were(capture, tmp_path, terminal):
    def work(number):
        with capture(str(number)):
            print(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(300)))
    assert [(tmp_path / f"{n}.out").read_text() for n in range(300)] == [f"{n}\n" for n in range(300)]
    assert terminal.getvalue() == ""


@on_terminal
def test_the_innermost_capture_of_a_context_has_the_output(capture, tmp_path):
    with capture("outer"):
        print("before")
        with capture("inner"):
            print("inside")
        print("after")
    assert (tmp_path / "outer.out").read_text() == "before\nafter\n"
    assert (tmp_path / "inner.out").read_text() == "inside\n"


@on_terminal
def test_bytes_and_text_come_in_the_order_they_were_written(capture, tmp_path):
    with capture("a"):
        sys.stdout.write("one ")
        sys.stdout.buffer.write(b"two \xff ")
        sys.stdout.writelines(["three", " four"])
        print("\udc80", flush=True)
    assert (tmp_path / "a.out").read_bytes() == b"one two \xff three four\\udc80\n"


@on_terminal
def test_the_stream_is_a_text_stream(capture, terminal):
    with capture("a"):
        assert isinstance(sys.stdout, io.TextIOBase)
        assert sys.stdout.writable()
        assert not sys.stdout.isatty()
        assert not sys.stdout.closed
        assert sys.stdout.encoding == "utf-8"
        assert sys.stdout.errors == "backslashreplace"
        assert sys.stdout.fileno() == sys.stdout.buffer.fileno() == 77
        seen = {}

        def look():
            seen.update(tty=sys.stdout.isatty(), encoding=sys.stdout.encoding, value=sys.stdout.getvalue())

        thread = threading.Thread(target=look)  # its context is its own
        thread.start()
        thread.join()
        assert seen == {"tty": True, "encoding": "ascii", "value": ""}


@on_terminal
def test_a_task_can_not_close_the_stream_of_all(capture, tmp_path, terminal):
    with capture("a"):
        sys.stdout.close()
        sys.stdout.buffer.close()
        print("still there")
    assert not terminal.closed
    assert (tmp_path / "a.out").read_text() == "still there\n"


@on_terminal
def test_a_failed_write_is_the_tasks_own_failure(tmp_path, terminal):
    with thread_capture(tmp_path / "no" / "such", tmp_path / "err"), pytest.raises(FileNotFoundError):
        print("lost")
    print("fine")
    assert terminal.getvalue() == "fine\n"


@on_terminal
def test_a_redirection_inside_a_task_works_and_ends(capture, tmp_path):
    with capture("a"):
        with contextlib.redirect_stdout(io.StringIO()) as inside:
            print("inside")
        print("outside")
    assert inside.getvalue() == "inside\n"
    assert (tmp_path / "a.out").read_text() == "outside\n"


@on_terminal
def test_a_stream_put_there_in_the_meantime_stays(capture, terminal):
    with capture("a"):
        other = sys.stdout = Recorder()
    assert sys.stdout is other
    sys.stdout = terminal


@on_terminal
def test_a_context_left_behind_writes_to_the_terminal_when_its_task_is_over(capture, tmp_path, terminal):
    import contextvars

    with capture("a"):
        print("in time")
        left_behind = contextvars.copy_context()
        stream = sys.stdout
    left_behind.run(print, "too late", file=stream)
    left_behind.run(stream.buffer.flush)
    assert (tmp_path / "a.out").read_text() == "in time\n"
    assert terminal.getvalue() == "too late\n"


@on_terminal
def test_work_handed_to_a_thread_with_its_context_belongs_to_the_task(capture, tmp_path):
    import asyncio

    async def main():
        await asyncio.to_thread(print, "from a thread")

    with capture("a"):
        asyncio.run(main())
    assert (tmp_path / "a.out").read_text() == "from a thread\n"


@on_terminal
def test_a_logging_handler_made_in_a_task_does_not_break_afterwards(capture, tmp_path):
    log = logging.getLogger("test of capture")
    with capture("a"):
        log.addHandler(handler := logging.StreamHandler())
        log.warning("captured")
    log.warning("later")
    log.removeHandler(handler)
    assert (tmp_path / "a.err").read_text() == "captured\n"
    assert sys.stderr.getvalue() == "later\n"


@on_terminal
def test_the_log_can_be_read_while_the_task_runs(capture, tmp_path):
    with capture("a"):
        print("a line")
        assert (tmp_path / "a.out").read_text() == "a line\n"


def test_a_process_without_streams_captures_and_prints_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with thread_capture(tmp_path / "out", tmp_path / "err"):
        print("kept")
        thread = threading.Thread(target=print, args=("dropped",))
        thread.start()
        thread.join()
    assert sys.stdout is None
    assert (tmp_path / "out").read_text() == "kept\n"


@on_terminal
def test_no_descriptor_is_left_open(capture, terminal):
    before = len([*Path("/dev/fd").iterdir()])
    for number in range(20):
        with capture(str(number)):
            print(number)
    assert len([*Path("/dev/fd").iterdir()]) == before
    assert not isinstance(sys.stdout, RoutedStream)
