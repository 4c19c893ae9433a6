"""InputFile: a file's path is in the key, its content is a version; times count for nothing."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Future, FutureDict, FutureList, InputFile, Task
from taskproc.errors import ArgumentError, InputChangedWarning, MissingInputError

LONG_AGO = 1_000_000_000


class Reads(Task):
    """Made in `__init__`, from a plain argument."""

    def __init__(self, path: str) -> None:
        self.file = InputFile(path)

    def run_task(self) -> str:
        return self.file.get_result().read_text()


class Wanders(Task):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def run_task(self) -> None:
        os.chdir(self.folder)


class ReadsLater(Reads):
    def __init__(self, path: str, upstream: Task) -> None:
        super().__init__(path)
        self.upstream = upstream


class Takes(Task):
    """An argument."""

    def __init__(self, file: Future[Path]) -> None:
        self.file = file

    def run_task(self) -> str:
        return self.file.get_result().read_text()


class Gathers(Task):
    """Inside containers."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def run_task(self) -> list[str]:
        found = self.files.get_result() if hasattr(self.files, "get_result") else self.files
        files = found.values() if isinstance(found, dict) else found
        paths = [file.get_result() if isinstance(file, InputFile) else file for file in files]
        return sorted(path.read_text() for path in paths)


class Shouts(Task):
    task_label = "loud"

    def __init__(self, upstream: Future[str]) -> None:
        self.upstream = upstream

    def run_task(self) -> str:
        return self.upstream.get_result().upper()


class Changes(Task):
    """Writes to its own input file, as an editor might meanwhile."""

    def __init__(self, path: str) -> None:
        self.file = InputFile(path)

    def run_task(self) -> str:
        path = self.file.get_result()
        text = path.read_text()
        if text.startswith("old"):
            path.write_text("new" + text[3:])
        return text


class Sees(Task):
    """Has the InputFile of an upstream, not the upstream's result."""

    def __init__(self, path: str) -> None:
        self.reads = Reads(path)
        self.file = self.reads.file

    def run_task(self) -> str:
        return f"{self.reads.get_result()}|{self.file.get_result().read_text()}"


def ran(task: Any, **options: Any) -> tuple[Any, int]:
    answer, stats = task.run_graph(**{"executor": "serial", **options})
    return answer, sum(stats["stats"].values())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text("one")
    return path


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(path: str) -> list[Task]:
    file = InputFile(path)
    return [
        Reads(path),
        Takes(file),
        Gathers([file]),
        Gathers({"a": file}),
        Gathers((file,)),
        Gathers(FutureList([file])),
        Gathers(FutureDict({"a": file})),
    ]


@pytest.mark.parametrize("number", range(7))
def test_new_content_makes_the_task_stale_however_it_has_the_file(
    cache: Cache, file: Path, number: int
) -> None:
    task = made(str(file))[number]
    assert ran(task)[1] == 1
    assert ran(task)[1] == 0
    file.write_text("two")
    answer, count = ran(task)
    assert (answer in ("two", ["two"]), count) == (True, 1)
    assert ran(task)[1] == 0


@pytest.mark.parametrize("number", range(7))
def test_the_same_content_at_another_time_leaves_the_result_standing(
    cache: Cache, file: Path, number: int
) -> None:
    task = made(str(file))[number]
    ran(task)
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert ran(task)[1] == 0
    file.unlink()
    file.write_text("one")
    assert ran(task)[1] == 0


@pytest.mark.parametrize("waits", [False, True])
def test_other_content_of_the_same_size_and_time_is_other_content(
    cache: Cache, file: Path, waits: bool
) -> None:
    os.utime(file, (LONG_AGO, LONG_AGO))
    if waits:  # until the file counts as being at rest, so that its state is trusted
        time.sleep(2.1)
    assert ran(Reads(str(file))) == ("one", 1)
    assert ran(Reads(str(file))) == ("one", 0)
    file.write_text("two")
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert ran(Reads(str(file))) == ("two", 1)


