"""Which command the words mean, what the help costs, and the list of plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import taskproc
from taskproc.__main__ import put_working_directory_last
from taskproc.cli.entry import split_entry
from taskproc.cli.main import command, is_entry

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]

PLUGIN = """
import click
from taskproc.hookspecs import hookimpl

@click.command("greet")
@click.argument("name")
def greet(name):
    "Say hello."
    click.echo(f"hello {name}")

@hookimpl
def taskproc_register_commands():
    return [greet]
"""


def install(folder: Path, name: str, source: str) -> None:
    """A distribution of one module with an entry point, written by hand."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[taskproc]\n{name} = {name}\n")


def test_help_names_the_commands_and_the_short_form() -> None:
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0
    for word in ("run", "plugins", "FILE[:TASK] -o CACHE"):
        assert word in done.output


def test_no_words_at_all_show_the_help_and_are_bad_input(run: Run) -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Commands:" in done.stderr


def test_version_is_the_version_of_the_package() -> None:
    assert CliRunner().invoke(command, ["--version"]).output == f"taskproc {taskproc.__version__}\n"


@pytest.mark.parametrize(
    "words", [["run", "--help"], ["x.py", "--help"], ["-o", "c", "-h"], ["x.py:T", "-h"]]
)
def test_a_file_or_an_option_in_front_means_run(words: list[str]) -> None:
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0
    assert "--rate-limit LABEL=N" in done.output


def test_every_published_option_is_there() -> None:
    text = CliRunner().invoke(command, ["run", "--help"]).output
    for option in (
        "-o, --output",
        "-l, --loglevel",
        "-n, --num-workers",
        "--kwargs",
        "--prefix",
        "--rate-limits",
        "-D, --disable-detect-source-change",
        "-t, --exec-type",
        "--dont-force-entrypoint",
        "--dont-show-progress",
    ):
        assert option in text


@pytest.mark.parametrize("word", ["plugns", "rn"])
def test_a_mistyped_command_is_guessed(word: str) -> None:
    done = CliRunner().invoke(command, [word])
    assert done.exit_code == 2
    assert f"{word!r} is neither a command nor a task file" in done.output
    assert "did you mean" in done.output


def test_a_file_named_like_a_command_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan").touch()
    assert is_entry("plan")
    assert is_entry("./plugins")
    assert not is_entry("plugins")
    assert CliRunner().invoke(command, ["plugins", "--help"]).output.startswith("Usage: taskproc plugins")


def test_a_colon_in_a_file_name_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_entry("a.py") == ("a.py", "Main")
    assert split_entry("a.py:Other") == ("a.py", "Other")
    assert split_entry("a.py:Outer.Inner") == ("a.py", "Outer.Inner")
    assert split_entry("d:e/a.py") == ("d:e/a.py", "Main")
    assert is_entry("a:b.py")
    Path("b.py:Other").touch()
    assert split_entry("b.py:Other") == ("b.py:Other", "Main")


def test_the_working_directory_goes_to_the_end_of_the_path() -> None:
    path = [str(Path.cwd()), "/lib"]
    put_working_directory_last(path)
    assert path == ["/lib", str(Path.cwd())]
    put_working_directory_last(path)
    assert path == ["/lib", str(Path.cwd())]


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_neither_rich_nor_any_plugin(
    words: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    install(tmp_path, "noisy_plugin", "raise SystemExit('a plugin was imported')")
    code = (
        "import sys\n"
        f"sys.argv = ['taskproc', *{words!r}]\n"
        "from taskproc.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    code = exit.code\n"
        "banned = [m for m in sys.modules if m.split('.')[0] in ('rich', 'pluggy', 'noisy_plugin')\n"
        "          or m.startswith(('taskproc.default_plugins', 'taskproc.engine', 'taskproc.core'))\n"
        "          or m == 'importlib.metadata']\n"
        "signals = ['', '.interruption', '.processes', '.wakeups']  # every command can be interrupted\n"
        "banned = set(banned) - {'taskproc.engine' + module for module in signals}\n"
        "print(code, sorted(banned), file=sys.stderr)\n"
    )
    environment["PYTHONPATH"] += f":{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "0 []\n"


def test_a_command_of_a_plugin_stands_beside_ours(
    tmp_path: Path, environment: dict[str, str], run: Run
) -> None:
    install(tmp_path, "greeting", PLUGIN)
    environment["PYTHONPATH"] += f":{tmp_path}"
    done = run("greet", "you")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello you\n", "")


def test_plugins_lists_what_there_is_and_what_failed(
    tmp_path: Path, environment: dict[str, str], run: Run
) -> None:
    install(tmp_path, "broken_plugin", "import no_such_module_anywhere")
    environment["PYTHONPATH"] += f":{tmp_path}"
    done = run("plugins")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["KIND", "NAME", "PLUGIN", "DISTRIBUTION"]
    assert ["executor", "process"] in [row[:2] for row in rows]
    assert ["launcher", "prefix"] in [row[:2] for row in rows]
    assert "failed to load: broken_plugin (broken_plugin 1.2): ModuleNotFoundError" in done.stdout

    done = run("plugins", "--json")
    found = json.loads(done.stdout)
    assert {"directory", "process", "thread", "serial", "prefix", "progress"} <= {
        item["name"] for item in found["components"]
    }
    assert set(found["components"][0]) == {"kind", "name", "plugin", "distribution", "version", "options"}
    (failure,) = found["failures"]
    assert failure["plugin"] == "broken_plugin"
    assert failure["version"] == "1.2"
    assert "no_such_module_anywhere" in failure["error"]

    assert json.loads(run("plugins", "--json", "-p", "no:broken_plugin").stdout)["failures"] == []


def test_a_plugin_that_is_asked_for_and_missing_is_listed_as_failed(run: Run) -> None:
    done = run("plugins", "-p", "./missing_plugin.py")
    assert done.returncode == 0
    assert "failed to load: missing_plugin" in done.stdout
