"""The directory cache's leases, where they are more than every backend promises."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache
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


def test_a_forked_child_does_not_keep_the_claims_of_its_dead_parent(tmp_path: Path) -> None:
    ready, gone = tmp_path / "ready", tmp_path / "grandchild"
    runner = os.fork()
    if runner == 0:
        try:
            cache = DirectoryCache(tmp_path / "cache")
            cache.lease(KEYS)
            child = os.fork()
            if child == 0:
                gone.write_text(str(os.getpid()))
                ready.touch()
                time.sleep(60)
            time.sleep(60)
        finally:
            os._exit(1)
    cache = DirectoryCache(tmp_path / "cache")
    try:
        wait_for(ready)
        assert cache.lease(KEYS) == set()
        os.kill(runner, signal.SIGKILL)
        os.waitpid(runner, 0)
        assert cache.lease(KEYS) == set(KEYS), "the child of the dead runner still holds its claims"
    finally:
        os.kill(int(gone.read_text()), signal.SIGKILL)
        cache.close()


def test_a_forked_child_claims_for_itself(tmp_path: Path) -> None:
    cache = DirectoryCache(tmp_path)
    cache.lease(KEYS[:2])
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.lease(KEYS[:3]) == {KEYS[2]} else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.lease(KEYS[:3]) == {KEYS[2]}
    cache.close()


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


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
