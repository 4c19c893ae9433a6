"""Decide what SIGINT, SIGTERM and SIGHUP mean while a run, or the command, is under way.

The first asks for a clean end, the second kills. Knows nothing of jobs: a run says where it may
be broken off anywhere, and where it wants to be woken to end things in its own order.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from taskproc.engine.processes import end_descendants, now_in_ticks
from taskproc.engine.wakeups import listening, stop_in_child
from taskproc.errors import Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST_SECONDS = 4.4
"""After so long the command leaves, whatever hangs; a run's own cleaning up takes less."""
_ECHO_SECONDS = 0.25
"""What arrives so soon after the first signal is the same wish: a terminal signals the whole group,
whoever started us passes it on as well, and an impatient finger is not counted."""
_NUDGE_SECONDS = _ECHO_SECONDS / 2.5
_UNHEEDED_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_SHOW_CURSOR = b"\x1b[?25h"


class Interruption:
    """The signals that ask this process to end, as long as this is in force.

    Only what is at its default is taken over; handlers of the user's, and signals that are ignored
    (SIGHUP under nohup), stay as they are. Outside of the main thread nothing is taken over.

    Attributes:
        number: the first signal that came; 0 for none.
        summary: what a run says of how far it came; "" if none began.
        of_command: whether this process is the command's: then it leaves within five seconds, and at
            once at the second signal. Else the second one raises wherever the main thread is.
        before_leaving: what the command is to do before it leaves jobs that nothing can end, in
            threads of this process: give back their claims. Empty: there are none.
    """

    def __init__(self, of_command: bool = False) -> None:
        self.number = 0
        self.summary = ""
        self.of_command = of_command
        self.before_leaving: list[Callable[[], object]] = []
        self.kill: Callable[[], None] = _nothing
        self._since = 0.0
        self._began = now_in_ticks()
        self._pid = os.getpid()
        self._before: dict[int, Any] = {}
        self._wake: Callable[[], None] | None = None
        self._heeded = self._nudging = self._finished = self._ending = self._closed = False
        self._lock = threading.Lock()
        self._handled_at = self._arrived_at = 0.0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            _mind_forks()
            self._wake = _nothing  # else what is taken over already would never be given back
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler):
                    with contextlib.suppress(ValueError):  # another interpreter's main thread
                        signal.signal(number, self._hear)
                        self._before[number] = before
            if self.number:
                self.__exit__(None, None, None)
                raise KeyboardInterrupt
            self._wake = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back the handlers there were.

        Raises:
            KeyboardInterrupt, Terminated: a signal came, and nothing worse is raised already.
        """
        self._ending = self._heeded = True  # nothing is raised in the midst of this
        if self.number:
            _forget_broken_off_text()
            # Who passed the first signal on may be at it still.
            time.sleep(max(0.0, self._since + _ECHO_SECONDS - time.monotonic()))
        with self._lock:  # the watch must not signal us any more
            self._closed = True
        self.give_back()
        if self.number and not self.of_command and isinstance(error, KeyboardInterrupt | None):
            if self.number != signal.SIGINT:
                raise Terminated(self.exit_code, self.number) from None
            if error is None:
                raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """What a shell says of a process that died of the signal."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """The name of the signal; "" for none."""
        return signal.Signals(self.number).name if self.number else ""

    @property
    def left(self) -> float:
        """How many seconds an end in good order may still take."""
        return max(0.0, self._since + LONGEST_SECONDS - time.monotonic())

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came: also one whose exception somebody swallowed."""
        if self.number:
            self.heed()
            raise KeyboardInterrupt

    def heed(self) -> None:
        """The end has begun: nobody need be reminded of the signal."""
        self._heeded = True

    def end_children(self) -> None:
        """End what tasks in this very process have started, if the process is the command's.

        A terminal signals the whole group; who signals the runner alone is to leave no orphans either.
        """
        if self.of_command:
            with contextlib.suppress(OSError):
                end_descendants(self._began)

    def finish(self) -> None:
        """All is done: from here on a signal ends this process at once, if it is the first."""
        self._finished = True
        if self.number:
            _forget_broken_off_text()
            # Not to be told from the default any more when Python ends, which gives that back.
            for number in self._before:
                signal.signal(number, signal.SIG_IGN)

    def give_back(self) -> None:
        """Put back the handlers there were, as in a forked child."""
        # SIGINT last, whose own handler raises.
        for number, before in reversed(self._before.items()):
            if getattr(signal.getsignal(number), "__self__", None) is self:
                signal.signal(number, before)

    @contextlib.contextmanager
    def held(self, wake: Callable[[], None]) -> Iterator[None]:
        """In here the first signal calls `wake`, and `check` raises: nothing is broken off midway."""
        before, self._wake = self._wake, wake
        try:
            yield
        finally:
            self._wake = before

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """In here, inside of `held`, the first signal raises KeyboardInterrupt wherever it comes."""
        before, self._wake = self._wake, None
        try:
            yield
        finally:
            self._wake = before

    def listening_in_c(self) -> contextlib.AbstractContextManager[None]:
        """In here, a main thread that is stuck in C code does not keep the process from ending."""
        return listening(self._arrive)

    def _arrive(self, number: int) -> None:
        """A signal has come; `_hear` is called as soon as the main thread runs Python again."""
        if number not in self._before:
            return
        now = time.monotonic()
        is_first = not self._arrived_at
        if is_first:
            self._arrived_at = now
        elif now - self._arrived_at <= _ECHO_SECONDS:
            return
        # A notebook must not lose all it has by its user's impatience.
        if self.of_command or number != signal.SIGINT or (is_script() and not is_first):
            patience = LONGEST_SECONDS if is_first else _ECHO_SECONDS
            _thread.start_new_thread(self._leave_unless_handled, (number, now, patience))

    def _leave_unless_handled(self, number: int, arrived: float, patience: float) -> None:
        time.sleep(_NUDGE_SECONDS)
        main = threading.main_thread().ident
        if main and self._is_unheard(arrived):
            # It came just before a blocking call, or to another thread: neither wakes the main thread.
            self._arrived_at = time.monotonic()  # what is sent now is no second wish
            signal.pthread_kill(main, number)
        time.sleep(patience - _NUDGE_SECONDS)
        if self._is_unheard(arrived):
            self.number = self.number or number
            self.kill()
            self._leave(f"interrupted by {self.name} in C code; what was finished is stored")

    def _is_unheard(self, arrived: float) -> bool:
        # The handler may have been called a moment before the arrival was heard of.
        return self._handled_at < arrived - _ECHO_SECONDS / 2 and not self._closed

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._handled_at = time.monotonic()
        if self._closed or os.getpid() != self._pid:
            self.give_back()
            os.kill(os.getpid(), number)
        elif self._finished:
            self.number = self.number or number
            self._leave()
        elif self._ending or (frame is not None and frame.f_code in _ENDS):
            self.number = self.number or number
        elif self._nudging:
            self._nudging = False
            if not self._heeded:
                raise KeyboardInterrupt
        elif not self.number:
            self.number, self._since = number, time.monotonic()
            # No Thread: its locks may be held by the very code that this breaks into.
            _thread.start_new_thread(self._watch, ())
            if self._wake is None:
                raise KeyboardInterrupt
            self._wake()
        elif time.monotonic() - self._since > _ECHO_SECONDS:
            self.kill()
            if self.of_command:
                self._leave("killed by a second signal; what was finished is stored")
            raise KeyboardInterrupt

    def _watch(self) -> None:
        """See to it that the signal is heeded, and that the command ends in time."""
        main = threading.main_thread().ident
        while not self._closed:
            time.sleep(_LOOK_SECONDS)
            waited = time.monotonic() - self._since
            if self.of_command and waited >= LONGEST_SECONDS:
                self.kill()
                self._leave(f"interrupted by {self.name}; left without waiting for what hangs")
            with self._lock:
                if not self._closed and not self._heeded and waited >= _UNHEEDED_SECONDS and main:
                    # Swallowed by the user's code, or waiting for some: a blocking call ends by this.
                    self._nudging = True
                    signal.pthread_kill(main, self.number)

    def _leave(self, words: str = "") -> NoReturn:
        """End this process at once. Python's streams are left alone: anybody may be in them."""
        self.end_children()
        with contextlib.suppress(OSError):
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # live bars hide it
            if words:
                os.write(2, f"taskproc: {words}\n".encode())
        os._exit(self.exit_code)


