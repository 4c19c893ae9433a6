"""When a lease ends whose owner did not give it back: real processes that die, and hosts that are played."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache, other_leases
from taskproc.default_plugins.directory_cache.other_leases import patience
from taskproc.default_plugins.directory_cache.owners import Owner, State, state_of, this_process
from taskproc.interfaces import TaskKey

KEYS = [TaskKey("taskfile.Train", f"{i:032}") for i in range(20)]
NO_LOCKS = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.fcntl = fcntl.flock = refuse
"""
PREAMBLE = """
import os, random, sys, time
from pathlib import Path
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.interfaces import TaskKey
KEYS = [TaskKey("taskfile.Train", f"{i:032}") for i in range(20)]
cache = DirectoryCache(Path(sys.argv[1]))
"""

with_and_without_locks = pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes tell less of each other")


def start(script: str, root: Path, *words: str, locks: bool = True) -> subprocess.Popen[str]:
    text = ("" if locks else NO_LOCKS) + PREAMBLE + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", text, str(root), *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DirectoryCache]:
    cache = DirectoryCache(tmp_path)
    yield cache
    cache.close()


def claim_within(cache: DirectoryCache, seconds: float, keys: list[TaskKey] = KEYS) -> float:
    """Try again, as a run does, until all keys are ours; after how long they are."""
    begun, wanted = time.monotonic(), set(keys)
    while True:
        wanted -= cache.lease(list(wanted))
        waited = time.monotonic() - begun
        if not wanted:
            return waited
        assert waited < seconds, f"{len(wanted)} keys are still another's after {waited:.1f} s"
        time.sleep(0.02)


@with_and_without_locks
@pytest.mark.parametrize("way", ["SIGKILL", "SIGTERM", "SIGSEGV", "os._exit"])
def test_the_claims_of_a_process_that_dies_are_free_at_once(
    cache: DirectoryCache, tmp_path: Path, way: str, locks: bool
) -> None:
    script = "cache.lease(KEYS); print('claimed', flush=True); sys.stdin.read(); os._exit(3)"
    with start(script, tmp_path, locks=locks) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "claimed\n"
        assert cache.lease(KEYS) == set()
        holder = cache.holder(KEYS[0])
        assert holder is not None
        assert (holder.pid, holder.host, holder.is_job) == (runner.pid, os.uname().nodename, False)
        assert holder.words == f"pid {runner.pid} on host {os.uname().nodename}"
        runner.send_signal(signal.SIGKILL if way == "os._exit" else signal.Signals[way])
        runner.wait()
        assert claim_within(cache, 5) < 5
        assert cache.holder(KEYS[0]) is None
    assert len(list((tmp_path / "leases").iterdir())) == 1


@with_and_without_locks
def test_a_dead_process_that_nobody_has_reaped_holds_nothing(
    cache: DirectoryCache, tmp_path: Path, locks: bool
) -> None:
    script = "cache.lease(KEYS); print('claimed', flush=True); os._exit(0)"
    with start(script, tmp_path, locks=locks) as runner:
        assert runner.stdout is not None
        assert runner.stdout.read() == "claimed\n"
        assert claim_within(cache, 5) < 5


