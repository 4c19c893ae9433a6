"""`taskproc cache rename`: the real command, on results of real runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]

TASKS = """
from taskproc import FutureList, Task

FACTOR = 10

def scaled(n):
    return FACTOR * n

class Leaf(Task):
    def __init__(self, n: int):
        self.n = n
    def run_task(self):
        return scaled(self.n)

class ByArgument(Task):
    def __init__(self, leaf):
        self.leaf = leaf
    def run_task(self):
        return self.leaf.get_result() + 1

class ByInit(Task):
    def __init__(self, n: int):
        self.leaf = Leaf(n)
        self.above = ByArgument(self.leaf)
    def run_task(self):
        return self.leaf.get_result() + self.above.get_result()

class Unrelated(Task):
    def run_task(self):
        return scaled(1)

class Main(Task):
    def __init__(self):
        self.parts = FutureList([ByInit(n) for n in range(3)])
        self.set = Several({Leaf(7), Leaf(8), Leaf(9)}, {Leaf(7): 1, Leaf(8): 2})
        self.unrelated = Unrelated()
    def run_task(self):
        print(sum(self.parts.get_result()), self.set.get_result(), self.unrelated.get_result())

class Several(Task):
    def __init__(self, leaves, weights):
        self.leaves = FutureList(sorted(leaves, key=lambda leaf: leaf.n))
        self.weights = weights
    def run_task(self):
        return sum(self.leaves.get_result())
"""
ANSWER = "63 240 10"
ALL = 3 + 3 + 3 + 3 + 1 + 1 + 1


def made(run: Run, file: str | Path = "tasks.py") -> str:
    done = run("run", file, "-o", "cache", "-x", "serial")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def rename(run: Run, old: str, new: str, *options: str) -> str:
    done = run("cache", "rename", old, new, "-o", "cache", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def plan(run: Run, file: str | Path = "tasks.py") -> dict[str, Any]:
    done = run("plan", file, "-o", "cache", "--json")
    assert done.returncode in (0, 3), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def expect_idle(run: Run, file: str = "tasks.py") -> None:
    planned = plan(run, file)
    main = f"{file.removesuffix('.py').replace('/', '.')}.Main"
    assert set(planned["run"]) <= {main}, planned
    assert run("plan", file, "-o", "cache").returncode == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def tasks(write: Write) -> Path:
    return write("tasks.py", TASKS)


def test_a_class_renamed_in_its_file_and_where_it_is_used_keeps_all_results(run: Run, tasks: Path) -> None:
    assert made(run) == ANSWER
    tasks.write_text(TASKS.replace("Leaf", "Blatt"))
    assert sum(plan(run)["run"].values()) == ALL - 1
    told = rename(run, "tasks.Leaf", "tasks.Blatt")
    assert told.splitlines()[0] == "tasks.Leaf -> tasks.Blatt: 6 results carried over"
    assert "4 results of tasks that have them among their arguments given new keys" in told
    assert "computed anew" not in told
    expect_idle(run)
    assert made(run) == ANSWER
    why = run("why", tasks, "-o", "cache", "Blatt", "n=1")
    assert "its stored result stands" in why.stdout, why.stdout + why.stderr


def test_a_class_moved_to_another_file_keeps_all_results(run: Run, tasks: Path, write: Write) -> None:
    assert made(run) == ANSWER
    start, end = TASKS.index("class Leaf"), TASKS.index("class ByArgument")
    write("pkg/__init__.py", "")
    write("pkg/leaves.py", "from taskproc import Task\nfrom tasks import scaled\n" + TASKS[start:end])
    rest = TASKS[:start] + "from pkg.leaves import Leaf\n" + TASKS[end:]
    tasks.write_text(rest)
    rename(run, "tasks.Leaf", "pkg.leaves.Leaf")
    expect_idle(run)
    assert made(run) == ANSWER


def test_a_class_that_takes_its_helpers_along_keeps_all_results(run: Run, tasks: Path, write: Write) -> None:
    assert made(run) == ANSWER
    start, end = TASKS.index("FACTOR"), TASKS.index("class ByArgument")
    write("leaves.py", "from taskproc import Task\n" + TASKS[start:end].replace("Leaf", "Blatt"))
    rest = TASKS[:start] + "import leaves\n" + TASKS[end:].replace("Leaf(", "leaves.Blatt(")
    tasks.write_text(rest.replace("scaled(1)", "leaves.scaled(1)"))
    rename(run, "tasks.Leaf", "leaves.Blatt")
    planned = plan(run)["run"]
    assert set(planned) <= {"tasks.Main", "tasks.Unrelated", "tasks.ByInit", "tasks.Several"}, planned
    assert made(run) == ANSWER


def test_a_renamed_file_keeps_all_results_once_each_class_of_it_is_renamed(run: Run, tasks: Path) -> None:
    assert made(run) == ANSWER
    tasks.rename(tasks.with_name("models.py"))
    for name in ("Leaf", "ByArgument", "ByInit", "Unrelated", "Several", "Main"):
        rename(run, f"tasks.{name}", f"models.{name}")
    expect_idle(run, "models.py")
    assert made(run, "models.py") == ANSWER


def test_it_may_be_done_before_the_file_is_renamed(run: Run, tasks: Path) -> None:
    assert made(run) == ANSWER
    assert "is still in" in rename(run, "tasks.Leaf", "models.Leaf", "--dry-run")
    for name in ("Main", "ByInit", "Leaf", "Several", "ByArgument", "Unrelated"):
        rename(run, f"tasks.{name}", f"models.{name}")
    tasks.rename(tasks.with_name("models.py"))
    expect_idle(run, "models.py")


def test_a_class_renamed_and_edited_is_stale_for_its_code(run: Run, tasks: Path) -> None:
    assert made(run) == ANSWER
    tasks.write_text(TASKS.replace("Leaf", "Blatt").replace("scaled(self.n)", "scaled(self.n) + 1"))
    rename(run, "tasks.Leaf", "tasks.Blatt")
    assert plan(run)["reasons"]["tasks.Blatt"] == {"its code changed": 6}
    why = run("why", tasks, "-o", "cache", "Blatt", "n=1").stdout
    assert "+" in why, why
    assert "scaled(self.n) + 1" in why, why
    assert made(run) == "69 243 10"


def test_results_that_name_a_path_of_the_old_entry_are_computed_anew(run: Run, write: Write) -> None:
    source = """
