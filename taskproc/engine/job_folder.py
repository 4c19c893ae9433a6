"""What stands in the folder of a launched job, and who may read it: its owner alone.

    job.json      what another run needs to end the job when its own run has died
    orders.pkl    what the worker is to do; taken away when nobody waits for it any more
    started       made by the worker when it begins: its host and process
    outcome.pkl   how it ended, renamed into place by the worker
    unwritten.N   what the disk did not take of that; N is the error, as a full disk has room for a name
    client.out, client.err, task.out, task.err   what the client and the task print

Knows nothing of how jobs are launched, nor of what is in the orders.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskproc.core.records import JSON, content_digest
from taskproc.engine.plain_files import create_private, open_plain

ORDERS_FILE = "orders.pkl"
OUTCOME_FILE = "outcome.pkl"
FACTS_FILE = "job.json"
STARTED_FILE = "started"
_UNWRITTEN = "unwritten."
_ASIDE = ".part"
_FORMAT = 1
_SEAL = 32
"""The bytes of a digest in front of what is sealed."""
_PICKLE = b"\x80"
"""How a pickle begins, and no digest: another version's worker seals nothing."""


def make_folder(folder: Path) -> None:
    """Make a job's folder, for its owner alone whatever the umask. Raises OSError."""
    folder.mkdir(mode=0o700)
    folder.chmod(0o700)


def write(path: Path, content: bytes) -> None:
    """Write a file in one go: whoever reads it meanwhile has the old content or the new. Raises OSError."""
    aside = path.with_name(path.name + _ASIDE)
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    with open(create_private(aside), "wb") as stream:
        stream.write(content)
    aside.replace(path)


def write_sealed(path: Path, content: bytes) -> None:
    """Write what is to be unpickled, for `read_sealed`. Raises OSError."""
    write(path, content_digest(content).encode() + content)


def read_sealed(path: Path) -> bytes:
    """What `write_sealed` wrote: a flipped bit must not become another argument, or another outcome.

    Raises OSError, also for what is not as it was written.
    """
    sealed = read_own(path)
    if sealed[:1] == _PICKLE:
        return sealed
    content = sealed[_SEAL:]
    if sealed[:_SEAL] != content_digest(content).encode():
        raise OSError(errno.EIO, "it is damaged", str(path))
    return content


def note_unwritten(folder: Path, error: OSError) -> None:
    """Leave word that the outcome could not be written, without writing anything."""
    with contextlib.suppress(OSError):
        (folder / (OUTCOME_FILE + _ASIDE)).replace(folder / f"{_UNWRITTEN}{error.errno}")


def why_unwritten(folder: Path) -> OSError | None:
    """The error for which the worker could not write its outcome, if it left word of that."""
    with contextlib.suppress(OSError, ValueError):
        for name in os.listdir(folder):
            if name.startswith(_UNWRITTEN):
                number = int(name.removeprefix(_UNWRITTEN))
                return OSError(number, os.strerror(number), str(folder / OUTCOME_FILE))
    return None


def read_own(path: Path) -> bytes:
    """A file of a job's folder, of whoever runs this, or of root; what others wrote could be any code.

    Raises OSError, PermissionError for a file that is not safe to read.
    """
    with open_plain(path) as stream:
        status = os.fstat(stream.fileno())
        if status.st_uid not in (0, os.geteuid()):
            fault = f"it belongs to another user (uid {status.st_uid}), and reading it could run their code"
            raise PermissionError(errno.EPERM, fault, str(path))
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            fault = "others can write to it, and reading it could run their code"
            raise PermissionError(errno.EPERM, fault, str(path))
        return stream.read()


def remove(folder: Path) -> None:
    """Remove a job's folder, also if its worker is just putting its outcome there."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            break


def inode_of(folder: Path) -> int | None:
    """What tells a folder from a copy of it, and stays as it is when the whole cache is moved."""
    try:
        return os.lstat(folder).st_ino
    except OSError:
        return None


def write_facts(folder: Path, facts: Mapping[str, JSON]) -> None:
    """Write what another run is to know of the job. Raises OSError."""
    known = {"format": _FORMAT, "inode": inode_of(folder), **facts}
    write(folder / FACTS_FILE, json.dumps(known, indent=1).encode())


def read_facts(folder: Path) -> dict[str, Any]:
    """What `write_facts` wrote; nothing where that can't be read, or is another version's."""
    try:
        facts: Any = json.loads(read_own(folder / FACTS_FILE))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) and facts.get("format") == _FORMAT else {}


def note_start(folder: Path) -> None:
    """The worker begins. Raises OSError."""
    write(folder / STARTED_FILE, f"{os.uname().nodename} {os.getpid()}\n".encode())


def withdraw_orders(folder: Path) -> None:
    """Nobody waits for the job any more: a worker that is late finds no orders."""
    with contextlib.suppress(OSError):
        (folder / ORDERS_FILE).unlink()
