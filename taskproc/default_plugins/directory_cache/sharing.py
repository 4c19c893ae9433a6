"""Open what a task left in its data directory to the group that shares the cache.

A task makes its files by its own umask, and with that nobody else of the group could read them,
or put newer ones in their place.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
import stat
from contextlib import suppress

_FOLDER = 0o2770
_FILE = 0o660


def open_to_group(directory: str) -> None:
    """Add the group's rights to all below a folder that is the user's own, following no link."""
    user = os.geteuid()
    folders = [directory]
    while folders:
        folder = folders.pop()
        with suppress(OSError), os.scandir(folder) as inside:
            for item in inside:
                status = item.stat(follow_symlinks=False)
                mode = stat.S_IMODE(status.st_mode)
                if stat.S_ISDIR(status.st_mode):
                    wanted = mode | _FOLDER
                elif stat.S_ISREG(status.st_mode):
                    wanted = mode | _FILE | ((mode & stat.S_IXUSR) >> 3)  # a program is one for all
                else:
                    continue
                if wanted != mode and status.st_uid == user:
                    with suppress(OSError):
                        os.chmod(item.path, wanted)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(item.path)
