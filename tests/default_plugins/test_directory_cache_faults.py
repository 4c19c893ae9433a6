"""A failing disk, and a process that dies, at each step of a save: never a wrong answer."""

from __future__ import annotations

import ast
import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from failing_disk import FastFiles, Killed, cache_on, until_nothing_fails

from taskproc.default_plugins.directory_cache import DirectoryCache, durability
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.errors import CacheError
from taskproc.interfaces import JSON, DataFile, Record, TaskKey, UpstreamRecord
from taskproc.testing import example_key, example_record

KEY = example_key()
SYNCING = ("sync_file", "sync_directory", "_sync")


def work(cache: DirectoryCache, text: str, with_data: bool) -> Record:
    """What a job does with the cache."""
    cache.begin(KEY)
    data: tuple[DataFile, ...] = ()
    if with_data:
        (cache.data_directory(KEY, create=True) / "file").write_text(text)
        data = cache.list_data(KEY)
    record = example_record(KEY, text.encode(), data=data)
    cache.save(record, text.encode(), 9, durable=True)
    return record


def answers(root: Path) -> tuple[Record, bytes, tuple[str, ...]] | None:
    """What another process finds: record, result and data."""
    cache = DirectoryCache(root)
    cache.open()
    record = cache.look_up([KEY]).get(KEY)
    if record is None:
        return None
    data = cache.data_directory(KEY, create=False)
    return record, cache.load(KEY), tuple((data / file.path).read_text() for file in record.data)


@pytest.mark.filterwarnings("ignore::taskproc.errors.DamagedEntryWarning")  # the old record, the new result
@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("has_old", [False, True])
def test_a_full_disk_at_any_step_leaves_the_old_entry_or_none_and_a_later_save_works(
    tmp_path: Path, has_old: bool, with_data: bool
) -> None:
    for files in until_nothing_fails(kill=False):
        root = tmp_path / str(files.left)
        old = work(cache_on(root, FastFiles()), "old", with_data) if has_old else None
        cache = cache_on(root, files)
        try:
            new = work(cache, "newer", with_data)
        except (OSError, CacheError):
            cache.abandon(KEY)
            found = answers(root)
            if found is not None and not (files.failed in SYNCING and found[1] == b"newer"):
                assert found == (old, b"old", ("old",) * with_data)
            parts = [path.name for path in root.rglob("*.part")]
            assert parts == []
            new = work(cache, "newer", with_data)
        assert answers(root) == (new, b"newer", ("newer",) * with_data)


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("has_old", [False, True])
def test_a_process_that_dies_at_any_step_leaves_the_old_entry_the_new_one_or_none(
    tmp_path: Path, has_old: bool, with_data: bool
) -> None:
    for files in until_nothing_fails(kill=True):
        root = tmp_path / str(files.left)
        old = work(cache_on(root, FastFiles()), "old", with_data) if has_old else None
        try:
            work(cache_on(root, files), "newer", with_data)
        except Killed:
            found = answers(root)
            assert found is None or found[1:] in [
                (text, (text.decode(),) * with_data) for text in (b"old", b"newer")
            ]
            if found is not None and found[1] == b"old":
                assert found[0] == old
        last = work(cache_on(root, FastFiles()), "the last", with_data)
        assert answers(root) == (last, b"the last", ("the last",) * with_data)
        assert sorted(path.name for path in (root / KEY.name / KEY.digest).iterdir()) == (
            ["data", "record.json", "result.pkl.gz"] if with_data else ["record.json", "result.pkl.gz"]
        )


