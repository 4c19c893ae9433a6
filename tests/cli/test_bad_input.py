"""Bad input: one clear error, exit 2, nothing half done, no traceback of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]
Expect = Callable[..., None]

HEAD = "from taskproc import Task, Cache, Const\nimport pathlib\n"
MAIN = (
    HEAD
    + "class Main(Task):\n    def __init__(self, n: int = 1):\n        self.n = n\n    def run_task(self):\n"
)
RAN = "        (pathlib.Path(__file__).parent / 'ran').touch()\n"


@pytest.fixture
def good(write: Write) -> Path:
    return write("good.py", MAIN + RAN)


OPTIONS = [
    (["--kwargs", "[1]"], ["--kwargs", "not a JSON object"]),
    (["--kwargs", "{n: 1}"], ["--kwargs", "not JSON"]),
    (["--kwargs", '{"m": 1}'], ["'m'", "n: int = 1"]),
    (["-a", "m=1"], ["-a m=1", "no parameter 'm'", "n: int = 1"]),
    (["-a", "n=one"], ["'n'", "'one'", "int"]),
    (["-a", "n"], ["NAME=VALUE"]),
    (["-a", "n=1", "--kwargs", '{"n": 1}'], ["'n'", "twice"]),
    (["--rate-limit", "good.Main=0"], ["good.Main", "1 or more"]),
    (["--rate-limits", '{"good.Main": 1.5}'], ["good.Main", "1 or more"]),
    (["--prefix", "good.Main=no_such_command_anywhere -x"], ["no_such_command_anywhere", "good.Main"]),
    (["--prefix", "good.Main=env X=$HOME"], ["sh -c"]),
    (["--prefix", "good.Main="], ["no command"]),
    (["--prefix", "good.Main=env", "--launcher", "good.Main=prefix:prefix=env"], ["both"]),
    (["-t", "no_such_executor"], ["no_such_executor", "process"]),
    (["-t", "thraed"], ["thraed", "did you mean 'thread'"]),
    (["-x", "process:colour=red"], ["process", "colour"]),
    (["-t", "thread", "-x", "process"], ["--executor"]),
    (["--launcher", "good.Main=no_such_launcher"], ["no_such_launcher", "prefix"]),
    (["--launcher", "good.Main=prefix:prefx=env"], ["prefx", "did you mean 'prefix'"]),
    (["--launcher", "good.Main=prefix:prefix=env,max_jobs=0"], ["max_jobs", "good.Main", "1 or more"]),
    (["--report", "no_such_reporter"], ["no_such_reporter", "progress"]),
    (["-p", "no_such_plugin_anywhere"], ["no_such_plugin_anywhere"]),
    (["-p", "./no_such_file.py"], ["no_such_file"]),
    (["-n", "0"], ["--num-workers"]),
    (["-n", "many"], ["--num-workers"]),
    (["--on-error", "panic"], ["--on-error", "continue"]),
    (["-l", "loud"], ["--loglevel"]),
    (["--no-such-option"], ["--no-such-option"]),
    (["-o", "no_such_backend://x"], ["no_such_backend", "directory"]),
]


@pytest.mark.parametrize(("words", "told"), OPTIONS, ids=[" ".join(words) for words, _ in OPTIONS])
def test_a_wrong_option_is_told_before_anything_runs(
    words: list[str], told: list[str], run: Run, good: Path, tmp_path: Path, expect_one_error: Expect
) -> None:
    done = run(good, "-o", "cache", *words)
    expect_one_error(done, 2, *told)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "cache").exists()


FILES = {
    "has no Main": (
        HEAD + "class Min(Task):\n    def run_task(self): pass\n",
        ["'Main'", "Min", "did you mean"],
    ),
    "has no task": ("Main = 3\n", ["'Main'", "not a Task class"]),
    "is empty": ("", ["'Main'", "no Task class at all"]),
    "raises": (
        "import json\n\ndef f():\n    json.loads('x')\nf()\n",
        ["JSONDecodeError", "line 5", "line 4"],
    ),
    "is no Python": ("class Main(\n", ["SyntaxError", "task.py"]),
    "exits": ("raise SystemExit(3)\n", ["SystemExit"]),
    "imports what is not there": ("import no_such_module\n", ["no_such_module"]),
    "has no run_task": (HEAD + "class Main(Task):\n    pass\n", ["task.Main", "run_task"]),
    "overrides a name": (MAIN + "        pass\n    def plan(self): pass\n", ["plan", "built-in name"]),
    "has a cycle": (
        HEAD
        + "class A(Task):\n    def __init__(self): self.b = B()\n    def run_task(self): pass\n"
        + "class B(Task):\n    def __init__(self): self.m = Main()\n    def run_task(self): pass\n"
        + "class Main(Task):\n    def __init__(self): self.a = A()\n    def run_task(self): pass\n",
        ["Main() -> A() -> B() -> Main()"],
    ),
    "passes an unsupported argument": (
        HEAD
        + "class A(Task):\n    def __init__(self, x): pass\n    def run_task(self): pass\n"
        + "class Main(Task):\n    def __init__(self): self.a = A({'k': [object()]})\n"
        + "    def run_task(self): pass\n",
        ["task.A(x=...)", "object", "dataclass"],
    ),
    "raises in its constructor": (
        HEAD
        + "class Main(Task):\n    def __init__(self):\n        raise ValueError('not today')\n"
        + "    def run_task(self): pass\n",
        ["ValueError: not today", "line 5", "constructing Main"],
    ),
    "has wrong defaults": (
        MAIN + "        pass\nfrom taskproc import DefaultArguments\nDefaultArguments(num_workers='2')\n",
        ["TypeError", "num_workers", "'2'", "task.py"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_task_file_that_is_wrong_is_told(
    name: str, run: Run, write: Write, tmp_path: Path, expect_one_error: Expect
) -> None:
    source, told = FILES[name]
    done = run(write("task.py", source), "-o", "cache")
    expect_one_error(done, 2, *told)
    assert not (tmp_path / "cache").exists()


def test_a_traceback_of_the_file_is_trimmed_to_its_own_lines(run: Run, write: Write) -> None:
    write("task.py", "import helper\n")
    write("helper.py", "def f():\n    1 / 0\nf()\n")
    done = run("task.py", "-o", "cache")
    assert done.returncode == 2
    files = [line.split('"')[1] for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert [Path(file).name for file in files] == ["task.py", "helper.py", "helper.py"]


def test_a_file_that_does_not_exist_is_told(run: Run, expect_one_error: Expect) -> None:
    expect_one_error(run("missing.py", "-o", "cache"), 2, "missing.py")
    expect_one_error(run("run", "missing", "-o", "cache"), 2, "missing")
    expect_one_error(run("missing", "-o", "cache"), 2, "missing", "neither a command nor a task file")


def test_a_file_that_is_not_called_py_is_told(run: Run, good: Path, expect_one_error: Expect) -> None:
    other = good.rename(good.with_suffix(".txt"))
    expect_one_error(run(other, "-o", "cache"), 2, "good.txt", "must end in .py")


def test_an_exit_in_the_entry_tasks_init_is_no_success(
    run: Run, write: Write, expect_one_error: Expect
) -> None:
    body = "class Main(Task):\n    def __init__(self): raise SystemExit(0)\n    def run_task(self): pass\n"
    file = write("leaves.py", HEAD + body)
    expect_one_error(run(file, "-o", "cache"), 2, "constructing Main raised SystemExit: 0", "leaves.py")


PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import ExecutorProvider, Launcher

@dataclass(frozen=True)
class Odd(ExecutorProvider):
    name: ClassVar[str] = "odd"
    how: str

    def open(self, max_workers, worker_argv):
        if self.how == "raises":
            raise RuntimeError("no cluster today")
        if self.how == "leaves":
            raise SystemExit(0)

@dataclass(frozen=True)
class Strange(Launcher):
    name: ClassVar[str] = "strange"
    how: str

    def __post_init__(self):
        if self.how == "leaves":
            raise SystemExit(0)

    @property
    def needs(self):
        return "env" if self.how == "needs" else 1 / 0 if self.how == "raises" else ()

    def command(self, argv, job):
        if self.how == "exit":
            raise SystemExit(0)
        return " ".join(argv) if self.how == "text" else None

@hookimpl
def taskproc_register_executors(): return [Odd]

@hookimpl
def taskproc_register_launchers(): return [Strange]
"""


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["-x", "odd:how=raises"], 2, ["'odd'", "RuntimeError: no cluster today", "plugin.py"]),
        (["-x", "odd:how=leaves"], 2, ["'odd'", "SystemExit"]),
        (["-x", "odd:how=nothing"], 2, ["'odd'", "None", "Executor"]),
        (["--launcher", "good.Main=strange:how=leaves"], 2, ["'strange'", "SystemExit"]),
        (["--launcher", "good.Main=strange:how=needs"], 2, ["'strange'", "needs", "'env'"]),
        (["--launcher", "good.Main=strange:how=raises"], 2, ["'strange'", "needs", "ZeroDivisionError"]),
        (["--launcher", "good.Main=strange:how=exit"], 1, ["good.Main failed: SystemExit: 0"]),
        (["--launcher", "good.Main=strange:how=text"], 1, ["'strange'", "not a list of words"]),
        (["--launcher", "good.Main=strange:how=none"], 1, ["'strange'", "None", "not a list of words"]),
    ],
)
def test_a_component_that_misbehaves_is_named_and_the_run_is_no_success(
    words: list[str], code: int, told: list[str], run: Run, write: Write, good: Path, expect_one_error: Expect
) -> None:
    write("plugin.py", PLUGIN)
    expect_one_error(run(good, "-o", "cache", "-p", "./plugin.py", *words), code, *told)


