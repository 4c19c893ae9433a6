"""Tasks work and are called the same wherever they are defined and however their file is run."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], Path]
Python = Callable[..., Any]

CLASSES = """
import json, os, sys
from dataclasses import dataclass
from taskproc import Cache, Task

OFFSET = 100
BY_REFERENCE = False

@dataclass(frozen=True)
class Value:
    n: int

def helper(value):
    return Value(value.n + OFFSET)

class Leaf(Task):
    def __init__(self, value):
        self.value = value

    def run_task(self):
        return helper(self.value)

class Top(Task):
    def __init__(self, n=1):
        self.up = Leaf(Value(n))

    def run_task(self):
        return self.up.get_result()

def main(executor="process"):
    with Cache(os.environ.get("CACHE", "cache")):
        answer, stats = Top().run_graph(executor=executor, max_workers=1)
    ran = sum(stats["stats"].values())
    # What goes by value is of this very class only where it was computed in this process.
    assert isinstance(answer, Value) or not (ran or BY_REFERENCE), answer
    print(json.dumps([Top.task_name, answer.n, ran]))
"""

GUARDED = (
    CLASSES.replace("BY_REFERENCE = False", "BY_REFERENCE = True")
    + '\nif __name__ == "__main__":\n    main()\n'
)
UNGUARDED = CLASSES + "\nmain()\n"
NAME_AND_RUN = "import json; from {module} import main; main()"


@pytest.mark.parametrize("text", [GUARDED, UNGUARDED], ids=["guarded", "unguarded"])
def test_a_script_runs_its_own_tasks_and_runs_nothing_twice(write: Write, python: Python, text: str) -> None:
    write("tasks.py", text)
    assert python("tasks.py") == ["tasks.Top", 101, 2]
    assert python("tasks.py") == ["tasks.Top", 101, 0]


def test_an_unguarded_script_is_not_run_again_in_a_worker(write: Write, python: Python) -> None:
    write("tasks.py", UNGUARDED + 'open("runs", "a").write("run\\n")\n')
    python("tasks.py")
    assert Path(write("tasks.py", "")).with_name("runs").read_text() == "run\n"


def test_a_script_run_imported_or_run_as_a_module_has_the_same_names_and_results(
    write: Write, python: Python
) -> None:
    write("tasks.py", GUARDED)
    assert python("tasks.py") == ["tasks.Top", 101, 2]
    assert python("-m", "tasks") == ["tasks.Top", 101, 0]
    assert python("-c", NAME_AND_RUN.format(module="tasks")) == ["tasks.Top", 101, 0]
    write("other.py", NAME_AND_RUN.format(module="tasks"))
    assert python("other.py") == ["tasks.Top", 101, 0]


def test_a_module_of_a_package_has_one_name_however_it_is_run(
    write: Write, python: Python, tmp_path: Path
) -> None:
    write("pkg/__init__.py", "")
    write("pkg/sub/__init__.py", "")
    write("pkg/sub/mod.py", GUARDED)
    assert python("-m", "pkg.sub.mod") == ["pkg.sub.mod.Top", 101, 2]
    assert python("pkg/sub/mod.py") == ["pkg.sub.mod.Top", 101, 0]
    assert python("-c", NAME_AND_RUN.format(module="pkg.sub.mod")) == ["pkg.sub.mod.Top", 101, 0]


def test_a_package_run_by_its_path_finds_its_own_siblings_in_workers(write: Write, python: Python) -> None:
    write("pkg/__init__.py", "")
    write("pkg/consts.py", "OFFSET = 1000\n")
    write("pkg/mod.py", GUARDED.replace("OFFSET = 100\n", "from pkg.consts import OFFSET\n"))
    assert python("-m", "pkg.mod") == ["pkg.mod.Top", 1001, 2]
    write("pkg/rel.py", GUARDED.replace("OFFSET = 100\n", "from .consts import OFFSET\n"))
    assert python("-m", "pkg.rel") == ["pkg.rel.Top", 1001, 2]
    write("beside.py", GUARDED.replace("OFFSET = 100\n", "from helpers import OFFSET\n"))
    write("helpers.py", "OFFSET = 5\n")
    assert python("beside.py") == ["beside.Top", 6, 2]


@pytest.mark.parametrize("name", ["json", "code", "types", "taskproc", "click", "my tasks", "a.b"])
def test_a_file_may_be_called_like_another_module(
    tmp_path: Path, write: Write, python: Python, name: str
) -> None:
    # In a folder that is not the script's own, as a script of this name would break Python itself.
    write("lib/real.py", GUARDED)
    write(f"{name}.py", GUARDED)
    runner = f"""
    import runpy, sys
    import taskproc.engine.session, json, code, types, click  # as if they were needed before
    sys.path[0] = {str(tmp_path / "nowhere")!r}
    from taskproc.modules import load_file
    module = load_file({str(tmp_path / (name + ".py"))!r})
    sys.path.remove({str(tmp_path)!r})
    module.main()
    """
    write("driver/run.py", textwrap.dedent(runner))
    got = python("driver/run.py")
    assert got[1:] == [101, 2]
    assert got[0].endswith(".Top")
    assert python("driver/run.py") == [got[0], 101, 0]


def test_two_files_of_one_name_are_never_taken_for_each_other(write: Write, python: Python) -> None:
    write("a/tasks.py", GUARDED)
    write("b/tasks.py", GUARDED.replace("OFFSET = 100", "OFFSET = 200"))
    assert python("a/tasks.py") == ["tasks.Top", 101, 2]
    assert python("b/tasks.py") == ["tasks.Top", 201, 2]  # other code, so computed anew
    write(
        "both.py",
        """
