"""Do every write of the caches that live in a directory.

One class, one method for each thing that can go wrong on a disk, so that a test can put a
failing disk under a whole cache. No link, pipe or device that somebody has put in the place of a
file or folder is followed or waited for. Knows nothing of entries, records or keys.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress

from taskproc.default_plugins.directory_cache.rules import Rules

PART = ".part"
"""How the name of a file ends while it is written aside; one that stays is of a killed writer."""

_ASIDE = re.compile(r"(.+)\.[0-9a-f]+-[0-9]+-[0-9]+\.part", re.DOTALL)

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LONGEST_TEXT = 1 << 28
"""More bytes are no record or note of ours: a record of a million upstreams has half as many."""

# What is no regular file is opened without waiting, and found out then.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _PLAIN
_LOCK_FILE = os.O_RDWR | os.O_CREAT | _PLAIN
_READ = os.O_RDONLY | _PLAIN


def written_for(name: str) -> str:
    """The name of the file for which a file of this name was written aside; "" if it is none of ours."""
    found = _ASIDE.fullmatch(name) if name.endswith(PART) else None
    return found[1] if found is not None else ""


class Files:
    """The disk. Paths are absolute; what is made has the modes of `rules`; errors are OSError."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._token = os.urandom(4).hex()
        self._counter = itertools.count()

    def make_directory(self, path: str) -> bool:
        """Make one folder; False if it is there.

        Raises NotADirectoryError if something else is there, a link to a folder included.
        """
        try:
            os.mkdir(path, self.rules.folder_mode)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                return False
            raise NotADirectoryError(
                errno.ENOTDIR, "a link or a file is in the place of a folder", path
            ) from None
        self.give_mode(path)
        return True

    def give_mode(self, directory: str) -> None:
        """Give a folder of ours the mode of one made here, if it has another."""
        # A umask takes rights away, and no folder gets its setgid by being made.
        status, mode = os.stat(directory), self.rules.folder_mode
        if status.st_mode & (0o777 | mode) != mode and status.st_uid == os.geteuid():
            with suppress(OSError):  # not every file system keeps modes
                os.chmod(directory, mode)

    def make_parents(self, path: str) -> None:
        """Make the folders above `path` that don't exist, as the user's umask has it."""
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.make_parents(parent)
            with suppress(FileExistsError):
                os.mkdir(parent, 0o775)  # never for all to write, who could put another cache there
                self.sync_above(parent)

    def write_aside(self, path: str, chunks: Iterable[bytes], durable: bool) -> tuple[str, os.stat_result]:
        """Write a file beside `path`; returns its name, for `rename`, and its stat.

        Nothing stays on failure.
        """
        # The process and a counter are in the name: two writers of one path never share a file.
        part = f"{path}.{self._token}-{os.getpid()}-{next(self._counter)}{PART}"
        return part, self.write_new(part, chunks, durable, exact_time=True)

    def write_new(
        self, path: str, chunks: Iterable[bytes], durable: bool, exact_time: bool = False
    ) -> os.stat_result:
        """Write a file that is not there yet; returns its stat. Nothing stays on failure.

        With `exact_time` two writings never leave the same time, however soon one follows the
        other; the file system's own clock ticks every few milliseconds.
        """
        descriptor = self._create(path)
        try:
            try:
                for chunk in chunks:
                    self._write(descriptor, chunk)
                if exact_time:
                    now = time.time_ns()
                    try:  # noqa: SIM105 - which would cost every job as much as the call
                        os.utime(descriptor, ns=(now, now))
                    except OSError:  # not every file system lets times be set
                        pass
                described = self._with_mode(descriptor)
                if durable:
                    self._sync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException as error:
            _name_file(error, path)
            with suppress(OSError):
                self.unlink(path)
            raise
        return described

    def write(self, path: str, chunks: Iterable[bytes], durable: bool) -> None:
        """Write a file aside and rename it to `path`: the old one or the new one, never half of it."""
        part, _ = self.write_aside(path, chunks, durable)
        try:
            self.rename(part, path)
        except BaseException:
            with suppress(OSError):
                self.unlink(part)
            raise

    def rename(self, source: str, target: str) -> None:
        """Rename, replacing what is at `target`."""
        os.rename(source, target)

    def move(self, source: str, target: str) -> None:
        """Rename a file of ours or of another file system to `target`, with the mode of a file made here.

        Raises OSError for what is no regular file: the mode would go to what a link points to.
        """
        if not stat.S_ISREG(os.lstat(source).st_mode):
            raise not_regular(source)
        try:
            self.rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with open(source, "rb") as file:
                self.write(target, iter(lambda: file.read(1 << 20), b""), durable=False)
            self.unlink(source)
        else:
            os.chmod(target, self.rules.file_mode)
            if self.rules.shared:
                with suppress(OSError):  # made in a private folder, it is not of the group yet
                    os.chown(target, -1, os.stat(os.path.dirname(target)).st_gid, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        """Remove a file or a symbolic link (not what it points to), if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(path)

    def remove_directory(self, path: str) -> None:
        """Remove an empty folder; one that is not empty, or not there, stays as it is."""
        with suppress(FileNotFoundError):
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def empty(self, directory: str) -> None:
        """Remove everything inside a folder, following no symbolic link."""
        with os.scandir(directory) as entries:
            inside = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_directory in inside:
            if is_directory:
                self.remove_tree(path)
            else:
                self.unlink(path)

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all that is inside, or whatever else is there, following no link."""
        if not os.path.isdir(path) or os.path.islink(path):
            self.unlink(path)
            return
        import shutil  # its imports cost a worker more than all of this module

        with suppress(FileNotFoundError):
            try:
                shutil.rmtree(path)
            except PermissionError:
                # Some tools make read-only folders; what is in ours is ours to remove.
                for folder, _, _ in os.walk(path):
                    os.chmod(folder, 0o700)
                shutil.rmtree(path)

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file by one write, so that several writers do not mix.

        A file that is another's too, by a hard link (a copy of the cache may be made of those) or
        by its owner, is replaced by a new one.
        """
        descriptor = os.open(path, _APPEND, self.rules.file_mode)
        try:
            described = self._with_mode(descriptor)
            if not stat.S_ISREG(described.st_mode):
                raise not_regular(path)
            is_safe = not self.rules.fault(described, path)
            if is_safe and described.st_nlink == 1:
                self._write(descriptor, data)
                return
        finally:
            os.close(descriptor)
        self.write(path, (read_file(path, None)[0] if is_safe else b"", data), durable=False)

    def open_lock_file(self, path: str) -> int:
        """The descriptor of a file that is only there to be locked."""
        descriptor = os.open(path, _LOCK_FILE, self.rules.file_mode)
        try:
            if not stat.S_ISREG(self._with_mode(descriptor).st_mode):
                raise not_regular(path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write into an open file, in place."""
        while written := os.pwrite(descriptor, data, offset):
            if written == len(data):
                return
            data, offset = data[written:], offset + written

    def sync_file(self, path: str) -> None:
        """Bring a file or folder that is there to the disk; a symbolic link is left alone."""
        try:
            descriptor = os.open(path, _READ)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return
            raise
        try:
            try:
                self._sync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            _name_file(error, path)
            raise

    def sync_directory(self, path: str) -> None:
        """Bring the names in a folder to the disk."""
        self.sync_file(path)

    def sync_above(self, path: str) -> None:
        """Bring a folder's own name to the disk, where that can be: what is above may be another's."""
        with suppress(OSError):
            self.sync_directory(os.path.dirname(path))

    # The single steps inside the methods above, for a test to fail one of them.

    def _create(self, path: str) -> int:
        return os.open(path, _NEW_FILE, self.rules.file_mode)

    def _with_mode(self, descriptor: int) -> os.stat_result:
        """Give an open file of ours the mode of a file made here, whatever the umask; returns its stat."""
        described, mode = os.fstat(descriptor), self.rules.file_mode
        if described.st_mode & 0o777 == mode or described.st_uid != os.geteuid():
            return described
        with suppress(OSError):  # not every file system keeps modes
            os.fchmod(descriptor, mode)
        return os.fstat(descriptor)

    def _write(self, descriptor: int, data: bytes) -> None:
        written = os.write(descriptor, data)
        while written < len(data):
            data = data[written:]
            written = os.write(descriptor, data)

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some file systems can't sync a folder; they have no promise to break.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise


def _name_file(error: BaseException, path: str) -> None:
    """Say in an error which file it is of: what fails on a descriptor does not know."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = path


def read_file(path: str, limit: int | None = LONGEST_TEXT) -> tuple[bytes, os.stat_result]:
    """The bytes of a file and the stat of the very file they are from.

    Raises OSError for what is no regular file, a link included, and for more than `limit` bytes.
    """
    descriptor = open_to_read(path)
    try:
        described = os.fstat(descriptor)
        if not stat.S_ISREG(described.st_mode):
            raise not_regular(path)
        if limit is not None and described.st_size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        data = os.read(descriptor, described.st_size + 1)
        while len(data) < described.st_size and (more := os.read(descriptor, described.st_size)):
            data += more
        return data, described
    finally:
        os.close(descriptor)


def open_to_read(path: str) -> int:
    """The descriptor of a file; raises OSError for a link, and waits for nobody if it is a pipe."""
    return os.open(path, _READ)


def not_regular(path: str) -> OSError:
    """The error for a pipe, a device or a folder in the place of a file."""
    return OSError(errno.EINVAL, "it is no regular file", path)
