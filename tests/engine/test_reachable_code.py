"""Real edits of a small project: does the fingerprint of a task in it change?

The project is written to a folder, imported, fingerprinted, forgotten, edited, and so on.
EDITS has one case for each row of docs/code-changes.md.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import linecache
import math
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from code_project import CodeProject

from taskproc.core.arguments import Encoder
from taskproc.core.task import Task, task_class
from taskproc.engine.reachable_code import CodeReader
from taskproc.engine.reachable_code.differences import differences
from taskproc.engine.reachable_code.source_file import SourceFile
from taskproc.errors import ArgumentError
from taskproc.modules import load_file

REPO = Path(__file__).parents[2]

TASKS = '''
"""Tasks of the project."""
import functools
import importlib
import json
import logging
import math
import threading
from dataclasses import dataclass
from json import JSONEncoder as Encoder
from json import load as foreign
from pathlib import Path

import textwrap as wrapping

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
    next: "Last | None" = None


class Last:
    VALUE = 1


class Encodes(Encoder):
    pass


class Given:
    pass


Given.size = 3
local_helper.limit = 4
CHOICE = True

if CHOICE:
    GUARD = threading.Semaphore(1)
else:
    GUARD = threading.Semaphore(2)


@functools.singledispatch
def dispatched(x):
    return 0


@dispatched.register
def _(x: int):
    return 1


def documented():
    """Read me."""


try:
    import no_such_module as optional
except ImportError:
    optional = None

logging.basicConfig(level=30)
wrapping.WIDTH = 5
OWNER = helpers.Owner(1)


class Main(Base):
    """The task."""

    task_label = "cpu"
    task_code = "deep"
    task_version = 3
    task_depends_on = [helpers.stated, Path("params.yaml")]
    SIZE = 4
    RATIO = helpers.halved(SIZE)

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

    def more(self):
        import side

        logging.info(documented.__doc__)
        named = importlib.import_module("named")
        return [foreign, wrapping.dedent, Encodes, Given, GUARD, dispatched(1), lib.computed, optional, OWNER]
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

def stated():
    return 1

class Owner:
    def __init__(self, n):
        self.n = n
        self.size = measured(n)

def measured(n):
    return len(str(n)) * MEASURE

MEASURE = 10
"""

LIB = """
NAME = 5

def __getattr__(name):
    if name == "computed":
        return 1
    raise AttributeError(name)
"""

