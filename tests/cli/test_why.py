"""`taskproc why`: for one task, what changed: the lines, the value, the content, or who cleared it."""

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
Expect = Callable[..., None]

HELPERS = """
FACTOR = 2

def scale(x):
    return FACTOR * x

def unused(x):
    return x
"""
TASKS = """
from taskproc import Const, Future, InputFile, Task
from helpers import scale

class Choose(Task):
    def __init__(self, n: int, k: int = 1):
        if 0 < k < n:
            self.left, self.right = Choose(n - 1, k - 1), Choose(n - 1, k)
        else:
            self.left, self.right = Const(0), Const(1)
    def run_task(self):
        return scale(self.left.get_result() + self.right.get_result())

class Down(Task):
    def __init__(self, upstream: Future, name: str = "down"):
        self.upstream, self.name = upstream, name
    def run_task(self):
        return [self.upstream.get_result(), self.name]

class Text(Task):
    def __init__(self):
        self.file = InputFile("data.txt")
    def run_task(self):
        return self.file.get_result().read_text()

class Outer:
    class Inner(Task):
        def run_task(self):
            return 1

class Main(Task):
    def __init__(self, n: int = 4):
        self.choose = Choose(n, 2)
        self.down = Down(self.choose, "main's")
        self.text = Text()
        self.inner = Outer.Inner()
    def run_task(self):
        return 1
"""


@pytest.fixture
def project(write: Write) -> Path:
    write("helpers.py", HELPERS)
    write("data.txt", "text")
    return write("tasks.py", TASKS)


@pytest.fixture
def done(run: Run, project: Path) -> Path:
    """The project, after a run."""
    finished = run(project, "-o", "cache", "--dont-show-progress")
    assert finished.returncode == 0, finished.stderr
    return project


@pytest.fixture
def why(run: Run, project: Path) -> Callable[..., str]:
    def ask(*words: str, entry: str = "") -> str:
        finished = run("why", f"{project}{entry}", "-o", "cache", *words)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return ask


@pytest.fixture
def python(environment: dict[str, str], tmp_path: Path, project: Path) -> Callable[[str], None]:
    """Run some lines with `tasks` imported and its cache open."""

    def run_lines(lines: str) -> None:
        code = "from taskproc import Cache\nfrom tasks import *\nwith Cache('cache') as cache:\n"
        code += "".join(f"    {line}\n" for line in lines.splitlines())
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60)

    return run_lines


Why = Callable[..., str]


def entry_of(tmp_path: Path, name: str) -> Path:
    return next((tmp_path / "cache" / name).iterdir())


# --- code ---


def test_a_changed_helper_is_shown_by_name_file_and_lines(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("FACTOR * x", "x * FACTOR"))
    told = why("Choose", "4", "2")
    assert told.startswith("tasks.Choose(n=4, k=2): its code changed\n")
    assert "helpers.py (helpers.scale), as it was" in told
    assert "-    return FACTOR * x" in told
    assert "+    return x * FACTOR" in told
    assert "unused" not in told
    assert "computed at 20" in told


def test_a_changed_constant_is_shown_by_its_values(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("FACTOR = 2", "FACTOR = 3"))
    assert "helpers.FACTOR: was 2, is 3" in why("Choose", "4", "2")


def test_a_changed_body_is_shown_as_well_as_a_helper(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("FACTOR * x", "x * FACTOR"))
    write("tasks.py", TASKS.replace("return scale(self.left", "return 1 * scale(self.left"))
    told = why("Choose", "4", "2")
    assert "helpers.scale" in told
    assert "+        return 1 * scale(self.left.get_result()" in told


def test_what_does_not_count_is_no_reason(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("return FACTOR * x", "return FACTOR * x  # a comment"))
    write("helpers.py", HELPERS.replace("def unused(x):\n    return x", "def unused(x):\n    return 2 * x"))
    assert "its stored result stands" in why("Choose", "4", "2")


