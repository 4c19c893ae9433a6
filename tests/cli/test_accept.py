"""`taskproc accept`: an edit is declared harmless; who did so, and when, stays in the records."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]
Expect = Callable[..., None]

HELPERS = "def scale(x):\n    return 2 * x\n\ndef other(x):\n    return x\n"
TASKS = """
from pathlib import Path
from taskproc import Future, InputFile, Task
from helpers import other, scale

def log(word):
    with open("ran.txt", "a") as file:
        file.write(word + " ")

class Leaf(Task):
    def __init__(self, n: int):
        self.n = n
    def run_task(self):
        log("Leaf")
        return scale(self.n)
    def twice(self):
        return 2 * self.n

class Sum(Task):
    def __init__(self, leaves: list):
        self.leaves = leaves
    def run_task(self):
        log("Sum")
        return sum(leaf.get_result() for leaf in self.leaves)

class Text(Task):
    def __init__(self):
        self.file = InputFile("data.txt")
    def run_task(self):
        log("Text")
        return other(self.file.get_result().read_text())

class Maps(Task):
    def __init__(self, function, leaf: Leaf):
        self.function, self.leaf = function, leaf
    def run_task(self):
        log("Maps")
        return self.function(self.leaf.n)

class Main(Task):
    def __init__(self, n: int = 3):
        self.sum = Sum([Leaf(k) for k in range(n)])
        self.text = Text()
        self.maps = Maps(other, Leaf(1))
    def run_task(self):
        return [self.sum.get_result(), self.text.get_result(), self.maps.get_result()]
"""


@pytest.fixture
def project(write: Write) -> Path:
    write("helpers.py", HELPERS)
    write("data.txt", "text")
    return write("tasks.py", TASKS)


@pytest.fixture
def ran(run: Run, project: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Run the project; returns what ran, Main aside."""

    def run_it(*words: str) -> list[str]:
        (tmp_path / "ran.txt").write_text("")
        finished = run(project, "-o", "cache", "--dont-show-progress", *words)
        assert finished.returncode == 0, finished.stderr
        return sorted((tmp_path / "ran.txt").read_text().split())

    return run_it


@pytest.fixture
def done(project: Path, ran: Callable[..., list[str]]) -> Path:
    """The project, after a run."""
    assert len(ran()) == 6
    return project


@pytest.fixture
def accept(run: Run, project: Path) -> Callable[..., str]:
    def accept_it(*words: str) -> str:
        finished = run("accept", project, "-o", "cache", *words)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return accept_it


Ran = Callable[..., list[str]]
Accept = Callable[..., str]


def edit(project: Path, old: str, new: str, file: str = "tasks.py") -> None:
    path = project.parent / file
    text = path.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new))


def records_of(project: Path, name: str) -> list[dict[str, Any]]:
    paths = (project.parent / "cache" / name).glob("*/record.json")
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize(
    "notes",
    [
        {"names": 5},
        {"names": [5]},
        {"holds": "text"},
        {"packages": ["numpy"]},
        {"other_code": {"a": 1}},
        {"accepted": 3},
        {"accepted": [3]},
        {"renamed": "text"},
    ],
    ids=repr,
)
def test_a_record_that_was_edited_by_hand_counts_as_none(
    done: Path, run: Run, ran: Ran, notes: dict[str, Any]
) -> None:
    path = next((done.parent / "cache" / "tasks.Text").glob("*/record.json"))
    record = json.loads(path.read_text())
    record["provenance"].update(notes)
    path.write_text(json.dumps(record))
    edit(done, "other(self.file", "1 * other(self.file")
    for words in (["status", done], ["why", done, "Text"], ["accept", done, "Text"]):
        finished = run(*words[:2], "-o", "cache", *words[2:])
        assert "Traceback" not in finished.stderr, finished.stderr
    assert ran() == ["Text"]


def test_a_result_of_other_code_is_told_as_such_and_may_be_accepted(
    done: Path, run: Run, ran: Ran, accept: Accept
) -> None:
    path = next((done.parent / "cache" / "tasks.Text").glob("*/record.json"))
    record = json.loads(path.read_text())
    record["provenance"]["other_code"] = ["helpers.other"]
    path.write_text(json.dumps({**record, "code": ""}))
    shown = json.loads(run("status", done, "-o", "cache", "--json").stdout)
    assert "helpers.other" in run("why", done, "-o", "cache", "Text").stdout
    assert "not kept" not in run("why", done, "-o", "cache", "Text").stdout
    told = accept("Text")
    assert "its worker had other code than the runner: helpers.other" in told
    assert "not kept" not in told
    (after,) = records_of(done, "tasks.Text")
    assert "other_code" not in after["provenance"]
    assert after["provenance"]["accepted"][0]["other_code"] == ["helpers.other"]
    assert json.loads(run("status", done, "-o", "cache", "--json").stdout) != shown
    assert ran() == []


