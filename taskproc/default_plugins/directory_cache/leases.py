"""Claim keys for one runner, so that several runners share a cache without doing a task twice.

A runner writes its claims into a lease file of its own, for as long as it has any; a job in a
process of its own has such a file too. Knows nothing of entries, nor who wins a claim, nor when
an owner counts as dead.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress

from taskproc.default_plugins.directory_cache.contest import Contest
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.heartbeat import Heartbeat, join
from taskproc.default_plugins.directory_cache.lease_file import OwnLease, mark_of
from taskproc.default_plugins.directory_cache.locks import around_forks
from taskproc.default_plugins.directory_cache.other_leases import BEAT_SECONDS, OtherLeases
from taskproc.default_plugins.directory_cache.root import unwritable
from taskproc.errors import CacheError
from taskproc.interfaces import Holder, TaskKey

_TRIES = 5


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
        self._contest: Contest | None = None
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
                if self._own is None or self._contest is None:
                    self._own = self._open()
                    self._ticket = self._own.ticket
                    self._contest = Contest(self._own, self._others)
                try:
                    granted = self._contest.claim(wanted.keys())
                except OSError as error:
                    raise self._unwritable(error) from error
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
        self._others.tidy_up(besides=[own.ticket])
        return own

    def _unwritable(self, error: OSError) -> CacheError:
        named = OSError(error.errno, error.strerror or str(error), error.filename or self._folder)
        return unwritable(os.path.dirname(self._folder), named)

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
            try:
                granted = Contest(job, self._others, apart_from=ticket).claim([mark_of(key)])
            except OSError as error:
                job.close()
                raise self._unwritable(error) from error
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
        self._own = self._contest = None
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
