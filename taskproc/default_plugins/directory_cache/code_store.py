"""Keep texts of source code under their digests, for who asks later what has changed.

For people only: a text that can't be written, or can't be read, is simply not there.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
import zlib
from contextlib import suppress

from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.default_plugins.directory_cache.formats import compress, decompress

_HEX = frozenset("0123456789abcdef")
_LEVEL = 6


class CodeStore:
    """The texts of one cache, each a gzip file that is named by its digest."""

    def __init__(self, root: str, files: Files) -> None:
        self._folder = f"{root}/code"
        self._files = files

    def has(self, digest: str) -> bool:
        """Whether there is a text under this digest; costs one stat."""
        try:
            return os.stat(self._path(digest)).st_size > 0  # empty: what a power cut can leave
        except OSError:
            return False

    def keep(self, digest: str, data: bytes) -> None:
        """Write a text."""
        with suppress(OSError):
            self._files.make_directory(self._folder)
            self._files.write(self._path(digest), compress(data, _LEVEL), durable=False)

    def read(self, digest: str) -> bytes | None:
        """The text under this digest, or None."""
        if not is_digest(digest):
            return None
        try:
            return decompress(read_file(self._path(digest))[0])
        except (OSError, zlib.error):
            return None

    def _path(self, digest: str) -> str:
        return f"{self._folder}/{digest}.gz"


def is_digest(text: str) -> bool:
    """Whether this is a word of lower-case hex digits, which alone name a text."""
    return bool(text) and _HEX.issuperset(text)
