"""Which modes the files of a cache are made with, and which of its files are safe to read.

A result is a pickle, so who can write to a cache can run code as whoever reads it. What is of
another user, or can be written to by others, is therefore not read unless that was asked for.
Only judges what the caller's own system calls have told; touches no file.
"""

from __future__ import annotations

import os
import stat

from taskproc.interfaces import PLAYED_OWNER

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_KIND_AND_OTHERS = 0o170000 | _WRITABLE_BY_OTHERS


class Rules:
    """The rules of one cache.

    Attributes:
        trust: whatever is there is read, whoever owns it.
        shared: the members of the folders' group read and write it all.
        folder_mode, file_mode: the rights of what is made, whatever the umask.
    """

    def __init__(self, trust: bool = False, shared: bool = False) -> None:
        self.trust = trust
        self.share(shared)
        self._played = _played_owner()

    def share(self, shared: bool) -> None:
        """From here on, make what is made for the group, or not."""
        self.shared = shared
        # The group of a folder with setgid is that of all that is made in it.
        self.folder_mode = 0o2770 if shared else 0o700
        self.file_mode = 0o660 if shared else 0o600

    def fault(self, status: os.stat_result, path: str) -> str:
        """Why a file may not be read, in words; "" if it may. `status` follows no link."""
        # What is usual first: this is asked twice for every result that is looked up.
        if (
            status.st_mode & _KIND_AND_OTHERS == stat.S_IFREG
            and self._played is None
            and status.st_uid == os.geteuid()
        ):
            return ""
        if not stat.S_ISREG(status.st_mode):
            return "it is a link" if stat.S_ISLNK(status.st_mode) else "it is no regular file"
        return self.fault_of_owner(status, path)

    def fault_of_owner(self, status: os.stat_result, path: str) -> str:
        """Why a file or folder is not safe to read, in words; "" if it is."""
        if self.trust:
            return ""
        owner = status.st_uid
        if self._played is not None:
            owner = self._played.owner(path, owner)
        # What root can write to root can change anyway.
        if not self.shared and owner != 0 and owner != os.geteuid():
            return f"it belongs to another user (uid {owner})"
        if not status.st_mode & _WRITABLE_BY_OTHERS:
            return ""
        if status.st_mode & stat.S_IWOTH:
            return "every user can write to it"
        if self.shared or _is_of_nobody_else(status.st_gid):
            return ""
        return f"its group (gid {status.st_gid}) can write to it"


def _is_of_nobody_else(group: int) -> bool:
    """Whether a group is the private one of this user, as many systems give to each: nobody else is in it.

    Where those are, the usual umask is 002, and what is copied or cloned is writable for the group.
    Never for root, whose group is no private one.
    """
    user = os.geteuid()
    if user == 0:
        return False
    import grp  # few need to know
    import pwd

    try:
        own, named = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    is_primary = own.pw_gid == group and own.pw_name == named.gr_name
    return is_primary and set(named.gr_mem) <= {own.pw_name}


class _Played:
    """An owner that a test plays for one path and what is below it."""

    def __init__(self, uid: int, path: str) -> None:
        self._uid = uid
        self._path = path

    def owner(self, path: str, owner: int) -> int:
        """The owner of a path, which is really `owner`'s."""
        return self._uid if path == self._path or path.startswith(f"{self._path}/") else owner


def _played_owner() -> _Played | None:
    uid, colon, path = os.environ.get(PLAYED_OWNER, "").partition(":")
    # Never anybody who is trusted: the variable can only take trust away.
    if not colon or not uid.isdecimal() or int(uid) in (0, os.geteuid()):
        return None
    return _Played(int(uid), path)