from taskproc import Task
class Files(Task):
    def run_task(self):
        path = self.task_directory / "text"
        path.write_text("here")
        return path
class Passed(Task):
    def __init__(self):
        self.files = Files()
    def run_task(self):
        return {"path": self.files.get_result()}
class Plain(Task):
    def __init__(self):
        self.passed = Passed()
    def run_task(self):
        return len(self.passed.get_result())
class Main(Task):
    def __init__(self):
        self.passed, self.plain = Passed(), Plain()
    def run_task(self):
        print(self.passed.get_result()["path"].read_text())
"""
    tasks = write("tasks.py", source)
    assert made(run) == "here"
    tasks.write_text(source.replace("Files", "Dateien"))
    told = rename(run, "tasks.Files", "tasks.Dateien")
    assert "2 results of these will be computed anew: they name a path" in told
    reasons = plan(run)["reasons"]
    assert reasons["tasks.Dateien"] == {"its result names what was renamed": 1}
    assert reasons["tasks.Passed"] == {"its result names what was renamed": 1}
    assert "had that name" in run("why", tasks, "-o", "cache", "Dateien").stdout
    assert made(run) == "here"
    expect_idle(run)


def test_results_that_hold_what_is_called_otherwise_are_computed_anew(run: Run, write: Write) -> None:
    source = """
from dataclasses import dataclass
from taskproc import Task
@dataclass
class Point:
    x: int
class Makes(Task):
    def run_task(self):
        return Point(1)
class Main(Task):
    def __init__(self):
        self.point = Makes()
    def run_task(self):
        print(self.point.get_result().x)
"""
    tasks = write("tasks.py", source)
    assert made(run) == "1"
    tasks.rename(tasks.with_name("points.py"))
    for name in ("Makes", "Main"):
        rename(run, f"tasks.{name}", f"points.{name}")
    assert plan(run, "points.py")["run"]["points.Makes"] == 1
    assert made(run, "points.py") == "1"
    expect_idle(run, "points.py")


def test_the_class_itself_as_an_argument_is_renamed_too(run: Run, write: Write) -> None:
    source = """
from taskproc import Task
class Leaf(Task):
    def run_task(self):
        return 5
class Uses(Task):
    def __init__(self, kind, n: int):
        self.kind, self.n = kind, n
        self.leaf = kind()
    def run_task(self):
        return self.leaf.get_result() + self.n
class Main(Task):
    def __init__(self):
        self.uses = Uses(Leaf, 1)
    def run_task(self):
        print(self.uses.get_result())
"""
    tasks = write("tasks.py", source)
    assert made(run) == "6"
    tasks.write_text(source.replace("Leaf", "Blatt"))
    rename(run, "tasks.Leaf", "tasks.Blatt")
    expect_idle(run)
    assert made(run) == "6"


@pytest.mark.parametrize("way", ["by arguments", "by __init__"])
def test_chains_of_thousands_are_carried_over(run: Run, write: Write, way: str) -> None:
    count = 10_000 if way == "by arguments" and os.environ.get("TASKPROC_LONG") else 1_500
    source = f"""
from taskproc import Task
class Link(Task):
    def __init__(self, before, n: int):
        self.before, self.n = before, n
    def run_task(self):
        return self.n + (self.before.get_result() if self.before else 0)
class Step(Task):
    def __init__(self, n: int):
        self.n = n
        self.before = Step(n - 1) if n else None
    def run_task(self):
        return self.n + (self.before.get_result() if self.before else 0)
class Main(Task):
    def __init__(self):
        if {way == "by arguments"}:
            link = None
            for n in range({count}):
                link = Link(link, n)
        else:
            for n in range({count}):
                link = Step(n)
        self.last = link
    def run_task(self):
        print(self.last.get_result())
