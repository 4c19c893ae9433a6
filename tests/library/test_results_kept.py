"""What a run leaves: answers, statistics, logs, data directories, files that anybody can read."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Const, Future, MissingResultError, Plan, Task
from taskproc.core.definition import task_labels
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Reporter, RunReport


class Choose(Task):
    def __init__(self, n: int, k: int) -> None:
        self.left: Future[int]
        self.right: Future[int]
        if 0 < k < n:
            self.left = Choose(n - 1, k - 1)
            self.right = Choose(n - 1, k)
        elif k in (0, n):
            self.left, self.right = Const(0), Const(1)
        else:
            raise ValueError(f"{(n, k)}")

    def run_task(self) -> int:
        return self.left.get_result() + self.right.get_result()


class Prints(Task):
    def __init__(self, text: str) -> None:
        self.text = text

    def run_task(self) -> None:
        print(self.text)
        print(self.text.upper(), file=sys.stderr)
        subprocess.run(["sh", "-c", "echo child; echo child err >&2"], check=True)


class Writes(Task):
    """Leaves a file, and returns what it found when it started and where it wrote."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.early = str(self.task_directory)

    def run_task(self) -> tuple[list[str], str, bool]:
        found = sorted(os.listdir(self.task_directory))
        (self.task_directory / self.name).write_text("data")
        return found, str(self.task_directory), str(self.task_directory) == self.early


class ReadsData(Task):
    def __init__(self) -> None:
        self.up = Writes("a.txt")

    def run_task(self) -> str:
        return (self.up.task_directory / "a.txt").read_text()


class Level(Task):
    def __init__(self, level: int) -> None:
        self.level = level

    def run_task(self) -> str:
        return "taskproc " * 5000


class Stored(Level):
    task_compress_level = 0


class Quick(Level):
    task_compress_level = 1


def result_file(cache: Cache, cls: type[Task]) -> Path:
    (found,) = [
        path for path in Path(cache.location).rglob("result.pkl.gz") if path.parts[-3] == cls.task_name
    ]
    return found


# --- Statistics and plans ---


def test_stats_count_the_tasks_executed_in_this_run(cache: Cache) -> None:
    name = Choose.task_name
    answer, first = Choose(6, 3).run_graph(max_workers=2)
    assert answer == 20
    assert first["stats"] == {name: 15}
    assert sum(first["cached"].values()) == 0
    answer, second = Choose(6, 3).run_graph()
    assert answer == 20
    assert sum(second["stats"].values()) == 0
    assert second["cached"] == {name: 15}
    Choose(3, 3).clear_task()
    answer, third = Choose(6, 3).run_graph(max_workers=2)
    assert answer == 20
    assert third["stats"] == {name: 4}
    assert third["cached"] == {name: 11}


def test_stats_are_json_and_hold_counts_and_seconds_by_task_name(cache: Cache) -> None:
    _, stats = Choose(3, 1).run_graph(executor="serial")
    assert json.loads(json.dumps(stats)) == stats
    assert stats.keys() == {
        "stats", "cached", "failed", "waiting_seconds", "running_seconds", "total_seconds", "elapsed_seconds"
    }  # fmt: skip
    name = Choose.task_name
    total = stats["waiting_seconds"][name] + stats["running_seconds"][name]
    assert stats["total_seconds"][name] == pytest.approx(total)
    assert 0 < stats["running_seconds"][name] <= stats["elapsed_seconds"]


def test_reporters_get_the_same_stats_in_their_report(cache: Cache) -> None:
    reports: list[RunReport] = []

    class Keeps(Reporter):
        name = "keeps"

        @hookimpl
        def taskproc_run_finished(self, report: RunReport) -> None:
            reports.append(report)

    _, stats = Choose(3, 1).run_graph(executor="serial", reporters=[Keeps()])
    assert [report.stats for report in reports] == [stats]
    assert reports[0].status == "finished"


def test_plan_runs_nothing_and_writes_nothing(cache: Cache, tmp_path: Path) -> None:
    plan = Choose(6, 3).plan()
    assert isinstance(plan, Plan)
    assert plan.run_counts == {Choose.task_name: 15}
    assert {reason.kind for reason in plan.run.values()} == {"missing"}
    assert list(tmp_path.iterdir()) == []
    Choose(6, 3).run_graph(executor="serial")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert Choose(6, 3).plan().run == {}
    assert Choose(6, 3).plan(force=True).run_counts == {Choose.task_name: 1}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_force_runs_the_entry_task_alone(cache: Cache) -> None:
    Choose(4, 2).run_graph(executor="serial")
    _, stats = Choose(4, 2).run_graph(executor="serial", force=True)
    assert stats["stats"] == {Choose.task_name: 1}


