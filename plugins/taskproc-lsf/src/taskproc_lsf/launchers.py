"""Decide the command lines that hand a job to LSF and wait for it, and how it is ended there.

Knows nothing of tasks. Written from LSF's manual; see the README for what was not tried.
"""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from taskproc.errors import ComponentOptionError, PluginWarning
from taskproc.interfaces import Job, Launcher

_CANCEL_SECONDS = 60.0
_BKILLS_AT_ONCE = 8
_SIGNALS = {130: "SIGINT", 134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV", 140: "SIGUSR2", 143: "SIGTERM"}


@dataclass(frozen=True, kw_only=True)
class _QueueLauncher(Launcher):
    """What `bsub` and `jbsub` share: the common options, how jobs are ended and explained."""

    queue: str = ""
    cores: int = 1
    mem: str = ""
    project: str = ""
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise ComponentOptionError(
                f"launcher {self.name}: cores={self.cores} is no number of cores; give 1 or more"
            )

    @property
    def default_max_jobs(self) -> int:
        """The queue decides what runs; this only bounds the clients that wait here."""
        return 500

    def cancel(self, jobs: Sequence[Job]) -> None:
        """End the jobs by `bkill -J NAME`, one call a name, a few at a time.

        The clients tell no job ids that could be gathered in one call, and `bkill` takes one name.
        """
        with ThreadPoolExecutor(_BKILLS_AT_ONCE) as pool:
            faults = [fault for fault in pool.map(_bkill, [job.name for job in jobs]) if fault]
        if faults:
            message = f"could not end {len(faults)} of {len(jobs)} LSF jobs, look with bjobs: {faults[0]}"
            warnings.warn(message, PluginWarning, stacklevel=2)

    def explain(self, returncode: int, stderr: str) -> str:
        if "Job not submitted" in stderr or "Request aborted" in stderr:
            said = [line.strip() for line in stderr.splitlines() if line.strip()]
            return f"LSF did not take the job: {' '.join(said[-2:])}"
        if returncode == 126:
            return "the job was killed while it was pending (126), or its Python can't be executed there"
        if returncode == 127:
            python = self.python or "such Python"
            return f"the host that ran the job has no {python} (127); see the option python"
        if returncode in _SIGNALS:
            reason = (
                "it passed a memory or run time limit, or was killed" if returncode != 139 else "it crashed"
            )
            return f"the job ended by {_SIGNALS[returncode]} ({returncode}): {reason}; bhist -l tells more"
        if returncode == 255:
            return "the submission failed (255): is LSF reachable from here?"
        return ""


@dataclass(frozen=True, kw_only=True)
class LsfLauncher(_QueueLauncher):
    """Hand each job to LSF by `bsub -K`, which waits for it and returns its exit code.

    Attributes:
        queue: the queue; "": the cluster's default.
        cores: how many cores a job gets, all on one host.
        mem: the memory a job gets, reserved and its limit, such as `16GB`; "": the queue's default.
        project: the project a job is accounted to; "": the cluster's default.
        extra: more words for `bsub`, put before the job's.
        time: the run time limit, in the words of `bsub -W` (`[hours:]minutes`); "": the queue's.
        gpus: how many GPUs a job gets.
    """

    name: ClassVar[str] = "lsf"

    time: str = ""
    gpus: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("bsub", "bkill")

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        words = ["bsub", "-K", "-J", job.name]
        if job.job_directory:
            # Without a file LSF sends its report of each job by mail.
            words += ["-o", str(PurePosixPath(job.job_directory, "lsf.txt"))]
        if self.queue:
            words += ["-q", self.queue]
        words += ["-n", str(self.cores)]
        if self.cores > 1:
            words += ["-R", "span[hosts=1]"]
        if self.mem:
            words += ["-M", self.mem, "-R", f"rusage[mem={self.mem}]"]
        if self.gpus:
            words += ["-gpu", f"num={self.gpus}"]
        if self.time:
            words += ["-W", self.time]
        if self.project:
            words += ["-P", self.project]
        return [*words, *self.extra, *argv]


@dataclass(frozen=True, kw_only=True)
class JbsubLauncher(_QueueLauncher):
    """Hand each job to LSF by `jbsub -wait`, a wrapper around `bsub`.

    Attributes:
        queue: the queue, such as `x86_1h`; "": the cluster's default.
        cores: how many cores a job gets.
        mem: the memory a job gets, such as `64g`; "": the queue's default.
        project: the project a job is accounted to; "": the cluster's default.
        extra: more words for `jbsub`, put before the job's.
        gpus: how many GPUs a job gets.
    """

    name: ClassVar[str] = "jbsub"

    gpus: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("jbsub", "bkill")

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        words = ["jbsub", "-wait", "-name", job.name]
        if self.queue:
            words += ["-queue", self.queue]
        words += ["-cores", f"{self.cores}+{self.gpus}" if self.gpus else str(self.cores)]
        if self.mem:
            words += ["-mem", self.mem]
        if self.project:
            words += ["-proj", self.project]
        return [*words, *self.extra, *argv]


def _bkill(name: str) -> str:
    """End the job of this name; returns what went wrong, "" if nothing did."""
    try:
        done = subprocess.run(
            ["bkill", "-J", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CANCEL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    # A job that has ended by itself meanwhile is what was wanted.
    gone = "already finished" in said or "No matching job found" in said or "is not found" in said
    return "" if done.returncode == 0 or gone else f"bkill -J {name}: {said}"
