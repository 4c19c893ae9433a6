"""The plugin `docker`: a launcher that runs each job in a fresh container.

Knows nothing of what runs inside; `taskproc_docker.launcher` builds the command line.
"""

from __future__ import annotations

from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Launcher
from taskproc_docker.launcher import DockerLauncher

__all__ = ["DockerLauncher"]


@hookimpl
def taskproc_register_launchers() -> list[type[Launcher]]:
    return [DockerLauncher]