@with_and_without_locks
def test_a_living_process_keeps_its_claims_however_long_it_takes(
    cache: DirectoryCache, tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UNSURE_SECONDS", "STOPPED_SECONDS", "ELSEWHERE_SECONDS"):
        monkeypatch.setattr(other_leases, name, 1.5)
    script = "cache.lease(KEYS); print('claimed', flush=True); sys.stdin.read()"
    with start(script, tmp_path, locks=locks) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "claimed\n"
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert cache.lease(KEYS) == set()
            time.sleep(0.05)
        runner.kill()


@on_linux
@with_and_without_locks
def test_a_stopped_process_loses_its_claims_and_knows_it_when_it_goes_on(
    cache: DirectoryCache, tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_leases, "STOPPED_SECONDS", 1.0)
    script = """
        cache.lease(KEYS)
        ticket = cache.ticket()
        print(ticket, flush=True)
        sys.stdin.readline()
        stands = cache.stands(ticket)
        granted = cache.lease(KEYS)
        print(stands, len(granted), cache.stands(cache.ticket()), cache.ticket() != ticket, flush=True)
    """
    with start(script, tmp_path, locks=locks) as runner:
        assert runner.stdout is not None
        ticket = runner.stdout.readline().strip()
        assert cache.stands(ticket)
        assert cache.lease(KEYS) == set()
        runner.send_signal(signal.SIGSTOP)
        claim_within(cache, 60, KEYS[:15])
        assert not cache.stands(ticket)
        runner.send_signal(signal.SIGCONT)
        # What was not claimed by another meanwhile can be claimed anew, the rest is lost.
        assert runner.communicate("go on\n")[0] == "False 5 True True\n"


@on_linux
def test_who_holds_a_key_is_told_to_be_stopped(cache: DirectoryCache, tmp_path: Path) -> None:
    script = "cache.lease(KEYS); print('claimed', flush=True); sys.stdin.read()"
    with start(script, tmp_path) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "claimed\n"
        runner.send_signal(signal.SIGSTOP)
        end = time.monotonic() + 60
        while not (words := getattr(cache.holder(KEYS[0]), "words", "")).endswith(", which is stopped"):
            assert time.monotonic() < end, words
            time.sleep(0.01)
        runner.kill()


# Other hosts are played: by a lease file that stands still, or moves, under another name.


def play(root: Path, owner: Owner, keys: list[TaskKey]) -> Path:
    """The lease file of a process that is elsewhere."""
    other = DirectoryCache(root)
    other.lease(keys)
    path = root / "leases" / f"{other.ticket()}.lease"
    data = path.read_bytes()
    other.close()
    head = json.dumps(owner._asdict()).encode().ljust(500)
    path.write_bytes(head + data[500:])
    return path


HERE = this_process(locks=True)
ELSEWHERE = Owner("node7", "another boot", HERE.space, os.getpid(), HERE.start, locks=True, runner="")


@pytest.mark.parametrize("locks", [True, False])
def test_a_runner_on_another_host_is_dead_when_its_lease_stands_still(
    cache: DirectoryCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    monkeypatch.setattr(other_leases, "ELSEWHERE_SECONDS", 1.0)
    path = play(tmp_path, ELSEWHERE._replace(locks=locks), KEYS)
    assert cache.lease(KEYS) == set(), "nothing is known yet"
    for beat in range(30):  # 1.5 s and more
        with path.open("r+b") as file:
            file.seek(500)
            file.write(b"%11d\n" % beat)
        assert cache.lease(KEYS) == set(), "it beats"
        time.sleep(0.05)
    assert claim_within(cache, 60) >= 0.9
    assert not path.exists()


def test_a_waiter_that_was_stopped_itself_does_not_take_others_for_dead(
    cache: DirectoryCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_leases, "ELSEWHERE_SECONDS", 2.5)
    play(tmp_path, ELSEWHERE, KEYS)
    clock = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    assert cache.lease(KEYS) == set()
    clock += 3600  # the laptop was closed
    assert cache.lease(KEYS) == set()
    clock += 1.0
    assert cache.lease(KEYS) == set()
    clock += 1.0
    assert cache.lease(KEYS) == set(KEYS)


def test_the_wall_clock_has_no_say(
    cache: DirectoryCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = play(tmp_path, ELSEWHERE, KEYS)
    for years in (-30, 30):
        when = time.time() + years * 365 * 24 * 3600
        monkeypatch.setattr("time.time", lambda when=when: when)
        os.utime(path, (when, when))
        assert cache.lease(KEYS) == set()


ALIVE = HERE._replace(pid=os.getpid())
CONTAINER = HERE._replace(host="c0ffee", space="pid:[1]")
REBOOTED = HERE._replace(boot="the last one")
JOB = ELSEWHERE._replace(runner="a ticket")


@pytest.mark.parametrize(
    ("owner", "has_lock", "state", "seconds"),
    [
        (ALIVE, False, "lives", 0.0),
        (ALIVE, True, "lives", None),
        (ALIVE, True, "gone", 0.0),  # a child that it forked has kept the lock
        (ALIVE, True, "stopped", 20.0),
        (ALIVE, True, "unknown", None),
        (ALIVE, None, "lives", None),
        (ALIVE, None, "gone", 0.0),
        (ALIVE, None, "stopped", 20.0),
        (ALIVE, None, "unknown", 10.0),
        (CONTAINER, False, "unknown", 0.0),  # one kernel, so its locks are known
        (CONTAINER, True, "unknown", 30.0),
        (CONTAINER, None, "unknown", 30.0),
        (REBOOTED, False, "unknown", 4.0),  # or another host of that name
        (REBOOTED, None, "unknown", 4.0),
        (REBOOTED, True, "unknown", 30.0),
        (ELSEWHERE, False, "unknown", 30.0),  # its locks may not be told to other hosts
        (ELSEWHERE, True, "unknown", 30.0),
        (ELSEWHERE, None, "unknown", 30.0),
        (JOB, True, "unknown", 3600.0),
        (JOB, False, "unknown", 120.0),
        (JOB, None, "unknown", 120.0),
        (None, True, "unknown", None),
        (None, False, "unknown", 0.0),
        (None, None, "unknown", 10.0),
    ],
)
def test_how_long_a_lease_stands_still_until_its_owner_is_dead(
    owner: Owner | None, has_lock: bool | None, state: State, seconds: float | None
) -> None:
    assert patience(owner, HERE, has_lock, state) == seconds


@on_linux
def test_what_is_known_of_another_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start_of = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        owner = HERE._replace(pid=child.pid, start=start_of)
        assert state_of(owner, HERE) == "lives"
        assert state_of(owner._replace(start="1"), HERE) == "gone", "another process has its number by now"
        assert state_of(owner._replace(start=""), HERE) == "unknown"
        assert state_of(owner._replace(space="pid:[1]"), HERE) == "unknown"
        assert state_of(owner._replace(boot="another"), HERE) == "unknown"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert state_of(owner, HERE) == "gone", "it is a zombie"
    assert state_of(owner, HERE) == "gone"
    assert state_of(owner._replace(pid=2**40), HERE) == "gone"


@pytest.mark.parametrize(
    "text",
    [b"", b"no JSON", b"[1, 2]", b'{"host": "x"}', b"{" * 400, b"\xff" * 600,
     json.dumps({**HERE._asdict(), "pid": "1"}).encode(), json.dumps({**HERE._asdict(), "pid": -1}).encode()],
)  # fmt: skip
def test_a_lease_file_that_says_nothing_sensible_hinders_nobody(
    cache: DirectoryCache, tmp_path: Path, text: bytes
) -> None:
    path = play(tmp_path, HERE, KEYS)
    path.write_bytes(text.ljust(500) + path.read_bytes()[500:] if text else b"")
    assert cache.lease(KEYS) == set(KEYS)
    assert not path.exists(), "nobody holds its lock"


def test_what_is_planted_among_the_leases_is_not_followed(cache: DirectoryCache, tmp_path: Path) -> None:
    cache.lease(KEYS[:1])
    folder, outside = tmp_path / "leases", tmp_path / "outside"
    outside.write_text("of the user")
    (folder / "link.lease").symlink_to(outside)
    (folder / "folder.lease").mkdir()
    os.mkfifo(folder / "pipe.lease")
    assert cache.lease(KEYS) == set(KEYS[1:])
    other = DirectoryCache(tmp_path)
    assert other.lease(KEYS) == set()
    other.close()
    assert outside.read_text() == "of the user"


# Never two for one key

CONTEST = """
import signal
random.seed(sys.argv[3])
held, end = set(), time.monotonic() + float(sys.argv[4])
grants = 0
while time.monotonic() < end:
    wanted = random.sample(KEYS, random.choice([1, 2, 18]))
    for key in cache.lease([key for key in wanted if key not in held]):
        os.close(os.open(f"{sys.argv[2]}/{key.digest}", os.O_CREAT | os.O_EXCL))
        held.add(key)
        grants += 1
    dies = random.random() < 0.01
    for key in list(held) if dies else random.sample(sorted(held), random.randint(0, len(held))):
        os.unlink(f"{sys.argv[2]}/{key.digest}")
        held.discard(key)
        if not dies:
            cache.release([key])
    if dies:
        print(grants, flush=True)
        os.kill(os.getpid(), random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
print(grants, flush=True)
for key in held:
    os.unlink(f"{sys.argv[2]}/{key.digest}")
"""


@with_and_without_locks
def test_no_two_processes_ever_have_one_key_and_the_dead_hinder_nobody(tmp_path: Path, locks: bool) -> None:
    (tmp_path / "held").mkdir()
    seed, end = random.randrange(10**6), time.monotonic() + 4
    grants = deaths = 0
    runners: list[subprocess.Popen[str]] = []
    number = 0
    while time.monotonic() < end or runners:
        while len(runners) < 4 and time.monotonic() < end:
            left, number = f"{max(0.5, end - time.monotonic()):.1f}", number + 1
            words = (str(tmp_path / "held"), f"{seed}-{number}", left)
            runners.append(start(CONTEST, tmp_path / "cache", *words, locks=locks))
        runner = runners.pop(0)
        text = runner.communicate(timeout=120)[0]
        assert runner.returncode <= 0, f"seed {seed}: two had one key, or a claim was an error"
        deaths += runner.returncode < 0
        grants += int(text)
    assert (grants > 100, deaths > 0) == (True, True)
    cache = DirectoryCache(tmp_path / "cache")
    assert claim_within(cache, 5) < 5
    cache.close()


# Jobs in processes of their own


def test_a_jobs_claim_stands_beside_its_runners_and_outlives_it(tmp_path: Path) -> None:
    runner, job, other = (DirectoryCache(tmp_path) for _ in range(3))
    runner.lease(KEYS[:2])
    ticket = runner.ticket()
    assert job.lease_for_job(KEYS[0], ticket)
    assert not DirectoryCache(tmp_path).lease_for_job(KEYS[0], ticket), "a second job of one task"
    assert other.lease(KEYS[:2]) == set()
    runner.close()
    assert other.lease(KEYS[:2]) == {KEYS[1]}
    holder = other.holder(KEYS[0])
    assert holder is not None
    assert (holder.is_job, holder.pid) == (True, os.getpid())
    assert holder.words.startswith("the job that is pid ")
    assert runner.lease(KEYS[:1]) == set(), "not even the runner itself computes it beside the job"
    assert job.stands(ticket), "what the job saves counts"
    assert not other.stands(ticket)
    job.close()
    assert other.lease(KEYS[:1]) == {KEYS[0]}
    assert not job.lease_for_job(KEYS[1], ticket), "its runner is gone"
    for each in (runner, job, other):
        each.close()


@with_and_without_locks
def test_a_job_that_starts_after_its_runner_has_died_gets_no_claim(tmp_path: Path, locks: bool) -> None:
    script = "cache.lease(KEYS); print(cache.ticket(), flush=True); sys.stdin.read()"
    with start(script, tmp_path, locks=locks) as runner:
        assert runner.stdout is not None
        ticket = runner.stdout.readline().strip()
        job = DirectoryCache(tmp_path)
        assert job.lease_for_job(KEYS[0], ticket)
        job.release([KEYS[0]])
        runner.kill()
        runner.wait()
        assert not job.lease_for_job(KEYS[0], ticket)
        job.close()
    assert list((tmp_path / "leases").iterdir()) == []


def test_the_claims_of_a_killed_job_are_free_at_once(tmp_path: Path) -> None:
    runner = DirectoryCache(tmp_path)
    runner.lease(KEYS)
    script = "print(cache.lease_for_job(KEYS[0], sys.argv[2]), flush=True); sys.stdin.read()"
    with start(script, tmp_path, runner.ticket()) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "True\n"
        runner.release(KEYS)
        assert runner.lease(KEYS) == set(KEYS[1:])
        job.kill()
        job.wait()
        assert claim_within(runner, 5, KEYS[:1]) < 5
    runner.close()
