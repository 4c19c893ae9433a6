"""An edit of code that a task runs makes it run again, by whatever way the code came to the task.

Here the whole pipeline is run before and after an edit; tests/engine/test_reachable_code.py has the
table of the single edits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edited_project import EditedProject


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditedProject]:
    made = EditedProject(tmp_path, monkeypatch)
    yield made
    made.forget()


# What the tasks use. Each is edited by putting 20 for 10.
HELPERS = """
import enum
import functools
from dataclasses import dataclass
from typing import NamedTuple

def ten():
    return 10

class Value:
    def __init__(self, n=1):
        self.n = n

    def scaled(self):
        return self.n * 10

    @property
    def ten(self):
        return 10

    @classmethod
    def made(cls):
        return cls().scaled()

    def __call__(self):
        return self.scaled()

@dataclass
class Options:
    n: int = 1

    def scaled(self):
        return self.n * 10

class Pair(NamedTuple):
    n: int = 1
    m: int = 2

    def scaled(self):
        return self.n * 10

class Colour(enum.Enum):
    RED = 1

    def scaled(self):
        return self.value * 10

class Number(int):
    def scaled(self):
        return self * 10

class Told:
    __task_args__ = ()

    def scaled(self):
        return 10

class Scaled:
    # A Future of the user's own.
    def __init__(self, inner):
        self.inner = inner

    def get_result(self):
        return self.inner.get_result() * 10

    def get_upstreams(self):
        return self.inner.get_upstreams()

    def to_json(self):
        return self.inner.to_json()

class Descriptor:
    def __get__(self, instance, owner):
        return 10

def deco(cls):
    cls.ten = lambda self: 10
    return cls

def decorated(function):
    return lambda *args: function(*args) * 10

def method(self):
    return 10
"""

HEAD = """
import functools, operator
import helpers
from helpers import ten
from taskproc import Const, FutureDict, FutureList, Task

class One(Task):
    def __init__(self, n=1):
        self.n = n

    def run_task(self):
        return self.n

class Keeps(Task):
    # A task that holds something, for others to take it from there.
    def __init__(self, thing):
        self.thing = thing

    def run_task(self):
        return 0
"""

TAKES = """
class T(Task):
    def __init__(self, x):
        self.x = x

    def run_task(self):
        return {how}

def task():
    return T({what})
"""

# name: (the argument of a task, what it does with it)
ARGUMENTS = {
    "a function": ("ten", "self.x()"),
    "a function deep inside": ("[{'f': (ten,)}]", "self.x[0]['f'][0]()"),
    "a function in a partial": ("functools.partial(ten)", "self.x()"),
    "a lambda": ("lambda: ten()", "self.x()"),
    "a class": ("helpers.Value", "self.x().scaled()"),
    "a class deep inside": ("((helpers.Value,),)", "self.x[0][0]().scaled()"),
    "a dataclass": ("helpers.Options()", "self.x.scaled()"),
    "a dataclass deep inside": ("[{'o': helpers.Options()}]", "self.x[0]['o'].scaled()"),
    "a dataclass in a Const": ("Const(helpers.Options())", "self.x.get_result().scaled()"),
    "a namedtuple": ("helpers.Pair()", "self.x.scaled()"),
    "an enum": ("helpers.Colour.RED", "self.x.scaled()"),
    "an enum as a key": ("{helpers.Colour.RED: 1}", "[*self.x][0].scaled()"),
    "a subclass of int": ("helpers.Number(1)", "self.x.scaled()"),
    "an object with __task_args__": ("helpers.Told()", "self.x.scaled()"),
    "a Future of one's own": ("helpers.Scaled(One())", "self.x.get_result()"),
    "such a Future in a FutureList": ("FutureList([helpers.Scaled(One())])", "self.x.get_result()[0]"),
    "such a Future in another": ("helpers.Scaled(helpers.Scaled(One()))", "self.x.get_result() ** 0.5"),
    "a part of such a Future": (
        "FutureList([helpers.Scaled(Const([1]))])[0:1]",
        "len(self.x.get_result()[0])",
    ),
}


def expect_a_rerun(project: EditedProject, text: str, edit_tasks: bool = False) -> None:
    project.write(helpers=HELPERS, tasks=HEAD + text)
    before, _ = project.run()
    assert project.run() == (before, 0)
    if edit_tasks:
        project.write(tasks=(HEAD + text).replace("10", "20"))
    else:
        project.write(helpers=HELPERS.replace("10", "20"))
    after, ran = project.run()
    assert (before, after) == (10, 20)
    assert ran
    assert project.run() == (after, 0)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_code_that_comes_with_an_argument_counts(project: EditedProject, name: str) -> None:
    what, how = ARGUMENTS[name]
    expect_a_rerun(project, TAKES.format(what=what, how=how))


HANDED = """
class T(Task):
    def __init__(self, other):
        self.{name} = other.thing

    def run_task(self):
        return {how}

