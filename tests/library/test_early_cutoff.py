"""`early_cutoff`: an upstream that comes to the same content again leaves what is below it standing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Future, FutureList, InputFile, Task
from taskproc.errors import DamagedEntryWarning, FailedTaskError
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Outcome


class Source(Task):
    """What it gives is told from outside of its key and its code: it is run again when told to."""

    def __init__(self, file: str) -> None:
        self.file = file

    def run_task(self) -> str:
        text = Path(self.file).read_text()
        if text == "fail":
            raise RuntimeError("no source")
        return text.lower()


class Named(Task):
    def __init__(self, upstream: Future[str], name: str) -> None:
        self.upstream, self.name = upstream, name

    def run_task(self) -> str:
        return f"{self.name}({self.upstream.get_result()})"


class First(Task):
    """Comes to the same content for many a source."""

    def __init__(self, upstream: Future[str]) -> None:
        self.upstream = upstream

    def run_task(self) -> str:
        return self.upstream.get_result()[:1]


class Joined(Task):
    def __init__(self, upstreams: Iterable[Future[str]]) -> None:
        self.upstreams = FutureList(upstreams)

    def run_task(self) -> str:
        return "+".join(self.upstreams.get_result())


class Fails(Task):
    def __init__(self, upstream: Future[str]) -> None:
        self.upstream = upstream

    def run_task(self) -> str:
        if self.upstream.get_result() == "bad":
            raise RuntimeError("bad")
        return "good"


class Files(Task):
    def __init__(self, source: Source) -> None:
        self.source = source

    def run_task(self) -> str:
        (self.task_directory / "file.txt").write_text(self.source.get_result())
        return "done"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("abc")
    return path


@pytest.fixture
def again(cache: Cache, file: Path) -> Callable[[str], None]:
    """Let the source be computed again, from another text."""

    def clear(text: str) -> None:
        file.write_text(text)
        Source(str(file)).clear_task()

    return clear


def ran(task: Any, **options: Any) -> tuple[Any, dict[str, int]]:
    options = {"executor": "serial", "early_cutoff": True, **options}
    answer, stats = task.run_graph(**options)
    counts = {name.rpartition(".")[2]: count for name, count in stats["stats"].items() if count}
    return answer, counts


Again = Callable[[str], None]


def test_without_it_whatever_is_below_runs_again(cache: Cache, file: Path, again: Again) -> None:
    task = Named(Source(str(file)), "f")
    ran(task)
    again("ABC")
    assert ran(task, early_cutoff=False) == ("f(abc)", {"Source": 1, "Named": 1})


def test_the_same_content_again_stops_the_wave(cache: Cache, file: Path, again: Again) -> None:
    task = Named(Named(Source(str(file)), "f"), "g")
    ran(task)
    again("ABC")
    assert ran(task) == ("g(f(abc))", {"Source": 1})
    assert task.is_cached()


def test_other_content_runs_on_as_far_as_it_makes_a_difference(
    cache: Cache, file: Path, again: Again
) -> None:
    source = Source(str(file))
    task = Joined([Named(First(source), "first"), Named(source, "all")])
    ran(task)
    again("axy")
    assert ran(task) == ("first(a)+all(axy)", {"Source": 1, "First": 1, "Named": 1, "Joined": 1})
    again("bxy")
    assert ran(task) == ("first(b)+all(bxy)", {"Source": 1, "First": 1, "Named": 2, "Joined": 1})


def test_one_side_of_a_diamond_that_changes_is_enough(cache: Cache, file: Path, again: Again) -> None:
    source = Source(str(file))
    task = Joined([First(source), Named(source, "all"), First(source)])
    ran(task)
    again("axy")
    assert ran(task) == ("a+all(axy)+a", {"Source": 1, "First": 1, "Named": 1, "Joined": 1})


def test_two_sources_of_which_one_changes(cache: Cache, tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for path in files:
        path.write_text("abc")
    one, two = (Source(str(path)) for path in files)
    task = Joined([Named(one, "f"), Named(two, "g")])
    ran(task)
    files[1].write_text("xyz")
    one.clear_task()
    two.clear_task()
    assert ran(task) == ("f(abc)+g(xyz)", {"Source": 2, "Named": 1, "Joined": 1})


def test_the_entry_task_that_is_forced_runs_all_the_same(cache: Cache, file: Path, again: Again) -> None:
    task = Named(Named(Source(str(file)), "f"), "g")
    ran(task)
    again("ABC")
    assert ran(task, force=True) == ("g(f(abc))", {"Source": 1, "Named": 1})
    again("ABC")
    assert ran(task, force=False) == ("g(f(abc))", {"Source": 1})


def test_what_was_stale_for_a_reason_of_its_own_runs(cache: Cache, file: Path, again: Again) -> None:
    inner = Named(Source(str(file)), "f")
    task = Named(inner, "g")
    ran(task)
    again("ABC")
    inner.clear_task()
    assert ran(task) == ("g(f(abc))", {"Source": 1, "Named": 1})


def test_an_input_file_that_changed_meanwhile_is_seen_beside_the_upstream(
    cache: Cache, file: Path, again: Again, tmp_path: Path
) -> None:
    class Both(Task):
        def __init__(self) -> None:
            self.upstream = Source(str(file))
            self.file = InputFile(tmp_path / "data.txt")

        def run_task(self) -> str:
            return self.upstream.get_result() + self.file.get_result().read_text()

    (tmp_path / "data.txt").write_text("1")
    ran(Both())
    again("ABC")
    (tmp_path / "data.txt").write_text("2")
    assert ran(Both()) == ("abc2", {"Source": 1, "Both": 1})


def test_a_data_directory_is_part_of_the_content(cache: Cache, file: Path, again: Again) -> None:
    task = Named(Files(Source(str(file))), "f")
    ran(task)
    again("ABC")
    assert ran(task)[1] == {"Source": 1}
    again("xyz")
    assert ran(task)[1] == {"Source": 1, "Files": 1, "Named": 1}, "the result is the same, the file is not"


# --- failures and damage ---


def test_a_failed_upstream_spares_nobody(cache: Cache, file: Path, again: Again) -> None:
    task = Named(Source(str(file)), "f")
    ran(task)
    again("fail")
    for on_error in ("stop", "continue"):
        with pytest.raises((FailedTaskError, ExceptionGroup)):
            ran(task, on_error=on_error)
    assert not task.is_cached()
    again("abc")
    assert ran(task) == ("f(abc)", {"Source": 1})


def test_a_failure_beside_it_leaves_the_spared_spared(cache: Cache, file: Path, again: Again) -> None:
    source = Source(str(file))
    task = Joined([Named(source, "f"), Fails(First(source))])
    ran(task)
    again("ABC")
    assert ran(task) == ("f(abc)+good", {"Source": 1})


def test_a_damaged_result_of_a_spared_task_is_computed_again_when_it_is_needed(
    cache: Cache, file: Path, again: Again
) -> None:
    inner = Named(First(Source(str(file))), "f")
    task = Joined([inner, Source(str(file))])
    ran(task)
    again("axy")
    path = next(Path(cache.location).glob(f"*Named/{inner._task.key.digest}/result.pkl.gz"))
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.warns(DamagedEntryWarning):
        answer, counts = ran(task)
    assert answer == "f(a)+axy"
    assert counts["Named"] == 1
    assert ran(task) == ("f(a)+axy", {})


def test_a_damaged_upstream_of_a_task_that_has_to_run(cache: Cache, file: Path, again: Again) -> None:
    source = Source(str(file))
    task = Named(First(source), "f")
    ran(task)
    task.clear_task()
    path = next(Path(cache.location).glob(f"*First/{First(source)._task.key.digest}/result.pkl.gz"))
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.warns(DamagedEntryWarning):
        assert ran(task) == ("f(a)", {"First": 1, "Named": 1})


# --- who hears of it, and where it runs ---


def test_reporters_hear_that_it_is_unchanged_and_statistics_count_it_as_cached(
    tmp_path: Path, file: Path
) -> None:
    heard: list[Outcome] = []

    class Hears:
        @hookimpl
        def taskproc_job_finished(self, outcome: Outcome) -> None:
            heard.append(outcome)

    with Cache(tmp_path / "cache", plugins=[Hears()]):
        task = Named(Named(Source(str(file)), "f"), "g")
        ran(task)
        heard.clear()
        Source(str(file)).clear_task()
        _, stats = task.run_graph(executor="serial", early_cutoff=True)
    kinds = [(outcome.key.name.rpartition(".")[2], outcome.kind) for outcome in heard]
    assert kinds == [("Source", "finished"), ("Named", "unchanged"), ("Named", "unchanged")]
    assert stats["stats"][Source.task_name] == 1
    assert stats["cached"][Named.task_name] == 2
    assert stats["stats"].get(Named.task_name, 0) == 0
    assert not any(stats["failed"].values())


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_many_tasks_at_once_come_to_the_same(cache: Cache, file: Path, again: Again, executor: str) -> None:
    source = Source(str(file))
    task = Joined([Named(First(source), f"f{n}") for n in range(20)] + [source])
    ran(task, executor=executor)
    again("axy")
    answer, counts = ran(task, executor=executor)
    assert answer.endswith("+f19(a)+axy")
    assert counts == {"Source": 1, "First": 1, "Joined": 1}


def test_a_wide_wave_that_stops_takes_no_slots(cache: Cache, file: Path, again: Again) -> None:
    source = Source(str(file))
    wide = Joined([Named(First(source), f"f{n}") for n in range(300)])
    ran(wide)
    again("axy")
    assert ran(wide, rate_limits={Named.task_name: 1})[1] == {"Source": 1, "First": 1}


SCRIPT = """
import json, sys, time
from pathlib import Path
from taskproc import Cache, Task

