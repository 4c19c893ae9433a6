"""A record speaks for the code that ran, never for what the file says now or what another process has.

The code in memory, in the file, in Python's own bytecode and in a worker may be of four different ages.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edited_project import EditedProject

from taskproc import Cache

Write = Callable[[str, str], Path]
Python = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditedProject]:
    made = EditedProject(tmp_path, monkeypatch)
    yield made
    made.forget()


# --- Python's own bytecode, which takes an edit within one second that keeps the size for none ---

# name: (the helper as it was, what is replaced in it, by what; how the task uses it; the two answers)
KINDS: dict[str, tuple[str, str, str, str, Any, Any]] = {
    "body": ("def f():\n    return 1\n", "1", "2", "h.f()", 1, 2),
    "default": ("def f(x=1):\n    return x\n", "1", "2", "h.f()", 1, 2),
    "keyword_default": ("def f(*, x=1):\n    return x\n", "1", "2", "h.f()", 1, 2),
    "lambda_default": ("f = lambda x=1: x\n", "1", "2", "h.f()", 1, 2),
    "method_default": ("class C:\n    def f(self, x=1):\n        return x\n", "1", "2", "h.C().f()", 1, 2),
    "decorator": (
        "def add(n):\n    return lambda f: lambda: f() + n\n\n@add(1)\ndef f():\n    return 0\n",
        "@add(1)", "@add(2)", "h.f()", 1, 2,
    ),
    "constant": ("X = 1\n", "1", "2", "h.X", 1, 2),
    "rebound": ("X = 1\n\ndef change():\n    global X\n", "1", "2", "h.X", 1, 2),
    "large": ("X = [1] * 99999\n", "1]", "2]", "h.X[0]", 1, 2),
    "opaque": (
        "class C:\n    __slots__ = ('n',)\n    def __init__(self, n):\n        self.n = n\n\nX = C(1)\n",
        "C(1)", "C(2)", "h.X.n", 1, 2,
    ),
    "attribute": ("class C:\n    x = 1\n", "1", "2", "h.C.x", 1, 2),
    "negative": ("class C:\n    x = -1\n", "1", "2", "h.C.x", -1, -2),
    "tuple_": ("class C:\n    x = (1, 1)\n", "(1,", "(2,", "h.C.x[0]", 1, 2),
    "list_": ("class C:\n    x = [1]\n", "1", "2", "h.C.x[0]", 1, 2),
    "sum_": ("class C:\n    x = 0 + 1\n    def f(self): ...\n", "+ 1", "+ 2", "h.C.x", 1, 2),
    "field": (
        "from dataclasses import dataclass\n\n@dataclass\nclass C:\n    x: int = 1\n",
        "1", "2", "h.C().x", 1, 2,
    ),
    "name_of_field": (
        "from dataclasses import dataclass\n\n@dataclass\nclass C:\n    x: int = 1\n",
        "x:", "y:", "str(h.C())", "C(x=1)", "C(y=1)",
    ),
    "namedtuple": (
        "from typing import NamedTuple\n\nclass C(NamedTuple):\n    x: int = 1\n", "1", "2", "h.C().x", 1, 2
    ),
    "member": ("import enum\n\nclass C(enum.Enum):\n    A = 1\n", "1", "2", "h.C.A.value", 1, 2),
    "base": (
        "class A:\n    x = 1\n\nclass B:\n    x = 2\n\nclass C(A):\n    pass\n", "(A)", "(B)", "h.C.x", 1, 2
    ),
    "keyword": (
        "class B:\n    def __init_subclass__(cls, n):\n        cls.n = n\n\nclass C(B, n=1):\n    pass\n",
        "n=1", "n=2", "h.C.n", 1, 2,
    ),
    "imported_inside": ("def f():\n    return 1\n", "1", "2", "__import__('h').f()", 1, 2),
    "constant_imported_inside": ("X = 1\n", "1", "2", "__import__('h').X", 1, 2),
    "as_a_whole": ("def f():\n    return 1\n", "1", "2", "getattr(h, 'f')()", 1, 2),
    "constant_of_a_whole": ("f = 1\n", "1", "2", "getattr(h, 'f')", 1, 2),
    "task": (
        "from taskproc import Task\n\nclass Other(Task):\n    k = (1, 0)\n    def run_task(self):\n"
        "        return self.k[0]\n",
        "(1,", "(2,", "Other", 1, 2,
    ),
}  # fmt: skip


def tasks_of_all_kinds() -> str:
    """A script with a task for each kind, each with a helper file of its own; it prints all answers."""
    parts = ["import json, sys", "from taskproc import Cache, Task"]
    for kind, (_, _, _, how, _, _) in KINDS.items():
        helper = f"helper_{kind}"
        if how == "Other":
            parts.append(f"from {helper} import Other as T_{kind}")
            continue
        if "__import__('h')" in how:
            first, how = f"        import {helper} as h", how.replace("__import__('h')", "h")
        else:
            parts.append(f"import {helper}")
            first, how = "", how.replace("h.", f"{helper}.").replace("(h,", f"({helper},")
        parts.append(f"class T_{kind}(Task):\n    def run_task(self):\n{first}\n        return {how}")
    kinds = ", ".join(f"{kind!r}: T_{kind}" for kind in KINDS)
    parts.append(
        f"""
