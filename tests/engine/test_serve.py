"""The worker's side of the protocol, spoken to as the documentation of it says."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
PROGRAM = (
    f"import sys; sys.path[:0] = [{ROOT!r}]; from taskproc.engine.serve import serve;"
    " serve(*map(int, sys.argv[1:]))"
)


class Peer:
    """A runner of a few lines: what the documentation says, and nothing of the pool's."""

    def __init__(self, stack):
        ours, theirs = socket.socketpair()
        self.socket = stack.enter_context(ours)
        stack.enter_context(theirs)
        ours.settimeout(30)
        self.status = os.memfd_create("status")
        stack.callback(os.close, self.status)
        os.pwrite(self.status, b"\xff" * 16, 0)
        read, self.lifeline = os.pipe()
        fds = (theirs.fileno(), self.status, read)
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *map(str, fds)], pass_fds=fds, start_new_session=True
            )
        )
        stack.callback(self.process.kill)
        stack.callback(self.cut)
        os.close(read)
        theirs.close()

    def cut(self):
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None

    def send(self, kind, value):
        body = kind + pickle.dumps(value)
        self.socket.sendall(len(body).to_bytes(8, "little") + body)

    def receive(self):
        size = int.from_bytes(self.exactly(8), "little")
        body = self.exactly(size)
        return body[:1], body[1:]

    def exactly(self, size):
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            assert chunk, "the worker hung up"
            data += chunk
        return data

    def call(self, function, *args, **kwargs):
        self.send(b"C", (function, args, kwargs))
        kind, body = self.receive()
        return kind, pickle.loads(body)

    def read_status(self):
        status = os.pread(self.status, 16, 0)
        return tuple(int.from_bytes(part, "little", signed=True) for part in (status[:8], status[8:]))


@pytest.fixture
def peer():
    with contextlib.ExitStack() as stack:
        yield Peer(stack)


def announce(payload, announcer):
    for number in range(3):
        announcer.announce(number)
        announcer.send(payload)
    return "announced"


def test_a_call_is_answered_with_its_result(peer):
    assert peer.call(divmod, 7, 2) == (b"R", (3, 1))
    assert peer.call(int, "ff", base=16) == (b"R", 255)


def test_an_exception_is_answered_with_its_traceback(peer):
    kind, (error, text) = peer.call(divmod, 1, 0)
    assert (kind, type(error)) == (b"X", ZeroDivisionError)
    assert text.startswith("Traceback (most recent call last)")


def test_works_that_were_sent_ahead_are_done_in_order(peer):
    for number in range(100):
        peer.send(b"C", (abs, (-number,), {}))
    assert [pickle.loads(peer.receive()[1]) for _ in range(100)] == list(range(100))


def test_a_frame_may_come_in_pieces(peer):
    body = b"C" + pickle.dumps((len, (bytes(100_000),), {}))
    data = len(body).to_bytes(8, "little") + body
    for start in range(0, len(data), 9973):
        peer.socket.sendall(data[start : start + 9973])
    assert pickle.loads(peer.receive()[1]) == 100_000


def test_a_path_is_taken_over_without_an_answer(peer, tmp_path):
    peer.send(b"P", [str(tmp_path), *sys.path])
    (tmp_path / "found_by_the_worker.py").write_text("NAME = 'found'\n")
    assert peer.call(eval, "__import__('found_by_the_worker').NAME") == (b"R", "found")


def test_a_function_that_can_not_be_found_is_an_answer_too(peer):
    pickled = b"\x80\x04cno_such_module\nf\n)}\x87."
    peer.socket.sendall((len(pickled) + 1).to_bytes(8, "little") + b"C" + pickled)
    kind, body = peer.receive()
    assert kind == b"X"
    assert isinstance(pickle.loads(body)[0], ModuleNotFoundError)
    assert peer.call(abs, -1) == (b"R", 1)


def test_messages_and_positions_go_out_while_the_work_runs(peer):
    peer.send(b"P", [str(Path(__file__).parent), *sys.path])
    peer.send(b"W", (announce, (b"hello",), {}))
    assert [peer.receive() for _ in range(3)] == [(b"M", b"hello")] * 3
    assert pickle.loads(peer.receive()[1]) == "announced"
    assert peer.read_status() == (2, 1)
    peer.call(abs, -1)
    assert peer.read_status() == (-1, 2)


def test_the_status_tells_a_worker_that_serves_from_one_that_never_came_so_far(peer):
    assert peer.read_status()[0] == -1
    peer.call(abs, -1)
    assert peer.read_status() == (-1, 1)


def test_the_worker_ends_when_the_socket_closes(peer):
    peer.call(abs, -1)
    peer.socket.close()
    assert peer.process.wait(timeout=30) == 0


def test_the_worker_is_killed_when_the_lifeline_closes_even_in_the_midst_of_c_code(peer):
    peer.call(abs, -1)
    peer.send(b"C", (sum, (range(10**13),), {}))
    while peer.read_status()[1] < 2:
        pass
    peer.cut()
    assert peer.process.wait(timeout=30) == -signal.SIGKILL


def test_a_worker_that_comes_up_after_its_runner_died_does_not_stay(peer):
    # It is still starting its interpreter: only the look at the end of the set-up sees this.
    peer.cut()
    assert peer.process.wait(timeout=30) == -signal.SIGKILL


def test_an_interrupt_between_works_or_in_one_is_not_lost(peer):
    kind, (error, _) = peer.call(signal.raise_signal, signal.SIGINT)
    assert (kind, type(error)) == (b"X", KeyboardInterrupt)
    assert peer.call(abs, -1) == (b"R", 1)


def test_without_signals_from_the_kernel_a_thread_watches_the_lifeline(monkeypatch):
    program = "import fcntl; del fcntl.F_SETSIG; " + PROGRAM
    monkeypatch.setitem(globals(), "PROGRAM", program)
    with contextlib.ExitStack() as stack:
        peer = Peer(stack)
        assert peer.call(abs, -1) == (b"R", 1)
        peer.send(b"C", (eval, ("[None for _ in iter(int, 1)]",), {}))
        peer.cut()
        assert peer.process.wait(timeout=30) == -signal.SIGKILL


def test_serving_imports_little():
    text = (
        "import sys; before = {*sys.modules}; import taskproc.engine.serve; print(*{*sys.modules} - before)"
    )
    out = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"click", "rich", "pluggy", "asyncio", "logging", "multiprocessing", "subprocess", "socket"}
    assert not heavy & {name.split(".")[0] for name in out.stdout.split()}