PROJECT = {
    "tasks.py": TASKS,
    "helpers.py": HELPERS,
    "lib/__init__.py": LIB,
    "lib/constants.py": "from .values import *\n",
    "lib/values.py": "TABLE = {'a': [1, 2.5], 'b': (3,)}\n",
    "lib/deep.py": "from . import other_way\n\ndef deep(x):\n    return other_way.back(x)\n",
    "lib/other_way.py": "import lib.deep\n\ndef back(x):\n    return x if x else lib.deep.deep(x)\n",
    "lib/lazy.py": "from .lazier import STEP\n\ndef lazily(x):\n    return x + STEP\n",
    "lib/lazier.py": "STEP = 9\n",
    "side.py": "STATE = 1\n",
    "named.py": "STATE = 1\n",
    "params.yaml": "rate: 1\n",
    "lib/lazy_tasks.py": (
        "from tasks import Base\n\nclass LazyTask(Base):\n    def run_task(self):\n        return 7\n"
    ),
}


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeProject]:
    monkeypatch.chdir(folder)
    made = CodeProject(folder, PROJECT)
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
    Edit(
        "the order of definitions", False, "helpers.py", "FACTOR = 2\nDEFAULT = 7", "DEFAULT = 7\nFACTOR = 2"
    ),
    Edit(
        "a function that is not used",
        False,
        "tasks.py",
        "    return x\n\n\ndef deco",
        "    return 5\n\n\ndef deco",
    ),
    Edit("a constant that is not used", False, "tasks.py", "UNUSED = 1", "UNUSED = 2"),
    Edit(
        "an import that is not used", False, "tasks.py", "import functools\n", "import functools\nimport re\n"
    ),
    Edit("task_label", False, "tasks.py", 'task_label = "cpu"', 'task_label = ["gpu", "memory"]'),
    Edit(
        "task_compress_level", False, "tasks.py", "    SIZE = 4", "    task_compress_level = 0\n    SIZE = 4"
    ),
    Edit("run_task", True, "tasks.py", "even(2)", "even(4)"),
    Edit(
        "__init__", True, "tasks.py", "self.n = n\n        self.other", "self.n = n + 1\n        self.other"
    ),
    Edit("another method", True, "tasks.py", "Row(1)", "Row(2)"),
    Edit("the name of a local variable", True, "tasks.py", "inner = lambda", "innermost = lambda"),
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
    Edit(
        "a function in a dict", True, "helpers.py", "return x + 1\n\ndef partly", "return x + 2\n\ndef partly"
    ),
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
    Edit("task_code", False, "tasks.py", 'task_code = "deep"', 'task_code = "class"'),
    Edit("task_version", True, "tasks.py", "task_version = 3", "task_version = 4"),
    Edit("task_version written otherwise", False, "tasks.py", "task_version = 3", "task_version = 1 + 2"),
    Edit("task_depends_on", True, "tasks.py", "[helpers.stated, ", "["),
    Edit(
        "a function in task_depends_on", True, "helpers.py", "    return 1\n\nclass", "    return 2\n\nclass"
    ),
    Edit("a file in task_depends_on", True, "params.yaml", "rate: 1", "rate: 2"),
    Edit(
        "an import from another module",
        True,
        "tasks.py",
        "from json import load",
        "from plistlib import load",
    ),
    Edit("an import of another name", True, "tasks.py", "import load as", "import loads as"),
    Edit("a module imported in place of another", True, "tasks.py", "import textwrap", "import shlex"),
    Edit(
        "a base class imported from elsewhere",
        True,
        "tasks.py",
        "json import JSONEncoder",
        "plistlib import UID",
    ),
    Edit(
        "an import laid out otherwise",
        False,
        "tasks.py",
        "import load as foreign",
        "import (load as foreign)",
    ),
    Edit("what is imported if something is there", True, "tasks.py", "no_such_module", "another_module"),
    Edit("what stands in for it", True, "tasks.py", "optional = None", "optional = 0"),
    Edit("what is done to a module", True, "tasks.py", "wrapping.WIDTH = 5", "wrapping.WIDTH = 6"),
    Edit("how a program writes its log", False, "tasks.py", "level=30", "level=20"),
    Edit("a module imported for its own sake", True, "side.py", "STATE = 1", "STATE = 2"),
    Edit("a module imported by a plain name", True, "named.py", "STATE = 1", "STATE = 2"),
    Edit("__getattr__ of a module", True, "lib/__init__.py", "return 1", "return 2"),
    Edit("an attribute given to a class later", True, "tasks.py", "Given.size = 3", "Given.size = 4"),
    Edit("an attribute given to a function later", True, "tasks.py", "limit = 4", "limit = 5"),
    Edit("what decides what a name stands for", True, "tasks.py", "CHOICE = True", "CHOICE = False"),
    Edit("what an object keeps", True, "helpers.py", "MEASURE = 10", "MEASURE = 20"),
    Edit("the value of a class attribute", True, "tasks.py", "halved(SIZE)", "halved(SIZE + 1)"),
    Edit("a class that an annotation names in a text", True, "tasks.py", "VALUE = 1", "VALUE = 2"),
    Edit("an annotation that a single dispatch reads", True, "tasks.py", "_(x: int)", "_(x: str)"),
    Edit("a docstring that the code reads", True, "tasks.py", "Read me.", "Read it."),
]


@pytest.mark.parametrize("edit", EDITS, ids=[edit.what.replace(" ", "_") for edit in EDITS])
def test_an_edit_reruns_what_the_table_says(project: CodeProject, edit: Edit) -> None:
    before = project.describe()
    project.edit(edit.file, edit.old, edit.new)
    after = project.describe()
    assert (before.fingerprint != after.fingerprint) == edit.reruns, differences(
        before, after, lambda _: None
    )


