"""Say what a run and its jobs are, to workers, launchers and reporters.

Decides names and places; knows nothing of when a job runs or how it is sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from taskproc.core.records import Job
from taskproc.core.task import Task
from taskproc.engine.batches import BUDGET_SECONDS
from taskproc.engine.code_checks import Check
from taskproc.engine.jobs import RunOrder
from taskproc.engine.pickling import dumps
from taskproc.engine.time_limits import TimeLimit
from taskproc.engine.versions import python_minor
from taskproc.interfaces import CacheBackend
from taskproc.modules import MAIN, files_to_load, module_file


def order_of_run(
    run: str,
    backend: CacheBackend,
    classes: Mapping[str, type[Task]],
    code_scheme: int,
    captured: bool,
    checks: Mapping[str, Sequence[Check]],
    limits: Mapping[str, TimeLimit],
) -> RunOrder:
    """What holds for all jobs of a run that starts here and now."""
    modules = {cls.__module__ for cls in classes.values()} | {MAIN}
    return RunOrder(
        run=run,
        backend=backend,
        classes={name: dumps(cls).payload for name, cls in classes.items()},
        sys_path=tuple(sys.path),
        files=tuple(files_to_load(sorted(modules))),
        folder=os.getcwd(),
        pid=os.getpid(),
        host=os.uname().nodename,
        captured=captured,
        code_scheme=code_scheme,
        budget=BUDGET_SECONDS,
        checks=checks,
        python=python_minor(),
        limits=limits,
    )


def plain_job(task: Task, labels: tuple[str, ...]) -> Job:
    """A job of the executor, as reporters see it."""
    return Job(key=task._task.key, task_id=task.task_id, args=task._task.args, labels=labels)


def launched_job(task: Task, labels: tuple[str, ...], label: str, backend: CacheBackend, run: str) -> Job:
    """A job of the launcher of a label, as that launcher sees it."""
    key = task._task.key
    word = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in key.name)[-26:]
    # The tag is of the whole key: classes whose names end alike have tasks of the same arguments.
    tag = blake2b(f"{key.name}\0{key.digest}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    name = f"t-{word.strip('-')}-{run[:6]}-{tag}"
    directory = Path(backend.scratch()) / name
    return replace(
        plain_job(task, labels),
        label=label,
        root=backend.location,
        project=_project_of(task),
        directory=str(backend.data_directory(key, create=False)),
        job_directory=str(directory),
        stdout=str(directory / "client.out"),
        stderr=str(directory / "client.err"),
        name=name,
    )


def _project_of(task: Task) -> str:
    """The folder of the task's file."""
    module = sys.modules.get(type(task).__module__)
    file = module_file(module) if module is not None else None
    return str(Path(file).parent) if file is not None else os.getcwd()
