"""How failures are told: task, arguments, exception, logs; and what still runs."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Const, FailedTaskError, FutureList, Task
from taskproc.errors import TaskprocError, UnpicklableResultError


class Fails(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> None:
        print(f"line one\nabout to fail {self.n}")
        print("on stderr", file=sys.stderr)
        broken(self.n)


def broken(n: int) -> None:
    raise KeyError(f"no such thing: {n}")


class Sleeps(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        time.sleep(0.4)
        return self.n


class Fine(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


class Needs(Task):
    def __init__(self, n: int) -> None:
        self.up = Fails(n)

    def run_task(self) -> None:
        raise AssertionError("never run")


class Several(Task):
    def __init__(self, *parts: Any) -> None:
        self.parts = FutureList(parts)

    def run_task(self) -> Any:
        return self.parts.get_result()


class TwoArguments(Exception):
    """Pickles, but does not come back: its __init__ wants two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Holds(Exception):
    """Can't be pickled at all."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Raises(Task):
    def __init__(self, what: str) -> None:
        self.what = what

    def run_task(self) -> None:
        if self.what == "two":
            raise TwoArguments("this", "that")
        if self.what == "holds":
            raise Holds("held fast")
        if self.what == "mute":
            raise Mute
        if self.what == "noted":
            error = ValueError("with a note")
            error.add_note("the note")
            raise error from OSError("the reason")
        if self.what == "group":
            raise ExceptionGroup("many", [ValueError("a"), TypeError("b")])


@dataclass(slots=True)
class Slotted:
    held: Any


class Gives(Task):
    """A result that can't be pickled."""

    def __init__(self, what: str) -> None:
        self.what = what

    def run_task(self) -> Any:
        if self.what == "nested":
            return {"fine": 1, "bad": [0, (threading.Lock(),)]}
        if self.what == "generator":
            return (n for n in range(3))
        return [Slotted(Const({"lock": threading.Lock()}))]


class KeepsLock(Task):
    def __init__(self, hidden: bool) -> None:
        if hidden:
            self._lock = threading.Lock()
        else:
            self.lock = threading.Lock()

    def run_task(self) -> int:
        return 1


def fail(task: Task, **options: Any) -> FailedTaskError:
    options.setdefault("max_workers", 1)
    with pytest.raises(FailedTaskError) as caught:
        task.run_graph(**options)
    return caught.value


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_a_failed_task_names_task_arguments_exception_and_logs_with_their_paths(
    cache: Cache, executor: str
) -> None:
    task = Fails(3)
    error = fail(Several(task), executor=executor)
    text = str(error)
    assert f"{Fails.task_name} failed: KeyError: 'no such thing: 3'" in text
    assert '{"n": 3}' in text
    assert f"stdout ({task.task_stdout})" in text
    assert "| about to fail 3" in text
    assert f"stderr ({task.task_stderr})" in text
    assert "| on stderr" in text
    assert task.task_stdout.read_text() == "line one\nabout to fail 3\n"
    assert (error.task_name, error.task_args) == (Fails.task_name, {"n": 3})
    assert error.task_key == task.to_json()["__key__"]


def test_the_traceback_is_of_the_users_lines_only(cache: Cache) -> None:
    text = str(fail(Fails(3)))
    assert "in broken" in text
    assert "in run_task" in text
    assert "engine/worker.py" not in text


def test_the_cause_is_the_tasks_own_exception(cache: Cache) -> None:
    cause = fail(Fails(3)).__cause__
    assert type(cause) is KeyError
    assert cause.args == ("no such thing: 3",)


def test_causes_notes_and_groups_are_told(cache: Cache) -> None:
    error = fail(Raises("noted"))
    assert error.__cause__ is not None
    assert error.__cause__.__notes__ == ["the note"]
    for part in ("with a note", "the note", "OSError: the reason"):
        assert part in str(error)
    group = fail(Raises("group"))
    assert isinstance(group.__cause__, ExceptionGroup)
    assert "TypeError: b" in str(group)


@pytest.mark.parametrize(
    ("what", "told"), [("two", "TwoArguments: this and that"), ("holds", "Holds: held fast")]
)
def test_an_exception_that_can_not_be_carried_is_told_as_text(cache: Cache, what: str, told: str) -> None:
    error = fail(Raises(what))
    assert told in str(error)
    assert isinstance(error.__cause__, TaskprocError)
    assert told in str(error.__cause__)