def test_the_fingerprint_is_the_same_on_every_python_and_in_every_folder(project: CodeProject) -> None:
    assert project.fingerprint() == "2dc8e5c58a8df5c1585c0c12bca9bf27.335a7bf5d8697e2a.9b092076e6804a00"


def test_every_edit_stands_in_the_table_of_the_docs_and_nothing_else() -> None:
    table = (
        (REPO / "docs" / "code-changes.md")
        .read_text()
        .partition("## Edits, one by one")[2]
        .partition("\n## ")[0]
    )
    rows = [line.replace("`", "").split(" | ")[:2] for line in table.splitlines() if line.startswith("| ")]
    told = {what.removeprefix("| "): verdict for what, verdict in rows[1:]}
    assert told == {edit.what: "yes" if edit.reruns else "no" for edit in EDITS}


# --- where the code is, and how it runs ---


def test_a_file_has_one_fingerprint_run_imported_or_given(project: CodeProject) -> None:
    project.files["tasks.py"] += textwrap.dedent(
        """
        if __name__ == "__main__":
            from taskproc.engine.reachable_code import CodeReader
            print(CodeReader().fingerprint(Main))
        """
    )
    imported = project.fingerprint()
    run = subprocess.run(
        [sys.executable, "-B", "tasks.py"],
        cwd=project.folder,
        env={"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [imported]
    project.forget()
    given = load_file(str(project.folder / "tasks.py"))
    assert CodeReader().fingerprint(given.Main) == imported


def test_using_the_class_does_not_change_its_fingerprint(project: CodeProject) -> None:
    module = project.module()
    before = {name: CodeReader().parts(getattr(module, name)) for name in ("Main", "Other", "Lazy")}
    for name in before:
        task_class(getattr(module, name))
    assert {name: CodeReader().parts(getattr(module, name)) for name in before} == before


def test_a_package_is_followed_wherever_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    files = {
        "acme/__init__.py": "",
        "acme/tasks.py": (
            "from taskproc.core.task import Task\nfrom acme import inner\nimport stranger\n"
            "class Main(Task):\n    def run_task(self):\n        return inner.f() + stranger.f()\n"
        ),
        "acme/inner.py": "def f():\n    return 1\n",
        "stranger.py": "def f():\n    return 1\n",
    }
    project = CodeProject(folder, files)
    first = CodeReader().parts(project.module("acme.tasks").Main)
    assert set(first) == {"acme.tasks.Main", "acme.inner.f"}
    project.edit("acme/inner.py", "1", "2")
    assert CodeReader().parts(project.module("acme.tasks").Main) != first
    project.forget()


# --- which name led to which part counts too ---


def task_file(folder: Path, text: str, **more: str) -> CodeProject:
    head = "from taskproc.core.task import Task\nimport functools\n"
    return CodeProject(folder, {"tasks.py": head + textwrap.dedent(text), **more})


SWAPS = [
    ("functions under other names", "f, g = one, two", "f, g = two, one"),
    ("closures", "f, g = make(1), make(2)", "f, g = make(2), make(1)"),
    ("functions in closures", "f, g = keep(one), keep(two)", "f, g = keep(two), keep(one)"),
    ("lambdas", "f, g = lambda: 1, lambda: 2", "f, g = lambda: 2, lambda: 1"),
    ("lambdas' defaults", "f, g = [lambda x=x: x for x in (1, 2)]", "f, g = [lambda x=x: x for x in (2, 1)]"),
    ("local classes", "f, g = klass(1), klass(2)", "f, g = klass(2), klass(1)"),
    ("objects", "f, g = Thing(1), Thing(2)", "f, g = Thing(2), Thing(1)"),
    (
        "partials",
        "f, g = functools.partial(one), functools.partial(two)",
        "f, g = functools.partial(two), functools.partial(one)",
    ),
]


@pytest.mark.parametrize(
    ("what", "before", "after"), SWAPS, ids=[swap[0].replace(" ", "_") for swap in SWAPS]
)
def test_what_is_swapped_is_changed(folder: Path, what: str, before: str, after: str) -> None:
    project = task_file(
        folder,
        f"""
        def one(): return 1
        def two(): return 2
        def make(n):
            return lambda: n
        def keep(function):
            def call(): return function()
            return call
        def klass(n):
            class Local:
                N = n
            return Local
        class Thing:
            def __init__(self, n): self.n = n
            def __call__(self): return self.n
        {before}
        class Main(Task):
            def run_task(self): return f() - g()
        """,
    )
    first = project.fingerprint()
    assert project.fingerprint() == first
    project.edit("tasks.py", before, after)
    assert project.fingerprint() != first
    project.forget()


# --- things that code names in less usual ways ---

UNUSUAL = [
    (
        "a module used as a whole",
        "import helpers",
        "return getattr(helpers, 'ha' + 'lved')(1)",
        ("helpers.py", "x / 2", "x // 2"),
    ),
    (
        "a namedtuple",
        "P = collections.namedtuple('P', 'x y')",
        "return P(1, 2)",
        ("tasks.py", "'x y'", "'y x'"),
    ),
    ("an enum", "class E(enum.Enum):\n    A = 1", "return E.A.value", ("tasks.py", "A = 1", "A = 2")),
    (
        "an implementation of a single dispatch",
        "@functools.singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 1",
        "return g(1)",
        ("tasks.py", "return 1\n", "return 2\n"),
    ),
    (
        "a logger",
        "log = logging.getLogger('a')",
        "log.info('')",
        ("tasks.py", "getLogger('a')", "getLogger('b')"),
    ),
    ("a pattern", "PATTERN = re.compile('a+')", "return PATTERN", ("tasks.py", "'a+'", "'a*'")),
    (
        "a table filled by a loop",
        "T = {'k': object()}\nfor i in range(3):\n    T[i] = object()",
        "return T",
        ("tasks.py", "range(3)", "range(4)"),
    ),
    (
        "a table filled by a call",
        "T = {'k': object()}\nT.update(a=1)",
        "return T",
        ("tasks.py", "update(a=1)", "update(a=2)"),
    ),
    (
        "a table filled by a decorator",
        "T = {}\ndef add(f):\n    T[f.__name__] = f\n    return f\n@add\ndef h(): return 1",
        "return T['h']()",
        ("tasks.py", "def h(): return 1", "def h(): return 2"),
    ),
    (
        "a bound method",
        "class C:\n    def m(self): return 1\nM = C().m",
        "return M()",
        ("tasks.py", "def m(self): return 1", "def m(self): return 2"),
    ),
    (
        "a function behind a class of decorators",
        "class Memo:\n    def __init__(self, f): self.f = f\n"
        "    def __call__(self): return self.f()\n@Memo\ndef h(): return 1",
        "return h()",
        ("tasks.py", "def h(): return 1", "def h(): return 2"),
    ),
    (
        "a metaclass",
        "class M(type):\n    def m(cls): return 1\nclass C(metaclass=M): pass",
        "return C.m()",
        ("tasks.py", "def m(cls): return 1", "def m(cls): return 2"),
    ),
    (
        "a constant of another task",
        "class Other(Task):\n    LIMIT = 1\n    def run_task(self): pass",
        "return Other.LIMIT",
        ("tasks.py", "LIMIT = 1", "LIMIT = 2"),
    ),
    (
        "a branch of an if around a definition",
        "if True:\n    def h(): return 1\nelse:\n    def h(): return 3",
        "return h()",
        ("tasks.py", "return 1", "return 2"),
    ),
    (
        "an import inside, under another name",
        "",
        "import helpers as h; return h.far(1)",
        ("helpers.py", "x * FACTOR", "x + FACTOR"),
    ),
]


@pytest.mark.parametrize(
    ("before", "body", "edit"),
    [row[1:] for row in UNUSUAL],
    ids=[row[0].replace(" ", "_") for row in UNUSUAL],
)
def test_what_is_named_in_less_usual_ways_is_followed(
    folder: Path, before: str, body: str, edit: tuple[str, str, str]
) -> None:
    imports = "import collections, enum, logging, re\n"
    main = f"\nclass Main(Task):\n    def run_task(self):\n        {body}\n"
    project = task_file(folder, imports + before + "\n" + main, **{"helpers.py": HELPERS})
    first = project.fingerprint()
    assert project.fingerprint() == first
    project.edit(*edit)
    assert project.fingerprint() != first
    project.forget()


# --- memory and disk ---


def test_a_file_edited_after_its_import_is_not_taken_for_what_runs(project: CodeProject) -> None:
    module = project.module()
    first = CodeReader().fingerprint(module.Main)
    project.edit("helpers.py", "x / 2", "x // 2")
    (project.folder / "helpers.py").write_text(project.files["helpers.py"])
    in_memory = CodeReader().fingerprint(module.Main)
    edited = project.fingerprint()
    assert len({first, in_memory, edited}) == 3


def test_a_method_edited_after_its_import_is_not_taken_for_what_runs(project: CodeProject) -> None:
    module = project.module()
    project.edit("tasks.py", "even(2)", "even(4)")
    (project.folder / "tasks.py").write_text(project.files["tasks.py"])
    in_memory = CodeReader().fingerprint(module.Main)
    assert in_memory != project.fingerprint()


def test_lines_that_move_after_the_import_do_not_count(project: CodeProject) -> None:
    module = project.module()
    first = CodeReader().fingerprint(module.Main)
    helpers = project.folder / "helpers.py"
    helpers.write_text("# a comment\n\n" + helpers.read_text())
    assert CodeReader().fingerprint(module.Main) == first


def test_a_reader_keeps_what_it_read_and_a_refreshed_one_sees_what_changed(project: CodeProject) -> None:
    module = project.module()
    reader = CodeReader()
    first = reader.fingerprint(module.Main)
    module.THRESHOLD = 10
    assert reader.fingerprint(module.Main) == first
    assert reader.refreshed().fingerprint(module.Main) != first
    module.THRESHOLD = 3
    assert reader.refreshed().fingerprint(module.Main) == first


def test_a_function_put_in_place_of_another_counts(project: CodeProject) -> None:
    module = project.module()
    first = CodeReader().fingerprint(module.Main)
    module.helpers.halved = module.helpers.scaled
    assert CodeReader().fingerprint(module.Main) != first


def test_a_method_or_constant_given_to_a_class_later_counts(project: CodeProject) -> None:
    seen = {project.fingerprint()}
    for change in ({"half": lambda self: 0}, {"SIZE": 5}):
        module = project.module()
        for name, value in change.items():
            setattr(module.Main, name, value)
        seen.add(CodeReader().fingerprint(module.Main))
    assert len(seen) == 3


def test_a_global_that_functions_change_counts_by_its_source(project: CodeProject) -> None:
    module = project.module()
    first = CodeReader().fingerprint(module.Main)
    module.bump()
    assert module.counter == 1
    assert CodeReader().fingerprint(module.Main) == first


def test_a_deleted_global_counts_as_one_that_never_was(project: CodeProject) -> None:
    first = project.parts()
    module = project.module()
    del module.local_helper
    second = CodeReader().parts(module.Main)
    assert "tasks.local_helper" in first
    assert "tasks.local_helper" not in second
    assert first["tasks.Main"] != second["tasks.Main"]


# --- code without a file ---

CODE = """
from taskproc.core.task import Task
STEP = 1
def helper(x):
    'say something'
    return x + STEP
class Main(Task):
    K = 2
    def run_task(self):
        return helper(self.K)
"""


def executed(text: str, name: str = "<string>") -> type:
    names: dict[str, Any] = {"__name__": "made_by_exec"}
    exec(compile(text, name, "exec"), names)
    cls: type = names["Main"]
    return cls


@pytest.mark.parametrize(
    ("old", "new", "reruns"),
    [
        ("STEP = 1", "STEP = 2", True),
        ("x + STEP", "x - STEP", True),
        ("K = 2", "K = 3", True),
        ("helper(self.K)", "helper(self.K + 1)", True),
        ("def helper", "# a comment\n\ndef helper", False),
        ("say something", "say it again", False),
    ],
)
def test_without_source_the_bytecode_serves(old: str, new: str, reruns: bool) -> None:
    before = CodeReader().fingerprint(executed(CODE))
    after = CodeReader().fingerprint(executed(CODE.replace(old, new)))
    assert (before != after) == reruns


def test_python_c_has_a_fingerprint_that_stays() -> None:
    text = (
        CODE
        + "from taskproc.engine.reachable_code import CodeReader\nprint(CodeReader().fingerprint(Main))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", said],
            cwd=REPO,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, said in (("1", text), ("2", text), ("1", text.replace("x + STEP", "x - STEP")))
    ]
    assert runs[0] == runs[1] != runs[2]


def test_a_notebook_cell_is_read_as_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def cell(text: str, name: str) -> type:
        lines = text.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, name, (len(text), None, lines, name))
        return executed(text, name)

    first = CodeReader().fingerprint(cell(CODE, "<ipython-input-1>"))
    same = cell(CODE.replace("x + STEP", "(x  +  STEP)  # why"), "<ipython-input-2>")
    other = CodeReader().fingerprint(cell(CODE.replace("x + STEP", "x - STEP"), "<ipython-input-3>"))
    assert first == CodeReader().fingerprint(same) != other
    assert CodeReader().fingerprint(executed(CODE)) != first