def in_force() -> Interruption | None:
    """What has taken over the signals of this process, as far as it concerns this thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    for number in SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, Interruption):
            return owner
    return None


_ENDS = (Interruption.__enter__.__code__, Interruption.__exit__.__code__)
"""What a signal here would raise left the handlers in place for ever: `check` raises it then."""


def interruptible() -> contextlib.AbstractContextManager[Interruption]:
    """What is in force already, else signals taken over for as long as the block lasts."""
    known = in_force()
    # No generator: what breaks into the way to one leaves it as it is.
    return contextlib.nullcontext(known) if known is not None else Interruption()


@functools.cache
def _mind_forks() -> None:
    """Let forked children, once for all, do with signals what they did before."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for number in SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, Interruption):
            with contextlib.suppress(ValueError):
                owner.give_back()
                stop_in_child()


def _forget_broken_off_text() -> None:
    """Have `python -m` exit with the code it is told to.

    A KeyboardInterrupt that leaves program text which Python runs from a string, as when a dataclass
    is made, is kept in mind by the interpreter, even if it is caught: in the end it dies of SIGINT,
    whatever code it was to exit with. The next such text makes it forget; a namedtuple is one.
    """
    namedtuple("Any", "")


def is_script() -> bool:
    """Whether this process runs a file, and not what somebody types in."""
    return hasattr(sys.modules.get("__main__"), "__file__") and not hasattr(sys, "ps1")


def _nothing() -> None:
    return None
