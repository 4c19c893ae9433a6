"""Tell processes from others that got the same number later, and end what a client or this process started.

A client leads a session of its own, so that what it started is found by the session's number
(on Linux; elsewhere only its process group is). What has made itself a session of its own is
beyond this. Knows nothing of jobs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_AFTER_COMM = b")"  # the name before it may hold anything, blanks and brackets too
_PARENT, _GROUP, _SESSION, _START = 1, 2, 3, 19
_DEAD = (b"Z", b"X")


def start_of(pid: int) -> str:
    """When the process of this number was started, as a text that no other has; "" if there is none."""
    if sys.platform == "linux":
        fields = _stat(pid)
        return f"{_boot_id()} {fields[_START].decode()}" if fields is not None else ""
    else:
        import subprocess  # only here: every command and every worker imports this module

        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return done.stdout.strip()


def is_running(pid: int, start: str) -> bool:
    """Whether a process still runs that was started then (see `start_of`), and not another one."""
    if start_of(pid) != start or not start:
        return False
    fields = _stat(pid) if sys.platform == "linux" else None
    return fields is None or fields[0] not in _DEAD


def signal_sessions(leaders: Collection[int], number: int, gone: Collection[int] = ()) -> int:
    """Send a signal to the sessions and process groups that these processes made.

    Args:
        leaders: their process ids, as numbers that can't have been given to others meanwhile.
        number: the signal.
        gone: ids of leaders that have ended and were reaped; another process may be called so by
            now, and then its session is left alone.

    Returns how many processes were found; those of a group count as one.
    """
    found = 0
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)
            found += 1
    wanted = {*leaders, *gone}
    members = list(_members(wanted)) if wanted else []
    reused = {pid for pid, _, _ in members if pid in gone}
    for pid, session, group in members:
        if session not in reused and group not in leaders:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                found += 1
    return found


def now_in_ticks() -> int:
    """The time now, on the clock by which `end_descendants` tells when a process was started."""
    if sys.platform != "linux":
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def end_descendants(since: int) -> None:
    """Ask what was started below this process since then to end (SIGTERM), on Linux.

    Those in sessions of their own are left alone, and so are all that were there before: they are
    not of this run.
    """
    if sys.platform != "linux":
        return
    known = {
        int(name): fields for name in os.listdir("/proc") if name.isdigit() and (fields := _stat(int(name)))
    }
    children: dict[int, list[int]] = {}
    for pid, fields in known.items():
        children.setdefault(int(fields[_PARENT]), []).append(pid)
    session, waiting, found = os.getsid(0), [os.getpid()], list[int]()
    while waiting:
        for pid in children.pop(waiting.pop(), ()):
            waiting.append(pid)
            if int(known[pid][_SESSION]) == session and int(known[pid][_START]) >= since:
                found.append(pid)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def _members(sessions: Collection[int]) -> Iterator[tuple[int, int, int]]:
    """(process, session, process group) of all processes in these sessions that have not ended."""
    if sys.platform != "linux":
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            session = int(fields[_SESSION])
            if session in sessions and fields[0] not in _DEAD:
                yield int(name), session, int(fields[_GROUP])


def _stat(pid: int) -> list[bytes] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return text[text.rindex(_AFTER_COMM) + 1 :].split()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
