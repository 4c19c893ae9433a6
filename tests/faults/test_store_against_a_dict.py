"""Store and runner against a dict that says what they should hold, whatever is done to them in between.

Hypothesis draws sequences of runs, clearings, edits of code, damages, kills, second runners, copies and
clocks gone wrong. After each step every answer is the dict's, what it knows to be stored is not
computed again, and in the end a check of the whole cache finds nothing that it does not repair.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from taskproc import Cache
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.errors import DamagedEntryWarning, TaskprocError
from taskproc.interfaces import CacheBackend, RunStats

EXAMPLES, STEPS = 45, 25
"""Sequences, and steps in each; at night it is a hundred times as many."""

SOURCE = """
from taskproc import FutureList, Task


class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        if self.n % 2:
            (self.task_directory / "file").write_text(f"leaf {self.n} LEAF")
        return ["leaf", self.n, LEAF]


class Middle(Task):
    def __init__(self, n):
        self.n = n
        self.parts = FutureList([Leaf(n), Leaf(n + 1)])

    def run_task(self):
        print("middle", self.n)
        return ["middle", self.n, MIDDLE, self.parts.get_result()]


class Top(Task):
    def __init__(self, n):
        self.n = n
        self.parts = FutureList([Middle(n), Middle(n + 1), Leaf(n)])

    def run_task(self):
        return ["top", self.n, TOP, self.parts.get_result()]
