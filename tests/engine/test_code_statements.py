"""What a Task class states of itself counts by value: `task_version`, `task_depends_on`."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import pathlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from code_project import CodeProject

from taskproc import Task
from taskproc.core.fingerprint import read_fingerprint, same_code
from taskproc.engine.reachable_code import CodeReader
from taskproc.errors import ArgumentError, TaskDefinitionError, UsageError

TASKS = """
import functools, json, pathlib
import numpy
from taskproc import Task
import helpers

class Base(Task):
    pass

class Main(Base):
    {statement}

    def run_task(self):
        return 1

class Other(Task):
    def run_task(self):
        return helpers.near(1)
"""

HELPERS = """
STEP = 1

def near(x):
    return far(x)

def far(x):
    return x + STEP
"""


def project_of(folder: Path, statement: str) -> CodeProject:
    text = TASKS.format(statement=statement)
    return CodeProject(folder, {"tasks.py": text, "helpers.py": HELPERS})


def stated(project: CodeProject) -> str:
    fingerprint = read_fingerprint(project.fingerprint())
    assert fingerprint is not None
    return fingerprint.stated


# --- the version ---


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "2"), ("1", "1.0"), ("'a'", "'b'"), ("(1, 2)", "[1, 2]"), ("{'a': 1}", "{'a': 2}"), ("1", "None")],
)
def test_another_version_is_another_fingerprint(folder: Path, one: str, other: str) -> None:
    before = project_of(folder, f"task_version = {one}").fingerprint()
    project = project_of(folder, f"task_version = {other}")
    after = project.fingerprint()
    project.forget()
    assert before != after
    assert not any(same_code(before, after, mode) for mode in ("deep", "class", "off"))


def test_the_statement_as_such_is_no_code(folder: Path) -> None:
    said = ["task_version = 3", "task_version = 1 + 2  # the third", "task_version: int = 3"]
    assert len({project_of(folder, statement).fingerprint() for statement in said}) == 1
    nothing = [
        "pass",
        "task_version = None",
        "task_depends_on = ()",
        "task_depends_on = []",
        "task_code = 'deep'",
    ]
    found = {project_of(folder, statement).fingerprint() for statement in nothing}
    project = project_of(folder, nothing[0])
    found.add(project.fingerprint())
    assert stated(project) == ""
    project.forget()
    assert len(found) == 1


def test_what_a_base_states_is_inherited(folder: Path) -> None:
    project = project_of(folder, "task_version = 3")
    own = stated(project)
    project.files["tasks.py"] = TASKS.format(statement="pass").replace("    pass", "    task_version = 3", 1)
    assert stated(project) == own
    project.forget()


def test_a_version_of_no_known_type_is_an_error_that_names_the_class() -> None:
    class Bad(Task):
        task_version = object()

        def run_task(self) -> None: ...

    with pytest.raises(ArgumentError, match=r"Bad\.task_version"):
        CodeReader().fingerprint(Bad)


# --- code ---


@pytest.mark.parametrize(
    "thing", ["helpers.near", "helpers", "functools.partial(helpers.near, 1)", "Other", "Other.run_task"]
)
def test_stated_code_counts_with_all_that_it_reaches_in_any_mode(folder: Path, thing: str) -> None:
    project = project_of(folder, "pass")
    project.files["tasks.py"] += f"\nMain.task_depends_on = [{thing}]\n"
    before = project.fingerprint()
    assert project.fingerprint() == before
    project.edit("helpers.py", "STEP = 1", "STEP = 2")
    after = project.fingerprint()
    project.forget()
    assert not any(same_code(before, after, mode) for mode in ("deep", "class", "off"))


def test_an_argument_of_a_stated_partial_counts(folder: Path) -> None:
    one = project_of(folder, "task_depends_on = [functools.partial(helpers.near, 1)]").fingerprint()
    project = project_of(folder, "task_depends_on = [functools.partial(helpers.near, 2)]")
    assert project.fingerprint() != one
    project.forget()


def test_the_code_of_a_class_in_another_mode_does_not_count_for_it(folder: Path) -> None:
    project = project_of(folder, "task_version = 1")
    first = project.fingerprint()
    project.edit("tasks.py", "return 1", "return 2")
    body = project.fingerprint()
    project.forget()
    assert [same_code(first, body, mode) for mode in ("deep", "class", "off")] == [False, False, True]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("helpers.py", "STEP = 1", "STEP = 2"), [False, True, True]),
        (("tasks.py", "helpers.near(1)", "helpers.near(2)"), [False, False, True]),
        (("tasks.py", "# a comment", "# another"), [True, True, True]),
        (("tasks.py", "STEP = 3", "STEP = 4"), [False, False, True]),
        (("tasks.py", "task_version = 1", "task_version = 2"), [False, False, False]),
    ],
    ids=["a helper", "the body", "a comment", "the base", "the version"],
)
def test_the_modes_compare_what_they_say(
    folder: Path, edit: tuple[str, str, str], expected: list[bool]
) -> None:
    text = (
        "from taskproc import Task\nimport helpers\n\nclass Base(Task):\n    STEP = 3\n\nclass Main(Base):\n"
        "    task_version = 1\n    # a comment\n    def run_task(self):\n        return helpers.near(1)\n"
    )
    project = CodeProject(folder, {"tasks.py": text, "helpers.py": HELPERS})
    before = project.fingerprint()
    project.edit(*edit)
    after = project.fingerprint()
    project.forget()
    assert [same_code(before, after, mode) for mode in ("deep", "class", "off")] == expected


# --- files ---


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def class_that_states(*things: Any) -> type[Task]:
    class Stating(Task):
        task_depends_on = list(things)

        def run_task(self) -> None: ...

    return Stating


def test_a_stated_file_counts_by_its_content(here: Path) -> None:
    cls = class_that_states(Path("params.yaml"))
    Path("params.yaml").write_text("a: 1")
    reader = CodeReader()
    first = reader.fingerprint(cls)
    Path("params.yaml").write_text("a: 2")
    assert reader.fingerprint(cls) == first  # what a reader has read stays as it is
    second = reader.refreshed().fingerprint(cls)
    assert second != first
    Path("params.yaml").write_text("a: 1")
    assert CodeReader().fingerprint(cls) == first


def test_where_a_stated_file_lies_does_not_count(here: Path) -> None:
    found = set()
    for place in ("here", "there"):
        (here / place).mkdir()
        (here / place / "params.yaml").write_text("a: 1")
        found.add(CodeReader().fingerprint(class_that_states(here / place / "params.yaml")))
    assert len(found) == 1


def test_two_stated_files_do_not_count_for_each_other(here: Path) -> None:
    cls = class_that_states(Path("a"), Path("b"))
    found = []
    for texts in (("1", "2"), ("2", "1")):
        for name, text in zip("ab", texts, strict=True):
            Path(name).write_text(text)
        found.append(CodeReader().fingerprint(cls))
    assert found[0] != found[1]


@pytest.mark.parametrize("what", ["missing", "a directory"])
def test_a_stated_file_that_can_not_be_read_is_an_error_with_a_way_out(here: Path, what: str) -> None:
    if what == "a directory":
        Path("params").mkdir()
    with pytest.raises(
        UsageError, match=r"Stating\.task_depends_on names the file 'params'.*correct the path"
    ):
        CodeReader().fingerprint(class_that_states(pathlib.PurePath("params")))


# --- what is installed ---


def test_a_stated_distribution_counts_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = class_that_states("numpy")
    first = CodeReader().fingerprint(cls)
    assert CodeReader().fingerprint(class_that_states("NumPy")) == first
    real = importlib.metadata.distribution

    def another(name: str) -> Any:
        return SimpleNamespace(metadata={"Name": real(name).metadata["Name"]}, version="0.0.1")

    monkeypatch.setattr(importlib.metadata, "distribution", another)
    assert CodeReader().fingerprint(cls) != first


@pytest.mark.parametrize("thing", [numpy.sum, numpy.add, numpy.ndarray, numpy])
def test_stated_code_from_outside_counts_by_the_version_it_came_with(
    thing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = class_that_states(thing)
    first = CodeReader().fingerprint(cls)
    said = CodeReader().describe(cls).stated[0]
    assert (said.kind, said.text) == ("distribution", f"numpy {numpy.__version__}")
    monkeypatch.setattr(
        importlib.metadata,
        "distribution",
        lambda name: SimpleNamespace(metadata={"Name": name}, version="0.0.1"),
    )
    assert CodeReader().fingerprint(cls) != first


def test_stated_code_of_the_standard_library_counts_by_the_version_of_python() -> None:
    for thing in (json.dumps, math.sqrt, json, functools.partial):
        (said,) = CodeReader().describe(class_that_states(thing)).stated
        assert said.text == f"Python {sys.version.split()[0]}"


def test_a_stated_distribution_that_is_not_installed_is_an_error_with_a_way_out() -> None:
    with pytest.raises(TaskDefinitionError, match=r"Stating\.task_depends_on.*'no-such-thing'.*install it"):
        CodeReader().fingerprint(class_that_states("no-such-thing"))


def test_a_compiled_module_of_the_project_counts_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "compiled.so"
    file.write_bytes(b"one")
    module = type(sys)("compiled")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "compiled", module)
    cls = class_that_states(module)
    first = CodeReader().fingerprint(cls)
    file.write_bytes(b"two")
    assert CodeReader().fingerprint(cls) != first


# --- what a definition may say ---


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({"task_code": "shallow"}, r"Bad\.task_code is 'shallow'; it must be 'deep', 'class', 'off' or None"),
        ({"task_code": []}, r"Bad\.task_code is \[\]"),
        ({"task_depends_on": "numpy"}, r"Bad\.task_depends_on is 'numpy'; it must be a list or a tuple"),
        ({"task_depends_on": [3]}, r"Bad\.task_depends_on holds 3; it may hold functions"),
    ],
)
def test_a_wrong_statement_is_an_error_when_the_class_is_made(
    statement: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskDefinitionError, match=message):
        type("Bad", (Task,), {**statement, "run_task": lambda self: None})
