"""The directory cache's leases, where they are more than every backend promises."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.state import State
from taskproc.errors import CacheError
from taskproc.interfaces import TaskKey
from taskproc.testing import example_key

KEYS = [example_key(text=str(i)) for i in range(200)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere locks belong to a process as a whole")
def test_two_caches_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    first, second = DirectoryCache(tmp_path), DirectoryCache(tmp_path)
    assert first.lease(KEYS[:150]) == set(KEYS[:150])
    assert second.lease(KEYS) == set(KEYS[150:])
    second.close()
    assert second.lease(KEYS[100:]) == set(KEYS[150:])
    first.release(KEYS[:10])
    assert second.lease(KEYS[:20]) == set(KEYS[:10])
    first.close()
    assert second.lease(KEYS[:150]) == set(KEYS[10:150])
    second.close()


def test_a_cache_that_is_dropped_gives_its_claims_and_descriptors_back(tmp_path: Path) -> None:
    before = count_descriptors()
    cache = DirectoryCache(tmp_path)
    assert cache.lease(KEYS) == set(KEYS)
    assert count_descriptors() > before
    del cache
    assert count_descriptors() == before
    other = DirectoryCache(tmp_path)
    assert other.lease(KEYS) == set(KEYS)
    other.close()


class ForbiddenFiles(Files):
    """A folder that this user may not write to."""

    def open_lock_file(self, path: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)


def test_a_cache_that_may_not_be_written_to_is_an_error_and_no_claim_of_another_runner(
    tmp_path: Path,
) -> None:
    cache = DirectoryCache(tmp_path)
    object.__setattr__(cache, "_state", State(str(tmp_path), ForbiddenFiles()))
    with pytest.raises(CacheError, match=r"can't be written to: Permission denied: '.*leases/"):
        cache.lease(KEYS[:1])


# The forks happen in scripts of their own: forking a test run is a thing that Python warns of.


def start(script: str, root: Path) -> subprocess.Popen[str]:
    preamble = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from taskproc.default_plugins.directory_cache import DirectoryCache\n"
        "from taskproc.interfaces import TaskKey\n"
        "KEYS = [TaskKey('taskfile.Train', f'{i:032}') for i in range(200)]\n"
        "cache = DirectoryCache(Path(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(script), str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_forked_child_does_not_keep_the_claims_of_its_dead_parent(tmp_path: Path) -> None:
    script = """
        cache.lease(KEYS)
        if os.fork() == 0:
            print(os.getpid(), flush=True)
        time.sleep(60)
    """
    keys = [TaskKey("taskfile.Train", f"{i:032}") for i in range(200)]
    cache = DirectoryCache(tmp_path)
    with start(script, tmp_path) as runner:
        assert runner.stdout is not None
        child = int(runner.stdout.readline())
        try:
            assert cache.lease(keys) == set()
            runner.kill()
            runner.wait()
            os.kill(child, 0)
            assert cache.lease(keys) == set(keys), "the child of the dead runner still holds its claims"
        finally:
            os.kill(child, signal.SIGKILL)
    cache.close()


def test_a_forked_child_claims_for_itself(tmp_path: Path) -> None:
    script = """
        cache.lease(KEYS[:2])
        child = os.fork()
        if child == 0:
            os._exit(0 if cache.lease(KEYS[:3]) == {KEYS[2]} else 1)
        print(os.waitpid(child, 0)[1] == 0 and cache.lease(KEYS[:3]) == {KEYS[2]})
    """
    with start(script, tmp_path) as runner:
        assert runner.communicate()[0] == "True\n"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_file_system_without_locks_every_key_is_granted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    cache = DirectoryCache(tmp_path)
    assert cache.lease(KEYS) == set(KEYS)
    assert cache.lease(KEYS) == set()
    cache.release(KEYS)
    assert cache.lease(KEYS[:1]) == set(KEYS[:1])
    cache.close()


def test_another_failure_of_locking_is_not_taken_for_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", fail)
    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(OSError, match="Input/output"):
        DirectoryCache(tmp_path).lease(KEYS)


def count_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
