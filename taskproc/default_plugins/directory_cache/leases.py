"""Claim keys for one runner, so that several runners share a cache without doing a task twice.

A runner writes its claims into a lease file of its own, and then looks whether they stand in
another's as well. Of two that write first and look afterwards at least one sees the other, so
that no key is ever granted to both. Knows nothing of entries, nor when an owner counts as dead.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.heartbeat import Heartbeat, join
from taskproc.default_plugins.directory_cache.lease_file import ASKED, HELD, OwnLease, mark_of
from taskproc.default_plugins.directory_cache.locks import around_forks
from taskproc.default_plugins.directory_cache.other_leases import BEAT_SECONDS, OtherLeases
from taskproc.default_plugins.directory_cache.root import unwritable
from taskproc.errors import CacheError
from taskproc.interfaces import Holder, TaskKey

_TRIES = 5
_RESOLVE_SECONDS = 0.05
_RESOLVE_PAUSE = 0.0005
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Leases:
    """The claims of one runner, or of a job; `folder` is where the lease files are, or will be."""

    def __init__(self, folder: str, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._watches_forks = False
        self._others = OtherLeases(folder, files)
        self._reset()

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._own: OwnLease | None = None
        self._is_alone = True
        self._held: dict[TaskKey, bytes] = {}
        self._jobs: dict[TaskKey, OwnLease] = {}
        self._runner_of_jobs = ""
        self._ticket = ""
        self._was_beating = False
        self._heartbeat = Heartbeat(self, BEAT_SECONDS)

    # A runner's claims

    def claim(self, keys: Collection[TaskKey]) -> set[TaskKey]:
        """Claim these keys; returns those granted. A key held by this object is not granted again.

        Raises:
            CacheError: the cache can't be written to.
            FileNotFoundError: it is not there.
        """
        with self._guard:
            for _ in range(_TRIES):
                wanted = {mark_of(key): key for key in keys if key not in self._held}
                if not wanted and (self._own is None or self._others.is_there(self._own.ticket)):
                    return set()
                if self._own is None:
                    self._own = self._open()
                    self._ticket = self._own.ticket
                granted = self._compete(self._own, list(wanted), apart_from="")
                if granted is not None:
                    self._held.update((wanted[mark], mark) for mark in granted)
                    self._keep_beating()
                    return {wanted[mark] for mark in granted}
                # We stood still for so long that others took us for dead, and took our claims over;
                # or a task has closed the file, and with it our lock.
                self._own.close()
                self._own = None
                self._held.clear()
            raise self._unwritable(OSError(errno.EIO, "lease files vanish as they are made"))

    def _open(self, runner: str = "") -> OwnLease:
        if not self._watches_forks:
            self._watches_forks = True
            around_forks(self)
        try:
            self._files.make_directory(self._folder)
            own = OwnLease(self._folder, self._files, runner)
        except FileNotFoundError:
            raise  # the cache is gone; whoever asks can make it again
        except OSError as error:
            raise self._unwritable(error) from error
        self._is_alone = False
        self._others.tidy_up(besides=[own.ticket])
        return own

    def _unwritable(self, error: OSError) -> CacheError:
        named = OSError(error.errno, error.strerror or str(error), error.filename or self._folder)
        return unwritable(os.path.dirname(self._folder), named)

    def _compete(self, own: OwnLease, marks: list[bytes], apart_from: str) -> set[bytes] | None:
        """Write claims down and take those back that others have; returns those that stay.

        None if our own file is gone. Whoever believes to be alone says at once that it holds
        them, which saves it a write, and looks all the same.
        """
        mine = set(marks)
        try:
            own.put(marks, HELD if self._is_alone else ASKED)
        except OSError as error:
            if error.errno == errno.EBADF:
                return None
            if error.errno not in _DISK_FAULTS:
                raise self._unwritable(error) from error
            # Others can't be told, and may compute the same. The job itself will say what is wrong.
            return mine
        try:
            there = self._others.tickets()
        except FileNotFoundError:
            return None
        if own.ticket not in there:
            return None
        others = [ticket for ticket in there if ticket not in (own.ticket, apart_from)]
        mine -= self._lost_to(others, own.ticket, mine)
        with suppress(OSError):  # what could not be written is, with the next claim or beat
            own.remove(mark for mark in marks if mark not in mine)
            if not self._is_alone:
                own.put(mine, HELD)
        if not apart_from:
            self._is_alone = not others
        return mine

    def _lost_to(self, others: Collection[str], own: str, marks: Collection[bytes]) -> set[bytes]:
        """Those of our claims that are another's.

        Of two that ask for one key the lesser ticket waits for what the other comes to: that
        one either had looked before we asked, and has it now, or has seen us, and gives it back.
        """
        lost: set[bytes] = set()
        contested: list[str] = []
        for ticket in others:
            reading = self._others.read(ticket)
            claims = reading.claims(marks) if reading is not None else {}
            if not claims or (reading and self._others.remove_if_dead(ticket, reading)):
                continue
            for mark, state in claims.items():
                if state == HELD or ticket < own:
                    lost.add(mark)
                elif ticket not in contested:
                    contested.append(ticket)
        deadline = time.monotonic() + _RESOLVE_SECONDS
        for ticket in contested:
            lost |= self._resolved(ticket, {mark for mark in marks if mark not in lost}, deadline)
        return lost

    def _resolved(self, ticket: str, marks: Collection[bytes], deadline: float) -> set[bytes]:
        """Those of `marks` that another has, who had only asked for them when we looked first."""
        while True:
            reading = self._others.read(ticket)
            claims = reading.claims(marks) if reading is not None else {}
            if ASKED not in claims.values() or time.monotonic() > deadline:
                return set(claims)
            time.sleep(_RESOLVE_PAUSE)

    def release(self, keys: Iterable[TaskKey]) -> None:
        """Give these claims back; those that are not held are passed over."""
        with self._guard:
            marks: list[bytes] = []
            for key in keys:
                mark = self._held.pop(key, None)
                if mark is not None:
                    marks.append(mark)
                if self._jobs and (job := self._jobs.pop(key, None)) is not None:
                    job.close()
            if marks and self._own is not None:
                try:  # noqa: SIM105 - which would cost every job as much as the call
                    self._own.remove(marks)
                except OSError:  # the next claim or beat writes it
                    pass

    # What workers ask

    def ticket(self) -> str:
        """Under which lease file the claims of the last call of `claim` were made; "" if none was."""
        return self._ticket

    def stands(self, ticket: str) -> bool:
        """Whether nobody has taken over the claims of this ticket, or of the job that shows it."""
        if not ticket:
            return True
        if self._runner_of_jobs == ticket and (jobs := list(self._jobs.values())):
            return all(self._others.is_there(job.ticket) for job in jobs)
        return self._others.is_there(ticket)

    def claim_for_job(self, key: TaskKey, ticket: str) -> bool:
        """Claim a key for a job in this process, beside the claim of the runner with this ticket.

        Raises:
            CacheError: the cache can't be written to.
        """
        with self._guard:
            if key in self._jobs:
                return False
            if ticket and not self._is_alive(ticket):
                return False
            job = self._open(runner=ticket or "-")
            granted = self._compete(job, [mark_of(key)], apart_from=ticket)
            if not granted or (ticket and not self._others.is_there(ticket)):
                job.close()
                return False
            self._jobs[key] = job
            self._runner_of_jobs = ticket
            self._keep_beating()
            return True

    def _is_alive(self, ticket: str) -> bool:
        reading = self._others.read(ticket)
        if reading is None:
            return self._others.is_there(ticket)
        is_own = self._own is not None and self._own.ticket == ticket
        return is_own or not self._others.remove_if_dead(ticket, reading)

    def holder(self, key: TaskKey) -> Holder | None:
        """Who else has claimed a key; None: nobody. A job before a runner, which may only ask for it."""
        found: Holder | None = None
        mark = mark_of(key)
        ours = {lease.ticket for lease in (self._own, *self._jobs.values()) if lease is not None}
        with suppress(OSError):
            for ticket in sorted(self._others.tickets()):
                reading = self._others.read(ticket) if ticket not in ours else None
                if reading is None or not reading.claims([mark]):
                    continue
                # Who only waits for another's claim has nobody else to find out that it is a dead one's.
                if not self._others.is_dead(ticket, reading):
                    one = self._others.holder(reading)
                    if one is not None and one.is_job:
                        return one
                    found = found or one
        return found

    # Signs of life

    def _keep_beating(self) -> None:
        if not self._heartbeat.is_running:
            self._heartbeat.start()

    def beat(self) -> bool:
        """Show that this process lives; False if it claims nothing, so that there is nothing to show."""
        with self._guard:
            leases = [*self._jobs.values()]
            if self._own is not None and self._held:
                leases.append(self._own)
            if not leases:
                self._heartbeat.stop()
                return False
            for lease in leases:
                with suppress(OSError):
                    lease.beat()
            return True

    # The end, and forks

    def close(self) -> None:
        """Give back every claim, and the descriptors. Claims may be made again afterwards."""
        with self._guard:
            thread = self._close()
        join(thread)

    def rest(self) -> None:
        """End the thread now if nothing is claimed; it would find out by itself with the next beat."""
        with self._guard:
            thread = None if self._held or self._jobs else self._heartbeat.stop()
        join(thread)

    def _close(self) -> threading.Thread | None:
        leases = [*self._jobs.values(), *([self._own] if self._own is not None else [])]
        self._own = None
        self._jobs.clear()
        self._held.clear()
        for lease in leases:
            lease.close()
        return self._heartbeat.stop()

    def before_fork(self) -> None:
        """Pause the thread, so that the child has nothing of it."""
        self._was_beating = self._heartbeat.pause()

    def after_fork(self) -> None:
        """Go on, in the parent."""
        if self._was_beating and self._heartbeat.is_running:
            self._heartbeat.resume()

    def forget_in_fork(self) -> None:
        """Drop the parent's claims in a forked child, without giving them back."""
        for lease in (self._own, *self._jobs.values()):
            if lease is not None:
                lease.forget()
        self._reset()

    def __del__(self) -> None:
        self._close()
