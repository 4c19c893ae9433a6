"""What a job is called, by its launcher and on the disk."""

from __future__ import annotations

import re
from pathlib import Path

from taskproc import Cache, Task
from taskproc.engine.orders import launched_job


def task_class(name: str) -> type[Task]:
    return type("Train", (Task,), {"run_task": lambda self: 1, "__module__": name})


def test_jobs_of_one_run_have_names_of_their_own_though_classes_are_called_alike(tmp_path: Path) -> None:
    ending = "_tasks_of_the_first_experiment_of_all"
    with Cache(tmp_path / "cache") as cache:
        tasks = [task_class("alpha" + ending)(), task_class("beta" + ending)()]
        jobs = [launched_job(task, (), "gpu", cache.backend, "0123456789abcdef") for task in tasks]
    assert jobs[0].name != jobs[1].name
    assert jobs[0].job_directory != jobs[1].job_directory
    for job in jobs:
        assert re.fullmatch(r"[A-Za-z0-9-]{1,60}", job.name)