def test_an_exception_whose_own_text_fails_is_named_all_the_same(cache: Cache) -> None:
    error = fail(Raises("mute"))
    assert "Mute: (its message can't be shown)" in str(error)
    assert type(error.__cause__) is Mute


def test_a_failure_does_not_stop_what_comes_after_it(cache: Cache) -> None:
    fail(Raises("two"))
    assert Fine(1).run_graph(max_workers=1)[0] == 1


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("nested", ["the result['bad'][1][0]", "lock"]),
        ("generator", ["the result", "generator"]),
        ("slots", ["the result[0].held.value['lock']", "lock"]),
    ],
)
def test_a_result_that_can_not_be_pickled_is_that_tasks_failure_naming_what(
    cache: Cache, what: str, told: list[str]
) -> None:
    error = fail(Several(Gives(what)))
    assert error.task_name == Gives.task_name
    assert isinstance(error.__cause__, UnpicklableResultError)
    for part in ["can't be pickled", *told]:
        assert part in str(error)
    assert Gives(what).plan().cached == []


def test_a_hidden_attribute_that_can_not_be_pickled_is_that_tasks_failure_naming_it(cache: Cache) -> None:
    error = fail(Several(KeepsLock(True), Fine(1)))
    assert error.task_name == KeepsLock.task_name
    assert "its attributes['_lock'], a _thread.lock" in str(error)
    assert "can't be pickled" in str(error)
    assert "make it in run_task" in str(error)


def test_an_attribute_that_can_not_be_pickled_is_one_clear_error(cache: Cache) -> None:
    with pytest.raises(TaskprocError) as caught:
        Several(KeepsLock(False), Fine(1)).run_graph(max_workers=1)
    for part in ("KeepsLock", "lock", "can't be pickled"):
        assert part in str(caught.value)


def test_on_error_stop_lets_running_tasks_finish_and_starts_nothing_else(cache: Cache) -> None:
    running, waiting = Sleeps(1), Several(Sleeps(1))
    error = fail(Several(running, Fails(1), waiting), max_workers=2)
    assert error.task_name == Fails.task_name
    assert running.get_result() == 1
    assert waiting.plan().run_counts == {Several.task_name: 1}


def test_on_error_stop_raises_the_first_and_notes_the_others_on_it(cache: Cache) -> None:
    class Slow(Fails):
        def run_task(self) -> None:
            time.sleep(0.3)
            super().run_task()

    error = fail(Several(Slow(7), Fails(1)), max_workers=2)
    assert error.task_name == Fails.task_name
    (note,) = error.__notes__
    assert note.startswith(f"also failed: {Slow.task_name} failed: KeyError: 'no such thing: 7'")


def test_on_error_continue_runs_all_that_is_independent_and_raises_every_failure(cache: Cache) -> None:
    good = [Fine(n) for n in range(4)]
    task = Several(Needs(1), *good, Fails(2), Several(Fine(9)))
    with pytest.raises(ExceptionGroup) as caught:
        task.run_graph(max_workers=2, on_error="continue")
    errors = caught.value.exceptions
    assert all(isinstance(error, FailedTaskError) for error in errors)
    failed = {(error.task_name, error.task_args["n"]) for error in errors}  # type: ignore[union-attr]
    assert failed == {(Fails.task_name, 1), (Fails.task_name, 2)}
    assert [one.get_result() for one in good] == [0, 1, 2, 3]
    assert Several(Fine(9)).get_result() == [9]
    assert Needs(1).plan().cached == []


def test_what_failed_runs_again_and_what_finished_does_not(cache: Cache, tmp_path: Path) -> None:
    broken_yet = tmp_path / "broken"
    broken_yet.touch()

    class Mends(Task):
        def __init__(self) -> None:
            self.up = Fine(1)

        def run_task(self) -> int:
            if broken_yet.exists():
                raise RuntimeError("still broken")
            return self.up.get_result()

    fail(Mends())
    broken_yet.unlink()
    answer, stats = Mends().run_graph(max_workers=1)
    assert answer == 1
    assert stats["stats"] == {Mends.task_name: 1}


def test_constructing_a_task_in_run_task_says_where_to_construct_it(cache: Cache) -> None:
    class Late(Task):
        def run_task(self) -> None:
            Fine(1)

    assert "construct upstream tasks in __init__" in str(fail(Late()))


def test_a_system_exit_in_the_serial_executor_is_that_tasks_failure(cache: Cache) -> None:
    class Exits(Task):
        def run_task(self) -> None:
            sys.exit(0)

    assert "SystemExit: 0" in str(fail(Exits(), executor="serial"))
