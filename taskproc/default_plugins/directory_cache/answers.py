"""What people ask of a directory cache beside its results: what is there, and what happened.

No result rests on any of it, so what can't be written here is not written, and the run goes on.
"""

# Most modules are imported where they are used: a worker, which uses none of them, starts sooner.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import ClassVar, Literal

from taskproc.default_plugins.directory_cache import root as roots
from taskproc.default_plugins.directory_cache.state import State
from taskproc.errors import CacheError
from taskproc.interfaces import (
    JSON,
    CacheBackend,
    Event,
    Finding,
    Record,
    StoredEntry,
    TaskKey,
    Usage,
)


class Answers(CacheBackend):
    """The part of the directory cache that answers people."""

    # One for each object; a ClassVar so that it is no option.
    _state: ClassVar[State]

    def task_names(self) -> list[str]:
        """The names of the tasks of which something is stored, sorted; writes nothing.

        Raises:
            CacheError: the root can't be read.
        """
        from taskproc.default_plugins.directory_cache import listing

        return listing.task_names(self._state.paths, self._state.looker)

    def stored(self, task_name: str) -> Iterable[StoredEntry]:
        """What is stored of the tasks of this name, in no particular order; writes nothing.

        Read while it is iterated over: an entry that comes or goes meanwhile may be in it or not.
        """
        from taskproc.default_plugins.directory_cache import listing

        return listing.stored(self._state.paths, self._state.looker, task_name)

    def verify(
        self, repair: bool, checked: Callable[[TaskKey, int], None] | None = None
    ) -> Iterator[Finding]:
        """Look for whatever is not as it should be, everywhere; told while it is found.

        Raises:
            CacheError: the root is not a cache of ours, or can't be read.
        """
        from taskproc.default_plugins.directory_cache.verifying import verify

        roots.must_be_made(self._state.root)
        return verify(self, self._state, repair, checked)

    def usage(self) -> Iterator[Usage]:
        """What takes how many bytes: the sizes of the files, those of links being what they say.

        Raises:
            CacheError: the root is not a cache of ours, or can't be read.
        """
        from taskproc.default_plugins.directory_cache.pruning import usage

        roots.must_be_made(self._state.root)
        return usage(self._state.root)

    def prune(self, keys: Iterable[TaskKey], kind: Literal["damaged", "failures"] | None = None) -> None:
        """Remove all that there is of these tasks, or only what is of a kind.

        Raises:
            CacheError: the root is not a cache of ours, or a task's folder is a link.
            OSError: something can't be removed; the record goes first.
        """
        from taskproc.default_plugins.directory_cache.pruning import prune

        roots.must_be_made(self._state.root)
        prune(self._state.files, self._state.paths, keys, kind)

    def must_exist(self) -> None:
        """Check that there is a cache. Raises CacheError if there is none."""
        roots.must_be_made(self._state.root)

    def replace_record(self, key: TaskKey, record: Record) -> None:
        """Give the stored result of `key` another record, and by that another key if it has one.

        The result, its data and its logs go along, by a rename of the entry's folder; an entry
        that stands under the new key already is replaced. It survives a power cut. Repeating a
        call that was broken off completes it.

        Raises:
            MissingResultError: nothing is stored under either key.
            CacheError: the record is of another result (`digest` and `data` differ), or the
                folders are on two disks.
            OSError: it can't be written.
        """
        from taskproc.default_plugins.directory_cache.moving import replace_record

        state = self._state
        state.check_place(key)
        data_state = state.looker.state_of_data(key) if record.data else ""  # a rename leaves it as it is
        text, signature = replace_record(state.files, state.paths, key, record)
        state.looker.saved(record.key, text, signature, data_state)

    def keep_code(self, digest: str, data: bytes) -> None:
        """Keep a text of source code under its digest, for `kept_code`.

        Raises:
            CacheError: the digest is not a word of lower-case hex digits.
        """
        from taskproc.default_plugins.directory_cache.code_store import CodeStore, is_digest

        if not is_digest(digest):
            raise CacheError(f"{digest!r} is no digest to keep a text under; give lower-case hex digits")
        store = CodeStore(self._state.root, self._state.files)
        if not store.has(digest) and self._state.has_root():
            store.keep(digest, data)

    def kept_code(self, digest: str) -> bytes | None:
        """What was kept under a digest, or None (also if it is damaged)."""
        from taskproc.default_plugins.directory_cache.code_store import CodeStore

        return CodeStore(self._state.root, self._state.files).read(digest)

    def note(self, event: Event) -> None:
        """Remember an event, for `events`. Does nothing where no cache was made yet.

        A failure is noted in the task's own folder, and forgotten when a result is saved.
        """
        from taskproc.default_plugins.directory_cache.journal import Journal, write_failure

        state = self._state
        if not roots.is_marked(state.root):
            return
        with suppress(OSError, CacheError):
            if event.kind == "failed" and event.key.digest:
                state.make_entry(event.key)
                write_failure(state.files, state.paths.entry(event.key), event)
            else:
                Journal(state.root, state.files).add(event)

    def events(self, key: TaskKey) -> list[Event]:
        """What is known to have happened to the result of a task, the latest last.

        What was noted of the task or of all tasks of its name and, where no whole result is
        stored now, what can be told from the disk.
        """
        from taskproc.default_plugins.directory_cache.journal import Journal, read_failure
        from taskproc.default_plugins.directory_cache.traces import sort_events, with_traces

        state = self._state
        entry = state.paths.entry(key)
        told = Journal(state.root, state.files).events(key)
        if failure := read_failure(entry, key):
            told.append(failure)
        if state.looker.find(key) is not None:
            return sort_events(told)
        return with_traces(told, key, entry, state.looker.last(key), state.data_files)

    def post(self, run: str, facts: Mapping[str, JSON]) -> None:
        """Let others see what a run of this process is doing; replaces what it posted before.

        It is seen until `unpost`, or until this object or its process ends.
        """
        if self._state.has_root():
            self._state.posts.post(run, facts)

    def unpost(self, run: str) -> None:
        """Take back what a run posted through this object, at its end."""
        self._state.posts.unpost(run)

    def posts(self) -> list[Mapping[str, JSON]]:
        """What the runs that are alive have posted; writes nothing."""
        return self._state.posts.read()
