"""Keep what a task printed whose worker died before it had done so itself.

A worker hands over one stream after the other: so each is looked for where it was printed to,
where it was about to be moved from, and where it is kept. Knows nothing of why a worker died.
"""

from __future__ import annotations

import contextlib
import glob
import os
from pathlib import Path

from taskproc.core.records import TaskKey
from taskproc.interfaces import CacheBackend

_COARSE_SECONDS = 0.02
"""By so much the times of files may be behind the clock."""


def keep_lost_output(backend: CacheBackend, key: TaskKey, spool: Path, since: float) -> None:
    """Keep the output of a job whose worker is dead. What a disk refuses is lost.

    Args:
        spool: where it was printed to (`.out` and `.err` behind it).
        since: when the job had not begun yet (Unix time): an older log is that of an older job.
    """
    logs = backend.log_paths(key)
    with contextlib.suppress(OSError):
        stdout = _output(spool, ".out", logs.stdout, since)
        backend.keep_logs(key, stdout, _output(spool, ".err", logs.stderr, since))


def _output(spool: Path, suffix: str, log: Path, since: float) -> Path | None:
    """The file with what the job printed to one stream; None for nothing."""
    handed_over = spool.parent.glob(f"{glob.escape(spool.name)}.[0-9]*{suffix}")
    # What was left of an earlier task, as a disk refused it, has a lower number.
    newest_first = sorted(handed_over, key=lambda path: int(path.name.split(".")[-2]), reverse=True)
    for file in (Path(f"{spool}{suffix}"), *newest_first):
        if file.is_file() and file.stat().st_size:
            return file
    if not log.is_file() or log.stat().st_mtime < since - _COARSE_SECONDS:
        return None
    aside = Path(f"{spool}.kept{suffix}")  # its worker has kept it: it goes back where it was
    os.replace(log, aside)
    return aside


def remove_spools(scratch: Path, run: str) -> None:
    """Remove what dead workers of a run left in the scratch folder."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(scratch):
            if entry.name.startswith(run):
                with contextlib.suppress(OSError):  # its worker may do the same
                    os.unlink(entry.path)
