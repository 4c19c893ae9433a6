"""`taskproc plan`, and `run --dry-run`: what would run, and why; nothing is run or written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]
Expect = Callable[..., None]

HELPERS = "def scale(x):\n    return 2 * x\n"
TASKS = """
from taskproc import Future, InputFile, Task
from helpers import scale

print("the file is loaded")

class Leaf(Task):
    def __init__(self, n: int):
        self.n = n
    def run_task(self):
        return scale(self.n)

class Sum(Task):
    def __init__(self, leaves: list):
        self.leaves = leaves
    def run_task(self):
        return sum(leaf.get_result() for leaf in self.leaves)

class Text(Task):
    def __init__(self):
        self.file = InputFile("data.txt")
    def run_task(self):
        return self.file.get_result().read_text()

class Main(Task):
    def __init__(self, n: int = 3):
        self.sum = Sum([Leaf(k) for k in range(n)])
        self.text = Text()
    def run_task(self):
        print(self.sum.get_result(), self.text.get_result())
"""


@pytest.fixture
def project(write: Write) -> Path:
    write("helpers.py", HELPERS)
    write("data.txt", "text")
    return write("tasks.py", TASKS.replace('print("the file is loaded")\n', ""))


@pytest.fixture
def done(run: Run, project: Path) -> Path:
    """The project, after a run."""
    finished = run(project, "-o", "cache", "--dont-show-progress")
    assert finished.returncode == 0, finished.stderr
    return project


def words_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def plan_of(run: Run, *words: str | Path, code: int) -> dict[str, Any]:
    finished = run("plan", *words, "--json")
    assert finished.returncode == code, finished.stdout + finished.stderr
    assert finished.stderr == ""
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


# --- the first run, the next, an edit ---


def test_before_the_first_run_all_would_run(run: Run, project: Path) -> None:
    finished = run("plan", project, "-o", "cache")
    assert finished.returncode == 3
    assert finished.stderr == ""
    assert words_of(finished.stdout) == [
        "would run: 6 tasks",
        "tasks.Leaf 3 no stored result",
        "tasks.Sum 1 no stored result",
        "tasks.Text 1 no stored result",
        "tasks.Main 1 no stored result",
        "cached: 0 tasks",
    ]


def test_after_a_run_only_the_entry_task_would_run(run: Run, done: Path) -> None:
    finished = run("plan", done, "-o", "cache")
    assert finished.returncode == 0
    lines = words_of(finished.stdout)
    assert lines[:2] == ["would run: 1 task", "tasks.Main 1 the entry task is run in any case"]
    assert lines[2:6] == ["cached: 5 tasks", "tasks.Leaf 3", "tasks.Sum 1", "tasks.Text 1"]
    assert lines[6].startswith("expected: ")


def test_without_force_nothing_at_all_would_run(run: Run, done: Path) -> None:
    finished = run("plan", done, "-o", "cache", "--dont-force-entrypoint")
    assert finished.returncode == 0
    assert words_of(finished.stdout)[0] == "would run: 0 tasks"
    assert "expected" not in finished.stdout


def test_an_edited_helper_is_the_reason_of_the_group_it_reaches(run: Run, done: Path, write: Write) -> None:
    write("helpers.py", HELPERS.replace("2 * x", "x * 2"))
    finished = run("plan", done, "-o", "cache")
    assert finished.returncode == 3
    lines = words_of(finished.stdout)
    assert lines[:4] == [
        "would run: 5 tasks",
        "tasks.Leaf 3 its code changed",
        "tasks.Sum 1 its upstream tasks.Leaf runs",
        "tasks.Main 1 its upstream tasks.Sum runs",
    ]
    assert lines[4:6] == ["cached: 1 task", "tasks.Text 1"]
    assert run("plan", done, "-o", "cache", "--code", "class").returncode == 0
    assert run("plan", done, "-o", "cache", "-D").returncode == 0


def test_the_entry_task_counts_if_it_would_run_for_a_reason_of_its_own(
    run: Run, done: Path, write: Write
) -> None:
    write("tasks.py", done.read_text().replace("print(self.sum", "print(0, self.sum"))
    assert run("plan", done, "-o", "cache").returncode == 3
    assert plan_of(run, done, "-o", "cache", code=3)["reasons"] == {"tasks.Main": {"its code changed": 1}}


def test_an_entry_task_that_never_ran_is_something_to_run(run: Run, done: Path) -> None:
    assert run("plan", f"{done}:Main", "-o", "cache", "-a", "n=2").returncode == 3


def test_another_entry_task_and_arguments_are_those_of_a_run(run: Run, done: Path) -> None:
    assert plan_of(run, f"{done}:Leaf", "-o", "cache", "-a", "n=1", code=0)["run"] == {"tasks.Leaf": 1}
    assert plan_of(run, f"{done}:Leaf", "-o", "cache", "--kwargs", '{"n": 9}', code=3)["idle"] is False


def test_two_reasons_of_one_name_are_told_apart(run: Run, done: Path, tmp_path: Path, write: Write) -> None:
    write("helpers.py", HELPERS.replace("2 * x", "x * 2"))
    plan = plan_of(run, done, "-o", "cache", "-a", "n=5", code=3)
    assert plan["run"]["tasks.Leaf"] == 5
    assert plan["reasons"]["tasks.Leaf"] == {"its code changed": 3, "no stored result": 2}


# --- JSON ---


def test_json_maps_names_to_counts_with_the_reasons_beside(run: Run, done: Path, write: Write) -> None:
    write("data.txt", "other")
    plan = plan_of(run, done, "-o", "cache", code=3)
    assert plan["run"] == {"tasks.Text": 1, "tasks.Main": 1}
    assert plan["cached"] == {"tasks.Leaf": 3, "tasks.Sum": 1}
    assert plan["blocked"] == {}
    assert plan["reasons"].keys() == plan["run"].keys()
    assert list(plan["reasons"]["tasks.Text"].values()) == [1]
    assert "the content of its input file 'data.txt'" in next(iter(plan["reasons"]["tasks.Text"]))
    assert all(isinstance(seconds, float) for seconds in plan["seconds"].values())
    assert plan["untimed"] == []


def test_json_of_nothing_to_do_has_all_its_parts(run: Run, done: Path) -> None:
    plan = plan_of(run, done, "-o", "cache", "--dont-force-entrypoint", code=0)
    assert (plan["run"], plan["blocked"], plan["reasons"]) == ({}, {}, {})
    assert sum(plan["cached"].values()) == 6
    assert plan["idle"] is True


def test_json_is_one_object_for_a_dry_run_too(run: Run, done: Path) -> None:
    dry = run("run", done, "-o", "cache", "--dry-run", "--json")
    assert dry.returncode == 0
    assert json.loads(dry.stdout) == plan_of(run, done, "-o", "cache", code=0)


# --- what can't run ---


def test_a_missing_file_blocks_what_needs_it_and_nothing_else(
    run: Run, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "data.txt").unlink()
    finished = run("plan", project, "-o", "cache")
    assert finished.returncode == 3
    lines = words_of(finished.stdout)
    assert lines[:3] == [
        "would run: 4 tasks",
        "tasks.Leaf 3 no stored result",
        "tasks.Sum 1 no stored result",
    ]
    assert lines[3] == "can't run: 2 tasks"
    assert lines[4].startswith("tasks.Text 1 its input file 'data.txt' does not exist (looked at ")
    assert lines[5] == "tasks.Main 1 its upstream tasks.Text can't run"
    plan = plan_of(run, project, "-o", "cache", code=3)
    assert plan["blocked"] == {"tasks.Text": 1, "tasks.Main": 1}
    assert plan["reasons"].keys() == {*plan["run"], *plan["blocked"]}


def test_what_is_only_blocked_is_no_success_either(run: Run, done: Path, tmp_path: Path) -> None:
    (tmp_path / "data.txt").unlink()
    plan = plan_of(run, done, "-o", "cache", "--dont-force-entrypoint", code=3)
    assert plan["run"] == {}
    assert plan["blocked"] == {"tasks.Text": 1, "tasks.Main": 1}


# --- it looks, and no more ---


@pytest.mark.parametrize("words", [["plan"], ["run", "--dry-run"]], ids=" ".join)
def test_nothing_is_made_where_no_cache_is(run: Run, project: Path, tmp_path: Path, words: list[str]) -> None:
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    for output in ("cache", "deep/er/cache"):
        assert run(*words, project, "-o", output).returncode == 3
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


def test_nothing_in_a_cache_changes(run: Run, done: Path, tmp_path: Path, write: Write) -> None:
    write("helpers.py", HELPERS.replace("2 * x", "x * 2"))

    def state() -> dict[str, tuple[int, int, bytes]]:
        found = {}
        for path in sorted((tmp_path / "cache").rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_mtime_ns, status.st_ino, content)
        return found

    before = state()
    run("plan", done, "-o", "cache")
    run("why", done, "-o", "cache")
    run(done, "-o", "cache", "--dry-run")
    assert state() == before


def test_a_cache_that_cant_be_written_can_be_looked_at(
    run: Run, done: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert run("plan", done, "-o", "cache").returncode == 0
    finally:
        for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


# --- the rest of its words ---


def test_verbose_lists_every_task(run: Run, done: Path, write: Write) -> None:
    write("helpers.py", HELPERS.replace("2 * x", "x * 2"))
    lines = run("plan", done, "-o", "cache", "-v").stdout.splitlines()
    listed = [line for line in lines if line.startswith("would run: tasks.")]
    assert len(listed) == 5
    assert sum(line.startswith("would run: tasks.Leaf/") for line in listed) == 3


def test_the_time_that_is_expected_is_that_of_the_last_time(run: Run, write: Write) -> None:
    slow = (
        "import time\nfrom taskproc import Task\n"
        "class Slow(Task):\n    def __init__(self, n):\n        self.n = n\n"
        "    def run_task(self):\n        time.sleep(0.4)\n        return 1\n"
        "class New(Task):\n    def run_task(self):\n        return 1\n"
        "class Main(Task):\n    def __init__(self, n: int = 2):\n"
        "        self.slow = [Slow(k) for k in range(n)]\n"
        "    def run_task(self):\n        return 1\n"
    )
    file = write("slow.py", slow)
    assert run(file, "-o", "cache", "--dont-show-progress").returncode == 0
    write("slow.py", slow.replace("0.4)\n        return 1", "0.4)\n        return 2"))
    seconds = plan_of(run, file, "-o", "cache", code=3)["seconds"]
    assert 0.8 <= seconds["slow.Slow"] < 2.5
    assert "expected: " in run("plan", file, "-o", "cache").stdout
    # Tasks of the name that are new are expected to take as long as the others did.
    write("slow.py", slow)
    seconds = plan_of(run, file, "-o", "cache", "-a", "n=4", code=3)["seconds"]
    assert 0.8 <= seconds["slow.Slow"] < 2.5
    write("slow.py", slow.replace("self.slow = [", "self.new = New()\n        self.slow = ["))
    plan = plan_of(run, file, "-o", "cache", "-a", "n=4", code=3)
    assert plan["untimed"] == ["slow.New"]
    assert "and 1 task never timed" in run("plan", file, "-o", "cache", "-a", "n=4").stdout


def test_a_reader_that_goes_away_is_no_error(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    import sys

    done = subprocess.run(
        f"{sys.executable} -m taskproc plan {project} -o cache -a n=3000 -v | head -1",
        shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "would run: 3,003 tasks\n"
    assert done.stderr == ""


def test_what_the_file_prints_does_not_spoil_the_json(run: Run, write: Write) -> None:
    write("helpers.py", HELPERS)
    write("data.txt", "text")
    file = write("tasks.py", TASKS)
    write("tasks.py", TASKS.replace("        self.text =", "        print('made')\n        self.text ="))
    for words in (["plan", file], ["run", "--dry-run", file], ["why", file]):
        finished = run(*words, "-o", "cache", "--json")
        assert json.loads(finished.stdout)
        assert finished.stderr == "the file is loaded\nmade\n"
    assert run("plan", file, "-o", "cache").stdout.startswith("the file is loaded\nmade\nwould run: 6")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan", "tasks.py"], "say where with -o PATH"),
        (["plan", "none.py", "-o", "cache"], "there is no task file 'none.py'"),
        (["plan", "tasks.py:Nobody", "-o", "cache"], "has no task 'Nobody'"),
        (["plan", "tasks.py:Man", "-o", "cache"], "did you mean tasks.py:Main?"),
        (["plan", "tasks.py", "-o", "tasks.py"], "is a file"),
        (["plan", "tasks.py", "-o", "."], "is not empty"),
        (["plan", "tasks.py", "-o", "cache", "-a", "n=x"], "wants int, not 'x'"),
        (["plan", "tasks.py", "-o", "cache", "-a", "m=1"], "has no parameter 'm'"),
        (["plan", "tasks.py:Leaf", "-o", "cache"], "'n'"),
        (["plan", "tasks.py", "-o", "cache", "--code", "some"], "--code"),
        (["plan", "tasks.py", "-o", "cache", "-D", "--code", "class"], "give one of them"),
        (["plan", "tasks.py", "-o", "cache", "-p", "nobody"], "nobody"),
        (["plan", "tasks.py", "-o", "nobody://cache"], "nobody"),
        (["run", "tasks.py", "-o", "cache", "--dry-run", "--rate-limit", "x=0"], "x"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_bad_input_is_code_2_and_one_message(
    run: Run, project: Path, expect_one_error: Expect, words: list[str], told: str
) -> None:
    expect_one_error(run(*words), 2, told)


def test_bad_input_of_json_is_no_json(run: Run, project: Path, expect_one_error: Expect) -> None:
    expect_one_error(run("plan", "tasks.py:Nobody", "-o", "cache", "--json"), 2, "Nobody")


def test_a_script_of_its_own_has_the_dry_run_too(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    import sys

    project.write_text(project.read_text() + "\nif __name__ == '__main__':\n    Main.cli()\n")

    def script(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(project), "-o", "cache", "--dont-show-progress", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert script("--dry-run").returncode == 3
    assert not (tmp_path / "cache").exists()
    assert script().returncode == 0
    dry = script("--dry-run", "--json")
    assert (dry.returncode, json.loads(dry.stdout)["run"]) == (0, {"tasks.Main": 1})


def test_the_defaults_of_the_file_are_those_of_a_run(run: Run, project: Path) -> None:
    project.write_text(
        project.read_text() + "\nfrom taskproc import DefaultArguments\n"
        "DefaultArguments(output='kept', kwargs={'n': 2}, force_entrypoint=False).populate()\n"
    )
    assert plan_of(run, project, code=3)["run"]["tasks.Leaf"] == 2
    assert run(project, "--dont-show-progress").returncode == 0
    assert plan_of(run, project, code=0)["run"] == {}