def test_less_code_counts_where_that_is_asked_for(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("FACTOR * x", "x * FACTOR"))
    for words in (["--code", "class"], ["--code", "off"], ["-D"]):
        assert "its stored result stands" in why("Choose", "4", "2", *words)


def test_the_task_above_leads_down_to_what_changed(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("FACTOR * x", "x * FACTOR"))
    for words in ([], ["Main"]):
        told = why(*words)
        assert told.startswith("tasks.Main(n=4): its upstream tasks.Choose runs\n  tasks.Choose(")
        assert told.count("+    return x * FACTOR") == 1, "of eight alike, one is explained"


def test_a_class_that_was_renamed_says_so_with_the_way_out(done: Path, write: Write, why: Why) -> None:
    write("tasks.py", TASKS.replace("Choose", "Select"))
    told = why("Select", "4", "2")
    assert "no stored result" in told
    assert "results of tasks.Choose with these arguments are stored" in told
    assert "taskproc cache rename tasks.Choose tasks.Select" in told


def test_a_class_that_was_moved_says_so_with_the_way_out(done: Path, write: Write, why: Why) -> None:
    body = TASKS[TASKS.index("class Text") : TASKS.index("class Outer")]
    write("moved.py", "from taskproc import InputFile, Task\n" + body)
    write("tasks.py", TASKS.replace(body, "from moved import Text\n"))
    for words in (["Text"], ["moved.Text"]):
        assert "taskproc cache rename tasks.Text moved.Text" in why(*words)


# --- arguments, upstreams, files ---


def test_new_arguments_are_told_from_the_nearest_stored(done: Path, why: Why) -> None:
    told = why("Choose", "4", "3")
    assert "no stored result" in told
    assert "other arguments: k is 2 there and 3 here" in told


def test_a_changed_input_file_is_named_with_its_contents(done: Path, write: Write, why: Why) -> None:
    write("data.txt", "other")
    told = why("Text")
    assert "the content of its input file 'data.txt' at file changed" in told
    assert "was " in told


def test_a_missing_input_file_is_all_that_is_told_of_what_it_blocks(
    done: Path, tmp_path: Path, why: Why
) -> None:
    (tmp_path / "data.txt").unlink()
    (tmp_path / "cache" / "tasks.Choose").rename(tmp_path / "away")
    told = why()
    assert told.startswith(
        "tasks.Main(n=4): its upstream tasks.Text can't run\n  tasks.Text(): its input file"
    )
    assert "Choose" not in told
    assert "does not exist" in told


def test_an_upstream_computed_alone_to_another_content_is_named(
    done: Path, why: Why, python: Callable[[str], None]
) -> None:
    python("cache.put(Choose(4, 2), 77)")
    told = why("Down")
    assert "the content of its upstream tasks.Choose at upstream changed" in told
    assert "the content of upstream (tasks.Choose/" in told


# --- gone and damaged ---


def test_a_cleared_result_is_told_with_when_and_by_whom(
    done: Path, why: Why, python: Callable[[str], None]
) -> None:
    python("Choose(4, 2).clear_task()\nText.clear_all_tasks()")
    for words in (["Choose", "4", "2"], ["Text"]):
        told = why(*words)
        assert "no stored result\n  cleared by hand at 20" in told
        assert ", process " in told
    assert "cleared by hand" in why("Down"), "its upstream"
    assert "cleared" not in why("Choose", "3", "2")


def test_what_was_computed_again_since_was_not_cleared(
    run: Run, done: Path, why: Why, python: Callable[[str], None]
) -> None:
    python("Choose(4, 2).clear_task()")
    assert run(done, "-o", "cache", "--dont-show-progress").returncode == 0
    assert "cleared" not in why("Choose", "4", "2")


def test_a_flipped_bit_is_damage(done: Path, tmp_path: Path, why: Why) -> None:
    path = entry_of(tmp_path, "tasks.Text") / "result.pkl.gz"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    assert why("Text").startswith("tasks.Text(): damaged: digest differs\n")


