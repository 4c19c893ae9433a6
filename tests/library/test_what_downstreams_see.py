"""A downstream sees more of its upstreams than their results: whatever it saw, it is stale when that changes.

In each test the upstream is run alone in between and comes to the same result, so that nothing
but what the downstream saw besides can tell that the downstream is stale.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edited_project import EditedProject

from taskproc import Cache, Const, Future, FutureDict, FutureList, InputFile, Task
from taskproc.errors import TaskprocError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditedProject]:
    made = EditedProject(tmp_path, monkeypatch)
    yield made
    made.forget()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEEN", "a")
    return tmp_path / "cache"


def run(make: Callable[[], Task], where: Path, **options: Any) -> tuple[Any, int]:
    with Cache(where):
        answer, stats = make().run_graph(executor="serial", **options)
    return answer, sum(stats["stats"].values())


def never_old(make: Callable[[], Task], where: Path, new: Any, **options: Any) -> None:
    """The answer is the new one, unless the run refuses, saying that this can't be followed."""
    try:
        answer, _ = run(make, where, **options)
    except TaskprocError as error:
        answer = str(error)
    assert answer == new or "upstream" in answer


class Bottom(Task):
    def __init__(self) -> None:
        self.seen = os.environ["SEEN"]

    def run_task(self) -> str:
        (self.task_directory / "file").write_text(self.seen)
        return self.seen


class Middle(Task):
    """Its result is the same whatever it sees."""

    def __init__(self) -> None:
        self.seen = os.environ["SEEN"]
        self.bottom = Bottom()

    def run_task(self) -> int:
        return 0


class ReadsAttribute(Task):
    def __init__(self, middle: Middle | None = None) -> None:
        self.middle = middle or Middle()

    def run_task(self) -> str:
        return self.middle.seen


class ReadsBelow(Task):
    def __init__(self) -> None:
        self.middle = Middle()

    def run_task(self) -> str:
        return self.middle.bottom.get_result()


class ReadsFilesBelow(Task):
    def __init__(self) -> None:
        self.middle = Middle()

    def run_task(self) -> str:
        return (self.middle.bottom.task_directory / "file").read_text()


class Hands(Task):
    """Its result is a task."""

    def __init__(self) -> None:
        self.bottom = Bottom()

    def run_task(self) -> Bottom:
        return self.bottom


class ReadsHanded(Task):
    def __init__(self) -> None:
        self.hands = Hands()

    def run_task(self) -> str:
        return self.hands.get_result().get_result()


