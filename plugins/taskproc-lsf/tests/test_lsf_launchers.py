"""The LSF launchers: their command lines, whole, and what they do through stubs on PATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from taskproc_lsf import JbsubLauncher, LsfLauncher

from taskproc import Cache, FailedTaskError, Task
from taskproc.errors import ComponentOptionError, PluginWarning
from taskproc.interfaces import Job, TaskKey
from taskproc.registry.components import LAUNCHER, make_component
from taskproc.testing import LauncherContract

ARGV = ["/usr/bin/python3", "-P", "-m", "taskproc.engine.worker", "/cache/jobs/1 a"]
JOB = Job(
    key=TaskKey("taskfile.Train", "ab" * 16),
    task_id=int("ab" * 16, 16),
    args={"n": 1},
    labels=("taskfile.Train", "gpu"),
    label="gpu",
    root="/cache",
    project="/home/me/project",
    directory="/cache/taskfile.Train/data",
    job_directory="/cache/jobs/1",
    name="train-abab",
)

# A stand-in for the three commands: it notes its words, and runs the job's.
STUB = """#!{python}
import json, os, sys
with open(os.environ["STUB_LOG"], "a") as log:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=log)
print(os.environ.get("STUB_SAYS", ""), file=sys.stderr)
if "STUB_EXITS" in os.environ:
    sys.exit(int(os.environ["STUB_EXITS"]))
if "bkill" not in sys.argv[0]:
    start = next(at for at, word in enumerate(sys.argv) if word in ("env", {python!r}))
    words = sys.argv[start:]
    os.execvp(words[0], words)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`bsub`, `jbsub` and `bkill` on PATH; returns the file in which they note their words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bsub", "jbsub", "bkill"):
        (folder / name).write_text(STUB.format(python=sys.executable))
        (folder / name).chmod(0o755)
    log = tmp_path / "calls.jsonl"
    log.touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STUB_LOG", str(log))
    return log


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


class TestLsfLauncherKeepsTheContract(LauncherContract):
    def make(self) -> LsfLauncher:
        return LsfLauncher(queue="normal", cores=4, mem="16GB", extra=("-app", "ml"))


class TestJbsubLauncherKeepsTheContract(LauncherContract):
    def make(self) -> JbsubLauncher:
        return JbsubLauncher(queue="x86_1h", cores=16, gpus=1, mem="64g")


def test_the_plain_command_line_of_bsub() -> None:
    assert LsfLauncher().command(ARGV, JOB) == [
        *("bsub", "-K", "-J", "train-abab", "-o", "/cache/jobs/1/lsf.txt", "-n", "1"),
        *ARGV,
    ]


def test_the_command_line_of_bsub_with_every_option() -> None:
    launcher = LsfLauncher(
        queue="normal", cores=4, mem="16GB", project="p 1", time="4:00", gpus=2, extra=("-app", "ml")
    )
    assert launcher.needs == ("bsub", "bkill")
    assert launcher.command(ARGV, JOB) == [
        *("bsub", "-K", "-J", "train-abab", "-o", "/cache/jobs/1/lsf.txt", "-q", "normal", "-n", "4"),
        *("-R", "span[hosts=1]", "-M", "16GB", "-R", "rusage[mem=16GB]", "-gpu", "num=2", "-W", "4:00"),
        *("-P", "p 1", "-app", "ml"),
        *ARGV,
    ]


def test_the_plain_command_line_of_jbsub() -> None:
    assert JbsubLauncher().command(ARGV, JOB) == [
        *("jbsub", "-wait", "-name", "train-abab", "-cores", "1"),
        *ARGV,
    ]


def test_the_command_line_of_jbsub_with_every_option() -> None:
    launcher = JbsubLauncher(
        queue="x86_1h", cores=16, gpus=1, mem="64g", project="p", extra=("-proj2", "a b")
    )
    assert launcher.needs == ("jbsub", "bkill")
    assert launcher.command(ARGV, JOB) == [
        *("jbsub", "-wait", "-name", "train-abab", "-queue", "x86_1h", "-cores", "16+1", "-mem", "64g"),
        *("-proj", "p", "-proj2", "a b"),
        *ARGV,
    ]


@pytest.mark.parametrize("launcher", [LsfLauncher(), JbsubLauncher()], ids=["lsf", "jbsub"])
def test_hundreds_of_clients_may_wait_at_once(launcher: LsfLauncher | JbsubLauncher) -> None:
    assert launcher.max_jobs is None
    assert launcher.default_max_jobs == 500