# --- classes and functions of this file ---


def helper(x: int) -> int:
    return x + 1


def chain_of(length: int) -> Any:
    names: dict[str, Any] = {"__name__": "chained"}
    text = "\n".join(f"def f{i}(): return f{i + 1}()" for i in range(length))
    exec(compile(text, "<string>", "exec"), names)
    return names["f0"]


def test_a_class_made_in_a_function_counts_with_what_it_took_from_there() -> None:
    def make(n: int) -> type[Task]:
        class Local(Task):
            def run_task(self) -> int:
                return helper(n)

        return Local

    reader = CodeReader()
    assert reader.fingerprint(make(1)) == reader.fingerprint(make(1))
    assert reader.fingerprint(make(1)) != reader.fingerprint(make(2))
    assert any(name.endswith("test_reachable_code.helper") for name in reader.parts(make(1)))


def test_a_method_under_a_decorator_from_elsewhere_counts_with_what_it_took() -> None:
    def make(n: int) -> type[Task]:
        class Local(Task):
            @contextlib.contextmanager
            def opened(self) -> Iterator[int]:
                yield helper(n)

            def run_task(self) -> None: ...

        return Local

    reader = CodeReader()
    assert reader.fingerprint(make(1)) == reader.fingerprint(make(1)) != reader.fingerprint(make(2))