def test_results_stand_for_the_code_as_it_is_now(done: Path, ran: Ran, accept: Accept) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    told = accept("Leaf")
    assert "tasks.Leaf: 3 results accepted for the code as it is now" in told
    assert "-    return 2 * x" in told
    assert "+    return x * 2" in told
    assert ran() == []


def test_without_it_an_edit_reruns(done: Path, ran: Ran) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    assert ran() == ["Leaf", "Leaf", "Leaf", "Maps", "Sum"]


def test_the_next_edit_counts_again(done: Path, ran: Ran, accept: Accept) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    accept("Leaf")
    edit(done, "x * 2", "x * 2.0", "helpers.py")
    assert ran().count("Leaf") == 3


def test_taking_an_accepted_edit_back_is_an_edit(done: Path, ran: Ran, accept: Accept) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    accept("Leaf")
    edit(done, "x * 2", "2 * x", "helpers.py")
    assert ran().count("Leaf") == 3


def test_who_and_when_and_which_code_stay_in_the_record(
    run: Run, done: Path, accept: Accept, environment: dict[str, str]
) -> None:
    before = {record["key"]: record for record in records_of(done, "tasks.Leaf")}
    environment["LOGNAME"] = "ann"
    edit(done, "2 * x", "x * 2", "helpers.py")
    begun = time.time()
    accept("Leaf")
    edit(done, "x * 2", "x + x", "helpers.py")
    environment["LOGNAME"] = "bob"
    accept("Leaf")
    records = records_of(done, "tasks.Leaf")
    assert len(records) == 3
    for record in records:
        first, second = record["provenance"]["accepted"]
        assert first["who"].startswith("ann@")
        assert second["who"].startswith("bob@")
        assert begun - 1 < first["when"] <= second["when"] < time.time() + 1
        assert first["code"] == before[record["key"]]["code"]
        for kept in ("job", "seconds", "started", "pid"):
            assert record["provenance"][kept] == before[record["key"]]["provenance"][kept]
        assert record["digest"] == before[record["key"]]["digest"]
    told = run("why", done, "-o", "cache", "Leaf", "1").stdout
    assert re.search(r"its code was accepted at 20.* by ann@.*; its code was accepted at 20.* by bob@", told)


def test_a_second_time_there_is_nothing_to_accept(done: Path, accept: Accept) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    accept("Leaf")
    assert accept("Leaf") == (
        "tasks.Leaf: 0 results accepted for the code as it is now, 3 were of this code already\n"
    )
    assert all(len(record["provenance"]["accepted"]) == 1 for record in records_of(done, "tasks.Leaf"))


def test_results_of_several_earlier_codes_are_accepted_alike(done: Path, ran: Ran, accept: Accept) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    assert ran("-a", "n=1").count("Leaf") == 2  # of three
    edit(done, "x * 2", "x + x", "helpers.py")
    told = accept("Leaf")
    assert "3 results accepted" in told
    assert "-    return 2 * x" in told
    assert "-    return x * 2" in told
    assert "Leaf" not in ran()


# --- what it leaves alone ---


def test_other_tasks_with_the_same_edit_stay_stale(done: Path, ran: Ran, accept: Accept) -> None:
    edit(done, "return x\n", "return (x,)[0]\n", "helpers.py")
    accept("Text")
    assert ran() == ["Maps"]


def test_other_reasons_to_run_stay_reasons(
    run: Run, done: Path, ran: Ran, accept: Accept, write: Write
) -> None:
    edit(done, "return x\n", "return (x,)[0]\n", "helpers.py")
    write("data.txt", "other")
    assert "1 result accepted" in accept("Text")
    told = run("why", done, "-o", "cache", "Text").stdout
    assert "the content of its input file" in told
    assert "code" not in told.split("\n")[0]
    assert ran() == ["Maps", "Text"]


