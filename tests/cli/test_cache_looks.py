"""`taskproc cache ls`, `du` and `show`: the real commands, which write nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TASKS = """
from taskproc import Task

class Load(Task):
    def __init__(self, year: int):
        self.year = year
    def run_task(self):
        print("loading", self.year)
        return list(range(self.year))

class Main(Task):
    def __init__(self):
        self.first, self.second = Load(22), Load(23)
    def run_task(self):
        (self.task_directory / "model.bin").write_bytes(b"m" * 5000)
        print(len(self.first.get_result()) + len(self.second.get_result()))
"""


@pytest.fixture
def cache(run: Run, write: Callable[[str, str], Path], tmp_path: Path) -> Iterator[Path]:
    write("tasks.py", TASKS)
    assert run("tasks.py", "-o", "cache").returncode == 0
    cache = tmp_path / "cache"
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    yield cache
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before


def test_ls_lists_names_and_with_a_task_its_results_with_their_arguments(run: Run, cache: Path) -> None:
    done = run("cache", "ls", "cache")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["TASK", "RESULTS"],
        ["tasks.Load", "2"],
        ["tasks.Main", "1"],
    ]
    listed = run("cache", "ls", "-o", "cache", "Load").stdout.splitlines()
    assert listed[0].split() == ["KEY", "STATE", "SIZE", "TIME", "FINISHED", "ARGUMENTS"]
    assert {line[line.index("{") :] for line in listed[1:]} == {'{"year": 22}', '{"year": 23}'}
    short = listed[1].split()[0]
    assert len(run("cache", "ls", "cache", f"Load/{short}").stdout.splitlines()) == 2
    told = json.loads(run("cache", "ls", "cache", "--json").stdout)
    assert told["tasks"]["tasks.Load"]["done"] == 2


def test_du_sums_up_every_byte_of_every_file(run: Run, cache: Path) -> None:
    told = json.loads(run("cache", "du", "cache", "--json").stdout)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert told["total"] == sum(path.stat().st_size for path in files)
    assert list(told["tasks"]) == ["tasks.Main", "tasks.Load"]
    assert told["tasks"]["tasks.Main"]["data"] == 5000
    assert told["tasks"]["tasks.Load"]["logs"] == 2 * len("loading 22\n")
    lines = run("cache", "du", "cache").stdout.splitlines()
    assert lines[0].split() == ["TASK", "RESULTS", "DATA", "LOGS", "OTHER", "TOTAL"]
    assert lines[-1].startswith("total")


def test_show_tells_arguments_provenance_upstreams_files_and_events(run: Run, cache: Path) -> None:
    done = run("cache", "show", "cache", "Main")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tasks.Main/")
    for words in ("rests on:", "first", "tasks.Load/", "data/model.bin", "5.0 kB", "host", "digest"):
        assert words in done.stdout
    told = json.loads(run("cache", "show", "cache", "Load", "year=23", "--json").stdout)
    assert told["task"] == "tasks.Load"
    assert told["args"] == {"year": 23}
    assert told["provenance"]["taskproc"]
    assert told["upstreams"] == []
    assert any(file["path"].endswith("stdout.txt") for file in told["files"])


def test_show_of_several_lists_them_and_of_none_says_so(
    run: Run, cache: Path, expect_one_error: Callable[..., None]
) -> None:
    expect_one_error(run("cache", "show", "cache", "Load"), 2, "2 tasks of the name tasks.Load match")
    expect_one_error(run("cache", "show", "cache", "Load", "year=1"), 2, "nothing is stored")
    expect_one_error(run("cache", "show", "cache"), 2, "show what")
    expect_one_error(run("cache", "ls", "cache", "Laod"), 2, "Load")


@pytest.mark.parametrize("command", ["ls", "du", "show"])
def test_what_is_no_cache_is_refused(
    run: Run, tmp_path: Path, command: str, expect_one_error: Callable[..., None]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for place in ("other", "empty", "nowhere"):
        expect_one_error(run("cache", command, place, *(["T"] if command == "show" else [])), 2, place)
    expect_one_error(run("cache", command), 2, "which cache")


def test_a_damaged_entry_is_no_traceback(run: Run, cache: Path) -> None:
    entry = next((cache / "tasks.Load").iterdir())
    record = (entry / "record.json").read_bytes()
    (entry / "record.json").write_bytes(record[:50])
    try:
        for words in (["ls", "cache"], ["ls", "cache", "Load"], ["du", "cache"], ["show", "cache", "Load"]):
            done = run("cache", *words)
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        (entry / "record.json").write_bytes(record)