"""


class Key(NamedTuple):
    name: str
    n: int


def upstreams_of(key: Key) -> list[Key]:
    if key.name == "Leaf":
        return []
    if key.name == "Middle":
        return [Key("Leaf", key.n), Key("Leaf", key.n + 1)]
    return [Key("Middle", key.n), Key("Middle", key.n + 1), Key("Leaf", key.n)]


def graph_of(roots: Iterable[Key]) -> list[Key]:
    """The tasks under these, upstreams first."""
    found: dict[Key, None] = {}
    for root in roots:
        for key in [*graph_of(upstreams_of(root)), root]:
            found[key] = None
    return list(found)


@dataclass(frozen=True)
class Stored:
    """What the dict says of a stored result.

    Attributes:
        content: the result.
        edition: of the code of its class.
        rests_on: what its upstreams held.
        is_sure: whether it is known to be whole; if not it may count, or be computed again.
    """

    content: Any
    edition: int
    rests_on: Sequence[Any]
    is_sure: bool = True


def by_class(stats: RunStats) -> Counter[str]:
    return Counter({name.rpartition(".")[2]: number for name, number in stats["stats"].items()})


class Dying:
    """In a child process: what changes the disk is counted, and one call of it is the last."""

    CHANGES = ("mkdir", "rename", "unlink", "rmdir", "fsync", "write", "open", "utime")

    def __init__(self, last: int) -> None:
        self._left = last
        for name in self.CHANGES:
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **named)

        return call


KEYS = st.builds(Key, st.sampled_from(["Leaf", "Middle", "Top"]), st.integers(0, 2))
FILES = st.integers(0, 10_000)
EXECUTORS = st.sampled_from(["serial", "serial", "thread"])


class StoreAgainstADict(RuleBasedStateMachine):
    """The steps; `folder` makes a new empty one, `count` counts for the figures."""

    def __init__(self, folder: Callable[[], Path], count: Callable[[str, int], None]) -> None:
        super().__init__()
        self.folder = folder()
        self.root = self.folder / "cache0"
        self.moves = 0
        self.count = count
        self.stored: dict[Key, Stored] = {}
        self.editions = {"Leaf": 0, "Middle": 0, "Top": 0}
        self.puts = 0
        self.clock = 0.0
        sys.path.insert(0, str(self.folder))
        self.write_module()

    @initialize()
    def first(self) -> None:
        self.run(Key("Top", 0), "serial")

    # --- the code, and the clock ---

    def write_module(self) -> None:
        text = SOURCE
        for name, edition in self.editions.items():
            text = text.replace(name.upper(), str(edition))
        (self.folder / "dict_tasks.py").write_text(text)
        sys.modules.pop("dict_tasks", None)
        importlib.invalidate_caches()

    @contextlib.contextmanager
    def cache(self) -> Iterator[Cache]:
        """The cache as a new process has it, by the present clock."""
        real, real_ns, ahead = time.time, time.time_ns, self.clock
        with (
            mock.patch("time.time", side_effect=lambda: real() + ahead),
            mock.patch("time.time_ns", side_effect=lambda: real_ns() + int(ahead) * 10**9),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", DamagedEntryWarning)
            with Cache(self.root) as cache:
                yield cache

    def task(self, key: Key) -> Any:
        return getattr(importlib.import_module("dict_tasks"), key.name)(key.n)

    # --- the dict ---

    def rests_on(self, key: Key) -> list[Any] | None:
        """What the upstreams of a task hold; None if one holds nothing."""
        upstreams = upstreams_of(key)
        if not self.stored.keys() >= set(upstreams):
            return None
        return [self.stored[upstream].content for upstream in upstreams]

    def computed(self, key: Key) -> Stored | None:
        """What would be stored of a task that ran now; None if an upstream holds nothing."""
        parts = self.rests_on(key)
        if parts is None:
            return None
        edition = self.editions[key.name]
        return Stored([key.name.lower(), key.n, edition, *([parts] if parts else [])], edition, parts)

    def stands(self, key: Key) -> bool:
        """Whether what the dict says is stored is fresh, the present run apart."""
        known = self.stored.get(key)
        return (
            known is not None
            and known.edition == self.editions[key.name]
            and known.rests_on == self.rests_on(key)
        )

    def may_run(self, roots: Iterable[Key]) -> set[Key]:
        """The tasks that a run which begins now may come to run."""
        found: set[Key] = set()
        for key in graph_of(roots):
            if not self.stands(key) or not self.stored[key].is_sure or found & set(upstreams_of(key)):
                found.add(key)
        return found

    def ran(self, roots: Sequence[Key]) -> tuple[Counter[str], Counter[str]]:
        """Put into the dict what a run has stored; returns what had to run, and what may have run."""
        must: set[Key] = set()
        may: set[Key] = set()
        for key in graph_of(roots):
            upstreams = set(upstreams_of(key))
            new = self.computed(key)
            assert new is not None, "upstreams come first"
            if not self.stands(key) or upstreams & must:
                must.add(key)
                self.stored[key] = new
            elif not self.stored[key].is_sure or upstreams & may:
                may.add(key)
                self.observe(key, new)
        return Counter(key.name for key in must), Counter(key.name for key in must | may)

    def observe(self, key: Key, new: Stored | None) -> None:
        """See which of the two is stored, the one that the dict knows or the new one."""
        known = self.stored.get(key)
        with self.cache():
            try:
                content = self.task(key).get_result()
            except TaskprocError:  # not there; or damaged, and nobody has come to it yet
                if known is not None:
                    self.stored[key] = replace(known, is_sure=False)
                return
        candidates = [one for one in (known, new) if one is not None and one.content == content]
        assert candidates, f"{key} holds {content}; it could be {known} or {new}"
        self.stored[key] = replace(candidates[-1], is_sure=True)

    def doubt(self, path: Path) -> None:
        """Something was done to a file: the dict is not sure of its entry any more."""
        with self.cache():
            places = {
                DirectoryCache(self.root)._state.paths.entry(self.task(key)._task.key): key
                for key in self.stored
            }
        for folder in (path, *path.parents):
            if (key := places.get(str(folder))) is not None:
                self.stored[key] = replace(self.stored[key], is_sure=False)

    def check_files(self, root: Key) -> None:
        """The data files of what is known to be whole hold what was written there."""
        for key in graph_of([root]):
            known = self.stored[key]
            if key.name == "Leaf" and key.n % 2 and known.is_sure and known.content[0] == "leaf":
                with self.cache():
                    text = (self.task(key).task_directory / "file").read_text()
                assert text == f"leaf {key.n} {known.edition}"

    # --- steps ---

    @rule(key=KEYS, executor=EXECUTORS)
    def run(self, key: Key, executor: str) -> None:
        with self.cache():
            answer, stats = self.task(key).run_graph(executor=executor, max_workers=2)
        least, most = self.ran([key])
        assert answer == self.stored[key].content
        self.check_files(key)
        ran = by_class(stats)
        assert least <= ran <= most, f"{dict(ran)} ran; {dict(least)} had to, {dict(most)} might"

    @rule(keys=st.tuples(KEYS, KEYS))
    def run_by_two(self, keys: tuple[Key, Key]) -> None:
        """Two runners at the same time, each as a process of its own would be."""
        answers: dict[int, Any] = {}
        ran: Counter[str] = Counter()

        def run_one(number: int) -> None:
            with Cache(self.root):
                answers[number], stats = self.task(keys[number]).run_graph(executor="serial")
            ran.update(by_class(stats))

        with self.cache():
            other = threading.Thread(target=run_one, args=[1])
            other.start()
            run_one(0)
            other.join(60)
        assert not other.is_alive(), "a runner is stuck"
        _, most = self.ran(keys)
        assert answers == {number: self.stored[key].content for number, key in enumerate(keys)}
        assert ran <= most, f"{dict(ran)} ran; {dict(most)} might"

    @rule(key=KEYS, last=st.integers(1, 60))
    def run_and_kill(self, key: Key, last: int) -> None:
        endangered = self.may_run([key])
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                signal.alarm(60)
                with self.cache():
                    task = self.task(key)
                    Dying(last)
                    task.run_graph(executor="serial")
            os._exit(0)
        os.waitpid(pid, 0)
        for one in graph_of([key]):
            if one in endangered:
                self.observe(one, self.computed(one))

    @rule(key=KEYS)
    def ask(self, key: Key) -> None:
        known = self.stored.get(key)
        with self.cache():
            task = self.task(key)
            try:
                content = task.get_result()
            except TaskprocError:
                assert known is None or not known.is_sure, f"{key} is gone"
                return
        assert known is not None, f"{key} holds {content}"
        assert content == known.content

    @rule(key=KEYS)
    def clear(self, key: Key) -> None:
        with self.cache():
            self.task(key).clear_task()
        self.stored.pop(key, None)

    @rule(name=st.sampled_from(["Leaf", "Middle", "Top"]))
    def clear_all(self, name: str) -> None:
        with self.cache():
            self.task(Key(name, 0)).clear_all_tasks()
        for key in [key for key in self.stored if key.name == name]:
            del self.stored[key]

    @rule(name=st.sampled_from(["Leaf", "Middle", "Top"]), edition=st.integers(0, 2))
    def edit(self, name: str, edition: int) -> None:
        self.editions[name] = edition
        self.write_module()

    @rule(key=KEYS)
    def put(self, key: Key) -> None:
        self.puts += 1
        value = ["put", self.puts]
        with self.cache() as cache:
            try:
                cache.put(self.task(key), value)
            except TaskprocError:
                # An upstream has no result that stands.
                assert self.may_run(upstreams_of(key)), f"{key} is refused a value"
                return
        for one in graph_of(upstreams_of(key)):
            self.observe(one, None)
        parts = self.rests_on(key)
        assert parts is not None, f"nothing is known of what {key} rests on"
        self.stored[key] = Stored(value, self.editions[key.name], parts)

    @rule(
        number=FILES,
        how=st.sampled_from(["flip", "cut", "delete", "zeros"]),
        where=st.floats(0, 1, exclude_max=True),
    )
    def damage(self, number: int, how: str, where: float) -> None:
        path = self.some_file(number)
        if path is None:
            return
        content = bytearray(path.read_bytes())
        position = int(where * len(content))
        self.doubt(path)
        if how == "delete" or not content:
            path.unlink()
        elif how == "cut":
            os.truncate(path, position)
        elif how == "zeros":
            path.write_bytes(content[:position].ljust(len(content), b"\0"))
        else:
            content[position] ^= 1 << number % 8
            path.write_bytes(content)

    @rule(one=FILES, other=FILES)
    def exchange(self, one: int, other: int) -> None:
        """Two files of the same kind take each other's place."""
        first, second = self.some_file(one), self.some_file(other)
        if first is None or second is None or first.name != second.name:
            return
        self.doubt(first)
        self.doubt(second)
        contents = first.read_bytes(), second.read_bytes()
        first.write_bytes(contents[1])
        second.write_bytes(contents[0])

    @rule(one=FILES)
    def remove_folder(self, one: int) -> None:
        path = self.some_file(one)
        if path is not None and path.parent != self.root:
            self.doubt(path)
            shutil.rmtree(path.parent)

    def some_file(self, number: int) -> Path | None:
        """One of the files of the cache; without its marker it would only be refused."""
        gc.collect()  # with the caches of earlier steps go their leases
        paths = sorted(
            path for path in self.root.rglob("*") if path.is_file() and path.name != "taskproc.json"
        )
        return paths[number % len(paths)] if paths else None

    @rule(moves=st.booleans())
    def copy(self, moves: bool) -> None:
        """The cache goes on at another place, with new times and inodes."""
        self.moves += 1
        target = self.folder / f"cache{self.moves}"
        if moves:
            self.root.rename(target)
        else:
            shutil.copytree(self.root, target)
        self.root = target

    @rule(seconds=st.sampled_from([-86400.0, -3.0, 0.0, 5.0, 86400.0]))
    def set_clock(self, seconds: float) -> None:
        self.clock = seconds

    @rule(seconds=st.sampled_from([-86400, 0, 86400]))
    def set_times(self, seconds: int) -> None:
        """All files get the same time: older than what they rest on, or of tomorrow."""
        when = time.time() + seconds
        for path in self.root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # the lease of a cache that is just forgotten
                os.utime(path, (when, when))

    @rule()
    def remove_index(self) -> None:
        (self.root / "index.jsonl").unlink(missing_ok=True)

    @rule()
    def verify(self) -> None:
        """Whatever is wrong is put right, and then there is nothing wrong."""
        if DirectoryCache.verify is CacheBackend.verify or not (self.root / "taskproc.json").exists():
            return
        with self.cache() as cache:
            findings = [*cache.backend.verify(repair=True), *cache.backend.verify(repair=False)]
            assert [one for one in findings if not (one.repaired or one.harmless)] == []
            for key, known in self.stored.items():
                task = self.task(key)
                if task.get_record() is not None:
                    assert task.get_result() == known.content
                else:
                    assert not known.is_sure, f"{key} is gone"

    @invariant()
    def is_counted(self) -> None:
        self.count("steps of the state machine", 1)

    def teardown(self) -> None:
        try:
            self.verify()
        finally:
            sys.path.remove(str(self.folder))
            sys.modules.pop("dict_tasks", None)
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_store_and_runner_do_as_a_dict_would(
    tmp_path: Path, thorough: bool, figures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python takes an edit within one second that keeps the size for none.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = iter(range(10**9))

    def folder() -> Path:
        path = tmp_path / str(next(made))
        path.mkdir()
        return path

    def machine() -> StoreAgainstADict:
        figures.count("sequences of the state machine", 1)
        return StoreAgainstADict(folder, lambda name, number: figures.count(name, number))

    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=EXAMPLES * (100 if thorough else 1),
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
            print_blob=True,
        ),
    )
