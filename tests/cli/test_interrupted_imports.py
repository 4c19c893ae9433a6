"""A signal that comes while a task file is loaded ends the command with its own code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# As a dataclass does: Python runs a text, and the signal breaks into it.
TASKS = """
from taskproc import Task

class Main(Task):
    def run_task(self):
        pass

exec("import time; print('loading', flush=True); time.sleep(60)")
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("words", [["taskproc", "tasks.py", "-o", "cache"], ["own", "-o", "cache"]])
def test_a_signal_in_a_text_that_the_task_file_runs_gives_its_own_exit_code(
    tmp_path: Path, words: list[str], number: signal.Signals, code: int
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    own = "from taskproc import Task\nclass Main(Task):\n    def run_task(self):\n        import tasks\n"
    (tmp_path / "own.py").write_text(
        own + "if __name__ == '__main__':\n    Main.cli(['-o', 'cache', '-x', 'serial'])\n"
    )
    command = [sys.executable, "-m", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
