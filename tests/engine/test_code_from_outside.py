"""What a project imports from outside counts by the import as it is written, and by nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest
from code_project import CodeProject

from taskproc.engine.reachable_code import CodeReader


class Edit(NamedTuple):
    """A module `lib`, an edit of it, and how a task uses it."""

    what: str
    lib: str
    old: str
    new: str
    use: str = "lib.f"
    reruns: bool = True


EDITS = [
    Edit("a function from another module", "from json import load as f", "json", "plistlib"),
    Edit("another function of the module", "from json import load as f", "load", "loads"),
    Edit("a module under the same name", "import json as f", "json", "plistlib", "lib.f.load"),
    Edit("a module used as a whole", "import json as f", "json", "plistlib", "getattr(lib.f, 'load')"),
    Edit("a star", "from math import *", "math", "cmath", "lib.sin"),
    Edit("a constant", "from math import pi as f", "pi", "e"),
    Edit("a base class", "from json import JSONEncoder as B\nclass f(B): pass", "JSONEncoder", "JSONDecoder"),
    Edit("a decorator", "from functools import lru_cache as d\n@d\ndef f(): return 1", "lru_cache", "cache"),
    Edit(
        "a metaclass",
        "from abc import ABCMeta as M\nclass f(metaclass=M): pass",
        "from abc import ABCMeta",
        "from enum import EnumType",
    ),
    Edit("a function that is bound anew", "import json, plistlib\nf = json.load", "= json", "= plistlib"),
    Edit("a class that is bound anew", "import json\nf = json.JSONEncoder", "JSONEncoder", "JSONDecoder"),
    Edit(
        "a module that is bound anew", "import json, plistlib\nf = json", "= json", "= plistlib", "lib.f.load"
    ),
    Edit("a module in a list", "import json, plistlib\nf = [json]", "[json]", "[plistlib]", "lib.f[0].load"),
    Edit(
        "a function in a partial",
        "import functools, json, plistlib\nf = functools.partial(json.load)",
        "partial(json",
        "partial(plistlib",
    ),
    Edit(
        "a function in a closure",
        "import json, plistlib\ndef make(g):\n    return lambda: g()\nf = make(json.load)",
        "make(json",
        "make(plistlib",
    ),
    Edit(
        "a module in a closure",
        "import json, plistlib\ndef make(g):\n    return lambda: g.load()\nf = make(json)",
        "make(json",
        "make(plistlib",
    ),
    Edit("a default", "import json, plistlib\ndef f(g=json.load): return g", "g=json", "g=plistlib"),
    Edit(
        "the first choice of a try",
        "try:\n    import no_such_a as f\nexcept ImportError:\n    import json as f",
        "no_such_a",
        "no_such_b",
        "lib.f.load",
    ),
    Edit(
        "the second choice of a try",
        "try:\n    import no_such_a as f\nexcept ImportError:\n    import json as f",
        "json",
        "plistlib",
        "lib.f.load",
    ),
    Edit(
        "what stands in for a module that is not there",
        "try:\n    import no_such_a as f\nexcept ImportError:\n    f = None",
        "None",
        "0",
    ),
    Edit(
        "an import in a with",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import json as f",
        "json",
        "plistlib",
        "lib.f.load",
    ),
    Edit(
        "the branch for another Python",
        "import sys\nif sys.version_info < (3,):\n    import json as f\nelse:\n    import plistlib as f",
        "json",
        "pickle",
        "lib.f.load",
    ),
    Edit(
        "what is done to a module",
        "import decimal as f\nf.getcontext().prec = 5",
        "prec = 5",
        "prec = 6",
        "lib.f.Decimal",
    ),
    Edit("the layout", "from json import load as f", "json import", "json  import", reruns=False),
    Edit("the brackets", "from json import load as f", "load as f", "(load as f)", reruns=False),
    Edit(
        "an import of a part of the same module",
        "import os",
        "import os",
        "import os, os.path",
        "lib.os.path.join",
        False,
    ),
    Edit(
        "a name that is not used", "from json import load as f", "load as f", "load as f, loads", reruns=False
    ),
    Edit("another import that is not used", "import json as f", "import", "import re\nimport", reruns=False),
    Edit(
        "how a program writes its log",
        "import logging as f\nf.basicConfig(level=10)",
        "10",
        "20",
        "lib.f.info",
        False,
    ),
]

WAYS = {
    "by the module": ("import lib", "return {use}"),
    "by name": ("from lib import {name}", "return {short}"),
    "through a package": ("import package", "return package.{use}"),
    "inside": ("", "import lib; return {use}"),
    "inside, by name": ("", "from lib import {name}; return {short}"),
}


def task_that_uses(folder: Path, edit: Edit, way: str) -> CodeProject:
    top, body = WAYS[way]
    short = edit.use.replace("lib.", "")
    name = short.removeprefix("getattr(").partition(".")[0].partition(",")[0].partition("[")[0]
    given = {"use": edit.use, "short": short, "name": name}
    if way == "through a package":
        given["use"] = given["use"].replace("getattr(lib", "getattr(package.lib").removeprefix("package.")
        if edit.use.startswith("getattr"):
            body = "return {use}"
    text = f"from taskproc import Task\n{top}\nclass Main(Task):\n    def run_task(self):\n        {body}\n"
    files = {
        "tasks.py": text.format(**given),
        "lib.py": f"{edit.lib}\n",
        "package/__init__.py": "import lib\n",
    }
    return CodeProject(folder, files)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("edit", EDITS, ids=[edit.what.replace(" ", "_") for edit in EDITS])
def test_what_comes_from_outside_counts_by_its_import(folder: Path, edit: Edit, way: str) -> None:
    project = task_that_uses(folder, edit, way)
    before = project.fingerprint()
    assert project.fingerprint() == before
    project.edit("lib.py", edit.old, edit.new)
    after = project.fingerprint()
    project.forget()
    assert (before != after) == edit.reruns


INSIDE = [
    ("from json import load", "from plistlib import load", "return load", True),
    ("import json as x", "import plistlib as x", "return x.load", True),
    ("import json", "import plistlib", "return 1", True),
    ("from json import load", "from json  import (load)", "return load", False),
]


@pytest.mark.parametrize(("old", "new", "use", "reruns"), INSIDE)
def test_an_import_inside_counts_as_it_is_written(
    folder: Path, old: str, new: str, use: str, reruns: bool
) -> None:
    head = "from taskproc import Task\nclass Main(Task):\n    def run_task(self):\n"
    project = CodeProject(folder, {"tasks.py": f"{head}        {old}\n        {use}\n"})
    before = project.fingerprint()
    project.edit("tasks.py", old, new)
    after = project.fingerprint()
    project.forget()
    assert (before != after) == reruns


# --- what is installed, and how ---


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "lib" / "site-packages"
    place.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(place))
    return place


USES = """
try:
    import stranger