if __name__ == "__main__":
    with Cache("cache"):
        kinds = {{{kinds}}}
        answers = {{name: T().run_graph(executor=sys.argv[1])[0] for name, T in kinds.items()}}
    print(json.dumps(answers))
"""
    )
    return "\n".join(parts)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """For each kind the answers before the edit, with the old bytecode in force, and with the new."""
    folder = tmp_path_factory.mktemp("bytecode")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKPROC", "PYTHON"))}
    root = str(Path(importlib.import_module("taskproc").__file__ or "").parent.parent)
    environment = {**kept, "PYTHONPATH": root}

    def write_helpers(edited: bool) -> None:
        for kind, (text, old, new, *_) in KINDS.items():
            assert text.count(old) == 1
            path = folder / f"helper_{kind}.py"
            path.write_text(text.replace(old, new) if edited else text)
            os.utime(path, (1_700_000_000, 1_700_000_000))

    def run() -> dict[str, Any]:
        while True:
            done = subprocess.run(
                [sys.executable, "tasks.py", "serial"],
                cwd=folder, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                return json.loads(done.stdout)  # type: ignore[no-any-return]
            # Each refusal names a module of which Python has run the old bytecode, and removes that.
            assert "run again" in done.stderr, done.stderr

    (folder / "tasks.py").write_text(tasks_of_all_kinds())
    write_helpers(edited=False)
    got = [run()]
    write_helpers(edited=True)
    got.append(run())
    shutil.rmtree(folder / "__pycache__")
    got.append(run())
    return {kind: [one[kind] for one in got] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_that_python_overlooks_is_never_kept_for_done(
    answers: dict[str, list[Any]], kind: str
) -> None:
    before, meanwhile, after = answers[kind]
    old, new = KINDS[kind][-2:]
    assert before == old
    assert meanwhile in (old, new)  # what Python has loaded, or better
    assert after == new


# --- Edits in the midst of a run ---

WATCHED = """
import json, sys, warnings
import helpers
from taskproc import Cache, Task

class Edits(Task):
    # The user, who saves another version of the file just now. (A name that was not there before.)
    def run_task(self):
        import pathlib
        path = pathlib.Path("NAME.py")
        path.write_text(path.read_text().replace("100", "2000"))

class Late(Task):
    def __init__(self):
        self.edits = Edits()

    def run_task(self):
        return helpers.value() + own()

def own():
    return 100