@pytest.mark.parametrize("launcher", [LsfLauncher, JbsubLauncher])
def test_less_than_one_core_is_refused(launcher: type[LsfLauncher] | type[JbsubLauncher]) -> None:
    with pytest.raises(ComponentOptionError, match=f"launcher {launcher.name}: cores=0"):
        launcher(cores=0)


@pytest.mark.parametrize("launcher", [LsfLauncher(), JbsubLauncher()], ids=["lsf", "jbsub"])
def test_each_job_is_cancelled_by_its_name(launcher: LsfLauncher | JbsubLauncher, stub: Path) -> None:
    launcher.cancel([replace(JOB, name=f"job-{i}") for i in range(20)])
    assert sorted(calls(stub)) == sorted(["bkill", "-J", f"job-{i}"] for i in range(20))


def test_cancelling_nothing_calls_nothing(stub: Path) -> None:
    LsfLauncher().cancel([])
    assert calls(stub) == []


def test_a_job_that_has_ended_already_is_no_fault(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_SAYS", "Job <17>: Job has already finished")
    monkeypatch.setenv("STUB_EXITS", "255")
    LsfLauncher().cancel([JOB])
    assert len(calls(stub)) == 1


def test_a_failed_cancel_warns_once_with_what_was_said(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_SAYS", "LSF is down")
    monkeypatch.setenv("STUB_EXITS", "255")
    with pytest.warns(PluginWarning, match="2 of 2 LSF jobs.*bkill -J train-abab: LSF is down") as caught:
        LsfLauncher().cancel([JOB, JOB])
    assert len(caught) == 1


def test_a_cancel_without_bkill_warns_and_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.warns(PluginWarning, match="bkill"):
        JbsubLauncher().cancel([JOB])


@pytest.mark.parametrize(
    ("returncode", "stderr", "words"),
    [
        (255, "nosuch: No such queue. Job not submitted.\n", "No such queue"),
        (255, "", "submission failed"),
        (126, "", "killed while it was pending"),
        (127, "", "has no"),
        (137, "", "SIGKILL (137): it passed a memory or run time limit"),
        (139, "", "it crashed"),
        (140, "", "SIGUSR2"),
    ],
)
def test_exit_codes_are_explained(returncode: int, stderr: str, words: str) -> None:
    for launcher in (LsfLauncher(), JbsubLauncher()):
        assert words in launcher.explain(returncode, stderr)


@pytest.mark.parametrize("returncode", [0, 1, 7, -9])
def test_what_lsf_does_not_define_is_left_unexplained(returncode: int) -> None:
    assert LsfLauncher().explain(returncode, "<<Waiting for dispatch ...>>") == ""


@pytest.mark.parametrize("launcher", [LsfLauncher(), JbsubLauncher()], ids=["lsf", "jbsub"])
def test_the_jobs_words_arrive_unaltered(launcher: LsfLauncher | JbsubLauncher, stub: Path) -> None:
    words = ["a b", '"', "$HOME", "", "\n", "ü"]
    argv = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *words]
    command = launcher.command(argv, JOB)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == words
    assert calls(stub) == [command]


class Where(Task):
    task_label = "queue"

    def __init__(self, number: int):
        self.number = number

    def run_task(self) -> tuple[int, str]:
        return self.number, os.environ.get("STUB_LOG", "")


@pytest.mark.parametrize("launcher", [LsfLauncher(), JbsubLauncher()], ids=["lsf", "jbsub"])
def test_a_task_runs_in_the_queue_and_its_result_comes_back(
    launcher: LsfLauncher | JbsubLauncher, stub: Path, tmp_path: Path
) -> None:
    with Cache(tmp_path / "a cache"):
        answer, _ = Where(3).run_graph(launchers={"queue": launcher})
    assert answer == (3, str(stub))
    (call,) = calls(stub)
    assert call[0] == launcher.needs[0]


def test_a_refused_submission_is_told_in_the_failure(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SAYS", "nosuch: No such queue. Job not submitted.")
    monkeypatch.setenv("STUB_EXITS", "255")
    with Cache(tmp_path / "cache"), pytest.raises(FailedTaskError, match=r"LSF did not take the job.*nosuch"):
        Where(4).run_graph(launchers={"queue": LsfLauncher(queue="nosuch")})


def test_options_are_read_from_the_text_of_a_flag() -> None:
    assert make_component(LAUNCHER, LsfLauncher, "queue=normal,cores=4,mem=16GB,time=4:00") == LsfLauncher(
        queue="normal", cores=4, mem="16GB", time="4:00"
    )
    assert make_component(LAUNCHER, JbsubLauncher, "queue=x86_1h,cores=16,gpus=1") == JbsubLauncher(
        queue="x86_1h", cores=16, gpus=1
    )
