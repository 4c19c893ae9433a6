"""What is fresh is decided by content: no clock, no place and no way of copying makes a difference."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edited_project import EditedProject

from taskproc import Cache, FutureList, InputFile, Task
from taskproc.errors import InputChangedWarning

Write = Callable[[str, str], Path]
Python = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]

LONG_AGO = 1_000_000_000


class Seen(Task):
    """Sees the environment when it is made; its result is the first letter of what it saw."""

    def __init__(self) -> None:
        self.seen = os.environ["SEEN"]

    def run_task(self) -> str:
        return self.seen[0]


class Shown(Task):
    def __init__(self) -> None:
        self.up = Seen()

    def run_task(self) -> str:
        return f"<{self.up.get_result()}>"


class Files(Task):
    """Its result is always the same; its files are what the environment says, as `{name: text}`."""

    def __init__(self) -> None:
        self.files = json.loads(os.environ["FILES"])

    def run_task(self) -> None:
        for name, text in self.files.items():
            path = self.task_directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text[3:])
            else:
                path.write_text(text)


class Listed(Task):
    """What it finds in its upstream's directory."""

    def __init__(self) -> None:
        self.up = Files()

    def run_task(self) -> list[tuple[str, str]]:
        folder = self.up.task_directory
        paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
        return [
            (str(path.relative_to(folder)), os.readlink(path) if path.is_symlink() else path.read_text())
            for path in paths
        ]


class Prints(Task):
    def run_task(self) -> bytes:
        print("printed")
        return os.urandom(2000)


class Everything(Task):
    """A bit of all that there is to be kept: results of several sizes, files, logs."""

    def __init__(self) -> None:
        self.parts = FutureList([Shown(), Listed(), Prints()])

    def run_task(self) -> int:
        return len(self.parts.get_result())


def run(make: Callable[[], Task], where: Path, **options: Any) -> tuple[Any, dict[str, int]]:
    """Make a task in a Cache of its own, and run it; returns the answer, and what ran by class name."""
    with Cache(where):
        answer, stats = make().run_graph(**{"executor": "serial", **options})
    return answer, {name.rpartition(".")[2]: count for name, count in stats["stats"].items()}


def reasons(make: Callable[[], Task], where: Path) -> dict[str, str]:
    """The kind of reason for which each class would run."""
    with Cache(where):
        plan = make().plan()
    return {key.name.rpartition(".")[2]: reason.kind for key, reason in plan.run.items()}


