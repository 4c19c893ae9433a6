"""Decide what a run shows on stdout: what the entry task printed. Nothing else goes there."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskproc.errors import TaskprocError


def show_logs(stdout: Path, stderr: Path) -> None:
    """The bytes of these files, where they exist, on stdout and stderr.

    Raises:
        TaskprocError: stdout or stderr can't be written to, or a file can't be read (a link is not followed).
    """
    from taskproc.engine.plain_files import open_plain  # `--help` needs nothing of the engine's

    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        if not os.path.lexists(path):
            continue
        with quiet_when_closed():
            try:
                with open_plain(path) as source:
                    _copy(source, stream)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise TaskprocError(
                    f"the run succeeded, but what the entry task printed can't be shown "
                    f"({error}); it is in {path}"
                ) from error


@contextlib.contextmanager
def quiet_when_closed() -> Iterator[None]:
    """A reader that went away (`| head`) is no error: what is left goes nowhere."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        # Python flushes stdout once more at its end, and would complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _copy(source: Any, stream: Any) -> None:
    if stream is None:  # started with the descriptor closed
        return
    stream.flush()
    if hasattr(stream, "buffer"):
        shutil.copyfileobj(source, stream.buffer)
    else:
        stream.write(source.read().decode("utf-8", "backslashreplace"))
    stream.flush()
