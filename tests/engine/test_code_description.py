"""Descriptions of code: what they hold, what follows from them, and what is told of their differences."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from code_project import CodeProject
from hypothesis import given
from hypothesis import strategies as st

from taskproc.core.records import content_digest
from taskproc.engine.reachable_code import CodeReader
from taskproc.engine.reachable_code.description import CodeDescription, renamed
from taskproc.engine.reachable_code.differences import CodeChange, differences
from taskproc.engine.reachable_code.text_diffs import changed_lines

TASKS = '''
"""Tasks."""
from pathlib import Path
from taskproc import Task
import helpers
from helpers import STEP, scaled
from json import load


class Up(Task):
    def run_task(self):
        return STEP


class Base(Task):
    def shared(self):
        return helpers.halved(2)


class Main(Base):
    task_version = 1

    def __init__(self):
        self.up = Up()

    def run_task(self):
        # a comment
        return scaled(self.up.get_result()) + load.n
'''

HELPERS = """
STEP = 2
LIMIT = {"a": (1, 2)}
OPAQUE = [object()]


def halved(x):
    return x / 2


def make(n):
    def inner(x):
        return x * n

    return inner


scaled = make(3)


def unused():
    return LIMIT, OPAQUE
"""


@pytest.fixture
def project(folder: Path) -> CodeProject:
    return CodeProject(folder, {"tasks.py": TASKS, "helpers.py": HELPERS})


def read_back(code: CodeDescription) -> CodeDescription:
    again = CodeDescription.from_bytes(code.to_bytes())
    assert again is not None
    return again


def texts(*codes: CodeDescription) -> Callable[[str], bytes | None]:
    known: dict[str, bytes] = {}
    for code in codes:
        known.update(code.files())
    return known.get


def changes_by(project: CodeProject, file: str, old: str, new: str) -> list[CodeChange]:
    before = project.describe()
    project.edit(file, old, new)
    after = project.describe()
    project.forget()
    return differences(read_back(before), after, texts(before, after))


# --- what a description is ---


def test_the_fingerprint_follows_from_the_description(project: CodeProject) -> None:
    module = project.module()
    reader = CodeReader()
    code = reader.describe(module.Main)
    assert str(code.fingerprint) == reader.fingerprint(module.Main)
    also = ["helpers:halved.<given>", "tasks:Up.<given>"]
    assert str(reader.describe(module.Main, also).fingerprint) == reader.fingerprint_with(module.Main, also)
    project.forget()


def test_each_part_says_what_it_is_and_where_it_is_written(project: CodeProject) -> None:
    code = project.describe()
    parts = {part.name: part for part in code.parts}
    halved = parts["helpers.halved"]
    text = code.files()[halved.file]
    assert text == (project.folder / "helpers.py").read_bytes()
    assert halved.path == str(project.folder / "helpers.py")
    assert [text.decode().splitlines()[first - 1 : last] for first, last in halved.lines] == [
        ["def halved(x):", "    return x / 2"]
    ]
    assert parts["tasks.Main"].is_class
    assert parts["tasks.Base"].is_class
    assert not halved.is_class
    assert parts["helpers.make.<locals>.inner(n)"].value == "3"
    assert [(said.name, said.kind, said.text) for said in code.stated] == [("task_version", "version", "1")]
    assert {content_digest(data) for data in code.files().values()} == set(code.files())
    project.forget()


def test_a_description_is_the_same_when_it_is_read_back(project: CodeProject) -> None:
    code = project.describe()
    again = read_back(code)
    assert again == code
    assert again.fingerprint == code.fingerprint
    assert again.files() == {}
    project.forget()


def test_a_long_value_is_left_out(project: CodeProject) -> None:
    project.edit("helpers.py", "STEP = 2", "STEP = 2 * tuple(range(1000))")
    project.edit("tasks.py", "load.n", "STEP")
    code = project.describe()
    assert next(part for part in code.parts if part.name == "helpers.STEP").value is None
    assert read_back(code).fingerprint == code.fingerprint
    project.forget()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": "taskproc code"}'])
def test_other_bytes_are_no_description(data: bytes) -> None:
    assert CodeDescription.from_bytes(data) is None


SMALL = CodeReader().describe(type("Small", (), {"__module__": __name__, "f": lambda self: 1})).to_bytes()


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_damaged_bytes_are_no_other_code(place: int, byte: int) -> None:
    read = CodeDescription.from_bytes(SMALL[:place] + bytes([byte]) + SMALL[place + 1 :])
    assert read is None or str(read.fingerprint) == json.loads(SMALL)["fingerprint"]


# --- a change of names ---

MOVES = [
    ("the class", {"tasks.Main": "tasks.Total"}, {"tasks.py": [("class Main", "class Total")]}),
    (
        "a class that is named",
        {"tasks.Up": "tasks.Lower"},
        {"tasks.py": [("class Up", "class Lower"), ("Up()", "Lower()")]},
    ),
    (
        "the base",
        {"tasks.Base": "tasks.Ground"},
        {"tasks.py": [("class Base", "class Ground"), ("(Base)", "(Ground)")]},
    ),
    (
        "a function",
        {"helpers.halved": "helpers.half"},
        {"tasks.py": [("helpers.halved", "helpers.half")], "helpers.py": [("def halved", "def half")]},
    ),
    (
        "a module",
        {"helpers": "aids"},
        {
            "tasks.py": [
                ("import helpers", "import aids"),
                ("from helpers", "from aids"),
                ("helpers.h", "aids.h"),
            ]
        },
    ),
]


@pytest.mark.parametrize(("names", "edits"), [row[1:] for row in MOVES], ids=[row[0] for row in MOVES])
def test_a_description_tells_the_fingerprint_after_a_change_of_names(
    project: CodeProject, names: dict[str, str], edits: dict[str, list[tuple[str, str]]]
) -> None:
    before = read_back(project.describe())
    for file, pairs in edits.items():
        for old, new in pairs:
            project.edit(file, old, new)
    project.files["aids.py"] = project.files["helpers.py"]
    main = names.get("tasks.Main", "tasks.Main").removeprefix("tasks.")
    after = project.describe(main)
    project.forget()
    assert renamed(before, names).fingerprint == after.fingerprint != before.fingerprint


def test_a_rename_takes_only_whole_names(project: CodeProject) -> None:
    code = project.describe()
    project.forget()
    assert renamed(code, {}) == code
    assert renamed(code, {"tasks.Mai": "x", "help": "y", "helpers.half": "z"}) == code
    there = renamed(code, {"helpers": "aids"})
    assert {part.name.partition(".")[0] for part in there.parts} == {"aids", "tasks"}
    assert renamed(there, {"aids": "helpers"}).fingerprint == code.fingerprint


# --- what differs ---


def test_nothing_differs_where_nothing_counts(project: CodeProject) -> None:
    assert changes_by(project, "tasks.py", "# a comment", "# another\n        # and more") == []


def test_a_change_is_shown_with_the_lines_of_the_file(project: CodeProject) -> None:
    (change,) = changes_by(project, "helpers.py", "return x / 2", "return x // 2")
    path = str(project.folder / "helpers.py")
    assert change[:3] == ("helpers.halved", path, "changed")
    number = HELPERS.splitlines().index("def halved(x):") + 1
    assert change.diff == textwrap.dedent(
        f"""\
        --- {path} (helpers.halved), as it was
        +++ {path} (helpers.halved), as it is
        @@ -{number},2 +{number},2 @@
         def halved(x):
        -    return x / 2
        +    return x // 2
        """
    )


def test_only_the_cause_is_told(project: CodeProject) -> None:
    project.edit("tasks.py", "helpers.halved(2)", "helpers.a()")
    chain = "".join(f"\ndef {one}():\n    return {two}()\n" for one, two in ("ab", "bc", "cd"))
    project.files["helpers.py"] += f"{chain}\ndef d():\n    return 1\n"
    changes = changes_by(project, "helpers.py", "def d():\n    return 1", "def d():\n    return 2")
    assert [change.name for change in changes] == ["helpers.d"]


def test_a_value_is_told_in_words(project: CodeProject) -> None:
    project.edit("tasks.py", "load.n", "helpers.LIMIT['a'][0]")
    (change,) = changes_by(project, "helpers.py", "(1, 2)", "(1, 3)")
    was, now = '{"a":{"__tuple__":[1,2]}}', '{"a":{"__tuple__":[1,3]}}'
    assert (change.name, change.diff) == ("helpers.LIMIT", f"helpers.LIMIT: was {was}, is {now}\n")


def test_the_value_of_a_closure_is_told(project: CodeProject) -> None:
    (change,) = changes_by(project, "helpers.py", "make(3)", "make(4)")
    assert change.diff == "helpers.make.<locals>.inner(n): was 3, is 4\n"


def test_a_closure_is_told_as_itself_and_not_as_what_names_it(project: CodeProject) -> None:
    changes = changes_by(project, "helpers.py", "return x * n", "return x + n")
    assert [(change.name, change.kind) for change in changes] == [("helpers.make.<locals>.inner", "changed")]


def test_an_import_from_outside_that_changed_is_told(project: CodeProject) -> None:
    (change,) = changes_by(project, "tasks.py", "from json import load", "from plistlib import load")
    assert change.name == "tasks.Main"
    assert change.diff == ("load.n leads elsewhere: was `import json:load`, is `import plistlib:load`\n")


def test_a_name_that_leads_to_another_function_is_told(project: CodeProject) -> None:
    changes = changes_by(project, "helpers.py", "scaled = make(3)", "scaled = halved")
    told = {change.name: change for change in changes}
    assert "was helpers.make.<locals>.inner, is helpers.halved" in told["tasks.Main"].diff
    assert told["helpers.make.<locals>.inner"].kind == "removed"


def test_what_is_reached_anew_is_told_once(project: CodeProject) -> None:
    project.files["helpers.py"] += "\ndef outer():\n    return inner()\n\ndef inner():\n    return 1\n"
    changes = changes_by(project, "tasks.py", "helpers.halved(2)", "helpers.halved(2) + helpers.outer()")
    assert [(change.name, change.kind) for change in changes] == [
        ("tasks.Base", "changed"),
        ("helpers.outer", "added"),
    ]
    assert "+def outer():" in changes[1].diff


def test_an_object_known_by_its_source_is_told_by_it(project: CodeProject) -> None:
    project.edit("tasks.py", "load.n", "helpers.OPAQUE")
    (change,) = changes_by(project, "helpers.py", "[object()]", "[object(), 1]")
    assert "-OPAQUE = [object()]\n+OPAQUE = [object(), 1]\n" in change.diff


def test_a_function_is_not_told_again_with_what_stands_around_it(folder: Path) -> None:
    text = (
        "import functools\nfrom taskproc import Task\n\ndef deco(f):\n    @functools.wraps(f)\n"
        "    def w(*a):\n        return f(*a) + 1\n    return w\n\n@deco\ndef one():\n    return 1\n\n"
        "TABLE = {'a': lambda: 1}\n\nclass Main(Task):\n    @deco\n    def run_task(self):\n"
        "        return one() + TABLE['a']()\n"
    )
    project = CodeProject(folder, {"tasks.py": text})
    assert [change.name for change in changes_by(project, "tasks.py", "f(*a) + 1", "f(*a) + 2")] == [
        "tasks.deco"
    ]
    (change,) = changes_by(project, "tasks.py", "'a': lambda: 1", "'a': lambda: 2")
    assert change.diff.endswith("-TABLE = {'a': lambda: 1}\n+TABLE = {'a': lambda: 2}\n")
    assert [change.name for change in changes_by(project, "tasks.py", "one() + T", "one() - T")] == [
        "tasks.Main"
    ]


def test_source_that_is_no_longer_kept_is_said_to_be_so(project: CodeProject) -> None:
    before = project.describe()
    project.edit("helpers.py", "x / 2", "x // 2")
    after = project.describe()
    project.forget()
    (change,) = differences(before, after, texts(after))
    assert change.diff == "helpers.halved changed; the source as it was is no longer kept\n"


def test_code_without_source_is_told_by_name() -> None:
    codes = []
    for number in (1, 2):
        names = {"__name__": "made_by_exec"}
        exec(f"class Main:\n    def f(self): return {number}", names)
        codes.append(CodeReader().describe(names["Main"]))  # type: ignore[arg-type]
    (change,) = differences(codes[0], codes[1], lambda digest: None)
    assert change.diff == "made_by_exec.Main.f changed; there is no source to show it by\n"


def test_what_is_stated_is_told_in_words(project: CodeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    statement = "task_version = 1\n    task_depends_on = [Path('params.yaml'), 'numpy', helpers.unused]"
    project.edit("tasks.py", "task_version = 1", statement)
    Path("params.yaml").write_text("a: 1")
    before = project.describe()
    project.edit("tasks.py", "task_version = 1", "task_version = (2, 'b')")
    project.edit("helpers.py", "return LIMIT, OPAQUE", "return OPAQUE, LIMIT")
    Path("params.yaml").write_text("a: 2")
    after = project.describe()
    project.forget()
    old = tuple(
        dataclasses.replace(said, own="0", text="1.0") if said.kind == "distribution" else said
        for said in before.stated
    )
    before = dataclasses.replace(before, stated=old)
    told = {change.name: change.diff for change in differences(before, after, texts(before, after))}
    numpy = next(said.text for said in after.stated if said.kind == "distribution")
    assert told["task_version"] == 'task_version: was 1, is {"__tuple__":[2,"b"]}\n'
    assert told["params.yaml"] == "the file params.yaml (task_depends_on): its content changed\n"
    assert told["numpy"] == f"numpy (task_depends_on): was version 1.0, is version {numpy}\n"
    assert "+    return OPAQUE, LIMIT" in told["helpers.unused"]
    assert len(told) == 4


def test_a_statement_that_comes_or_goes_is_told(project: CodeProject) -> None:
    (change,) = changes_by(project, "tasks.py", "task_version = 1", "pass")
    assert (change.kind, change.diff) == ("removed", "task_version is no longer stated; it was 1\n")
    (change,) = changes_by(project, "tasks.py", "    pass\n", "    task_version = 5\n")
    assert (change.kind, change.diff) == ("added", "task_version is stated now: 5\n")


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("deep", {"tasks.Main", "helpers.halved", "task_version"}),
        ("class", {"tasks.Main", "task_version"}),
        ("off", {"task_version"}),
    ],
)
def test_only_what_counts_in_a_mode_is_told(project: CodeProject, mode: str, names: set[str]) -> None:
    before = project.describe()
    project.edit("helpers.py", "x / 2", "x // 2")
    project.edit("tasks.py", "+ load.n", "- load.n")
    project.edit("tasks.py", "task_version = 1", "task_version = 2")
    after = project.describe()
    project.forget()
    told = differences(before, after, texts(before, after), mode)  # type: ignore[arg-type]
    assert {change.name for change in told} == names


# --- the lines of two texts ---


def test_lines_are_numbered_as_in_their_files() -> None:
    old = "".join(f"line {number}\n" for number in range(1, 31)).encode()
    new = old.replace(b"line 12\n", b"line 12\nnew\n").replace(b"line 28\n", b"")
    diff = changed_lines(("old", old, [(10, 14), (25, 30)]), ("new", new, [(10, 15), (26, 30)]))
    heads = re.findall(r"@@.*@@", diff)
    assert heads == ["@@ -10,11 +10,11 @@"]
    assert diff.splitlines()[2:] == [
        "@@ -10,11 +10,11 @@",
        *(f" line {number}" for number in (10, 11, 12)), "+new",
        *(f" line {number}" for number in (13, 14, 25, 26, 27)), "-line 28",
        *(f" line {number}" for number in (29, 30)),
    ]  # fmt: skip
    assert changed_lines(("a", old, [(1, 3)]), ("b", new, [(1, 3)])) == ""