import json
from taskproc.modules import load_file
one, two = load_file("a/tasks.py"), load_file("b/tasks.py")
one.main()
two.main()
print(json.dumps([one.Top.task_name, two.Top.task_name]))
""",
    )
    first, second = python("both.py")
    assert first == "tasks.Top"
    assert second != first
    assert second.startswith("tasks_")


def test_a_class_made_in_a_function_works_by_value(write: Write, python: Python) -> None:
    indented = textwrap.indent(
        CLASSES.split("def main")[0].split("from taskproc import Cache, Task")[1], "    "
    )
    body = f"""
import json
from dataclasses import dataclass
from taskproc import Cache, Task

def make(offset):
{indented.replace("OFFSET = 100", "OFFSET = offset")}
    return Top

if __name__ == "__main__":
    with Cache("cache"):
        answers = [make(offset)().run_graph(max_workers=1)[0].n for offset in (1, 5)]
    print(json.dumps([make(1).task_name, *answers]))
"""
    write("tasks.py", body)
    assert python("tasks.py") == ["tasks.make.<locals>.Top", 2, 6]


def test_text_on_stdin_and_from_dash_c_works(python: Python) -> None:
    name, answer, ran = python("-", stdin=UNGUARDED)
    assert (name, answer, ran) == ("__main__.Top", 101, 2)
    assert python("-c", UNGUARDED)[1] == 101


NOTEBOOK = """
import json, linecache, sys

cells = json.loads(sys.argv[1])
namespace = sys.modules["__main__"].__dict__
namespace.pop("__file__", None)

def run_cell(number, text):
    name = f"<ipython-input-{number}-abcdef>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), namespace)

for number, text in enumerate(cells):
    run_cell(number, text)
"""


def notebook(python: Python, *cells: str) -> Any:
    return python("-c", NOTEBOOK, json.dumps(cells))


def test_notebook_cells_work_and_are_cached_in_the_next_session(python: Python) -> None:
    cells = CLASSES.split("def main")[0], "def main" + CLASSES.split("def main")[1], "main()"
    assert notebook(python, *cells) == ["__main__.Top", 101, 2]
    assert notebook(python, *cells) == ["__main__.Top", 101, 0]
    assert notebook(python, "# another cell", *cells) == ["__main__.Top", 101, 0]


def test_a_notebook_cell_run_again_with_other_code_is_a_new_class(python: Python) -> None:
    first = CLASSES.split("def main")[0]
    main = "def main" + CLASSES.split("def main")[1]
    same, other = "main()", first.replace("value.n + OFFSET", "value.n * OFFSET")
    # The class of the first cell, made again; what it reaches is the same: nothing runs.
    assert notebook(python, first, main, same, first, same) == ["__main__.Top", 101, 0]
    assert notebook(python, first, main, same, other, same) == ["__main__.Top", 100, 2]


def test_an_interactive_console_works(python: Python) -> None:
    driver = f"""
import ast, code, sys
text = {CLASSES + "main()"!r}
console = code.InteractiveConsole(sys.modules["__main__"].__dict__)
for node in ast.parse(text).body:
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    statement = "\\n".join(text.splitlines()[first - 1 : node.end_lineno]) + "\\n"
    assert not console.runsource(statement, "<stdin>", "single")
"""
    assert python("-c", driver) == ["__main__.Top", 101, 2]
    assert python("-c", driver) == ["__main__.Top", 101, 0]


def test_tasks_below_the_main_guard_work(write: Write, python: Python) -> None:
    top, main = CLASSES.split("class Leaf")
    text = (
        top + '\nif __name__ == "__main__":\n' + textwrap.indent("class Leaf" + main + "\nmain()\n", "    ")
    )
    write("tasks.py", text)
    assert python("tasks.py") == ["tasks.Top", 101, 2]
    assert python("tasks.py") == ["tasks.Top", 101, 0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_pool_of_the_users_runs_tasks_of_main(write: Write, python: Python, method: str) -> None:
    text = CLASSES.replace('executor="process"', "executor").replace(", max_workers=1", "")
    text += f"""
if __name__ == "__main__":
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context({method!r})) as pool:
        main(pool)
"""
    write("tasks.py", text)
    assert python("tasks.py") == ["tasks.Top", 101, 2]


def test_a_job_behind_a_prefix_runs_tasks_of_main(write: Write, python: Python) -> None:
    text = CLASSES.replace("max_workers=1", 'prefixes={"tasks.Leaf": "env"}')
    write("tasks.py", text + "\nmain()\n")
    assert python("tasks.py") == ["tasks.Top", 101, 2]


def test_a_result_of_a_class_of_main_is_read_by_whoever_imports_its_module(
    write: Write, python: Python
) -> None:
    write("tasks.py", GUARDED)
    python("tasks.py")
    read = """
import glob, gzip, json, pickle, sys
values = [pickle.load(gzip.open(path)) for path in glob.glob("cache/tasks.Top/*/result.pkl.gz")]
print(json.dumps([type(values[0]).__module__, values[0].n]))
"""
    assert python("-c", read) == ["tasks", 101]


def test_the_working_directory_of_tasks_is_the_runners(write: Write, python: Python, tmp_path: Path) -> None:
    text = GUARDED.replace("return helper(self.value)", "return Value(len(os.listdir(os.getcwd())))")
    write("elsewhere/tasks.py", text)
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "one").touch()
    assert python(str(tmp_path / "elsewhere/tasks.py"), cwd=tmp_path / "cwd")[1] == 2  # "one" and "cache"
