"""`taskproc cache verify`: the real command, on caches of real runs, sound and damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TASKS = """
from taskproc import Task

class Load(Task):
    def __init__(self, year: int):
        self.year = year
    def run_task(self):
        return list(range(self.year))

class Main(Task):
    def __init__(self):
        self.parts = [Load(23), Load(24)]
        self.first, self.second = self.parts
    def run_task(self):
        print(len(self.first.get_result()) + len(self.second.get_result()))
"""


@pytest.fixture
def cache(run: Run, write: Callable[[str, str], Path], tmp_path: Path) -> Path:
    write("tasks.py", TASKS)
    assert run("tasks.py", "-o", "cache", "-x", "serial").returncode == 0
    return tmp_path / "cache"


@pytest.mark.parametrize("words", [["cache"], ["-o", "cache"]])
def test_a_sound_cache_is_told_in_one_line_with_exit_code_0(run: Run, cache: Path, words: list[str]) -> None:
    done = run("cache", "verify", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 entries checked, ")
    assert done.stdout.endswith(": nothing is wrong\n")


def test_a_dry_run_tells_damage_with_exit_code_1_and_the_real_one_repairs_it_with_0(
    run: Run, cache: Path
) -> None:
    result = next((cache / "tasks.Load").glob("*/result.pkl.gz"))
    result.write_bytes(result.read_bytes()[:-1])
    dry = run("cache", "verify", "cache", "--dry-run")
    assert dry.returncode == 1
    assert f"WRONG: {result.relative_to(cache)}: it is" in dry.stdout
    assert "1 wrong and not repaired" in dry.stdout
    assert result.exists()
    done = run("cache", "verify", "cache")
    assert done.returncode == 0
    assert "1 repaired" in done.stdout
    assert not result.exists()
    again = run("cache", "verify", "cache")
    assert again.returncode == 0
    assert "2 harmless" in again.stdout
    assert run("tasks.py", "-o", "cache").stdout == "47\n"
    assert dry.stderr == done.stderr == again.stderr == ""


def test_after_a_run_is_killed_verify_puts_back_what_it_had_set_aside_and_nothing_is_lost(
    run: Run, start: Callable[..., subprocess.Popen[str]], write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    program = """
import time
from pathlib import Path
from taskproc import Task

class Main(Task):
    def run_task(self):
        (self.task_directory / "model").write_text("m" * 100)
        Path("begun").touch()
        while Path("wait").exists():
            time.sleep(0.01)
        print("whole")
"""
    write("slow.py", program)
    assert run("slow.py", "-o", "cache").stdout == "whole\n"
    (tmp_path / "begun").unlink()
    (tmp_path / "wait").touch()
    process = start("slow.py", "-o", "cache")
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    beside = run("cache", "verify", "cache")
    assert (beside.returncode, beside.stdout.endswith("nothing is wrong\n")) == (0, True)
    process.kill()
    process.wait(60)
    # Its worker ends with it, and only then its claims are nobody's.
    while "record.json.aside" in os.listdir(next((tmp_path / "cache" / "slow.Main").iterdir())):
        assert run("cache", "verify", "cache").returncode == 0
        assert time.monotonic() < deadline
    shown = run("cache", "show", "cache", "Main").stdout
    assert "data/model" in shown
    assert run("cache", "verify", "cache").returncode == 0


def test_json_is_one_object_with_counts_and_all_findings(run: Run, cache: Path) -> None:
    (cache / "notes.txt").write_text("mine")
    result = next((cache / "tasks.Load").glob("*/result.pkl.gz"))
    result.unlink()
    told = json.loads(run("cache", "verify", "cache", "--json", "--dry-run").stdout)
    assert told["entries"] == 3
    assert told["wrong"] == 1
    by_path = {Path(one["path"]).name: one for one in told["findings"]}
    assert set(by_path) == {"notes.txt", "result.pkl.gz"}
    assert by_path["notes.txt"]["harmless"]
    assert by_path["result.pkl.gz"]["task"] == "tasks.Load"
    assert by_path["result.pkl.gz"]["key"] == result.parent.name
    assert not by_path["result.pkl.gz"]["repaired"]


def test_what_is_no_cache_is_refused_and_left_as_it_is(
    run: Run, tmp_path: Path, expect_one_error: Callable[..., None]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    for place in ("empty", "other", "nowhere"):
        expect_one_error(run("cache", "verify", place), 2, place)
    expect_one_error(run("cache", "verify"), 2, "which cache")
    expect_one_error(run("cache", "verify", "other", "more"), 2)
    assert os.listdir(tmp_path / "empty") == []
    assert os.listdir(tmp_path / "other") == ["file"]


def test_a_reader_that_goes_away_is_no_error(run: Run, cache: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "taskproc", "cache", "verify", "cache"]
    with subprocess.Popen(
        command, cwd=cache.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_directory_in_place_of_every_file_of_an_entry_is_no_traceback(run: Run, cache: Path) -> None:
    entries = sorted((cache / "tasks.Load").iterdir())
    for entry, name in zip(entries, ("result.pkl.gz", "record.json"), strict=True):
        (entry / name).unlink()
        (entry / name).mkdir()
    done = run("cache", "verify", "cache")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("a folder is in place of") == 2
    assert run("tasks.py", "-o", "cache").stdout == "47\n"
