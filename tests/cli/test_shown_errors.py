"""What is shown of an error, its exit code, and what one call of the command leaves behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from taskproc.cli.defaults import DefaultArguments
from taskproc.cli.errors import exit_code, own_lines, set_log_level, shield
from taskproc.cli.main import command
from taskproc.cli.output import show_logs
from taskproc.cli.run import run_task_class
from taskproc.errors import (
    ArgumentError,
    FailedTaskError,
    MissingItemError,
    MissingResultError,
    PluginWarning,
    RateLimitError,
    TaskprocError,
    UsageError,
)

Write = Callable[[str, str], Path]


def failed(cause: BaseException | None = None) -> FailedTaskError:
    error = FailedTaskError("it failed", "a.Main", "0" * 32, {})
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (ArgumentError("x"), 2),
        (RateLimitError("x"), 2),
        (failed(), 1),
        (failed(ValueError("x")), 1),
        (failed(MissingItemError("x")), 2),
        (ExceptionGroup("x", [failed(), failed()]), 1),
        (ExceptionGroup("x", [failed(), failed(MissingItemError("x"))]), 1),
        (ExceptionGroup("x", [failed(MissingItemError("x"))]), 2),
        (MissingResultError("x"), 1),
        (OSError("disk full"), 1),
        (ZeroDivisionError("a fault of ours"), None),
        (ExceptionGroup("x", [failed(), ZeroDivisionError()]), None),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, code: int | None) -> None:
    assert exit_code(error) == code


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), shield():
        raise ZeroDivisionError


def test_every_failure_of_a_group_and_its_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    first = failed()
    first.add_note("and two others")
    with pytest.raises(click.exceptions.Exit) as caught, shield():
        raise ExceptionGroup("x", [first, ExceptionGroup("y", [failed()])])
    assert caught.value.exit_code == 1
    text = capsys.readouterr().err
    assert text.count("taskproc: error: it failed") == 2
    assert "and two others" in text
    assert text.rstrip().endswith("taskproc: error: 2 tasks failed")


def test_a_warning_of_ours_is_one_line_and_another_stays_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def warn() -> None:
        with shield():
            warnings.warn("mind this", PluginWarning, stacklevel=1)
            warnings.warn("mind this", PluginWarning, stacklevel=1)
            warnings.warn("another", DeprecationWarning, stacklevel=1)

    with pytest.warns(DeprecationWarning, match="another"):
        warn()
    assert capsys.readouterr().err.splitlines() == ["taskproc: warning: mind this"] * 2


def test_a_user_who_turns_warnings_into_errors_still_gets_ours_as_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with shield():
            warnings.warn("mind this", PluginWarning, stacklevel=1)
    assert capsys.readouterr().err == "taskproc: warning: mind this\n"


def test_the_level_governs_the_log_of_the_user_too(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # pytest's own
    try:
        with shield():
            logging.getLogger("mine").info("too low")
            set_log_level("info")
            logging.getLogger("mine").info("of the user")
            logging.getLogger("taskproc.engine").info("of ours")
        assert root.handlers == []
    finally:
        root.handlers = handlers
    assert logging.getLogger("taskproc").handlers == []
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO mine: of the user",
        "INFO taskproc.engine: of ours",
    ]


def test_a_log_that_the_user_set_up_is_left_to_them(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    theirs: list[logging.Handler] = [logging.NullHandler()]
    handlers, root.handlers = root.handlers, theirs
    level = root.level
    try:
        with shield():
            set_log_level("debug")
            logging.getLogger("mine").debug("theirs")
            assert root.level == level
    finally:
        root.handlers = handlers
    assert capsys.readouterr().err == ""


def test_own_lines_keep_the_chain_and_drop_our_frames() -> None:
    def check_defaults() -> None:
        try:
            {}["gone"]
        except KeyError as error:
            DefaultArguments(num_workers="2")  # type: ignore[arg-type]
            raise AssertionError from error

    with pytest.raises(TypeError) as caught:
        check_defaults()
    text = own_lines(caught.value)
    files = [line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")]
    assert set(files) == {__file__}
    assert "KeyError: 'gone'" in text
    assert "During handling of the above exception" in text


def test_own_lines_of_a_syntax_error_have_no_empty_heading() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("a b", "file.py", "exec")
    caught.value.__traceback__ = None
    assert own_lines(caught.value).startswith('  File "file.py", line 1')


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this platform")
def test_output_that_can_not_be_written_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "stdout.txt"
    log.write_bytes(b"x" * 100_000)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(TaskprocError, match=r"No space left on device.*stdout\.txt"):
            show_logs(log, tmp_path / "none")
        monkeypatch.undo()
        # The file object must not try once more when it is closed.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), full.fileno())


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """The command in this process, what it loads forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield CliRunner()
    for name in [name for name in set(sys.modules) - before if name.startswith("defaults_test_")]:
        del sys.modules[name]


