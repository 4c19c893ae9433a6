"""What the directory cache tells people: what is stored, what happened, which code there was."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from failing_disk import FastFiles, cache_on

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache import look_up as _look_up
from taskproc.default_plugins.directory_cache.files import read_file
from taskproc.interfaces import Event, Record, TaskKey
from taskproc.testing import example_key, example_record

KEY = example_key()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> DirectoryCache:
    return DirectoryCache(root)


def save(cache: DirectoryCache, key: TaskKey = KEY, payload: bytes = b"answer", **changes: Any) -> Record:
    record = example_record(key, payload, **changes)
    cache.save(record, payload, 9, durable=False)
    return record


def save_with_data(cache: DirectoryCache, key: TaskKey = KEY) -> Record:
    (cache.data_directory(key, create=True) / "file").write_text("data")
    return save(cache, key, data=cache.list_data(key))


def entry_of(cache: DirectoryCache, key: TaskKey = KEY) -> Path:
    return cache.root / key.name / key.digest


def snapshot(root: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [root, *root.rglob("*")]
    }


# What is stored


def test_folders_that_are_not_ours_or_hold_nothing_whole_are_passed_over(
    cache: DirectoryCache, root: Path
) -> None:
    record = save(cache)
    (root / "notes").mkdir()
    (root / "notes" / "todo.txt").touch()
    (root / "README").touch()
    (root / ".git").mkdir()
    shutil.copytree(root / KEY.name, root / ".hidden")
    shutil.copytree(root / KEY.name, root / "copy.of.Train")
    shutil.copytree(entry_of(cache), root / KEY.name / "copy")
    save(cache, example_key("empty.Task"))
    (entry_of(cache, example_key("empty.Task")) / "result.pkl.gz").unlink()
    (root / "text.Task").mkdir()
    (root / "text.Task" / ("00ff" * 8)).touch()
    assert cache.task_names() == [KEY.name]
    assert [entry.record for entry in cache.stored(KEY.name)] == [record]
    assert list(cache.stored("copy.of.Train")) == list(cache.stored("empty.Task")) == []
    assert list(cache.stored("notes")) == list(cache.stored("text.Task")) == []


def test_a_task_of_which_only_a_failure_is_known_is_listed_by_its_true_name(cache: DirectoryCache) -> None:
    save(cache)
    keys = [example_key("x." + "long" * 100), TaskKey("a/b.C", "no hex: / or %"), TaskKey(KEY.name, "..")]
    for key in keys:
        cache.note(Event("failed", key, 1.0))
    assert cache.task_names() == sorted({key.name for key in [*keys, KEY]})
    listed = [entry for name in cache.task_names() for entry in cache.stored(name)]
    assert {entry.key for entry in listed} == {KEY, *keys}
    assert {entry.key for entry in listed if entry.record} == {KEY}


def test_listing_opens_no_record_that_is_indexed_and_warns_of_nothing(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [save(cache, example_key(text=str(i)), args={"i": i}) for i in range(30)]
    cache.index()
    result = entry_of(cache, records[0].key) / "result.pkl.gz"
    result.write_bytes(result.read_bytes()[:-1])
    opened: list[str] = []

    def counting(path: str) -> object:
        opened.append(path)
        return read_file(path)

    monkeypatch.setattr(_look_up, "read_file", counting)
    reader = DirectoryCache(root)
    before = snapshot(root)
    assert {entry.key: entry.record for entry in reader.stored(KEY.name)} == {r.key: r for r in records[1:]}
    assert opened == [str(entry_of(cache, records[0].key) / "record.json")]
    assert snapshot(root) == before


def test_rows_that_another_runner_adds_are_used_by_the_next_listing(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = DirectoryCache(root)
    assert list(reader.stored(KEY.name)) == []
    save(cache)
    cache.index()
    monkeypatch.setattr(_look_up, "read_file", None)
    assert len(list(reader.stored(KEY.name))) == 1


def test_the_size_is_of_the_result_file_and_the_data_files(cache: DirectoryCache) -> None:
    (cache.data_directory(KEY, create=True) / "file").write_bytes(bytes(12345))
    record = save(cache, data=cache.list_data(KEY))
    (entry,) = cache.stored(KEY.name)
    assert entry.size == (entry_of(cache) / "result.pkl.gz").stat().st_size + 12345
    assert entry.record == record


def test_a_cache_that_cannot_be_read_lists_nothing_it_should_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "absent", tmp_path / "file" / "below"):
        assert DirectoryCache(path).task_names() == []
        assert list(DirectoryCache(path).stored(KEY.name)) == []


# The record's file


def test_what_is_left_of_the_attributes_stands_in_the_record_only_if_there_is_any(
    cache: DirectoryCache,
) -> None:
    path = entry_of(cache) / "record.json"
    save(cache)
    assert "left" not in json.loads(path.read_text())
    record = save(cache, left={"a": 1})
    assert json.loads(path.read_text())["left"] == {"a": 1}
    fields = json.loads(path.read_text())
    for wrong in ([], None, "a", 0):
        path.write_text(json.dumps({**fields, "left": wrong}))
        assert cache.look_up([KEY]) == {}
    path.write_text(json.dumps(fields))
    assert cache.look_up([KEY]) == {KEY: record}


# The journal


def test_the_journal_is_one_line_of_json_for_each_event(cache: DirectoryCache, root: Path) -> None:
    record = save(cache)
    cache.note(Event("cleared", KEY, 1.5, "ann@node7", "line\nline", record))
    cache.note(Event("cleared", TaskKey(KEY.name, ""), 2))
    first, second = (root / "journal.jsonl").read_text().splitlines()
    assert json.loads(first)["record"]["args"] == record.args
    fields = {"kind": "cleared", "task": KEY.name, "key": "", "when": 2, "who": "", "text": ""}
    assert json.loads(second).items() >= fields.items()


def test_torn_and_damaged_lines_are_passed_over_and_hide_no_other(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    path, events = root / "journal.jsonl", [Event("cleared", KEY, float(when)) for when in range(3)]
    cache.note(events[0])
    line = path.read_bytes()
    wrongs: list[dict[str, Any]] = [
        {"kind": "eaten"},
        {"when": "today"},
        {"who": 7},
        {"task": None},
        {"args": 3},
        {"kind": []},
    ]
    with path.open("ab") as file:
        file.writelines(json.dumps({**json.loads(line), **wrong}).encode() + b"\n" for wrong in wrongs)
        file.write(b"\xff\xfe" + line + b"[" * 100_000 + line + b"null\n[]\n\n\0\n")
        file.write(line[:-20])
    cache.note(events[1])
    cache.note(events[2])
    assert cache.events(KEY) == events
    for cut in range(len(line)):
        path.write_bytes(line + line[:cut])
        cache.note(events[2])
        assert cache.events(KEY)[-1] == events[2], cut
        assert set(cache.events(KEY)) == {events[0], events[2]}, cut


def test_a_damaged_note_of_a_failure_is_none(cache: DirectoryCache) -> None:
    save(cache)
    other = example_key(text="2")
    cache.note(Event("failed", KEY, 1.0))
    path = entry_of(cache) / "failed.json"
    sound = path.read_bytes()
    for wrong in (
        sound[:-5],
        b"",
        b"[]",
        sound.replace(b"failed", b"cleared"),
        sound.replace(KEY.digest.encode(), other.digest.encode()),
    ):
        path.write_bytes(wrong)
        assert cache.events(KEY) == []
        assert [entry.failure for entry in cache.stored(KEY.name)] == [None]


def test_runners_add_to_the_journal_side_by_side(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    code = """if True:
        import sys
        from pathlib import Path
        from taskproc.default_plugins.directory_cache import DirectoryCache
        from taskproc.interfaces import Event, TaskKey
        cache = DirectoryCache(Path(sys.argv[1]))
        for i in range(100):
            cache.note(Event("cleared", TaskKey(sys.argv[2], sys.argv[3]), float(i), text="x" * 3000))
    """
    command = [sys.executable, "-c", code, str(root), KEY.name, KEY.digest]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    runners = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [runner.wait() for runner in runners] == [0, 0, 0]
    assert len(cache.events(KEY)) == 300


def test_noting_makes_no_cache_and_marks_no_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    cache = DirectoryCache(tmp_path)
    cache.note(Event("cleared", KEY, 1.0))
    cache.note(Event("failed", KEY, 1.0))
    cache.keep_code("00ff", b"code")
    cache.post("run", {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_saving_anew_or_clearing_forgets_a_failure_and_a_new_entry_looks_for_none(
    cache: DirectoryCache, root: Path
) -> None:
    class Watched(FastFiles):
        def unlink(self, path: str) -> None:
            unlinked.append(path)
            super().unlink(path)

    unlinked: list[str] = []
    save(cache_on(root, Watched()))
    assert unlinked == []
    for forget in (lambda: save(cache), lambda: cache.discard([KEY]), lambda: cache.discard_all(KEY.name)):
        cache.note(Event("failed", KEY, 1.0))
        assert (entry_of(cache) / "failed.json").exists()
        cache.begin(KEY)
        assert (entry_of(cache) / "failed.json").exists()
        forget()
        assert not (entry_of(cache) / "failed.json").exists()
        assert "failed" not in [event.kind for event in cache.events(KEY)]


# What the disk tells


def removed_whole(cache: DirectoryCache) -> None:
    shutil.rmtree(entry_of(cache))


def removed_with_all_of_the_name(cache: DirectoryCache) -> None:
    shutil.rmtree(entry_of(cache).parent)


def removed_record(cache: DirectoryCache) -> None:
    (entry_of(cache) / "record.json").unlink()


def removed_result(cache: DirectoryCache) -> None:
    (entry_of(cache) / "result.pkl.gz").unlink()


def removed_data(cache: DirectoryCache) -> None:
    (entry_of(cache) / "data" / "file").unlink()


def cut_result(cache: DirectoryCache) -> None:
    path = entry_of(cache) / "result.pkl.gz"
    path.write_bytes(path.read_bytes()[:-1])


def cut_data(cache: DirectoryCache) -> None:
    (entry_of(cache) / "data" / "file").write_text("cut")


def changed_data(cache: DirectoryCache) -> None:
    path = entry_of(cache) / "data" / "file"
    path.write_text(path.read_text()[::-1])


def cut_record(cache: DirectoryCache) -> None:
    path = entry_of(cache) / "record.json"
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("harm", "kind", "text"),
    [
        (removed_whole, "removed", "its files are gone"),
        (removed_with_all_of_the_name, "removed", "its files are gone"),
        (removed_record, "removed", "its files are gone"),
        (removed_result, "damaged", "its result file is missing"),
        (removed_data, "damaged", "the file data/file is missing"),
        (cut_result, "damaged", "its result is not of the size that its record tells"),
        (cut_data, "damaged", "data/file was changed by hand: it is 3 bytes long instead of 4"),
        (changed_data, "damaged", "the file data/file was changed by hand"),
        (cut_record, "damaged", "record.json is not a whole record"),
    ],
)
def test_what_was_done_to_an_entry_by_hand_is_the_last_event_with_the_old_record(
    cache: DirectoryCache, root: Path, harm: Callable[[DirectoryCache], None], kind: str, text: str
) -> None:
    record = save_with_data(cache)
    cache.index()
    cache.note(Event("cleared", KEY, time.time() - 100))
    assert [event.kind for event in cache.events(KEY)] == ["cleared"]
    harm(cache)
    for reader in (cache, DirectoryCache(root)):
        before = snapshot(root)
        event = reader.events(KEY)[-1]
        assert (event.kind, event.when, event.record) == (kind, None, record)
        assert text in event.text
        assert snapshot(root) == before
    save_with_data(cache)
    assert [event.kind for event in cache.events(KEY)] == ["cleared"]


@pytest.mark.parametrize("kind", ["cleared", "renamed", "damaged"])
@pytest.mark.parametrize("digest", [KEY.digest, ""])
def test_what_was_noted_since_it_was_saved_explains_that_an_entry_is_gone(
    cache: DirectoryCache, kind: Any, digest: str
) -> None:
    record = save(cache)
    cache.index()
    first = Event(kind, TaskKey(KEY.name, digest), time.time() + 0.5, text="on request")
    cache.note(first)
    cache.note(Event("cleared", KEY, time.time() + 5))
    shutil.rmtree(entry_of(cache))
    told = dataclasses.replace(first, record=record) if kind == "cleared" else first
    assert [told, *cache.events(KEY)[1:]] == cache.events(KEY)
    assert [event.kind for event in cache.events(KEY)] == [kind, "cleared"]
    assert cache.events(KEY)[1].record is None, "what was cleared again was gone already"


def test_a_result_that_is_being_computed_anew_was_not_removed(cache: DirectoryCache) -> None:
    save_with_data(cache)
    cache.index()
    cache.begin(KEY)
    assert cache.look_up([KEY]) == {}
    assert cache.events(KEY) == []
    cache.abandon(KEY)
    (entry_of(cache) / "record.json").rename(entry_of(cache) / "record.json.abcd-1-1.part")
    assert cache.events(KEY) == [], "a job that is saving, or was killed while it did"


def test_damage_that_was_noted_is_not_told_twice(cache: DirectoryCache) -> None:
    record = save(cache, provenance={"started": time.time() - 10})
    cache.set_aside(KEY)
    (found,) = cache.events(KEY)
    assert (found.kind, found.record) == ("damaged", record)
    assert found.when is not None
    assert abs(found.when - time.time()) < 60
    noted = Event("damaged", KEY, time.time(), "ann@node7", "its digest differs", record)
    cache.note(noted)
    assert cache.events(KEY) == [noted]
    # Damaged again, and whoever found it had no time to note it.
    save(cache, provenance={"started": time.time() + 100})
    cache.set_aside(KEY)
    later = time.time() + 100
    for path in entry_of(cache).glob("*.damaged"):
        os.utime(path, (later, later))
    assert [event.kind for event in cache.events(KEY)] == ["damaged", "damaged"]


def test_an_entry_that_was_damaged_and_whose_record_cannot_be_read_is_told_too(cache: DirectoryCache) -> None:
    save(cache)
    cache.set_aside(KEY)
    (entry_of(cache) / "record.json.damaged").write_text("{")
    (event,) = cache.events(KEY)
    assert (event.kind, event.record) == ("damaged", None)
    (entry_of(cache) / "record.json.damaged").unlink()
    assert [event.kind for event in cache.events(KEY)] == ["damaged"]


# Code


def test_kept_code_reads_without_the_library_and_is_written_once(cache: DirectoryCache, root: Path) -> None:
    cache.keep_code("00ff", b"def f(): ...\n")
    path = root / "code" / "00ff.gz"
    assert gzip.decompress(path.read_bytes()) == b"def f(): ...\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = snapshot(root)
    cache.keep_code("00ff", b"def f(): ...\n")
    assert snapshot(root) == before


def test_damaged_code_reads_as_none(cache: DirectoryCache, root: Path) -> None:
    text = b"def f(): ...\n" * 100
    cache.keep_code("00ff", text)
    path = root / "code" / "00ff.gz"
    sound = path.read_bytes()
    for position in range(len(sound)):
        path.write_bytes(sound[:position])
        assert cache.kept_code("00ff") is None, position
        flipped = bytearray(sound)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert cache.kept_code("00ff") in (None, text), position
    path.write_bytes(b"")
    cache.keep_code("00ff", text)
    assert cache.kept_code("00ff") == text, "what a power cut emptied is written again"


# Aids never fail


class FullDisk(FastFiles):
    """Nothing can be written any more."""

    def _write(self, descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ReadOnlyDisk(FastFiles):
    """Nothing can be made or opened for writing."""

    def make_directory(self, path: str) -> bool:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def make_parents(self, path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _create(self, path: str) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def append(self, path: str, data: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def open_lock_file(self, path: str) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize("disk", [FullDisk, ReadOnlyDisk])
@pytest.mark.parametrize("is_made", [False, True])
def test_what_is_only_an_aid_is_not_written_to_a_disk_that_refuses_and_fails_nothing(
    root: Path, disk: type[FastFiles], is_made: bool
) -> None:
    if is_made:
        save(DirectoryCache(root))
    cache = cache_on(root, disk())
    cache.note(Event("cleared", KEY, 1.0))
    cache.note(Event("failed", KEY, 1.0))
    cache.note(Event("failed", example_key("new.Task"), 1.0))
    cache.keep_code("00ff", b"code")
    cache.post("run", {"n": 1})
    cache.unpost("run")
    assert cache.events(KEY) == []
    assert cache.kept_code("00ff") is None
    assert cache.posts() == []
    assert cache.task_names() == [KEY.name] * is_made
    assert [path.name for path in root.rglob("*.part")] == []


# The root


def test_a_root_with_all_of_our_files_is_ours_only_by_its_marker(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    cache.note(Event("cleared", KEY, 1.0))
    cache.keep_code("00ff", b"code")
    cache.post("run", {})
    cache.open()
    for name in ("code", "runs", "journal.jsonl"):
        record = save(cache, example_key(name))
        assert cache.look_up([record.key]) == {record.key: record}
    cache.discard_all("code")
    assert cache.kept_code("00ff") == b"code"
    (root / "taskproc.json").unlink()
    with pytest.raises(Exception, match=r"it has no taskproc\.json"):
        DirectoryCache(root).open()
    with pytest.raises(Exception, match="nothing is removed"):
        DirectoryCache(root).discard([KEY])
    cache.unpost("run")
