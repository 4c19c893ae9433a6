"""Check what stands beside the entries of a directory cache: index, journal, code, and what runs share.

No result rests on any of it, so every fault here is harmless; what can be told to be of nobody
any more is cleared away, and what is torn or damaged goes. What may be of a run that lives stays.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from taskproc.default_plugins.directory_cache.entry import RECORD, RESULT
from taskproc.default_plugins.directory_cache.files import Files, read_file, written_for
from taskproc.default_plugins.directory_cache.formats import decode_record, decompress, is_whole_line
from taskproc.default_plugins.directory_cache.index import read_line, signature
from taskproc.default_plugins.directory_cache.lease_file import SUFFIX
from taskproc.default_plugins.directory_cache.names import RESERVED_FILES
from taskproc.default_plugins.directory_cache.other_leases import OtherLeases
from taskproc.default_plugins.directory_cache.state import State
from taskproc.interfaces import JSON, Finding

_TEXT = re.compile(r"[0-9a-f]+\.gz")
"""The name of a kept text of source code; what has another is somebody else's, and stays."""

_WRITTEN_FOR_SECONDS = 60.0
"""No file that is written aside takes longer, but for results, which are under a claim."""


def check_beside(state: State, repair: bool, posts: Sequence[Mapping[str, JSON]]) -> Iterator[Finding]:
    """What is not as it should be beside the entries; `posts` are those of the runs that live."""
    files, root = state.files, state.root
    yield from _check_lines(files, f"{root}/index.jsonl", _index_faults(root), repair)
    # A run may add a line while the file is written anew, and it would be lost.
    yield from _check_lines(files, f"{root}/journal.jsonl", _journal_faults, repair and not posts)
    yield from _check_parts(files, root, repair and not posts)
    # A link in the place of a folder is never gone into: what is behind it is not of this cache.
    if _is_folder(f"{root}/code"):
        yield from _check_code(files, f"{root}/code", repair)
        yield from _check_parts(files, f"{root}/code", repair and not posts)
    if _is_folder(f"{root}/runs"):
        yield from _check_posts(state, repair)
    if _is_folder(f"{root}/leases"):
        yield from _check_leases(state, repair)
    if _is_folder(f"{root}/jobs"):
        yield from _check_jobs(f"{root}/jobs", posts)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _check_lines(
    files: Files, path: str, faults_of: Callable[[list[bytes]], dict[int, str]], repair: bool
) -> Iterator[Finding]:
    """Leave lines out of a file that are of no use; `faults_of` tells their numbers and faults."""
    try:
        data, status = read_file(path, limit=None)
    except FileNotFoundError:
        return
    except OSError as error:
        yield _finding(path, f"it can't be read: {error.strerror}", repaired=False)
        return
    lines = data.splitlines(keepends=True)
    faults = faults_of(lines)
    if not faults:
        return
    repaired = False
    if repair and os.path.getsize(path) == status.st_size:
        rest = b"".join(line for number, line in enumerate(lines) if number not in faults)
        repaired = _does(lambda: files.write(path, (rest,), durable=False))
    for text in dict.fromkeys(faults.values()):
        count = sum(text == other for other in faults.values())
        yield _finding(path, f"{count:,} {'line' if count == 1 else 'lines'} {text}", repaired)


def _index_faults(root: str) -> Callable[[list[bytes]], dict[int, str]]:
    def faults_of(lines: list[bytes]) -> dict[int, str]:
        faults: dict[int, str] = {}
        latest: dict[str, int] = {}
        rows = {number: read_line(line) for number, line in enumerate(lines) if line.strip()}
        for number, row in rows.items():
            if row is None:
                faults[number] = "torn or damaged, and passed over"
            else:
                latest[row[0]] = number
        for place, number in latest.items():
            row = rows[number]
            if row is not None and _is_vouched_wrongly(f"{root}/{place}", row[1].signature, row[1][1:3]):
                faults[number] = "telling something else than the record"
        return faults

    return faults_of


def _is_vouched_wrongly(entry: str, row_signature: str, told: tuple[object, ...]) -> bool:
    """Whether a row counts, as both files are as it says, and tells another record than theirs."""
    try:
        now = signature(os.stat(f"{entry}/{RECORD}"), os.stat(f"{entry}/{RESULT}"))
        return now == row_signature and decode_record(read_file(f"{entry}/{RECORD}")[0]) != told
    except OSError:
        return False


def _journal_faults(lines: list[bytes]) -> dict[int, str]:
    return {
        number: "torn or damaged, and passed over"
        for number, line in enumerate(lines)
        if line.strip() and not is_whole_line(line)
    }


def _check_code(files: Files, folder: str, repair: bool) -> Iterator[Finding]:
    for name in _list(folder):
        path = f"{folder}/{name}"
        if _TEXT.fullmatch(written_for(name)):
            continue
        if os.path.islink(path) or not os.path.isfile(path) or not _TEXT.fullmatch(name):
            yield _finding(path, "it is not of this cache", repaired=False)
            continue
        try:
            decompress(read_file(path, limit=None)[0])
        except (OSError, zlib.error):
            repaired = repair and _does(partial(files.unlink, path))
            yield _finding(path, "a text of source code that is damaged", repaired)


def _check_parts(files: Files, folder: str, repair: bool) -> Iterator[Finding]:
    """What writers that were killed left. Nobody holds a claim there, so age tells, and no run may live."""
    for name in _list(folder):
        if (file := written_for(name)) in RESERVED_FILES or (
            folder.endswith("/code") and _TEXT.fullmatch(file)
        ):
            path = f"{folder}/{name}"
            try:
                is_old = time.time() - os.lstat(path).st_mtime > _WRITTEN_FOR_SECONDS
            except OSError:
                continue
            repaired = repair and is_old and _does(partial(files.unlink, path))
            yield _finding(path, "a writer that was killed left it", repaired)


def _check_posts(state: State, repair: bool) -> Iterator[Finding]:
    try:
        dead = state.posts.tidy_up(removes=repair)
    except OSError:
        return
    for path in dead:
        yield _finding(path, "a run that has ended left it", repair)


class _LeavingFiles(Files):
    """A disk from which nothing is removed, for who only looks."""

    def unlink(self, path: str) -> None:
        pass


def _check_leases(state: State, repair: bool) -> Iterator[Finding]:
    folder = f"{state.root}/leases"
    leases = OtherLeases(folder, state.files if repair else _LeavingFiles())
    try:
        tickets = leases.tickets()
    except OSError:  # not there
        return
    for ticket in tickets:
        reading = leases.read(ticket)
        if reading is not None and leases.remove_if_dead(ticket, reading):
            yield _finding(f"{folder}/{ticket}{SUFFIX}", "a run that has ended left it", repair)


def _check_jobs(folder: str, posts: Sequence[Mapping[str, JSON]]) -> Iterator[Finding]:
    """What jobs of runs that have ended left; whether one still goes on, only the next run can tell."""
    living = tuple(str(post.get("run")) for post in posts)
    short = tuple(f"-{run[:6]}-" for run in living)
    for name in _list(folder):
        if not name.startswith(living) and not any(word in name for word in short):
            text = "a run that has ended left it; the next run clears it away, or waits for its job"
            if name == "rename.json":
                text = "a rename that was broken off left it: repeat that `taskproc cache rename`"
            yield _finding(f"{folder}/{name}", text, repaired=False)


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _does(step: Callable[[], object]) -> bool:
    try:
        step()
    except OSError:
        return False
    return True


def _finding(path: str, text: str, repaired: bool) -> Finding:
    return Finding(None, path, text, repaired, harmless=True)
