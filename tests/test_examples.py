"""Each example runs by the command, in a process of its own, and does what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
EXAMPLES = REPO / "examples"

PIPELINE = """
import os
from taskproc import Task


class Heavy(Task):
    task_label = "heavy"

    def run_task(self):
        return os.nice(0)


class Main(Task):
    def __init__(self):
        self.heavy = Heavy()

    def run_task(self):
        print("niceness", self.heavy.get_result())
"""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs the command in a folder of its own, with a cache there; fails if it fails."""

    def run(*words: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [variables.pop("PYTHONPATH", ""), str(REPO)]))
        done = subprocess.run(
            [sys.executable, "-m", "taskproc", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def results_in(cache: Path) -> dict[str, float]:
    """When each stored result was written, by its path."""
    return {
        path.relative_to(cache).as_posix(): path.stat().st_mtime_ns for path in cache.rglob("result.pkl.gz")
    }


def example(name: str) -> str:
    return str(EXAMPLES / name)


def test_the_census_prints_a_table_and_draws_a_chart(command: Command, tmp_path: Path) -> None:
    done = command("run", example("stdlib_census.py"), "-o", "cache", "-a", "limit=30")
    assert re.search(
        r"^package +lines +code +docstrings +comments +blank +files +functions$", done.stdout, re.M
    )
    assert re.search(r"^all \d+ .* 30 +[\d,]+$", done.stdout, re.M)
    found = re.search(r"^chart: (.*census\.svg)$", done.stdout, re.M)
    assert found is not None
    chart = Path(found[1])
    assert chart.is_relative_to(tmp_path / "cache")
    bars = ElementTree.parse(chart).getroot().iter("{http://www.w3.org/2000/svg}rect")
    assert len(list(bars)) > 8


def test_the_second_census_computes_its_entry_task_alone(command: Command, tmp_path: Path) -> None:
    words = ("run", example("stdlib_census.py"), "-o", "cache", "-a", "limit=30")
    first = command(*words)
    before = results_in(tmp_path / "cache")
    second = command(*words)
    after = results_in(tmp_path / "cache")
    assert [path for path in after if before.get(path) != after[path]] == [
        path for path in after if path.startswith("stdlib_census.Main/")
    ]
    assert second.stdout == first.stdout


def test_a_larger_census_measures_only_the_files_it_has_not_seen(command: Command, tmp_path: Path) -> None:
    command("run", example("stdlib_census.py"), "-o", "cache", "-a", "limit=30")
    before = results_in(tmp_path / "cache")
    command("run", example("stdlib_census.py"), "-o", "cache", "-a", "limit=40")
    after = results_in(tmp_path / "cache")
    modules = [path for path in after if path.startswith("stdlib_census.MeasureModule/")]
    assert len(modules) == 40
    assert len([path for path in modules if before.get(path) != after[path]]) == 10


def test_the_whole_library_is_found_and_counted() -> None:
    # The census itself is left to the other tests: here only that it looks at the real library.
    code = "import stdlib_census as c; print(len(list(c.library_files())))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{EXAMPLES}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 400 <= int(done.stdout) <= 1500


@pytest.mark.parametrize("way", ["command", "python -m", "script"])
def test_the_binomial_is_right_however_it_is_started(way: str, command: Command, tmp_path: Path) -> None:
    options = ["-o", "cache", "-a", "n=20", "-a", "k=10"]
    if way == "command":
        done = command("run", example("binomial.py"), *options)
    elif way == "python -m":
        done = command(example("binomial.py"), *options)
    else:
        done = subprocess.run(
            [sys.executable, example("binomial.py"), *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert "20 choose 10 is 184756" in done.stdout
    # Every way gives the tasks the same names.
    assert sorted(
        path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("binomial.")
    ) == [
        "binomial.Choose",
        "binomial.Main",
    ]


def test_an_impossible_binomial_says_what_is_possible(command: Command) -> None:
    done = command("run", example("binomial.py"), "-o", "cache", "-a", "n=3", "-a", "k=5", code=2)
    assert "can't choose 5 of 3" in done.stderr


def test_the_limit_holds_and_the_prefix_is_in_front(command: Command) -> None:
    done = command("run", example("labels_and_limits.py"), "-o", "cache")
    assert "8 downloads, at most 2 at once" in done.stdout
    already = os.nice(0)
    assert f"with {min(19, already + 10) - already} more niceness" in done.stdout


def test_the_command_line_overrides_the_files_limit_and_prefix(command: Command) -> None:
    words = ("--rate-limit", "download=1", "--prefix", "polite=nice -n 5", "-a", "pages=3")
    done = command("run", example("labels_and_limits.py"), "-o", "cache", *words)
    assert "3 downloads, at most 1 at once" in done.stdout
    already = os.nice(0)
    assert f"with {min(19, already + 5) - already} more niceness" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs the extra `examples`")
def test_the_sweep_fits_every_point_and_names_the_best(command: Command, tmp_path: Path) -> None:
    done = command("run", example("digits_sweep.py"), "-o", "cache")
    scores = re.findall(r"^(0\.\d{4})  (.*)$", done.stdout, re.M)
    assert len(scores) == 13
    assert scores == sorted(scores, key=lambda item: -float(item[0]))
    found = re.search(r"^best: (.*), with accuracy (0\.\d{4}) on unseen digits$", done.stdout, re.M)
    assert found is not None
    assert found[1] == scores[0][1]
    assert float(found[2]) > 0.95


@pytest.fixture
def installed_plugin(tmp_path: Path) -> Path:
    """A folder with examples/my_plugin in it, as an installer would leave it."""
    source = tmp_path / "my_plugin"
    shutil.copytree(EXAMPLES / "my_plugin", source)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = (source / "dist").glob("*.whl")
    folder = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_example_plugin_is_two_files() -> None:
    files = [path for path in (EXAMPLES / "my_plugin").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(path.name for path in files) == ["pyproject.toml", "taskproc_nice.py"]


def test_the_example_plugin_is_listed_once_installed(command: Command, installed_plugin: Path) -> None:
    assert "taskproc-nice" in command("plugins", PYTHONPATH=str(installed_plugin)).stdout
    assert "taskproc-nice" not in command("plugins").stdout


def test_the_example_plugin_is_selected_by_flag(command: Command, installed_plugin: Path) -> None:
    words = ("run", "pipeline.py", "-o", "cache", "--launcher", "heavy=nice:niceness=7")
    (installed_plugin.parent / "pipeline.py").write_text(PIPELINE)
    done = command(*words, PYTHONPATH=str(installed_plugin))
    already = os.nice(0)
    assert f"niceness {min(19, already + 7)}" in done.stdout


def test_a_wrong_option_of_the_example_plugin_is_refused(command: Command, installed_plugin: Path) -> None:
    (installed_plugin.parent / "pipeline.py").write_text(PIPELINE)
    words = ("run", "pipeline.py", "-o", "cache", "--launcher")
    done = command(*words, "heavy=nice:nicenes=7", code=2, PYTHONPATH=str(installed_plugin))
    assert "nicenes" in done.stderr
    assert "did you mean 'niceness'" in done.stderr
    done = command(*words, "heavy=nice:niceness=99", code=2, PYTHONPATH=str(installed_plugin))
    assert "it must be from 0 to 19" in done.stderr


def test_the_example_plugin_works_as_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    plugin = str(EXAMPLES / "my_plugin" / "taskproc_nice.py")
    done = command("run", "pipeline.py", "-o", "cache", "-p", plugin, "--launcher", "heavy=nice:niceness=3")
    already = os.nice(0)
    assert f"niceness {min(19, already + 3)}" in done.stdout
