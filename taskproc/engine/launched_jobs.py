"""What dead runs left in the folder of jobs under way: let it go on, end it, or remove it.

A launched job outlives a runner that is killed. One that had begun holds a claim of its own on its
task, so that the next run waits for it and takes its result. One that had not begun is ended
through its launcher; should it begin all the same, it finds its run dead and ends itself. So no
task is computed twice at once, whatever is decided here. Knows nothing of the jobs of this run.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import pickle
import re
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskproc.core.records import JSON, Holder, Job, TaskKey
from taskproc.engine import job_folder
from taskproc.engine.clients import PATIENCE_SECONDS, start_cancelling
from taskproc.engine.pickling import PROTOCOL, dumps, loads
from taskproc.engine.processes import is_running, signal_sessions, start_of
from taskproc.engine.versions import python_minor
from taskproc.interfaces import CacheBackend, Launcher
from taskproc.registry.components import in_one_line

_POLL_SECONDS = 0.02
_SPOOL = re.compile(r"([0-9a-f]{16})-[0-9a-f]+(\.[0-9]+|\.kept)?\.(out|err)")
_JOB = re.compile(r"t-[0-9A-Za-z-]*-([0-9a-f]{6})-[0-9a-f]{16}(-[0-9a-f]{6})?")
"""The name of a job's folder (see `orders.launched_job`), with the beginning of its run's in it; what has
another name is somebody else's."""
_LOG = logging.getLogger("taskproc")


def facts_of(job: Job, launcher: Launcher, run: Mapping[str, JSON]) -> dict[str, JSON]:
    """What a later run is told of a job; `run` names the run of now.

    The launcher itself is among it where it knows how to cancel: its options may say where.
    """
    facts: dict[str, JSON] = {
        **run,
        "task": job.key.name,
        "key": job.key.digest,
        "job": job.name,
        "launcher": launcher.name,
    }
    if type(launcher).cancel is not Launcher.cancel:
        facts |= {"python": python_minor(), "pickled_job": _packed(pickle.dumps(job, PROTOCOL))}
        with contextlib.suppress(Exception):  # a stranger's that can't be pickled; its name may do
            facts["pickled_launcher"] = _packed(dumps(launcher).payload)
    return facts


def facts_of_client(pid: int) -> dict[str, JSON]:
    """What a later run is told of the client process of a job."""
    return {"client": {"host": os.uname().nodename, "pid": pid, "start": start_of(pid)}}


@dataclass(frozen=True)
class LeftJob:
    """A launched job of a run that is dead; `facts` is what stands in its folder."""

    folder: Path
    key: TaskKey
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.facts.get("job", self.folder.name))

    @property
    def has_begun(self) -> bool:
        """Whether its worker has begun, be it dead by now."""
        return (self.folder / job_folder.STARTED_FILE).exists()

    @property
    def cancels(self) -> bool:
        """Whether its launcher knows how to cancel it."""
        return "pickled_job" in self.facts

    @property
    def client(self) -> int | None:
        """The number of its client, if that is a process of this host that still runs."""
        client: Any = self.facts.get("client")
        try:
            here = client["host"] == os.uname().nodename and is_running(client["pid"], client["start"])
            return int(client["pid"]) if here else None
        except (TypeError, KeyError, ValueError):
            return None

    def launched_by(self, launchers: Iterable[Launcher]) -> tuple[Launcher, Job] | None:
        """Its launcher, or one of `launchers` that is called the same, and the job for it."""
        try:
            job = pickle.loads(base64.b64decode(self.facts["pickled_job"]))
            # Code that travelled by value is of one minor version of Python.
            if self.facts["python"] == python_minor() and "pickled_launcher" in self.facts:
                with contextlib.suppress(Exception):
                    return loads(base64.b64decode(self.facts["pickled_launcher"])), job
            known = [one for one in launchers if one.name == self.facts["launcher"]]
            return (known[0], job) if known else None
        except Exception:  # noqa: BLE001 - another version's, half a file: whatever a pickle may raise
            return None


