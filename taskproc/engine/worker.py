"""What runs in a worker: load, capture, run, save, answer.

The same code serves a process of our own pool, a launched command, and any thread or
process of somebody else's executor. It imports no click and no rich, and scans no entry
points: a worker's imports are the price of every launched job.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import taskproc
from taskproc.core.arguments import Encoder
from taskproc.core.records import Outcome, Record, TaskKey, content_digest
from taskproc.core.task import Task, enter_scope, leave_scope, make_reference
from taskproc.engine.capture import DescriptorCapture
from taskproc.engine.failure import describe
from taskproc.engine.forks import call_as_parent
from taskproc.engine.jobs import (
    SMALL_RESULT,
    Answer,
    FindsTasks,
    JobOrder,
    RunOrder,
    pack_answers,
    read_batch,
    upstream_records,
)
from taskproc.engine.pickling import Pickled, dumps, name_unpicklable
from taskproc.engine.thread_capture import thread_capture
from taskproc.engine.versions import content_version, python_minor
from taskproc.errors import DamagedEntryError, MissingResultError, NoCacheError, UnpicklableResultError
from taskproc.interfaces import Announcer
from taskproc.modules import load_file_as

_DURABLE_SECONDS = 0.1
_FLUSH_SECONDS = 0.02
_PYTHON = ".".join(map(str, sys.version_info[:3]))

ORDERS_FILE = "orders.pkl"
OUTCOME_FILE = "outcome.pkl"


def spool_of_worker(scratch: Path, run: str, pid: int) -> Path:
    """Where a worker of the pool keeps a task's output while it runs (`.out` and `.err` behind it)."""
    return scratch / f"{run}-{pid}"


def spool_of_launched(directory: str) -> Path:
    """The same for a launched job."""
    return Path(directory) / "task"


class Settings:
    """A run's order, opened in this process: paths set, files loaded, classes on demand."""

    def __init__(self, order: RunOrder) -> None:
        self.order = order
        self.backend = order.backend
        self._classes: dict[str, type[Task]] = {}
        self._capture: DescriptorCapture | None = None
        self.spool = spool_of_worker(order.backend.scratch(), order.run, os.getpid())
        self.host = os.uname().nodename
        elsewhere = os.getpid() != order.pid or self.host != order.host
        self.own_process = elsewhere and threading.current_thread() is threading.main_thread()
        self.in_runner = not elsewhere
        if self.own_process:
            self._umask = os.umask(0o077)
            os.umask(self._umask)

    def task_class(self, name: str) -> type[Task]:
        """The class of this task name, unpickled once."""
        cls = self._classes.get(name)
        if cls is None:
            cls = pickle.loads(self.order.classes[name])
            self._classes[name] = cls
        return cls

    def capture(self) -> DescriptorCapture:
        """The capture of this process, which lasts from job to job."""
        if self._capture is None:
            self._capture = DescriptorCapture(self.spool.parent, self.spool.name)
            atexit.register(self.end_capture)
        return self._capture

    def put_process_right(self) -> None:
        """Undo what a task may have left in a process of ours that would strike the next one."""
        with contextlib.suppress(OSError):
            os.chdir(self.order.folder)
        os.umask(self._umask)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def end_capture(self) -> None:
        """Give descriptors 1 and 2 back to whoever owns this process."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()


@functools.lru_cache(maxsize=2)
def open_order(blob: bytes) -> Settings:
    """Open a run's order once in a process; every run has an order of its own."""
    (sys_path, files, pid, host), order = pickle.loads(blob)
    if os.getpid() != pid or os.uname().nodename != host:
        sys.path[:] = sys_path
        for name, file in files:
            if name not in sys.modules:
                load_file_as(name, file)
    return Settings(pickle.loads(order))