if __name__ == "__main__":
    with Cache("cache"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answer = Late().run_graph(max_workers=1, **json.loads(sys.argv[1]))[0]
    print(json.dumps([answer, " ".join(str(one.message) for one in told)]))
"""

HOW_RUN: dict[str, dict[str, Any]] = {
    "process": {},
    "launched": {"prefixes": {"tasks.Late": "env"}},
    "each launched": {"prefixes": {"tasks.Late": "env", "tasks.Edits": "env"}},
    "serial": {"executor": "serial"},
}


@pytest.mark.parametrize("how", HOW_RUN)
@pytest.mark.parametrize("name", ["helpers", "tasks"])
def test_a_file_edited_while_a_run_is_going_on_gives_no_answer_under_the_code_of_before(
    write: Write, python: Python, name: str, how: str
) -> None:
    script = write("tasks.py", WATCHED.replace("NAME", name))
    write("helpers.py", "def value():\n    return 100\n")
    answer, warned = python(script, json.dumps(HOW_RUN[how]))
    # The job runs the code that the runner saw, or it is said that it did not.
    assert answer == 200 or name in warned
    # The edit is taken back; what ran in the meantime must not pass for the code of now.
    write("tasks.py", WATCHED.replace("NAME", "unused"))
    write("helpers.py", "def value():\n    return 100\n")
    write("unused.py", "")
    assert python(script, json.dumps({"executor": "serial"})) == [200, ""]


# --- What only one process knows ---

SET_BY_MAIN = """
import json, sys, warnings
import helpers
from taskproc import Cache, Task

FACTOR = 1

class Scaled(Task):
    def run_task(self):
        return FACTOR * helpers.FACTOR * helpers.one()

if __name__ == "__main__":
    where, value, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    if where == "here":
        FACTOR = value
    elif where == "there":
        helpers.FACTOR = value
    elif where == "function":
        helpers.one = lambda: value
    else:
        Scaled.run_task = lambda self: value
    with Cache("cache"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answer = Scaled().run_graph(max_workers=1, **options)[0]
    print(json.dumps([answer, " ".join(str(one.message) for one in told)]))
"""


@pytest.mark.parametrize("where", ["here", "there", "function", "method"])
def test_what_a_script_sets_below_its_guard_is_what_its_answers_are_made_of(
    write: Write, python: Python, where: str
) -> None:
    """A worker loads the file without what stands below the guard: it must not answer for the runner."""
    script = write("tasks.py", SET_BY_MAIN)
    write("helpers.py", "FACTOR = 1\n\ndef one():\n    return 1\n")
    launched = {"prefixes": {"tasks.Scaled": "env"}}
    for value, options in ((5, {}), (6, launched), (5, {"executor": "serial"}), (6, {"executor": "serial"})):
        answer, warned = python(script, where, str(value), json.dumps(options))
        in_process = "executor" in options
        assert answer == value or (not in_process and "Scaled" in warned), (value, options)


def test_a_function_put_in_the_place_of_another_counts_in_every_executor(
    project: EditedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        helpers="def f():\n    return 1\n",
        tasks="import helpers\nfrom taskproc import Task\n\nclass T(Task):\n    def run_task(self):\n"
        "        return helpers.f()\n",
    )
    for executor in ("serial", "thread"):
        assert project.run("T()", executor=executor)[0] == 1
        helpers = importlib.import_module("helpers")
        with monkeypatch.context() as patch, Cache(project.cache):
            patch.setattr(helpers, "f", lambda: 2)
            task = sys.modules["tasks"].T()
            assert task.run_graph(executor=executor)[0] == 2


LASTING_POOL = """
import importlib, json, multiprocessing, sys, warnings
from concurrent.futures import ProcessPoolExecutor
import helpers
from taskproc import Cache, Task

class T(Task):
    def run_task(self):
        return helpers.f()

if __name__ == "__main__":
    answers = []
    with Cache("cache"), ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[1])) as pool:
        answers.append(T().run_graph(executor=pool)[0])
        with open("helpers.py", "w") as file:
            file.write("def f():\\n    return 2000\\n")
        importlib.reload(helpers)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            answers.append(T().run_graph(executor=pool)[0])
        answers.append(" ".join(str(one.message) for one in told))
        answers.append(T().run_graph(executor="serial")[0])
    print(json.dumps(answers))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_ones_own_that_has_the_old_code_gives_no_answer_for_the_new(
    write: Write, python: Python, method: str
) -> None:
    """The pool lives on while a helper is edited and reloaded, but only in the runner."""
    script = write("tasks.py", LASTING_POOL)
    write("helpers.py", "def f():\n    return 1\n")
    first, second, warned, third = python(script, method)
    assert (first, third) == (1, 2000)
    assert second == 2000 or "helpers" in warned


FROM_WITHIN = """
import json, multiprocessing, sys, warnings
from concurrent.futures import ProcessPoolExecutor
from taskproc import Cache, Task

class T(Task):
    def run_task(self):
        from helpers import f
        return f(3)

if __name__ == "__main__":
    answers = []
    with Cache("cache"), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        answers.append(T().run_graph(executor=pool)[0])
        with open("helpers.py", "w") as file:
            file.write(sys.argv[1])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            answers.append(T().run_graph(executor=pool)[0])
        answers.append(" ".join(str(one.message) for one in told))
        answers.append(len(T().plan().run))
    print(json.dumps(answers))
"""