def test_a_diamond_runs_each_task_once(cache: Cache, tmp_path: Path) -> None:
    log = tmp_path / "log"

    class Node(Task):
        def __init__(self, name: str, ups: list[str]) -> None:
            self.name = name
            self.ups = [Node("base", []) for _ in ups]

        def run_task(self) -> None:
            with open(log, "a") as stream:
                stream.write(f"{self.name}\n")

    Node("top", ["a", "b", "c"]).run_graph(max_workers=2)
    assert log.read_text().split() == ["base", "top"]


# --- Missing and cleared results ---


def test_get_result_without_a_result_says_how_to_get_one(cache: Cache) -> None:
    with pytest.raises(MissingResultError, match=r"Choose\(n=6, k=3\) has no stored result.*run_graph\(\)"):
        Choose(6, 3).get_result()
    with pytest.raises(LookupError):
        Choose(6, 3).get_result()


def test_clear_task_forgets_one_task_and_clear_all_tasks_its_class(cache: Cache) -> None:
    Choose(4, 2).run_graph(executor="serial")
    Stored(1).run_graph(executor="serial")
    Choose(4, 2).clear_task()
    with pytest.raises(MissingResultError):
        Choose(4, 2).get_result()
    assert Choose(3, 2).get_result() == 3
    Choose.clear_all_tasks()
    assert Choose(4, 2).plan().cached == []
    assert Stored(1).get_result()


def test_clearing_what_was_never_run_is_no_error(cache: Cache) -> None:
    Choose(4, 2).clear_task()
    Choose.clear_all_tasks()


# --- Data directories ---


def test_a_task_directory_is_empty_at_first_and_kept_with_the_result(cache: Cache) -> None:
    task = Writes("a.txt")
    (found, where, same), _ = task.run_graph(max_workers=1)
    assert found == []
    assert same
    assert where == str(task.task_directory)
    assert os.listdir(task.task_directory) == ["a.txt"]
    assert task.run_graph()[1]["stats"] == {}


def test_a_task_directory_in_init_is_a_path_that_is_not_made(cache: Cache, tmp_path: Path) -> None:
    task = Writes("a.txt")
    assert Path(task.early).is_absolute()
    assert not Path(task.early).exists()
    assert list(tmp_path.iterdir()) == []
    assert task.task_directory.is_dir()
    assert str(task.task_directory) == task.early


def test_a_rerun_starts_with_an_empty_task_directory_at_the_same_path(cache: Cache) -> None:
    task = Writes("a.txt")
    task.run_graph(executor="serial")
    before = task.task_directory
    (before / "left.txt").write_text("left over")
    (found, where, _), stats = task.run_graph(executor="serial", force=True)
    assert stats["stats"] == {Writes.task_name: 1}
    assert found == []
    assert where == str(before)
    assert os.listdir(before) == ["a.txt"]


def test_a_directory_held_since_before_clear_task_lists_as_empty_after_it(cache: Cache) -> None:
    task = Writes("a.txt")
    task.run_graph(executor="serial")
    held = task.task_directory
    task.clear_task()
    assert os.listdir(held) == []


def test_a_downstream_reads_its_upstreams_directory(cache: Cache) -> None:
    assert ReadsData().run_graph(max_workers=1)[0] == "data"


def test_a_task_whose_data_file_is_gone_runs_again(cache: Cache) -> None:
    task = Writes("a.txt")
    task.run_graph(executor="serial")
    (task.task_directory / "a.txt").unlink()
    assert task.run_graph(executor="serial")[1]["stats"] == {Writes.task_name: 1}
    assert (task.task_directory / "a.txt").exists()


def test_a_failed_rerun_leaves_the_old_data_and_result(cache: Cache, tmp_path: Path) -> None:
    switch = tmp_path / "fail"

    class Fragile(Task):
        def run_task(self) -> str:
            (self.task_directory / "new.txt").write_text("new")
            if switch.exists():
                raise RuntimeError("no")
            return "old answer"

    task = Fragile()
    task.run_graph(executor="serial")
    switch.touch()
    with pytest.raises(RuntimeError):
        task.run_graph(executor="serial", force=True)
    assert task.get_result() == "old answer"
    assert os.listdir(task.task_directory) == ["new.txt"]


# --- Logs ---


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_what_a_task_prints_is_in_its_logs(cache: Cache, executor: str) -> None:
    one, two = Prints("one"), Prints("two")

    class Both(Task):
        def __init__(self) -> None:
            self.ups = [Prints("one"), Prints("two")]

        def run_task(self) -> None: ...

    both = Both()
    both.run_graph(executor=executor, max_workers=2)
    for task, text in ((one, "one"), (two, "two")):
        out, err = task.task_stdout.read_text(), task.task_stderr.read_text()
        assert out.splitlines()[0] == text
        assert err.splitlines()[0] == text.upper()
        if executor == "process":  # what child processes print, only a process of one's own can catch
            assert out == f"{text}\nchild\n"
            assert err == f"{text.upper()}\nchild err\n"
    assert not both.task_stdout.exists()
    assert not both.task_stderr.exists()


