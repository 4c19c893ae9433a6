"""What a cache holds is asked for without running anything; what was computed elsewhere is put in."""

from __future__ import annotations

import os
import shutil
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy
import pytest
from edited_project import EditedProject

from taskproc import Cache, Const, Future, FutureList, InputFile, Task
from taskproc.errors import (
    ArgumentError,
    CacheError,
    DamagedEntryError,
    DamagedEntryWarning,
    ForeignCacheError,
    MissingInputError,
    MissingResultError,
    NoCacheError,
    SlowKeyWarning,
    UndecodableError,
    UnpicklableResultError,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Shape:
    sides: int
    names: tuple[str, ...]


class Add(Task):
    def __init__(self, x: int, y: int = 1) -> None:
        self.x, self.y = x, y

    def run_task(self) -> int:
        return self.x + self.y


class Double(Task):
    def __init__(self, upstream: Future[int]) -> None:
        self.upstream = upstream

    def run_task(self) -> int:
        return 2 * self.upstream.get_result()


class Keeps(Task):
    def __init__(self, value: Any) -> None:
        self.value = value

    def run_task(self) -> str:
        return type(self.value).__name__


class Chain(Task):
    def __init__(self, below: Any) -> None:
        self.below = below

    def run_task(self) -> int:
        return 1 + (self.below.get_result() if isinstance(self.below, Task) else 0)


class Refuses(Task):
    accepts = True

    def __init__(self, n: int) -> None:
        if not type(self).accepts:
            raise RuntimeError("not any more")
        self.n = n

    def run_task(self) -> int:
        return self.n


class Waits(Task):
    def __init__(self, started: str, go_on: str) -> None:
        self.started, self.go_on = started, go_on

    def run_task(self) -> int:
        Path(self.started).touch()
        while not Path(self.go_on).exists():
            time.sleep(0.01)
        return 1


class Holder(Task):
    """Its result holds a task."""

    def __init__(self) -> None:
        self.add = Add(5, 5)

    def run_task(self) -> dict[str, Task]:
        return {"task": self.add}


class Writes(Task):
    def run_task(self) -> str:
        (self.task_directory / "file.txt").write_text("written")
        return "done"


class Prints(Task):
    def run_task(self) -> None:
        print("printed")


class Sizes(Task):
    def __init__(self, upstream: Writes) -> None:
        self.upstream = upstream

    def run_task(self) -> str:
        return (self.upstream.task_directory / "file.txt").read_text()


def ran(task: Any, **options: Any) -> tuple[Any, int]:
    answer, stats = task.run_graph(**{"executor": "serial", **options})
    return answer, sum(stats["stats"].values())


# --- is_cached, get_record ---


def test_a_task_is_cached_from_its_run_until_it_is_cleared(cache: Cache) -> None:
    assert not Add(1).is_cached()
    ran(Add(1))
    assert Add(1).is_cached()
    Add(1).clear_task()
    assert not Add(1).is_cached()


def test_a_task_above_which_something_is_missing_is_not_cached(cache: Cache) -> None:
    ran(Double(Add(1)))
    Add(1).clear_task()
    assert not Double(Add(1)).is_cached()
    assert Double(Add(1)).get_record() is not None, "its own result is stored all the same"


def test_asking_writes_nothing_and_makes_no_cache(tmp_path: Path) -> None:
    with Cache(tmp_path / "deep" / "none") as cache:
        assert not Add(1).is_cached()
        assert "no stored result" in str(Add(1).why())
        assert Add(1).get_record() is None
        assert Add(1).get_arguments() == {"x": 1, "y": 1}
        assert len(Double(Add(1)).plan().run) == 2
        assert list(cache.tasks(Add)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_tells_what_a_result_rests_on(cache: Cache) -> None:
    ran(Double(Add(1)))
    record, above = Double(Add(1)).get_record(), Add(1).get_record()
    assert record is not None
    assert above is not None
    assert [(up.path, up.key.name, up.version) for up in record.upstreams] == [
        ("upstream", Add.task_name, above.version)
    ]
    assert above.args == {"x": 1, "y": 1}
    assert isinstance(above.provenance["seconds"], float)


# --- get_arguments ---

VALUES = [
    1, 1.0, True, None, "text", (1, 2), [1, 2], {1: "a"}, {"1": "a"}, b"bytes", {1, 2}, frozenset({1}),
    complex(1, 2), Colour.RED, Shape(3, ("a", "b")), Path("a/b"), [(1, [2, {"x": (3,)}])],
    InputFile("data.txt"), FutureList([Const(1)]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_stored_arguments_come_back_with_their_types(tmp_path: Path, value: Any) -> None:
    if isinstance(value, InputFile):
        value = InputFile(tmp_path / "data.txt")
        (tmp_path / "data.txt").write_text("")
    with Cache(tmp_path / "cache"):
        ran(Keeps(value))
    with Cache(tmp_path / "cache") as again:
        (task,) = again.tasks(Keeps)
        back = task.get_arguments()["value"]
        assert type(back) is type(value)
        if not isinstance(value, FutureList):
            assert back == value
        assert task.is_cached()
        assert task is Keeps(value)
        assert task.get_result() == type(value).__name__


def test_arguments_are_told_with_their_defaults_and_by_their_names(cache: Cache) -> None:
    assert Add(2).get_arguments() == Add(y=1, x=2).get_arguments() == {"x": 2, "y": 1}


def test_an_argument_that_was_changed_inside_comes_back_as_it_was_given(cache: Cache) -> None:
    given = [1, 2]
    task = Keeps(given)
    task.get_arguments()["value"].append(3)
    given.append(4)
    assert task.get_arguments() == {"value": [1, 2]}


def test_tasks_among_the_arguments_are_tasks_again(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        ran(Double(Add(1, 2)))
    with Cache(tmp_path / "cache") as again:
        (task,) = again.tasks(Double)
        upstream = task.get_arguments()["upstream"]
        assert upstream is Add(1, 2)
        assert task is Double(Add(1, 2))
        assert (upstream.x, upstream.get_result(), task.get_result()) == (1, 3, 6)
        assert ran(task) == (6, 0)


def test_an_argument_known_by_its_digest_only_is_told_as_such(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        ran(Keeps(numpy.arange(5)))
    with Cache(tmp_path / "cache") as again:
        (task,) = again.tasks(Keeps)
        assert task.get_result() == "ndarray"
        assert task.get_record() is not None
        assert task.task_args["value"]
        with pytest.raises(UndecodableError):
            task.get_arguments()


# --- Cache.tasks ---


def test_the_stored_tasks_of_a_class_and_of_no_other_are_listed(cache: Cache) -> None:
    for n in range(5):
        ran(Double(Add(n)))
    assert sorted(task.x for task in cache.tasks(Add)) == list(range(5))
    assert {task.get_result() for task in cache.tasks(Double)} == {2, 4, 6, 8, 10}
    assert all(type(task) is Add for task in cache.tasks(Add))


def test_listing_runs_nothing_and_names_a_cleared_task_no_more(cache: Cache) -> None:
    ran(Add(1))
    ran(Add(2))
    Add(1).clear_task()
    assert [task.x for task in cache.tasks(Add)] == [2]


def test_a_deep_chain_of_arguments_costs_no_recursion(tmp_path: Path) -> None:
    depth = 1200
    with Cache(tmp_path / "cache"):
        task = Chain(0)
        for _ in range(depth):
            task = Chain(task)
        ran(task)
    with Cache(tmp_path / "cache") as again:
        found = list(again.tasks(Chain))
        assert len(found) == depth + 1
        assert all(hasattr(task, "below") for task in found)
        top = max(found, key=lambda task: task.get_result())
        assert ran(top) == (depth + 1, 0)


def test_a_task_whose_init_raises_now_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(tmp_path / "cache"):
        ran(Refuses(4))
    monkeypatch.setattr(Refuses, "accepts", False)
    with Cache(tmp_path / "cache") as again:
        (task,) = again.tasks(Refuses)
        assert (task.get_result(), task.get_arguments()) == (4, {"n": 4})
        with pytest.raises(AttributeError):
            task.n  # noqa: B018


def test_a_task_that_was_only_listed_is_no_stand_in_for_one_that_is_constructed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(tmp_path / "cache"):
        ran(Refuses(4))
    with Cache(tmp_path / "cache") as again:
        with monkeypatch.context() as patch:
            patch.setattr(Refuses, "accepts", False)
            list(again.tasks(Refuses))
        assert Refuses(4).n == 4
        assert Refuses(4).is_cached()


def test_a_task_that_comes_out_of_a_result_is_whole(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        ran(Holder())
    with Cache(tmp_path / "cache") as again:
        (holder,) = again.tasks(Holder)
        again.instances.clear()  # as if nothing of it had been constructed yet
        task = holder.get_result()["task"]
        assert Add(5, 5) is task
        assert (task.x, task.get_result()) == (5, 10)
        assert ran(task) == (10, 0)


def test_a_damaged_result_is_listed_and_not_given_out(cache: Cache) -> None:
    ran(Add(1))
    path = next(Path(cache.location).glob("*Add*/*/result.pkl.gz"))
    path.write_bytes(path.read_bytes()[:-6] + b"wrong!")
    (task,) = cache.tasks(Add)
    with pytest.raises(DamagedEntryError):
        task.get_result()


def test_a_signature_that_changed_leaves_the_old_results_to_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = EditedProject(tmp_path, monkeypatch)
    project.write(
        tasks="from taskproc import Task\n"
        "class Old(Task):\n"
        "    def __init__(self, n):\n        self.n = n\n"
        "    def run_task(self):\n        return self.n\n"
        "def task():\n    return Old(3)\n"
    )
    assert project.run() == (3, 1)
    project.edit("tasks", "(self, n):", "(self, n, unit='m'):")
    project.forget()
    import importlib

    module = importlib.import_module("tasks")
    with Cache(project.cache) as cache:
        (task,) = cache.tasks(module.Old)
        assert task.get_arguments() == {"n": 3}
        assert task.get_result() == 3
        assert module.Old(3) is not task, "with a new parameter it is another task"
        assert not module.Old(3).is_cached()
    project.edit("tasks", "(self, n, unit='m'):\n        self.n = n", "(self, m):\n        self.n = m")
    project.forget()
    module = importlib.import_module("tasks")
    with Cache(project.cache) as cache:
        (task,) = cache.tasks(module.Old)
        assert (task.get_arguments(), task.get_result()) == ({"n": 3}, 3)


# --- put ---


def test_what_was_put_is_cached_and_is_used_below(cache: Cache) -> None:
    cache.put(Add(1), 40)
    assert Add(1).is_cached()
    assert Add(1).get_result() == 40
    assert ran(Double(Add(1))) == (80, 1)
    assert ran(Double(Add(1))) == (80, 0)


def test_what_was_put_says_so(cache: Cache) -> None:
    cache.put(Add(1), 40)
    record = Add(1).get_record()
    assert record is not None
    assert "process" in record.provenance["put"]
    assert "put in by hand at " in str(Add(1).why())


def test_putting_another_value_makes_what_is_below_stale_and_the_same_does_not(cache: Cache) -> None:
    ran(Double(Add(1)))
    cache.put(Add(1), 2)  # as it was computed
    assert Double(Add(1)).is_cached()
    cache.put(Add(1), 50)
    assert not Double(Add(1)).is_cached()
    assert ran(Double(Add(1))) == (100, 1)


def test_an_upstream_without_a_result_must_be_put_first(cache: Cache) -> None:
    with pytest.raises(MissingResultError, match=r"upstream .*Add.* at upstream .*no stored result"):
        cache.put(Double(Add(1)), 4)
    assert Double(Add(1)).get_record() is None
    cache.put(Add(1), 2)
    cache.put(Double(Add(1)), 4)
    assert ran(Double(Add(1))) == (4, 0)


def test_a_value_that_cant_be_pickled_leaves_the_old_result(cache: Cache) -> None:
    ran(Add(1))
    with pytest.raises(UnpicklableResultError, match=r"Add\(x=1, y=1\).*lock"):
        cache.put(Add(1), {"lock": threading.Lock()})
    assert ran(Add(1)) == (2, 0)


def test_only_a_task_of_this_cache_can_be_put(cache: Cache, tmp_path: Path) -> None:
    with Cache(tmp_path / "other") as other:
        elsewhere = Add(1)
    with pytest.raises(ForeignCacheError, match="other"):
        cache.put(elsewhere, 1)
    for thing in (Add, "Add", None):
        with pytest.raises(ArgumentError, match="give a task"):
            cache.put(thing, 1)  # type: ignore[arg-type]
    assert list(other.tasks(Add)) == []


def test_put_needs_the_input_file_that_the_value_rests_on(cache: Cache, tmp_path: Path) -> None:
    file = InputFile(tmp_path / "data.txt")
    with pytest.raises((MissingResultError, MissingInputError), match=r"data\.txt"):
        cache.put(Keeps(file), "value")
    (tmp_path / "data.txt").write_text("one")
    cache.put(Keeps(file), "value")
    assert Keeps(file).is_cached()
    (tmp_path / "data.txt").write_text("two")
    assert not Keeps(file).is_cached()


def test_files_written_before_a_put_belong_to_what_was_put(cache: Cache) -> None:
    (Writes().task_directory / "file.txt").write_text("by hand")
    cache.put(Writes(), "done")
    assert ran(Sizes(Writes())) == ("by hand", 1)
    assert ran(Sizes(Writes())) == ("by hand", 0)


def test_a_value_put_while_its_task_runs_is_refused(cache: Cache, tmp_path: Path) -> None:
    started, go_on = tmp_path / "started", tmp_path / "go on"

    def run() -> None:
        cache.activate()
        Waits(str(started), str(go_on)).run_graph(executor="serial")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(2000):
            if started.exists():
                break
            time.sleep(0.01)
        with Cache(cache.location) as other, pytest.raises(CacheError, match="computed by another run"):
            other.put(Waits(str(started), str(go_on)), 2)
    finally:
        go_on.touch()
        thread.join()
    assert Waits(str(started), str(go_on)).get_result() == 1


def test_what_an_older_run_printed_goes_when_a_value_is_put(cache: Cache) -> None:
    with cache:
        ran(Prints(), executor="process")
        assert Prints().task_stdout.read_text() == "printed\n"
        cache.put(Prints(), 2)
        assert not Prints().task_stdout.exists()


def test_a_value_put_while_its_task_is_cleared_is_stored_or_refused_as_such(cache: Cache) -> None:
    clearing, task = threading.Event(), Add(7)

    def clear() -> None:
        while not clearing.is_set():
            cache.clear(task)

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for n in range(100):
            with suppress(CacheError):
                cache.put(task, n)
    finally:
        clearing.set()
        thread.join()
    cache.put(task, 100)
    assert task.get_result() == 100


def test_why_shows_the_edit_since_a_value_was_put(tmp_path: Path, write: Any, python: Any) -> None:
    source = """
import json, sys
from taskproc import Cache, Task

class A(Task):
    def run_task(self):
        return 1

with Cache("cache") as cache:
    if sys.argv[1:]:
        cache.put(A(), 5)
    print(json.dumps(str(A().why())))
"""
    script = write("tasks.py", source)
    python(script, "put")
    write("tasks.py", source.replace("return 1", "return 2"))
    told = python(script)
    assert "-        return 1" in told
    assert "+        return 2" in told


def test_another_process_finds_what_was_put(tmp_path: Path, python: Any, write: Any) -> None:
    script = write(
        "script.py",
        "import json, sys\n"
        "from taskproc import Cache, Task\n"
        "class Add(Task):\n"
        "    def __init__(self, n): self.n = n\n"
        "    def run_task(self): return self.n\n"
        "if __name__ == '__main__':\n"
        "    with Cache('cache') as cache:\n"
        "        if sys.argv[1] == 'put': cache.put(Add(1), {'a': [1]})\n"
        "        answer, stats = Add(1).run_graph()\n"
        "        print(json.dumps([answer, sum(stats['stats'].values())]))\n",
    )
    assert python(script, "put") == [{"a": [1]}, 0]
    assert python(script, "ask") == [{"a": [1]}, 0]


# --- why, in Python ---


def test_why_tells_who_cleared_a_result_and_when(cache: Cache) -> None:
    ran(Double(Add(1)))
    Add(1).clear_task()
    assert "cleared by hand at 20" in str(Add(1).why())
    told = Double(Add(1)).why()
    assert told.reason is not None
    assert told.reason.kind == "upstream_runs"
    assert [origin.key for origin in told.origins] == [Add(1)._task.key]
    Add.clear_all_tasks()
    assert "cleared by hand at 20" in str(Add(1).why())


def test_what_was_cleared_and_computed_again_has_no_past(cache: Cache) -> None:
    ran(Add(1))
    Add(1).clear_task()
    ran(Add(1))
    assert "cleared" not in str(Add(1).why())


def test_a_result_whose_folder_was_removed_by_hand_is_told_from_one_that_never_was(cache: Cache) -> None:
    ran(Add(1))
    shutil.rmtree(next(Path(cache.location).glob("*Add*/*")))
    assert "its folder was removed by hand" in str(Add(1).why())
    assert "removed" not in str(Add(2).why())


def test_of_new_arguments_the_nearest_that_are_stored_are_told(cache: Cache) -> None:
    ran(Add(1, 2))
    ran(Add(7, 8))
    assert "other arguments: y is 2 there and 3 here" in str(Add(1, 3).why())
    ran(Double(Add(1)))
    told = str(Double(Add(2)).why())
    assert "runs" in told or "upstream is " in told


def test_two_long_arguments_that_differ_far_behind_are_told_to_differ(cache: Cache) -> None:
    ran(Keeps("x" * 200 + "a"))
    assert "value differs, behind" in str(Keeps("x" * 200 + "b").why())


def test_a_flipped_bit_is_found_by_why_before_anything_runs(cache: Cache) -> None:
    ran(Add(1))
    path = next(Path(cache.location).glob("*Add*/*/result.pkl.gz"))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    told = Add(1).why()
    assert not told.is_cached
    assert "damaged: digest differs" in str(told)


def test_a_changed_file_of_its_data_directory_is_found_by_why(cache: Cache) -> None:
    ran(Writes())
    (Writes().task_directory / "file.txt").write_text("wrxtten")
    told = Writes().why()
    assert not told.is_cached
    assert "damaged: digest differs" in str(told)
    assert "file.txt" in str(told)


def test_a_result_that_was_set_aside_as_damaged_is_told_so(cache: Cache) -> None:
    ran(Add(1))
    path = next(Path(cache.location).glob("*Add*/*/result.pkl.gz"))
    path.write_bytes(b"nothing of the kind " * 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedEntryWarning)
        told = str(Add(1).why())
    assert "damaged: digest differs" in told


def test_an_attribute_that_init_left_otherwise_is_told_by_value(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reads(Task):
        def __init__(self) -> None:
            self.setting = os.environ["LEVEL"]

        def run_task(self) -> str:
            return self.setting

    monkeypatch.setenv("LEVEL", "1")
    ran(Reads())
    monkeypatch.setenv("LEVEL", "2")
    with Cache(cache.location):
        told = str(Reads().why())
    assert "what its __init__ left in the attributes changed" in told
    assert 'setting was "1", is "2"' in told


# --- slow keys ---


class Lots:
    """Takes its time to say what it is."""

    seconds = 0.15

    def __init__(self, n: int) -> None:
        self.n = n

    def __task_args__(self) -> int:
        time.sleep(type(self).seconds)
        return self.n


def test_a_slow_key_warns_once_and_names_the_argument(cache: Cache) -> None:
    class Takes(Task):
        def __init__(self, quick: int, slow: Lots) -> None:
            self.quick = quick

        def run_task(self) -> int:
            return self.quick

    with pytest.warns(SlowKeyWarning, match=r"Takes\(slow=\.\.\.\).*Lots.*InputFile") as caught:
        Takes(1, Lots(1))
    assert len(caught) == 1
    assert caught[0].filename == __file__, "it points to the line that constructs the task"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Takes(2, Lots(2))


def test_a_quick_key_does_not_warn(cache: Cache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Keeps(list(range(1000)))


# --- wrong places ---


def test_without_a_cache_nothing_can_be_asked(tmp_path: Path) -> None:
    with pytest.raises(NoCacheError):
        Add(1)


def test_inside_a_run_task_the_pipeline_is_not_asked(cache: Cache) -> None:
    class Asks(Task):
        def __init__(self) -> None:
            self.add = Add(1)

        def run_task(self) -> list[str]:
            told = []
            for ask in (self.add.is_cached, self.add.why, self.add.plan, self.add.get_arguments):
                try:
                    ask()
                except NoCacheError as error:
                    told.append(str(error))
            assert self.add.get_record() is not None
            return told

    answer, _ = ran(Asks())
    assert len(answer) == 4
    assert all("run_task" in text for text in answer)
