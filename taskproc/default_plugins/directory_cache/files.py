"""Do every write of the caches that live in a directory.

One class, one method for each thing that can go wrong on a disk, so that a test can put a
failing disk under a whole cache. Knows nothing of entries, records or keys.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Iterable
from contextlib import suppress

PART = ".part"
"""How the name of a file ends while it is written aside; one that stays is of a killed writer."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Files:
    """The disk. Paths are absolute; files are made 0600 and folders 0700; errors are OSError."""

    def __init__(self) -> None:
        self._token = os.urandom(4).hex()
        self._counter = itertools.count()

    def make_directory(self, path: str) -> bool:
        """Make one folder; False if something of that name is there."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return False
        return True

    def make_parents(self, path: str) -> None:
        """Make the folders above `path` that don't exist, as the user's umask has it."""
        os.makedirs(os.path.dirname(path), exist_ok=True)

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
                if durable:
                    self._sync(descriptor)
                described = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
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
        """Rename a file of ours or of another file system to `target`, with the mode 0600."""
        try:
            self.rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with open(source, "rb") as file:
                self.write(target, iter(lambda: file.read(1 << 20), b""), durable=False)
            self.unlink(source)
        else:
            os.chmod(target, 0o600)

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
        """Add to the end of a file by one write, so that several writers do not mix."""
        descriptor = os.open(path, _APPEND, 0o600)
        try:
            self._write(descriptor, data)
        finally:
            os.close(descriptor)

    def open_lock_file(self, path: str) -> int:
        """The descriptor of a file that is only there to be locked."""
        return os.open(path, _LOCK_FILE, 0o600)

    def sync_file(self, path: str) -> None:
        """Bring a file or folder that is there to the disk; a symbolic link is left alone."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return
            raise
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: str) -> None:
        """Bring the names in a folder to the disk."""
        self.sync_file(path)

    # The single steps inside the methods above, for a test to fail one of them.

    def _create(self, path: str) -> int:
        return os.open(path, _NEW_FILE, 0o600)

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


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """The bytes of a file and the stat of the very file they are from."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        described = os.fstat(descriptor)
        data = os.read(descriptor, described.st_size + 1)
        while len(data) < described.st_size and (more := os.read(descriptor, described.st_size)):
            data += more
        return data, described
    finally:
        os.close(descriptor)