TASK = """
from taskproc import Task, DefaultArguments
class Main(Task):
    def __init__(self, n: int = 1):
        self.n = n
    def run_task(self):
        print("n is", self.n)
"""


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_stands_in_the_place_of_a_log_is_neither_followed_nor_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    log = tmp_path / "stdout.txt"
    if kind == "pipe":
        os.mkfifo(log)
    elif kind == "link":
        (tmp_path / "another's").write_text("a secret")
        log.symlink_to(tmp_path / "another's")
    else:
        log.mkdir()
    with pytest.raises(TaskprocError, match=r"the run succeeded, but .* can't be shown .*stdout\.txt"):
        show_logs(log, tmp_path / "none")
    assert capfd.readouterr().out == ""


def test_the_defaults_of_one_file_do_not_reach_the_next(in_process: CliRunner, write: Write) -> None:
    write("defaults_test_a.py", TASK + "DefaultArguments(kwargs={'n': 5}, exec_type='serial').populate()\n")
    write("defaults_test_b.py", TASK)
    words = ["-o", "cache", "--dont-show-progress"]
    first = in_process.invoke(command, ["defaults_test_a.py", *words])
    assert (first.exit_code, first.stdout) == (0, "n is 5\n"), first.stderr
    other = in_process.invoke(command, ["defaults_test_b.py", "-t", "serial", *words])
    assert (other.exit_code, other.stdout) == (0, "n is 1\n"), other.stderr
    again = in_process.invoke(command, ["defaults_test_a.py", *words])
    assert (again.exit_code, again.stdout) == (0, "n is 5\n"), again.stderr
    assert DefaultArguments.get_default() == DefaultArguments()


def test_cli_of_a_class_returns_after_success_and_exits_otherwise(
    in_process: CliRunner, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("defaults_test_c.py", TASK)
    import defaults_test_c  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    main = defaults_test_c.Main
    assert main.cli(["-o", "cache", "-t", "serial", "--dont-show-progress"]) is None
    assert capsys.readouterr().out == "n is 1\n"
    given = DefaultArguments(output="cache", exec_type="serial", kwargs={"n": 4})
    assert main.cli(["--dont-show-progress"], given) is None
    assert capsys.readouterr().out == "n is 4\n"
    run_task_class(main, ["-o", "cache", "-t", "serial", "--dry-run"])
    assert "would run: 1 task\n" in capsys.readouterr().out
    for words, code in ((["--help"], 0), (["--oops"], 2), ([], 2), (["-o", "cache", "-a", "n=x"], 2)):
        with pytest.raises(SystemExit) as caught:
            main.cli(words)
        assert caught.value.code == code
    assert "defaults_test_c.py" not in capsys.readouterr().err


def test_without_a_stdout_the_command_still_works(
    write: Write, environment: dict[str, str], tmp_path: Path
) -> None:
    write("task.py", TASK)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m taskproc task.py -o cache --dont-show-progress >&-"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
