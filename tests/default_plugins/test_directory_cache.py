"""The directory cache: the suite of all backends, and what people see of this one."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.errors import CacheError, DamagedEntryError
from taskproc.interfaces import Record, TaskKey
from taskproc.testing import CacheBackendContract, example_key, example_record

KEY = example_key()


class TestDirectoryCache(CacheBackendContract):
    def make(self, tmp_path: Path) -> DirectoryCache:
        return DirectoryCache(root=tmp_path)


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


def entry_of(cache: DirectoryCache, key: TaskKey = KEY) -> Path:
    return cache.root / key.name / key.digest


# What people see


def test_an_entry_is_a_folder_that_reads_without_the_library(cache: DirectoryCache, root: Path) -> None:
    value = {"accuracy": 0.9}
    save(cache, payload=pickle.dumps(value))
    entry = root / "taskfile.Train" / KEY.digest
    assert sorted(path.name for path in entry.iterdir()) == ["record.json", "result.pkl.gz"]
    with gzip.open(entry / "result.pkl.gz") as file:
        assert pickle.load(file) == value
    fields = json.loads((entry / "record.json").read_text())
    assert (fields["task"], fields["key"], fields["args"]["rate"]) == ("taskfile.Train", KEY.digest, 0.1)
    assert fields["upstreams"] == [["loader['train']", "taskfile.Load", "00ff" * 8, "ab" * 16]]
    assert fields["result_bytes"] == (entry / "result.pkl.gz").stat().st_size


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("size", [0, 512, 513, 4096, 4097, 40_000, 1 << 20, 2_500_000])
def test_a_result_of_any_size_is_one_whole_gzip_file_of_no_time(
    cache: DirectoryCache, level: int, size: int
) -> None:
    payload = (b"taskproc " * (size // 9 + 1))[:size]
    cache.save(example_record(KEY, payload), payload, level, durable=False)
    stored = (entry_of(cache) / "result.pkl.gz").read_bytes()
    assert gzip.decompress(stored) == payload
    assert stored[4:8] == bytes(4)
    if level and size > 100:
        assert len(stored) < size / 2


def test_a_big_payload_is_stored_only_if_nothing_of_it_compresses(cache: DirectoryCache) -> None:
    noise = os.urandom(1 << 20)
    save(cache, payload=noise)
    path = entry_of(cache) / "result.pkl.gz"
    assert path.stat().st_size > len(noise)
    half = os.urandom(1 << 17) + bytes(1 << 20)
    save(cache, payload=half)
    assert path.stat().st_size < 1 << 18


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_written_is_for_its_owner_alone_whatever_the_umask(
    cache: DirectoryCache, root: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        cache.data_directory(KEY, create=True)
        log = cache.scratch() / "log"
        log.write_text("said")
        cache.keep_logs(KEY, log, None)
        save(cache)
        cache.index()
        cache.lease([KEY])
        cache.close()
    finally:
        os.umask(before)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_root_is_absolute_from_the_start_and_a_tilde_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = DirectoryCache.from_url("./~/a/../cache")
    monkeypatch.chdir("/")
    assert cache.root == tmp_path / "~" / "cache"
    assert cache.location == str(tmp_path / "~" / "cache")
    save(cache)
    assert (tmp_path / "~" / "cache" / "taskproc.json").is_file()


def test_a_cache_may_be_moved(cache: DirectoryCache, root: Path, tmp_path: Path) -> None:
    record = save(cache)
    cache.index()
    root.rename(tmp_path / "elsewhere")
    moved = DirectoryCache(tmp_path / "elsewhere")
    assert moved.look_up([KEY]) == {KEY: record}
    assert cache.look_up([KEY]) == {}


def test_a_cache_that_is_removed_while_it_is_open_is_made_again(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    subprocess.run(["rm", "-r", str(root)], check=True)
    assert cache.look_up([KEY]) == {}
    record = save(cache)
    assert cache.look_up([KEY]) == {KEY: record}
    assert (root / "taskproc.json").is_file()


def test_an_entry_moved_to_another_name_does_not_count(cache: DirectoryCache) -> None:
    save(cache)
    other = example_key(text="other")
    entry_of(cache).rename(entry_of(cache, other))
    assert cache.look_up([KEY, other]) == {}


def test_a_record_of_another_format_does_not_count(cache: DirectoryCache) -> None:
    save(cache)
    path = entry_of(cache) / "record.json"
    fields = json.loads(path.read_text())
    wrongs: list[Any] = [
        {**fields, "format": 2},
        {**fields, "code": 7},
        {**fields, "upstreams": [[1]]},
        [],
        None,
    ]
    for wrong in wrongs:
        path.write_text(json.dumps(wrong))
        assert cache.look_up([KEY]) == {}
    path.write_text(json.dumps(fields))
    assert KEY in cache.look_up([KEY])


def test_a_damaged_entry_set_aside_stays_for_a_look(cache: DirectoryCache) -> None:
    save(cache)
    cache.set_aside(KEY)
    names = sorted(path.name for path in entry_of(cache).iterdir())
    assert names == ["record.json.damaged", "result.pkl.gz.damaged"]


def test_a_result_the_disk_cannot_read_is_damage(
    cache: DirectoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = save(cache)

    def unreadable(path: str, limit: int | None = None) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr("taskproc.default_plugins.directory_cache.read_file", unreadable)
    with pytest.raises(DamagedEntryError, match="can't read it"):
        cache.load(KEY, record.digest)


def test_a_worker_imports_the_cache_without_what_it_seldom_needs() -> None:
    code = (
        "import sys, taskproc.default_plugins.directory_cache\n"
        "seldom = {'shutil', 'tempfile', 'click', 'rich', 'subprocess'}\n"
        "print(sorted(seldom & set(sys.modules)))"
    )
    command = [sys.executable, "-S", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# Whether it may be used


def test_opening_refuses_a_file_and_a_path_below_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(CacheError, match="is a file; choose a directory"):
        DirectoryCache(file).open()
    with pytest.raises(CacheError, match="choose another path"):
        DirectoryCache(file / "cache").open()
    with pytest.raises(CacheError, match="choose another path"):
        save(DirectoryCache(file / "cache"))


def test_opening_refuses_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CacheError, match="link to nowhere"):
        DirectoryCache(tmp_path / "link").open()


def test_a_directory_with_something_else_in_it_is_neither_used_nor_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    cache = DirectoryCache(tmp_path)
    for attempt in (
        cache.open,
        lambda: save(cache),
        lambda: cache.lease([KEY]),
        cache.scratch,
        lambda: cache.data_directory(KEY, create=True),
        lambda: cache.discard([KEY]),
        lambda: cache.discard_all("taskfile.Train"),
    ):
        with pytest.raises(CacheError, match=r"taskproc\.json"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_hidden_files_alone_do_not_make_a_directory_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty").rmdir()
    cache = DirectoryCache(tmp_path)
    cache.open()
    cache.discard([KEY])
    assert save(cache).key in cache.look_up([KEY])


@pytest.mark.parametrize("content", ['{"version": 2}', '{"version": "1"}', "{}", "", "[1]", '{"version": tr'])
def test_a_newer_or_damaged_marker_is_refused(cache: DirectoryCache, root: Path, content: str) -> None:
    save(cache)
    (root / "taskproc.json").write_text(content)
    with pytest.raises(CacheError, match=r"update taskproc|put \{"):
        DirectoryCache(root).open()


def test_a_cache_that_everybody_can_write_to_is_refused_unless_trusted(
    cache: DirectoryCache, root: Path
) -> None:
    save(cache)
    root.chmod(0o777)
    with pytest.raises(CacheError, match="every user can write"):
        DirectoryCache.from_url(str(root)).open()
    DirectoryCache.from_url(f"{root}?trust=true").open()
    root.chmod(0o775)
    with pytest.raises(CacheError, match="its group"):
        cache.open()
    root.chmod(0o755)
    cache.open()


def test_a_cache_of_another_user_is_refused_unless_trusted(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(cache)
    if os.geteuid() == 0:
        os.chown(root, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(CacheError, match="belongs to another user"):
        DirectoryCache(root).open()
    DirectoryCache(root, trust=True).open()


@pytest.mark.parametrize("url", ["", "?trust=true", "a\0b"])
def test_a_text_that_is_no_path_is_refused(url: str) -> None:
    with pytest.raises(CacheError, match="give a directory"):
        DirectoryCache.from_url(url)


# Removing


def test_removing_never_follows_a_link(cache: DirectoryCache, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "more").mkdir(parents=True)
    (outside / "precious").write_text("kept")
    (outside / "more" / "record.json").write_text("kept")
    keys = [example_key(text=str(i)) for i in range(3)]
    for key in keys[:2]:
        save(cache, key)
    data = cache.data_directory(keys[0], create=True)
    (data / "link").symlink_to(outside)
    (data / "deep").mkdir()
    (data / "deep" / "link").symlink_to(outside)
    (entry_of(cache, keys[1]) / "data").symlink_to(outside)
    entry_of(cache, keys[2]).symlink_to(outside)
    (root / "linked.Task").symlink_to(outside)
    cache.discard(keys)
    with pytest.raises(CacheError, match="is a link"):
        cache.discard([TaskKey("linked.Task", "more")])
    cache.discard_all("linked.Task")
    assert not (root / "linked.Task").is_symlink()
    assert not entry_of(cache, keys[2]).is_symlink()
    assert list(data.iterdir()) == []
    assert sorted(path.name for path in outside.rglob("*")) == ["more", "precious", "record.json"]


def test_removing_all_leaves_no_folder_but_data(cache: DirectoryCache, root: Path) -> None:
    for i in range(3):
        save(cache, example_key(text=str(i)))
    cache.discard_all("taskfile.Train")
    assert not (root / "taskfile.Train").exists()


def test_a_read_only_folder_in_the_data_is_removed_too(cache: DirectoryCache) -> None:
    data = cache.data_directory(KEY, create=True)
    (data / "locked").mkdir()
    (data / "locked" / "file").touch()
    (data / "locked").chmod(0o500)
    cache.discard([KEY])
    assert list(data.iterdir()) == []


# Data files


def test_a_link_in_the_data_counts_as_what_it_says(cache: DirectoryCache, tmp_path: Path) -> None:
    data = cache.data_directory(KEY, create=True)
    (data / "model-7").write_text("model")
    (data / "latest").symlink_to("model-7")
    (data / "folder").symlink_to(tmp_path)
    os.mkfifo(data / "pipe")
    files = cache.list_data(KEY)
    assert [(file.path, file.size) for file in files] == [
        ("folder", len(str(tmp_path))),
        ("latest", 7),
        ("model-7", 5),
    ]
    record = example_record(KEY, b"answer", data=files)
    cache.save(record, b"answer", 9, durable=True)
    assert cache.look_up([KEY]) == {KEY: record}
    (data / "latest").unlink()
    (data / "latest").symlink_to("model-10")
    assert cache.look_up([KEY]) == {}


def test_what_a_killed_writer_left_goes_when_the_next_job_begins(cache: DirectoryCache) -> None:
    save(cache)
    left = entry_of(cache) / "result.pkl.gz.abcd-1-1.part"
    left.write_text("half")
    cache.begin(KEY)
    assert not left.exists()
    assert KEY in cache.look_up([KEY])