def test_a_result_cut_off_is_damage(done: Path, tmp_path: Path, why: Why) -> None:
    path = entry_of(tmp_path, "tasks.Text") / "result.pkl.gz"
    os.truncate(path, 5)
    told = why("Text")
    assert "damaged: digest differs" in told
    assert "is 5 bytes long instead of " in told


def test_a_record_that_is_no_record_is_damage(done: Path, tmp_path: Path, why: Why) -> None:
    (entry_of(tmp_path, "tasks.Text") / "record.json").write_text("{")
    assert "damaged: digest differs" in why("Text")


def test_what_a_run_found_damaged_is_told_until_it_is_computed_again(
    run: Run, project: Path, tmp_path: Path, why: Why, environment: dict[str, str]
) -> None:
    """The damaged result is set aside by a run in which its task then fails."""
    reading = "return self.file.get_result().read_text()"
    text = TASKS.replace(reading, f"assert 'FAIL' not in os.environ\n        {reading}")
    text = text.replace("[self.upstream.get", "[self.text.get_result(), self.upstream.get")
    text = text.replace("= upstream, name\n", "= upstream, name\n        self.text = Text()\n")
    project.write_text("import os\n" + text)
    assert run(project, "-o", "cache", "--dont-show-progress").returncode == 0
    entry = entry_of(tmp_path, "tasks.Text")
    data = bytearray((entry / "result.pkl.gz").read_bytes())
    data[-6] ^= 1
    (entry / "result.pkl.gz").write_bytes(data)
    shutil.rmtree(tmp_path / "cache" / "tasks.Down")
    environment["FAIL"] = "yes"
    assert run(project, "-o", "cache", "--dont-show-progress").returncode == 1
    told = why("Text")
    assert "damaged: digest differs, found at 20" in told
    assert "its last job failed at 20" in told
    del environment["FAIL"]
    assert run(project, "-o", "cache", "--dont-show-progress").returncode == 0
    assert "damaged" not in why("Text")


def test_a_folder_removed_by_hand_is_told(done: Path, tmp_path: Path, why: Why) -> None:
    shutil.rmtree(entry_of(tmp_path, "tasks.Text"))
    assert "its folder was removed by hand; it was computed at 20" in why("Text")


def test_a_failed_job_is_told(run: Run, done: Path, write: Write, why: Why, tmp_path: Path) -> None:
    write(
        "tasks.py", TASKS.replace("return self.file.get_result().read_text()", "raise OSError('disk full')")
    )
    assert run(done, "-o", "cache", "--dont-show-progress").returncode == 1
    told = why("Text")
    assert "its code changed" in told
    assert "raise OSError('disk full')" in told
    shutil.rmtree(tmp_path / "cache" / "tasks.Text")
    assert run(done, "-o", "cache", "--dont-show-progress").returncode == 1
    told = why("Text")
    assert "no stored result" in told
    assert "its last job failed at 20" in told
    assert "disk full" in told


def test_another_version_of_an_installed_package_is_shown_and_does_not_count(
    run: Run, write: Write, tmp_path: Path, environment: dict[str, str]
) -> None:
    site = tmp_path / "lib" / "site-packages"
    environment["PYTHONPATH"] += f":{site}"

    def install(version: str) -> None:
        shutil.rmtree(site, ignore_errors=True)
        info = site / f"measures-{version}.dist-info"
        info.mkdir(parents=True)
        (site / "measures.py").write_text("def metre():\n    return 1\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: measures\nVersion: {version}\n")
        (info / "RECORD").write_text(f"measures.py,,\nmeasures-{version}.dist-info/METADATA,,\n")
        (info / "top_level.txt").write_text("measures\n")

    install("1.0")
    file = write(
        "uses.py",
        "from measures import metre\nfrom taskproc import Task\n"
        "class Main(Task):\n    def run_task(self):\n        return metre()\n",
    )
    assert run(file, "-o", "cache", "--dont-show-progress").returncode == 0
    assert "measures" not in run("why", file, "-o", "cache").stdout
    install("2.0")
    told = run("why", file, "-o", "cache").stdout
    assert "its stored result stands" in told
    assert "it was computed with measures 1.0, and 2.0 is installed now" in told
    assert "task_depends_on = ['measures']" in told