def everything_in(folder: Path) -> list[Path]:
    return [folder, *sorted(folder.rglob("*"))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache goes, and an environment for the tasks that look at it."""
    monkeypatch.setenv("SEEN", "a1")
    monkeypatch.setenv("FILES", json.dumps({"one.txt": "1", "deep/two.txt": "2"}))
    return tmp_path / "cache"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditedProject]:
    made = EditedProject(tmp_path, monkeypatch)
    yield made
    made.forget()


# --- Clocks ---


@pytest.mark.parametrize("which", ["past", "future", "equal", "reversed"])
def test_the_times_of_the_files_do_not_count(place: Path, which: str) -> None:
    run(Everything, place)
    paths = everything_in(place)
    times = sorted((path.lstat().st_mtime_ns for path in paths), reverse=True)
    now = time.time_ns()
    for number, (path, was) in enumerate(zip(paths, times, strict=True)):
        new = {"past": LONG_AGO * 10**9 + number, "future": now + 10**18 + number, "equal": now}.get(
            which, was
        )
        os.utime(path, ns=(new, new), follow_symlinks=False)
    assert reasons(Everything, place) == {}
    assert run(Everything, place)[1] == {}


@pytest.mark.filterwarnings("ignore::taskproc.errors.DamagedEntryWarning")
@pytest.mark.parametrize("seen", ["a1", "b1"])
@pytest.mark.parametrize("indexed", [False, True])
def test_an_older_entry_put_back_under_the_times_and_sizes_of_the_newer_gives_no_wrong_answer(
    place: Path, seen: str, indexed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written into the very same files, so that nothing but their content tells that they are others."""
    answer = f"<{seen[0]}>"
    assert run(Shown, place)[0] == "<a>"
    (record,) = (place / Seen.task_name).glob("*/record.json")
    result = record.with_name("result.pkl.gz")
    older = record.read_bytes(), result.read_bytes()
    monkeypatch.setenv("SEEN", "b1")
    assert run(Shown, place)[0] == "<b>"
    length = max(len(older[0]), record.stat().st_size)
    record.write_bytes(record.read_bytes().rstrip(b"\n").ljust(length - 1) + b"\n")
    run(Shown, place)  # the index now knows the record as it is
    for path, content in zip((record, result), older, strict=True):
        was = path.stat()
        if path == record:
            content = content.rstrip(b"\n").ljust(length - 1) + b"\n"
        path.write_bytes(content)
        assert path.stat().st_size == was.st_size
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    if not indexed:
        next(path for path in place.iterdir() if path.name.startswith("index")).unlink()
    monkeypatch.setenv("SEEN", seen)
    assert run(Shown, place)[0] == answer
    with Cache(place):
        Shown().clear_task()
    assert run(Shown, place)[0] == answer  # now the upstream's result is really read
    assert run(Seen, place)[0] == seen[0]


CLOCK = """
import os, time
_shift = int(os.environ.get("SHIFT", "0"))
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + _shift * 10**9
"""

CLOCKED = """
import json, time
from taskproc import Cache, Task

class Leaf(Task):
    def run_task(self):
        return 1

class Top(Task):
    def __init__(self):
        self.up = Leaf()

    def run_task(self):
        return self.up.get_result(), time.time()

if __name__ == "__main__":
    with Cache("cache"):
        (answer, when), stats = Top().run_graph(max_workers=1)
    print(json.dumps([answer, when, sum(stats["stats"].values())]))
"""


def test_a_clock_set_back_hides_no_edit_and_makes_nothing_stale(
    write: Write, python: Python, environment: dict[str, str], tmp_path: Path
) -> None:
    write("clock/site-packages/sitecustomize.py", CLOCK)  # so that it is no code of the project
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path / "clock" / "site-packages")
    script = write("tasks.py", CLOCKED)
    start = time.time()
    year = 365 * 24 * 3600

    def at(shift: int) -> list[Any]:
        environment["SHIFT"] = str(shift)
        for path in [*everything_in(tmp_path / "cache"), script] if (tmp_path / "cache").exists() else []:
            os.utime(path, (start + shift, start + shift))
        return python(script)  # type: ignore[no-any-return]

    answer, when, ran = at(20 * year)
    assert (answer, ran) == (1, 2)
    assert when > start + 19 * year  # the workers' clock is set, too
    assert at(-20 * year) == [1, when, 0]
    script.write_text(CLOCKED.replace("return 1", "return 2"))
    answer, then, ran = at(-30 * year)
    assert (answer, ran) == (2, 2)
    assert then < start - 29 * year
    assert at(20 * year) == [2, then, 0]
    script.write_text(CLOCKED)
    assert at(0)[::2] == [1, 2]


# --- Copies ---


