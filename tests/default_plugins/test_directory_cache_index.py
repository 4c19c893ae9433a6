"""The index: an accelerator that can't make an answer wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taskproc import Cache, FutureList, Task
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache import index as _index
from taskproc.default_plugins.directory_cache import look_up as _look_up
from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.interfaces import Record, TaskKey
from taskproc.testing import example_key, example_record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as at rest, as if all had been written long ago."""
    monkeypatch.setattr(_index, "_AT_REST_NS", -(10**9))


def fill(root: Path, count: int, payload: bytes = b"answer") -> dict[TaskKey, Record]:
    cache = DirectoryCache(root)
    records = [example_record(example_key(text=str(i)), payload, args={"i": i}) for i in range(count)]
    for record in records:
        cache.save(record, payload, 9, durable=False)
    cache.index()
    return {record.key: record for record in records}


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The record files that are opened from now on."""
    opened: list[str] = []
    real = read_file

    def counting(path: str) -> object:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(_look_up, "read_file", counting)
    return opened


def test_an_indexed_record_is_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = fill(root, 50)
    opened = count_reads(monkeypatch)
    assert DirectoryCache(root).look_up(stored) == stored
    assert opened == []


def test_absent_entries_cost_no_opening_where_there_are_many(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root, 3)
    opened = count_reads(monkeypatch)
    assert DirectoryCache(root).look_up([example_key(text=f"absent {i}") for i in range(3000)]) == {}
    assert opened == []


@pytest.mark.usefixtures("at_rest")
def test_a_deleted_index_is_rebuilt_at_the_next_writing_and_not_by_looking(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = fill(root, 50)
    (root / "index.jsonl").unlink()
    cache = DirectoryCache(root)
    assert cache.look_up(stored) == stored
    assert not (root / "index.jsonl").exists()
    cache.index()
    opened = count_reads(monkeypatch)
    assert DirectoryCache(root).look_up(stored) == stored
    assert opened == []


def test_an_index_damaged_in_any_place_changes_no_answer(root: Path) -> None:
    stored = fill(root, 4)
    path = root / "index.jsonl"
    sound = path.read_bytes()
    for position in range(0, len(sound), 3):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert DirectoryCache(root).look_up(stored) == stored, position
    for position in range(0, len(sound), 50):
        path.write_bytes(sound[:position])
        cache = DirectoryCache(root)
        assert cache.look_up(stored) == stored, position
        cache.index()  # behind a torn row
        assert DirectoryCache(root).look_up(stored) == stored, position


def test_an_index_that_is_a_directory_or_not_writable_does_no_harm(root: Path) -> None:
    stored = fill(root, 4)
    (root / "index.jsonl").unlink()
    (root / "index.jsonl").mkdir()
    cache = DirectoryCache(root)
    assert cache.look_up(stored) == stored
    cache.index()
    assert cache.look_up(stored) == stored


@pytest.mark.usefixtures("at_rest")
def test_a_record_laid_out_by_hand_is_indexed_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = fill(root, 1)
    (path,) = root.rglob("record.json")
    path.write_text(json.dumps(json.loads(path.read_text()), indent="\t"))
    cache = DirectoryCache(root)
    assert cache.look_up(stored) == stored
    cache.index()
    opened = count_reads(monkeypatch)
    assert DirectoryCache(root).look_up(stored) == stored
    assert opened == []


def test_rows_of_an_older_state_are_passed_over(root: Path) -> None:
    old = fill(root, 4, b"old")
    looking = DirectoryCache(root)
    assert looking.look_up(old) == old
    cache = DirectoryCache(root)
    new = [example_record(key, b"newer") for key in list(old)[:2]]
    for record in new:
        cache.save(record, b"newer", 9, durable=False)
    for reader in (looking, DirectoryCache(root)):
        assert reader.look_up(old) == old | {record.key: record for record in new}


@pytest.mark.usefixtures("at_rest")
def test_records_of_a_copy_are_read_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = fill(root, 20)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    opened = count_reads(monkeypatch)
    for _ in range(3):
        cache = DirectoryCache(copy)
        assert cache.look_up(stored) == stored
        cache.index()
    assert len(opened) == 20


class Part(Task):
    def __init__(self, number: int) -> None:
        pass

    def run_task(self) -> int:
        return 1


class Whole(Task):
    def __init__(self) -> None:
        self.parts = FutureList([Part(number) for number in range(20)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_no_record_is_opened_after_a_run_wherever_its_jobs_were_done(
    root: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    for _ in range(2):  # new entries, and replaced ones
        with Cache(root):
            assert Whole().run_graph(executor=executor, max_workers=2, force=True)[0] == 20
        with monkeypatch.context() as patched:
            opened = count_reads(patched)
            with Cache(root):
                assert Whole().run_graph()[1]["stats"] == {}
        assert opened == []


def test_an_older_record_put_back_under_the_times_of_the_newer_is_seen(root: Path) -> None:
    (key,) = old = fill(root, 1)
    (path,) = root.rglob("record.json")
    older = path.read_bytes()
    new = example_record(key, b"answer", args={"i": 1})
    cache = DirectoryCache(root)
    cache.save(new, b"answer", 9, durable=False)
    cache.index()
    was = path.stat()
    assert (was.st_size, DirectoryCache(root).look_up([key])) == (len(older), {key: new})
    time.sleep(0.02)  # the clock of the file system ticks
    path.write_bytes(older)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    for reader in (cache, DirectoryCache(root)):
        assert reader.look_up([key]) == old


@pytest.mark.parametrize("clears", [False, True])
def test_of_two_records_saved_within_one_tick_the_later_is_seen_though_its_row_was_lost(
    root: Path, clears: bool
) -> None:
    key = example_key()
    records = [example_record(key, b"answer", args={"i": i}) for i in (1, 2, 3)]
    for _ in range(100):
        cache = DirectoryCache(root)
        cache.save(records[0], b"answer", 9, durable=False)
        cache.index()
        killed = DirectoryCache(root)
        for record in records[1:]:
            if clears:
                killed.discard([key])
            killed.save(record, b"answer", 9, durable=False)
            for reader in (cache, DirectoryCache(root)):
                assert reader.look_up([key]) == {key: record}


def test_records_written_within_one_tick_of_the_clock_of_the_disk_have_times_of_their_own(
    tmp_path: Path,
) -> None:
    files = Files()
    written = [files.write_aside(f"{tmp_path}/record", [b"x"], durable=False)[1] for _ in range(200)]
    assert len({status.st_mtime_ns for status in written}) == 200


def test_a_record_that_was_read_within_the_tick_of_its_writing_gets_no_row(root: Path) -> None:
    (key,) = fill(root, 1)
    (root / "index.jsonl").unlink()
    cache = DirectoryCache(root)
    assert len(cache.look_up([key])) == 1
    cache.index()
    assert not (root / "index.jsonl").exists()


def test_a_row_of_the_future_of_another_runner_is_seen_by_an_open_cache(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DirectoryCache(root)
    assert cache.look_up([example_key(text="0")]) == {}
    stored = fill(root, 2)
    cache.open()  # as at the start of a run
    opened = count_reads(monkeypatch)
    assert cache.look_up(stored) == stored
    assert opened == []


def test_an_index_of_mostly_old_rows_is_written_anew(root: Path) -> None:
    for _ in range(4):
        fill(root, 300)
    stored = fill(root, 300)
    cache = DirectoryCache(root)
    gone = list(stored)[:100]
    cache.discard(gone)
    before = (root / "index.jsonl").stat().st_size
    cache.look_up(stored)
    cache.index()
    left = {key: record for key, record in stored.items() if key not in gone}
    assert (root / "index.jsonl").stat().st_size < before / 6
    assert cache.look_up(stored) == left
    assert DirectoryCache(root).look_up(stored) == left


def test_runners_add_rows_side_by_side_without_mixing_them(root: Path) -> None:
    keys = [example_key(text=f"{who}-{i}") for who in range(3) for i in range(60)]
    code = """if True:
        import sys
        from pathlib import Path
        from taskproc.default_plugins.directory_cache import DirectoryCache
        from taskproc.testing import example_key, example_record
        cache = DirectoryCache(Path(sys.argv[1]))
        for i in range(60):
            record = example_record(example_key(text=f"{sys.argv[2]}-{i}"), b"answer", args={"x": "x" * 5000})
            cache.save(record, b"answer", 9, durable=False)
            cache.index()
    """
    command = [sys.executable, "-c", code, str(root)]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    runners = [subprocess.Popen([*command, str(who)], env=environment) for who in range(3)]
    assert [runner.wait() for runner in runners] == [0, 0, 0]
    (root / "taskfile.Train").rename(root / "away.Train")
    rows = [row for row in (root / "index.jsonl").read_bytes().splitlines() if row]
    assert len(rows) == 180
    (root / "away.Train").rename(root / "taskfile.Train")
    assert set(DirectoryCache(root).look_up(keys)) == set(keys)


def test_threads_read_one_index_while_another_adds(root: Path) -> None:
    stored = fill(root, 100)
    cache = DirectoryCache(root)
    wrong: list[object] = []

    def look() -> None:
        for _ in range(10):
            found = cache.look_up(stored)
            if found != stored:
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        cache.index()
    for thread in threads:
        thread.join()
    assert wrong == []
