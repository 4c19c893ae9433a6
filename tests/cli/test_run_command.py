"""`taskproc FILE -o CACHE` for real: streams, exit codes, options, defaults, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str, str], Path]

BINOMIAL = """
import os, sys
from taskproc import Cache, Const, DefaultArguments, Task

class Choose(Task):
    def __init__(self, n: int, k: int):
        if 0 < k < n:
            self.left = Choose(n - 1, k - 1)
            self.right = Choose(n - 1, k)
        else:
            self.left, self.right = Const(0), Const(1)

    def run_task(self) -> int:
        return self.left.get_result() + self.right.get_result()

class Main(Task):
    def __init__(self, n: int = 6, k: int = 3, scale: float | None = None, names: list[str] = []):
        self.choose = Choose(n, k)
        self.extra = [scale, names]

    def run_task(self):
        print("answer", self.choose.get_result(), *self.extra)
        print("to stderr", file=sys.stderr)

class Outer:
    class Other(Task):
        def run_task(self):
            print("other")

class Pid(Task):
    def run_task(self):
        print(os.getpid())
"""


@pytest.fixture
def binomial(write: Write) -> Path:
    return write("binomial.py", BINOMIAL)


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def quiet(run: Run, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return run(*words, "--dont-show-progress")


def test_what_the_entry_task_printed_is_shown_byte_for_byte(run: Run, binomial: Path, tmp_path: Path) -> None:
    done = quiet(run, binomial, "-o", "cache")
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer 20 None []\n", "to stderr\n")
    assert (tmp_path / "cache").is_dir()


def test_progress_is_on_stderr_and_says_what_was_cached(run: Run, binomial: Path) -> None:
    first = run(binomial, "-o", "cache")
    second = run("-o", "cache", binomial)
    assert first.stdout == second.stdout == "answer 20 None []\n"
    assert "16" in first.stderr
    assert "1 executed" in second.stderr
    assert "15 cached" in second.stderr


def test_the_entry_task_runs_each_time_unless_told_not_to(run: Run, write: Write, tmp_path: Path) -> None:
    file = write("count.py", COUNT)
    quiet(run, file, "-o", "cache")
    assert quiet(run, file, "-o", "cache").stdout == "main\n"
    assert (tmp_path / "count.txt").read_text() == "leaf main main "
    cached = quiet(run, file, "-o", "cache", "--dont-force-entrypoint")
    assert (cached.returncode, cached.stdout) == (0, "main\n"), "the stored output is shown"
    assert (tmp_path / "count.txt").read_text() == "leaf main main "


COUNT = """
from pathlib import Path
from taskproc import Task

def note(word):
    with (Path(__file__).parent / "count.txt").open("a") as file:
        file.write(word + " ")

class Leaf(Task):
    def run_task(self):
        note("leaf")

class Main(Task):
    def __init__(self):
        self.leaf = Leaf()

    def run_task(self):
        self.leaf.get_result()
        note("main")
        print("main")
"""


@pytest.mark.parametrize("executor", [["-t", "serial"], ["-t", "local"], ["-x", "serial"]])
def test_with_the_serial_executor_output_is_shown_once(run: Run, binomial: Path, executor: list[str]) -> None:
    done = quiet(run, binomial, "-o", "cache", *executor)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer 20 None []\n", "to stderr\n")


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_every_executor_gives_the_same_output(run: Run, binomial: Path, executor: str) -> None:
    done = quiet(run, binomial, "-o", "cache", "-t", executor, "-n", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer 20 None []\n", "to stderr\n")


def test_arguments_are_read_by_the_annotations_of_the_constructor(run: Run, binomial: Path) -> None:
    done = quiet(run, binomial, "-o", "c", "-a", "n=4", "-a", "k=2", "-a", "scale=2", "-a", 'names=["x=1"]')
    assert (done.returncode, done.stdout) == (0, "answer 6 2.0 ['x=1']\n"), done.stderr
    done = quiet(run, binomial, "-o", "c", "--kwargs", '{"n": 5, "names": [1]}', "-a", "k=1")
    assert (done.returncode, done.stdout) == (0, "answer 5 None [1]\n"), done.stderr


def test_another_task_of_the_file_can_be_named(run: Run, binomial: Path) -> None:
    assert quiet(run, f"{binomial}:Outer.Other", "-o", "cache").stdout == "other\n"


def test_defaults_of_the_file_hold_where_the_command_line_is_silent(
    run: Run, write: Write, tmp_path: Path
) -> None:
    file = write(
        "defaults.py",
        BINOMIAL + "DefaultArguments(kwargs={'n': 4, 'k': 2}, exec_type='thread', output='kept',"
        " show_progress=False, rate_limits={'binomial.Choose': 1}).populate()\n",
    )
    done = run(file, "-a", "k=1")
    assert (done.returncode, done.stdout) == (0, "answer 4 None []\n"), done.stderr
    assert (tmp_path / "kept").is_dir()
    assert "binomial.Choose" in done.stderr, "a limit for a label that no task has is a warning"
    assert done.stderr.startswith("taskproc: warning: ")
    assert done.stderr.count("\n") == 2, "one line for the warning, one of the task"


def test_a_dry_run_shows_the_plan_and_writes_nothing(run: Run, binomial: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    done = run(binomial, "-o", "deep/cache", "--dry-run")
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "would run: 16 tasks"
    assert any(line.startswith("binomial.Choose 15 ") for line in lines)
    assert lines[-1] == "cached: 0 tasks"
    after = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert after == before

    quiet(run, binomial, "-o", "deep/cache")
    done = run(binomial, "-o", "deep/cache", "--dry-run")
    assert done.returncode == 0, "nothing would run but the entry task"
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "would run: 1 task"
    assert lines[1].startswith("binomial.Main 1 ")
    assert lines[2:4] == ["cached: 15 tasks", "binomial.Choose 15"]
    assert lines[4].startswith("expected: ")
    assert len(lines) == 5


def test_a_file_named_like_a_library_is_not_taken_for_it(run: Run, write: Write) -> None:
    source = """
