"""Put a failing disk under the store: every step that changes it is counted, and one of them fails.

`default_plugins/directory_cache/files.py` does every write of the store, through `os`; here it is
given another `os`, in whichever process the cache comes to. What is to happen at which step stands
in a file that all processes of a run share, so steps are numbered in the order in which they happen.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pickle
import shutil
import signal
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from taskproc.default_plugins.directory_cache import DirectoryCache, files
from taskproc.interfaces import Record

Tree = dict[str, Any]
"""What stands in a folder: bytes, or another tree, or ("link", target)."""

DEATHS = ("kill", "torn", "cut")
_STRIKES = {
    "kill": None,
    "cut": None,
    "torn": ("write", "rmtree"),
    "EIO": None,
    "ENOSPC": ("mkdir", "create", "write", "rename", "fsync"),
    "EACCES": ("mkdir", "create", "open", "rename", "unlink", "rmdir", "rmtree"),
    "unreadable": ("read",),
}
"""The steps at which each fault can strike; None: all that change something."""

_STATE = struct.Struct("qqq")  # steps done, how often the fault struck, whether all is over
_LOG = "steps"


def strikes(fault: str, step: str) -> bool:
    """Whether this fault can strike at a step of this kind."""
    kinds = _STRIKES[fault]
    return kinds is None or step in kinds


@dataclass(frozen=True)
class Point:
    """What is to fail: the step of this number (0: none), and with `sticky` all that follow it.

    With `careless` nothing is brought to the disk, as if the store did not know of fsync.
    """

    fault: str = "kill"
    at: int = 0
    sticky: bool = False
    careless: bool = False


class Control:
    """The steps of one run, in files that its processes share.

    Attributes:
        folder: where these files are.
        journals: whether what a power cut takes away is to be known afterwards.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(f"{folder}/point", "rb") as file:
            self.point, self.root, self.journals = pickle.load(file)
        self._guard = threading.RLock()
        self._descriptor = os.open(f"{folder}/state", os.O_RDWR | os.O_CLOEXEC)
        self._log = os.open(f"{folder}/{_LOG}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._owner = 0
        os.close(os.open(f"{folder}/pids/{os.getpid()}", os.O_CREAT | os.O_WRONLY))

    @staticmethod
    def make(folder: Path, root: Path, point: Point, journals: bool = False) -> str:
        """Prepare a run; returns the folder, for `FaultyCache`."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "pids").mkdir(parents=True)
        (folder / "point").write_bytes(pickle.dumps((point, str(root), journals)))
        (folder / "state").write_bytes(_STATE.pack(0, 0, 0))
        (folder / _LOG).touch()
        return str(folder)

    def step(self, kind: str, path: str, act: Callable[[], Any], half: Callable[[], Any] = lambda: None,
             entry: Callable[[], tuple[Any, ...]] | None = None) -> Any:  # fmt: skip
        """Do `act`, unless it is its turn to fail; `half` is what can be done of it before."""
        inside = self._owner == threading.get_ident()
        # Reading is numbered apart, so that it does not have to be done over and over.
        is_other = (kind == "read") != (self.point.fault == "unreadable")
        if (
            inside
            or is_other
            or not (path.startswith(f"{self.root}/") or path in (self.root, os.path.dirname(self.root)))
        ):
            return act()
        with self._alone():
            count, struck, is_over = _STATE.unpack(os.pread(self._descriptor, _STATE.size, 0))
            if is_over:
                _die()
            count += 1
            point = self.point
            is_due = 0 < point.at <= count and (point.sticky or not struck) and strikes(point.fault, kind)
            state = _STATE.pack(count, struck + is_due, is_due and point.fault == "cut")
            os.pwrite(self._descriptor, state, 0)
            if is_due:
                self._strike(point.fault, path, half)
            logged = entry() if self.journals and entry is not None else (kind, path)
            answer = act()
            os.write(self._log, pickle.dumps(logged))
            return answer

    def _strike(self, fault: str, path: str, half: Callable[[], Any]) -> None:
        note(f"{self.folder}/struck", path)
        if fault in ("torn", "ENOSPC"):
            half()
        if fault == "cut":
            with contextlib.suppress(OSError):
                os.kill(int(Path(f"{self.folder}/runner").read_text()), signal.SIGKILL)
        if fault in DEATHS:
            _die()
        number = errno.EIO if fault == "unreadable" else getattr(errno, fault)
        raise OSError(number, os.strerror(number), path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._guard:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = 0
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def steps_of(folder: str | Path) -> list[tuple[Any, ...]]:
    """The steps that were done, as they were logged."""
    found: list[tuple[Any, ...]] = []
    with open(f"{folder}/{_LOG}", "rb") as file, contextlib.suppress(EOFError):
        while True:
            found.append(pickle.load(file))
    return found


def times_struck(folder: str | Path) -> int:
    """How often the fault struck."""
    return int(_STATE.unpack(Path(f"{folder}/state").read_bytes())[1])


def paths_struck(folder: str | Path) -> Sequence[str]:
    """At which paths the fault struck."""
    return lines_of(f"{folder}/struck")


def pids_of(folder: str | Path) -> list[int]:
    """The processes that had the disk in use."""
    return [int(name) for name in os.listdir(f"{folder}/pids")]


def read_tree(path: str) -> Any:
    """What stands at a path: bytes, a Tree, or a link; None if nothing does."""
    if os.path.islink(path):
        return ("link", os.readlink(path))
    if os.path.isdir(path):
        return {name: read_tree(f"{path}/{name}") for name in sorted(os.listdir(path))}
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return None


class FailingOs:
    """`os` as `files.py` sees it, with a step for all that changes the disk."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._paths: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._control.step("mkdir", path, lambda: os.mkdir(path, mode))

    def makedirs(self, path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        self._control.step("mkdir", path, lambda: os.makedirs(path, mode, exist_ok))

    def open(self, path: str, flags: int, mode: int = 0o777, **named: Any) -> int:
        def act() -> int:
            descriptor = os.open(path, flags, mode, **named)
            self._paths[descriptor] = path
            return descriptor

        if not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            return int(self._control.step("read", path, act))
        kind = "open" if os.path.lexists(path) else "create"
        return int(self._control.step(kind, path, act))

    def close(self, descriptor: int) -> None:
        self._paths.pop(descriptor, None)
        os.close(descriptor)

    def read(self, descriptor: int, size: int) -> bytes:
        path = self._paths.get(descriptor, "")
        return bytes(self._control.step("read", path, lambda: os.read(descriptor, size)))

    def write(self, descriptor: int, data: bytes) -> int:
        path = self._paths.get(descriptor, "")
        half = bytes(data)[: len(data) // 2]
        return int(
            self._control.step(
                "write", path, lambda: os.write(descriptor, data), lambda: os.write(descriptor, half)
            )
        )

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        path = self._paths.get(descriptor, "")
        return int(self._control.step("write", path, lambda: os.pwrite(descriptor, data, offset)))

    def ftruncate(self, descriptor: int, size: int) -> None:
        path = self._paths.get(descriptor, "")
        self._control.step("write", path, lambda: os.ftruncate(descriptor, size))

    def fsync(self, descriptor: int) -> None:
        path = self._paths.get(descriptor, "")

        def entry() -> tuple[Any, ...]:
            if self._control.point.careless:
                return ("fsync, but for nothing", path)
            tree = read_tree(path)
            return ("fsync", path, dict.fromkeys(tree) if isinstance(tree, dict) else tree)

        # Nothing is brought to a disk: what would have been is known from the log.
        self._control.step("fsync", path, lambda: None, entry=entry)

    def rename(self, source: str, target: str, **named: Any) -> None:
        def entry() -> tuple[Any, ...]:
            return ("rename", source, target, os.path.isdir(source), read_tree(target))

        if not os.path.lexists(source):
            os.rename(source, target)  # raises
        self._control.step("rename", target, lambda: os.rename(source, target, **named), entry=entry)

    replace = rename

    def link(self, source: str, target: str, **named: Any) -> None:
        self._control.step("create", target, lambda: os.link(source, target, **named))

    def symlink(self, source: str, target: str, **named: Any) -> None:
        self._control.step("create", target, lambda: os.symlink(source, target, **named))

    def chmod(self, path: str, mode: int, **named: Any) -> None:
        self._control.step("chmod", path, lambda: os.chmod(path, mode, **named))

    def unlink(self, path: str, **named: Any) -> None:
        if not os.path.lexists(path) and not named:
            os.unlink(path)  # raises
        entry = ("unlink", path)
        self._control.step(
            "unlink", path, lambda: os.unlink(path, **named), entry=lambda: (*entry, read_tree(path))
        )

    remove = unlink

    def rmdir(self, path: str, **named: Any) -> None:
        if not named and (not os.path.isdir(path) or os.listdir(path)):
            os.rmdir(path)  # raises
        self._control.step("rmdir", path, lambda: os.rmdir(path, **named))


def _failing_remove_tree(control: Control, real: Callable[..., None]) -> Callable[..., None]:
    def remove_tree(self: Any, path: str) -> None:
        if not os.path.isdir(path) or os.path.islink(path):
            real(self, path)
            return

        def half() -> None:
            inside = [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]
            for one in sorted(inside)[: (len(inside) + 1) // 2]:
                os.unlink(one)

        entry = ("rmtree", path)
        control.step("rmtree", path, lambda: real(self, path), half, entry=lambda: (*entry, read_tree(path)))

    return remove_tree


def install(folder: str) -> None:
    """Put the failing disk under every cache of this process; it stays for good."""
    if isinstance(files.os, FailingOs):
        return
    control = Control(folder)
    files.os = FailingOs(control)  # type: ignore[assignment]
    files.Files.remove_tree = _failing_remove_tree(control, files.Files.remove_tree)  # type: ignore[method-assign]


@dataclass(frozen=True)
class FaultyCache(DirectoryCache):
    """A directory cache on a failing disk, wherever it is sent.

    Attributes:
        control: the folder of the run's `Control`; "" for a sound disk.
        saved: a file that gets a line for each result that was saved.
        durable: the task whose results are to survive a power cut, however quickly they were
            computed; "all": of all tasks.
    """

    name: ClassVar[str] = "faulty"

    control: str = ""
    saved: str = ""
    durable: str = ""

    def __setstate__(self, options: dict[str, Any]) -> None:
        super().__setstate__(options)
        self.put_under()

    def put_under(self) -> None:
        """Begin to count, in this process."""
        if self.control:
            install(self.control)

    def save(self, record: Record, payload: bytes, compress_level: int, durable: bool) -> None:
        durable = durable or self.durable in ("all", record.key.name)
        if durable:  # as if it had taken long, so that there is time to sync all that it rests on
            record = replace(record, provenance={**record.provenance, "seconds": 3600.0})
        super().save(record, payload, compress_level, durable)
        if self.saved:
            note(self.saved, f"{record.key.name} {record.key.digest} {durable}")


def note(path: str, line: str) -> None:
    """Add a line to a file outside of the cache, by one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def lines_of(path: str | Path) -> Sequence[str]:
    """The lines that were noted."""
    return Path(path).read_text().splitlines() if os.path.exists(path) else []