def test_the_serial_executor_leaves_the_output_where_it_is(
    cache: Cache, capfd: pytest.CaptureFixture[str]
) -> None:
    Prints("hello").run_graph(executor="serial")
    assert capfd.readouterr().out == "hello\nchild\n"
    assert not Prints("hello").task_stdout.exists()


def test_a_rerun_without_output_leaves_no_old_log(cache: Cache, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"

    class Talks(Task):
        def run_task(self) -> None:
            if not quiet.exists():
                print("talk")

    task = Talks()
    task.run_graph(max_workers=1)
    assert task.task_stdout.read_text() == "talk\n"
    quiet.touch()
    task.run_graph(max_workers=1, force=True)
    assert not task.task_stdout.exists()


# --- Files ---


def test_a_result_is_read_without_this_library(cache: Cache) -> None:
    Choose(4, 2).run_graph(executor="serial")
    values = []
    for path in Path(cache.location).rglob("result.pkl.gz"):
        with gzip.open(path) as stream:
            values.append(pickle.load(stream))
    assert sorted(values) == [1, 1, 1, 1, 2, 3, 3, 6]


def test_the_compress_level_changes_the_file_and_level_0_is_a_valid_gzip(cache: Cache) -> None:
    text = "taskproc " * 5000
    sizes = {}
    for cls in (Stored, Quick, Level):
        assert cls(1).run_graph(executor="serial")[0] == text
        path = result_file(cache, cls)
        with gzip.open(path) as stream:
            assert pickle.load(stream) == text
        sizes[cls.__name__] = path.stat().st_size
    assert sizes["Level"] < sizes["Quick"] < len(text) < sizes["Stored"] < len(text) + 200


def test_a_moved_cache_keeps_its_results_but_for_those_that_name_its_old_place(tmp_path: Path) -> None:
    class Names(Task):
        def run_task(self) -> Path:
            return self.task_directory / "file"

    with Cache(tmp_path / "old"):
        Choose(3, 1).run_graph(executor="serial")
        Names().run_graph(executor="serial")
    (tmp_path / "old").rename(tmp_path / "new")
    with Cache(tmp_path / "new"):
        assert Choose(3, 1).plan().run == {}
        (reason,) = Names().plan().run.values()
        assert reason.kind == "moved"
        answer, _ = Names().run_graph(executor="serial")
    assert answer.is_relative_to(tmp_path / "new")


def test_what_init_reads_from_outside_makes_a_task_stale_but_for_hidden_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reads(Task):
        def __init__(self) -> None:
            self.seen = os.environ["SEEN"]
            self._hidden = os.environ["HIDDEN"]

        def run_task(self) -> str:
            return self.seen

    def run(seen: str, hidden: str) -> tuple[str, int]:
        monkeypatch.setenv("SEEN", seen)
        monkeypatch.setenv("HIDDEN", hidden)
        with Cache(tmp_path / "cache"):
            answer, stats = Reads().run_graph(executor="serial")
        return answer, sum(stats["stats"].values())

    assert run("a", "x") == ("a", 1)
    assert run("a", "y") == ("a", 0)
    assert run("b", "y") == ("b", 1)


def test_a_task_folder_removed_by_hand_is_computed_again(cache: Cache) -> None:
    Choose(3, 1).run_graph(executor="serial")
    shutil.rmtree(Path(cache.location) / Choose.task_name)
    assert Choose(3, 1).run_graph(executor="serial")[1]["stats"] == {Choose.task_name: 5}


def test_a_result_may_hold_a_task_a_class_and_a_function(cache: Cache) -> None:
    class Things(Task):
        def __init__(self) -> None:
            self.up = Choose(2, 1)

        def run_task(self) -> Any:
            class Local:
                value = 5

            return self.up, Local, lambda x: x + 1

    things, local, function = Things().run_graph(max_workers=1)[0]
    assert things is Choose(2, 1)
    assert things.get_result() == 2
    assert local.value == 5
    assert function(1) == 2


def test_a_tasks_own_name_is_always_its_label(cache: Cache) -> None:
    class One(Task):
        task_label = "gpu"

        def run_task(self) -> None: ...

    class Two(Task):
        task_label = ["gpu", "memory", "gpu"]

        def run_task(self) -> None: ...

    assert task_labels(Choose) == (Choose.task_name,)
    assert task_labels(One) == (One.task_name, "gpu")
    assert task_labels(Two) == (Two.task_name, "gpu", "memory")
