"""What runs post: seen whole, while they live, and never in a run's way."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> DirectoryCache:
    return DirectoryCache(root)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "runs").iterdir())


def start(script: str, root: Path) -> subprocess.Popen[str]:
    preamble = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from taskproc.default_plugins.directory_cache import DirectoryCache\n"
        "cache = DirectoryCache(Path(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(script), str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


POST_AND_WAIT = """
    cache.post("theirs", {"run": "theirs"})
    print("posted", flush=True)
    sys.stdin.read()
"""


def test_a_post_is_one_object_of_json_for_its_owner_alone(cache: DirectoryCache, root: Path) -> None:
    cache.post("abc", {"n": 1})
    path = root / "runs" / "abc.json"
    assert json.loads(path.read_text())["facts"] == {"n": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(root) == ["abc.json", "abc.lock"]
    cache.unpost("abc")
    assert names(root) == []


def test_reading_writes_nothing_and_does_not_keep_a_run_from_posting(
    cache: DirectoryCache, root: Path
) -> None:
    reader, stop = DirectoryCache(root), threading.Event()
    unread: list[object] = []

    def read() -> None:
        while not stop.is_set():
            for post in reader.posts():
                if post["text"] != "x" * 10_000:
                    unread.append(post)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    missed = 0
    for number in range(200):
        run = str(number // 10)
        cache.post(run, {"n": number, "text": "x" * 10_000})
        missed += [post["n"] for post in DirectoryCache(root).posts()] != [number]
        if number % 10 == 9:
            cache.unpost(run)
    stop.set()
    for thread in threads:
        thread.join()
    assert (missed, unread) == (0, [])
    assert names(root) == []


def test_what_a_dead_run_left_goes_with_the_next_post_of_anybody_and_not_by_looking(
    cache: DirectoryCache, root: Path
) -> None:
    with start(POST_AND_WAIT, root) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "posted\n"
        (root / "runs" / "theirs.json.abcd-1-1.part").touch()
        cache.post("mine", {"run": "mine"})
        assert names(root) == ["mine.json", "mine.lock", *names(root)[2:]]
        assert cache.posts() == [{"run": "mine"}, {"run": "theirs"}]
        runner.kill()
        runner.wait()
        (root / "runs" / "notes.txt").touch()
        assert cache.posts() == [{"run": "mine"}]
        assert len(names(root)) == 6
        cache.post("mine", {"run": "mine"})
        assert names(root) == ["mine.json", "mine.lock", "notes.txt"]
    cache.unpost("mine")


def test_a_run_that_only_begins_to_post_is_not_taken_for_dead(cache: DirectoryCache, root: Path) -> None:
    script = """
        from taskproc.default_plugins.directory_cache.files import Files
        def waits(self, *arguments, **named):
            print("locked", flush=True)
            sys.stdin.readline()
            return real(self, *arguments, **named)
        real, Files.write = Files.write, waits
        cache._state.make_root = lambda: None
        cache.post("theirs", {"run": "theirs"})
        print("posted", flush=True)
        sys.stdin.read()
    """
    cache.post("mine", {"run": "mine"})
    with start(script, root) as runner:
        assert runner.stdout is not None
        assert runner.stdin is not None
        assert runner.stdout.readline() == "locked\n"
        cache.post("mine", {"run": "mine"})
        assert "theirs.lock" in names(root)
        runner.stdin.write("\n")
        runner.stdin.flush()
        assert runner.stdout.readline() == "posted\n"
        assert cache.posts() == [{"run": "mine"}, {"run": "theirs"}]
        runner.communicate()
    cache.unpost("mine")


def test_runs_that_post_and_die_side_by_side_never_hide_a_living_one(
    cache: DirectoryCache, root: Path
) -> None:
    script = """
        for number in range(60):
            other = DirectoryCache(Path(sys.argv[1]))
            run = f"{os.getpid()}-{number}"
            other.post(run, {"run": run})
            if not any(post["run"] == run for post in other.posts()):
                print("hidden", run)
            if number % 2:
                other.unpost(run)
            del other  # as if it died
    """
    runners = [start(script, root) for _ in range(3)]
    assert [runner.communicate()[0] for runner in runners] == ["", "", ""]
    cache.post("mine", {})
    assert names(root) == ["mine.json", "mine.lock"]
    cache.unpost("mine")


def test_an_object_that_is_dropped_takes_its_posts_and_descriptors_along(root: Path) -> None:
    before = count_descriptors()
    cache = DirectoryCache(root)
    cache.post("run", {})
    assert count_descriptors() == before + 1
    cache.close()
    assert count_descriptors() == before + 1
    assert DirectoryCache(root).posts() == [{}]
    del cache
    gc.collect()
    assert count_descriptors() == before
    assert DirectoryCache(root).posts() == []


def test_a_run_posts_on_after_its_cache_was_removed(cache: DirectoryCache, root: Path) -> None:
    cache.post("run", {"n": 1})
    subprocess.run(["rm", "-r", str(root)], check=True)
    assert cache.posts() == []
    cache.post("run", {"n": 2})  # may be lost
    cache.scratch()  # what a run that goes on makes again
    cache.post("run", {"n": 3})
    assert DirectoryCache(root).posts() == [{"n": 3}]
    cache.unpost("run")
    assert names(root) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "h"}', "null", "\xff"])
def test_a_post_that_is_no_post_is_passed_over(cache: DirectoryCache, root: Path, text: str) -> None:
    cache.post("run", {"n": 1})
    (root / "runs" / "run.json").write_text(text)
    (root / "runs" / "other.json").write_text(text)
    assert cache.posts() == []
    cache.post("run", {"n": 2})
    assert cache.posts() == [{"n": 2}]
    assert names(root) == ["other.json", "run.json", "run.lock"], "nobody knows whose the other one is"
    cache.unpost("run")


# The forks happen in scripts of their own: forking a test run is a thing that Python warns of.


def test_a_forked_child_keeps_no_post_of_its_dead_parent_alive(cache: DirectoryCache, root: Path) -> None:
    script = """
        cache.post("run", {"run": 1})
        if os.fork() == 0:
            cache.unpost("run")
            print(os.getpid(), flush=True)
            time.sleep(60)
        time.sleep(60)
    """
    with start(script, root) as runner:
        assert runner.stdout is not None
        child = int(runner.stdout.readline())
        try:
            assert cache.posts() == [{"run": 1}], "the end of the run is its parent's to tell"
            runner.kill()
            runner.wait()
            os.kill(child, 0)
            assert cache.posts() == []
        finally:
            os.kill(child, signal.SIGKILL)


# File systems without locks


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_a_post_counts_while_its_process_may_live(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    cache.post("mine", {"run": "mine"})
    assert names(root) == ["mine.json"]
    post = json.loads((root / "runs" / "mine.json").read_text())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def leave(run: str, **changes: Any) -> None:
        (root / "runs" / f"{run}.json").write_text(json.dumps({**post, "facts": {"run": run}, **changes}))

    leave("dead", pid=ended.pid)
    leave("alive", pid=os.getppid())
    leave("elsewhere", pid=ended.pid, host="another")
    leave("0123456789abcdef", pid=0)  # by its name that of a run, and nobody's
    for _ in range(2):
        assert runs_of(cache.posts()) == ["alive", "elsewhere", "mine"]
        assert runs_of(DirectoryCache(root).posts()) == ["alive", "elsewhere", "mine"]
        cache.post("mine", {"run": "mine"})
    assert names(root) == ["alive.json", "elsewhere.json", "mine.json"]
    cache.unpost("mine")
    assert names(root) == ["alive.json", "elsewhere.json"]


def test_who_sees_no_locks_does_not_take_a_locked_post_for_dead(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.post("mine", {"run": "mine"})
    with monkeypatch.context() as patch:
        without_locks(patch)
        other = DirectoryCache(root)
        assert other.posts() == [{"run": "mine"}]
        other.post("other", {"run": "other"})
        assert runs_of(other.posts()) == ["mine", "other"]
    assert runs_of(cache.posts()) == ["mine", "other"]
    cache.unpost("mine")


def runs_of(posts: list[Mapping[str, Any]]) -> list[str]:
    return sorted(post["run"] for post in posts)


def count_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