@pytest.mark.parametrize(
    ("between", "reads"),
    [
        (Middle, ReadsAttribute),
        (Middle, lambda: ReadsAttribute(Middle())),
        (Middle, ReadsBelow),
        (Middle, ReadsFilesBelow),
        (Hands, ReadsHanded),
    ],
    ids=["attribute", "attribute of an argument", "result below", "files below", "task in a result"],
)
def test_what_a_downstream_reads_beside_the_result_makes_it_stale(
    place: Path, between: Callable[[], Task], reads: Callable[[], Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_old(reads, place, "a")
    monkeypatch.setenv("SEEN", "b")
    run(between, place)
    never_old(reads, place, "b")


@pytest.mark.parametrize("early_cutoff", [False, True])
@pytest.mark.parametrize("reads", [ReadsAttribute, ReadsBelow, ReadsFilesBelow, ReadsHanded])
def test_in_one_run_a_recomputed_upstream_reaches_all_that_stands_below_it(
    place: Path, reads: Callable[[], Task], early_cutoff: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_old(reads, place, "a")
    monkeypatch.setenv("SEEN", "b")
    never_old(reads, place, "b", early_cutoff=early_cutoff)


def test_a_task_that_is_no_upstream_is_no_silent_input(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task in a closure is none of the attributes, so nothing would ever tell that it changed."""

    def reads() -> Task:
        other = Bottom()
        other.run_graph(executor="serial")

        class Closure(Task):
            def run_task(self) -> str:
                return other.get_result()

        return Closure()

    never_old(reads, place, "a")
    monkeypatch.setenv("SEEN", "b")
    never_old(reads, place, "b")


# --- Which part of a Future ---


class Parts(Task):
    def run_task(self) -> dict[str, int]:
        return {"a": 1, "b": 2}


class Number(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


def chosen(seen: str) -> dict[str, Any]:
    """For each name two Futures that differ in one way only."""
    one, two = Number(1), Number(2)
    is_a = seen == "a"
    return {
        "item": Parts()[seen],
        "list": FutureList([one, two] if is_a else [two, one]),
        "dict": FutureDict({"a": one, "b": two} if is_a else {"a": two, "b": one}),
        "keys": FutureDict({"a": one} if is_a else {"b": one}),
        "const": FutureList([Const([seen])]),
        "length": FutureList([one, one] if is_a else [one]),
    }


class Chooses(Task):
    def __init__(self, what: str) -> None:
        self.future: Future[Any] = chosen(os.environ["SEEN"])[what]

    def run_task(self) -> Any:
        return self.future.get_result()


class ChoosesInSecret(Task):
    """A name with a leading underscore hides plain values, but a Future in it is an upstream all the same."""

    def __init__(self, what: str) -> None:
        self._future: Future[Any] = chosen(os.environ["SEEN"])[what]

    def run_task(self) -> Any:
        return self._future.get_result()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        *[(Chooses, what) for what in ("item", "list", "dict", "keys", "const", "length")],
        *[(ChoosesInSecret, what) for what in ("item", "list", "dict", "keys", "length")],
    ],
)
def test_which_part_of_its_upstreams_a_task_reads_counts(
    place: Path, kind: type[Chooses], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = run(lambda: kind(what), place)
    monkeypatch.setenv("SEEN", "b")
    after, ran = run(lambda: kind(what), place)
    with Cache(place):
        assert after == chosen("b")[what].get_result()
    assert after != before
    assert ran == 1


# --- Code that comes with an upstream ---

VALUES = """
class Value:
    def __init__(self, n):
        self.n = n

    def scaled(self):
        return self.n * 10

def scale(n):
    return n * 10
"""

PIPELINE = """
import values
from taskproc import Task

FACTOR = 10

class Up(Task):
    factor = 10

    def run_task(self):
        return 7

    def scaled(self):
        return self.get_result() * 10

    @property
    def ten(self):
        return FACTOR

class Gives(Task):
    def run_task(self):
        return {what}

class Down(Task):
    def __init__(self, up):
        self.up = up

    def run_task(self):
        return {how}

def task():
    return Down({up}())
"""

CODE_OF_RESULTS = {
    "an object": ("values.Value(7)", "self.up.get_result().scaled()"),
    "an object deep inside": ("[{'it': values.Value(7)}]", "self.up.get_result()[0]['it'].scaled()"),
    "a class": ("values.Value", "self.up.get_result()(7).scaled()"),
    "a function": ("values.scale", "self.up.get_result()(7)"),
    "a bound method": ("values.Value(7).scaled", "self.up.get_result()()"),
}


@pytest.mark.parametrize("what", CODE_OF_RESULTS)
def test_the_code_of_what_an_upstream_returned_counts(project: EditedProject, what: str) -> None:
    made, how = CODE_OF_RESULTS[what]
    project.write(
        values=VALUES, tasks=PIPELINE.replace("{what}", made).replace("{how}", how).replace("{up}", "Gives")
    )
    assert project.run()[0] == 70
    assert project.run() == (70, 0)
    project.write(values=VALUES.replace("* 10", "* 1000"))
    project.run("Gives()")
    assert project.run()[0] == 7000
    assert project.run() == (7000, 0)


@pytest.mark.parametrize("how", ["self.up.scaled()", "7 * self.up.ten"])
def test_the_code_of_an_upstream_that_its_downstream_calls_counts(project: EditedProject, how: str) -> None:
    """The upstream is an argument: the downstream's class does not name its class."""
    text = PIPELINE.replace("{what}", "0").replace("{how}", how).replace("{up}", "Up")
    project.write(values=VALUES, tasks=text)
    assert project.run()[0] == 70
    assert project.run() == (70, 0)
    project.write(tasks=text.replace("* 10", "* 1000").replace(" = 10", " = 1000"))
    project.run("Up()")
    assert project.run()[0] == 7000
    assert project.run() == (7000, 0)


@pytest.mark.parametrize("early_cutoff", [False, True])
@pytest.mark.parametrize("how", ["self.up.scaled()", "self.up.get_result().scaled()"])
def test_in_one_run_an_edit_of_such_code_reaches_the_downstream(
    project: EditedProject, how: str, early_cutoff: bool
) -> None:
    up = "Up" if how == "self.up.scaled()" else "Gives"
    text = PIPELINE.replace("{what}", "values.Value(7)").replace("{how}", how).replace("{up}", up)
    project.write(values=VALUES, tasks=text)
    assert project.run()[0] == 70
    project.write(tasks=text.replace("* 10", "* 1000"), values=VALUES.replace("* 10", "* 1000"))
    assert project.run(early_cutoff=early_cutoff)[0] == 7000


# --- Around the corner ---

CORNERS = {
    "a method that calls another": ("", "return self.up.outer()"),
    "a function that calls the method": ("def use(up):\n    return up.inner()\n", "return use(self.up)"),
    "what Python calls by itself": ("", "return len(self.up)"),
}


@pytest.mark.parametrize("name", CORNERS)
def test_methods_of_an_upstream_count_however_they_are_come_to(project: EditedProject, name: str) -> None:
    helper, how = CORNERS[name]
    text = (
        "from taskproc import Task\n\nclass Up(Task):\n    def run_task(self):\n        return 1\n"
        "    def inner(self):\n        return 10\n    def outer(self):\n        return self.inner()\n"
        "    def __len__(self):\n        return 10\n\n"
        f"{helper}\nclass Down(Task):\n    def __init__(self, up):\n        self.up = up\n"
        f"    def run_task(self):\n        {how}\n\ndef task():\n    return Down(Up())\n"
    )
    project.write(tasks=text)
    assert project.run() == (10, 2)
    project.write(tasks=text.replace("return 10", "return 20"))
    project.run("Up()")
    assert project.run() == (20, 1)


class Holder(Task):
    """Its own result never changes; what it shows does."""

    def __init__(self) -> None:
        self.one = Number(ord(os.environ["SEEN"]))
        self.file = InputFile(os.environ["FILE"])

    def run_task(self) -> int:
        return 0


class LooksPast(Task):
    def __init__(self, what: str) -> None:
        self.holder = Holder()
        self.what = what

    def run_task(self) -> Any:
        if self.what == "task":
            return self.holder.one.get_result()
        return self.holder.file.get_result().read_text()


def test_tasks_and_files_that_an_upstream_shows_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place.parent / "data.txt"
    file.write_text("a")
    monkeypatch.setenv("FILE", str(file))
    for what, old, new in (("task", ord("a"), ord("b")), ("file", "a", "b")):
        monkeypatch.setenv("SEEN", "a")
        file.write_text("a")
        assert run(lambda what=what: LooksPast(what), place)[0] == old
        assert run(lambda what=what: LooksPast(what), place) == (old, 0)
        monkeypatch.setenv("SEEN", "b")
        file.write_text("b")
        run(Holder, place)
        assert run(lambda what=what: LooksPast(what), place)[0] == new