# --- which task is meant ---


@pytest.mark.parametrize(
    "words",
    [
        ["Choose", "4", "2"],
        ["tasks.Choose", "4", "2"],
        ["Choose", "n=4", "k=2"],
        ["Choose", "k=2", "n=4"],
        ["Choose", "4", "k=2"],
        ["Choose", "k=2", "4"],
        ["Choose", "-a", "n=4", "-a", "k=2"],
        ["Choose", "-a", "n=4", "2"],
        ["Choose", "--kwargs", '{"n": 4, "k": 2}'],
        ["Choose", "--kwargs", '{"n": 4}', "k=2"],
        ["Choose", "--kwargs", '{"n": 4}', "2"],
    ],
    ids=" ".join,
)
def test_a_task_is_named_with_its_arguments_in_many_ways(done: Path, why: Why, words: list[str]) -> None:
    assert why(*words).startswith("tasks.Choose(n=4, k=2): its stored result stands")


def test_defaults_are_those_of_the_constructor(done: Path, why: Why) -> None:
    assert why("Choose", "2").startswith("tasks.Choose(n=2, k=1): its stored result stands")
    assert why("Outer.Inner").startswith("tasks.Outer.Inner(): its stored result stands")


def test_negative_numbers_come_behind_two_dashes(done: Path, why: Why) -> None:
    assert why("--", "Choose", "-4", "2").startswith("tasks.Choose(n=-4, k=2): no stored result")


def test_without_arguments_the_tasks_under_the_entry_task_are_meant(
    done: Path, why: Why, python: Callable[[str], None]
) -> None:
    told = why("Choose")
    assert "its stored result stands" in told
    assert "... and 7 more tasks.Choose of which the stored result stands" in told
    python("Choose(3, 2).clear_task()")
    told = why("Choose")
    first, rest = told.split("\n", 1)
    assert first == "tasks.Choose(n=3, k=2): no stored result"
    assert "tasks.Choose(n=4, k=2): its upstream tasks.Choose runs" in rest
    assert "... and 5 more" in rest


def test_a_future_among_the_arguments_is_found_by_the_entry_task(done: Path, why: Why) -> None:
    assert why("Down").startswith('tasks.Down(upstream=<tasks.Choose>, name="main\'s"): its stored result')


def test_the_beginning_of_a_key_tells_one_of_many(run: Run, done: Path, tmp_path: Path, why: Why) -> None:
    found = json.loads(why("Choose", "3", "2", "--json"))
    told = json.loads(why(f"Choose/{found[0]['key'][:10]}", "--json"))
    assert told == found
    assert json.loads(why(f"tasks.Choose/{found[0]['key']}", "--json")) == found


def test_another_entry_task_is_named_behind_the_file(run: Run, done: Path, why: Why) -> None:
    assert why(entry=":Text").startswith("tasks.Text(): its stored result stands")
    assert why("Choose", entry=":Main").startswith("tasks.Choose(")
    key = json.loads(why("Choose", "3", "2", "--json"))[0]["key"]
    told = why(f"Choose/{key}", "-a", "n=3", entry=":Main")
    assert told.startswith("tasks.Choose(n=3, k=2): its stored result stands")


