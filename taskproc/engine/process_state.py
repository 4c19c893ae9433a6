"""What a task may have left in a process of ours that would strike the next one: noted, and put right.

Knows nothing of tasks. What a task prints, and its descriptors, are `capture`'s. Environment
variables and `sys.path` stay as a task left them: libraries set them once, when they are loaded.
"""

# `_signal`, not `signal`: that one makes enum members of all it returns, for more than a small task costs.

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import os
import resource
import signal
import sys
import threading

_SIGNALS = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU),
    *(signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH),
)
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)


class ProcessState:
    """The state of this process, to come back to after each task; for the main thread only."""

    def __init__(self, folder: str) -> None:
        """Note the state as it is now; `folder` is to be the working directory."""
        self._folder = folder
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._handlers = [(int(number), _signal.getsignal(number)) for number in _SIGNALS]
        self._blocked = _signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._limits = [(kind, resource.getrlimit(kind)) for kind in _LIMITS]
        self._trace = sys.gettrace(), sys.getprofile()

    def put_right(self) -> None:
        """Bring back working directory, umask, signals, timers, resource limits and trace functions."""
        with contextlib.suppress(OSError):
            os.chdir(self._folder)
        os.umask(self._umask)
        # The timers first: their signals may have had a handler of the task's.
        signal.setitimer(signal.ITIMER_REAL, 0)
        if sys.gettrace() is not self._trace[0]:
            sys.settrace(self._trace[0])
            threading.settrace(self._trace[0])
        if sys.getprofile() is not self._trace[1]:
            sys.setprofile(self._trace[1])
            threading.setprofile(self._trace[1])
        for number, handler in self._handlers:
            # None: set by C code, which is all that Python knows of it.
            if _signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)
        if _signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self._blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        for kind, before in self._limits:
            if resource.getrlimit(kind) != before:
                _set_limit(kind, before)


def _set_limit(kind: int, before: tuple[int, int]) -> None:
    """Bring a limit back, as far as the hard limit lets it: who lowered that one can't raise it again."""
    with contextlib.suppress(OSError, ValueError):
        try:
            resource.setrlimit(kind, before)
        except (OSError, ValueError):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (hard, hard))
