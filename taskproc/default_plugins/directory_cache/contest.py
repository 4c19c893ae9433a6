"""Settle who gets a key that several ask for.

Everybody writes its claims down first and then looks at those of the others, so of two at least
one sees the other. Of two that ask at the same time the one with the lesser ticket waits for what
the other comes to. Knows neither keys nor runners, but lease files and the marks in them.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection
from contextlib import suppress

from taskproc.default_plugins.directory_cache.lease_file import ASKED, HELD, OwnLease
from taskproc.default_plugins.directory_cache.other_leases import OtherLeases

_RESOLVE_SECONDS = 0.05
_RESOLVE_PAUSE = 0.0005
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Contest:
    """The claims of one lease file against those of all others in its folder.

    Args:
        own: our file.
        others: the others.
        apart_from: the ticket of a file whose claims are no hindrance; "" for none.
    """

    def __init__(self, own: OwnLease, others: OtherLeases, apart_from: str = "") -> None:
        self._own = own
        self._others = others
        self._apart_from = apart_from
        self._is_alone = False

    def claim(self, marks: Collection[bytes]) -> set[bytes] | None:
        """Write claims down and take those back that others have; returns those that stay.

        None if our own file is gone, or was closed by somebody. Raises OSError for what is no
        fault of a disk alone. Whoever was alone the last time says at once that it holds them,
        which saves it a write, and looks all the same.
        """
        try:
            self._own.put(marks, HELD if self._is_alone else ASKED)
        except OSError as error:
            if error.errno == errno.EBADF:
                return None
            # Of a full disk others can't be told, and may compute the same; the job itself will
            # say what is wrong.
            if error.errno not in _DISK_FAULTS:
                raise
        try:
            there = self._others.tickets()
        except FileNotFoundError:
            return None
        if self._own.ticket not in there:
            return None
        rivals = [ticket for ticket in there if ticket not in (self._own.ticket, self._apart_from)]
        mine = set(marks)
        if rivals:
            mine -= self._lost_to(rivals, mine)
        with suppress(OSError):  # what could not be written is, with the next claim or beat
            if len(mine) < len(marks):
                self._own.remove([mark for mark in marks if mark not in mine])
            if not self._is_alone:
                self._own.put(mine, HELD)
        self._is_alone = not rivals
        return mine

    def _lost_to(self, rivals: Collection[str], marks: Collection[bytes]) -> set[bytes]:
        """Those of our claims that are another's."""
        lost: set[bytes] = set()
        contested: list[str] = []
        for ticket in rivals:
            reading = self._others.read(ticket)
            claims = reading.claims(marks) if reading is not None else {}
            if not claims or (reading and self._others.remove_if_dead(ticket, reading)):
                continue
            for mark, state in claims.items():
                if state == HELD or ticket < self._own.ticket:
                    lost.add(mark)
                elif ticket not in contested:
                    contested.append(ticket)
        deadline = time.monotonic() + _RESOLVE_SECONDS
        for ticket in contested:
            lost |= self._resolved(ticket, {mark for mark in marks if mark not in lost}, deadline)
        return lost

    def _resolved(self, ticket: str, marks: Collection[bytes], deadline: float) -> set[bytes]:
        """Those of `marks` that a rival has, who had only asked for them when we looked first.

        It either had looked before we asked, and has them now, or has seen us, and gives them
        back. If it does neither, being stopped perhaps, we give way for now.
        """
        while True:
            reading = self._others.read(ticket)
            claims = reading.claims(marks) if reading is not None else {}
            if ASKED not in claims.values() or time.monotonic() > deadline:
                return set(claims)
            time.sleep(_RESOLVE_PAUSE)
