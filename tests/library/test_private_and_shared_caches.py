"""Who may read what a run writes, while it runs and afterwards; caches for a group, and of others."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from taskproc import Cache, Task
from taskproc.engine import job_folder
from taskproc.engine.orders import launched_job
from taskproc.errors import CacheError, FailedTaskError, UnsafeEntryWarning
from taskproc.interfaces import CacheBackend
from taskproc.testing import played_owner

PIPELINE = """
import os, stat, sys
from pathlib import Path
from taskproc import FutureList, Task

ROOT = Path("cache").absolute()


def modes():
    found = {}
    for path in [ROOT, *ROOT.rglob("*")]:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if "data" not in path.relative_to(ROOT).parts[:-1]:  # what a task makes there has its own modes
            found[str(path.relative_to(ROOT))] = (stat.S_ISDIR(status.st_mode), stat.S_IMODE(status.st_mode))
    return found


class Step(Task):
    task_label = "gpu"

    def __init__(self, n):
        self.n = n

    def run_task(self):
        print("so far", flush=True)
        print("so bad", file=sys.stderr, flush=True)
        (self.task_directory / "file").write_text("x")
        if self.n == 1:
            raise ValueError("broken")
        return modes()


class Main(Task):
    def __init__(self):
        self.steps = FutureList([Step(n) for n in range(2)])

    def run_task(self):
        return None


if __name__ == "__main__":
    import json
    from taskproc import Cache

    os.umask(int(sys.argv[1], 8))
    options = json.loads(sys.argv[2])
    with Cache("cache", shared=options.pop("shared", None)):
        try:
            Main().run_graph(on_error="continue", **options)
        except Exception as error:
            assert "broken" in str(error) or "broken" in str(error.exceptions), error
        seen = Step(0).get_result()
    print(json.dumps([seen, modes()]))
