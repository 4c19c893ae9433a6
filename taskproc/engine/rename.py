"""Carry stored results over to the new name of a task class.

One pass reads all records, another writes those that change: a record always before those it
rests on. So whatever moment it is broken off at, what is left to do can still be told from
what is stored, and the same step made again completes it. Records that a run has under lease
are left alone, and so is what they rest on. What becomes of a record is for `renamed_records`
and `renamed_codes`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from taskproc.core.records import JSON, Event, Record, TaskKey
from taskproc.engine.rename_intents import Intents
from taskproc.engine.renamed_codes import RenamedCodes
from taskproc.engine.renamed_records import Change, Changes, changes_of
from taskproc.engine.versions import who_we_are
from taskproc.errors import CacheError, MissingResultError, UsageError
from taskproc.interfaces import CacheBackend

_AT_ONCE = 100
_ONE_AT_A_TIME = TaskKey("taskproc.rename", "0" * 32)


@dataclass
class Renamed:
    """What a rename came to, or would come to.

    Attributes:
        carried: results of the old name that are now of the new one.
        followed: results of other tasks that got another key, having such a task among their arguments.
        rewritten: results whose key stays, but whose record spoke of the old name.
        kept: results left under their old keys, as there is one under the new key already.
        busy: results left for another time: a run has them, or others that rest on them.
        unsound: results left alone, as the arguments in their records are not those of their keys.
        unplaced: results that will be computed anew, as they name a path or a class by its old name.
        unknown_code: carried results that will be computed anew, as their code is not kept.
        completed: moves that somebody had been broken off at, and that are now complete.
        guess: what was supposed to move, where the files do not tell.
        before: the event of a rename of the same names that was made before.
    """

    carried: int = 0
    followed: int = 0
    rewritten: int = 0
    kept: int = 0
    busy: int = 0
    unsound: int = 0
    unplaced: int = 0
    unknown_code: int = 0
    completed: int = 0
    guess: str = ""
    before: Event | None = None


def rename(backend: CacheBackend, old: str, new: str, dry_run: bool = False) -> Renamed:
    """Carry the results of the task name `old` over to `new`.

    Args:
        backend: the cache, opened.
        old, new: task names, `module.Class`.
        dry_run: only tell what would be done.

    Raises:
        UsageError: there is no such result, or a name can't be one.
        CacheError: a run or another rename is under way, or the backend can't do that.
    """
    _check_names(old, new)
    if type(backend).replace_record is CacheBackend.replace_record:
        raise CacheError(
            f"a cache of the kind {backend.name!r} can't change its records, so nothing can be renamed"
        )
    _refuse_beside_runs(backend)
    if dry_run:
        return _Rename(backend, old, new).tell()
    with _alone(backend):
        return _Rename(backend, old, new).make()


def _check_names(old: str, new: str) -> None:
    if old == new:
        raise UsageError(f"OLD and NEW are the same, {old!r}: there is nothing to rename")
    words = [word for word in new.split(".") if word != "<locals>"]
    if len(words) < 2 or not all(word.isidentifier() for word in words):
        raise UsageError(
            f"{new!r} can't be a task name: give module.Class, as task_name shows it ('tasks.Train')"
        )
    if new.partition(".")[0] == "taskproc":
        raise UsageError(f"{new!r} can't be a task name: modules of taskproc have no tasks of yours")


def _refuse_beside_runs(backend: CacheBackend) -> None:
    for post in backend.posts():
        who = f"{post.get('user', '?')}@{post.get('host', '?')}, process {post.get('pid', '?')}"
        raise CacheError(
            f"a run of {post.get('entry', '?')} by {who} is under way in {backend.location}: "
            "rename when it has ended, or end it first"
        )


@contextmanager
def _alone(backend: CacheBackend) -> Iterator[None]:
    if _ONE_AT_A_TIME not in backend.lease([_ONE_AT_A_TIME]):
        raise CacheError(f"another rename is under way in {backend.location}: wait until it has ended")
    was_enabled = gc.isenabled()
    gc.disable()  # of many thousand records none is garbage before the end
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        backend.release([_ONE_AT_A_TIME])
        backend.close()


class _Rename:
    def __init__(self, backend: CacheBackend, old: str, new: str) -> None:
        self._backend = backend
        self._old, self._new = old, new
        self._who, self._when = who_we_are(), time.time()
        self._told = Renamed()

    def tell(self) -> Renamed:
        """What would be done."""
        changes, codes = self._survey()
        for change in changes.ordered:
            if change.after != change.before:
                is_taken = change.after.key != change.before.key and change.after.key in changes.taken
                self._count(change, codes, "kept" if is_taken else "")
        return self._told

    def make(self) -> Renamed:
        """Do it."""
        intents = Intents(self._backend)
        self._complete(intents)
        changes, codes = self._survey()
        real = [change for change in changes.ordered if change.after != change.before]
        if real:
            self._note(TaskKey(self._old, ""), f"they are those of {self._new} now")
        held: set[TaskKey] = set()
        try:
            for start in range(0, len(changes.ordered), _AT_ONCE):
                some = changes.ordered[start : start + _AT_ONCE]
                moves = [(one.before.key, one.after) for one in some if one.after.key != one.before.key]
                if moves:
                    intents.note(moves)
                for change in some:
                    self._change(change, codes, held)
            intents.settle()
        finally:
            self._backend.index()
        return self._told

    def _survey(self) -> tuple[Changes, RenamedCodes]:
        names = self._backend.task_names()
        entries = (entry for name in names for entry in self._backend.stored(name))
        records = [entry.record for entry in entries if entry.record is not None]
        codes = RenamedCodes(self._backend, self._old, self._new, (record.code for record in records))
        note: dict[str, JSON] = {"from": self._old, "to": self._new, "who": self._who, "when": self._when}
        changes = changes_of(
            records, self._old, self._new, lambda record: codes.of(record.code), codes.respell, note
        )
        self._told.unsound, self._told.guess = changes.unsound, codes.guess
        self._told.before = self._made_before(records)
        if not changes.is_mentioned and self._told.before is None and not self._told.completed:
            self._refuse_unknown(names)
        return changes, codes

    def _made_before(self, records: list[Record]) -> Event | None:
        """The rename that was made before, by what the results keep of it."""
        for record in records:
            if record.key.name == self._new:
                for note in record.provenance.get("renamed") or ():
                    if (note.get("from"), note.get("to")) == (self._old, self._new):
                        key = TaskKey(self._old, "")
                        return Event("renamed", key, note.get("when"), str(note.get("who", "")))
        return None

    def _refuse_unknown(self, names: list[str]) -> None:
        from taskproc.registry.components import did_you_mean

        known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "nothing"
        raise UsageError(
            f"no results of {self._old!r} are stored in {self._backend.location}; "
            f"stored there: {known}{did_you_mean(self._old, names)}"
        )

    def _complete(self, intents: Intents) -> None:
        """Complete a move that somebody was broken off at: the entry stands under neither key."""
        for key, record in intents.noted():
            if self._lease(key, record.key):
                try:
                    if not self._backend.look_up([key, record.key]):
                        self._backend.replace_record(key, record)
                        self._told.completed += 1
                except (MissingResultError, CacheError):
                    pass  # it was cleared, or computed anew
                finally:
                    self._backend.release([key, record.key])

    def _change(self, change: Change, codes: RenamedCodes, held: set[TaskKey]) -> None:
        before, after, upstreams = change
        if before.key in held:
            fate = "busy"
        elif after == before:
            return
        elif not self._lease(before.key, after.key):
            fate = "busy"
        else:
            try:
                fate = self._replace(before, after, codes)
            finally:
                self._backend.release([before.key, after.key])
        if fate == "busy":
            held |= upstreams
        if after != before:
            self._count(change, codes, fate)

    def _replace(self, before: Record, after: Record, codes: RenamedCodes) -> str:
        found = self._backend.look_up([before.key, after.key])
        if found.get(before.key) != before:
            return "busy"  # somebody has computed it anew since
        if after.key != before.key:
            if after.key in found:
                return "kept"
            self._note(before.key, f"it is {after.key} now")
        codes.keep(after.code)
        self._backend.replace_record(before.key, after)
        return ""

    def _lease(self, *keys: TaskKey) -> bool:
        wanted = set(keys)
        granted = self._backend.lease(wanted)
        if granted != wanted:
            self._backend.release(granted)
        return granted == wanted

    def _note(self, key: TaskKey, text: str) -> None:
        self._backend.note(Event("renamed", key, self._when, self._who, text))

    def _count(self, change: Change, codes: RenamedCodes, fate: str) -> None:
        told, before, after = self._told, change.before, change.after
        if fate:
            setattr(told, fate, getattr(told, fate) + 1)
            return
        is_old = before.key.name == self._old
        told.carried += is_old
        told.followed += not is_old and before.key != after.key
        told.rewritten += before.key == after.key
        told.unplaced += before.root != after.root
        told.unknown_code += is_old and not codes.is_known(before.code)
