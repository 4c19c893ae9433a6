"""Within one process, code is followed as it is in memory: edited, reloaded, or run again as a cell."""

from __future__ import annotations

import importlib
import linecache
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edited_project import EditedProject

from taskproc import Cache


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditedProject]:
    made = EditedProject(tmp_path, monkeypatch)
    yield made
    made.forget()


# --- Reloading ---


def test_a_module_edited_and_not_reloaded_answers_for_what_it_was(project: EditedProject) -> None:
    """Serial and threads run what is in memory; so the answer must not be kept for the edited file."""
    for how in ("helpers.f()", "inside()"):
        project.write(
            helpers="def f():\n    return 1\n",
            tasks="import helpers\nfrom taskproc import Task\n\ndef inside():\n    import helpers as h\n"
            f"    return h.f()\n\nclass T(Task):\n    def run_task(self):\n        return {how}\n",
        )
        shutil.rmtree(project.cache, ignore_errors=True)
        assert project.run("T()")[0] == 1
        project.edit("helpers", "1", "2")
        with Cache(project.cache):
            assert sys.modules["tasks"].T().run_graph(executor="serial")[0] in (1, 2)
        assert project.run("T()")[0] == 2


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_a_reloaded_helper_is_followed_within_one_open_cache(project: EditedProject, executor: str) -> None:
    project.write(
        helpers="def f():\n    return 1\n",
        tasks="import helpers\nfrom helpers import f\nfrom taskproc import Task\n\n"
        "class ByModule(Task):\n    def run_task(self):\n        return helpers.f()\n\n"
        "class ByName(Task):\n    def run_task(self):\n        return f()\n",
    )
    project.forget()
    tasks = importlib.import_module("tasks")
    with Cache(project.cache):
        for kind in (tasks.ByModule, tasks.ByName):
            assert kind().run_graph(executor=executor)[0] == 1
        project.edit("helpers", "1", "2")
        importlib.reload(sys.modules["helpers"])
        assert tasks.ByModule().run_graph(executor=executor)[0] == 2
        assert tasks.ByName().run_graph(executor=executor)[0] == 1  # it still has the old function
    assert project.run("ByName()", executor=executor)[0] == 2


PIPELINE = """
from taskproc import Task

class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        return self.n + 1
"""


def test_a_reloaded_module_of_tasks_is_used_within_one_open_cache(project: EditedProject) -> None:
    project.write(
        leaves=PIPELINE,
        tasks="import leaves\nfrom taskproc import Task\n\nclass Top(Task):\n    def __init__(self):\n"
        "        self.up = leaves.Leaf(1)\n\n"
        "    def run_task(self):\n        return self.up.get_result() * 10\n",
    )
    project.forget()
    tasks = importlib.import_module("tasks")
    with Cache(project.cache):
        assert tasks.Top().run_graph(executor="serial")[0] == 20
        project.edit("leaves", "+ 1", "+ 100")
        importlib.reload(sys.modules["leaves"])
        assert tasks.Top().run_graph(executor="serial")[0] == 1010


# --- Notebooks ---


class Notebook:
    """Runs cells, as a notebook does: in one module without a file, each under a name of its own."""

    def __init__(self) -> None:
        self.module = types.ModuleType("notebook_main")
        sys.modules["notebook_main"] = self.module
        self._count = 0

    def cell(self, text: str) -> None:
        self._count += 1
        name = f"<ipython-input-{self._count}-{id(self)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"), self.module.__dict__)

    def __call__(self, expression: str, **options: Any) -> Any:
        task = eval(expression, self.module.__dict__)
        return task.run_graph(executor="serial", **options)[0]


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    made = Notebook()
    made.cell("from taskproc import Task, FutureList")
    yield made
    sys.modules.pop("notebook_main")


