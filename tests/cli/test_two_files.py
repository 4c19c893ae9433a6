"""Two files never take each other's answers, and one file has one answer in whatever way it is run.

In every test the real command or a real script runs in a process of its own; each task that is
really computed leaves a line in a log.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], Path]

JOBS = """
import json, os, sys
from pathlib import Path
from taskproc import Cache, Task
{imports}

class Job(Task):
    def __init__(self, n=1):
        self.n = n

    def run_task(self):
        with open(os.environ["LOG"], "a") as log:
            log.write("computed\\n")
        return {answer}

class Main(Task):
    def __init__(self):
        self.job = Job()

    def run_task(self):
        print(json.dumps(self.job.get_result()))

def script():
    with Cache(os.environ["CACHE"]):
        print(json.dumps(Job().run_graph(max_workers=1, executor=os.environ["EXECUTOR"])[0]))

if __name__ == "__main__":
    script()
"""


def jobs(answer: str, imports: str = "") -> str:
    """A file of tasks, to be run in any way."""
    return JOBS.replace("{answer}", answer).replace("{imports}", imports)


class Shell:
    """Runs files in a folder, in one of several ways, all with one cache."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.log = folder / "log"
        # Without bytecode files: Python takes an edit within one second that keeps the size for none.
        self.environment = {
            **environment,
            "LOG": str(self.log),
            "CACHE": str(folder / "cache"),
            "EXECUTOR": "serial",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def python(
        self,
        *words: str | Path,
        cwd: str | Path = ".",
        stdin: str = "",
        python: str = sys.executable,
        **more: str,
    ) -> Any:
        """Run Python with these words; returns the JSON in the last line of its output."""
        done = subprocess.run(
            [python, *map(str, words)],
            cwd=self.folder / cwd, env={**self.environment, **more}, input=stdin,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def file(self, way: str, file: str, **more: str) -> Any:
        """Run a file in one of WAYS, from its own folder."""
        folder, name = os.path.split(file)
        stem = name.removesuffix(".py")
        executor = more.get("EXECUTOR", "serial")
        words: dict[str, list[str]] = {
            "as a script": [name],
            "as a module": ["-m", stem],
            "given to the command": ["-m", "taskproc", name, "-o", self.environment["CACHE"], "-x", executor],
            "imported": ["-c", f"import {stem}; {stem}.script()"],
        }
        return self.python(*words[way], cwd=folder, **more)

    def computed(self) -> int:
        """How many tasks were computed since this was last asked."""
        count = len(self.log.read_text().splitlines()) if self.log.exists() else 0
        self.log.unlink(missing_ok=True)
        return count


WAYS = ("as a script", "as a module", "given to the command", "imported")


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Shell:
    return Shell(tmp_path, environment)


# --- Two files ---


def test_two_files_of_one_name_have_their_own_answers_in_all_ways_of_running_them(
    shell: Shell, write: Write
) -> None:
    write("a/tasks.py", jobs("'a'"))
    write("b/tasks.py", jobs("'b'"))
    # A walk on which each way of running `a` comes next to each way of running `b`.
    for shift in (1, 3):
        for number, way in enumerate(WAYS):
            assert shell.file(way, "a/tasks.py", EXECUTOR="process") == "a"
            assert shell.file(WAYS[(number + shift) % 4], "b/tasks.py", EXECUTOR="process") == "b"


@pytest.mark.parametrize("way", WAYS[::2])
def test_two_files_in_one_folder_share_nothing_but_what_both_import(
    shell: Shell, write: Write, way: str
) -> None:
    write("one.py", jobs("'one' + common()", "from common import common"))
    write("two.py", jobs("'two' + common()", "from common import common"))
    write("common.py", "def common():\n    return '!'\n")
    for _ in range(2):
        assert shell.file(way, "one.py") == "one!"
        assert shell.file(way, "two.py") == "two!"
    assert shell.computed() == 2
    write("common.py", "def common():\n    return '?'\n")
    assert shell.file(way, "two.py") == "two?"
    assert shell.file(way, "one.py") == "one?"
    assert shell.computed() == 2


def test_two_copies_of_a_file_beside_other_helpers_have_their_own_answers(shell: Shell, write: Write) -> None:
    for name in "ab":
        write(f"{name}/tasks.py", jobs("helper()", "from helpers import helper"))
        write(f"{name}/helpers.py", f"def helper():\n    return {name!r}\n")
    write("lib/helpers.py", "def helper():\n    return 'lib'\n")
    for way in WAYS[1:3]:
        assert shell.file(way, "a/tasks.py") == "a"
        assert shell.file(way, "b/tasks.py") == "b"
    # The very same file, which finds another helper.
    (shell.folder / "a/helpers.py").unlink()
    path = os.pathsep.join([shell.environment["PYTHONPATH"], str(shell.folder / "lib")])
    assert shell.file("as a script", "a/tasks.py", PYTHONPATH=path) == "lib"


def test_two_copies_of_a_file_that_name_a_file_beside_them_have_their_own_answers(
    shell: Shell, write: Write
) -> None:
    imports = "HERE = Path(__file__).parent"
    text = jobs("self.data", imports).replace("self.n = n", "self.data = (HERE / 'data.txt').read_text()")
    for name in "ab":
        write(f"{name}/tasks.py", text)
        write(f"{name}/data.txt", f"data of {name}")
    for way in WAYS[:2]:
        assert shell.file(way, "a/tasks.py") == "data of a"
        assert shell.file(way, "b/tasks.py") == "data of b"


def test_two_files_of_one_name_in_one_process_have_their_own_answers(shell: Shell, write: Write) -> None:
    for name in "ab":
        write(f"{name}/tasks.py", jobs(f"{name!r}"))
    write(
        "both.py",
        """
import importlib, json, os, sys
from taskproc import Cache, FutureList, Task

found = {}
for name in sys.argv[1]:
    sys.path.insert(0, name)
    sys.modules.pop("tasks", None)
    found[name] = importlib.import_module("tasks")
    sys.path.pop(0)

if __name__ == "__main__":
    with Cache(os.environ["CACHE"]):
        answers = {}
        for name, module in found.items():
            answers[name] = module.Job().run_graph(executor="serial")[0]
        for name, module in found.items():
            answers[name] += module.Job().run_graph(executor="serial")[0]
    print(json.dumps(answers))
""",
    )
    for order in ("ab", "ba", "a", "b"):
        assert shell.python("both.py", order) == {name: name * 2 for name in order}


# --- Packages ---


def test_a_module_of_a_package_has_one_answer_in_whatever_way_it_is_run(shell: Shell, write: Write) -> None:
    write("pkg/__init__.py", "")
    write("pkg/inner/__init__.py", "")
    write("pkg/inner/consts.py", "X = 'x'\n")
    write("pkg/inner/tasks.py", jobs("X", "from pkg.inner.consts import X"))
    cache = shell.environment["CACHE"]
    path = f"{shell.environment['PYTHONPATH']}{os.pathsep}{shell.folder}"
    runs: list[list[str]] = [
        ["-m", "pkg.inner.tasks"],
        ["pkg/inner/tasks.py"],
        ["-m", "taskproc", "pkg/inner/tasks.py", "-o", cache],
        ["-c", "from pkg.inner import tasks; tasks.script()"],
        ["-c", "import pkg.inner.tasks as t; t.script()"],
    ]
    for words in runs:
        assert shell.python(*words, PYTHONPATH=path, EXECUTOR="process") == "x"
    assert shell.computed() == 1
    write("pkg/inner/consts.py", "X = 'y'\n")
    for words in runs:
        assert shell.python(*words, PYTHONPATH=path) == "y"
    assert shell.computed() == 1


def test_tasks_in_the_init_file_of_a_package_are_those_of_the_package(shell: Shell, write: Write) -> None:
    write("pkg/__init__.py", jobs("'init'"))
    write("pkg/__main__.py", "from pkg import script\nif __name__ == '__main__':\n    script()\n")
    write("pkg/mod.py", jobs("'mod'"))
    cache = shell.environment["CACHE"]
    for _ in range(2):
        assert shell.python("-c", "import pkg; pkg.script()") == "init"
        assert shell.python("-m", "pkg") == "init"
        assert shell.python("-m", "taskproc", "pkg/__init__.py", "-o", cache) == "init"
        assert shell.python("-m", "pkg.mod") == "mod"
    assert shell.computed() == 2


def test_modules_of_one_name_in_two_namespace_packages_have_their_own_answers(
    shell: Shell, write: Write
) -> None:
    """Folders without `__init__.py`: what a module is called may then depend on who was first."""
    write("one/tasks.py", jobs("'one'"))
    write("two/tasks.py", jobs("'two'"))
    both = (
        "import json, os, {0}.tasks as a, {1}.tasks as b\nfrom taskproc import Cache\n"
        "with Cache(os.environ['CACHE']):\n"
        "    print(json.dumps([t.Job().run_graph(executor='serial')[0] for t in (a, b, a)]))"
    )
    for first, second in (("one", "two"), ("two", "one")):
        assert shell.python("-c", both.format(first, second)) == [first, second, first]
        assert shell.python("-m", f"{second}.tasks") == second
        assert shell.python(f"{first}/tasks.py") == first


# --- One file, everything else changed ---


ODD = """
import enum, json, os, sys
from pathlib import Path
from taskproc import Cache, FutureDict, Task

WORDS = {"alpha", "beta", "gamma", "delta", "naïve", "日本"}
TABLE = {"é": 1, "e\\u0301": 2}

class Colour(enum.Flag):
    RED = 1
    BLUE = 2

def known(word):
    return word in {"alpha", "beta", "gamma"} and word in ("alpha", "beta")

class Job(Task):
    def __init__(self, words, table, path):
        self.words = words
        self.more = {word + "!" for word in words} | {1, 2.5, None, (1, "a")}
        self.path = path
        self.colour = Colour.RED | Colour.BLUE

    def run_task(self):
        with open(os.environ["LOG"], "a") as log:
            log.write("computed\\n")
        return sorted(filter(known, self.words)), sum(TABLE.values()), len(WORDS)

class Main(Task):
    def __init__(self):
        self.job = Job(set(WORDS), dict(TABLE), Path("ä/ö"))
        self.both = FutureDict({"a": self.job, "b": Job(frozenset(WORDS), {1: 2}, None)})

    def run_task(self):
        return self.both.get_result()["a"]

def script():
    with Cache(os.environ["CACHE"]):
        print(json.dumps(Main().run_graph(max_workers=1, executor=os.environ["EXECUTOR"])[0]))

if __name__ == "__main__":
    script()
"""
ODD_ANSWER = [["alpha", "beta"], 3, 6]

SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "hash seed": {"PYTHONHASHSEED": "1"},
    "another hash seed": {"PYTHONHASHSEED": "12345"},
    "locale": {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "time zone": {"TZ": "Asia/Tokyo"},
}


@pytest.mark.parametrize("how", ["with a file", "from standard input"])
def test_hash_seed_locale_and_time_zone_make_nothing_stale(shell: Shell, write: Write, how: str) -> None:
    """What comes from standard input has no source: there the bytecode counts, with its sets."""
    write("odd.py", ODD)
    text = ODD.encode("ascii", "backslashreplace").decode().replace('"e\\\\u0301"', '"e\\u0301"')
    for name, settings in SETTINGS.items():
        if how == "with a file":
            assert shell.python("odd.py", **settings) == ODD_ANSWER, name
        else:
            assert shell.python("-", stdin=text, **settings) == ODD_ANSWER, name
        assert shell.computed() == (2 if name == "as it is" else 0), name


def test_the_working_directory_and_the_place_of_the_project_make_nothing_stale(
    shell: Shell, write: Write, tmp_path: Path
) -> None:
    write("project/odd.py", ODD.replace("known(word)", "known(word, at=Path(__file__).parent)"))
    (tmp_path / "elsewhere").mkdir()
    cache = shell.environment["CACHE"]
    assert shell.python("odd.py", cwd="project") == ODD_ANSWER
    assert shell.computed() == 2
    assert shell.python("../project/odd.py", cwd="elsewhere") == ODD_ANSWER
    assert shell.python(tmp_path / "project" / "odd.py", cwd="elsewhere") == ODD_ANSWER
    assert shell.python("odd.py", cwd="project", CACHE="../cache") == ODD_ANSWER
    assert shell.python("odd.py", cwd="project", CACHE="../elsewhere/../cache/./") == ODD_ANSWER
    (tmp_path / "link").symlink_to("project")
    (tmp_path / "linked.py").symlink_to("project/odd.py")
    (tmp_path / "linked cache").symlink_to("cache")
    assert shell.python("link/odd.py") == ODD_ANSWER
    assert shell.python("odd.py", cwd="link") == ODD_ANSWER
    assert shell.python("odd.py", cwd="project", CACHE=str(tmp_path / "linked cache")) == ODD_ANSWER
    assert shell.computed() == 0
    assert shell.python("linked.py") == ODD_ANSWER  # of another name, so it is another file
    (tmp_path / "link").unlink()
    (tmp_path / "project").rename(tmp_path / "moved")
    shell.computed()
    assert shell.python("odd.py", cwd="moved") == ODD_ANSWER
    (tmp_path / "cache").rename(tmp_path / "moved" / "cache")
    assert shell.python("odd.py", cwd="moved", CACHE="cache") == ODD_ANSWER
    assert shell.computed() == 0
    assert not Path(cache).exists()


def test_a_file_written_anew_with_the_same_code_makes_nothing_stale(shell: Shell, write: Write) -> None:
    text = jobs("[n for n in (1, 2)]")
    path = write("tasks.py", text)
    assert shell.file("as a script", "tasks.py") == [1, 2]
    assert shell.computed() == 1
    for content in (
        text.encode(),
        text.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("    ", "\t").encode(),
        b"# -*- coding: latin-1 -*-\n# \xe9\n" + text.encode(),
        b"#!/usr/bin/env python\n\n\n" + text.encode(),
    ):
        path.write_bytes(content)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        assert shell.file("as a script", "tasks.py") == [1, 2]
        assert shell.computed() == 0, content[:30]


def test_another_encoding_of_the_file_that_makes_another_text_counts(shell: Shell, write: Write) -> None:
    path = write("tasks.py", "")
    path.write_bytes(b"# -*- coding: latin-1 -*-\n" + jobs("'@'").encode().replace(b"@", b"\xe9"))
    assert shell.file("as a script", "tasks.py") == "\u00e9"
    path.write_bytes(b"# -*- coding: cp1251 -*-\n" + jobs("'@'").encode().replace(b"@", b"\xe9"))
    assert shell.file("as a script", "tasks.py") == "\u0439"


@pytest.mark.parametrize("executor", ["serial", "process"])
def test_a_python_without_assertions_does_not_mix_its_answers_with_those_of_one_that_has_them(
    shell: Shell, write: Write, executor: str
) -> None:
    write("tasks.py", jobs("__debug__"))
    for words, answer in ((["tasks.py"], True), (["-O", "tasks.py"], False), (["tasks.py"], True)):
        assert shell.python(*words, EXECUTOR=executor) is answer


# --- Installed packages ---


def install(folder: Path, version: str, tasks: str = "") -> str:
    """Something installed, in a folder that a path can name."""
    site = folder / version / "site-packages"
    (site / "thing").mkdir(parents=True)
    (site / "thing" / "__init__.py").write_text(f"VERSION = {version!r}\n\ndef f():\n    return VERSION\n")
    (site / "thing" / "tasks.py").write_text(tasks)
    info = site / f"thing-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n")
    return str(site)


@pytest.mark.parametrize(
    ("stated", "follows"),
    [
        ("", False),
        ("importlib.metadata.version('thing')", True),
        ("thing.VERSION", True),
        ("thing.f()", True),
    ],
)
def test_two_versions_of_an_installed_package_are_told_apart_where_a_task_states_it(
    shell: Shell, write: Write, tmp_path: Path, stated: str, follows: bool
) -> None:
    """Only the project is followed; docs/code-changes.md says how to state what else counts."""
    imports = f"import importlib.metadata, thing\nSTATED = {stated or None}"
    write(
        "tasks.py",
        jobs("thing.f()", imports).replace("class Job(Task):", "class Job(Task):\n    on = STATED\n"),
    )
    sites = {version: install(tmp_path, version) for version in ("1.0", "2.0")}
    root = shell.environment["PYTHONPATH"]
    for version in ("1.0", "2.0", "1.0"):
        answer = shell.file("as a script", "tasks.py", PYTHONPATH=f"{root}{os.pathsep}{sites[version]}")
        assert answer == (version if follows else "1.0")


@pytest.mark.parametrize("words", [["-m", "thing.tasks"], ["-c", "import thing.tasks as t; t.script()"]])
def test_two_versions_of_an_installed_package_of_tasks_have_their_own_answers(
    shell: Shell, tmp_path: Path, words: list[str]
) -> None:
    root = shell.environment["PYTHONPATH"]
    tasks = jobs("thing.f()", "import thing")
    sites = {version: install(tmp_path, version, tasks) for version in ("1.0", "2.0")}
    for version in ("1.0", "2.0", "1.0"):
        path = f"{root}{os.pathsep}{sites[version]}"
        assert shell.python(*words, PYTHONPATH=path) == version
    assert shell.computed() == 3


def test_a_module_of_an_installed_package_has_one_answer_run_or_imported(
    shell: Shell, tmp_path: Path
) -> None:
    site = install(tmp_path, "1.0", jobs("thing.f()", "import thing"))
    path = f"{shell.environment['PYTHONPATH']}{os.pathsep}{site}"
    for words in (["-m", "thing.tasks"], ["-c", "import thing.tasks as t; t.script()"]):
        assert shell.python(*words, PYTHONPATH=path) == "1.0"
    assert shell.computed() == 1


# --- Several Pythons with one cache ---


def other_pythons() -> list[str]:
    """Interpreters of other supported versions, if there are any to be found."""
    found = []
    for minor in (11, 12, 13):
        path = shutil.which(f"python3.{minor}")
        if path is None or minor == sys.version_info.minor:
            continue
        told = subprocess.run(
            [path, "-c", "import sys; print(sys.version_info[1])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode == 0 and told.stdout.strip() == str(minor):
            found.append(path)
    return found


RICH = """
import collections, datetime, decimal, enum, json, os, uuid
from dataclasses import dataclass
from pathlib import Path
from taskproc import Cache, FutureDict, Task

class Colour(enum.Enum):
    RED = 1

@dataclass(frozen=True)
class Point:
    x: int

def by_value():
    return lambda: 5

RESULTS = {
    "plain": lambda: [1, 2.5, "a", None, {"a": (1,)}],
    "path": lambda: Path("a/b"),
    "object": lambda: Point(1),
    "enum": lambda: Colour.RED,
    "time": lambda: datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
    "odd": lambda: [decimal.Decimal("1.5"), uuid.UUID(int=5), collections.OrderedDict(a=1), {1, 2}],
    "class": lambda: Point,
    "by_value": by_value,
}

class Job(Task):
    def __init__(self, what):
        self.what = what

    def run_task(self):
        with open(os.environ["LOG"], "a") as log:
            log.write(self.what + "\\n")
        return RESULTS[self.what]()

class Main(Task):
    def __init__(self):
        self.jobs = FutureDict({what: Job(what) for what in RESULTS})

    def run_task(self):
        results = self.jobs.get_result()
        wrong = [what for what, made in RESULTS.items() if what != "by_value" and made() != results[what]]
        return wrong, results["by_value"]()

if __name__ == "__main__":
    with Cache(os.environ["CACHE"]):
        print(json.dumps(Main().run_graph(max_workers=1, executor=os.environ["EXECUTOR"])[0]))
"""


@pytest.mark.parametrize(
    "text", [RICH, RICH.replace(": by_value", ": lambda: lambda: 5")], ids=["", "lambdas"]
)
def test_several_pythons_share_one_cache(shell: Shell, write: Write, text: str) -> None:
    others = other_pythons()
    if not others:
        pytest.skip("no other supported Python on the PATH; tests/core/golden_keys.json keeps their keys")
    write("tasks.py", text)
    # What the library needs is pure Python, so the other versions may use what is installed here.
    path = os.pathsep.join([shell.environment["PYTHONPATH"], sysconfig.get_path("purelib")])
    for order in ([sys.executable, *others, sys.executable], [*others, sys.executable, others[0]]):
        for number, python in enumerate(order):
            assert shell.python("tasks.py", python=python, PYTHONPATH=path) == [[], 5]
            computed = shell.log.read_text().split()
            shell.log.write_text("")
            if number:
                # Code by value is read by no other version, and a path is not pickled alike in all.
                assert set(computed) <= {"by_value", "path"}, python
        shutil.rmtree(shell.folder / "cache")
