"""Data files count by what they hold, and are read again only when their state is another."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache import data_files as _data_files
from taskproc.default_plugins.directory_cache import index as _index
from taskproc.interfaces import Record
from taskproc.testing import example_key, example_record

KEY = example_key()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as at rest, as if all had been written long ago."""
    monkeypatch.setattr(_index, "_AT_REST_NS", -(10**9))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data files that were read."""
    read: list[str] = []
    real = _data_files._read

    def counting(file_path: str, path: str) -> Any:
        read.append(path)
        return real(file_path, path)

    monkeypatch.setattr(_data_files, "_read", counting)
    return read


def store(root: Path, text: str = "whole") -> Record:
    """Store an entry with two files and a link, as a job does, and read the index no more."""
    cache = DirectoryCache(root)
    cache.begin(KEY)
    folder = cache.data_directory(KEY, create=True)
    (folder / "deep").mkdir()
    (folder / "model.bin").write_text(text)
    (folder / "deep" / "notes").write_text(text)
    (folder / "link").symlink_to("here")
    record = example_record(KEY, b"answer", data=cache.list_data(KEY))
    cache.save(record, b"answer", 9, durable=False)
    cache.index()
    return record


def look(root: Path) -> Record | None:
    """What another run finds; it keeps its index, as runs do."""
    cache = DirectoryCache(root)
    cache.open()
    found = cache.look_up([KEY]).get(KEY)
    cache.index()
    return found


def model(root: Path) -> Path:
    return DirectoryCache(root).data_directory(KEY, create=False) / "model.bin"


@pytest.mark.usefixtures("at_rest")
def test_files_at_rest_are_not_read_again_after_their_job(root: Path, reads: list[str]) -> None:
    record = store(root)
    reads.clear()
    assert [look(root) for _ in range(3)] == [record] * 3
    assert reads == []


def test_files_that_were_written_just_before_the_save_are_read_once_more(
    root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = store(root)
    reads.clear()
    assert look(root) == record
    assert sorted(reads) == ["deep/notes", "link", "model.bin"]
    monkeypatch.setattr(_index, "_AT_REST_NS", -(10**9))
    assert look(root) == record
    assert len(reads) == 6
    assert look(root) == record
    assert len(reads) == 6


@pytest.mark.usefixtures("at_rest")
def test_copied_or_touched_files_are_read_once(root: Path, tmp_path: Path, reads: list[str]) -> None:
    record = store(root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True)
    reads.clear()
    assert [look(copy) for _ in range(3)] == [record] * 3
    assert sorted(reads) == ["deep/notes", "link", "model.bin"]
    for harmless in (lambda file: os.utime(file, (1, 1)), lambda file: file.chmod(0o640)):
        time.sleep(0.02)  # the clock of the file system ticks
        reads.clear()
        harmless(model(copy))
        assert [look(copy) for _ in range(3)] == [record] * 3
        assert len(reads) == 3


@pytest.mark.usefixtures("at_rest")
def test_a_file_changed_under_its_old_size_and_time_counts_no_more_until_it_is_put_back(root: Path) -> None:
    record = store(root)
    assert look(root) == record
    was = model(root).stat()
    time.sleep(0.02)  # the clock of the file system ticks
    model(root).write_text("other")
    os.utime(model(root), ns=(was.st_atime_ns, was.st_mtime_ns))
    assert [look(root) for _ in range(2)] == [None, None]
    (event,) = DirectoryCache(root).events(KEY)
    assert (event.kind, event.text) == ("damaged", "the file data/model.bin was changed by hand")
    assert event.record == record
    assert DirectoryCache(root).load(KEY, record.digest) == b"answer"
    model(root).write_text("whole")
    assert look(root) == record
    assert DirectoryCache(root).events(KEY) == []


def test_a_file_changed_within_the_tick_in_which_it_was_read_is_noticed(root: Path) -> None:
    for _ in range(30):
        record = store(root)
        assert look(root) == record
        was = model(root).stat()
        model(root).write_text("other")
        os.utime(model(root), ns=(was.st_atime_ns, was.st_mtime_ns))
        assert look(root) is None


@pytest.mark.usefixtures("at_rest")
def test_a_file_that_its_job_still_writes_to_after_it_was_listed_is_noticed(root: Path) -> None:
    cache = DirectoryCache(root)
    folder = cache.data_directory(KEY, create=True)
    (folder / "log").write_text("early")
    record = example_record(KEY, b"answer", data=cache.list_data(KEY))
    time.sleep(0.02)  # the clock of the file system ticks
    (folder / "log").write_text("later")
    cache.save(record, b"answer", 9, durable=False)
    cache.index()
    assert look(root) is None


@pytest.mark.usefixtures("at_rest")
def test_what_stands_in_place_of_a_file_is_no_such_file(root: Path) -> None:
    record = store(root, text="")
    kept = model(root).with_name("kept")
    model(root).rename(kept)
    os.mkfifo(model(root))  # of the same size, and reading it would never end
    assert look(root) is None
    model(root).unlink()
    kept.rename(model(root))
    assert look(root) == record
    link = model(root).with_name("link")
    link.unlink()
    link.symlink_to("gone")
    assert look(root) is None


@pytest.mark.usefixtures("at_rest")
def test_where_no_index_can_be_written_each_process_reads_the_files_once(
    root: Path, reads: list[str]
) -> None:
    record = store(root)
    (root / "index.jsonl").unlink()
    cache = DirectoryCache(root)
    reads.clear()
    for _ in range(3):
        cache.open()
        assert cache.look_up([KEY]) == {KEY: record}
    assert len(reads) == 3


def test_listing_reads_no_data_files(root: Path, reads: list[str]) -> None:
    record = store(root)
    cache = DirectoryCache(root)
    reads.clear()
    assert [entry.record for name in cache.task_names() for entry in cache.stored(name)] == [record]
    assert reads == []
    cache.index()
    assert look(root) == record
    assert len(reads) == 3


@pytest.mark.usefixtures("at_rest")
def test_another_record_for_the_same_files_does_not_make_them_be_read_again(
    root: Path, reads: list[str]
) -> None:
    record = store(root)
    moved = example_record(example_key(text="2"), b"answer", data=record.data)
    cache = DirectoryCache(root)
    cache.open()
    assert cache.look_up([KEY]) == {KEY: record}
    cache.replace_record(KEY, moved)
    cache.index()
    reads.clear()
    assert DirectoryCache(root).look_up([moved.key]) == {moved.key: moved}
    assert reads == []


@pytest.mark.usefixtures("at_rest")
def test_another_record_does_not_vouch_for_files_that_were_changed(root: Path) -> None:
    record = store(root)
    time.sleep(0.02)  # the clock of the file system ticks
    model(root).write_text("other")
    moved = example_record(example_key(text="2"), b"answer", data=record.data)
    cache = DirectoryCache(root)
    cache.replace_record(KEY, moved)
    cache.index()
    assert DirectoryCache(root).look_up([KEY, moved.key]) == {}


@pytest.fixture
def root_of_a_plain_user() -> Iterator[Path]:
    """Where a cache may be made by who is not root, whom permissions do not hold back."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        if user == 0:
            os.chown(folder, 4711, -1)
            os.seteuid(4711)
        try:
            yield Path(folder) / "cache"
        finally:
            os.seteuid(user)


def test_a_file_that_can_not_be_read_does_not_count_and_says_so(root_of_a_plain_user: Path) -> None:
    store(root_of_a_plain_user)
    model(root_of_a_plain_user).chmod(0)
    assert look(root_of_a_plain_user) is None
    (event,) = DirectoryCache(root_of_a_plain_user).events(KEY)
    assert "model.bin can't be read: Permission denied" in event.text
