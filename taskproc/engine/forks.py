"""End a forked child that came back into code of ours: the work it was forked in is its parent's.

Knows nothing of tasks. Imports little, as every worker pays for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


def call_as_parent(function: Callable[[], T]) -> T:
    """Call `function`; a child that it forks, and that comes back from it, ends here."""
    pid = os.getpid()
    try:
        result = function()
    except BaseException as error:
        if os.getpid() != pid:
            _leave(error)
        raise
    if os.getpid() != pid:
        _leave(None)
    return result


def _leave(error: BaseException | None) -> NoReturn:
    """End this process as Python would end a script: with the exit code, and a traceback if it failed."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        from taskproc.tracebacks import own_lines

        code = 1
        with contextlib.suppress(Exception):  # the work may have closed or replaced the stream
            sys.stderr.write(own_lines(error))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)