class Source(Task):
    def run_task(self):
        with open("ran.txt", "a") as log:
            log.write("source\\n")
        time.sleep(0.3)
        return 1

class Below(Task):
    def __init__(self, n):
        self.n, self.source = n, Source()
    def run_task(self):
        with open("ran.txt", "a") as log:
            log.write(f"below {self.n}\\n")
        return self.source.get_result() + self.n

class All(Task):
    def __init__(self):
        self.below = [Below(n) for n in range(5)]
    def run_task(self):
        return sum(below.get_result() for below in self.below)

if __name__ == "__main__":
    with Cache("cache"):
        if sys.argv[1:] == ["clear"]:
            Source().clear_task()
        answer, stats = All().run_graph(early_cutoff=True, max_workers=2)
        print(json.dumps([answer, sum(stats["stats"].values())]))
"""


def test_several_runners_at_once_compute_the_source_once_and_nothing_below(
    write: Callable[[str, str], Path],
    python: Callable[..., Any],
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    script = write("script.py", SCRIPT)
    assert python(script) == [15, 7]
    (tmp_path / "ran.txt").unlink()
    for path in (tmp_path / "cache").glob("script.Source/*/record.json"):
        os.unlink(path)
    runners = [start(script) for _ in range(3)]
    answers = [runner.communicate(timeout=60) for runner in runners]
    assert [out.splitlines()[-1].partition(",")[0] for out, _ in answers] == ["[15"] * 3, answers
    assert (tmp_path / "ran.txt").read_text().split() == ["source"]


def test_the_command_and_the_file_may_ask_for_it(
    write: Callable[[str, str], Path], environment: dict[str, str], tmp_path: Path
) -> None:
    script = write("tasks.py", SCRIPT + "\nclass Main(All):\n    pass\n")

    def command(*words: str) -> list[str]:
        (tmp_path / "ran.txt").unlink(missing_ok=True)
        for path in (tmp_path / "cache").glob("tasks.Source/*/record.json"):
            os.unlink(path)
        subprocess.run(
            [sys.executable, "-m", "taskproc", str(script), "-o", "cache", "--dont-show-progress", *words],
            cwd=tmp_path, env=environment, check=True, capture_output=True,
        )  # fmt: skip
        return (tmp_path / "ran.txt").read_text().split("\n")[:-1]

    assert len(command()) == 6
    assert command("--early-cutoff") == ["source"]
    assert len(command()) == 6
    script.write_text(
        script.read_text() + "from taskproc import DefaultArguments\n"
        "DefaultArguments(early_cutoff=True).populate()\n"
    )
    assert command() == ["source"]
    assert len(command("--no-early-cutoff")) == 6
