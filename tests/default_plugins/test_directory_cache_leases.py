"""The directory cache's leases, where they are more than every backend promises."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache, leases
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.state import State
from taskproc.errors import CacheError
from taskproc.interfaces import TaskKey
from taskproc.testing import example_key

KEYS = [example_key(text=str(i)) for i in range(200)]


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


def test_who_died_with_a_claim_is_no_holder_of_it_and_to_ask_writes_nothing(tmp_path: Path) -> None:
    script = """
    cache.lease(KEYS[:1])
    print("claimed", flush=True)
    time.sleep(600)
    """
    runner = start(script, tmp_path)
    assert runner.stdout is not None
    assert runner.stdout.readline() == "claimed\n"
    cache, key = DirectoryCache(tmp_path), TaskKey("taskfile.Train", f"{0:032}")
    held = cache.holder(key)
    assert held is not None
    assert held.pid == runner.pid
    runner.kill()
    runner.communicate()
    files = sorted(os.listdir(tmp_path / "leases"))
    assert cache.holder(key) is None
    assert sorted(os.listdir(tmp_path / "leases")) == files != []


def test_who_died_is_no_holder_where_the_disk_gives_no_file_to_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
    cache.lease(KEYS[:1])
    print("claimed", flush=True)
    time.sleep(600)
    """
    runner = start(script, tmp_path)
    assert runner.stdout is not None
    assert runner.stdout.readline() == "claimed\n"
    cache, key = DirectoryCache(tmp_path), TaskKey("taskfile.Train", f"{0:032}")
    open_as_it_is = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EIO, "Input/output error", path)
        return open_as_it_is(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    assert cache.holder(key) is not None
    runner.kill()
    runner.communicate()
    assert cache.holder(key) is None


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


def fail_with(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Have every lock of this process fail."""

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    for name in ("fcntl", "flock"):
        monkeypatch.setattr(fcntl, name, fail)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_file_system_without_locks_a_key_is_granted_once_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fail_with(monkeypatch, code)
    first, second = DirectoryCache(tmp_path), DirectoryCache(tmp_path)
    assert first.lease(KEYS[:100]) == set(KEYS[:100])
    assert second.lease(KEYS) == set(KEYS[100:])
    first.release(KEYS[:50])
    assert second.lease(KEYS) == set(KEYS[:50])
    first.close()
    assert second.lease(KEYS) == set(KEYS[50:100])
    second.close()


def test_another_failure_of_locking_is_not_taken_for_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, errno.EIO)
    with pytest.raises(CacheError, match=r"can't be written to: Input/output error: '.*leases'"):
        DirectoryCache(tmp_path).lease(KEYS)


class FullDisk(Files):
    """A disk that is full from some moment on."""

    is_full = False

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_at(descriptor, data, offset)


def test_on_a_full_disk_claims_are_granted_so_that_each_task_says_for_itself_what_is_wrong(
    tmp_path: Path,
) -> None:
    cache, files = DirectoryCache(tmp_path), FullDisk()
    object.__setattr__(cache, "_state", State(str(tmp_path), files))
    assert cache.lease(KEYS[:2]) == set(KEYS[:2])
    files.is_full = True
    assert cache.lease(KEYS[:4]) == set(KEYS[2:4])
    cache.release(KEYS[:3])
    files.is_full = False
    other = DirectoryCache(tmp_path)
    cache._state.leases.beat()  # type: ignore[attr-defined] # which writes what could not be written
    assert other.lease(KEYS[:5]) == {*KEYS[:3], KEYS[4]}
    cache.close()
    other.close()


def test_claims_can_be_made_again_after_somebody_has_removed_the_whole_cache(tmp_path: Path) -> None:
    cache = DirectoryCache(tmp_path / "cache")
    cache.lease(KEYS[:2])
    shutil.rmtree(tmp_path / "cache")
    assert cache.stands(cache.ticket()), "nobody has taken anything over"
    assert cache.lease(KEYS[:3]) == set(KEYS[:3])
    assert DirectoryCache(tmp_path / "cache").lease(KEYS[:3]) == set()
    cache.close()


def test_a_task_that_closes_every_descriptor_costs_a_lease_and_no_file_of_the_users(tmp_path: Path) -> None:
    cache, other = DirectoryCache(tmp_path / "cache"), DirectoryCache(tmp_path / "cache")
    cache.lease(KEYS[:2])
    lease = tmp_path / "cache" / "leases" / f"{cache.ticket()}.lease"
    (number,) = [fd for fd in descriptors() if is_open_at(fd, lease)]
    users = tmp_path / "users"
    with users.open("w") as file:
        os.dup2(file.fileno(), number)
    cache._state.leases.beat()  # type: ignore[attr-defined]
    assert cache.lease(KEYS[2:4]) == set(KEYS[2:4])
    assert not lease.exists()
    assert other.lease(KEYS[:5]) == {KEYS[0], KEYS[1], KEYS[4]}
    cache.close()
    other.close()
    assert users.read_text() == ""
    assert is_open_at(number, users), "nor is it closed"
    os.close(number)


def is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def test_files_of_the_old_layout_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    for number in range(32):
        (tmp_path / "leases" / f"{number:02}").touch()
    cache = DirectoryCache(tmp_path)
    (tmp_path / "taskproc.json").write_text('{"version": 1}')
    assert cache.lease(KEYS) == set(KEYS)
    assert cache.holder(KEYS[0]) is None
    cache.close()
    assert len(list((tmp_path / "leases").iterdir())) == 32


def test_a_closed_cache_leaves_no_lease_file(tmp_path: Path) -> None:
    cache = DirectoryCache(tmp_path)
    cache.lease(KEYS)
    assert [path.name for path in (tmp_path / "leases").iterdir()] == [f"{cache.ticket()}.lease"]
    cache.close()
    assert list((tmp_path / "leases").iterdir()) == []


def test_nothing_beats_and_no_thread_runs_once_there_are_no_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    cache = DirectoryCache(tmp_path)
    cache.lease(KEYS[:1])
    lease = tmp_path / "leases" / f"{cache.ticket()}.lease"
    before = lease.read_bytes()
    wait_until(lambda: lease.read_bytes() != before)
    cache.release(KEYS[:1])
    wait_until(lambda: not any(thread.name == "taskproc leases" for thread in threading.enumerate()))
    cache.lease(KEYS[:1])
    before = lease.read_bytes()
    wait_until(lambda: lease.read_bytes() != before)
    cache.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older Pythons do not warn")
def test_python_does_not_warn_of_a_fork_beside_claims_and_they_beat_on(tmp_path: Path) -> None:
    script = """
        import warnings
        warnings.simplefilter("error")
        cache.lease(KEYS)
        lease = Path(sys.argv[1], "leases", cache.ticket() + ".lease")
        before = lease.read_bytes()
        end = time.monotonic() + 60
        while lease.read_bytes() == before and time.monotonic() < end:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        print(lease.read_bytes() != before)
    """
    with start(script, tmp_path) as runner:
        assert runner.communicate()[0] == "True\n"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def descriptors() -> list[int]:
    return [int(path.name) for path in Path("/dev/fd").iterdir()]


def count_descriptors() -> int:
    return len(descriptors())