except ImportError:
    stranger = None

from taskproc import Task

class Main(Task):
    def run_task(self):
        return stranger.f() + stranger.K
"""


def test_neither_its_content_nor_whether_it_is_installed_counts(folder: Path, installed: Path) -> None:
    project = CodeProject(folder, {"tasks.py": USES})
    found = {project.fingerprint()}
    for text in ("def f(): return 1\nK = 1\n", "def f(): return 2\nK = 2\n"):
        (installed / "stranger.py").write_text(text)
        sys.modules.pop("stranger", None)
        found.add(project.fingerprint())
    project.forget()
    sys.modules.pop("stranger", None)
    assert len(found) == 1


def test_a_function_of_the_project_put_into_a_module_from_outside_is_followed(folder: Path) -> None:
    text = (
        "import json\nfrom taskproc import Task\ndef mine(x): return 1\njson.mine = mine\n"
        "class Main(Task):\n    def run_task(self): return json.mine(1)\n"
    )
    project = CodeProject(folder, {"tasks.py": text})
    before = project.fingerprint()
    project.edit("tasks.py", "return 1", "return 2")
    after = project.fingerprint()
    project.forget()
    del json.mine  # type: ignore[attr-defined]
    assert before != after


# --- the versions of what is named ---


def packages(folder: Path, text: str, use: str, **files: str) -> dict[str, str]:
    body = f"\nfrom taskproc import Task\nclass Main(Task):\n    def run_task(self):\n        {use}\n"
    named = {f"{name}.py": content for name, content in files.items()}
    project = CodeProject(folder, {"tasks.py": text + body, **named})
    found = CodeReader().packages(project.module().Main)
    project.forget()
    return found


NUMPY = {"numpy": numpy.__version__}


def test_the_versions_of_what_the_code_names_are_told(folder: Path) -> None:
    assert packages(folder, "import numpy as np", "return np.array([1])") == NUMPY
    assert packages(folder, "from numpy import array", "return array([1])") == NUMPY
    assert packages(folder, "import helpers", "return helpers.f()", helpers=HELPS) == NUMPY
    assert packages(folder, "", "import numpy; return 1") == NUMPY
    assert packages(folder, "", "from helpers import f; return f()", helpers=HELPS) == NUMPY


HELPS = "import numpy\ndef f(): return numpy.zeros(1)\n"


def test_a_distribution_goes_by_its_own_name(folder: Path) -> None:
    import attr  # the import name of another distribution

    found = packages(folder, "import attr, json", "return attr.define, json.dumps")
    assert list(found) == ["attrs"], attr


def test_what_is_not_named_or_can_not_be_told_is_left_out(folder: Path) -> None:
    assert packages(folder, "import numpy, json", "return json.dumps(1)") == {}
    assert packages(folder, "", "import no_such_module; return 1") == {}
    assert packages(folder, "import helpers", "return helpers.f()", helpers="def f(): return 1\n") == {}