def test_an_old_result_survives_a_disk_that_is_full_while_the_new_one_is_written(tmp_path: Path) -> None:
    old = work(DirectoryCache(tmp_path), "old", with_data=False)

    class Full(Files):
        def _write(self, descriptor: int, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        work(cache_on(tmp_path, Full()), "newer", with_data=False)
    assert answers(tmp_path) == (old, b"old", ())


@pytest.mark.parametrize("step", ["write", "fsync", "close"])
def test_what_fails_on_an_open_file_names_it(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does it, whose errors of descriptors have no name in them."""
    cache = DirectoryCache(tmp_path)
    work(cache, "old", with_data=False)
    real_open, real = os.open, getattr(os, step)
    opened: set[int] = set()

    def note(path: Any, *words: Any, **named: Any) -> int:
        descriptor = real_open(path, *words, **named)
        if f"{KEY.digest}/result.pkl.gz" in str(path):
            opened.add(descriptor)
        return descriptor

    def fail(descriptor: int, *words: Any) -> Any:
        if descriptor not in opened:
            return real(descriptor, *words)
        if step == "close":
            real(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", note)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*/result\.pkl\.gz"):
        work(cache, "newer", with_data=False)


def test_what_must_survive_a_power_cut_is_synced_before_it_is_named(tmp_path: Path) -> None:
    done: list[str] = []

    class Watched(Files):
        def write_aside(self, path: str, chunks: Any, durable: bool) -> Any:
            done.append(f"write {Path(path).name} {durable}")
            return super().write_aside(path, chunks, durable)

        def sync_file(self, path: str) -> None:
            done.append(f"sync {Path(path).name}")
            super().sync_file(path)

        def rename(self, source: str, target: str) -> None:
            done.append(f"name {Path(target).name}")
            super().rename(source, target)

    cache = cache_on(tmp_path, Watched())
    (cache.data_directory(KEY, create=True) / "deep").mkdir()
    (cache.data_directory(KEY, create=True) / "deep" / "file").touch()
    done.clear()
    cache.save(example_record(KEY, b"x", data=cache.list_data(KEY)), b"x", 9, durable=True)
    writes = ["write result.pkl.gz True", "write record.json True", "sync file"]
    assert done[:3] == writes
    assert sorted(done[3:5]) == ["sync data", "sync deep"]
    names = ["name result.pkl.gz", "name record.json"]
    assert done[5:] == [*names, f"sync {KEY.digest}", f"sync {KEY.name}", f"sync {tmp_path.name}"]
    done.clear()
    cache.save(example_record(KEY, b"x"), b"x", 9, durable=False)
    assert done == ["write result.pkl.gz False", "write record.json False", *names]


def test_logs_come_over_from_another_file_system(tmp_path: Path) -> None:
    class TwoDisks(Files):
        def rename(self, source: str, target: str) -> None:
            if not source.startswith(str(tmp_path / "cache")):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            super().rename(source, target)

    cache = cache_on(tmp_path / "cache", TwoDisks())
    (tmp_path / "log").write_text("said" * 1000)
    cache.keep_logs(KEY, tmp_path / "log", None)
    kept = cache.log_paths(KEY).stdout
    assert kept.read_text() == "said" * 1000
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "log").exists()


class SyncedFiles(FastFiles):
    """A disk that tells what was brought to it."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[str] = []

    def sync_file(self, path: str) -> None:
        self.synced.append(path)


def chain(cache: DirectoryCache, seconds: float) -> list[TaskKey]:
    """Four results, each resting on the one before; the last took so long, and is durable."""
    keys = [TaskKey("Link", f"{number:032}") for number in range(4)]
    below: tuple[UpstreamRecord, ...] = ()
    for key in keys:
        is_last = key == keys[-1]
        provenance: dict[str, JSON] = {"seconds": seconds if is_last else 0.001}
        record = example_record(key, b"x", upstreams=below, provenance=provenance)
        cache.save(record, b"x", 9, durable=is_last)
        below = (UpstreamRecord("up", key, record.version),)
    return keys


def test_what_a_durable_result_rests_on_is_synced_with_it_and_once(tmp_path: Path) -> None:
    """If it were lost, it would be computed anew, and the durable one after it."""
    files = SyncedFiles()
    cache = cache_on(tmp_path, files)
    *below, last = chain(cache, seconds=3600.0)
    for key in below:
        for name in ("/result.pkl.gz", "/record.json", ""):
            assert f"{tmp_path}/{key.name}/{key.digest}{name}" in files.synced
    files.synced.clear()
    record = cache.look_up([last])[last]
    cache.save(record, b"x", 9, durable=True)
    assert not [path for path in files.synced if below[0].digest in path]


def test_no_more_time_goes_into_syncing_what_lies_below_than_the_task_was_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = SyncedFiles()
    clock = iter(range(1000))  # every look at it takes a second
    monkeypatch.setattr(durability, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    *below, _ = chain(cache_on(tmp_path, files), seconds=15.0)
    assert [key for key in below if any(key.digest in path for path in files.synced)] == [below[-1]]


WRITING = {
    *(
        "mkdir",
        "makedirs",
        "rename",
        "renames",
        "replace",
        "unlink",
        "remove",
        "rmdir",
        "removedirs",
        "rmtree",
    ),
    *(
        "link",
        "symlink",
        "truncate",
        "ftruncate",
        "write",
        "writev",
        "pwrite",
        "pwritev",
        "fsync",
        "fdatasync",
    ),
    *("mkfifo", "mknod", "copy", "copyfile", "copytree", "move", "fdopen"),
}


def is_write(call: ast.Call) -> bool:
    """Whether a call changes what stands on a disk (rights and times aside)."""
    text = ast.unparse(call)
    owner, _, name = ast.unparse(call.func).rpartition(".")
    return (
        (owner in ("os", "shutil") and name in WRITING)
        or name in ("write_text", "write_bytes", "touch", "FileIO")
        or (name == "open" and owner in ("", "io") and not re.search(r", 'rb'(, buffering=0)?\)$", text))
        or (name == "open" and owner == "os" and bool(re.search("O_(CREAT|TRUNC|APPEND|WRONLY)", text)))
    )


def test_one_module_does_every_write_of_the_store() -> None:
    """So that a test that puts a failing disk under it puts it under all."""
    found: dict[str, list[str]] = {}
    for module in Path(durability.__file__).parent.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
        found[module.name] = [f"{module.name}: {ast.unparse(call)}" for call in calls if is_write(call)]
    assert len(found) > 15
    assert len(found.pop("files.py")) > 5
    assert [line for lines in found.values() for line in lines] == []
