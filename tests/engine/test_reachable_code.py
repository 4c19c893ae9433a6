"""Real edits of a small project: does the fingerprint of a task in it change?

The project is written to a folder, imported, fingerprinted, forgotten, edited, and so on.
EDITS has one case for each row of docs/code-changes.md.
"""

from __future__ import annotations

import functools
import importlib
import json
import linecache
import math
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskproc.core.arguments import Encoder
from taskproc.core.task import Task, task_class
from taskproc.engine.reachable_code import CodeReader
from taskproc.errors import ArgumentError
from taskproc.modules import load_file

REPO = Path(__file__).parents[2]

TASKS = '''
"""Tasks of the project."""
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

from taskproc.core.task import Task

import helpers
import lib
from helpers import Config, FACTOR as factor, far, scaled
from lib import constants
from lib.deep import deep

HERE = Path(__file__).parent
DATA = HERE / "data"
THRESHOLD = 3
UNUSED = 1
HUGE = list(range(100_000))
OPAQUE = object()
SETTINGS = Config(2)
DISPATCH = {"near": helpers.near, "lambda": lambda x: x + 1}
PARTIAL = functools.partial(helpers.partly, 3)
counter = 0


def bump():
    global counter
    counter += 1


def local_helper(x):
    """Say something."""
    # a comment
    return x + THRESHOLD


def unused_helper(x):
    return x


def deco(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 1
    return wrapper


@deco
def decorated(x):
    return x * 2


@functools.lru_cache(maxsize=None)
def cached(x):
    return x * 3


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


def with_default(x, k=helpers.DEFAULT):
    return x + k


def make_closure(n):
    def closure(x):
        return x + n
    return closure


CLOSURE = make_closure(5)


class Base(Task):
    def shared(self):
        return scaled(1)


class Other(Task):
    LIMIT = 8

    def run_task(self):
        return 1

    @staticmethod
    def called(x):
        return x + 10


class Lazy(Task):
    def run_task(self):
        return 2


@dataclass
class Row:
    value: int
    name: str = "row"


class Main(Base):
    """The task."""

    task_label = "cpu"
    SIZE = 4

    def __init__(self, n: int = 1) -> None:
        """Make it."""
        self.n = n
        self.other = Other()

    @property
    def half(self) -> float:
        return helpers.halved(self.n)

    @staticmethod
    def static(x):
        return local_helper(x)

    def run_task(self) -> int:
        from lib.lazy import lazily
        from lib.lazy_tasks import LazyTask

        total: int = sum(far(i) for i in range(self.n))
        first = total
        table = [DISPATCH, PARTIAL, SETTINGS, HUGE, OPAQUE, factor, constants.TABLE, DATA, counter]
        inner = lambda x: deep(x)  # noqa
        Other.called(total)
        bump()
        return decorated(first) + cached(1) + even(2) + CLOSURE(1) + with_default(1) + lib.NAME + lazily(1)

    def rows(self):
        return [Row(1), self.decorated_method(), json.dumps({}), math.pi, LateBound, missing_name]

    @deco
    def decorated_method(self):
        return 0
'''

HELPERS = """
FACTOR = 2
DEFAULT = 7

class Config:
    def __init__(self, n):
        self.n = n

    def value(self):
        return self.n * FACTOR

def near(x):
    return x + 1

def partly(a, b):
    return a - b

def far(x):
    return nearer(x) + 1

def nearer(x):
    return x * FACTOR

def scaled(x):
    return x * 100

def halved(x):
    return x / 2
"""

PROJECT = {
    "tasks.py": TASKS,
    "helpers.py": HELPERS,
    "lib/__init__.py": "NAME = 5\n",
    "lib/constants.py": "from .values import *\n",
    "lib/values.py": "TABLE = {'a': [1, 2.5], 'b': (3,)}\n",
    "lib/deep.py": "from . import other_way\n\ndef deep(x):\n    return other_way.back(x)\n",
    "lib/other_way.py": "import lib.deep\n\ndef back(x):\n    return x if x else lib.deep.deep(x)\n",
    "lib/lazy.py": "from .lazier import STEP\n\ndef lazily(x):\n    return x + STEP\n",
    "lib/lazier.py": "STEP = 9\n",
    "lib/lazy_tasks.py": (
        "from tasks import Base\n\nclass LazyTask(Base):\n    def run_task(self):\n        return 7\n"
    ),
}


