"""Replacing records: a process that dies, or a disk that fails, at each step."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from failing_disk import FailingFiles, FastFiles, Killed, cache_on, until_nothing_fails

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.errors import CacheError, MissingResultError
from taskproc.interfaces import Event, Record, TaskKey
from taskproc.testing import example_key, example_record

OLD = example_key()
NEW_KEYS = {
    "the same key": OLD,
    "another name": example_key("moved/taskfile.Train"),
    "other arguments": example_key(text="new"),
}


def store(cache: DirectoryCache, key: TaskKey, text: str, **changes: Any) -> Record:
    cache.begin(key)
    (cache.data_directory(key, create=True) / "deep").mkdir()
    (cache.data_directory(key, create=True) / "deep" / "file").write_text(text)
    record = example_record(key, text.encode(), data=cache.list_data(key), **changes)
    cache.save(record, text.encode(), 9, durable=False)
    cache.index()
    return record


def answers(root: Path, *keys: TaskKey) -> dict[TaskKey, tuple[Record, bytes, str]]:
    """What another process finds under these keys: record, result and data."""
    cache = DirectoryCache(root)
    cache.open()
    return {
        key: (
            record,
            cache.load(key),
            (cache.data_directory(key, create=False) / "deep" / "file").read_text(),
        )
        for key, record in cache.look_up(keys).items()
    }


@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("new_key", NEW_KEYS.values(), ids=NEW_KEYS)
def test_at_any_step_there_is_the_old_entry_the_new_one_or_none_and_a_second_call_completes_it(
    tmp_path: Path, new_key: TaskKey, replaces: bool, kill: bool
) -> None:
    failed: set[str] = set()
    for at in range(1, 100):
        files, root = FailingFiles(at, kill), tmp_path / str(at)
        before = cache_on(root, FastFiles())
        old = store(before, OLD, "kept")
        before.note(Event("failed", OLD, 1.0))
        victim = store(before, new_key, "another") if replaces and new_key != OLD else None
        new = dataclasses.replace(old, key=new_key, code="new")
        whole_old, whole_new = (old, b"kept", "kept"), (new, b"kept", "kept")
        whole_victim = (victim, b"another", "another")
        cache = cache_on(root, files)
        try:
            cache.replace_record(OLD, new)
        except (OSError, Killed):
            failed.add(files.failed)
            found = answers(root, OLD, new_key)
            assert found.get(OLD) in ([whole_old, whole_new] if new_key == OLD else [whole_old, None])
            if new_key != OLD:
                assert found.get(new_key) in [whole_new, whole_victim, None]
                assert found.get(new_key) != whole_new or OLD not in found
        again = cache_on(root, FastFiles())
        for _ in range(2):
            again.replace_record(OLD, new)
            assert answers(root, OLD, new_key) == {new_key: whole_new}
        names = sorted(
            path.name for path in Path(again.data_directory(new_key, create=False)).parent.iterdir()
        )
        assert names == ["data", *["failed.json"] * (new_key == OLD), "record.json", "result.pkl.gz"]
        if files.left > 0:
            break
    else:
        raise AssertionError("there is no end of steps")
    assert failed >= {"_create", "_write", "_sync", "rename", "sync_directory"}
    assert len(failed) > 5 or new_key == OLD


@pytest.mark.parametrize("new_key", list(NEW_KEYS.values())[1:], ids=list(NEW_KEYS)[1:])
def test_a_job_of_either_key_may_run_after_any_broken_off_call(tmp_path: Path, new_key: TaskKey) -> None:
    for files in until_nothing_fails(kill=True):
        root = tmp_path / str(files.left)
        old = store(cache_on(root, FastFiles()), OLD, "kept")
        new = dataclasses.replace(old, key=new_key)
        with suppress(Killed):
            cache_on(root, files).replace_record(OLD, new)
        records = {key: store(cache_on(root, FastFiles()), key, key.digest) for key in (OLD, new_key)}
        assert answers(root, OLD, new_key) == {
            key: (record, key.digest.encode(), key.digest) for key, record in records.items()
        }


def test_a_broken_off_rename_is_completed_before_the_old_task_is_computed_again_or_after(
    tmp_path: Path,
) -> None:
    new_key = NEW_KEYS["other arguments"]
    old = store(cache_on(tmp_path, FastFiles()), OLD, "kept")
    new = dataclasses.replace(old, key=new_key)
    entry, moved = tmp_path / OLD.name / OLD.digest, tmp_path / OLD.name / new_key.digest
    entry.rename(moved)  # as a call that was killed before it put the new record in place
    computed = store(cache_on(tmp_path, FastFiles()), OLD, "kept", code="of today")
    DirectoryCache(tmp_path).replace_record(OLD, new)
    assert answers(tmp_path, OLD, new_key) == {new_key: (new, b"kept", "kept")}
    assert computed.digest == new.digest


def test_the_new_record_counts_by_the_index_too_and_the_old_row_by_nothing(tmp_path: Path) -> None:
    new_key = NEW_KEYS["another name"]
    cache = DirectoryCache(tmp_path)
    old = store(cache, OLD, "kept")
    assert cache.look_up([OLD])
    new = dataclasses.replace(old, key=new_key)
    cache.replace_record(OLD, new)
    assert cache.look_up([OLD, new_key]) == {new_key: new}
    cache.index()
    os.rename(tmp_path / "moved%2Ftaskfile.Train" / new_key.digest / "record.json", tmp_path / "away")
    assert DirectoryCache(tmp_path).look_up([OLD, new_key]) == {}
    os.rename(tmp_path / "away", tmp_path / "moved%2Ftaskfile.Train" / new_key.digest / "record.json")
    assert DirectoryCache(tmp_path).look_up([OLD, new_key]) == {new_key: new}
    assert not (tmp_path / OLD.name).exists(), "an empty folder of the old name is left"


def test_what_must_survive_a_power_cut_is_synced_before_the_record_is_named(tmp_path: Path) -> None:
    done: list[str] = []

    class Watched(FastFiles):
        def write_aside(self, path: str, chunks: Any, durable: bool) -> Any:
            done.append(f"write {Path(path).name} {durable}")
            return super().write_aside(path, chunks, durable)

        def sync_directory(self, path: str) -> None:
            done.append(f"sync {Path(path).name}")
            super().sync_directory(path)

        def rename(self, source: str, target: str) -> None:
            done.append(f"name {Path(target).name}")
            super().rename(source, target)

    new_key = example_key("other.Train", "new")
    old = store(DirectoryCache(tmp_path), OLD, "kept")
    cache = cache_on(tmp_path, Watched())
    cache.replace_record(OLD, old)
    assert done == ["write record.json True", "name record.json", f"sync {OLD.digest}"]
    done.clear()
    cache.replace_record(OLD, dataclasses.replace(old, key=new_key))
    assert done == [
        "write record.json True",
        f"sync {tmp_path.name}",
        f"name {new_key.digest}",
        *["sync other.Train", f"sync {OLD.name}"],
        "name record.json",
        f"sync {new_key.digest}",
    ]


def test_a_link_in_the_place_of_an_entry_is_replaced_and_nothing_behind_it(tmp_path: Path) -> None:
    cache, outside = DirectoryCache(tmp_path / "cache"), tmp_path / "outside"
    outside.mkdir()
    (outside / "record.json").write_text("kept")
    new_key = NEW_KEYS["other arguments"]
    old = store(cache, OLD, "kept")
    (tmp_path / "cache" / OLD.name / new_key.digest).symlink_to(outside)
    cache.replace_record(OLD, dataclasses.replace(old, key=new_key))
    assert set(cache.look_up([OLD, new_key])) == {new_key}
    (tmp_path / "cache" / "linked.Task").symlink_to(outside)
    with pytest.raises(CacheError, match="is a link"):
        cache.replace_record(new_key, dataclasses.replace(old, key=TaskKey("linked.Task", "00ff" * 8)))
    assert set(cache.look_up([OLD, new_key])) == {new_key}
    assert [path.name for path in outside.iterdir()] == ["record.json"]


def test_an_entry_is_not_moved_to_another_disk(tmp_path: Path) -> None:
    class TwoDisks(FastFiles):
        def rename(self, source: str, target: str) -> None:
            if os.path.isdir(source):
                raise OSError(18, os.strerror(18))
            super().rename(source, target)

    cache = cache_on(tmp_path, TwoDisks())
    old = store(cache, OLD, "kept")
    with pytest.raises(CacheError, match="on another disk"):
        cache.replace_record(OLD, dataclasses.replace(old, key=NEW_KEYS["another name"]))
    assert cache.look_up([OLD]) == {OLD: old}
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_damaged_entries_have_no_record_to_replace(tmp_path: Path) -> None:
    cache = DirectoryCache(tmp_path)
    old = store(cache, OLD, "kept")
    (cache.data_directory(OLD, create=False) / "deep" / "file").write_text("cut")
    with pytest.raises(MissingResultError, match="no result of"):
        cache.replace_record(OLD, old)
