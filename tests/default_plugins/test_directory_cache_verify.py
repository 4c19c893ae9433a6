"""`verify` on real caches with real damage: what is found, what is put right, what is left alone."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from failing_disk import cache_on

from taskproc import Cache, Task
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.formats import decode_line, encode_line
from taskproc.errors import CacheError
from taskproc.interfaces import Event, Finding, TaskKey


class Number(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> list[int]:
        print("number", self.n)
        return [self.n] * 30


class WithData(Task):
    def __init__(self) -> None:
        self.number = Number(0)

    def run_task(self) -> int:
        (self.task_directory / "a.txt").write_text("content")
        return 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def made(root: Path) -> Iterator[Cache]:
    """A cache with Number(0), Number(1) and WithData() in it."""
    with Cache(root) as cache:
        WithData().run_graph(executor="serial")
        Number(1).run_graph(executor="serial")
        yield cache


def entry(root: Path, task: Task) -> Path:
    return root / task.task_name / str(task._task.key.digest)


def found(root: Path, repair: bool = True) -> list[Finding]:
    backend = DirectoryCache(root)
    backend.open()
    try:
        return list(backend.verify(repair))
    finally:
        backend.close()


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def flip(path: Path, position: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def other_content(path: Path) -> None:
    """As long as it was, and a whole gzip file of something else."""
    size = path.stat().st_size
    for length in range(1, 10_000):
        data = gzip.compress(pickle.dumps("x" * length), mtime=0)
        if len(data) < size:
            padded = (
                data[:3]
                + bytes([data[3] | 16])
                + data[4:10]
                + b"c" * (size - len(data) - 1)
                + b"\0"
                + data[10:]
            )
            assert len(padded) == size
            path.write_bytes(padded)
            return


def edit_arguments(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"args": {"n": 1}', b'"args": {"n": 2}'))


def test_a_sound_cache_has_no_findings_and_every_entry_is_told_with_its_bytes(
    root: Path, made: Cache
) -> None:
    checked: dict[TaskKey, int] = {}
    before = files_of(root)
    assert list(made.backend.verify(True, checked.__setitem__)) == []
    assert {key.name.rpartition(".")[2] for key in checked} == {"Number", "WithData"}
    assert len(checked) == 3
    assert all(size > 0 for size in checked.values())
    assert files_of(root) == before


@pytest.mark.parametrize(
    ("file", "damage", "word"),
    [
        ("result.pkl.gz", flip, "result.pkl.gz"),
        ("result.pkl.gz", cut, "bytes long instead of"),
        ("result.pkl.gz", other_content, "digest"),
        ("result.pkl.gz", os.unlink, "missing"),
        ("record.json", cut, "not a whole record"),
        ("record.json", flip, "record"),
        ("record.json", edit_arguments, ""),
    ],
)
def test_a_damaged_entry_is_told_set_aside_and_computed_anew(
    root: Path, made: Cache, file: str, damage: Callable[[Path], None], word: str
) -> None:
    place = entry(root, Number(1))
    damage(place / file)
    before = files_of(root)
    told = found(root, repair=False)
    assert files_of(root) == before
    (one,) = told
    assert one.key == Number(1)._task.key
    assert not one.repaired
    assert not one.harmless
    assert word in f"{one.path} {one.fault}"
    (repaired,) = found(root)
    assert repaired.repaired
    assert not (place / "record.json").exists()
    assert (place / "record.json.damaged").exists()
    left = found(root)
    assert left
    assert all(one.harmless and ".damaged" in one.path for one in left)
    assert [event.kind for event in made.backend.events(Number(1)._task.key)] == ["damaged"]
    result, stats = Number(1).run_graph(executor="serial")
    assert result == [1] * 30
    assert sum(stats["stats"].values()) == 1


def test_a_data_file_that_was_changed_or_removed_is_told_and_its_task_computed_anew(
    root: Path, made: Cache
) -> None:
    file = entry(root, WithData()) / "data" / "a.txt"
    file.write_text("CONTENT")
    (one,) = found(root)
    assert "data/a.txt" in one.fault
    assert one.repaired
    assert file.exists()
    assert WithData().run_graph(executor="serial")[0] == 1
    assert file.read_text() == "content"
    file.unlink()
    assert any("missing" in one.fault and one.repaired for one in found(root))


def test_an_entry_in_the_place_of_another_is_told_and_does_not_count(root: Path, made: Cache) -> None:
    first, second = entry(root, Number(0)), entry(root, Number(1))
    shutil.rmtree(second)
    shutil.copytree(first, second)
    (one,) = found(root)
    assert one.repaired
    assert one.key == Number(1)._task.key
    assert f"record of {Number(0)._task.key}" in one.fault
    assert (first / "record.json").exists()
    assert Number(1).run_graph(executor="serial")[0] == [1] * 30


def test_what_a_killed_job_had_set_aside_is_put_back(root: Path, made: Cache) -> None:
    key = WithData()._task.key
    backend = DirectoryCache(root)
    backend.begin(key)
    (backend.data_directory(key, create=True) / "half").write_text("half")
    assert backend.look_up([key]) == {}
    (told,) = found(root, repair=False)
    assert told.harmless
    (one,) = found(root)
    assert one.repaired
    assert DirectoryCache(root).look_up([key])
    assert [path.name for path in (entry(root, WithData()) / "data").iterdir()] == ["a.txt"]
    assert found(root) == []


def test_what_writers_that_were_killed_left_is_removed(root: Path, made: Cache) -> None:
    part = entry(root, Number(1)) / "result.pkl.gz.0123-1-0.part"
    part.write_bytes(b"half")
    (one,) = found(root)
    assert one.harmless
    assert one.repaired
    assert not part.exists()


def test_what_a_living_run_holds_is_left_alone(root: Path, made: Cache) -> None:
    key = Number(1)._task.key
    place = entry(root, Number(1))
    (place / "result.pkl.gz.0123-1-0.part").write_bytes(b"half")
    flip(place / "result.pkl.gz")
    other = DirectoryCache(root)
    assert other.lease([key]) == {key}
    before = files_of(place)
    try:
        assert found(root) == []
        assert files_of(place) == before
    finally:
        other.close()
    assert len(found(root)) == 2


def test_what_a_newer_taskproc_has_written_is_told_and_stays(root: Path, made: Cache) -> None:
    path = entry(root, Number(1)) / "record.json"
    fields = decode_line(path.read_bytes())
    path.write_bytes(encode_line({**fields, "format": fields["format"] + 1}))
    event = encode_line({"kind": "renewed", "task": "tasks.Task", "key": "0", "what": "is not known here"})
    (root / "journal.jsonl").write_bytes(event)
    before = files_of(root)
    (one,) = found(root)
    assert "newer taskproc" in one.fault
    assert one.harmless
    after = files_of(root)
    assert {name: after[name] for name in before if "leases" not in name} == {
        name: before[name] for name in before if "leases" not in name
    }


def test_files_that_are_not_of_the_cache_are_told_and_stay(root: Path, made: Cache) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    strays = [root / "notes.txt", root / Number(1).task_name / "list.txt", entry(root, Number(1)) / "x.csv"]
    for stray in strays:
        stray.write_text("mine")
    (root / "folder").mkdir()
    (root / "folder" / "inside").mkdir()
    (root / "folder" / "inside" / "file").write_text("mine")
    (root / "elsewhere").symlink_to(outside)
    (root / Number(1).task_name / "0123456789abcdef").symlink_to(outside)
    os.mkfifo(root / "pipe")
    told = found(root)
    assert {Path(one.path) for one in told} == {
        *strays,
        root / "folder" / "inside",
        root / "elsewhere",
        root / Number(1).task_name / "0123456789abcdef",
        root / "pipe",
    }
    assert all(one.harmless and not one.repaired for one in told)
    assert all(stray.read_text() == "mine" for stray in strays)
    assert (outside / "precious").read_text() == "precious"


def test_what_is_in_the_way_of_a_folder_of_the_cache_is_told_as_wrong_and_stays(
    root: Path, made: Cache
) -> None:
    places = [entry(root, Number(1)), root / "jobs", entry(root, WithData()) / "data"]
    for place in places:
        shutil.rmtree(place)
        place.symlink_to(root.parent)
    # The entry whose data is behind a link does not count either, and is set aside beside that.
    told = {Path(one.path): one for one in found(root) if not one.repaired}
    for place in places:
        assert not told[place].repaired
        assert not told[place].harmless
        assert "remove it by hand" in told[place].fault
        assert place.is_symlink()


def test_nothing_behind_a_link_in_the_place_of_a_folder_is_removed_or_changed(
    root: Path, made: Cache
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    names = ["passwd", "0123.gz", "x.json", "x.lock", "x.lease", "x.gz.ab-1-0.part", "record.json", "1.out"]
    for name in names:
        (outside / name).write_text("precious")
        os.utime(outside / name, (1, 1))
    (outside / "folder").mkdir()
    for name in ("code", "jobs", "leases", "runs"):
        if (root / name).exists():
            shutil.rmtree(root / name)
        (root / name).symlink_to(outside)
        for repair in (False, True):
            found(root, repair)
        assert sorted(path.name for path in outside.iterdir()) == sorted([*names, "folder"])
        assert {(outside / file).read_text() for file in names} == {"precious"}
        (root / name).unlink()


def test_a_result_whose_writer_died_before_its_record_is_told_and_replaced_by_the_next_run(
    root: Path, made: Cache
) -> None:
    (entry(root, Number(1)) / "record.json").unlink()
    living = DirectoryCache(root)
    assert living.lease([Number(1)._task.key])
    assert found(root) == []  # it may be about to write it
    living.close()
    (one,) = found(root)
    assert one.harmless
    assert (entry(root, Number(1)) / "result.pkl.gz").exists()
    assert Number(1).run_graph(executor="serial")[0] == [1] * 30
    assert found(root) == []


def test_torn_lines_of_index_and_journal_are_left_out_and_all_else_in_them_stays(
    root: Path, made: Cache
) -> None:
    made.backend.note(Event("cleared", TaskKey("m.T", "abc"), 1.0))
    whole = {name: (root / name).read_bytes() for name in ("index.jsonl", "journal.jsonl")}
    for name, data in whole.items():
        lines = data.splitlines(keepends=True)
        (root / name).write_bytes(data + lines[-1][:-9])
    told = found(root, repair=False)
    assert {Path(one.path).name for one in told} == set(whole)
    assert all(one.harmless and "1 line torn" in one.fault for one in told)
    assert all(one.repaired for one in found(root))
    assert {name: (root / name).read_bytes() for name in whole} == whole
    assert found(root) == []
    assert len(made.backend.events(TaskKey("m.T", "abc"))) == 1


def test_a_row_of_the_index_that_tells_another_record_is_left_out(root: Path, made: Cache) -> None:
    import zlib

    index = root / "index.jsonl"
    lines = [line for line in index.read_bytes().splitlines() if line]
    place = f"{Number(1).task_name}/{Number(1)._task.key.digest}".encode()
    (row,) = [line for line in lines if place in line]
    body = row.split(b"\t", 1)[1].replace(b'"result_bytes": ', b'"result_bytes": 1')
    other = b"%08x\t%b" % (zlib.crc32(body), body)
    index.write_bytes(b"\n".join([*lines, other]) + b"\n")
    told = found(root)
    assert told
    assert all(one.repaired and one.harmless and one.path == str(index) for one in told)
    assert DirectoryCache(root).look_up([Number(1)._task.key])
    assert found(root) == []


def test_damaged_texts_of_code_are_removed(root: Path, made: Cache) -> None:
    text = next((root / "code").iterdir())
    flip(text)
    (one,) = found(root)
    assert one.path == str(text)
    assert one.repaired
    assert not text.exists()


def test_the_post_of_a_run_that_was_killed_is_removed_and_that_of_a_living_one_stays(
    root: Path, made: Cache
) -> None:
    living = DirectoryCache(root)
    living.post("living", {"run": "living"})
    program = (
        "import os, sys; from taskproc.default_plugins.directory_cache import DirectoryCache as D;"
        "D(sys.argv[1]).post('dead', {'run': 'dead'}); os._exit(1)"
    )
    # -1 is killed before it can take its post back; nothing else is asked of it.
    subprocess.run([sys.executable, "-c", program, str(root)], check=False, timeout=60)
    (root / "runs" / "dead.json").touch()
    (root / "jobs" / "living-12.out").write_text("in use")
    try:
        told = [one for one in found(root) if "runs" in one.path]
        assert {Path(one.path).stem for one in told} == {"dead"}
        assert all(one.repaired for one in told)
        assert living.posts() == [{"run": "living"}]
        assert found(root) == []
    finally:
        living.unpost("living")
        living.close()
    assert [Path(one.path).name for one in found(root)] == ["living-12.out"]


class ReadOnlyFiles(Files):
    """A disk that nothing can be written to."""


def refuse(self: Files, path: str, *more: object) -> NoReturn:
    raise OSError(errno.EROFS, "Read-only file system", path)


for step in ("append", "rename", "unlink", "remove_tree", "open_lock_file", "_create"):
    setattr(ReadOnlyFiles, step, refuse)


def test_the_lease_of_a_process_that_was_killed_is_removed_and_those_of_the_living_stay(
    root: Path, made: Cache
) -> None:
    living = DirectoryCache(root)
    assert living.lease([Number(1)._task.key])
    program = (
        "import os, sys; from taskproc.default_plugins.directory_cache import DirectoryCache as D;"
        "from taskproc.interfaces import TaskKey;"
        "cache = D(sys.argv[1]); cache.lease([TaskKey('m.T', 'ab')]); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(root)], check=False, timeout=60)
    try:
        (told,) = found(root, repair=False)
        assert Path(told.path).exists()
        assert told.harmless
        assert not told.repaired
        (one,) = found(root)
        assert one == dataclasses.replace(told, repaired=True)
        assert not Path(one.path).exists()
        assert living.stands(living.ticket())
        assert found(root) == []
    finally:
        living.close()


def test_a_record_that_this_user_may_not_read_is_told_and_left_as_it_is(root: Path, made: Cache) -> None:
    record = entry(root, Number(1)) / "record.json"
    record.chmod(0o666)  # others may have written it
    (one,) = found(root)
    assert not one.repaired
    assert not one.harmless
    assert record.exists()
    record.chmod(0o600)
    assert found(root) == []


def test_a_cache_that_can_not_be_written_to_is_checked_and_nothing_repaired(root: Path, made: Cache) -> None:
    flip(entry(root, Number(1)) / "result.pkl.gz")
    (entry(root, Number(0)) / "record.json.0123-1-0.part").write_text("half")
    before = files_of(root)
    cache = cache_on(root, ReadOnlyFiles())
    told = {Path(one.path).name: one for one in cache.verify(True)}
    assert set(told) == {"result.pkl.gz", "record.json.0123-1-0.part"}
    assert not any(one.repaired for one in told.values())
    assert not told["result.pkl.gz"].harmless
    assert files_of(root) == before


def test_a_directory_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CacheError, match=r"taskproc\.json"):
            DirectoryCache(folder).verify(True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match=r"taskproc\.json"):
        DirectoryCache(tmp_path).verify(True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_cache_object_verifies_itself_and_can_be_used_afterwards(root: Path, made: Cache) -> None:
    assert made.verify() == []
    flip(entry(root, Number(1)) / "result.pkl.gz")
    (one,) = made.verify(repair=False)
    assert not one.repaired
    assert not one.harmless
    (one,) = made.verify()
    assert one.repaired
    assert Number(1).run_graph(executor="serial")[0] == [1] * 30


def test_a_link_to_a_folder_of_results_is_told_as_wrong_since_runs_can_not_write_there(
    made: Cache, root: Path, tmp_path: Path
) -> None:
    folder = entry(root, Number(1)).parent
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    folder.symlink_to(moved)
    (root / "notes").symlink_to(tmp_path)  # no task's, and nobody's trouble
    before = sorted(moved.rglob("*"))
    found = {Path(one.path).name: one for one in made.verify()}
    assert "a link is in the place of a task's folder" in found[folder.name].fault
    assert not found[folder.name].harmless
    assert not found[folder.name].repaired
    assert found["notes"].harmless
    assert sorted(moved.rglob("*")) == before