def task():
    return T(Keeps({what}))
"""


@pytest.mark.parametrize(
    "name",
    [
        "a function",
        "a function in a partial",
        "a class",
        "a dataclass",
        "a subclass of int",
        "a Future of one's own",
    ],
)
def test_the_code_that_an_attribute_got_from_another_task_counts(project: EditedProject, name: str) -> None:
    """Neither the class of the task names it nor is it among the arguments; it is there, and is run."""
    what, how = ARGUMENTS[name]
    expect_a_rerun(project, HANDED.format(what=what, how=how, name="x"))


OWN = {
    "made in __init__": (
        "class T(Task):\n    def __init__(self):\n        self.x = helpers.Value()\n"
        "    def run_task(self):\n        return self.x.scaled()\n"
    ),
    "made in __init__ and hidden": (
        "class T(Task):\n    def __init__(self):\n        self._x = helpers.Value()\n"
        "    def run_task(self):\n        return self._x.ten\n"
    ),
    "made by a class attribute": (
        "class T(Task):\n    make = staticmethod(helpers.Value)\n    def __init__(self):\n"
        "        self.x = type(self).make()\n    def run_task(self):\n        return self.x.scaled()\n"
    ),
    "a descriptor": (
        "class T(Task):\n    x = helpers.Descriptor()\n    def run_task(self):\n        return self.x\n"
    ),
    "a decorator of the class": (
        "@helpers.deco\nclass T(Task):\n    def run_task(self):\n        return self.ten()\n"
    ),
    "a decorator of run_task": (
        "class T(Task):\n    @helpers.decorated\n    def run_task(self):\n        return 1\n"
    ),
    "a method given later": (
        "class T(Task):\n    def run_task(self):\n        return self.method()\nT.method = helpers.method\n"
    ),
    "a base beside Task": (
        "class T(Task, helpers.Value):\n    def __init__(self):\n        self.n = 1\n"
        "    def run_task(self):\n        return super().scaled()\n"
    ),
    "a bound method as a constant": (
        "BOUND = helpers.Value().scaled\nclass T(Task):\n    def run_task(self):\n        return BOUND()\n"
    ),
    "an object as a constant": (
        "THING = helpers.Value()\nclass T(Task):\n    def run_task(self):\n        return THING()\n"
    ),
    "a default made by a call": (
        "class T(Task):\n    def __init__(self, n=ten()):\n        self.n = n\n"
        "    def run_task(self):\n        return self.n\n"
    ),
    "a default that is a class": (
        "class T(Task):\n    def __init__(self, kind=None):\n        self.kind = kind or helpers.Value\n"
        "    def run_task(self):\n        return self.kind.made()\n"
    ),
    "a name in an f-string": (
        "class T(Task):\n    def run_task(self):\n        return int(f'{ten():>{ten()}}')\n"
    ),
    "a name in a comprehension in a function in a method": (
        "class T(Task):\n    def run_task(self):\n        def inner():\n"
        "            return [helpers.Value(n).scaled() for n in (1,)]\n        return inner()[0]\n"
    ),
    "a name in a match": (
        "class T(Task):\n    def run_task(self):\n        match 1:\n"
        "            case n if (found := helpers.Value(n).scaled()):\n                return found\n"
    ),
    "a module under another name": (
        "again = helpers\nclass T(Task):\n    def run_task(self):\n        return again.ten()\n"
    ),
    "a module imported in a try": (
        "try:\n    import no_such_thing as h\nexcept ImportError:\n    import helpers as h\n"
        "class T(Task):\n    def run_task(self):\n        return h.ten()\n"
    ),
    "a method by its name": (
        "class T(Task):\n    def run_task(self):\n"
        "        return operator.methodcaller('scaled')(helpers.Value())\n"
    ),
    "a dict of functions": (
        "TABLE = {'a': helpers.ten}\nclass T(Task):\n    def run_task(self):\n        return TABLE['a']()\n"
    ),
    "a dict of functions in the class": (
        "class T(Task):\n    table = {'a': helpers.ten}\n    def run_task(self):\n"
        "        return self.table['a']()\n"
    ),
    "a single dispatch": (
        "@functools.singledispatch\ndef f(x):\n    return 0\n@f.register\ndef _(x: int):\n    return ten()\n"
        "class T(Task):\n    def run_task(self):\n        return f(1)\n"
    ),
    "a cached property": (
        "class T(Task):\n    @functools.cached_property\n    def x(self):\n        return ten()\n"
        "    def run_task(self):\n        return self.x\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_the_code_that_a_class_names_counts_in_whatever_way_it_is_named(
    project: EditedProject, name: str
) -> None:
    expect_a_rerun(project, OWN[name] + "def task():\n    return T()\n")


REGISTRIES = {
    "a dict of a module": (
        "table = {{}}\ndef add(f):\n    table[f.__name__] = f\n    return f\n",
        "add", "registry.table['{}']()",
    ),
    "a dict of a class": (
        "class R:\n    table = {{}}\n    @classmethod\n    def add(cls, f):\n"
        "        cls.table[f.__name__] = f\n        return f\n",
        "R.add", "registry.R.table['{}']()",
    ),
    "a list of a class": (
        "class R:\n    all = []\n    @classmethod\n    def add(cls, f):\n        cls.all.append(f)\n"
        "        return f\n",
        "R.add", "registry.R.all[0]()",
    ),
    "an object": (
        "class R:\n    def __init__(self):\n        self.table = {{}}\n    def add(self, f):\n"
        "        self.table[f.__name__] = f\n        return f\nit = R()\n",
        "it.add", "registry.it.table['{}']()",
    ),
    "an object with slots": (
        "class R:\n    __slots__ = ('table',)\n    def __init__(self):\n        self.table = {{}}\n"
        "    def add(self, f):\n        self.table[f.__name__] = f\n        return f\nit = R()\n",
        "it.add", "registry.it.table['{}']()",
    ),
    "subclasses that register themselves": (
        "class R:\n    subs = {{}}\n    def __init_subclass__(cls):\n        R.subs['go'] = cls\n",
        None, "registry.R.subs['{}']().go()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REGISTRIES)
def test_what_was_put_into_a_registry_counts(project: EditedProject, name: str) -> None:
    """A file of plugins, each of which a decorator registers: what is registered is what runs."""
    registry, add, how = REGISTRIES[name]
    if add is None:
        entries = "import registry\nclass A(registry.R):\n    def go(self):\n        return 10\n"
    else:
        entries = f"import registry\n@registry.{add}\ndef go():\n    return 10\n"
    project.write(
        registry=registry.format(),
        entries=entries,
        tasks="import registry, entries\nfrom taskproc import Task\n\n"
        f"class T(Task):\n    def run_task(self):\n        return {how.format('go')}\n\n"
        "def task():\n    return T()\n",
    )
    assert project.run() == (10, 1)
    assert project.run() == (10, 0)
    project.edit("entries", "10", "20")
    assert project.run() == (20, 1)


TASK_CLASS = """
class Variant(Task):
    factor = 10

    @staticmethod
    def weight():
        return 10

    def run_task(self):
        return 10

