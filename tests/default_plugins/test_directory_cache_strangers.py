"""What somebody has put into a cache stays: only what is named as ours is removed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskproc import Cache, Task
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.errors import CacheError
from taskproc.interfaces import TaskKey
from taskproc.testing import example_record

OLD = (1, 1)


class Number(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        (self.task_directory / "file").write_text(str(self.n))
        return self.n


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    with Cache(root):
        Number(1).run_graph(executor="serial")
    return root


def entry(root: Path, task: Task) -> Path:
    return root / task.task_name / str(task._task.key.digest)


def strangers(root: Path, place: Path) -> list[Path]:
    """Files that are not ours, of all names that look a little like ours, in all folders."""
    names = [
        *[
            place / name
            for name in ("notes.txt", "draft.part", "result.pkl.gz.part", "record.json.x-1-1.part")
        ],
        *[place / name for name in ("data.orig/a", "result.pkl.gz.bak", "my.aside", "my.damaged")],
        *[place.parent / "notes" / name for name in ("data/a", "data.aside/a", "stdout.txt", "a.part")],
        *[root / name for name in ("jobs.part", "code.0-1-1.part", "index.jsonl.old", "notes/sub/a")],
        *[root / "code" / name for name in ("mine.part", "mine.gz", "mine.ab-1-1.part", "sub/a")],
        *[root / "leases" / name for name in ("flat.lease", "0123.lease", "a.txt", "sub/a")],
        *[root / "runs" / name for name in ("package.json", "yarn.lock", "my.json", "a.part", "b.txt")],
        *[root / "jobs" / name for name in ("mine.out", "0123456789abcdef.out", "t-mine/job.json")],
    ]
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text('{"format": 1, "ticket": "0"}')
        os.utime(name, OLD)
    return names


def clear(root: Path) -> None:
    command = [sys.executable, "-m", "taskproc", "cache", "clear", str(root), "Number", "-y"]
    subprocess.run(command, capture_output=True, timeout=120, check=True)


def verify(root: Path) -> None:
    backend = DirectoryCache(root)
    list(backend.verify(repair=True))
    backend.close()


def prune(root: Path) -> None:
    with Cache(root):
        key = Number(1)._task.key
    for kind in ("damaged", "failures", None):
        DirectoryCache(root).prune([key], kind)


def run_again(root: Path) -> None:
    with Cache(root):
        Number(1).run_graph(executor="serial", force=True)
        Number(1).run_graph(executor="process", force=True)


def clear_tasks(root: Path) -> None:
    with Cache(root):
        Number(1).clear_task()
        Number(2).run_graph(executor="serial")
        Number.clear_all_tasks()


@pytest.mark.parametrize("work", [clear, verify, prune, run_again, clear_tasks])
def test_a_file_that_is_not_named_as_ours_stays_whatever_is_done(
    root: Path, work: Callable[[Path], None]
) -> None:
    with Cache(root):
        names = strangers(root, entry(root, Number(1)))
    work(root)
    assert [name for name in names if not name.exists()] == []


def test_what_is_ours_goes_from_beside_them(root: Path) -> None:
    with Cache(root):
        place = entry(root, Number(1))
    (place / "notes.txt").write_text("mine")
    prune(root)
    assert os.listdir(place) == ["notes.txt"]
    (place / "notes.txt").unlink()
    prune(root)
    assert not place.parent.exists()


def test_an_entry_is_not_moved_over_files_of_somebody(root: Path) -> None:
    cache = DirectoryCache(root)
    old, new = TaskKey("taskfile.Train", "0" * 32), TaskKey("taskfile.Train", "1" * 32)
    record = example_record(old, b"one")
    cache.save(record, b"one", 6, durable=False)
    cache.save(dataclasses.replace(record, key=new), b"one", 6, durable=False)
    notes = root / "taskfile.Train" / new.digest / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(CacheError, match=r"notes\.txt"):
        cache.replace_record(old, dataclasses.replace(record, key=new))
    assert notes.read_text() == "mine"
    assert set(cache.look_up([old, new])) == {old, new}
    notes.unlink()
    cache.replace_record(old, dataclasses.replace(record, key=new))
    assert set(cache.look_up([old, new])) == {new}


@pytest.mark.parametrize("module", ["jobs", "code", "runs", "leases"])
def test_tasks_of_a_module_that_is_called_like_a_folder_of_ours_are_checked_and_counted(
    root: Path, module: str
) -> None:
    cache = DirectoryCache(root)
    key = TaskKey(f"{module}.part", "0" * 32)
    cache.save(example_record(key, b"one"), b"one", 6, durable=False)
    checked: list[TaskKey] = []
    list(cache.verify(False, lambda key, _: checked.append(key)))
    assert key in checked
    assert [one for one in cache.usage() if one.key == key]


def test_a_pipe_in_the_place_of_a_lock_holds_nobody_up(root: Path) -> None:
    (root / "runs").mkdir(exist_ok=True)
    os.mkfifo(root / "runs" / "0123456789abcdef.lock")
    script = "import sys; from taskproc import Cache; Cache(sys.argv[1]).verify(repair=False)"
    subprocess.run([sys.executable, "-c", script, str(root)], timeout=120, check=True)


@pytest.mark.parametrize("name", ["record.json", "result.pkl.gz"])
def test_folders_in_the_place_of_a_file_are_moved_away_as_often_as_there_is_one(
    root: Path, name: str
) -> None:
    cache = DirectoryCache(root)
    key = TaskKey("taskfile.Train", "0" * 32)
    path = root / "taskfile.Train" / key.digest / name
    for number in range(3):
        cache.save(example_record(key, b"one"), b"one", 6, durable=False)
        assert cache.load(key) == b"one"
        path.unlink()
        path.mkdir()
        (path / f"notes {number}").touch()
    cache.save(example_record(key, b"one"), b"one", 6, durable=False)
    path.write_bytes(b"damaged")
    cache.set_aside(key)
    assert cache.look_up([key]) == {}
    assert not path.exists()
    assert len(list(path.parent.glob("*/notes*"))) == 3
