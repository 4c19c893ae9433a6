"""Decide the command line that runs a job in a container, how it is ended, and why it failed.

Knows nothing of tasks: it is handed plain words to run and the folders that must be visible.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from taskproc.errors import ComponentOptionError, PluginWarning
from taskproc.interfaces import Job, Launcher

# Far below what the kernel takes in one command line (2 MB on Linux, 1 MB on macOS).
_NAMES_A_CALL = 1000
_CANCEL_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class DockerLauncher(Launcher):
    """Run each job in a fresh container of one image.

    The cache and the folder of the task file are mounted at their own paths, so a path
    means the same inside and outside. The image must have taskproc installed.

    Attributes:
        image: the image; it is never pulled during a run.
        python: the interpreter in the image.
        engine: the command: `docker`, or `podman`, which takes the same words.
        user: `UID:GID` inside the container; "": those of the running user, so that the
            files in the cache stay theirs.
        mounts: more to mount, each `PATH`, `SOURCE:TARGET` or `SOURCE:TARGET:ro`, absolute.
        env: variables to pass on, each `NAME` (with its value here) or `NAME=VALUE`.
        network: the network; by default a job has none.
        gpus: as `docker run --gpus` takes it: `all`, `2`, `device=0,1`; "": none.
        memory: the memory limit, such as `16g`; "": none.
        cpus: how many cores the container may use, such as `2` or `1.5`; "": all.
        extra: more words for `docker run`, put before the image.
    """

    name: ClassVar[str] = "docker"

    image: str
    python: str | None = "python3"
    engine: str = "docker"
    user: str = ""
    mounts: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    network: str = "none"
    gpus: str = ""
    memory: str = ""
    cpus: str = ""
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.image or self.image.startswith("-"):
            raise ComponentOptionError(
                f"launcher docker: {self.image!r} is not the name of an image; "
                "give one, as in image=python:3.11"
            )
        for mount in self.mounts:
            _mount_of(mount)
        for variable in self.env:
            if not variable.partition("=")[0]:
                raise ComponentOptionError(
                    f"launcher docker: {variable!r} in env names no variable; write NAME or NAME=VALUE"
                )

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.engine,)

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        # --init: without it the job is process 1 of its container and ignores SIGTERM.
        # --pull never: a run that downloads an image is not the run that was asked for.
        words = [self.engine, "run", "--rm", "--init", "--pull", "never", "--network", self.network]
        words += ["--name", job.name, "--user", self.user or f"{os.getuid()}:{os.getgid()}"]
        if not self.user and PurePosixPath(self.engine).name == "podman" and os.getuid() != 0:
            # Rootless podman maps the running user to root inside, unless told so.
            words += ["--userns", "keep-id"]
        for mount in self._mounts(job):
            words += ["--mount", mount]
        words += ["--workdir", job.project or job.root]
        for variable in self.env:
            words += ["--env", variable]
        for option, value in (("--gpus", _gpus(self.gpus)), ("--memory", self.memory), ("--cpus", self.cpus)):
            if value:
                words += [option, value]
        return [*words, *self.extra, self.image, *argv]

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Remove the jobs' containers; ending the client alone leaves its container running."""
        names = [job.name for job in jobs]
        for start in range(0, len(names), _NAMES_A_CALL):
            self._remove(names[start : start + _NAMES_A_CALL])

    def explain(self, returncode: int, stderr: str) -> str:
        if returncode == 125:
            return self._explain_refusal(stderr)
        if returncode == 126:
            return f"{self.python} in the image {self.image} can't be executed (126)"
        if returncode == 127:
            return f"the image {self.image} has no {self.python} (127); the option python= names another"
        if returncode == 137:
            limit = f" of {self.memory}" if self.memory else ""
            return f"the container was killed (137): most often it passed its memory limit{limit}"
        if returncode == 143:
            return "the container was ended by SIGTERM (143)"
        if "No module named" in stderr and ("taskproc" in stderr or "cloudpickle" in stderr):
            return (
                f"the image {self.image} lacks taskproc; add this line to its Dockerfile: "
                f"RUN {self.python} -m pip install taskproc"
            )
        return ""

    def _explain_refusal(self, stderr: str) -> str:
        """What 125 means: the engine itself refused, and the container never started."""
        text = stderr.lower()
        if "no such image" in text or "unable to find image" in text or "image not known" in text:
            return (
                f"there is no image {self.image} on this machine, and none is pulled during a run; "
                f"get it first: {self.engine} pull {shlex.quote(self.image)}"
            )
        if "cannot connect" in text or "is the docker daemon running" in text:
            return f"{self.engine} can't reach its daemon; is it running, and may you use it?"
        if "already in use" in text:
            return (
                f"a container of this name is left from an earlier run; remove it: {self.engine} rm -f NAME"
            )
        if "bind source path does not exist" in text:
            return "a folder to mount does not exist on this machine"
        return f"{self.engine} refused to start the container (125)"

    def _mounts(self, job: Job) -> list[str]:
        """The `--mount` texts: the user's own first, then what the job needs and lacks."""
        mounts = {target: (source, options) for source, target, options in map(_mount_of, self.mounts)}
        for folder in (job.root, job.project, job.job_directory):
            # A cache that is a URL has no folder to mount.
            if folder.startswith("/") and not any(_is_below(folder, target) for target in mounts):
                mounts[folder] = (folder, ())
        return [
            _csv(["type=bind", f"source={source}", f"target={target}", *options])
            for target, (source, options) in mounts.items()
        ]

    def _remove(self, names: list[str]) -> None:
        command = [self.engine, "rm", "--force", *names]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CANCEL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            fault = str(error)
        else:
            said = done.stderr.decode(errors="replace").splitlines()
            # A container that has ended by itself meanwhile is what was wanted.
            fault = "; ".join(line for line in said if "no such container" not in line.lower())
            if done.returncode == 0 or not fault:
                return
        message = f"could not remove containers ({fault.strip()}); do it by hand: {shlex.join(command)}"
        warnings.warn(message, PluginWarning, stacklevel=2)


def _mount_of(text: str) -> tuple[str, str, tuple[str, ...]]:
    """(source, target, options) of a mount as the user writes it."""
    options: tuple[str, ...] = ()
    places = text
    if text.endswith((":ro", ":rw")):
        places, mode = text[:-3], text[-2:]
        options = ("readonly",) if mode == "ro" else ()
    source, colon, target = places.partition(":")
    target = target if colon else source
    if not source.startswith("/") or not target.startswith("/") or ":" in target:
        raise ComponentOptionError(
            f"launcher docker: can't read the mount {text!r}; "
            "write PATH, SOURCE:TARGET or SOURCE:TARGET:ro, with absolute paths without ':'"
        )
    return source, target, options


def _gpus(text: str) -> str:
    """Several devices must stand in quotes, or docker reads the second as a count of GPUs."""
    return _csv([text]) if text.startswith("device=") and text.count("=") == 1 else text


def _is_below(folder: str, target: str) -> bool:
    return PurePosixPath(folder).is_relative_to(target)


def _csv(fields: Sequence[str]) -> str:
    """One line of comma-separated values, which is how `--mount` reads its text.

    Unlike `-v`, it so takes any path, and never makes a folder that is not there.
    """
    return ",".join(
        '"' + field.replace('"', '""') + '"'
        if any(mark in field for mark in ',"\n\r') or field != field.strip()
        else field
        for field in fields
    )