def test_a_directory_is_no_task_file(run: Run, tmp_path: Path, expect_one_error: Expect) -> None:
    (tmp_path / "folder").mkdir()
    expect_one_error(run("folder", "-o", "cache"), 2, "folder", "directory")


def test_no_cache_is_told(run: Run, good: Path, expect_one_error: Expect) -> None:
    expect_one_error(run(good), 2, "-o PATH")


def test_a_cache_path_that_is_a_file_is_told(
    run: Run, good: Path, tmp_path: Path, expect_one_error: Expect
) -> None:
    expect_one_error(run(good, "-o", good), 2, "good.py")
    expect_one_error(run(good, "-o", good / "below"), 2, "good.py")
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_somebody_else_is_no_cache(
    run: Run, good: Path, tmp_path: Path, expect_one_error: Expect
) -> None:
    expect_one_error(run(good, "-o", tmp_path), 2, str(tmp_path))


def test_a_limit_for_a_label_nobody_has_is_a_warning_with_a_guess(run: Run, good: Path) -> None:
    done = run(good, "-o", "cache", "--rate-limit", "good.Mian=1", "--dont-show-progress")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("taskproc: warning: ")
    assert "good.Mian" in line
    assert "good.Main" in line


def test_a_key_that_is_not_there_names_task_and_key(run: Run, write: Write, expect_one_error: Expect) -> None:
    file = write(
        "keys.py",
        HEAD
        + "class Many(Task):\n    def run_task(self): return {'a': 1}\n"
        + "class Main(Task):\n    def __init__(self): self.b = Many()['b']\n"
        + "    def run_task(self): return self.b.get_result()\n",
    )
    done = run(file, "-o", "cache", "--dont-show-progress")
    expect_one_error(done, 2, "keys.Many", "'b'")
