"""The plugin `lsf`: launchers that hand each job to an LSF queue, by `bsub` or `jbsub`.

Knows nothing of what runs there; `taskproc_lsf.launchers` builds the command lines.
"""

from __future__ import annotations

from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Launcher
from taskproc_lsf.launchers import JbsubLauncher, LsfLauncher

__all__ = ["JbsubLauncher", "LsfLauncher"]


@hookimpl
def taskproc_register_launchers() -> list[type[Launcher]]:
    return [LsfLauncher, JbsubLauncher]