@pytest.mark.parametrize(
    "edited", ["def f(n, k=1):\n    return n * 100\n", "def f(n, k=100):\n    return n * k\n"]
)
def test_a_pool_that_has_the_old_module_gives_no_answer_for_a_file_the_runner_never_loads(
    write: Write, python: Python, edited: str
) -> None:
    script = write("tasks.py", FROM_WITHIN)
    write("helpers.py", "def f(n, k=1):\n    return n * k\n")
    first, second, warned, stale = python(script, edited)
    assert first == 3
    assert second == 300 or ("helpers.f" in warned and stale == 1)


FILLED = """
import json
from taskproc import Cache, Task

MEMO = {"base": 1}

def remembered(key):
    return MEMO.setdefault(key, MEMO["base"])

class One(Task):
    def run_task(self):
        return remembered("one")

class Two(Task):
    def __init__(self):
        self.one = One()

    def run_task(self):
        return remembered("two") + self.one.get_result()

if __name__ == "__main__":
    with Cache("cache"):
        answer = Two().run_graph(max_workers=1)[0]
        print(json.dumps([answer, len(Two().plan().run)]))
"""


def test_tasks_that_fill_a_dict_of_their_module_are_not_taken_for_other_code(
    write: Write, python: Python
) -> None:
    assert python(write("tasks.py", FILLED)) == [2, 0]


HELD = """
import json, sys
from taskproc import Cache, Task

class Makes(Task):
    def run_task(self):
        from helpers import Model
        return Model(3)

class Scores(Task):
    def __init__(self):
        self.made = Makes()

    def run_task(self):
        return self.made.get_result().score()

if __name__ == "__main__":
    if "loaded" in sys.argv:
        import helpers
    with Cache("cache"):
        stale = len(Scores().plan().run)
        print(json.dumps([Scores().run_graph(early_cutoff=True)[0], stale]))
"""


def test_the_methods_of_what_a_result_holds_count_alike_whether_they_are_loaded_or_not(
    write: Write, python: Python
) -> None:
    script = write("tasks.py", HELD)
    model = "class Model:\n    def __init__(self, n):\n        self.n = n\n\n"
    model += "    def score(self):\n        return self.n"
    write("helpers.py", f"{model} * 7\n")
    assert python(script) == [21, 2]
    assert python(script, "loaded") == python(script) == [21, 0]
    write("helpers.py", f"{model} * 80\n")
    assert python(script) == [240, 2]
    assert python(script, "loaded") == python(script) == [240, 0]


def test_what_another_thread_sees_is_not_what_a_look_goes_on_by(project: EditedProject) -> None:
    project.write(
        helpers="def f():\n    return 1\n",
        tasks="from taskproc import Task\n\nclass T(Task):\n    def run_task(self):\n"
        "        from helpers import f\n        return f()\n",
    )
    project.forget()
    tasks = importlib.import_module("tasks")
    with Cache(project.cache) as cache:
        first = cache.codes.refresh()
        before = first.of(tasks.T, ())
        project.edit("helpers", "1", "20")
        assert cache.codes.refresh().of(tasks.T, ("json:dumps",)) != before
        assert first.of(tasks.T, ()) == first.of(tasks.T, ("json:dumps",)) == before


def test_a_file_rewritten_with_its_time_put_back_is_noticed_within_a_process(project: EditedProject) -> None:
    project.write(
        tasks="from pathlib import Path\nfrom taskproc import Task\n\nclass T(Task):\n"
        "    task_depends_on = (Path(__file__).parent / 'params.txt',)\n\n    def run_task(self):\n"
        "        return 1\n"
    )
    params = project.folder / "params.txt"
    params.write_text("1")
    os.utime(params, (1_700_000_000, 1_700_000_000))
    project.forget()
    tasks = importlib.import_module("tasks")
    with Cache(project.cache) as cache:
        before = cache.codes.refresh().of(tasks.T, ())
        params.write_text("2")
        os.utime(params, (1_700_000_000, 1_700_000_000))
        assert cache.codes.refresh().of(tasks.T, ()) != before