class Proxy:
    """A stand-in that has nothing to stand for yet."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("nothing there yet")


PROXY = Proxy()


def test_a_global_that_can_not_be_looked_at_counts_by_its_source() -> None:
    class Uses(Task):
        def run_task(self) -> Any:
            return PROXY

    assert any(name.endswith(".PROXY") for name in CodeReader().parts(Uses))


def test_a_chain_of_thousands_of_functions_costs_no_recursion() -> None:
    class Long(Task):
        def run_task(self) -> Any:
            return first()

    first = chain_of(3000)
    assert len(CodeReader().parts(Long)) > 3000


def test_builtins_c_functions_and_what_is_installed_are_not_followed() -> None:
    class Plain(Task):
        def run_task(self) -> Any:
            return [len, math.sqrt, json.dumps(1), pytest.approx, sys.argv, functools.reduce, NotThere]  # type: ignore[name-defined]  # noqa: F821

    assert list(CodeReader().parts(Plain)) == [f"{Plain.task_name}"]


def test_things_of_other_names_can_join() -> None:
    class Apply(Task):
        def run_task(self) -> None: ...

    reader = CodeReader()
    alone = reader.fingerprint(Apply)
    assert reader.fingerprint_with(Apply, []) == reader.fingerprint_with(Apply, ["json:dumps"]) == alone
    names = [f"{__name__}:helper", f"{__name__}:helper.<given>", f"{__name__}:not_there", "not_there:f"]
    joined = [reader.fingerprint_with(Apply, [name]) for name in names]
    assert alone not in joined
    assert joined[0] == joined[1]  # it is in the module of the class: loaded in any case
    assert len(set(joined)) == 3


# --- functions without a name as arguments ---


def test_a_lambda_is_told_by_its_code_defaults_and_cells() -> None:
    def make(n: Any) -> Any:
        return lambda x: x + n

    encode: Callable[[Any], Any] = CodeReader().encode_function
    assert encode(make(1)) == encode(make(1))
    assert encode(make(1)) != encode(make(2))
    assert encode(make(1)) != encode(make(1.0))
    assert encode(lambda x: x + 1) != encode(lambda x: x + 2)
    assert encode(lambda x=1: x) != encode(lambda x=2: x)
    assert encode(lambda x: helper(x)) != encode(lambda x: chain_of(x))
    json.dumps(encode(make(1)))


def test_two_lambdas_on_one_line_are_told_apart() -> None:
    encode: Callable[[Any], Any] = CodeReader().encode_function
    first, second = (lambda x: x + 1), (lambda x: x + 2)
    assert encode(first) != encode(second)
    same, again = (lambda x: x * 7), (lambda x: x * 7)
    assert encode(same) == encode(again)


def test_a_closure_that_holds_itself_has_a_form() -> None:
    def make() -> Any:
        def again(n: int) -> Any:
            return again(n - 1) if n else 0

        return again

    encode: Callable[[Any], Any] = CodeReader().encode_function
    assert encode(make()) == encode(make())


def test_a_lambda_that_holds_what_has_no_key_is_refused_by_name() -> None:
    thing = object()
    function: Any = lambda: thing  # noqa: E731
    with pytest.raises(ArgumentError, match="thing"):
        CodeReader().encode_function(function)


def test_a_lambda_in_an_argument_is_encoded_by_the_reader() -> None:
    encoder = Encoder(CodeReader().encode_function)
    assert encoder.encode([lambda x: x]) == encoder.encode([lambda x: x])


# --- cost ---

ONE_CLASS = '''
def helper_{i}(x):
    """Help."""
    total = 0
    for k in range(x):
        if k % 2:
            total += k * {i}
    return total

class Task{i}(Task):
    """A task."""

    def __init__(self, n: int, k: int = 1) -> None:
        self.n = n
        self.k = k

    def run_task(self) -> int:
        values = [helper_{i}(j) for j in range(self.n)]
        return sum(values) + self.k + LIMIT
'''


def test_a_class_costs_at_most_a_millisecond(folder: Path) -> None:
    project = task_file(folder, "LIMIT = 5\n" + "".join(ONE_CLASS.format(i=i) for i in range(200)))
    module = project.module()
    classes = [getattr(module, f"Task{i}") for i in range(200)]
    best = math.inf
    for _ in range(3):
        reader = CodeReader()
        start = time.process_time()
        for cls in classes:
            reader.fingerprint(cls)
        best = min(best, (time.process_time() - start) / len(classes))
    project.forget()
    assert best < 1e-3


def test_threads_that_read_source_at_the_same_time_do_not_disturb_each_other() -> None:
    """CPython before 3.13 takes the depth of both for that of one, where the collector lets the other in."""
    text = "\n".join(f"def f{n}(x):\n    return [(x + {n}) * 2 for x in range({n}) if x]" for n in range(150))
    faults: list[BaseException] = []

    def let_others_in(phase: str, info: dict[str, int]) -> None:
        for _ in range(50):
            pass

    def read_again_and_again() -> None:
        try:
            for _ in range(25):
                assert SourceFile(text).compiled("f1")
        except BaseException as error:
            faults.append(error)

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    gc.callbacks.append(let_others_in)
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=read_again_and_again) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
        gc.callbacks.remove(let_others_in)
    assert faults == []
