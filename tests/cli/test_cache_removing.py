"""`taskproc cache clear` and `prune`: the real commands, on caches of real runs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.interfaces import TaskKey

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]

TASKS = """
from taskproc import Task

class Load(Task):
    def __init__(self, year: int):
        self.year = year
    def run_task(self):
        print("loading", self.year)
        return list(range(self.year))

class Train(Task):
    def __init__(self, year: int):
        self.load = Load(year)
    def run_task(self):
        (self.task_directory / "model").write_text("m" * 5000)
        return len(self.load.get_result())

class Fails(Task):
    def run_task(self):
        print("about to fail")
        raise ValueError("on purpose")

class Old(Task):
    def run_task(self):
        return Train(22).load.year

class Main(Task):
    def __init__(self):
        self.first, self.second = Train(22), Train(23)
    def run_task(self):
        print(self.first.get_result() + self.second.get_result())
"""


@pytest.fixture
def cache(run: Run, write: Write, tmp_path: Path) -> Path:
    """Two Load, two Train and one Main."""
    write("tasks.py", TASKS)
    assert run("tasks.py", "-o", "cache", "-x", "serial").returncode == 0
    return tmp_path / "cache"


def results(cache: Path) -> list[str]:
    return sorted(path.parent.parent.name.partition(".")[2] for path in cache.glob("*/*/record.json"))


ALL = ["Load", "Load", "Main", "Train", "Train"]


def test_clear_forgets_the_results_of_a_name_and_why_tells_who_did_it(run: Run, cache: Path) -> None:
    done = run("cache", "clear", "cache", "Train", "--yes")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "2 results cleared\n")
    assert results(cache) == ["Load", "Load", "Main"]
    why = run("why", "tasks.py:Train", "-a", "year=22", "-o", "cache")
    assert "cleared by hand at" in why.stdout
    assert run("tasks.py", "-o", "cache").stdout == "45\n"


@pytest.mark.parametrize("words", [["Load", "-a", "year=23"], ["tasks.Load/{key}"]])
def test_clear_takes_arguments_or_the_beginning_of_a_key(run: Run, cache: Path, words: list[str]) -> None:
    listed = json.loads(run("cache", "ls", "cache", "Load", "--json").stdout)
    key = next(one["key"] for one in listed["entries"] if one["args"] == {"year": 23})
    done = run("cache", "clear", "-o", "cache", *[word.format(key=key[:6]) for word in words], "-y")
    assert (done.returncode, done.stdout) == (0, "1 result cleared\n")
    left = json.loads(run("cache", "ls", "cache", "Load", "--json").stdout)
    assert [one["args"] for one in left["entries"]] == [{"year": 22}]


def test_clear_all_leaves_nothing_and_a_dry_run_all(run: Run, cache: Path) -> None:
    dry = run("cache", "clear", "cache", "--all", "--dry-run")
    assert "5 results would be cleared" in dry.stdout
    assert results(cache) == ALL
    assert run("cache", "clear", "cache", "--all", "-y").stdout == "5 results cleared\n"
    assert results(cache) == []
    assert "nothing is stored" in run("cache", "clear", "cache", "--all", "-y").stdout


@pytest.mark.parametrize(
    "command", [["clear", "cache", "Load"], ["prune", "cache", "--task", "Load"]], ids=["clear", "prune"]
)
def test_without_yes_and_without_a_terminal_nothing_is_removed(
    run: Run, cache: Path, command: list[str], expect_one_error: Callable[..., None]
) -> None:
    expect_one_error(run("cache", *command), 2, "--yes")
    assert results(cache) == ALL


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 2), ("y", 0, 0)])
def test_at_a_terminal_it_asks(
    cache: Path, environment: dict[str, str], answer: str, code: int, left: int
) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "taskproc", "cache", "clear", "cache", "Load"],
            cwd=cache.parent, env=environment, stdin=theirs, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == code
    assert "2 results of" in done.stderr
    assert "Traceback" not in done.stderr
    assert results(cache).count("Load") == left


def test_what_is_computed_anew_while_prune_asks_stays(
    run: Run, cache: Path, environment: dict[str, str]
) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskproc", "cache", "prune", "cache", "--task", "Load"],
            cwd=cache.parent, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            assert process.stderr is not None
            assert b"2 results" in process.stderr.read(9)
            assert run("tasks.py:Load", "-a", "year=22", "-o", "cache", "-x", "serial").returncode == 0
            os.write(ours, b"y\n")
            out, _ = process.communicate(timeout=60)
    finally:
        os.close(theirs)
        os.close(ours)
    assert process.returncode == 0
    assert b"1 result was left alone" in out
    (left,) = json.loads(run("cache", "ls", "cache", "Load", "--json").stdout)["entries"]
    assert left["args"] == {"year": 22}


@pytest.mark.parametrize(
    "command", [["clear", "cache", "--all"], ["prune", "cache", "--task", "Load"]], ids=["clear", "prune"]
)
def test_what_a_living_run_holds_is_left_alone_and_told(run: Run, cache: Path, command: list[str]) -> None:
    (held, _) = sorted((cache / "tasks.Load").iterdir())
    other = DirectoryCache(cache)
    key = TaskKey("tasks.Load", held.name)
    assert other.lease([key]) == {key}
    try:
        done = run("cache", *command, "--yes")
    finally:
        other.close()
    assert done.returncode == 0
    assert "1 result" in done.stdout.splitlines()[-1]
    assert "left alone" in done.stdout
    assert (held / "record.json").exists()
    assert results(cache).count("Load") == 1


@pytest.mark.parametrize("command", [["clear", "--all", "-y"], ["prune", "--older-than", "0s", "-y"]])
def test_a_directory_without_our_marker_is_refused_and_left_as_it_is(
    run: Run, cache: Path, command: list[str], expect_one_error: Callable[..., None]
) -> None:
    (cache / "taskproc.json").unlink()
    (cache.parent / "empty").mkdir()
    for place in ("cache", "empty", "nowhere"):
        expect_one_error(run("cache", command[0], place, *command[1:]), 2, place)
    assert results(cache) == ALL


def test_wrong_words_are_one_error_each(run: Run, cache: Path, expect_one_error: Callable[..., None]) -> None:
    expect_one_error(run("cache", "clear", "cache"), 2, "--all")
    expect_one_error(run("cache", "clear", "cache", "Laod", "-y"), 2, "Load")
    expect_one_error(run("cache", "clear", "cache", "Load", "--all", "-y"), 2, "--all")
    expect_one_error(run("cache", "prune", "cache"), 2, "criterion")
    expect_one_error(run("cache", "prune", "cache", "--older-than", "soon"), 2, "no age")
    expect_one_error(run("cache", "prune", "cache", "--max-size", "much"), 2, "no size")
    expect_one_error(run("cache", "prune", "cache", "--keep", "none.py"), 2, "none.py")
    assert results(cache) == ALL


def test_prune_by_age_and_size_removes_whole_folders_and_tells_how_much(run: Run, cache: Path) -> None:
    young = run("cache", "prune", "cache", "--older-than", "1d", "--dry-run")
    assert young.stdout.startswith("nothing (0 B) would be removed")
    done = run("cache", "prune", "cache", "--larger-than", "4kB", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 results (10.1 kB) were removed; 3 results" in done.stdout
    assert "1 result of those left rests on what goes" in done.stdout
    assert not (cache / "tasks.Train").exists()
    assert "pruned at" in run("why", "tasks.py:Train", "-a", "year=22", "-o", "cache").stdout
    assert run("cache", "prune", "cache", "--older-than", "0s", "-y").returncode == 0
    assert results(cache) == []
    assert run("cache", "verify", "cache").stdout.endswith("nothing is wrong\n")
    assert run("tasks.py", "-o", "cache").stdout == "45\n"


def test_prune_to_a_size_leaves_no_result_without_what_it_rests_on(run: Run, cache: Path) -> None:
    told = json.loads(run("cache", "prune", "cache", "--max-size", "6k", "--json", "--yes").stdout)
    assert told["stays_bytes"] <= 6000
    assert told["resting"] == told["over"] == 0
    assert "Main" not in results(cache)
    assert results(cache).count("Load") == 2


def test_prune_keeps_exactly_what_the_entry_tasks_need(run: Run, cache: Path) -> None:
    for year in ("24", "25"):
        assert run("tasks.py:Train", "-a", f"year={year}", "-o", "cache").returncode == 0
    assert len(results(cache)) == 9
    dry = run("cache", "prune", "cache", "--keep", "tasks.py", "--dry-run", "-v")
    assert "4 results" in dry.stdout
    assert len(results(cache)) == 9
    assert run("cache", "prune", "cache", "--keep", "tasks.py", "--yes").returncode == 0
    assert results(cache) == ALL
    done = run("tasks.py", "-o", "cache")
    assert "1 executed, 4 cached" in done.stderr


def test_prune_removes_what_a_run_would_compute_anew_by_the_code_as_it_is(run: Run, cache: Path) -> None:
    unedited = run("cache", "prune", "cache", "--stale", "tasks.py", "--dry-run")
    assert unedited.stdout.startswith("nothing")
    file = cache.parent / "tasks.py"
    file.write_text(TASKS.replace('"m" * 5000', '"n" * 5000'))
    done = run("cache", "prune", "cache", "--stale", "tasks.py", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert results(cache) == ["Load", "Load"]


def test_prune_removes_remains_of_damage_and_failures_and_no_result(run: Run, cache: Path) -> None:
    assert run("tasks.py:Fails", "-o", "cache").returncode == 1
    result = next((cache / "tasks.Load").glob("*/result.pkl.gz"))
    result.write_bytes(b"")
    assert run("cache", "verify", "cache").returncode == 0
    left = results(cache)
    dry = run("cache", "prune", "cache", "--damaged", "--failures", "--dry-run")
    assert "1 damaged result, 1 failure" in dry.stdout
    assert (result.parent / "record.json.damaged").exists()
    assert (cache / "tasks.Fails").exists()
    assert run("cache", "prune", "cache", "--damaged", "--yes").returncode == 0
    assert not list(cache.rglob("*.damaged"))
    assert (cache / "tasks.Fails").exists()
    assert run("cache", "prune", "cache", "--failures", "--yes").returncode == 0
    assert not (cache / "tasks.Fails").exists()
    assert results(cache) == left


def test_a_run_under_way_computes_anew_what_is_pruned_from_under_it(
    run: Run, start: Callable[..., subprocess.Popen[str]], write: Write, tmp_path: Path
) -> None:
    write(
        "slow.py",
        """
        import time
        from pathlib import Path
        from taskproc import Task

        class Load(Task):
            def run_task(self):
                return 40

        class Slow(Task):
            def run_task(self):
                Path("begun").touch()
                while not Path("go").exists():
                    time.sleep(0.01)
                return 2

        class Main(Task):
            def __init__(self):
                self.load, self.slow = Load(), Slow()
            def run_task(self):
                print(self.load.get_result() + self.slow.get_result())
        """.replace("\n        ", "\n"),
    )
    assert run("slow.py:Load", "-o", "cache").returncode == 0
    process = start("slow.py", "-o", "cache")
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    done = run("cache", "prune", "cache", "--older-than", "0s", "--yes")
    assert "1 result (" in done.stdout
    assert run("cache", "verify", "cache").returncode == 0
    (tmp_path / "go").touch()
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "42\n")


def test_nothing_is_removed_behind_a_link(run: Run, cache: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (cache / "tasks.Load").rename(outside)
    (cache / "tasks.Load").symlink_to(outside)
    files = sorted(outside.rglob("*"))
    run("cache", "prune", "cache", "--older-than", "0s", "--yes")
    run("cache", "clear", "cache", "--all", "--yes")
    assert sorted(outside.rglob("*")) == files