import json, sys
from taskproc import Task

class Leaf(Task):
    def run_task(self):
        return json.dumps({"a": 1})

class Main(Task):
    def __init__(self):
        self.leaf = Leaf()
    def run_task(self):
        print(self.leaf.get_result(), self.task_name.startswith("json_"))
"""
    for name in ("json", "rich", "queue", "click"):
        file = write(f"of_{name}/{name}.py", source.replace("json_", f"{name}_"))
        done = run(file.name, "-o", "cache", cwd=file.parent)
        assert (done.returncode, done.stdout) == (0, '{"a": 1} True\n'), done.stderr


def test_another_file_of_the_same_name_on_the_path_is_not_taken(
    run: Run, write: Write, environment: dict[str, str], tmp_path: Path
) -> None:
    write("elsewhere/job.py", "raise SystemExit('the wrong file')\n")
    environment["PYTHONPATH"] += f":{tmp_path / 'elsewhere'}"
    write("here/job.py", BINOMIAL)
    assert quiet(run, "here/job.py", "-o", "cache").stdout == "answer 20 None []\n"


def test_a_module_with_main_cli_is_a_command(run: Run, write: Write) -> None:
    write("pack/__init__.py", "")
    write("pack/steps.py", BINOMIAL + "\nif __name__ == '__main__':\n    Main.cli()\n    print('went on')\n")
    done = run("-o", "cache", "-a", "n=5", "--dont-show-progress", module="pack.steps")
    assert (done.returncode, done.stdout) == (0, "answer 10 None []\nwent on\n"), done.stderr
    again = quiet(run, "pack/steps.py", "-o", "cache", "-a", "n=5", "--dry-run")
    assert "would run: 1 task\n" in again.stdout, "run as a module or as a file, it is the same task"

    wrong = run("--oops", module="pack.steps")
    assert wrong.returncode == 2
    assert "Usage: python -m pack.steps" in wrong.stderr
    helped = run("--help", module="pack.steps")
    assert helped.returncode == 0
    assert "n: int = 6, k: int = 3" in " ".join(helped.stdout.split())
    assert "went on" not in helped.stdout


def test_a_failed_task_is_exit_1_without_a_traceback_of_ours(
    run: Run, write: Write, expect_one_error: Callable[..., None]
) -> None:
    file = write(
        "bad.py",
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    def run_task(self):\n"
        "        print('before')\n"
        "        raise KeyError('gone')\n",
    )
    done = quiet(run, file, "-o", "cache")
    expect_one_error(done, 1, "bad.Main", "KeyError", "gone", "before")
    assert done.stderr.count("before") == 1

    debug = quiet(run, file, "-o", "cache", "-l", "debug")
    assert debug.returncode == 1
    assert "the whole traceback" in debug.stderr


def test_with_on_error_continue_every_failure_is_told(run: Run, write: Write) -> None:
    file = write(
        "many.py",
        "from taskproc import Task, FutureList\n"
        "class Leaf(Task):\n"
        "    def __init__(self, n):\n        self.n = n\n"
        "    def run_task(self):\n"
        "        if self.n % 2:\n            raise ValueError(f'odd {self.n}')\n"
        "class Main(Task):\n"
        "    def __init__(self):\n        self.all = FutureList([Leaf(n) for n in range(6)])\n"
        "    def run_task(self):\n        pass\n",
    )
    done = quiet(run, file, "-o", "cache", "--on-error", "continue")
    assert done.returncode == 1
    for number in (1, 3, 5):
        assert f"odd {number}" in done.stderr
    assert "taskproc: error: 3 tasks failed" in done.stderr
    assert 'Traceback (most recent call last):\n  File "<frozen' not in done.stderr


def test_a_reader_that_goes_away_is_no_error(
    write: Write, environment: dict[str, str], tmp_path: Path
) -> None:
    file = write(
        "long.py",
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    def run_task(self):\n"
        "        print('x' * 1_000_000)\n",
    )
    command = f"{sys.executable} -m taskproc {file} -o cache --dont-show-progress | head -c 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")


@pytest.mark.parametrize(
    "words", [[], ["-x", "thread"], ["-x", "serial"], ["--prefix", "slow.Main=env"]], ids=" ".join
)
def test_ctrl_c_is_exit_130_and_leaves_nobody_behind(
    words: list[str], write: Write, environment: dict[str, str], tmp_path: Path
) -> None:
    file = write(
        "slow.py",
        "import os, time\n"
        "from pathlib import Path\n"
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    def run_task(self):\n"
        "        (Path(__file__).parent / 'started').write_text(str(os.getpid()))\n"
        "        time.sleep(60)\n",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "taskproc", str(file), "-o", "cache", *words],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started = tmp_path / "started"
    deadline = time.monotonic() + 30
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker = int(started.read_text())
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "taskproc: interrupted" in stderr
    assert "Traceback" not in stderr
    while is_alive(worker):
        assert time.monotonic() < deadline, "the worker outlived the command"
        time.sleep(0.02)


def test_a_prefix_and_a_limit_reach_the_run(run: Run, write: Write) -> None:
    file = write(
        "labelled.py",
        "import os\n"
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    task_label = 'gpu'\n"
        "    def run_task(self):\n        print(os.environ.get('MARK'), self.task_args)\n",
    )
    done = quiet(run, file, "-o", "cache", "--prefix", "gpu=env MARK=a=b", "--rate-limit", "gpu=1")
    assert (done.returncode, done.stdout) == (0, "a=b {}\n"), done.stderr
    done = quiet(
        run, file, "-o", "cache", "--prefix", '{"gpu": "env MARK=json"}', "--rate-limits", '{"gpu": 1}'
    )
    assert (done.returncode, done.stdout) == (0, "json {}\n"), done.stderr


def test_without_the_progress_plugin_the_run_is_quiet(run: Run, binomial: Path) -> None:
    done = run(binomial, "-o", "cache", "-p", "no:progress")
    assert (done.returncode, "taskproc:" in done.stderr) == (0, False), done.stderr


def test_output_shown_is_of_the_run_and_not_of_an_older_one(run: Run, write: Write) -> None:
    file = write(
        "teller.py",
        "import os\n"
        "from taskproc import Task\n"
        "class Main(Task):\n"
        "    def run_task(self):\n"
        "        print('told by', os.getpid())\n"
        "        if os.path.exists('fail'): raise ValueError\n",
    )
    serial = ("-o", "cache", "-x", "serial")
    first = quiet(run, file, "-o", "cache").stdout
    (file.parent / "fail").touch()
    failed = quiet(run, file, *serial)
    assert (failed.returncode, first in failed.stderr, "last lines" in failed.stderr) == (1, False, False)
    (file.parent / "fail").unlink()
    assert quiet(run, file, "-o", "cache", "--dont-force-entrypoint").stdout == first
    assert quiet(run, file, *serial).stdout not in ("", first)
    assert quiet(run, file, "-o", "cache", "--dont-force-entrypoint").stdout == ""
    assert quiet(run, file, *serial, "--prefix", "teller.Main=env").stdout.startswith("told by")


def test_a_one_file_plugin_is_selected_by_flag(
    run: Run, write: Write, binomial: Path, tmp_path: Path
) -> None:
    write(
        "tally.py",
        """
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Reporter

@dataclass(frozen=True)
class Tally(Reporter):
    name: ClassVar[str] = "tally"
    path: Path

    @hookimpl
    def taskproc_run_finished(self, report):
        self.path.write_text(json.dumps(report.stats["stats"]))

@hookimpl
def taskproc_register_reporters():
    return [Tally]
""",
    )
    done = quiet(run, binomial, "-o", "cache", "-p", "./tally.py", "--report", "tally:path=tally.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "tally.json").read_text()) == {"binomial.Choose": 15, "binomial.Main": 1}