LEAF_CELL = PIPELINE.replace("from taskproc import Task\n", "")
TOP_CELLS = {
    "as an argument": (
        "class Top(Task):\n    def __init__(self, up):\n        self.up = up\n"
        "    def run_task(self):\n        return self.up.get_result() * 10\n",
        "Top(Leaf(1))",
    ),
    "deep in an argument": (
        "class Top(Task):\n    def __init__(self, ups):\n        self.ups = FutureList(ups)\n"
        "    def run_task(self):\n        return self.ups.get_result()[0] * 10\n",
        "Top([Leaf(1)])",
    ),
    "made by itself": (
        "class Top(Task):\n    def __init__(self):\n        self.up = Leaf(1)\n"
        "    def run_task(self):\n        return self.up.get_result() * 10\n",
        "Top()",
    ),
    "two below": (
        "class Middle(Task):\n    def __init__(self):\n        self.up = Leaf(1)\n"
        "    def run_task(self):\n        return self.up.get_result()\n"
        "class Top(Task):\n    def __init__(self):\n        self.up = Middle()\n"
        "    def run_task(self):\n        return self.up.get_result() * 10\n",
        "Top()",
    ),
    "by inheritance": ("class Top(Leaf):\n    pass\n", "Top(19)"),
    "by a helper": (
        "def leaf():\n    return Leaf(1)\n"
        "class Top(Task):\n    def __init__(self):\n        self.up = leaf()\n"
        "    def run_task(self):\n        return self.up.get_result() * 10\n",
        "Top()",
    ),
}


@pytest.mark.parametrize("how", TOP_CELLS)
def test_a_cell_run_again_with_another_class_is_used_by_the_cells_below(
    cache: Cache, notebook: Notebook, how: str
) -> None:
    """The Cache stays open from cell to cell, and the cell with the downstream is not run again."""
    top, expression = TOP_CELLS[how]
    notebook.cell(LEAF_CELL)
    notebook.cell(top)
    assert notebook(expression) == 20
    notebook.cell(LEAF_CELL.replace("+ 1", "+ 100"))
    if how == "by inheritance":  # it has the old class as its base until its own cell is run
        assert notebook(expression) == 20
        notebook.cell(top)
        assert notebook(expression) == 119
    else:
        assert notebook(expression) == 1010
    notebook.cell(LEAF_CELL)
    notebook.cell(top)
    assert notebook(expression) == 20


def test_a_helper_or_constant_of_another_cell_counts_as_it_is_now(cache: Cache, notebook: Notebook) -> None:
    notebook.cell("def helper():\n    return 1\nFACTOR = 10")
    notebook.cell("class T(Task):\n    def run_task(self):\n        return helper() * FACTOR")
    assert notebook("T()") == 10
    notebook.cell("def helper():\n    return 2")
    assert notebook("T()") == 20
    notebook.cell("FACTOR = 100")
    assert notebook("T()") == 200
    notebook.cell("FACTOR += 1")
    assert notebook("T()") == 202
    notebook.cell("def helper():\n    return 1\nFACTOR = 10")
    assert notebook("T()") == 10


def test_a_task_kept_from_before_its_cell_was_run_again_stays_what_it_was(
    cache: Cache, notebook: Notebook
) -> None:
    notebook.cell(LEAF_CELL)
    notebook.cell("kept = Leaf(1)")
    assert notebook("kept") == 2
    notebook.cell(LEAF_CELL.replace("+ 1", "+ 100"))
    assert notebook("Leaf(1)") == 101
    assert notebook("kept") == 2
    assert notebook("Leaf(1)") == 101


def test_a_function_among_the_arguments_is_the_one_that_its_module_has_now(project: EditedProject) -> None:
    project.write(
        helpers="def f():\n    return 1\n",
        tasks="from taskproc import Task\n\nclass Apply(Task):\n    def __init__(self, function):\n"
        "        self.function = function\n\n    def run_task(self):\n        return self.function()\n",
    )
    project.forget()
    tasks, helpers = importlib.import_module("tasks"), importlib.import_module("helpers")
    with Cache(project.cache):
        assert tasks.Apply(helpers.f).run_graph(executor="serial")[0] == 1
        project.edit("helpers", "1", "20")
        importlib.reload(helpers)
        assert tasks.Apply(helpers.f).run_graph(executor="serial")[0] == 20