class Leftovers:
    """What dead runs left in the folder of one cache; `run` is the run of now."""

    def __init__(self, backend: CacheBackend, run: str) -> None:
        self._backend = backend
        self._run = run
        self._goes_on: dict[Path, LeftJob] = {}
        self._untold: dict[
            Path, str
        ] = {}  # what nothing but its name tells of, and its run (or a part of it)
        self._has_looked = self._others_live = False
        self._seen: set[Path] = set()

    def end_jobs(self, launchers: Iterable[Launcher], again: bool) -> None:
        """End the jobs that had not begun, and tell of those that go on.

        To be called after a claim, which finds out who is dead. It looks the first time; `again` says
        that a run may have died since, and matters if there were jobs of others that lived.
        """
        if self._has_looked and not (again and self._others_live):
            return
        self._has_looked, self._others_live = True, False
        try:
            left = self._find()
            over: list[LeftJob] = []
            ends: list[LeftJob] = []
            for job in left:
                holder = self._backend.holder(job.key)
                if holder is not None and holder.is_job:
                    self._tell_of(job, holder)
                elif _is_over(job):  # looked at last: a job holds its claim until it has told its outcome
                    over.append(job)
                else:
                    ends.append(job)
            _end(over, ends, list(launchers))
        except Exception as error:  # noqa: BLE001 - tidying up after others must not hurt the run
            self._give_up(error)

    def tidy(self) -> None:
        """At the end of a run: remove what is left of jobs that ended meanwhile, and of dead runs."""
        try:
            for job in list(self._goes_on.values()):
                if _is_over(job):
                    del self._goes_on[job.folder]
                    job_folder.remove(job.folder)
            if self._untold:
                self._remove_untold({str(post.get("run")) for post in self._backend.posts()})
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _LOG.warning(
            "what dead runs left in %s could not be tidied up: %s", self._backend.location, in_one_line(error)
        )

    def _find(self) -> list[LeftJob]:
        """The jobs of dead runs; what their workers were printing is noted for the end of this run."""
        scratch = self._backend.scratch()
        left: list[LeftJob] = []
        for name in os.listdir(scratch):
            path = scratch / name
            if path in self._seen:
                continue
            spool = _SPOOL.fullmatch(name)
            job = _JOB.fullmatch(name)
            if spool is not None and spool[1] != self._run:
                self._seen.add(path)
                self._untold[path] = spool[1]
            elif job is not None and not path.is_symlink():
                left += self._left_job(path)
                if not (path / job_folder.FACTS_FILE).exists():  # killed as it was made, or removed
                    self._untold[path] = job[1]
        self._seen.update(job.folder for job in left)
        return left

    def _remove_untold(self, alive: Collection[str]) -> None:
        """Remove what is of runs that did not tell that they are alive, where this run itself did tell."""
        if self._run in alive:
            for path, run in self._untold.items():
                if any(one.startswith(run) for one in alive):
                    continue
                if not path.is_dir():
                    with contextlib.suppress(OSError):
                        path.unlink()
                elif not (path / job_folder.FACTS_FILE).exists():
                    job_folder.remove(path)
            self._untold.clear()

    def _left_job(self, folder: Path) -> list[LeftJob]:
        """The job of a folder, if its run is known to be dead."""
        facts, inode = job_folder.read_facts(folder), job_folder.inode_of(folder)
        ticket = facts.get("ticket")
        if not ticket or facts.get("run") == self._run:
            return []
        if self._backend.stands(str(ticket)):
            self._others_live = True
            return []
        if facts.get("inode", inode) != inode:
            # A copy of a cache: the job and its client are the other one's, which may live.
            facts = {name: fact for name, fact in facts.items() if name in ("task", "key", "job")}
        return [LeftJob(folder, TaskKey(str(facts.get("task")), str(facts.get("key"))), facts)]

    def _tell_of(self, job: LeftJob, holder: Holder) -> None:
        self._goes_on[job.folder] = job
        if job.has_begun:  # else another's job holds the claim
            _LOG.warning(
                "a job of an earlier run still goes on: %s (%s); its result is waited for where it is needed",
                job.name, holder.words,
            )  # fmt: skip


def _is_over(job: LeftJob) -> bool:
    """Whether a job without a claim needs no ending: it told its outcome, or its run gave it up."""
    names = os.listdir(job.folder) if job.folder.is_dir() else []
    return job_folder.OUTCOME_FILE in names or job_folder.ORDERS_FILE not in names


def _end(over: list[LeftJob], ends: list[LeftJob], launchers: list[Launcher]) -> None:
    """End jobs and clients within `PATIENCE_SECONDS`; remove the folders of all that are gone."""
    waited = sum(not job.has_begun for job in ends)
    clients = {job.client: job for job in [*over, *ends]}
    clients.pop(None, None)
    pids = [pid for pid in clients if pid is not None]
    if pids:
        signal_sessions(pids, signal.SIGTERM)
    told = [(job, job.launched_by(launchers)) for job in ends if job.cancels]
    for job, launched in told:
        if launched is None:
            _LOG.warning(
                "the job %s of a dead run could not be cancelled: its launcher %r can't be loaded here; "
                "if it still waits in a queue it ends by itself when it starts",
                job.name, job.facts.get("launcher"),
            )  # fmt: skip
    cancellings = start_cancelling(_with_equals(launched for _, launched in told if launched is not None))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not any(job.client for job in clients.values()) and not any(
            one.is_under_way for one in cancellings
        ):
            break
        time.sleep(_POLL_SECONDS)
    if pids:
        signal_sessions([pid for pid, job in clients.items() if pid and job.client], signal.SIGKILL)
    failed = {job.name for one in cancellings if not one.succeeded() for job in one.jobs}
    for job in [*over, *ends]:
        if job.name not in failed:
            job_folder.remove(job.folder)
    if waited:
        _LOG.warning("ended %d job%s of a dead run that had not begun", waited, "s" * (waited > 1))


def _with_equals(launched: Iterable[tuple[Launcher, Job]]) -> Iterable[tuple[Launcher, Job]]:
    """The same, where launchers that are equal are one: each cancels all its jobs in one call."""
    known: list[Launcher] = []
    for launcher, job in launched:
        same = next((one for one in known if type(one) is type(launcher) and one == launcher), None)
        if same is None:
            known.append(launcher)
        yield (same if same is not None else launcher), job


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()
