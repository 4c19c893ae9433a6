"""What a task is: one object a key, in whatever Cache is open, of whatever kind of class."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import attrs
import pytest

from taskproc import Cache, Const, Future, Task
from taskproc.core.definition import BUILT_IN_NAMES
from taskproc.errors import ArgumentError, ForeignCacheError, NoCacheError, TaskDefinitionError

T = TypeVar("T")


class Choose(Task):
    def __init__(self, n: int, k: int = 1) -> None:
        self.left: Future[int]
        self.right: Future[int]
        if 0 < k < n:
            self.left = Choose(n - 1, k - 1)
            self.right = Choose(n - 1, k)
        else:
            self.left, self.right = Const(0), Const(1)

    def run_task(self) -> int:
        return self.left.get_result() + self.right.get_result()


class Counted(Task):
    """Counts its constructions."""

    calls: list[int] = []

    def __init__(self, n: int) -> None:
        Counted.calls.append(n)
        time.sleep(0.002)
        self.n = n

    def run_task(self) -> int:
        return self.n


class Shape(Task, ABC):
    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def area(self) -> int: ...

    def run_task(self) -> int:
        return self.area()


class Square(Shape):
    def area(self) -> int:
        return self.size**2


class Boxed(Task, Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    def run_task(self) -> T:
        return self.value


class HasSize(Protocol):
    size: int

    def run_task(self) -> int: ...


class Sized(Task, HasSize):
    def __init__(self, size: int) -> None:
        self.size = size

    def run_task(self) -> int:
        return self.size


@dataclass
class Plain(Task):
    n: int
    upstream: Future[int]
    more: list[int] = field(default_factory=list)

    def run_task(self) -> int:
        return self.n + self.upstream.get_result() + sum(self.more)


@dataclass(frozen=True)
class Frozen(Task):
    n: int
    upstream: Future[int]

    def run_task(self) -> int:
        return self.n + self.upstream.get_result()


@dataclass(frozen=True, slots=True)
class Slotted(Task):
    n: int
    upstream: Future[int]

    def run_task(self) -> int:
        return self.n + self.upstream.get_result()


@attrs.define
class Defined(Task):
    n: int
    upstream: Future[int]

    def run_task(self) -> int:
        return self.n + self.upstream.get_result()


@attrs.frozen
class FrozenAttrs(Task):
    n: int
    upstream: Future[int]

    def run_task(self) -> int:
        return self.n + self.upstream.get_result()


@dataclass
class Uncopyable:
    n: int

    def __deepcopy__(self, memo: Any) -> Uncopyable:
        raise RuntimeError("there is only one")


class Base(Task):
    def __init__(self, n: int) -> None:
        self.n = n
        self.upstream = Const(n)

    def run_task(self) -> int:
        return self.n + self.upstream.get_result()


class Derived(Base):
    def __init__(self, n: int, m: int) -> None:
        super().__init__(n + m)
        self.m = m

    def run_task(self) -> int:
        return super().run_task() + self.m


class NoInit(Derived):
    pass


# --- Caches ---


def test_constructing_outside_a_cache_is_a_runtime_error_that_says_how_to_open_one() -> None:
    with pytest.raises(RuntimeError, match=r"Choose is constructed with no Cache open.*with Cache\("):
        Choose(6, 3)


def test_class_level_facts_need_no_cache() -> None:
    class Labelled(Task):
        task_label = ("gpu", "big")

        def run_task(self) -> None: ...

    assert Choose.task_name == "test_task_identity.Choose"
    assert Labelled.task_label == ("gpu", "big")
    assert Labelled.task_compress_level == 9


def test_clear_all_tasks_outside_a_cache_is_an_error() -> None:
    with pytest.raises(NoCacheError, match="clear_all_tasks"):
        Choose.clear_all_tasks()


def test_caches_nest_and_the_innermost_one_counts(tmp_path: Path) -> None:
    with Cache(tmp_path / "outer"):
        outside = Choose(4, 2)
        with Cache(tmp_path / "inner"):
            inside = Choose(4, 2)
            assert inside is not outside
        assert Choose(4, 2) is outside
        assert Choose.task_name == inside.task_name
    inside.run_graph(executor="serial")
    assert inside.get_result() == 6
    with pytest.raises(LookupError):
        outside.get_result()
    assert not (tmp_path / "outer").exists()


def test_a_cache_is_left_when_its_body_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Cache(tmp_path / "cache"):
        raise ZeroDivisionError
    with pytest.raises(NoCacheError):
        Choose(1)


def test_a_cache_is_a_decorator(tmp_path: Path) -> None:
    @Cache(tmp_path / "cache")
    def answer(n: int) -> int:
        return Choose(n, 2).run_graph(executor="serial")[0]

    assert [answer(4), answer(5)] == [6, 10]
    with pytest.raises(NoCacheError):
        Choose(1)


def test_a_cache_may_be_opened_again_and_within_itself(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with cache:
        first = Choose(3, 1)
        with cache:
            assert Choose(3, 1) is first
        assert Choose(3, 1) is first
    with cache:
        assert Choose(3, 1) is first


def test_a_task_remembers_its_cache_after_the_with_ended(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        task = Choose(6, 3)
    answer, _ = task.run_graph(executor="serial")
    assert answer == task.get_result() == 20
    task.clear_task()
    assert task.plan().run_counts == {task.task_name: 1}


def test_an_upstream_of_another_cache_is_an_error_naming_both(tmp_path: Path) -> None:
    with Cache(tmp_path / "one"):
        stranger = Choose(3, 1)
    with Cache(tmp_path / "two"):
        task = Plain(1, stranger)
        with pytest.raises(ForeignCacheError) as caught:
            task.run_graph(executor="serial")
    assert str(tmp_path / "one") in str(caught.value)
    assert str(tmp_path / "two") in str(caught.value)
    assert not (tmp_path / "two").exists()


def test_two_caches_on_one_path_share_their_results(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        Choose(4, 2).run_graph(executor="serial")
    with Cache(tmp_path / "cache"):
        assert Choose(4, 2).get_result() == 6
        assert Choose(4, 2).run_graph()[1]["stats"] == {}


# --- One instance a key ---


def test_equal_arguments_give_the_same_object_however_they_are_passed(cache: Cache) -> None:
    assert Choose(6, 3) is Choose(6, 3)
    assert Choose(6) is Choose(6, 1)
    assert Choose(6, 1) is Choose(n=6, k=1)
    assert Choose(k=1, n=6) is Choose(6, k=1)
    assert Choose(6, 2) is not Choose(6, 3)


def test_init_runs_once_a_key(cache: Cache) -> None:
    Counted.calls.clear()
    for _ in range(3):
        Counted(1)
        Counted(n=1)
    assert Counted.calls == [1]


def test_init_runs_once_a_key_under_threads(cache: Cache) -> None:
    Counted.calls.clear()
    found: list[Counted] = []
    barrier = threading.Barrier(8)

    def construct() -> None:
        cache.activate()
        for n in range(40):
            barrier.wait()
            task = Counted(n)
            assert task.n == n  # built to the end before anybody gets it
            found.append(task)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=construct) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(found) == 320
    assert sorted(Counted.calls) == list(range(40))
    assert len({id(task) for task in found}) == 40


def test_threads_that_met_an_unbuilt_task_build_it_once(cache: Cache) -> None:
    met = threading.Barrier(2)
    built: list[Task] = []

    class Late(Task):
        calls = 0

        def __new__(cls, n: int) -> Late:
            task = super().__new__(cls, n)
            met.wait(10)  # both threads hold the task, and neither has begun its __init__
            return task

        def __init__(self, n: int) -> None:
            Late.calls += 1
            time.sleep(0.05)
            self.n = n

        def run_task(self) -> int:
            return self.n

    def construct() -> None:
        cache.activate()
        task = Late(1)
        assert task.n == 1
        built.append(task)

    threads = [threading.Thread(target=construct) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Late.calls == 1
    assert len(built) == 2
    assert built[0] is built[1]


def test_another_thread_has_no_cache_open_until_it_activates_one(cache: Cache) -> None:
    seen: list[Any] = []

    def construct() -> None:
        try:
            Choose(2)
        except NoCacheError as error:
            seen.append("activate()" in str(error))
        cache.activate()
        seen.append(Choose(2))

    thread = threading.Thread(target=construct)
    thread.start()
    thread.join()
    assert seen == [True, Choose(2)]


def test_an_init_that_raises_leaves_nothing_behind(cache: Cache) -> None:
    class Moody(Task):
        good = False

        def __init__(self, n: int) -> None:
            if not Moody.good:
                raise ValueError("not today")
            self.n = n

        def run_task(self) -> int:
            return self.n

    with pytest.raises(ValueError, match="not today"):
        Moody(1)
    Moody.good = True
    assert Moody(1).n == 1


def test_an_argument_that_can_not_be_copied_is_the_same_error_each_time(cache: Cache) -> None:
    for _ in range(2):  # a task that is left half built would be waited for
        with pytest.raises(ArgumentError, match=r"Uncopyable can't be copied"):
            Boxed(Uncopyable(1))


def test_constructing_writes_nothing(cache: Cache, tmp_path: Path) -> None:
    task = Choose(6, 3)
    assert task.task_args == {"n": 6, "k": 3}
    assert task.task_stdout.parent == task.task_stderr.parent
    assert list(tmp_path.iterdir()) == []


def test_copy_and_deepcopy_give_the_task_itself(cache: Cache) -> None:
    task = Choose(6, 3)
    assert copy.copy(task) is task
    assert copy.deepcopy({"a": [task]})["a"][0] is task


def test_a_pickled_task_is_a_short_reference(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        task = Choose(30, 15)
        text = pickle.dumps(task)
        assert len(text) < 300
        assert pickle.loads(text) is task
        task.run_graph(executor="serial")
    with Cache(tmp_path / "cache"):
        again = pickle.loads(text)
        assert again.get_result() == task.get_result()
    with pytest.raises(NoCacheError, match="unpickle it inside"):
        pickle.loads(text)


def test_task_id_is_an_integer_of_its_own_for_each_task(cache: Cache) -> None:
    ids = {Choose(n, k).task_id for n in range(2, 8) for k in range(1, n)}
    assert all(isinstance(task_id, int) for task_id in ids)
    assert len(ids) == 21


def test_to_json_is_the_name_and_the_key(cache: Cache) -> None:
    task = Choose(6, 3)
    assert task.to_json().keys() == {"__task__", "__key__"}
    assert task.to_json()["__task__"] == Choose.task_name
    assert int(task.to_json()["__key__"], 16) == task.task_id


# --- Kinds of classes ---


@pytest.mark.parametrize("cls", [Plain, Frozen, Slotted, Defined, FrozenAttrs])
def test_dataclass_and_attrs_tasks_work(cache: Cache, cls: Any) -> None:
    task = cls(5, upstream=Choose(4, 2))
    assert cls(5, Choose(4, 2)) is task
    assert task.run_graph(max_workers=2)[0] == 11
    assert task.run_graph()[1]["stats"] == {}
    assert cls(6, Choose(4, 2)) is not task


def test_a_default_factory_gives_each_task_its_own_value(cache: Cache) -> None:
    one, two = Plain(1, Const(0)), Plain(2, Const(0))
    assert one is Plain(1, Const(0), [])
    assert one.more == two.more == []
    assert one.more is not two.more


def test_abstract_generic_and_protocol_tasks_work(cache: Cache) -> None:
    with pytest.raises(TypeError, match="abstract"):
        Shape(3)  # type: ignore[abstract]
    assert Square(3) is Square(size=3)
    assert Boxed[int](4) is Boxed(4)
    total = Plain(0, Square(3)).run_graph(max_workers=1)[0]
    assert total == 9
    assert Plain(1, Boxed[int](4)).run_graph(max_workers=1)[0] == 5
    assert Plain(1, Sized(6)).run_graph(max_workers=1)[0] == 7


def test_inheritance_with_super_init_works(cache: Cache) -> None:
    assert Derived(1, 2) is Derived(n=1, m=2)
    assert Derived(1, 2).run_graph(executor="serial")[0] == 8
    assert NoInit(1, 2).run_graph(executor="serial")[0] == 8
    assert NoInit(1, 2) is not Derived(1, 2)
    assert Base(3) is not Derived(1, 2)


def test_two_classes_of_one_name_are_two_tasks(cache: Cache) -> None:
    def make(value: int) -> type[Task]:
        class Local(Task):
            def run_task(self) -> int:
                return value

        return Local

    one, two = make(1), make(2)
    assert one.task_name == two.task_name
    assert one() is not two()
    assert one().run_graph(executor="serial")[0] == 1
    assert two().run_graph(executor="serial")[0] == 2


# --- Wrong classes ---


@pytest.mark.parametrize("name", sorted(BUILT_IN_NAMES - {"_task_name", "_task_class"}))
def test_overriding_a_built_in_name_is_an_error_when_the_class_is_made(name: str) -> None:
    with pytest.raises(TaskDefinitionError, match=rf"Bad\.{name} overrides a built-in name"):
        type("Bad", (Task,), {name: None, "run_task": lambda self: None})


def test_a_built_in_name_can_not_be_overridden_by_a_mixin() -> None:
    class Mixin:
        def task_id(self) -> int:
            return 1

    with pytest.raises(TaskDefinitionError, match=r"Mixin\.task_id"):
        type("Bad", (Mixin, Task), {})


def test_a_built_in_property_can_not_be_set_on_a_task(cache: Cache) -> None:
    class Bad(Task):
        def __init__(self, name: str) -> None:
            setattr(self, name, "mine")

        def run_task(self) -> None: ...

    for name in ("task_name", "task_id", "task_args", "task_directory", "task_stdout", "task_stderr"):
        with pytest.raises(AttributeError, match=name):
            Bad(name)


def test_a_task_without_run_task_is_an_error_that_names_it(cache: Cache) -> None:
    class Idle(Task):
        pass

    with pytest.raises(TaskDefinitionError, match=r"Idle has no run_task"):
        Idle()


@pytest.mark.parametrize("label", [3, [1], None])
def test_a_bad_label_is_an_error_when_the_class_is_made(label: Any) -> None:
    with pytest.raises(TaskDefinitionError, match="task_label"):
        type("Bad", (Task,), {"task_label": label})


@pytest.mark.parametrize("level", [-1, 10, True, "9"])
def test_a_bad_compress_level_is_an_error_when_the_class_is_made(level: Any) -> None:
    with pytest.raises(TaskDefinitionError, match="task_compress_level"):
        type("Bad", (Task,), {"task_compress_level": level})