class Project:
    """A project in a folder, whose modules are imported anew at every look."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.files = dict(PROJECT if files is None else files)

    def edit(self, file: str, old: str, new: str) -> None:
        assert old in self.files[file], f"{old!r} is not in {file}"
        self.files[file] = self.files[file].replace(old, new, 1)

    def module(self, name: str = "tasks") -> Any:
        self.forget()
        for file, text in self.files.items():
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def forget(self) -> None:
        tops = {Path(file).parts[0].removesuffix(".py") for file in self.files}
        for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
            del sys.modules[name]

    def fingerprint(self, name: str = "Main") -> str:
        return CodeReader().fingerprint(getattr(self.module(), name))

    def parts(self, name: str = "Main") -> dict[str, str]:
        return CodeReader().parts(getattr(self.module(), name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "project").mkdir()
    yield tmp_path / "project"


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    made = Project(folder)
    yield made
    made.forget()


class Edit(NamedTuple):
    """An edit, and whether it makes the task `Main` run again."""

    what: str
    reruns: bool
    file: str
    old: str
    new: str


EDITS = [
    Edit("a comment", False, "tasks.py", "# a comment", "# another one\n    # and more"),
    Edit("a blank line", False, "tasks.py", "import helpers\n", "\n\n\nimport helpers\n"),
    Edit("formatting", False, "tasks.py", "return x + THRESHOLD", "return (x +\n            THRESHOLD)"),
    Edit("the quotes of a string", False, "tasks.py", '"near"', "'near'"),
    Edit("a docstring", False, "tasks.py", "Say something.", "Say something else."),
    Edit("a docstring taken away", False, "tasks.py", '    """Say something."""\n', ""),
    Edit("the docstring of the class", False, "tasks.py", '"""The task."""', '"""My task."""'),
    Edit("an annotation of a parameter", False, "tasks.py", "n: int = 1", "n: float = 1"),
    Edit("an annotation of a result", False, "tasks.py", "run_task(self) -> int", "run_task(self)"),
    Edit("an annotation of a local variable", False, "tasks.py", "total: int = sum", "total = sum"),
    Edit("the annotation of a field", True, "tasks.py", "value: int", "value: float"),
    Edit("the order of definitions", False, "helpers.py", "FACTOR = 2\nDEFAULT = 7", "DEFAULT = 7\nFACTOR = 2"),
    Edit("a function that is not used", False, "tasks.py", "    return x\n\n\ndef deco", "    return 5\n\n\ndef deco"),
    Edit("a constant that is not used", False, "tasks.py", "UNUSED = 1", "UNUSED = 2"),
    Edit("an import that is not used", False, "tasks.py", "import functools\n", "import functools\nimport re\n"),
    Edit("task_label", False, "tasks.py", 'task_label = "cpu"', 'task_label = ["gpu", "memory"]'),
    Edit("task_compress_level", False, "tasks.py", "    SIZE = 4", "    task_compress_level = 0\n    SIZE = 4"),
    Edit("run_task", True, "tasks.py", "even(2)", "even(4)"),
    Edit("__init__", True, "tasks.py", "self.n = n\n        self.other", "self.n = n + 1\n        self.other"),
    Edit("another method", True, "tasks.py", "Row(1)", "Row(2)"),
    Edit("a name of a local variable", True, "tasks.py", "first = total", "first = second = total"),
    Edit("a class attribute", True, "tasks.py", "SIZE = 4", "SIZE = 5"),
    Edit("a default of a parameter", True, "tasks.py", "n: int = 1", "n: int = 2"),
    Edit("a property's helper", True, "helpers.py", "x / 2", "x // 2"),
    Edit("a static method's helper", True, "tasks.py", "return x + THRESHOLD", "return x - THRESHOLD"),
    Edit("the base class", True, "tasks.py", "return scaled(1)", "return scaled(2)"),
    Edit("a helper of the base class", True, "helpers.py", "x * 100", "x * 101"),
    Edit("a helper of a helper", True, "helpers.py", "return x * FACTOR", "return x + FACTOR"),
    Edit("a constant", True, "tasks.py", "THRESHOLD = 3", "THRESHOLD = 4"),
    Edit("the type of a constant", True, "tasks.py", "THRESHOLD = 3", "THRESHOLD = 3.0"),
    Edit("a constant written otherwise", False, "tasks.py", "THRESHOLD = 3", "THRESHOLD = 1 + 2"),
    Edit("a constant imported under another name", True, "helpers.py", "FACTOR = 2", "FACTOR = 3"),
    Edit("a constant that comes by import *", True, "lib/values.py", "2.5", "2.6"),
    Edit("a constant too large to be encoded", True, "tasks.py", "range(100_000)", "range(100_001)"),
    Edit("a constant of no known type", True, "tasks.py", "OPAQUE = object()", "OPAQUE = [object()]"),
    Edit("an argument of a constant object", True, "tasks.py", "Config(2)", "Config(3)"),
    Edit("a method of the class of a constant", True, "helpers.py", "self.n * FACTOR", "self.n + FACTOR"),
    Edit("a path made from __file__", True, "tasks.py", 'HERE / "data"', 'HERE / "data2"'),
    Edit("a default's constant", True, "helpers.py", "DEFAULT = 7", "DEFAULT = 8"),
    Edit("a function in a dict", True, "helpers.py", "return x + 1\n\ndef partly", "return x + 2\n\ndef partly"),
    Edit("a lambda in a dict", True, "tasks.py", "lambda x: x + 1", "lambda x: x + 2"),
    Edit("a function in a functools.partial", True, "helpers.py", "a - b", "b - a"),
    Edit("an argument of a functools.partial", True, "tasks.py", "partly, 3", "partly, 4"),
    Edit("a decorated function", True, "tasks.py", "return x * 2", "return x * 3"),
    Edit("a decorator", True, "tasks.py", "function(*args) + 1", "function(*args) + 2"),
    Edit("a decorator taken away", True, "tasks.py", "@deco\ndef decorated", "def decorated"),
    Edit("a function under lru_cache", True, "tasks.py", "return x * 3", "return x * 4"),
    Edit("a method of the decorated kind", True, "tasks.py", "        return 0", "        return 1"),
    Edit("a function of a circle", True, "tasks.py", "return False if", "return None if"),
    Edit("a function of a circle of imports", True, "lib/other_way.py", "x if x", "-x if x"),
    Edit("a closure", True, "tasks.py", "return x + n", "return x - n"),
    Edit("a closure's variable", True, "tasks.py", "make_closure(5)", "make_closure(6)"),
    Edit("a name in the package's __init__", True, "lib/__init__.py", "NAME = 5", "NAME = 6"),
    Edit("a function imported where it is used", True, "lib/lazy.py", "x + STEP", "x - STEP"),
    Edit("a constant behind such an import", True, "lib/lazier.py", "STEP = 9", "STEP = 8"),
    Edit("a global that functions change", True, "tasks.py", "counter = 0", "counter = 1"),
    Edit("a dataclass that is made", True, "tasks.py", 'name: str = "row"', 'name: str = "line"'),
    Edit("a name that gets bound", True, "tasks.py", "counter = 0", "counter = 0\nLateBound = 1"),
    Edit("run_task of another task", False, "tasks.py", "        return 1\n", "        return 2\n"),
    Edit("run_task of a task imported where it is used", False, "lib/lazy_tasks.py", "return 7", "return 8"),
    Edit("a static method called on another task", True, "tasks.py", "return x + 10", "return x + 11"),
]


@pytest.mark.parametrize("edit", EDITS, ids=[edit.what.replace(" ", "_") for edit in EDITS])
def test_an_edit_reruns_what_the_table_says(project: Project, edit: Edit) -> None:
    before = project.parts()
    project.edit(edit.file, edit.old, edit.new)
    after = project.parts()
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert bool(changed) == edit.reruns, changed


def test_every_edit_stands_in_the_table_of_the_docs() -> None:
    rows = (REPO / "docs" / "code-changes.md").read_text().lower()
    for edit in EDITS:
        verdict = "yes" if edit.reruns else "no"
        assert f"| {edit.what.lower()} | {verdict} |" in rows.replace("`", ""), edit.what
