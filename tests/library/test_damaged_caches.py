"""Whatever is cut off, flipped, half written or not to be unpickled in a cache: never another value."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, FutureList, Task
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.errors import CacheError, DamagedEntryWarning, FailedTaskError, TaskprocError

Write = Callable[[str, str], Path]
Python = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.filterwarnings("ignore::taskproc.errors.DamagedEntryWarning")


class Leaf(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> list[Any]:
        print(f"leaf {self.n}")
        (self.task_directory / "file").write_text(f"file of {self.n}")
        return [self.n, "text", 3.25, {"a": (self.n, None)}]


class Small(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n * 1000 + 7


class Reads(Task):
    def __init__(self) -> None:
        self.leaves = [Leaf(1), Leaf(2)]
        self.small = FutureList([Small(n) for n in range(4)])

    def run_task(self) -> Any:
        files = [(leaf.task_directory / "file").read_text() for leaf in self.leaves]
        return [leaf.get_result() for leaf in self.leaves], files, self.small.get_result()


RIGHT = (
    [[1, "text", 3.25, {"a": (1, None)}], [2, "text", 3.25, {"a": (2, None)}]],
    ["file of 1", "file of 2"],
    [7, 1007, 2007, 3007],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with every result in it, not to be touched."""
    place = tmp_path_factory.mktemp("whole") / "cache"
    assert run(place) == RIGHT
    return place


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "cache"))


def run(place: Path) -> Any:
    with Cache(place):
        return Reads().run_graph(executor="serial")[0]


def right_or_refused(place: Path, what: object) -> None:
    """The right answer, with what is left and then again; or the marker of the cache is refused by name."""
    try:
        first = run(place)
        with Cache(place):
            Reads().clear_task()
        second = run(place)
    except CacheError as error:
        first = second = RIGHT if "taskproc.json" in str(error) else error
    assert first == RIGHT, what
    assert second == RIGHT, what


def files_of(place: Path) -> list[Path]:
    """All that the library wrote, of one entry of each class; a task's own files are looked at apart."""
    entries = [min((place / kind.task_name).iterdir()) for kind in (Leaf, Small, Reads)]
    found = [path for entry in [place, *entries] for path in entry.iterdir()]
    return sorted(path for path in found if path.is_file() and path.stat().st_size)


def test_a_file_cut_off_at_any_length_gives_no_wrong_answer(place: Path) -> None:
    for path in files_of(place):
        whole = path.read_bytes()
        for length in sorted({*range(0, len(whole), 50), 1, len(whole) - 1}):
            path.write_bytes(path.read_bytes()[:length])
            right_or_refused(place, (path, length))
            if path.parent == place:
                path.write_bytes(whole)


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bits_anywhere_give_no_wrong_answer(place: Path, seed: int) -> None:
    chance = random.Random(seed)
    for path in [path for path in files_of(place) for _ in range(3)]:
        whole = path.read_bytes()
        content = bytearray(whole)
        position = chance.randrange(len(content))
        content[position] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        right_or_refused(place, (path, position))
        if path.exists() and path.read_bytes() == bytes(content):
            path.write_bytes(whole)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"{}"])
def test_a_file_of_nothing_but_filling_gives_no_wrong_answer(place: Path, filler: bytes) -> None:
    """What a file system may leave of the newest files after a power cut: the right size, and zeros."""
    for path in files_of(place):
        size = path.stat().st_size
        path.write_bytes((filler * size)[:size])
        if path.name == "taskproc.json":
            with pytest.raises(TaskprocError, match=r"taskproc\.json"):
                run(place)
            path.write_bytes(b'{"version": 1}')
    right_or_refused(place, filler)