def test_an_upstream_that_would_run_still_takes_what_is_below_along(
    done: Path, ran: Ran, accept: Accept
) -> None:
    edit(done, "return sum(", "return 0 + sum(")
    edit(done, "2 * x", "x * 2", "helpers.py")
    accept("Sum")
    assert ran() == ["Leaf", "Leaf", "Leaf", "Maps", "Sum"]


def test_downstreams_stay_cached(run: Run, done: Path, accept: Accept) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    accept("Leaf")
    plan = json.loads(run("plan", done, "-o", "cache", "--dont-force-entrypoint", "--json").stdout)
    assert plan["run"] == {}
    assert sum(plan["cached"].values()) == 7


def test_the_results_themselves_stay_as_they_are(done: Path, tmp_path: Path, accept: Accept) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("result.pkl.gz")}
    edit(done, "2 * x", "x * 2", "helpers.py")
    accept("Leaf", "Main", "Sum")
    assert {path: path.read_bytes() for path in (tmp_path / "cache").rglob("result.pkl.gz")} == before


# --- which tasks ---


def test_several_tasks_at_once(done: Path, ran: Ran, accept: Accept) -> None:
    edit(done, "return x\n", "return (x,)[0]\n", "helpers.py")
    edit(done, "2 * x", "x * 2", "helpers.py")
    told = accept("Leaf", "tasks.Text", "Maps", "Leaf")
    assert told.count("results accepted") == 1, "a task that is named twice is one"
    assert told.count("1 result accepted") == 2
    assert ran() == []


def test_a_function_among_the_arguments_is_accepted_with_its_task(
    done: Path, ran: Ran, accept: Accept
) -> None:
    edit(done, "def other(x):\n    return x\n", "def other(x):\n    return (x,)[0]\n", "helpers.py")
    accept("Maps", "Text")
    assert ran() == []
    edit(done, "(x,)[0]", "[x][0]", "helpers.py")
    assert ran() == ["Maps", "Text"]


def test_code_that_an_edit_brings_in_is_accepted_with_it(done: Path, ran: Ran, accept: Accept) -> None:
    """A method of an upstream that was not called before."""
    edit(done, "return self.function(self.leaf.n)", "return self.function(self.leaf.twice() // 2)")
    assert "1 result accepted" in accept("Maps")
    assert ran() == []
    edit(done, "return 2 * self.n", "return self.n * 2")
    assert "Maps" in ran()


def test_a_lambda_among_the_arguments(run: Run, write: Write, tmp_path: Path) -> None:
    text = (
        "from taskproc import Task\n"
        "class Maps(Task):\n"
        "    def __init__(self, function):\n        self.function = function\n"
        "    def run_task(self):\n        print('ran')\n        return self.function(1)\n"
        "class Main(Task):\n"
        "    def __init__(self):\n        self.maps = Maps(lambda x: x + 1)\n"
        "    def run_task(self):\n        return self.maps.get_result()\n"
    )
    file = write("lambdas.py", text)
    assert run(file, "-o", "cache", "--dont-show-progress").returncode == 0
    write("lambdas.py", text.replace("return self.function(1)", "return self.function(1 * 1)"))
    finished = run("accept", file, "-o", "cache", "Maps")
    assert finished.returncode == 0, finished.stderr
    assert run("plan", file, "-o", "cache").returncode == 0


def test_a_whole_folder_of_tasks_whose_init_raises_now(
    run: Run, write: Write, project: Path, done: Path, accept: Accept
) -> None:
    edit(
        done,
        "        self.n = n\n",
        "        if n > 50:\n            raise ValueError(n)\n        self.n = n\n",
    )
    assert "3 results accepted" in accept("Leaf")


def test_data_and_logs_stay_with_an_accepted_result(run: Run, write: Write) -> None:
    text = (
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    def run_task(self):\n"
        "        print('printed')\n"
        "        (self.task_directory / 'file.txt').write_text('kept')\n"
        "        return 1\n"
    )
    file = write("files.py", text)
    assert run(file, "-o", "cache", "--dont-show-progress").returncode == 0
    entry = next((file.parent / "cache" / "files.Main").iterdir())
    write("files.py", text.replace("return 1", "return 1 + 0"))
    assert run("accept", file, "-o", "cache", "Main").returncode == 0
    assert (entry / "data" / "file.txt").read_text() == "kept"
    assert (entry / "stdout.txt").read_text() == "printed\n"
    assert run("plan", file, "-o", "cache", "--dont-force-entrypoint").returncode == 0


