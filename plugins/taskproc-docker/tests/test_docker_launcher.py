"""The docker launcher: its command lines, whole, and what it does through a stub on PATH."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from taskproc_docker import DockerLauncher

from taskproc import Cache, FailedTaskError, Task
from taskproc.errors import ComponentOptionError, PluginWarning, PrefixError
from taskproc.interfaces import Job, TaskKey
from taskproc.registry.components import LAUNCHER, make_component
from taskproc.testing import LauncherContract

ME = f"{os.getuid()}:{os.getgid()}"
ARGV = ["python3", "-P", "-m", "taskproc.engine.worker", "/cache/jobs/1 a"]
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


# A stand-in for docker: it notes its words, and runs what stands behind the image.
STUB = """#!{python}
import json, os, sys
with open(os.environ["STUB_LOG"], "a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
print(os.environ.get("STUB_SAYS", ""), file=sys.stderr)
if "STUB_EXITS" in os.environ:
    sys.exit(int(os.environ["STUB_EXITS"]))
if sys.argv[1] == "run":
    words = sys.argv[sys.argv.index("some/image:1") + 1 :]
    os.execvp(words[0], words)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` on PATH; returns the file in which it notes its words, a JSON list a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "podman"):
        (folder / name).write_text(STUB.format(python=sys.executable))
        (folder / name).chmod(0o755)
    log = tmp_path / "calls.jsonl"
    log.touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STUB_LOG", str(log))
    return log


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def mounts_of(command: list[str]) -> list[dict[str, str]]:
    """The `--mount` texts of a command line, read as the engine reads them."""
    texts = [command[at + 1] for at, word in enumerate(command) if word == "--mount"]
    rows = [next(csv.reader([text], strict=True)) for text in texts]
    return [dict((*field.split("=", 1), "")[:2] for field in row) for row in rows]  # type: ignore[misc]


class TestDockerLauncherKeepsTheContract(LauncherContract):
    def make(self) -> DockerLauncher:
        return DockerLauncher(image="some/image:1", mounts=("/data:/in:ro",), env=("TOKEN",), gpus="all")


def test_the_plain_command_line() -> None:
    assert DockerLauncher(image="some/image:1").command(ARGV, JOB) == [
        *("docker", "run", "--rm", "--init", "--pull", "never", "--network", "none"),
        *("--name", "train-abab", "--user", ME),
        *("--mount", "type=bind,source=/cache,target=/cache"),
        *("--mount", "type=bind,source=/home/me/project,target=/home/me/project"),
        *("--workdir", "/home/me/project"),
        "some/image:1",
        *ARGV,
    ]


def test_the_command_line_with_every_option() -> None:
    launcher = DockerLauncher(
        image="some/image:1",
        python="python3.11",
        engine="/opt/docker",
        user="0:0",
        mounts=("/data:/in:ro", "/scratch"),
        env=("TOKEN", "MODE=fast, not good"),
        network="host",
        gpus="all",
        memory="16g",
        cpus="2",
        extra=("--shm-size", "1g"),
    )
    assert launcher.needs == ("/opt/docker",)
    assert launcher.command(ARGV, JOB) == [
        *("/opt/docker", "run", "--rm", "--init", "--pull", "never", "--network", "host"),
        *("--name", "train-abab", "--user", "0:0"),
        *("--mount", "type=bind,source=/data,target=/in,readonly"),
        *("--mount", "type=bind,source=/scratch,target=/scratch"),
        *("--mount", "type=bind,source=/cache,target=/cache"),
        *("--mount", "type=bind,source=/home/me/project,target=/home/me/project"),
        *("--workdir", "/home/me/project"),
        *("--env", "TOKEN", "--env", "MODE=fast, not good"),
        *("--gpus", "all", "--memory", "16g", "--cpus", "2", "--shm-size", "1g"),
        "some/image:1",
        *ARGV,
    ]


@pytest.mark.parametrize(
    "folder", ["/a b", '/a"b', "/a,b", "/a:b", "/a'b", "/$(reboot)", "/a\nb", "/ü", "/a=b", '/"', "/a "]
)
def test_any_path_is_mounted_as_it_is(folder: str) -> None:
    command = DockerLauncher(image="i").command(ARGV, replace(JOB, root=folder, project=folder))
    texts = [command[at + 1] for at, word in enumerate(command) if word == "--mount"]
    fields = [next(csv.reader(texts[0].splitlines(keepends=True), strict=True))]
    assert fields == [["type=bind", f"source={folder}", f"target={folder}"]]
    assert command[command.index("--workdir") + 1] == folder


def test_a_folder_below_another_is_mounted_once() -> None:
    below = replace(JOB, root="/home/me", project="/home/me/project", job_directory="/home/me/jobs/1")
    assert mounts_of(DockerLauncher(image="i").command(ARGV, below)) == [
        {"type": "bind", "source": "/home/me", "target": "/home/me"}
    ]


def test_a_folder_whose_name_only_begins_alike_is_mounted_too() -> None:
    alike = replace(JOB, root="/cache", project="/cache2", job_directory="/cache/1")
    targets = [mount["target"] for mount in mounts_of(DockerLauncher(image="i").command(ARGV, alike))]
    assert targets == ["/cache", "/cache2"]


def test_a_cache_that_is_a_url_is_not_mounted_but_the_jobs_folder_is() -> None:
    remote = replace(JOB, root="s3://bucket/cache", job_directory="/var/tmp/job")
    targets = [mount["target"] for mount in mounts_of(DockerLauncher(image="i").command(ARGV, remote))]
    assert targets == ["/home/me/project", "/var/tmp/job"]


def test_a_mount_of_the_user_stands_in_for_the_projects_folder() -> None:
    launcher = DockerLauncher(image="i", mounts=("/home/me/project:/home/me/project:ro",))
    assert mounts_of(launcher.command(ARGV, JOB)) == [
        {"type": "bind", "source": "/home/me/project", "target": "/home/me/project", "readonly": ""},
        {"type": "bind", "source": "/cache", "target": "/cache"},
    ]


@pytest.mark.parametrize(
    ("gpus", "word"),
    [
        ("all", "all"),
        ("device=0", "device=0"),
        ("device=0,1", '"device=0,1"'),
        ("1,capabilities=utility", None),
    ],
)
def test_several_gpus_stand_in_quotes(gpus: str, word: str | None) -> None:
    command = DockerLauncher(image="i", gpus=gpus).command(ARGV, JOB)
    assert command[command.index("--gpus") + 1] == (word or gpus)


@pytest.mark.parametrize("mount", ["data", "data:/in", "/data:in", "/a:/b:/c", "/a:/b:rx", "", ":", ":ro"])
def test_a_mount_that_can_not_be_read_is_refused_by_its_text(mount: str) -> None:
    with pytest.raises(ComponentOptionError) as caught:
        DockerLauncher(image="i", mounts=(mount,))
    assert repr(mount) in str(caught.value)
    assert "SOURCE:TARGET" in str(caught.value)


@pytest.mark.parametrize("image", ["", "--privileged"])
def test_an_image_that_is_no_name_is_refused(image: str) -> None:
    with pytest.raises(ComponentOptionError, match="image"):
        DockerLauncher(image=image)


def test_a_variable_without_a_name_is_refused() -> None:
    with pytest.raises(ComponentOptionError, match="=x"):
        DockerLauncher(image="i", env=("=x",))


def test_rootless_podman_keeps_the_users_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    command = DockerLauncher(image="i", engine="podman").command(ARGV, JOB)
    at = command.index("--user")
    assert command[at : at + 4] == ["--user", "1000:100", "--userns", "keep-id"]
    assert "--userns" not in DockerLauncher(image="i").command(ARGV, JOB)


def test_all_jobs_are_cancelled_in_one_call(stub: Path) -> None:
    DockerLauncher(image="i").cancel([replace(JOB, name=f"job-{i}") for i in range(3)])
    assert calls(stub) == [["rm", "--force", "job-0", "job-1", "job-2"]]


def test_thousands_of_jobs_are_cancelled_in_calls_that_fit_a_command_line(stub: Path) -> None:
    DockerLauncher(image="i").cancel([replace(JOB, name=f"{i:060}") for i in range(2500)])
    assert [len(call) - 2 for call in calls(stub)] == [1000, 1000, 500]


def test_cancelling_nothing_calls_nothing(stub: Path) -> None:
    DockerLauncher(image="i").cancel([])
    assert calls(stub) == []


def test_a_container_that_is_gone_already_is_no_fault(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_SAYS", "Error response from daemon: No such container: train-abab")
    monkeypatch.setenv("STUB_EXITS", "1")
    DockerLauncher(image="i").cancel([JOB])
    assert len(calls(stub)) == 1


def test_a_failed_cancel_warns_with_the_line_to_run_by_hand(
    stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SAYS", "Cannot connect to the Docker daemon")
    monkeypatch.setenv("STUB_EXITS", "1")
    with pytest.warns(PluginWarning, match="Cannot connect.*docker rm --force train-abab"):
        DockerLauncher(image="i").cancel([JOB])


def test_a_cancel_without_docker_warns_and_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.warns(PluginWarning, match="docker rm --force train-abab"):
        DockerLauncher(image="i").cancel([JOB])


@pytest.mark.parametrize(
    ("returncode", "stderr", "words"),
    [
        (125, "docker: Error response from daemon: No such image: i:2.", "docker pull i:2"),
        (125, "Unable to find image 'i:2' locally", "docker pull i:2"),
        (125, "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "daemon"),
        (125, 'Conflict. The container name "/x" is already in use', "docker rm -f"),
        (125, "invalid mount config: bind source path does not exist: /x", "does not exist"),
        (125, "unknown flag: --frob", "refused to start the container (125)"),
        (126, "", "can't be executed"),
        (127, "", "no python3 (127)"),
        (137, "", "memory limit of 1g"),
        (143, "", "SIGTERM"),
        (1, "/usr/bin/python3: No module named taskproc", "-m pip install taskproc"),
        (1, "ModuleNotFoundError: No module named 'cloudpickle'", "-m pip install taskproc"),
    ],
)
def test_exit_codes_are_explained(returncode: int, stderr: str, words: str) -> None:
    assert words in DockerLauncher(image="i:2", memory="1g").explain(returncode, stderr)


@pytest.mark.parametrize("returncode", [0, 1, 7, -9])
def test_what_docker_does_not_define_is_left_unexplained(returncode: int) -> None:
    assert DockerLauncher(image="i").explain(returncode, "ValueError: x") == ""


def test_the_stub_runs_what_the_launcher_asks_for(stub: Path, tmp_path: Path) -> None:
    words = ["a b", '"', "$HOME", "", "\n", "ü"]
    argv = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *words]
    command = DockerLauncher(image="some/image:1").command(argv, JOB)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == words
    assert calls(stub) == [command[1:]]


class Where(Task):
    task_label = "box"

    def __init__(self, number: int):
        self.number = number

    def run_task(self) -> tuple[int, str]:
        print("printed in the container")
        return self.number, os.environ.get("STUB_LOG", "")


def test_a_task_runs_behind_docker_and_its_result_comes_back(stub: Path, tmp_path: Path) -> None:
    launcher = DockerLauncher(image="some/image:1", python=sys.executable)
    with Cache(tmp_path / 'a "cache", ü'):
        task = Where(3)
        answer, stats = task.run_graph(launchers={"box": launcher})
        assert answer == (3, str(stub))
        assert list(stats["stats"].values()) == [1]
        assert task.task_stdout.read_text() == "printed in the container\n"
    (call,) = calls(stub)
    targets = [mount["target"] for mount in mounts_of(["docker", *call])]
    assert str(tmp_path / 'a "cache", ü') in targets


def test_a_missing_image_is_named_in_the_failure(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SAYS", "docker: Error response from daemon: No such image: some/image:1.")
    monkeypatch.setenv("STUB_EXITS", "125")
    with Cache(tmp_path / "cache"), pytest.raises(FailedTaskError, match="docker pull some/image:1"):
        Where(4).run_graph(launchers={"box": DockerLauncher(image="some/image:1")})


def test_a_machine_without_docker_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with Cache(tmp_path / "cache"), pytest.raises(PrefixError, match="docker"):
        Where(5).run_graph(launchers={"box": DockerLauncher(image="some/image:1")})


def test_options_are_read_from_the_text_of_a_flag() -> None:
    text = "image=some/image:1,gpus=device=0,1,env=A,env=B=1,mounts=/data:/in:ro,max_jobs=3"
    text += ",extra=--shm-size,extra=1g"
    assert make_component(LAUNCHER, DockerLauncher, text) == DockerLauncher(
        image="some/image:1",
        gpus="device=0,1",
        env=("A", "B=1"),
        mounts=("/data:/in:ro",),
        max_jobs=3,
        extra=("--shm-size", "1g"),
    )