@pytest.mark.parametrize("name", ["result.pkl.gz", "record.json"])
def test_two_entries_with_exchanged_files_give_no_wrong_answer(place: Path, name: str) -> None:
    one, two, *_ = sorted((place / Small.task_name).glob(f"*/{name}"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    right_or_refused(place, name)


def test_two_entries_with_exchanged_folders_give_no_wrong_answer(place: Path) -> None:
    one, two, *_ = sorted((place / Small.task_name).iterdir())
    one.rename(place / "between")
    two.rename(one)
    (place / "between").rename(two)
    right_or_refused(place, "folders")


def test_a_class_folder_renamed_by_hand_gives_no_wrong_answer(place: Path) -> None:
    """As by who gave a class another name, and its old name to a new class."""
    shutil.copytree(place / Small.task_name, place / Leaf.task_name, dirs_exist_ok=True)
    shutil.rmtree(place / Small.task_name)
    right_or_refused(place, "renamed")


# --- Killed while saving ---

SAVES = """
import json, os, sys
from taskproc import Cache, Task

class Big(Task):
    task_compress_level = LEVEL

    def run_task(self):
        with open("log", "a") as log:
            log.write("x")
        (self.task_directory / "file").write_bytes(b"y" * 3_000_000)
        return bytes(range(256)) * 80_000

if __name__ == "__main__":
    with Cache("cache"):
        answer, stats = Big().run_graph(executor=sys.argv[1], max_workers=1, force="force" in sys.argv)
        on_disk = (Big().task_directory / "file").read_bytes() == b"y" * 3_000_000
    print(json.dumps([answer == bytes(range(256)) * 80_000, on_disk, sum(stats["stats"].values())]))
"""


@pytest.mark.parametrize(("executor", "force"), [("serial", True), ("process", False)])
def test_killed_in_the_middle_of_saving_there_is_the_old_entry_the_new_one_or_none(
    write: Write, start: Start, python: Python, tmp_path: Path, executor: str, force: bool
) -> None:
    script = write("tasks.py", SAVES.replace("LEVEL", "6"))
    log = tmp_path / "log"
    if force:
        assert python(script, executor) == [True, True, 1]
    for delay in (0.0, 0.02, 0.05):
        before = log.stat().st_size if log.exists() else 0
        runner = start(script, executor, "force")
        deadline = time.monotonic() + 30
        while not log.exists() or log.stat().st_size == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(delay)
        runner.send_signal(signal.SIGKILL)
        runner.communicate(timeout=30)
        assert python(script, executor)[:2] == [True, True], delay
    assert python(script, executor) == [True, True, 0]


# --- What can't be pickled, or not be unpickled ---


class Refuses:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def refuse(*_: Any) -> Any:
    raise RuntimeError("not back again")


class ComesNotBack:
    def __reduce__(self) -> Any:
        return refuse, ()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "a lock": threading.Lock,
    "a generator": lambda: (n for n in ()),
    "an open file": lambda: open(os.devnull, "w"),  # noqa: SIM115
    "an object that refuses": Refuses,
    "deep inside": lambda: {"a": [1, (Refuses(),)]},
    "too deep": lambda: nested(100_000),
}


class Returns(Task):
    def __init__(self, what: str) -> None:
        self.what = what

    def run_task(self) -> Any:
        return "stored" if os.environ.get("GOOD") else UNPICKLABLE[self.what]()


@pytest.mark.parametrize("what", UNPICKLABLE)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_result_that_can_not_be_pickled_fails_its_task_every_time_and_leaves_what_was_stored(
    cache: Cache, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(FailedTaskError, match="can't be pickled"):
            Returns(what).run_graph(executor="serial")
        assert Returns(what).plan().run
    monkeypatch.setenv("GOOD", "1")
    assert Returns(what).run_graph(executor="serial")[0] == "stored"
    monkeypatch.delenv("GOOD")
    with pytest.raises(FailedTaskError, match="can't be pickled"):
        Returns(what).run_graph(executor="serial", force=True)
    assert Returns(what).get_result() == "stored"


class ReturnsWhatComesNotBack(Task):
    def run_task(self) -> Any:
        return {"a": ComesNotBack()}


class ReadsWhatComesNotBack(Task):
    def __init__(self) -> None:
        self.up = ReturnsWhatComesNotBack()

    def run_task(self) -> Any:
        return self.up.get_result()


@pytest.mark.parametrize("executor", ["serial", "process"])
def test_a_result_that_can_not_be_unpickled_is_an_error_that_names_its_task(
    cache: Cache, executor: str
) -> None:
    for kind in (ReturnsWhatComesNotBack, ReadsWhatComesNotBack, ReturnsWhatComesNotBack):
        with pytest.raises(TaskprocError, match="ReturnsWhatComesNotBack") as caught:
            kind().run_graph(executor=executor, max_workers=1)
        assert "not back again" in str(caught.value)


def test_each_damaged_entry_is_told_once(place: Path) -> None:
    for path in sorted((place / Small.task_name).glob("*/result.pkl.gz"))[:3]:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with Cache(place):
        Reads().clear_task()
    with pytest.warns(DamagedEntryWarning) as told:
        assert run(place) == RIGHT
    assert len(told) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(place) == RIGHT


class ReadsAndTells(Task):
    def __init__(self, told: str) -> None:
        self._told = Path(told)
        self.small = Small(9)

    def run_task(self) -> int:
        self._told.touch()
        return self.small.get_result()


def test_a_damaged_result_that_another_run_is_just_replacing_is_left_to_that_run(
    cache: Cache, tmp_path: Path
) -> None:
    with cache:
        small, task = Small(9), ReadsAndTells(str(tmp_path / "told"))
        small.run_graph(executor="serial")
    (path,) = Path(cache.location).glob(f"{Small.task_name}/*/result.pkl.gz")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    other = DirectoryCache(Path(cache.location))
    assert other.lease([small._task.key])
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(task.run_graph(executor="serial")[0]))
    thread.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "told").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)  # so long it may take, and is right all the same if it takes longer
    path.write_bytes(sound)
    other.close()
    thread.join(60)
    assert answers == [9007]
    assert sorted(os.listdir(path.parent)) == ["record.json", "result.pkl.gz"]
