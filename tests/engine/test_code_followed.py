"""Edits of code that comes to a task in roundabout ways: each is noticed.

Each way is tried with the module imported at the top, where what is in memory counts, and
imported where it is used, where the source alone is known.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from code_project import CodeProject

from taskproc.engine.reachable_code import CodeReader

HELPERS = """
def one(): return 1
def two(): return 2

class Config:
    LIMIT = 3
    def get(self): return self.LIMIT

class Setup:
    def get(self): return 5

def __getattr__(name):
    if name == "lazy":
        return "at first"
    raise AttributeError(name)
"""


class Edit(NamedTuple):
    """The text of a module, an edit of it, and how a task uses it."""

    what: str
    text: str
    old: str
    new: str
    use: str = "f()"


CLASSES = [
    Edit("a nested class", "class A:\n    class B:\n        X = 1", "X = 1", "X = 2", "A.B.X"),
    Edit(
        "a decorator of a class",
        "def deco(c):\n    c.x = 1\n    return c\n@deco\nclass C: pass",
        "c.x = 1",
        "c.x = 2",
        "C.x",
    ),
    Edit(
        "a class behind a decorator that replaces it",
        "def deco(c):\n    class W(c):\n        y = 1\n    return W\n@deco\nclass C:\n    z = 1",
        "z = 1",
        "z = 2",
        "C.y",
    ),
    Edit(
        "a metaclass",
        "class M(type):\n    def __call__(cls): return 1\nclass C(metaclass=M): pass",
        "return 1",
        "return 2",
        "C()",
    ),
    Edit(
        "what a class tells its base",
        "class B:\n    def __init_subclass__(cls, k): cls.z = k\nclass C(B, k=1): pass",
        "k=1)",
        "k=2)",
        "C.z",
    ),
    Edit(
        "__init_subclass__",
        "class B:\n    def __init_subclass__(cls): cls.z = 1\nclass C(B): pass",
        "cls.z = 1",
        "cls.z = 2",
        "C.z",
    ),
    Edit(
        "a descriptor",
        "class D:\n    def __get__(s, i, o): return 1\nclass C:\n    d = D()",
        "return 1",
        "return 2",
        "C.d",
    ),
    Edit(
        "a property given later",
        "class C: pass\ndef g(self): return 1\nC.p = property(g)",
        "return 1",
        "return 2",
        "C().p",
    ),
    Edit(
        "an argument of a partialmethod given later",
        "import functools\ndef m(self, n): return n\nclass C: pass\nC.p = functools.partialmethod(m, 3)",
        "m, 3",
        "m, 4",
        "C().p()",
    ),
    Edit("an attribute given later", "class C: pass\nC.x = 1", "C.x = 1", "C.x = 2", "C.x"),
    Edit("an object given later", "class C: pass\nC.x = object()", "object()", "[object()]", "C.x"),
    Edit(
        "an attribute by setattr", "class C: pass\nsetattr(C, 'x', object())", "object()", "[object()]", "C.x"
    ),
    Edit("attributes by a loop", "class C: pass\nfor n in 'ab': setattr(C, n, 1)", "'ab'", "'bc'", "C.a"),
    Edit("an attribute taken away", "class C:\n    x = y = 1\ndel C.y", "del C.y", "del C.x", "C()"),
    Edit("a registered subclass", "import abc\nclass A(abc.ABC): pass\nA.register(int)", "int", "str", "A"),
    Edit(
        "a method put in place of another",
        "class C:\n    def m(self): return 1\nC.m = lambda self: 2",
        "self: 2",
        "self: 3",
        "C().m()",
    ),
    Edit(
        "a default factory",
        "from dataclasses import dataclass, field\ndef make(): return 1\n@dataclass\nclass C:\n"
        "    x: int = field(default_factory=make)",
        "return 1",
        "return 2",
        "C()",
    ),
    Edit(
        "an option of a dataclass",
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass C:\n    x: int",
        "True",
        "False",
        "C(1)",
    ),
    Edit(
        "a class that an annotation names by a text",
        "from dataclasses import dataclass\nclass N:\n    x = 1\n@dataclass\nclass C:\n    n: 'list[N]'",
        "x = 1",
        "x = 2",
        "C([])",
    ),
    Edit(
        "a member of an Enum", "import enum\nclass E(enum.Enum):\n    A = 1\nX = E.A", "A = 1", "A = 2", "X"
    ),
    Edit(
        "the order of an Enum's members",
        "import enum\nclass E(enum.Enum):\n    A = enum.auto()\n    B = enum.auto()",
        "A = enum.auto()\n    B",
        "B = enum.auto()\n    A",
        "E.A",
    ),
    Edit(
        "the value of a member of an Enum",
        "import enum, helpers\nclass E(enum.Enum):\n    A = helpers.one()",
        "one()",
        "two()",
        "E.A",
    ),
    Edit("an Enum made by a call", "import enum\nE = enum.Enum('E', 'A B')", "A B", "B A", "E.A"),
    Edit(
        "a key of a TypedDict",
        "from typing import TypedDict\nclass T(TypedDict):\n    a: int",
        "a: int",
        "a: str",
        "T(a=1)",
    ),
    Edit(
        "a default of a NamedTuple",
        "from typing import NamedTuple\nclass T(NamedTuple):\n    a: int = 1",
        "= 1",
        "= 2",
        "T()",
    ),
    Edit(
        "a method of a Protocol",
        "from typing import Protocol\nclass P(Protocol):\n    def m(self): return 1\nclass C(P): pass",
        "return 1",
        "return 2",
        "C().m()",
    ),
    Edit("a class made by type()", "T = type('T', (), {'x': 1})", "'x': 1", "'x': 2", "T.x"),
    Edit(
        "a class made by a call from outside",
        "import dataclasses\nT = dataclasses.make_dataclass('T', ['a'])",
        "['a']",
        "['b']",
        "T(1)",
    ),
    Edit(
        "the order of the bases",
        "class A:\n    m = 1\nclass B:\n    m = 2\nclass C(A, B): pass",
        "(A, B)",
        "(B, A)",
        "C.m",
    ),
    Edit(
        "a class in either branch",
        "import os\nif os.name:\n    class C:\n        X = [1]\nelse:\n    class C:\n        X = [2]",
        "[1]",
        "[3]",
        "C.X",
    ),
    Edit(
        "what decides between two classes",
        "K = 1\nif K:\n    class C:\n        X = [1]\nelse:\n    class C:\n        X = [2]",
        "K = 1",
        "K = 0",
        "C.X",
    ),
    Edit(
        "a class made in a function",
        "def make(n):\n    class C:\n        N = n\n    return C\nC = make(1)",
        "make(1)",
        "make(2)",
        "C.N",
    ),
    Edit("a docstring that is read", "class C:\n    'one'", "'one'", "'two'", "C.__doc__"),
]

FUNCTIONS = [
    Edit(
        "the order of two decorators",
        "import functools\ndef d1(f):\n    @functools.wraps(f)\n    def w(): return f() + 1\n    return w\n"
        "def d2(f):\n    @functools.wraps(f)\n    def w(): return f() * 2\n    return w\n"
        "@d1\n@d2\ndef f(): return 1",
        "@d1\n@d2",
        "@d2\n@d1",
    ),
    Edit(
        "an argument of a decorator",
        "def d(n):\n    def dd(f):\n        def w(): return f() + n\n        return w\n    return dd\n"
        "@d(3)\ndef f(): return 1",
        "@d(3)",
        "@d(4)",
    ),
    Edit("a coroutine", "async def f(): return 1", "return 1", "return 2"),
    Edit("an asynchronous generator", "async def f():\n    yield 1", "yield 1", "yield 2"),
    Edit(
        "a generator of a generator", "def f():\n    yield from g()\ndef g(): yield 1", "yield 1", "yield 2"
    ),
    Edit(
        "a context manager",
        "from contextlib import contextmanager\n@contextmanager\ndef f():\n    yield 1",
        "yield 1",
        "yield 2",
    ),
    Edit(
        "the annotation that a single dispatch reads",
        "import functools\n@functools.singledispatch\ndef f(x): return 0\n"
        "@f.register\ndef _(x: int): return 1",
        "x: int",
        "x: str",
        "f(1)",
    ),
    Edit(
        "the type for which a function is registered",
        "import functools\n@functools.singledispatch\ndef f(x): return 0\n"
        "def g(x): return 1\nf.register(int, g)",
        "int, g",
        "str, g",
        "f(1)",
    ),
    Edit(
        "a single dispatch of methods",
        "import functools\nclass C:\n    @functools.singledispatchmethod\n    def m(self, x): return 0\n"
        "    @m.register\n    def _(self, x: int): return 1",
        "return 1",
        "return 2",
        "C().m(1)",
    ),
    Edit("an attribute of a function", "def f(): return f.n\nf.n = object()", "object()", "[object()]"),
    Edit(
        "a function in a branch",
        "K = 1\nif K:\n    def f(): return 1\nelse:\n    def f(): return 2",
        "= 1",
        "= 0",
    ),
    Edit(
        "a function in a try", "try:\n    def f(): return 1\nexcept Exception: pass", "return 1", "return 2"
    ),
    Edit(
        "a function in a with",
        "import contextlib\nwith contextlib.suppress(KeyError):\n    def f(): return 1",
        "return 1",
        "return 2",
    ),
    Edit("a function in a loop", "for i in (1,):\n    def f(k=i): return k", "(1,)", "(2,)"),
    Edit("a function in a match", "match 1:\n    case 1:\n        def f(): return 1", "return 1", "return 2"),
    Edit("a lambda among others", "fs = (lambda: 1, lambda: 2)", "1, lambda: 2", "2, lambda: 1", "fs[0]()"),
    Edit("a lambda in a lambda", "f = lambda: (lambda: 1)()", ": 1)", ": 2)"),
    Edit(
        "a variable that a closure changes",
        "def make():\n    n = 1\n    def inc():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return inc\nf = make()",
        "n = 1\n",
        "n = 2\n",
    ),
    Edit("a default that is a list", "def f(x=[1]): return x", "[1]", "[2]"),
    Edit("a default of a keyword", "def f(*, x=1): return x", "x=1", "x=2"),
    Edit(
        "a function in its place",
        "import helpers\nhelpers.one = helpers.two",
        "two",
        "Setup",
        "helpers.one()",
    ),
    Edit("a docstring of a function that is read", "def f():\n    'one'", "'one'", "'two'", "f.__doc__"),
    Edit("a bound method", "import helpers\nf = helpers.Config().get", "Config()", "Setup()"),
    Edit("an attrgetter", "import operator\nf = operator.attrgetter('a')", "'a'", "'b'", "f(1)"),
    Edit(
        "an object from outside in a closure",
        "import threading\ndef make(s):\n    return lambda: s\nf = make(threading.Semaphore(1))",
        "Semaphore(1)",
        "Semaphore(2)",
    ),
    Edit(
        "an object in a closure",
        "class H:\n    def __init__(s, n): s.n = n\ndef make(h):\n    return lambda: h.n\nf = make(H(1))",
        "H(1)",
        "H(2)",
    ),
]

VALUES = [
    Edit("a walrus of the module", "if (X := object()):\n    pass", "object()", "[object()]", "X"),
    Edit("a table changed later", "import helpers\nT = {}\nT['a'] = helpers.one", "one", "two", "T['a']()"),
    Edit("a table updated", "import helpers\nT = {}\nT.update(a=helpers.one)", "one", "two", "T['a']()"),
    Edit(
        "a table in a table",
        "T = {}\nT.setdefault('a', []).append(object())",
        "(object())",
        "([object()])",
        "T['a']",
    ),
    Edit("a constant added to", "X = 1\nX += 1", "+= 1", "+= 2", "X"),
    Edit("one of two objects", "A, B = object(), object()", "(), object()", "(), [object()]", "A"),
    Edit("an object of a loop", "for i in range(3):\n    Z = object()", "range(3)", "range(4)", "Z"),
    Edit(
        "an object made by a function", "def mk(): return object()\nX = mk()", "object()", "[object()]", "X"
    ),
    Edit(
        "what decides about an object",
        "K = 1\nif K:\n    X = object()\nelse:\n    X = [object()]",
        "K = 1",
        "K = 0",
        "X",
    ),
    Edit("a flag of a pattern", "import re\nA = re.compile('a', re.I)", "re.I", "re.M", "A"),
    Edit("a generic alias", "import helpers\nA = list[helpers.Config]", "Config", "Setup", "A()"),
    Edit("a union", "import helpers\nA = helpers.Config | int", "| int", "| str", "A"),
    Edit(
        "a default of a defaultdict",
        "import helpers\nfrom collections import defaultdict\nT = defaultdict(helpers.one)",
        "one)",
        "two)",
        "T[1]",
    ),
    Edit("a ChainMap", "from collections import ChainMap\nT = ChainMap({'a': 1})", "1}", "2}", "T"),
    Edit(
        "a read-only table",
        "import helpers\nfrom types import MappingProxyType\nT = MappingProxyType({'a': helpers.one})",
        "one}",
        "two}",
        "T",
    ),
    Edit(
        "a namespace",
        "import helpers\nfrom types import SimpleNamespace\nT = SimpleNamespace(a=helpers.one)",
        "one)",
        "two)",
        "T.a()",
    ),
    Edit(
        "a function that an object hides",
        "def q(): return 1\nclass H:\n    def __init__(s, f): s._f = f\nh = H(q)",
        "return 1",
        "return 2",
        "h._f()",
    ),
    Edit(
        "an attribute of an attribute",
        "class A: pass\na = A()\na.b = A()\na.b.c = 5",
        "= 5",
        "= 6",
        "a.b.c",
    ),
    Edit("a text that is run", "CODE = 'x=1'", "x=1", "x=2", "CODE"),
    Edit(
        "a module imported by a plain name",
        "import importlib\nm = importlib.import_module('helpers')",
        "'helpers'",
        "'json'",
        "m.one",
    ),
]

EVERY = [*CLASSES, *FUNCTIONS, *VALUES]


def task_that_uses(folder: Path, edit: Edit, inside: bool) -> CodeProject:
    use = edit.use.replace("helpers.", "lib.helpers.") if inside else edit.use
    body = f"import lib; return lib.{use.removeprefix('lib.')}" if inside else f"return {use}"
    head = "" if inside else "from lib import *\nimport helpers\n"
    text = f"from taskproc import Task\n{head}class Main(Task):\n    def run_task(self):\n        {body}\n"
    return CodeProject(folder, {"tasks.py": text, "lib.py": f"{edit.text}\n", "helpers.py": HELPERS})


@pytest.mark.parametrize("inside", [False, True], ids=["at the top", "inside"])
@pytest.mark.parametrize("edit", EVERY, ids=[re.sub(r"\W", "_", edit.what) for edit in EVERY])
def test_an_edit_of_what_is_reached_in_a_roundabout_way_is_noticed(
    folder: Path, edit: Edit, inside: bool
) -> None:
    project = task_that_uses(folder, edit, inside)
    before = project.parts()
    assert project.parts() == before
    project.edit("lib.py", edit.old, edit.new)
    after = project.parts()
    project.forget()
    assert before != after


# --- what other modules do ---

THIRD = [
    ("an attribute", "import helpers\nhelpers.Config.EXTRA = 1\n", "1", "2", "helpers.Config.EXTRA"),
    ("a table", "import helpers\nhelpers.Config.EXTRA = {1: 1}\n", ": 1", ": 2", "helpers.Config.EXTRA"),
    ("another value", "import helpers\nhelpers.Config.LIMIT = {1: 1}\n", ": 1", ": 2", "helpers.Config()"),
    (
        "a function in a table",
        "import helpers\ndef g(): return 1\nhelpers.Config.EXTRA = {1: g}\n",
        "return 1",
        "return 2",
        "helpers.Config.EXTRA",
    ),
    (
        "a function",
        "import helpers\ndef g(): return 1\nhelpers.one = g\n",
        "return 1",
        "return 2",
        "helpers.one()",
    ),
]


@pytest.mark.parametrize(("text", "old", "new", "use"), [row[1:] for row in THIRD], ids=[r[0] for r in THIRD])
def test_what_a_third_module_gives_to_another_counts(
    folder: Path, text: str, old: str, new: str, use: str
) -> None:
    tasks = (
        f"from taskproc import Task\nimport helpers, patch\n"
        f"class Main(Task):\n    def run_task(self):\n        return {use}\n"
    )
    project = CodeProject(folder, {"tasks.py": tasks, "helpers.py": HELPERS, "patch.py": text})
    before = project.fingerprint()
    project.edit("patch.py", old, new)
    after = project.fingerprint()
    project.forget()
    assert before != after


PLACES = [
    ("re-exported", {"lib/__init__.py": "from .b import f\n"}, "from lib import f", "return f()"),
    ("a module of a package", {"lib/__init__.py": ""}, "import lib.b", "return lib.b.f()"),
    ("a package without a file", {}, "import lib.b", "return lib.b.f()"),
    ("a package without a file, by name", {}, "from lib import b", "return b.f()"),
    (
        "relative",
        {"lib/__init__.py": "", "lib/c.py": "from . import b\ndef g(): return b.f()\n"},
        "from lib.c import g",
        "return g()",
    ),
    (
        "through a function of the package",
        {"lib/__init__.py": "def __getattr__(n):\n    from .b import f\n    return f\n"},
        "import lib",
        "return lib.anything()",
    ),
]


@pytest.mark.parametrize("inside", [False, True], ids=["at the top", "inside"])
@pytest.mark.parametrize(("files", "head", "body"), [row[1:] for row in PLACES], ids=[r[0] for r in PLACES])
def test_code_is_found_wherever_it_lies_in_a_package(
    folder: Path, files: dict[str, str], head: str, body: str, inside: bool
) -> None:
    top, inner = ("", f"{head}; {body}") if inside else (f"{head}\n", body)
    tasks = f"from taskproc import Task\n{top}class Main(Task):\n    def run_task(self):\n        {inner}\n"
    project = CodeProject(folder, {"tasks.py": tasks, "lib/b.py": "def f(): return 1\n", **files})
    before = project.fingerprint()
    project.edit("lib/b.py", "return 1", "return 2")
    after = project.fingerprint()
    project.forget()
    assert before != after


def test_an_import_for_its_own_sake_counts_as_a_whole(folder: Path) -> None:
    tasks = "from taskproc import Task\nclass Main(Task):\n    def run_task(self):\n        import side\n"
    project = CodeProject(folder, {"tasks.py": tasks, "side.py": "STATE = 1\n"})
    before = project.fingerprint()
    project.edit("side.py", "1", "2")
    after = project.fingerprint()
    project.forget()
    assert before != after


def test_a_member_of_an_enum_counts_by_its_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import enum, os\nclass E(enum.Enum):\n    A = os.environ['VALUE']\n"
    main = "class Main(Task):\n    def run_task(self):\n        return E.A\n"
    project = CodeProject(folder, {"tasks.py": f"from taskproc import Task\n{text}{main}"})
    found = []
    for value in ("1", "2", "1"):
        monkeypatch.setenv("VALUE", value)
        found.append(project.fingerprint())
    project.forget()
    assert found[0] == found[2] != found[1]


# --- what differs from run to run does not count ---

STEADY = [
    ("a counter that a method raises", "class C:\n    n = 0\n    def f(self): type(self).n += 1", "C().f()"),
    (
        "a counter that an object raises",
        "class C:\n    n = 0\n    def f(self): self.n += 1\nc = C()",
        "c.f()",
    ),
    (
        "a hidden store",
        "class C:\n    def __init__(self): self._s = {}\n    def f(self): self._s[1] = 1\nc = C()",
        "c.f()",
    ),
    ("a hidden store of a class", "class C:\n    _s = {}\n    def f(self): self._s[1] = 1", "C().f()"),
    ("a store in a default", "def f(store={}):\n    store[1] = 1", "f()"),
    ("a counter of a function", "def f(): f.n += 1\nf.n = 0", "f()"),
    ("a hidden time", "import time\nclass C:\n    def __init__(self): self._t = time.time()\nc = C()", "c"),
    ("a global", "n = 0\ndef f():\n    global n\n    n += 1", "f()"),
]


@pytest.mark.parametrize(("text", "use"), [row[1:] for row in STEADY], ids=[row[0] for row in STEADY])
def test_what_changes_as_the_code_runs_does_not_count(folder: Path, text: str, use: str) -> None:
    main = f"class Main(Task):\n    def run_task(self):\n        return {use}\n"
    project = CodeProject(folder, {"tasks.py": f"from taskproc import Task\n{text}\n{main}"})
    before = project.parts()
    module = project.module()
    module.Main.run_task(None)
    after = CodeReader().parts(module.Main)
    project.forget()
    assert before == after