# --- bad input ---


def test_a_typo_among_the_names_accepts_nothing(
    run: Run, done: Path, ran: Ran, expect_one_error: Expect
) -> None:
    edit(done, "2 * x", "x * 2", "helpers.py")
    before = records_of(done, "tasks.Leaf")
    expect_one_error(run("accept", done, "-o", "cache", "Leaf", "Leef"), 2, "no task 'Leef'", "did you mean")
    assert records_of(done, "tasks.Leaf") == before


def test_a_task_of_which_nothing_is_stored_among_the_names_accepts_nothing(
    run: Run, done: Path, expect_one_error: Expect
) -> None:
    edit(done, "class Main", "class New(Task):\n    def run_task(self):\n        return 1\n\nclass Main")
    edit(done, "2 * x", "x * 2", "helpers.py")
    before = records_of(done, "tasks.Leaf")
    finished = run("accept", done, "-o", "cache", "Leaf", "New")
    expect_one_error(finished, 2, "no result of tasks.New is stored")
    assert records_of(done, "tasks.Leaf") == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "TASK"),
        (["Helper"], "has no task 'Helper'"),
        (["scale"], "is not a Task class"),
        (["Task"], "Task"),
        (["other.Leaf"], "other.Leaf"),
        (["Leaf/541e"], "Leaf/541e"),
    ],
    ids=str,
)
def test_bad_input_is_code_2(run: Run, done: Path, words: list[str], told: str) -> None:
    finished = run("accept", done, "-o", "cache", *words)
    assert finished.returncode == 2
    assert told in finished.stderr


def test_the_entry_task_is_not_taken_for_one_that_is_meant(
    run: Run, done: Path, expect_one_error: Expect
) -> None:
    expect_one_error(run("accept", f"{done}:Leaf", "-o", "cache", "Sum"), 2, "tasks.py Leaf Sum")


def test_where_no_cache_is_none_is_made(run: Run, project: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert run("accept", project, "-o", "none/cache", "Leaf").returncode == 2
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


def test_a_result_that_is_computed_just_now_is_left_alone(
    start: Callable[..., subprocess.Popen[str]], write: Write, run: Run, tmp_path: Path
) -> None:
    text = (
        "import time\nfrom pathlib import Path\nfrom taskproc import Task\n"
        "class Main(Task):\n"
        "    def run_task(self):\n"
        "        Path('started').touch()\n"
        "        while not Path('go on').exists():\n            time.sleep(0.02)\n"
        "        return 1\n"
    )
    file = write("slow.py", text)
    (tmp_path / "go on").touch()
    assert run(file, "-o", "cache", "--dont-show-progress").returncode == 0
    (tmp_path / "go on").unlink()
    (tmp_path / "started").unlink()
    write("slow.py", text.replace("return 1", "return 2"))
    running = start("run", file, "-o", "cache", "--dont-show-progress")
    while not (tmp_path / "started").exists():
        assert running.poll() is None
        time.sleep(0.02)
    finished = run("accept", file, "-o", "cache", "Main")
    (tmp_path / "go on").touch()
    assert running.wait(30) == 0
    assert finished.returncode == 0, finished.stderr
    assert "0 results accepted" in finished.stdout
    assert "1 left alone as a run computes them just now" in finished.stdout
    assert run("plan", file, "-o", "cache", "--dont-force-entrypoint").returncode == 0


def test_a_thousand_results_are_accepted_in_seconds(
    write: Write, run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    text = (
        "from taskproc import Cache, Task\n"
        "class Leaf(Task):\n"
        "    def __init__(self, n):\n        self.n = n\n"
        "    def run_task(self):\n        return self.n\n"
        "class Main(Task):\n"
        "    def __init__(self):\n        self.leaves = [Leaf(n) for n in range(1000)]\n"
        "    def run_task(self):\n        return 1\n"
    )
    file = write("many.py", text)
    assert run(file, "-o", "cache", "-t", "serial", "--dont-show-progress").returncode == 0
    write("many.py", text.replace("return self.n", "return 1 * self.n"))
    finished = run("accept", file, "-o", "cache", "Leaf", timeout=30)
    assert "1,000 results accepted" in finished.stdout
    assert run("plan", file, "-o", "cache").returncode == 0