"""

WAYS: list[dict[str, Any]] = [
    {"executor": "process"},
    {"executor": "thread"},
    {"executor": "serial"},
    {"executor": "process", "prefixes": {"gpu": "nice -n 1"}},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("mask", ["000", "022", "277", "777"])
@pytest.mark.parametrize("shared", [None, "group"])
def test_every_file_of_a_run_is_private_or_the_groups_whatever_the_umask(
    tmp_path: Path,
    write: Callable[[str, str], Path],
    python: Callable[..., Any],
    way: dict[str, Any],
    mask: str,
    shared: str | None,
) -> None:
    write("pipeline.py", PIPELINE)
    during, after = python("pipeline.py", mask, json.dumps({**way, "shared": shared}))
    assert any("jobs/" in path for path in during) or way["executor"] == "serial"
    for found in (during, after):
        assert {path.split("/")[0] for path in found} >= {"taskproc.json", "jobs", "pipeline.Step"}
        for path, (is_folder, mode) in found.items():
            wanted = 0o700 if is_folder else 0o600
            if shared:
                wanted = 0o2770 if is_folder else 0o660
            told = f"{path}: {mode:o}"
            # While it is being made, a file may be closed to its owner as well, and a job in flight
            # is its run's alone; nothing is ever open to more.
            assert mode & ~wanted == 0, told
            if found is after and not (shared and path.startswith("jobs/")):
                assert mode == wanted, told


# Options of a Cache


class Answer(Task):
    def __init__(self, n: int = 7) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


def test_a_cache_is_shared_by_a_word(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", shared="group"):
        assert Answer().run_graph()[0] == 7
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o2770
    with pytest.raises(CacheError, match=r"shared='group'"):
        Cache(tmp_path / "cache")
    with Cache(f"{tmp_path}/cache?shared=group"):
        assert Answer().run_graph()[1]["stats"] == {}
    with pytest.raises(CacheError, match="give 'group'"):
        Cache(tmp_path / "other", shared="all")  # type: ignore[arg-type]  # pyright: ignore


def test_a_cache_of_another_user_is_refused_unless_trusted(tmp_path: Path) -> None:
    where = tmp_path / "cache"
    with Cache(where):
        Answer().run_graph()
    with played_owner(where):
        with pytest.raises(CacheError, match=r"another user.*trust=True"):
            Cache(where)
        with Cache(where, trust=True):
            assert Answer().get_result() == 7
        with Cache(f"{where}?trust=true"):
            assert Answer().run_graph()[1]["stats"] == {}
    with Cache(where):
        assert Answer().get_result() == 7


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_cache_that_others_can_write_to_is_refused_unless_trusted(tmp_path: Path, mode: int) -> None:
    where = tmp_path / "cache"
    with Cache(where):
        Answer().run_graph()
    where.chmod(mode)
    with pytest.raises(CacheError, match=r"can write to it.*trust=True"):
        Cache(where)
    with Cache(where, trust=True):
        assert Answer().get_result() == 7


def test_a_planted_result_is_computed_again_and_its_code_never_runs(tmp_path: Path) -> None:
    where = tmp_path / "cache"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    with Cache(where) as cache:
        Answer(1).run_graph()
        cache.put(Answer(2), Evil())
        result = cache.backend.log_paths(Answer(2)._task.key).stdout.with_name("result.pkl.gz")
    result.chmod(0o606)
    with Cache(where):
        with pytest.warns(UnsafeEntryWarning, match="every user can write to it"):
            assert Answer(2).run_graph()[0] == 2
    assert not (tmp_path / "owned").exists()


def test_a_backend_that_knows_nothing_of_sharing_says_so(tmp_path: Path) -> None:
    from taskproc.default_plugins.directory_cache import DirectoryCache

    @dataclass(frozen=True)
    class Plain(DirectoryCache):
        name: ClassVar[str] = "plain"

    class Other(CacheBackend):
        name = "other"

    Other.__abstractmethods__ = frozenset()
    with pytest.raises(CacheError, match=r"kind 'other' has no option shared='group'"):
        Cache(Other(), shared="group")  # type: ignore[abstract]
    with pytest.raises(CacheError, match="kind 'other' has no option trust=True"):
        Cache(Other(), trust=True)  # type: ignore[abstract]
    assert Cache(Plain(tmp_path / "cache"), shared="group").backend == Plain(
        tmp_path / "cache", shared="group"
    )


# Data files of a shared cache


def test_another_member_can_read_and_replace_what_a_task_left_in_its_directory(tmp_path: Path) -> None:
    class Model(Task):
        def run_task(self) -> None:
            before = os.umask(0o077)
            (self.task_directory / "deep").mkdir()
            (self.task_directory / "deep" / "run.sh").write_text("x")
            (self.task_directory / "deep" / "run.sh").chmod(0o700)
            (self.task_directory / "link").symlink_to(tmp_path)
            os.umask(before)

    outside = stat.S_IMODE(tmp_path.stat().st_mode)
    with Cache(tmp_path / "cache", shared="group"):
        Model().run_graph(executor="serial")
        data = Model().task_directory
        assert stat.S_IMODE((data / "deep").stat().st_mode) == 0o2770
        assert stat.S_IMODE((data / "deep" / "run.sh").stat().st_mode) == 0o770
        assert stat.S_IMODE(tmp_path.stat().st_mode) == outside
        assert Model().run_graph()[1]["stats"] == {}


# Job files


@pytest.mark.parametrize("name", ["orders.pkl", "outcome.pkl", "job.json"])
def test_a_file_of_a_job_that_others_could_have_written_is_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    job_folder.write(path, b"{}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert job_folder.read_own(path) == b"{}"
    path.chmod(0o620)
    with pytest.raises(PermissionError, match="others can write"):
        job_folder.read_own(path)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        with pytest.raises(PermissionError, match="uid 12345"):
            job_folder.read_own(path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a link"):
        job_folder.read_own(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        job_folder.read_own(path)


def test_orders_that_others_could_have_written_are_not_done(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    job_folder.write(tmp_path / "orders.pkl", pickle.dumps(Evil()))
    (tmp_path / "orders.pkl").chmod(0o606)
    done = subprocess.run(
        [sys.executable, "-m", "taskproc.engine.worker", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "others can write to it" in done.stderr
    assert not (tmp_path / "owned").exists()


# Names


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "a\0b", "x" * 3000, "\u202eevil", ".."])
def test_no_name_of_a_class_and_no_label_leads_out_of_the_cache(tmp_path: Path, name: str) -> None:
    cls = type("Evil", (Task,), {"run_task": lambda self: 1, "__qualname__": name, "__module__": __name__})
    where = tmp_path / "cache"
    with Cache(where) as cache:
        # A name that no class can have is an error when the task is made or pickled.
        with contextlib.suppress(FailedTaskError, ValueError, TypeError):
            task = cls()
            answer, _ = task.run_graph(executor="serial")
            assert answer == 1
            assert task.task_directory.resolve().is_relative_to(where.resolve())
            job = launched_job(task, (name,), name, cache.backend, "0123456789abcdef")
            folder = Path(job.job_directory)
            assert folder.parent == where / "jobs"
            assert job.name.isascii()
            assert "/" not in job.name
            assert len(job.name) < 100
            cls.clear_all_tasks()  # type: ignore[attr-defined]  # pyright: ignore
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


# Logs


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_is_no_file_is_neither_shown_nor_waited_for(tmp_path: Path, kind: str) -> None:
    where = tmp_path / "cache"
    (tmp_path / "private").write_text("nobody's business")
    with Cache(where):
        Answer(1).run_graph()
        log = Answer(1).task_stdout
    if kind == "link":
        log.symlink_to(tmp_path / "private")
    else:
        os.mkfifo(log)
    done = subprocess.run(
        [sys.executable, "-m", "taskproc", "logs", "-o", str(where), "Answer"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("it is a link" if kind == "link" else "no regular file") in done.stderr
    assert "Traceback" not in done.stderr


# Removing


def test_clearing_removes_nothing_from_a_folder_without_our_marker(tmp_path: Path) -> None:
    where = tmp_path / "cache"
    with Cache(where):
        Answer(1).run_graph()
        key = Answer(1)._task.key
        (where / "taskproc.json").unlink()
        (where / "thesis.tex").write_text("years of work")
        before = sorted(where.rglob("*"))
        for attempt in (Answer.clear_all_tasks, Answer(1).clear_task):
            with pytest.raises(CacheError, match=r"nothing is removed.*no taskproc\.json"):
                attempt()
        assert sorted(where.rglob("*")) == before
    for words in (["clear", "-o", str(where), "--all", "--yes"], ["prune", "-o", str(where), "--failures"]):
        done = subprocess.run(
            [sys.executable, "-m", "taskproc", "cache", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert sorted(where.rglob("*")) == before
    assert key.name