"""
    tasks = write("tasks.py", source)
    answer = made(run)
    name = "Link" if way == "by arguments" else "Step"
    tasks.write_text(source.replace(f"{name}(", "Ring("))
    assert f"{count:,} results carried over" in rename(run, f"tasks.{name}", "tasks.Ring")
    expect_idle(run)
    assert made(run) == answer


def test_a_dry_run_tells_the_same_and_writes_nothing(run: Run, tasks: Path, tmp_path: Path) -> None:
    made(run)
    before = contents(tmp_path / "cache")
    tried = rename(run, "tasks.Leaf", "tasks.Blatt", "--dry-run")
    assert contents(tmp_path / "cache") == before
    assert tried.replace("would be ", "") == rename(run, "tasks.Leaf", "tasks.Blatt")


def test_a_result_under_the_new_name_stays_and_so_does_the_old_one(
    run: Run, tasks: Path, tmp_path: Path
) -> None:
    made(run)
    tasks.write_text(TASKS.replace("Leaf", "Blatt"))
    assert run(f"{tasks}:Blatt", "-o", "cache", "-x", "serial", "-a", "n=1").returncode == 0
    new = contents(tmp_path / "cache" / "tasks.Blatt")
    told = rename(run, "tasks.Leaf", "tasks.Blatt")
    assert "5 results carried over" in told
    assert "1 result left as before: there is one under the new key already" in told
    assert new.items() <= contents(tmp_path / "cache" / "tasks.Blatt").items()
    assert len(list((tmp_path / "cache" / "tasks.Leaf").iterdir())) == 1
    expect_idle(run)


def test_the_same_command_again_finds_nothing_left_to_do(run: Run, tasks: Path) -> None:
    made(run)
    rename(run, "tasks.Leaf", "tasks.Blatt")
    assert "nothing is left to do" in rename(run, "tasks.Leaf", "tasks.Blatt")


def test_there_and_back_again_leaves_all_as_it_was(run: Run, tasks: Path) -> None:
    made(run)
    rename(run, "tasks.Leaf", "elsewhere.Blatt")
    rename(run, "elsewhere.Blatt", "tasks.Leaf")
    expect_idle(run)


def test_what_can_not_be_renamed_is_refused(
    run: Run, tasks: Path, expect_one_error: Callable[..., None]
) -> None:
    made(run)
    words = ("-o", "cache")
    expect_one_error(
        run("cache", "rename", "tasks.Leav", "tasks.X", *words), 2, "did you mean 'tasks.Leaf'", "tasks.Main"
    )
    expect_one_error(run("cache", "rename", "tasks.Leaf", "tasks.Leaf", *words), 2, "the same")
    expect_one_error(run("cache", "rename", "tasks.Leaf", "Blatt", *words), 2, "module.Class")
    expect_one_error(run("cache", "rename", "tasks.Leaf", "tasks.1x", *words), 2, "module.Class")
    expect_one_error(run("cache", "rename", "tasks.Leaf", "tasks.X", "-o", "none"), 2, "no cache")


def test_it_is_refused_while_a_run_is_under_way(
    run: Run, write: Write, start: Callable[..., Any], expect_one_error: Callable[..., None], tmp_path: Path
) -> None:
    tasks = write(
        "tasks.py",
        """
import pathlib, time
from taskproc import Task
class Main(Task):
    def run_task(self):
        pathlib.Path("begun").touch()
        time.sleep(60)
""",
    )
    process = start("run", tasks, "-o", "cache")
    while not (tmp_path / "begun").exists() or not list((tmp_path / "cache" / "runs").glob("*")):
        assert process.poll() is None
    done = run("cache", "rename", "tasks.Main", "tasks.Haupt", "-o", "cache")
    expect_one_error(done, 2, "a run of tasks.Main by", "under way")


KILLS = """
import os, sys
from taskproc.default_plugins.directory_cache import DirectoryCache
left = int(sys.argv[1])
real = DirectoryCache.replace_record
def replace_record(self, key, record):
    global left
    real(self, key, record)
    left -= 1
    if not left:
        os._exit(9)
DirectoryCache.replace_record = replace_record
from taskproc.cli.main import command
command(sys.argv[2:])
"""


def test_killed_after_any_record_the_same_command_completes_it(
    run: Run, tasks: Path, write: Write, tmp_path: Path, environment: dict[str, str]
) -> None:
    made(run)
    tasks.write_text(TASKS.replace("Leaf", "Blatt"))
    script, kept = write("kills.py", KILLS), tmp_path / "kept"
    os.rename(tmp_path / "cache", kept)
    for count in range(1, 100):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        shutil.copytree(kept, tmp_path / "cache")
        words = [
            sys.executable,
            script,
            str(count),
            "cache",
            "rename",
            "tasks.Leaf",
            "tasks.Blatt",
            "-o",
            "cache",
        ]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            assert count > 10
            return
        assert done.returncode == 9, done.stderr
        rename(run, "tasks.Leaf", "tasks.Blatt")
        expect_idle(run)
    raise AssertionError("there is no end of records")
