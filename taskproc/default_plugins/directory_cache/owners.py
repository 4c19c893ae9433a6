"""Say which process this is, and what is known here of another one, on this host or elsewhere.

Process numbers mean something only under one kernel and in one namespace; a number may be given
anew, so the time of its start goes with it. Knows nothing of files or claims.
"""

from __future__ import annotations

import os
import sys
from typing import Literal, NamedTuple

State = Literal["lives", "stopped", "gone", "unknown"]


class Owner(NamedTuple):
    """A process as its lease file tells it.

    Attributes:
        host: the name of its host.
        boot: the id of that host's running kernel; "" where there is none.
        space: the namespace of its process number; "" where there are none.
        pid: its number.
        start: when it was started, in ticks of that kernel; "" where that can't be had.
        locks: whether it holds a lock on its file.
        runner: for a job in a process of its own, the ticket of its runner; else "".
    """

    host: str
    boot: str
    space: str
    pid: int
    start: str
    locks: bool
    runner: str


def this_process(locks: bool, runner: str = "") -> Owner:
    """This process, as an owner."""
    pid = os.getpid()
    return Owner(os.uname().nodename, _boot(), _space(), pid, _status(pid)[1], locks, runner)


def has_kernel_of(owner: Owner, here: Owner) -> bool:
    """Whether a process runs under the kernel of `here`, be it in a container, so that locks are common."""
    return owner.boot == here.boot and (owner.boot != "" or owner.host == here.host)


def state_of(owner: Owner, here: Owner) -> State:
    """What has become of a process; "unknown" for one whose number means nothing here."""
    if not has_kernel_of(owner, here) or owner.space != here.space:
        return "unknown"
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError):
        return "gone"
    except OSError:  # another user's
        pass
    letter, start = _status(owner.pid)
    if start and owner.start and start != owner.start:
        return "gone"  # another process has got its number
    if letter in ("Z", "X"):
        return "gone"
    if letter in ("T", "t"):
        return "stopped"
    return "lives" if start and owner.start else "unknown"


def _status(pid: int) -> tuple[str, str]:
    """The letter of a process's state, and when it was started; empty where there is no /proc."""
    text = _read(f"/proc/{pid}/stat")
    # The name before it may hold anything, blanks and brackets too.
    fields = text[text.rfind(")") + 1 :].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid") if sys.platform == "linux" else ""
    except OSError:
        return ""


def _read(path: str) -> str:
    if sys.platform != "linux":
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
