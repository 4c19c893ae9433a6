"""The thread that watches launched jobs hears of every one of them, whatever goes wrong."""

from __future__ import annotations

import pickle
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from taskproc.engine.launch import Launches
from taskproc.interfaces import Job, Launcher, Outcome, TaskKey


@dataclass(frozen=True)
class Leaves(Launcher):
    """Leaves an outcome file of this content, and fails."""

    name: ClassVar[str] = "leaves"
    content: bytes = b""

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        (Path(job.job_directory) / "outcome.pkl").write_bytes(self.content)
        return ["false"]


def job(folder: Path) -> Job:
    return Job(
        key=TaskKey("tasks.One", "0" * 32),
        task_id=1,
        args={},
        labels=("tasks.One",),
        label="tasks.One",
        job_directory=str(folder),
        stdout=str(folder / "client.out"),
        stderr=str(folder / "client.err"),
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x05\x95half", b"cno_such_module\nX\n.", pickle.dumps([(1, 2)]), pickle.dumps(None)],
    ids=["empty", "half", "another version's", "too short", "nothing"],
)
def test_an_outcome_that_cant_be_read_is_none_and_the_job_fails(tmp_path: Path, content: bytes) -> None:
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    launches = Launches(outcomes.put, lambda _: None, lambda *_: None)
    launches.start(job(tmp_path / "job"), Leaves(content=content), [], b"")
    outcome = outcomes.get(timeout=10)
    launches.close()
    assert outcome.kind == "failed"
    assert outcome.failure is not None
    assert "left no result" in outcome.failure.message


def test_a_cache_that_raises_while_it_is_asked_for_a_record_fails_that_job(tmp_path: Path) -> None:
    def ask(_: Job) -> Outcome | None:
        raise ZeroDivisionError("the cache")

    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    launches = Launches(outcomes.put, ask, lambda *_: None)
    launches.start(job(tmp_path / "job"), Leaves(), [], b"")
    outcome = outcomes.get(timeout=10)
    launches.close()
    assert outcome.failure is not None
    assert outcome.failure.type == "ZeroDivisionError"
