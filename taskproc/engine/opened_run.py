"""A run's order, opened once in a process that does its jobs.

Decides what kind of place this process is, and what must be set up in it before anything of
the user's is unpickled. Knows nothing of single jobs.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import sys
import threading
from pathlib import Path

from taskproc.core.records import TaskKey
from taskproc.core.task import Task
from taskproc.engine.capture import DescriptorCapture
from taskproc.engine.code_checks import Comparison
from taskproc.engine.jobs import RunOrder
from taskproc.engine.pickling import loads
from taskproc.engine.process_state import ProcessState
from taskproc.engine.versions import python_minor
from taskproc.imports import forbid_stale_bytecode
from taskproc.modules import load_file_as


def spool_of_worker(scratch: Path, run: str, pid: int) -> Path:
    """Where a worker of the pool keeps a task's output while it runs (`.out` and `.err` behind it)."""
    return scratch / f"{run}-{pid}"


def spool_of_thread(scratch: Path, run: str, key: TaskKey) -> Path:
    """The same for a task that shares its process with others."""
    return scratch / f"{run}-{key.digest}"


def spool_of_launched(directory: str) -> Path:
    """The same for a launched job."""
    return Path(directory) / "task"


class OpenedRun:
    """A run's order, opened in this process: paths set, files loaded, classes on demand."""

    def __init__(self, order: RunOrder) -> None:
        self.order = order
        self.backend = order.backend
        self._classes: dict[str, type[Task]] = {}
        self._comparison = Comparison(order.checks)
        self._capture: DescriptorCapture | None = None
        self.spool = spool_of_worker(order.backend.scratch(), order.run, os.getpid())
        self.host = os.uname().nodename
        elsewhere = os.getpid() != order.pid or self.host != order.host
        self.own_process = elsewhere and threading.current_thread() is threading.main_thread()
        self.in_runner = not elsewhere
        self._state = ProcessState(order.folder) if self.own_process else None

    def task_class(self, name: str) -> type[Task]:
        """The class of this task name, unpickled once."""
        cls = self._classes.get(name)
        if cls is None:
            cls = loads(self.order.classes[name])
            self._classes[name] = cls
        return cls

    def other_code(self, name: str) -> list[str]:
        """Names in the code of a task class under which this process has something else than the runner."""
        if self.in_runner or self.order.python != python_minor():
            return []
        return self._comparison.failed(name)

    def capture(self) -> DescriptorCapture:
        """The capture of this process, which lasts from job to job."""
        if self._capture is None:
            self._capture = DescriptorCapture(self.spool.parent, self.spool.name)
            atexit.register(self.end_capture)
        return self._capture

    def put_process_right(self) -> None:
        """Undo what a task may have left in a process of ours that would strike the next one."""
        if self._state is not None:
            self._state.put_right()

    def end_capture(self) -> None:
        """Give descriptors 1 and 2 back to whoever owns this process."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()


@functools.lru_cache(maxsize=2)
def open_order(blob: bytes) -> OpenedRun:
    """Open a run's order once in a process; every run has an order of its own."""
    (sys_path, files, pid, host), order = pickle.loads(blob)
    if os.getpid() != pid or os.uname().nodename != host:
        sys.path[:] = sys_path
        forbid_stale_bytecode()
        for name, file in files:
            if name not in sys.modules:
                load_file_as(name, file)
    return OpenedRun(loads(order))