class JobBinding(FindsTasks):
    """What a task is bound to inside a job: it may load results, and that is all."""

    def __init__(self, settings: Settings, job: JobOrder) -> None:
        self.settings = settings
        self.instances: dict[tuple[type, str], Task] = {}
        self.encoder = Encoder()
        self.location = settings.backend.location
        self.unsound: list[TaskKey] = []
        self._job = job
        self._upstreams = {up.key: up for up in job.upstreams}
        self._tasks: dict[TaskKey, Task] = {}

    def find(self, key: TaskKey) -> Task:
        """The task of this key: with its attributes if it is a direct upstream."""
        task = self._tasks.get(key)
        if task is None:
            cls = self.settings.task_class(key.name)
            upstream = self._upstreams.get(key)
            task = make_reference(cls, key.digest, upstream.args if upstream is not None else {}, self)
            self._tasks[key] = task
            self.instances[cls, key.digest] = task
            if upstream is not None and upstream.attributes is not None:
                self._give_attributes(task, upstream.attributes)
        return task

    def main_task(self) -> Task:
        """The task of the job itself, with all its attributes in place."""
        job = self._job
        cls = self.settings.task_class(job.key.name)
        task = make_reference(cls, job.key.digest, job.args, self)
        self._tasks[job.key] = task
        self.instances[cls, job.key.digest] = task
        for name, value in pickle.loads(job.attributes).items():
            object.__setattr__(task, name, value)
        return task

    def _give_attributes(self, task: Task, blob: bytes) -> None:
        def load() -> Mapping[str, Any]:
            attributes: dict[str, Any] = pickle.loads(blob)
            return attributes

        if type(task).__getattr__ is Task.__getattr__:  # type: ignore[attr-defined]
            task._task.attributes = load
        else:  # a class that looks up attributes its own way gets them at once
            for name, value in load().items():
                object.__setattr__(task, name, value)

    def load_result(self, task: Task) -> Any:
        key = task._task.key
        upstream = self._upstreams.get(key)
        if upstream is not None and upstream.result is not None:
            return pickle.loads(upstream.result)
        try:
            payload = self.settings.backend.load(key, upstream.digest if upstream is not None else None)
        except (DamagedEntryError, MissingResultError):
            self.unsound.append(key)
            raise
        return pickle.loads(payload)

    def data_directory(self, task: Task, create: bool) -> Path:
        return self.settings.backend.data_directory(task._task.key, create)

    def log_path(self, task: Task, stream: Literal["stdout", "stderr"]) -> Path:
        paths = self.settings.backend.log_paths(task._task.key)
        return paths.stdout if stream == "stdout" else paths.stderr

    def initialise(self, depth: int, call: Callable[[], None]) -> None:
        raise NoCacheError(
            f"a task is constructed inside the run_task of {self._job.key.name}; construct upstream "
            "tasks in __init__ (a pipeline of its own needs `with Cache(...)` around it)"
        )

    def wait_until_built(self, state: Any) -> None:
        raise NoCacheError("tasks can't be constructed inside run_task")

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NoCacheError(
            "run_graph, plan and clear can't be called on an upstream inside a run_task "
            f"({self._job.key.name})"
        )

    run_graph = plan = clear = clear_all = _refuse


def run_batch(payload: bytes, announcer: Announcer | None = None) -> bytes:
    """Do jobs one after the other; returns the answers that were not sent before, packed.

    Jobs left when the batch has used up its time are returned undone.
    """
    batch = read_batch(payload)
    return pack_answers(_run_jobs(open_order(batch.order), batch.jobs, announcer))


def _run_jobs(
    settings: Settings, jobs: Sequence[JobOrder], announcer: Announcer | None = None
) -> list[Answer]:
    answers: list[Answer] = []
    begun = flushed = time.monotonic()
    for position, job in enumerate(jobs):
        if position and time.monotonic() - begun > settings.order.budget:
            answers.extend(Answer(Outcome(left.key, "returned")) for left in jobs[position:])
            break
        if announcer is not None:
            announcer.announce(position)
        answers.append(run_job(settings, job))
        now = time.monotonic()
        if announcer is not None and now - flushed > _FLUSH_SECONDS and position + 1 < len(jobs):
            announcer.send(pack_answers(answers))
            answers, flushed = [], now
    settings.backend.index()
    if announcer is None and settings.own_process:
        settings.end_capture()
    return answers


def run_job(settings: Settings, job: JobOrder) -> Answer:
    """Do one job: compute, save, and say how it ended."""
    binding = JobBinding(settings, job)
    clock = time.monotonic()
    enter_scope(binding)
    try:
        with _kept_output(settings, job.key):
            record, payload = _compute_and_save(binding, job)
        outcome = Outcome(job.key, "finished", time.monotonic() - clock, record=record)
        answer = Answer(outcome, payload if len(payload) <= SMALL_RESULT else None)
    except BaseException as error:
        with _only_warns(f"what {job.key} replaced could not be put back"):
            settings.backend.abandon(job.key)
        if settings.in_runner and isinstance(error, KeyboardInterrupt):
            raise
        seconds = time.monotonic() - clock
        if binding.unsound:
            damaged = tuple(dict.fromkeys(binding.unsound))
            return Answer(Outcome(job.key, "damaged", seconds, damaged=damaged))
        answer = Answer(Outcome(job.key, "failed", seconds, failure=describe(error)))
    finally:
        leave_scope()
    return answer


