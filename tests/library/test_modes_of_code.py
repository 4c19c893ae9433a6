"""How much of a task's code counts: deep, class, off; by the class, by the run, and together."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from edited_project import EditedProject

from taskproc import Cache
from taskproc.errors import OptionError, TaskDefinitionError

HELPERS = "def helper(x):\n    return x + 1\n"
TASKS = """
from taskproc import Task
from helpers import helper

class Base(Task):
    def base(self):
        return 10

class Job(Base):
    {facts}
    def run_task(self):
        return self.base() + helper(0)

def task():
    return Job()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EditedProject:
    return EditedProject(tmp_path, monkeypatch)


def made(project: EditedProject, facts: str = "pass") -> EditedProject:
    project.write(helpers=HELPERS, tasks=TASKS.format(facts=facts), other="VALUE = 1\n")
    return project


def edit_helper(project: EditedProject) -> None:
    project.edit("helpers", "x + 1", "x + 2")


def edit_base(project: EditedProject) -> None:
    project.edit("tasks", "return 10", "return 20")


def edit_own(project: EditedProject) -> None:
    project.edit("tasks", "helper(0)", "2 * helper(0)")


EDITS = {"helper": edit_helper, "base": edit_base, "own": edit_own}

COUNTS = [
    ("deep", "helper", True),
    ("deep", "base", True),
    ("deep", "own", True),
    ("class", "helper", False),
    ("class", "base", True),
    ("class", "own", True),
    ("off", "helper", False),
    ("off", "base", False),
    ("off", "own", False),
]


@pytest.mark.parametrize(("mode", "edit", "counts"), COUNTS)
def test_a_run_says_how_much_code_counts(project: EditedProject, mode: str, edit: str, counts: bool) -> None:
    made(project)
    assert project.run(code=mode) == (11, 1)
    EDITS[edit](project)
    assert project.run(code=mode)[1] == counts
    assert project.run(code=mode)[1] == 0


@pytest.mark.parametrize(("mode", "edit", "counts"), COUNTS)
def test_a_class_says_how_much_of_its_code_counts(
    project: EditedProject, mode: str, edit: str, counts: bool
) -> None:
    made(project, f"task_code = '{mode}'")
    assert project.run() == (11, 1)
    EDITS[edit](project)
    assert project.run()[1] == counts


def test_the_class_knows_better_than_the_run_except_where_no_code_counts(project: EditedProject) -> None:
    made(project, "task_code = 'class'")
    project.run()
    edit_helper(project)
    assert project.run(code="deep")[1] == 0
    edit_own(project)
    assert project.run(code="off")[1] == 0, "off is for any class"
    assert project.run(code="deep")[1] == 1


def test_a_deep_class_stays_deep_in_a_run_that_looks_at_classes(project: EditedProject) -> None:
    made(project, "task_code = 'deep'")
    project.run(code="class")
    edit_helper(project)
    assert project.run(code="class")[1] == 1


def test_a_result_made_under_one_mode_is_judged_under_another(project: EditedProject) -> None:
    """What is recorded is the whole; how much of it counts is decided when it is looked at."""
    made(project)
    project.run(code="off")
    assert project.run(code="deep")[1] == 0
    edit_helper(project)
    assert project.run(code="off") == (11, 0)
    assert project.run(code="class") == (11, 0)
    assert project.run(code="deep") == (12, 1)


def test_taking_an_edit_back_makes_the_result_stand_again(project: EditedProject) -> None:
    made(project)
    project.run()
    edit_helper(project)
    project.edit("helpers", "x + 2", "x + 1")
    assert project.run()[1] == 0


def test_the_mode_is_inherited_and_can_be_changed_below(project: EditedProject) -> None:
    project.write(
        helpers=HELPERS,
        tasks="from taskproc import Task\nfrom helpers import helper\n"
        "class Base(Task):\n    task_code = 'class'\n    def run_task(self):\n        return helper(0)\n"
        "class Same(Base):\n    pass\n"
        "class Deep(Base):\n    task_code = 'deep'\n",
    )
    for name in ("Same", "Deep"):
        assert project.run(f"{name}()")[1] == 1
    edit_helper(project)
    assert project.run("Same()")[1] == 0
    assert project.run("Deep()")[1] == 1


@pytest.mark.parametrize("mode", ["deep", "class", "off"])
def test_what_a_class_states_counts_in_any_mode(project: EditedProject, mode: str) -> None:
    facts = f"task_code = {mode!r}; task_version = 1; task_depends_on = [helper]"
    made(project, facts)
    project.run(code=mode)
    project.edit("tasks", "task_version = 1", "task_version = 2")
    assert project.run(code=mode)[1] == 1
    edit_helper(project)
    assert project.run(code=mode)[1] == 1
    assert project.run(code=mode)[1] == 0


def test_changing_the_mode_alone_reruns_nothing(project: EditedProject) -> None:
    made(project, "task_code = 'deep'")
    project.run()
    project.edit("tasks", "'deep'", "'class'")
    assert project.run()[1] == 0


@pytest.mark.parametrize("mode", ["", "DEEP", "none", None, 3, True])
def test_a_mode_that_there_is_not_is_refused_by_run_plan_and_why(project: EditedProject, mode: Any) -> None:
    made(project)
    module = importlib.import_module("tasks")
    with Cache(project.cache):
        task = module.Job()
        for ask in (task.run_graph, task.plan, task.why, task.is_cached):
            with pytest.raises(OptionError, match="'deep', 'class' or 'off'"):
                ask(code=mode)


@pytest.mark.parametrize("mode", ["", "DEEP", 3])
def test_a_class_that_states_no_such_mode_is_refused_when_it_is_made(
    project: EditedProject, mode: Any
) -> None:
    made(project, f"task_code = {mode!r}")
    with pytest.raises(TaskDefinitionError, match="task_code"):
        project.run()


def test_the_published_switch_is_the_mode_off(project: EditedProject) -> None:
    made(project)
    project.run()
    edit_own(project)
    assert project.run(detect_source_change=False)[1] == 0
    assert project.run(detect_source_change=False, code="deep")[1] == 0
    assert project.run()[1] == 1


@pytest.mark.parametrize("mode", ["deep", "class"])
def test_why_tells_in_a_mode_what_counts_in_it_and_nothing_else(project: EditedProject, mode: str) -> None:
    made(project)
    project.run()
    edit_helper(project)
    edit_own(project)
    project.forget()
    module = importlib.import_module("tasks")
    with Cache(project.cache):
        told = str(module.Job().why(code=mode))
    assert "+        return self.base() + 2 * helper(0)" in told
    assert ("helpers.py" in told) == (mode == "deep")


def test_all_the_ways_to_ask_agree(project: EditedProject) -> None:
    made(project)
    project.run()
    edit_helper(project)
    project.forget()
    module = importlib.import_module("tasks")
    with Cache(project.cache):
        task = module.Job()
        for mode, stands in (("deep", False), ("class", True), ("off", True)):
            assert task.is_cached(code=mode) == stands
            assert task.why(code=mode).is_cached == stands
            assert (not task.plan(code=mode).run) == stands
