"""Where the folders of a directory cache are: safe names that tell every two tasks apart.

Knows nothing of what stands in the folders.
"""

from __future__ import annotations

from taskproc.interfaces import TaskKey, content_digest

MAX_BYTES = 200
"""Longer folder names are shortened: file systems allow 255 bytes, and suffixes need room."""

_LONGEST_PLAIN = MAX_BYTES // 4
"""So many letters are never more bytes than that, whichever they are."""

_HEX = frozenset("0123456789abcdef")

RESERVED = frozenset({"taskproc.json", "index.jsonl", "journal.jsonl", "jobs", "leases", "code", "runs"})
"""What stands beside the task folders in a cache's root."""

RESERVED_FILES = frozenset(name for name in RESERVED if "." in name)
RESERVED_FOLDERS = RESERVED - RESERVED_FILES


def folder_name(name: str) -> str:
    """The folder of a task name: one path component, never one that is reserved or hidden.

    What is unsafe is percent-escaped as UTF-8: "/", "%", control characters, lone surrogates,
    and a "." in front. Two names never share a folder on a file system that tells case apart.
    """
    escaped = "".join(_escape(char) if _is_unsafe(char) else char for char in name)
    # A bare "%", and "%~" below, stand for nothing else: every "%" of a name is escaped.
    if not escaped:
        return "%"
    if escaped[0] == "." or escaped.lower() in RESERVED:
        escaped = _escape(escaped[0]) + escaped[1:]
    encoded = escaped.encode()
    if len(encoded) <= MAX_BYTES:
        return escaped
    digest = content_digest(encoded)
    head = encoded[: MAX_BYTES - len(digest) - 2].decode(errors="ignore")
    return f"{head}%~{digest}"


def _is_unsafe(char: str) -> bool:
    return char in "/%\x7f" or char < " " or "\ud800" <= char <= "\udfff" or "\x80" <= char <= "\x9f"


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


class Paths:
    """The paths of one cache. A place is an entry's path below the root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[str, str] = {}
        self._last: tuple[TaskKey | None, str] = (None, "")

    def task(self, task_name: str) -> str:
        """The folder of all entries of a task name."""
        return f"{self.root}/{self._folder(task_name)}"

    def place(self, key: TaskKey) -> str:
        """Where an entry stands below the root."""
        return f"{self._folder(key.name)}/{leaf(key)}"

    def entry(self, key: TaskKey) -> str:
        """The folder of an entry."""
        last, entry = self._last
        if key is not last:  # a job asks for its own a dozen times
            entry = f"{self.root}/{self.place(key)}"
            self._last = (key, entry)
        return entry

    def _folder(self, task_name: str) -> str:
        folder = self._folders.get(task_name)
        if folder is None:
            folder = self._folders[task_name] = folder_name(task_name)
        return folder


def is_key(leaf: str) -> bool:
    """Whether the name of a folder is that of a key, so that it is an entry's whatever is in it."""
    return len(leaf) == 32 and _HEX.issuperset(leaf)


def leaf(key: TaskKey) -> str:
    """The name of an entry's own folder."""
    digest = key.digest
    return digest if digest.isalnum() and len(digest) <= _LONGEST_PLAIN else folder_name(digest)
