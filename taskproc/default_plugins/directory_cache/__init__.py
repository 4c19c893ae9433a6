"""The default cache: a directory that people can browse, one folder a task.

    CACHE/taskproc.json, index.jsonl, journal.jsonl, jobs/, leases/, code/, runs/
    CACHE/<task name>/<key>/  result.pkl.gz  record.json  stdout.txt  stderr.txt  data/  failed.json

`gzip.open` and `pickle.load` read a result without this library, and a folder may be removed
by hand at any time. Here is what runs ask of a cache; what people ask beside it is in `answers`.
What a stored result means, and when it is stale, is the engine's to know.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from taskproc.default_plugins.directory_cache import entry as entries
from taskproc.default_plugins.directory_cache import root as roots
from taskproc.default_plugins.directory_cache.answers import Answers
from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.default_plugins.directory_cache.formats import decode_record, decompress
from taskproc.default_plugins.directory_cache.names import is_key
from taskproc.default_plugins.directory_cache.options import split_options
from taskproc.default_plugins.directory_cache.rules import Rules
from taskproc.default_plugins.directory_cache.state import State
from taskproc.errors import CacheError, DamagedEntryError, MissingResultError
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import CacheBackend, DataFile, Holder, LogPaths, Record, TaskKey, content_digest

_FAULTS = MappingProxyType(
    {
        errno.EIO: "the disk can't read it",
        errno.ELOOP: "it is a link",
        errno.EINVAL: "it is no regular file",
        errno.ENXIO: "it is no regular file",  # a socket
    }
)


@dataclass(frozen=True)
class DirectoryCache(Answers):
    """Keep every result in a folder of its own, as a gzip pickle beside its record.

    Attributes:
        root: the cache's directory; a relative one is below the working directory at
            construction, and `~` is a name like any other.
        trust: use a directory that another user owns or that others can write to.
            Reading a result can run whatever code its writer put in.
        shared: "group" for a cache that the members of its folder's group read and write:
            its folders are 2770 and its files 0660. None: 0700 and 0600, for its owner alone.
    """

    name: ClassVar[str] = "directory"

    root: Path
    trust: bool = False
    shared: Literal["group"] | None = None

    def __post_init__(self) -> None:
        if self.shared not in (None, roots.GROUP):
            raise CacheError(f"shared={self.shared!r}: give 'group', or leave it out")
        root = os.path.abspath(self.root)
        object.__setattr__(self, "root", Path(root))
        rules = Rules(self.trust, self.shared == roots.GROUP)
        object.__setattr__(self, "_state", State(root, Files(rules)))

    def __getstate__(self) -> dict[str, Any]:
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        # A worker's copy, which opens nothing, is told what `open` found.
        return {**options, "shared": roots.GROUP if self._state.files.rules.shared else None}

    def __setstate__(self, options: dict[str, Any]) -> None:
        for name, value in options.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @classmethod
    def from_url(cls, url: str) -> DirectoryCache:
        """Make a cache from a path; `?trust=true` or `?shared=group` behind it (or `&`) set options.

        Raises:
            CacheError: the text is empty or holds a NUL, or an option has another value.
        """
        path, options = split_options(url)
        if not path or "\0" in path:
            raise CacheError(f"{url!r} is no path of a cache; give a directory, such as './cache'")
        return cls(Path(path), **options)

    @property
    def location(self) -> str:
        """The absolute path of the root."""
        return str(self.root)

    def open(self) -> None:
        """Check that the cache can be used; write nothing.

        Raises:
            CacheError: the path is a file, a directory with something else in it, a cache of
                a newer taskproc, not readable, or not safe to read (see `trust`).
        """
        rules = self._state.files.rules
        roots.check(self.location, rules)
        if self.trust and not self.shared:
            # What is added to a cache that a group shares is for the group, whoever adds it.
            self._state.files.rules.share(roots.is_shared(self.location, rules))
        self._state.is_made = False  # it may have been removed since
        self._state.looker.wants_all()

    # Reading

    def look_up(self, keys: Collection[TaskKey]) -> dict[TaskKey, Record]:
        """The records of those of `keys` that have a whole stored result; writes nothing.

        An entry counts if its record can be read and is of this key, the result is there in the
        size that the record tells, and every data file with the content that the record tells
        (files that are as they were when they were last read are not read again).
        """
        return self._state.looker.look_up(keys)

    def load(self, key: TaskKey, digest: str | None = None) -> bytes:
        """The uncompressed pickle of a result, checked against `digest` (else the record's).

        Raises:
            MissingResultError: nothing is stored.
            DamagedEntryError: what is stored is not what the digest says, or can't be read.
        """
        entry = self._state.paths.entry(key)
        path = f"{entry}/{entries.RESULT}"
        try:
            if digest is None:
                decoded = decode_record(read_file(f"{entry}/{entries.RECORD}")[0])
                digest = decoded[0].digest if decoded else ""
            data, status = read_file(path, None)
            if fault := self._state.files.rules.fault(status, path):
                raise _damaged(key, path, fault)
            payload = decompress(data)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingResultError(
                f"no result of {key} is stored in the cache {self.location!r}; run the task first"
            ) from error
        except zlib.error as error:
            raise _damaged(key, path, str(error)) from error
        except OSError as error:
            told = _FAULTS.get(error.errno or 0)
            if told is None:
                raise
            raise _damaged(key, path, told) from error
        if content_digest(payload) != digest:
            raise _damaged(key, path, "its digest is not the one in its record")
        return payload

    # Writing

    def begin(self, key: TaskKey) -> None:
        """A job starts: set the record and an old data directory aside, and make an empty one.

        Without an old data directory all stays in place until `save` replaces it.
        """
        self._state.check_folder(key)
        if not entries.begin(self._state.files, self._state.paths.entry(key)):
            self._state.new.add(key)

    def save(self, record: Record, payload: bytes, compress_level: int, durable: bool) -> None:
        """Store a result and its record (the record last), and forget what `begin` set aside.

        `compress_level` is zlib's, 0 to 9; a big payload that does not compress is stored as
        it is. With `durable` the entry and its data files survive a power cut, and so does what
        it rests on (see `durability`). Raises OSError
        when it can't be written; the entry is then absent, or the old one (or the new one, if
        all that failed was to bring the folders' names to the disk).
        """

        def make_folder() -> bool:
            return self._state.make_entry(record.key)

        entry = self._state.paths.entry(record.key)
        text, signature = entries.save(
            self._state.files, make_folder, entry, record, payload, compress_level, durable
        )
        if durable and record.upstreams:
            self._state.durability.sync_below(record)
        data_state = self._state.data_files.take(entry, record.data) if record.data else ""
        self._state.looker.saved(record.key, text, signature, data_state)

    def abandon(self, key: TaskKey) -> None:
        """A job failed: put back what `begin` set aside."""
        self._state.new.discard(key)
        if not self._state.is_behind_link(key):
            entries.abandon(self._state.files, self._state.paths.entry(key))

    def index(self) -> None:
        """Note what was saved, and what `look_up` had to read record by record, in the index file."""
        self._state.looker.write_index()

    def discard(self, keys: Iterable[TaskKey]) -> None:
        """Forget these tasks' results, logs and data. An existing data directory stays, empty.

        Raises:
            CacheError: the root is not a cache of ours, and nothing is removed; or it can't be
                written to.
        """
        if roots.may_delete(self.location):
            for key in keys:
                folder = self._state.paths.task(key.name)
                if os.path.islink(folder):
                    raise CacheError(
                        f"{folder!r} is a link, and nothing is removed behind it; remove it by hand"
                    )
                with self._writing():
                    entries.discard(self._state.files, self._state.paths.entry(key))

    def discard_all(self, task_name: str) -> None:
        """Forget every result of tasks of this name (see `discard`)."""
        if not roots.may_delete(self.location):
            return
        files, folder = self._state.files, self._state.paths.task(task_name)
        with self._writing():
            if os.path.islink(folder):
                files.unlink(folder)
            elif os.path.isdir(folder):
                for name in os.listdir(folder):
                    # A folder that somebody has put there may have a `data` of its own.
                    if is_key(name) or self._is_described(f"{folder}/{name}", task_name):
                        entries.discard(files, f"{folder}/{name}")
                files.remove_directory(folder)

    def _is_described(self, entry: str, task_name: str) -> bool:
        """Whether there is a record in a folder by which it is an entry of this task name."""
        with contextlib.suppress(OSError):
            decoded = decode_record(read_file(f"{entry}/{entries.RECORD}")[0])
            return decoded is not None and decoded[0].key.name == task_name
        return False

    def set_aside(self, key: TaskKey) -> None:
        """Rename the files of a damaged entry, the record first: `result.pkl.gz.damaged`."""
        if not self._state.is_behind_link(key):
            with self._writing():
                entries.set_aside(self._state.files, self._state.paths.entry(key))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell people, and not the program, of a cache that can't be written to."""
        try:
            yield
        except OSError as error:
            raise roots.unwritable(self.location, error) from error

    # Claims

    def lease(self, keys: Collection[TaskKey]) -> set[TaskKey]:
        """Claim keys for this runner; returns those granted (others are held by another runner).

        A key that this object holds is not granted again.
        """
        self._state.make_root()
        try:
            return self._state.leases.claim(keys)
        except FileNotFoundError:
            self._state.is_made = False  # somebody has removed the whole cache
            self._state.make_root()
            return self._state.leases.claim(keys)

    def release(self, keys: Iterable[TaskKey]) -> None:
        """Give back claims. A dead runner's claims end by themselves."""
        self._state.leases.release(keys)

    def ticket(self) -> str:
        """The name of the lease file of the last call of `lease`; "" if there was none."""
        return self._state.leases.ticket()

    def stands(self, ticket: str) -> bool:
        """Whether the lease file of this name is still there; after `lease_for_job`, the job's own."""
        return self._state.leases.stands(ticket)

    def lease_for_job(self, key: TaskKey, ticket: str) -> bool:
        """Claim `key` for a job in this process, beside the claim of its runner (see `CacheBackend`)."""
        self._state.make_root()
        return self._state.leases.claim_for_job(key, ticket)

    def rest(self) -> None:
        """End the thread that shows others that this runner lives, unless it holds claims still."""
        self._state.leases.rest()

    def holder(self, key: TaskKey) -> Holder | None:
        """Who else has claimed `key`; None: nobody. Writes nothing."""
        return self._state.leases.holder(key)

    # A task's own files

    def data_directory(self, key: TaskKey, create: bool) -> Path:
        """The task's data directory, made if `create`."""
        path = f"{self._state.paths.entry(key)}/{entries.DATA}"
        if create and not os.path.isdir(path):
            self._state.make_entry(key)
            self._state.files.make_directory(path)
        return Path(path)

    def list_data(self, key: TaskKey) -> tuple[DataFile, ...]:
        """The files now in the data directory, sorted by path, each with its content digest.

        A symbolic link counts as what it says, not as what it points to. In a shared cache the
        files are opened to the group.
        """
        entry = self._state.paths.entry(key)
        if self._state.files.rules.shared:
            from taskproc.default_plugins.directory_cache.sharing import open_to_group

            open_to_group(f"{entry}/{entries.DATA}")
        return self._state.data_files.list(entry)

    def log_paths(self, key: TaskKey) -> LogPaths:
        """Where the task's output goes."""
        entry = self._state.paths.entry(key)
        return LogPaths(Path(f"{entry}/{entries.STDOUT}"), Path(f"{entry}/{entries.STDERR}"))

    def keep_logs(self, key: TaskKey, stdout: Path | None, stderr: Path | None) -> None:
        """Move these files to the task's log paths; None means no output (an old log goes)."""
        entry = self._state.paths.entry(key)
        is_new = key in self._state.new
        self._state.new.discard(key)
        if stdout is None and stderr is None and (is_new or not os.path.isdir(entry)):
            return
        self._state.make_entry(key)
        faults: list[OSError] = []
        for source, name in ((stdout, entries.STDOUT), (stderr, entries.STDERR)):
            try:
                # First, so that an older log is never taken for that of this job, whatever fails then.
                if not is_new:
                    self._state.files.unlink(f"{entry}/{name}")
                if source is not None:
                    self._state.files.move(str(source), f"{entry}/{name}")
            except OSError as error:  # the other one may be kept all the same
                faults.append(error)
        if faults:
            raise faults[0]

    def scratch(self) -> Path:
        """An existing folder for jobs and output in flight, visible to every worker."""
        path = f"{self.location}/jobs"
        if not os.path.isdir(path) or os.path.islink(path):
            self._state.is_made = False  # somebody may have removed the whole cache
            self._state.make_root()
            try:
                self._state.files.make_directory(path)
            except OSError as error:
                raise roots.unwritable(self.location, error) from error
        return Path(path)

    def close(self) -> None:
        """Give back descriptors and claims. The cache may be used again afterwards."""
        self._state.leases.close()


def _damaged(key: TaskKey, path: str, fault: str) -> DamagedEntryError:
    return DamagedEntryError(
        f"the stored result of {key} is damaged: {path!r}: {fault}; run the task again to compute it anew",
        key,
    )


@hookimpl
def taskproc_register_cache_backends() -> Sequence[type[CacheBackend]]:
    """The directory cache."""
    return [DirectoryCache]