def _compute_and_save(binding: JobBinding, job: JobOrder) -> tuple[Record, bytes]:
    backend = binding.settings.backend
    started, clock = time.time(), time.monotonic()
    backend.begin(job.key)
    task = binding.main_task()
    result = call_as_parent(task.run_task)
    if binding.unsound:  # the task went on without an upstream's result: it must not count
        raise MissingResultError(f"an upstream of {job.key.name} could not be read")
    pickled = _pickle_result(result, backend.location)
    data = backend.list_data(job.key)
    digest = content_digest(pickled.payload)
    seconds = time.monotonic() - clock
    record = Record(
        key=job.key,
        args=job.args,
        code=job.code,
        code_scheme=binding.settings.order.code_scheme,
        attributes=job.attributes_digest,
        upstreams=upstream_records(job),
        digest=digest,
        version=content_version(digest, data),
        data=data,
        root=backend.location if pickled.names_root else None,
        python=python_minor() if pickled.by_value else None,
        provenance={
            "job": job.token,
            "seconds": seconds,
            "started": started,
            "host": binding.settings.host,
            "pid": os.getpid(),
            "python": _PYTHON,
            "taskproc": taskproc.__version__,
        },
    )
    backend.save(
        record,
        pickled.payload,
        type(task).task_compress_level,
        durable=seconds > _DURABLE_SECONDS or bool(data),
    )
    return record, pickled.payload


def _pickle_result(result: Any, root: str) -> Pickled:
    try:
        return dumps(result, root=root)
    except Exception as error:
        raise UnpicklableResultError(
            f"the result can't be pickled: {name_unpicklable(result)} ({type(error).__name__}: {error})"
        ) from error


@contextlib.contextmanager
def _kept_output(settings: Settings, key: TaskKey) -> Iterator[None]:
    """Keep what the job prints in the task's logs, by the best means there is here."""
    if settings.in_runner and not settings.order.captured:
        yield
        settings.backend.keep_logs(key, None, None)  # what an older run printed is not of this result
        return
    backend = settings.backend
    if not settings.own_process:
        spool = settings.spool.with_name(f"{settings.order.run}-{key.digest}")
        stdout, stderr = Path(f"{spool}.out"), Path(f"{spool}.err")
        try:
            with thread_capture(stdout, stderr):
                yield
        finally:
            with _only_warns(f"the output of {key} could not be kept"):
                backend.keep_logs(key, *[path if path.exists() else None for path in (stdout, stderr)])
        return
    capture = settings.capture()
    capture.start()
    try:
        yield
    finally:
        with _only_warns(f"the output of {key} could not be kept"):
            backend.keep_logs(key, *capture.finish())
        settings.put_process_right()


@contextlib.contextmanager
def _only_warns(what: str) -> Iterator[None]:
    """Turn a disk's fault into a warning: it must hide neither a result that is stored nor a failure."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{what}: {error}", RuntimeWarning, stacklevel=3)


def run_launched(directory: str) -> int:
    """Do the job whose orders lie in a directory; returns the exit code."""
    folder = Path(directory)
    batch = read_batch((folder / ORDERS_FILE).read_bytes())
    settings = open_order(batch.order)
    settings.spool = spool_of_launched(directory)
    answers = _run_jobs(settings, batch.jobs)
    aside = folder / (OUTCOME_FILE + ".part")
    aside.write_bytes(pack_answers(answers))
    aside.replace(folder / OUTCOME_FILE)
    return 0 if answers[0].outcome.kind == "finished" else 1


def main(argv: Sequence[str]) -> int:
    """`--pool SOCKET STATUS LIFELINE`, or the directory of a launched job."""
    if argv[:1] == ["--pool"]:
        import gc

        from taskproc.engine.serve import serve

        gc.freeze()  # what is loaded by now lives as long as the worker: no need to look at it again
        serve(*(int(number) for number in argv[1:4]))
        return 0
    if len(argv) != 1:
        print("usage: python -m taskproc.engine.worker JOB_DIRECTORY", file=sys.stderr)
        return 2
    return run_launched(argv[0])


if __name__ == "__main__":
    # Under its own name, so that what a job pickles here is found again elsewhere.
    from taskproc.engine.worker import main as _main

    sys.exit(_main(sys.argv[1:]))