def test_a_file_replaced_by_another_of_the_same_times_is_read_again(
    cache: Cache, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("two")
    for path in (file, other):
        os.utime(path, (LONG_AGO, LONG_AGO))
    time.sleep(2.1)
    assert ran(Reads(str(file))) == ("one", 1)
    other.replace(file)
    assert ran(Reads(str(file))) == ("two", 1)


def test_an_unchanged_file_at_rest_is_read_once_only(
    cache: Cache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    os.utime(file, (LONG_AGO, LONG_AGO))
    time.sleep(2.1)
    readings = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *words: readings.append(1) or real(*words))
    ran(Reads(str(file)))
    for _ in range(3):
        Reads(str(file)).plan()
    assert len(readings) == 1


def test_what_stands_below_a_task_with_a_file_follows_its_content(cache: Cache, file: Path) -> None:
    assert ran(Shouts(Reads(str(file)))) == ("ONE", 2)
    file.write_text("two")
    assert ran(Shouts(Reads(str(file)))) == ("TWO", 2)


def test_the_path_is_in_the_key_and_the_content_is_not(cache: Cache, file: Path, tmp_path: Path) -> None:
    before = Takes(InputFile(file)).task_id
    file.write_text("two")
    assert Takes(InputFile(file)).task_id == before
    assert Takes(InputFile(str(file))) is Takes(InputFile(file))
    (tmp_path / "copy.txt").write_text("two")
    assert Takes(InputFile(tmp_path / "copy.txt")).task_id != before


def test_a_file_is_not_mixed_up_with_its_name_nor_with_a_path(cache: Cache, file: Path) -> None:
    keys = {Gathers([thing]).task_id for thing in (InputFile(file), str(file), file)}
    keys.add(Gathers([{"__input_file__": str(file)}]).task_id)
    assert len(keys) == 4


def test_the_same_file_twice_is_one_content(cache: Cache, file: Path) -> None:
    task = Gathers([InputFile(file), InputFile(file)])
    assert ran(task) == (["one", "one"], 1)
    assert ran(task)[1] == 0
    record = task.get_record()
    assert record is not None
    assert len(record.upstreams) == 2
    file.write_text("two")
    assert ran(task) == (["two", "two"], 1)


def test_an_argument_comes_back_as_the_file_that_was_given(cache: Cache, file: Path) -> None:
    task = Takes(InputFile(file))
    assert task.task_args == {"file": {"__input_file__": str(file)}}
    assert task.get_arguments() == {"file": InputFile(file)}
    assert pickle.loads(pickle.dumps(InputFile(file))) == InputFile(file)
    assert InputFile(file).to_json() == {"__input_file__": str(file)}
    assert list(InputFile(file).get_upstreams()) == []


# --- files that can't be had ---


def test_a_missing_file_is_bad_input_before_anything_runs(cache: Cache, file: Path) -> None:
    class Counts(Task):
        def __init__(self) -> None:
            self.good = Takes(InputFile(file))
            self.bad = Reads(str(file) + ".gone")

        def run_task(self) -> None: ...

    with pytest.raises(MissingInputError, match=r"data\.txt\.gone.*does not exist"):
        Counts().run_graph(executor="serial")
    assert not Takes(InputFile(file)).is_cached()
    with pytest.raises(FileNotFoundError):
        Counts().run_graph(executor="serial")


def test_a_plan_says_what_is_blocked_and_what_is_not(cache: Cache, file: Path) -> None:
    class Both(Task):
        def __init__(self) -> None:
            self.good = Takes(InputFile(file))
            self.bad = Shouts(Reads(str(file) + ".gone"))

        def run_task(self) -> None: ...

    plan = Both().plan()
    kinds = {key.name.rpartition(".")[2]: reason.kind for key, reason in plan.blocked.items()}
    assert kinds == {"Reads": "input_missing", "Shouts": "upstream_blocked", "Both": "upstream_blocked"}
    assert [key.name.rpartition(".")[2] for key in plan.run] == ["Takes"]
    assert not plan.is_idle
    assert not Both().is_cached()


def test_a_result_is_not_answered_once_its_file_is_gone(cache: Cache, file: Path) -> None:
    """Nobody can tell whether it would still be right."""
    ran(Reads(str(file)))
    file.unlink()
    assert not Reads(str(file)).is_cached()
    with pytest.raises(MissingInputError):
        Reads(str(file)).run_graph(executor="serial")
    file.write_text("one")
    assert Reads(str(file)).is_cached()


def test_a_folder_is_refused_by_name(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="is a directory"):
        Reads(str(tmp_path)).run_graph(executor="serial")


def test_a_pipe_is_refused_and_not_waited_for(cache: Cache, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MissingInputError, match="not a regular file"):
        Reads(str(tmp_path / "pipe")).run_graph(executor="serial")


def test_a_circle_of_links_is_told_as_what_it_is(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(MissingInputError, match="can't be read"):
        Reads(str(tmp_path / "loop")).run_graph(executor="serial")


def test_a_file_below_a_file_is_told_as_what_it_is(cache: Cache, file: Path) -> None:
    with pytest.raises(MissingInputError, match="Not a directory"):
        Reads(f"{file}/below").run_graph(executor="serial")


@pytest.mark.parametrize("path", ["", "a\0b", 3, None, b"bytes", ["list"]])
def test_what_is_no_path_is_refused_at_once(path: Any) -> None:
    with pytest.raises(ArgumentError, match="give the path of a file"):
        InputFile(path)


@pytest.mark.parametrize("name", ["with blank", "quo'te\"", "ünï", "new\nline", "~", "$HOME", "-x", "a:b"])
def test_a_name_is_taken_as_it_is(cache: Cache, workdir: Path, name: str) -> None:
    (workdir / name).write_text("odd")
    assert ran(Reads(name)) == ("odd", 1)
    (workdir / name).write_text("other")
    assert ran(Reads(name)) == ("other", 1)


# --- places ---


def test_a_relative_path_counts_from_the_working_directory_of_the_run(
    cache: Cache, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (workdir / name).mkdir()
        (workdir / name / "data.txt").write_text(name)
    monkeypatch.chdir(workdir / "a")
    task = Reads("data.txt")
    assert ran(task, executor="process") == ("a", 1)
    monkeypatch.chdir(workdir / "b")
    assert ran(task, executor="process") == ("b", 1)
    monkeypatch.chdir(workdir / "a")
    assert ran(Reads("data.txt")) == ("a", 1)


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_an_upstream_that_changes_the_working_directory_leads_to_no_other_file(
    cache: Cache, workdir: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.chdir(workdir)
    (workdir / "data.txt").write_text("right")
    (workdir / "below").mkdir()
    (workdir / "below" / "data.txt").write_text("wrong")
    assert ran(ReadsLater("data.txt", Wanders(str(workdir / "below"))), executor=executor) == ("right", 2)
    monkeypatch.chdir(workdir)
    assert ran(ReadsLater("data.txt", Wanders(str(workdir / "below")))) == ("right", 0)


def test_a_project_may_be_moved_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.txt").write_text("one")
    monkeypatch.chdir(tmp_path / "here")
    with Cache("cache"):
        assert ran(Reads("data.txt")) == ("one", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    with Cache("cache"):
        assert ran(Reads("data.txt")) == ("one", 0)


def test_a_link_counts_by_what_it_leads_to(cache: Cache, workdir: Path) -> None:
    (workdir / "one").write_text("one")
    (workdir / "two").write_text("two")
    (workdir / "link").symlink_to("one")
    assert ran(Reads("link")) == ("one", 1)
    (workdir / "link").unlink()
    (workdir / "link").symlink_to("two")
    assert ran(Reads("link")) == ("two", 1)
    (workdir / "two").write_text("three")
    assert ran(Reads("link")) == ("three", 1)


def test_the_folder_above_a_linked_one_is_the_one_that_is_read(cache: Cache, workdir: Path) -> None:
    """`link/..` is the folder above the one that the link leads to, not the one the link is in."""
    (workdir / "far" / "folder").mkdir(parents=True)
    (workdir / "link").symlink_to(workdir / "far" / "folder")
    (workdir / "data.txt").write_text("near")
    (workdir / "far" / "data.txt").write_text("far")
    assert ran(Reads("link/../data.txt")) == ("far", 1)
    (workdir / "far" / "data.txt").write_text("changed")
    assert ran(Reads("link/../data.txt")) == ("changed", 1)
    (workdir / "data.txt").write_text("of no account")
    assert ran(Reads("link/../data.txt")) == ("changed", 0)


def test_outside_of_a_run_the_result_is_the_path(cache: Cache, workdir: Path) -> None:
    assert InputFile("data.txt").get_result() == workdir / "data.txt"
    assert InputFile("/x/y").get_result() == Path("/x/y")


# --- where the task runs ---


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "serial"},
        {"executor": "thread"},
        {"executor": "process"},
        {"executor": "serial", "prefixes": {"loud": "env"}},
    ],
)
def test_wherever_the_task_runs_it_reads_and_rests_on_the_same_file(
    cache: Cache, workdir: Path, options: dict[str, Any]
) -> None:
    class Main(Task):
        task_label = "loud"

        def __init__(self) -> None:
            self.files = FutureList([InputFile("data.txt"), InputFile(workdir / "data.txt")])
            self.shouts = Shouts(Takes(InputFile("data.txt")))

        def run_task(self) -> list[str]:
            return [*(path.read_text() for path in self.files.get_result()), self.shouts.get_result()]

    (workdir / "data.txt").write_text("one")
    assert ran(Main(), **options) == (["one", "one", "ONE"], 3)
    assert ran(Main(), **options)[1] == 0
    (workdir / "data.txt").write_text("two")
    assert ran(Main(), **options) == (["two", "two", "TWO"], 3)
    assert ran(Main(), executor="serial")[1] == 0


def test_an_executor_of_ones_own_does_as_ours(cache: Cache, workdir: Path) -> None:
    (workdir / "data.txt").write_text("one")
    with ThreadPoolExecutor(2) as executor:
        assert ran(Reads("data.txt"), executor=executor) == ("one", 1)
    assert ran(Reads("data.txt")) == ("one", 0)


# --- files that change ---


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_a_file_that_changes_while_the_task_runs_is_warned_of_and_vouches_for_nothing(
    cache: Cache, file: Path, executor: str
) -> None:
    file.write_text("old text")
    with pytest.warns(InputChangedWarning, match=r"data\.txt.*changed while .*Changes.* ran"):
        assert ran(Changes(str(file)), executor=executor) == ("old text", 1)
    task = Changes(str(file))
    assert not task.is_cached()
    assert "changed while it ran" in str(task.why())
    file.write_text("old text")  # the very content that the task began with
    assert not task.is_cached()
    with pytest.warns(InputChangedWarning):
        ran(task)
    assert ran(task) == ("new text", 1)
    assert ran(task) == ("new text", 0)


def test_a_file_that_goes_while_the_task_runs_vouches_for_nothing(cache: Cache, file: Path) -> None:
    class Removes(Task):
        def __init__(self) -> None:
            self.file = InputFile(file)

        def run_task(self) -> str:
            text = self.file.get_result().read_text()
            if text == "one":
                self.file.get_result().unlink()
            return text

    with pytest.warns(InputChangedWarning):
        ran(Removes())
    assert not Removes().is_cached()
    file.write_text("two")
    assert ran(Removes()) == ("two", 1)
    assert ran(Removes()) == ("two", 0)


def test_a_file_made_by_an_upstream_while_the_run_goes_on_is_refused_not_guessed(
    cache: Cache, tmp_path: Path
) -> None:
    """An InputFile is there before the run; what a task makes is its result or its data."""
    with pytest.raises(MissingInputError):
        ran(Reads(str(tmp_path / "made later")))


def test_a_file_of_an_upstream_that_one_has_oneself_counts_for_both(cache: Cache, file: Path) -> None:
    assert ran(Sees(str(file))) == ("one|one", 2)
    file.write_text("two")
    assert ran(Sees(str(file))) == ("two|two", 2)


def test_a_big_file_is_read_in_pieces(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as big:
        big.truncate(200 * 1024 * 1024)

    class Sizes(Task):
        def __init__(self) -> None:
            self.file = InputFile(path)

        def run_task(self) -> int:
            return self.file.get_result().stat().st_size

    assert ran(Sizes())[0] == 200 * 1024 * 1024
    with path.open("r+b") as big:
        big.seek(150 * 1024 * 1024)
        big.write(b"x")
    assert ran(Sizes())[1] == 1


def test_another_process_comes_to_the_same_key_and_the_same_version(
    python: Any, write: Any, tmp_path: Path
) -> None:
    write("data.txt", "one")
    script = write(
        "script.py",
        """
import json
from taskproc import Cache, InputFile, Task

class Reads(Task):
    def __init__(self, file):
        self.file = file
    def run_task(self):
        return self.file.get_result().read_text()

if __name__ == "__main__":
    with Cache("cache"):
        answer, stats = Reads(InputFile("data.txt")).run_graph(executor="process")
        print(json.dumps([answer, stats["stats"], Reads(InputFile("data.txt")).task_id]))
""",
    )
    first = python(script)
    second = python(script)
    assert (first[0], second[0]) == ("one", "one")
    assert first[2] == second[2]
    assert sum(first[1].values()) == 1
    assert not any(second[1].values())


def test_results_may_hold_input_files(cache: Cache, file: Path) -> None:
    class Finds(Task):
        def run_task(self) -> Sequence[InputFile]:
            return [InputFile(file)]

    assert ran(Finds())[0] == [InputFile(file)]


def test_a_file_that_is_given_to_a_task_may_be_indexed_by_nobody() -> None:
    with pytest.raises(TypeError):
        InputFile("x")[0]  # type: ignore[index]