class T(Task):
    def __init__(self, kind):
        self.kind = kind
        self.up = kind()

    def run_task(self):
        return {how}

def task():
    return T(Variant)
"""


@pytest.mark.parametrize("how", ["self.kind.weight()", "self.kind.factor", "self.up.get_result()"])
def test_what_a_task_uses_of_a_task_class_that_it_was_given_counts(project: EditedProject, how: str) -> None:
    expect_a_rerun(project, TASK_CLASS.format(how=how), edit_tasks=True)


OPAQUE = "class Q:\n    __slots__ = ('n',)\n    def __init__(self, n):\n        self.n = n\n"

# How a module came to have something, by way of a constant FAST that is edited from 10 to 20.
BRANCHES = {
    "a constant": "FAST = 10\nX = FAST\ndef get():\n    return X\n",
    "an opaque constant": "FAST = 10\nX = Q(FAST)\ndef get():\n    return X.n\n",
    "an opaque constant by a function": (
        "def make():\n    return Q(FAST)\nFAST = 10\nX = make()\ndef get():\n    return X.n\n"
    ),
    "an opaque constant in a branch": (
        "FAST = 10\nif FAST == 10:\n    X = Q(10)\nelse:\n    X = Q(20)\ndef get():\n    return X.n\n"
    ),
    "an opaque constant in a try": (
        "FAST = 10\ntry:\n    [][FAST - 10:][FAST - 20]\n    X = Q(20)\nexcept IndexError:\n"
        "    X = Q(10 if FAST == 10 else 20)\ndef get():\n    return X.n\n"
    ),
    "an opaque constant in a loop": (
        "FAST = 10\nX = []\nfor n in range(FAST):\n    X.append(Q(n))\ndef get():\n    return len(X)\n"
    ),
    "an opaque constant in a with": (
        "import contextlib\nFAST = 10\nwith contextlib.suppress(KeyError):\n    X = Q(FAST)\n"
        "def get():\n    return X.n\n"
    ),
    "a function in a branch": (
        "FAST = 10\nif FAST == 10:\n    def get():\n        return 10\n"
        "else:\n    def get():\n        return 20\n"
    ),
    "a class in a branch": (
        "FAST = 10\nif FAST == 10:\n    class C:\n        n = 10\nelse:\n    class C:\n        n = 20\n"
        "def get():\n    return C.n\n"
    ),
    "a name chosen": (
        "FAST = 10\ndef a():\n    return 10\ndef b():\n    return 20\nget = a if FAST == 10 else b\n"
    ),
    "a name chosen in a branch": (
        "FAST = 10\ndef a():\n    return 10\ndef b():\n    return 20\n"
        "if FAST == 10:\n    get = a\nelse:\n    get = b\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("imported", ["at the top", "inside"])
@pytest.mark.parametrize("name", BRANCHES)
def test_what_decides_between_two_branches_of_a_module_counts(
    project: EditedProject, name: str, imported: str
) -> None:
    if imported == "at the top":
        tasks = "import module\n\ndef use():\n    return module.get()\n"
    else:
        tasks = "def use():\n    import module\n    return module.get()\n"
    project.write(
        module=OPAQUE + BRANCHES[name],
        tasks="from taskproc import Task\n"
        + tasks
        + "\nclass T(Task):\n    def run_task(self):\n        return use()\n\ndef task():\n    return T()\n",
    )
    assert project.run() == (10, 1)
    assert project.run() == (10, 0)
    project.edit("module", "FAST = 10", "FAST = 20")
    assert project.run() == (20, 1)


# Where a module may keep what it read when it was loaded: nothing of its source changes.
HOLDERS = {
    "a number": ("K = int(os.environ['K'])", "K"),
    "a dict": ("K = {'k': int(os.environ['K'])}", "K['k']"),
    "an object": ("class C:\n    pass\nK = C()\nK.k = int(os.environ['K'])", "K.k"),
    "an object with slots": ("class C:\n    __slots__ = ('k',)\nK = C()\nK.k = int(os.environ['K'])", "K.k"),
    "a class": ("class K:\n    k = int(os.environ['K'])", "K.k"),
    "a class set later": ("class K:\n    k = 0\nK.k = int(os.environ['K'])", "K.k"),
    "a dict in a class": ("class K:\n    k = {}\nK.k['k'] = int(os.environ['K'])", "K.k['k']"),
    "a namespace": ("K = types.SimpleNamespace(k=int(os.environ['K']))", "K.k"),
    "the command line": (
        "parser = argparse.ArgumentParser()\nparser.add_argument('k', type=int)\n"
        "K = parser.parse_args([os.environ['K']])",
        "K.k",
    ),
    "a default": ("def f(k=int(os.environ['K'])):\n    return k", "f()"),
    "an attribute of a function": ("def f():\n    return f.k\nf.k = int(os.environ['K'])", "f()"),
    "a closure": ("def outer(k):\n    return lambda: k\nf = outer(int(os.environ['K']))", "f()"),
    "a list in a tuple in an object": (
        "class C:\n    pass\nK = C()\nK.k = ([int(os.environ['K'])],)", "K.k[0][0]"
    ),
    "a class attribute of the task": ("", "self.k"),
    "an array": ("import numpy\nK = numpy.array([int(os.environ['K'])])", "int(K[0])"),
    "a weekday": (
        "import enum\nclass Day(enum.Enum):\n    ONE = 1\n    TWO = 2\nK = Day(int(os.environ['K']))",
        "K.value",
    ),
    "a compiled pattern": ("import re\nK = re.compile(os.environ['K'])", "int(K.pattern)"),
}  # fmt: skip


@pytest.mark.parametrize("place", ["the task's module", "another module"])
@pytest.mark.parametrize("name", HOLDERS)
def test_what_a_module_read_when_it_was_loaded_counts_whatever_holds_it(
    project: EditedProject, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, how = HOLDERS[name]
    imports = "import argparse, os, types\n"
    use = f"\ndef use(self):\n    return {how}\n"
    task = (
        "from taskproc import Task\n\nclass T(Task):\n    k = int(os.environ['K'])\n"
        "    def run_task(self):\n        return use(self)\n"
    )
    if place == "another module":
        project.write(module=imports + held + use, tasks="import os\nfrom module import use\n" + task)
    else:
        project.write(tasks=imports + held + use + task)
    if name != "a class attribute of the task":
        project.edit("tasks", "(Task):\n    k = int(os.environ['K'])\n", "(Task):\n")
    for value, ran in ((1, 1), (1, 0), (2, 1), (2, 0)):
        monkeypatch.setenv("K", str(value))
        assert project.run("T()") == (value, ran)