def through_git(old: Path, new: Path) -> None:
    def git(*words: str | Path) -> None:
        user = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        away = {
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        subprocess.run(
            ["git", *user, *map(str, words)], check=True, capture_output=True, env={**os.environ, **away}
        )

    git("init", "-q", old)
    git("-C", old, "add", "-A")
    git("-C", old, "commit", "-q", "-m", "results")
    git("clone", "-q", old, new)


def through_a_tarball(old: Path, new: Path) -> None:
    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime = 0  # as those do who want one content to give one tarball
        return info

    with tarfile.open(old.with_suffix(".tar"), "w") as tar:
        tar.add(old, new.name, filter=plain)
    with tarfile.open(old.with_suffix(".tar")) as tar:
        tar.extractall(new.parent, filter="data")


def through_zip(old: Path, new: Path) -> None:
    """Loses times below two seconds, and who may read."""
    with zipfile.ZipFile(old.with_suffix(".zip"), "w") as archive:
        for path in everything_in(old):
            archive.write(path, path.relative_to(old))
    with zipfile.ZipFile(old.with_suffix(".zip")) as archive:
        archive.extractall(new)


COPIES: dict[str, Callable[[Path, Path], object]] = {
    "cp -r": lambda old, new: subprocess.run(["cp", "-r", old, new], check=True),
    "cp -a": lambda old, new: subprocess.run(["cp", "-a", old, new], check=True),
    "mv": lambda old, new: old.rename(new),
    "git": through_git,
    "tar": through_a_tarball,
    "zip": through_zip,
}


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """What many distributions have where each user has a group of his own: it may write."""
    was = os.umask(0o002 if os.geteuid() else 0o022)  # the group of root is not taken for one of those
    yield
    os.umask(was)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.usefixtures("usual_umask")
def test_a_copied_cache_is_as_fresh_as_it_was(place: Path, how: str) -> None:
    answer, ran = run(Everything, place)
    assert len(ran) == 6
    new = place.with_name("elsewhere")
    COPIES[how](place, new)
    assert reasons(Everything, new) == {}
    assert run(Everything, new) == (answer, {})


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_cache_notices_edits_as_before(
    place: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Shown, place)
    new = place.with_name("elsewhere")
    COPIES[how](place, new)
    monkeypatch.setenv("SEEN", "b1")
    assert run(Shown, new) == ("<b>", {"Seen": 1, "Shown": 1})
    monkeypatch.setenv("SEEN", "a1")
    if place.exists():
        assert run(Shown, place) == ("<a>", {})  # whatever happens to its copy


def test_an_entry_brought_over_from_a_copy_counts_with_its_own_content(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Shown, place)
    other = place.with_name("other")
    shutil.copytree(place, other)
    monkeypatch.setenv("SEEN", "b1")
    run(Seen, other)
    shutil.rmtree(place / Seen.task_name)
    shutil.copytree(other / Seen.task_name, place / Seen.task_name)
    assert reasons(Shown, place) == {"Shown": "upstreams"}
    assert run(Shown, place) == ("<b>", {"Shown": 1})


class Names(Task):
    """Its result names its own directory, in one way or another."""

    def __init__(self, how: str) -> None:
        self.how = how

    def run_task(self) -> Any:
        path = self.task_directory
        (path / "file").touch()
        return {
            "path": path,
            "text": str(path),
            "bytes": os.fsencode(path),
            "deep": {"files": [{"at": path / "file"}]},
            "in a longer text": f"see file://{path}/file for more " * 3000,
            "by its real path": path.resolve(),
            "in an array": np.array([str(path)]),
        }[self.how]


class UsesNamed(Task):
    def __init__(self, how: str) -> None:
        self.up = Names(how)

    def run_task(self) -> str:
        return str(self.up.get_result())


@pytest.mark.parametrize("how", ["path", "text", "bytes", "deep", "in a longer text", "in an array"])
def test_a_result_that_names_the_old_place_is_stale_elsewhere_with_that_reason(place: Path, how: str) -> None:
    run(lambda: UsesNamed(how), place)
    new = place.with_name("elsewhere")
    shutil.copytree(place, new)
    assert reasons(lambda: UsesNamed(how), new)["Names"] == "moved"
    answer, _ = run(lambda: UsesNamed(how), new)
    assert str(new) in answer
    assert f"{place}/" not in answer


def test_a_result_that_names_a_linked_cache_by_its_real_path_is_stale_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "cache"
    link.symlink_to("disk")
    run(lambda: UsesNamed("by its real path"), link)
    shutil.copytree(tmp_path / "disk", tmp_path / "elsewhere")
    assert reasons(lambda: UsesNamed("by its real path"), tmp_path / "elsewhere")["Names"] == "moved"


def test_a_cache_moved_away_and_back_is_fresh(place: Path) -> None:
    run(lambda: UsesNamed("path"), place)
    place.rename(place.with_name("elsewhere"))
    assert reasons(lambda: UsesNamed("path"), place.with_name("elsewhere"))["Names"] == "moved"
    place.with_name("elsewhere").rename(place)
    assert run(lambda: UsesNamed("path"), place)[1] == {}


def test_a_cache_reached_by_a_link_is_the_same_cache(place: Path) -> None:
    run(Everything, place)
    link = place.with_name("link")
    link.symlink_to(place)
    assert run(Everything, link)[1] == {}
    assert run(Everything, place.parent / "." / "cache" / ".." / "cache")[1] == {}


# --- Upstreams ---


def test_an_upstream_recomputed_alone_with_another_answer_makes_its_downstream_stale(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Shown, place)
    monkeypatch.setenv("SEEN", "b1")
    assert run(Seen, place) == ("b", {"Seen": 1})
    assert reasons(Shown, place) == {"Shown": "upstreams"}
    assert run(Shown, place) == ("<b>", {"Shown": 1})


def test_an_upstream_edited_and_recomputed_alone_with_the_same_answer_leaves_its_downstream_fresh(
    project: EditedProject,
) -> None:
    project.write(
        tasks="""
from taskproc import Task

class Up(Task):
    def run_task(self):
        return 1 + 1

class Down(Task):
    def __init__(self):
        self.up = Up()

    def run_task(self):
        return self.up.get_result() * 10
"""
    )
    assert project.run("Down()") == (20, 2)
    project.edit("tasks", "1 + 1", "4 - 2")
    assert project.run("Up()") == (2, 1)
    assert project.run("Down()") == (20, 0)
    project.edit("tasks", "4 - 2", "4 - 1")
    assert project.run("Up()") == (3, 1)
    assert project.run("Down()") == (30, 1)
    project.edit("tasks", "4 - 1", "1 + 1")
    assert project.run("Down()") == (20, 2)


def test_an_upstream_forced_alone_with_another_answer_of_chance_makes_its_downstream_stale(
    place: Path,
) -> None:
    class Chance(Task):
        def run_task(self) -> bytes:
            return os.urandom(8)

    class Repeats(Task):
        def __init__(self) -> None:
            self.up = Chance()

        def run_task(self) -> bytes:
            return self.up.get_result()

    run(Repeats, place)
    chance, _ = run(Chance, place, force=True)
    assert run(Repeats, place) == (chance, {"Repeats": 1})
    assert run(Repeats, place) == (chance, {})


def test_an_upstream_cleared_and_recomputed_alone_is_judged_by_its_answer(place: Path) -> None:
    run(Shown, place)
    with Cache(place):
        Seen().clear_task()
    assert run(Seen, place)[1] == {"Seen": 1}
    assert run(Shown, place) == ("<a>", {})


@pytest.mark.parametrize(("new", "answer", "ran"), [("a2", "<a>", 1), ("b1", "<b>", 2)])
def test_with_early_cutoff_a_downstream_runs_only_if_the_answer_above_it_is_another(
    place: Path, new: str, answer: str, ran: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Shown, place)
    monkeypatch.setenv("SEEN", new)
    found, classes = run(Shown, place, early_cutoff=True)
    assert (found, sum(classes.values())) == (answer, ran)
    assert run(Shown, place) == (answer, {})


def test_with_early_cutoff_other_files_are_another_answer(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Listed, place)
    monkeypatch.setenv("FILES", json.dumps({"one.txt": "X"}))
    assert run(Listed, place, early_cutoff=True) == ([("one.txt", "X")], {"Files": 1, "Listed": 1})


# --- What `__init__` reads, and input files ---


class Reads(Task):
    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.text = self.path.read_text()
        self._size = len(self.text)

    def run_task(self) -> str:
        return self.text


def test_a_file_that_init_reads_counts_by_content_and_not_by_time(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("one")
    assert run(lambda: Reads(str(file)), place) == ("one", {"Reads": 1})
    status = file.stat()
    file.write_text("two")
    os.utime(file, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert run(lambda: Reads(str(file)), place) == ("two", {"Reads": 1})
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert run(lambda: Reads(str(file)), place) == ("two", {})


class ReadsInput(Task):
    """Reads its input late, after something else may have changed it."""

    def __init__(self, path: str) -> None:
        self.file = InputFile(path)

    def run_task(self) -> str:
        text = self.file.get_result().read_text()
        if "SAVE" in os.environ:
            self.file.get_result().write_text(os.environ["SAVE"])
        return text


def test_an_input_file_counts_by_content_and_not_by_time(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("one")
    assert run(lambda: ReadsInput(str(file)), place) == ("one", {"ReadsInput": 1})
    status = file.stat()
    file.write_text("two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(lambda: ReadsInput(str(file)), place) == ("two", {"ReadsInput": 1})
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert run(lambda: ReadsInput(str(file)), place) == ("two", {})
    other = tmp_path / "other.txt"
    other.write_text("two")
    other.rename(file)
    assert run(lambda: ReadsInput(str(file)), place) == ("two", {})


def test_an_input_file_that_is_changed_while_its_task_runs_vouches_for_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "input.txt"
    file.write_text("one")
    monkeypatch.setenv("SAVE", "two")
    with pytest.warns(InputChangedWarning, match=r"input\.txt"):
        assert run(lambda: ReadsInput(str(file)), place)[0] == "one"
    monkeypatch.delenv("SAVE")
    assert run(lambda: ReadsInput(str(file)), place)[0] == "two"
    file.write_text("one")
    assert run(lambda: ReadsInput(str(file)), place)[0] == "one"


def test_an_input_file_changed_between_the_look_and_the_job_is_read_as_it_is_and_never_kept_for_the_old(
    place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "input.txt"
    file.write_text("one")

    class Edits(Task):
        def run_task(self) -> None:
            file.write_text("two")

    class Late(Task):
        def __init__(self) -> None:
            self.first = Edits()
            self.file = InputFile(str(file))

        def run_task(self) -> str:
            return self.file.get_result().read_text()

    with pytest.warns(InputChangedWarning, match=r"input\.txt"):
        assert run(Late, place)[0] in ("one", "two")
    file.write_text("one")
    assert run(Late, place)[0] == "one"
    file.write_text("two")
    assert run(Late, place)[0] == "two"


def test_an_attribute_set_or_changed_after_construction_counts(place: Path) -> None:
    def made(values: list[int]) -> Task:
        task = Keeps()
        task.values += values
        return task

    class Keeps(Task):
        def __init__(self) -> None:
            self.values = [0]

        def run_task(self) -> list[int]:
            return self.values

    assert run(lambda: made([1]), place) == ([0, 1], {"Keeps": 1})
    assert run(lambda: made([2]), place) == ([0, 2], {"Keeps": 1})
    assert run(lambda: made([2]), place) == ([0, 2], {})


@pytest.mark.parametrize(
    ("given", "left"),
    [(1, True), (0, False), (0.0, -0.0), (1.0, 1), ([1], [True]), ({"a": 1}, {"a": 1.0}), ("1", 1)],
    ids=repr,
)
def test_an_attribute_that_only_looks_like_the_argument_counts(place: Path, given: Any, left: Any) -> None:
    class Takes(Task):
        def __init__(self, value: Any) -> None:
            self.value = value

        def run_task(self) -> str:
            return repr(self.value)

    def changed() -> Task:
        task = Takes(given)
        task.value = left
        return task

    assert run(lambda: Takes(given), place) == (repr(given), {"Takes": 1})
    assert run(changed, place) == (repr(left), {"Takes": 1})
    assert run(changed, place) == (repr(left), {})
    assert run(lambda: Takes(given), place) == (repr(given), {"Takes": 1})


UNKNOWN_KIND = """
import json
from taskproc import Cache, Task

class Words:
    def __init__(self):
        self.words = {"alpha", "beta", "gamma", "delta", "epsilon"}
        self.deep = {"a": [frozenset(self.words)]}

class Slotted:
    __slots__ = ("words", "below", "__weakref__")
    def __init__(self, below):
        self.words, self.below = {"alpha", "beta", "gamma", "delta"}, below

class Counts(Task):
    def __init__(self):
        self.words = Words()
        self.slotted = Slotted(None)
        self.far_below = [Slotted({"one": Slotted(Words())})]

    def run_task(self):
        return len(self.words.words)

if __name__ == "__main__":
    with Cache("cache"):
        answer, stats = Counts().run_graph(executor="serial")
    print(json.dumps([answer, sum(stats["stats"].values())]))
"""


def test_an_attribute_of_any_class_is_the_same_in_the_next_process(
    write: Write, python: Python, environment: dict[str, str]
) -> None:
    """Sets are laid out anew in every process: a pickle of them does not tell whether they are equal."""
    script = write("tasks.py", UNKNOWN_KIND)
    for seed, ran in ((1, 1), (2, 0), (3, 0)):
        environment["PYTHONHASHSEED"] = str(seed)
        assert python(script) == [5, ran]


class Holds:
    __slots__ = ("below", "other")

    def __init__(self, below: Any) -> None:
        self.below = self.other = below


class HoldsObject(Task):
    def __init__(self, depth: int, is_circle: bool = False, innermost: int = 0) -> None:
        self._hidden = None
        held: Any = innermost
        for _ in range(depth):
            held = Holds(held)
        if is_circle:
            held.other = held
        self.held = held

    def run_task(self) -> int:
        held, depth = self.held, 0
        while isinstance(held, Holds):
            held, depth = held.below, depth + 1
        return depth


@pytest.mark.parametrize(("depth", "is_circle"), [(3, False), (3, True), (15, False), (150, False)])
def test_attributes_of_objects_in_objects_count_however_these_hang_together(
    place: Path, depth: int, is_circle: bool
) -> None:
    """Up to a circle, to one object met on two to the power of fifteen ways, and to a deep chain."""

    def made(innermost: int) -> Task:
        task = HoldsObject(depth, is_circle)
        held = task.held
        for _ in range(depth - 1):
            held = held.below
        held.below = innermost
        return task

    name = "HoldsObject"
    assert run(lambda: made(1), place) == (depth, {name: 1})
    assert run(lambda: made(1), place) == (depth, {})
    assert run(lambda: made(2), place) == (depth, {name: 1})


# --- Files of a task ---

OTHER_FILES: dict[str, dict[str, str]] = {
    "another content": {"one.txt": "1", "deep/two.txt": "3"},
    "a longer one": {"one.txt": "1", "deep/two.txt": "22"},
    "one more": {"one.txt": "1", "deep/two.txt": "2", "three.txt": ""},
    "one less": {"one.txt": "1"},
    "none": {},
    "another name": {"one.txt": "1", "deep/2.txt": "2"},
    "names exchanged": {"deep/two.txt": "1", "one.txt": "2"},
    "another folder": {"one.txt": "1", "two.txt": "2"},
    "a link in place of a file": {"one.txt": "1", "deep/two.txt": "-> ../one.txt"},
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_files_that_a_task_leaves_otherwise_make_its_downstream_stale(
    place: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = run(Listed, place)
    monkeypatch.setenv("FILES", json.dumps(OTHER_FILES[what]))
    assert run(Files, place) == (None, {"Files": 1})
    assert reasons(Listed, place) == {"Listed": "upstreams"}
    after, ran = run(Listed, place)
    assert ran == {"Listed": 1}
    assert after != before
    assert dict(after) == {name: text.removeprefix("-> ") for name, text in OTHER_FILES[what].items()}


def test_a_link_that_points_elsewhere_makes_a_downstream_stale(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILES", json.dumps({"link": "-> a"}))
    run(Listed, place)
    monkeypatch.setenv("FILES", json.dumps({"link": "-> b"}))
    run(Files, place)
    assert run(Listed, place) == ([("link", "b")], {"Listed": 1})


def test_the_same_files_written_anew_leave_a_downstream_fresh(place: Path) -> None:
    run(Listed, place)
    assert run(Files, place, force=True)[1] == {"Files": 1}
    assert run(Listed, place)[1] == {}


@pytest.mark.parametrize("how", ["changed", "lengthened", "lost"])
def test_files_of_a_task_that_somebody_else_changes_do_not_stay_in_anybodys_answer(
    place: Path, how: str
) -> None:
    """A file that its task did not leave so is no result of it."""
    before, _ = run(Listed, place)
    with Cache(place):
        file = Files().task_directory / "one.txt"
    if how == "lost":
        file.unlink()
    else:
        file.write_text({"changed": "X", "lengthened": "1X"}[how])
    # Either the task makes its files again, or what reads them is computed from what is there.
    answer, ran = run(Listed, place)
    assert ran
    with Cache(place):
        assert dict(answer)["one.txt"] == (Files().task_directory / "one.txt").read_text()
    if "Files" in ran:
        assert answer == before


# --- After an interruption ---

INTERRUPTED = """
import json, os, sys, time
from taskproc import Cache, FutureList, InputFile, Task
from taskproc.errors import InputChangedWarning

def computed(n):
    return n * 10

class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        with open("log", "a") as log:
            log.write(f"{self.n}\\n")
        while self.n == 3 and not os.path.exists("go"):
            time.sleep(0.005)
        return computed(self.n)

class Top(Task):
    def __init__(self):
        self.parts = FutureList([Leaf(n) for n in range(6)])

    def run_task(self):
        with open("log", "a") as log:
            log.write("top\\n")
        return sum(self.parts.get_result())

if __name__ == "__main__":
    with Cache("cache"):
        answer, stats = Top().run_graph(max_workers=1)
    print(json.dumps([answer, stats["stats"]]))
"""


@pytest.mark.parametrize(
    ("number", "same"), [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGINT, True)]
)
def test_after_an_interruption_content_decides_and_nothing_is_computed_twice(
    write: Write, start: Start, python: Python, tmp_path: Path, number: int, same: bool
) -> None:
    go, log = write("go", ""), tmp_path / "log"
    script = write("tasks.py", INTERRUPTED)
    assert python(script) == [150, {"tasks.Leaf": 6, "tasks.Top": 1}]
    go.unlink()
    log.unlink()
    script.write_text(INTERRUPTED.replace("n * 10", "10 * n" if same else "n * 100"))
    runner = start(script)
    deadline = time.monotonic() + 30
    while not log.exists() or "3\n" not in log.read_text():  # the first three are stored by then
        assert time.monotonic() < deadline
        time.sleep(0.01)
    runner.send_signal(number)
    runner.communicate(timeout=30)
    assert log.read_text() == "0\n1\n2\n3\n"
    go.touch()
    answer, ran = python(script)
    assert ran.pop("tasks.Leaf") == 3
    assert log.read_text().split()[4:7] == ["3", "4", "5"]
    # Three of the leaves run in this run, so what is below them does as well.
    assert (answer, ran) == (150 if same else 1500, {"tasks.Top": 1})
    assert python(script) == [answer, {}]


def test_an_upstream_finished_before_the_interruption_with_the_same_answer_leaves_its_downstream_fresh(
    project: EditedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        tasks="""
import os
import signal
from taskproc import Task

class Up(Task):
    def run_task(self):
        return 2 * 3

class Middle(Task):
    def __init__(self):
        self.up = Up()

    def run_task(self):
        if "INTERRUPT" in os.environ:
            signal.raise_signal(signal.SIGINT)
        return self.up.get_result() + 1

class Top(Task):
    def __init__(self):
        self.middle = Middle()

    def run_task(self):
        return self.middle.get_result() + 1
"""
    )
    assert project.run("Top()") == (8, 3)
    project.edit("tasks", "2 * 3", "3 * 2")
    monkeypatch.setenv("INTERRUPT", "1")
    with pytest.raises(KeyboardInterrupt):
        project.run("Top()")
    monkeypatch.delenv("INTERRUPT")
    assert project.run("Top()") == (8, 0)
    project.edit("tasks", "3 * 2", "3 * 3")
    monkeypatch.setenv("INTERRUPT", "1")
    with pytest.raises(KeyboardInterrupt):
        project.run("Top()")
    monkeypatch.delenv("INTERRUPT")
    assert project.run("Top()") == (11, 2)


# --- What is not followed, and is said not to be ---


class Unfollowed(Task):
    """Depends on what only run_task looks at."""

    def run_task(self) -> tuple[str, float, bytes]:
        return os.environ["SEEN"], time.time(), os.urandom(8)


def test_what_only_run_task_reads_is_not_followed_as_the_documents_say(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, _ = run(Unfollowed, place)
    monkeypatch.setenv("SEEN", "b")
    assert run(Unfollowed, place) == (answer, {})
    path = Path(__file__).parent.parent.parent / "docs" / "code-changes.md"
    unfollowed = path.read_text().partition("## What can't be followed")[2]
    for what in ("environment variable", "file", "time", "random"):
        assert what in unfollowed