def test_the_files_default_arguments_are_those_of_its_entry_task_alone(
    run: Run, project: Path, why: Why
) -> None:
    project.write_text(
        TASKS + "\nfrom taskproc import DefaultArguments\nDefaultArguments(kwargs={'n': 3}).populate()\n"
    )
    assert run(project, "-o", "cache", "--dont-show-progress").returncode == 0
    assert why().startswith("tasks.Main(n=3): its stored result stands")
    assert why("Main", "4").startswith("tasks.Main(n=4): no stored result")
    assert why("Text").startswith("tasks.Text(): its stored result stands")
    assert why("Choose", "2").startswith("tasks.Choose(n=2, k=1): its stored result stands")
    assert why("Down").startswith("tasks.Down(")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Chose", "4"], "did you mean"),
        (["Choose", "4", "2", "1"], "Choose takes (n: int, k: int = 1); more arguments are given: 4 2 1"),
        (["Choose", "x"], "wants int, not 'x'"),
        (["Choose", "4", "n=3", "n=4"], "the argument 'n' is given twice"),
        (["Choose", "n=3", "-a", "n=4"], "the argument 'n' is given twice"),
        (["Choose", "n=3", "--kwargs", '{"n": 3}'], "the argument 'n' is given twice"),
        (["Choose", "m=3"], "has no parameter 'm'"),
        (["Choose/", "4", "2"], "leave its arguments out"),
        (["Choose/zzzz"], "no tasks.Choose whose key begins with 'zzzz' stands under Main(n=4)"),
        (["nobody.Choose"], "nobody.Choose"),
        (["Main", "4", "--code", "some"], "--code"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_bad_input_is_code_2_and_one_message(
    run: Run, done: Path, expect_one_error: Expect, words: list[str], told: str
) -> None:
    expect_one_error(run("why", done, "-o", "cache", *words), 2, told)


def test_a_file_without_an_entry_task_wants_the_arguments(
    run: Run, write: Write, expect_one_error: Expect
) -> None:
    file = write(
        "tasks.py",
        "from taskproc import Task\n"
        "class A(Task):\n    def __init__(self, n: int): ...\n    def run_task(self): ...\n",
    )
    expect_one_error(run("why", file, "-o", "cache", "A"), 2, "give the arguments of the task: A(n: int)")
    assert run("why", file, "-o", "cache", "A", "1").returncode == 0


def test_an_entry_task_that_needs_arguments_says_so(
    run: Run, project: Path, expect_one_error: Expect
) -> None:
    project.write_text(TASKS.replace("n: int = 4", "n: int"))
    expect_one_error(run("why", project, "-o", "cache"), 2, "needs arguments", "Main(n: int)")
    expect_one_error(run("why", project, "-o", "cache", "Down"), 2, "needs arguments", "Down(")
    assert run("why", project, "-o", "cache", "Main", "n=3").returncode == 0


# --- it looks, and no more ---


def test_where_no_cache_is_none_is_made(run: Run, project: Path, tmp_path: Path, why: Why) -> None:
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert "no stored result" in why()
    assert "no stored result" in why("Choose", "4", "2")
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


def test_json_is_a_list_of_explanations(done: Path, write: Write, why: Why) -> None:
    write("helpers.py", HELPERS.replace("FACTOR * x", "x * FACTOR"))
    (one,) = json.loads(why("--json"))
    assert one["task"] == "tasks.Main"
    assert one["args"] == {"n": 4}
    assert (one["cached"], one["kind"]) == (False, "upstream_runs")
    assert [origin["kind"] for origin in one["origins"]] == ["code"]
    (stored,) = json.loads(why("Text", "--json"))
    assert (stored["cached"], stored["kind"], stored["reason"]) == (True, None, None)


def test_odd_values_among_the_arguments_are_still_json(run: Run, write: Write) -> None:
    file = write(
        "odd.py",
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    def __init__(self, x: float = float('nan'), text: str = 'ü\\ud800'):\n        pass\n"
        "    def run_task(self):\n        return 1\n",
    )
    finished = run("why", file, "-o", "cache", "--json")
    assert finished.returncode == 0, finished.stderr

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    assert json.loads(finished.stdout, parse_constant=refuse)
    finished = run("why", file, "-o", "cache")
    assert finished.returncode == 0, finished.stderr
