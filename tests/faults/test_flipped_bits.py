"""Every flipped bit and every cut of what a cache holds: detected or harmless, never another value.

After each damage a new process's view is taken: what look-ups and loads give, what arguments, events,
posts and texts of code are told. Each must be what it was, or be told no more, or there is one clear
error. Some of the damages are run through as well, to the right answer, and then found repaired.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskproc import Cache, Task
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.errors import CacheError, DamagedEntryError, FailedTaskError, MissingResultError
from taskproc.interfaces import CacheBackend, Event, Record, StoredEntry, TaskKey

pytestmark = pytest.mark.filterwarnings("ignore::taskproc.errors.DamagedEntryWarning")

Damage = Callable[[bytes], bytes]

SAMPLE = 250
"""How many flips are tried of a file that is not part of a stored entry; at night it is all."""

RUNS = 25
"""How many damages of each kind of file are run through."""


class Base(Task):
    def __init__(self, n: int, text: str) -> None:
        self.n, self.text = n, text

    def run_task(self) -> dict[str, Any]:
        return {"n": self.n, "text": self.text, "third": self.n / 3}


class Entry(Task):
    def __init__(self, rate: float, name: str) -> None:
        self.rate, self.name, self.base = rate, name, Base(12, "word")

    def run_task(self) -> list[Any]:
        print("said")
        (self.task_directory / "file").write_text("held in a file")
        return [self.rate, self.name, self.base.get_result()]


class Fails(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> None:
        raise ValueError("never")


VALUE = [0.25, "some name", {"n": 12, "text": "word", "third": 4.0}]
NO_TASK = TaskKey("some.Task", "00" * 16)


class View(NamedTuple):
    """All that a cache tells whoever asks."""

    records: Mapping[TaskKey, Record]
    payloads: Mapping[TaskKey, bytes]
    events: Mapping[TaskKey, Sequence[Event]]
    stored: Mapping[TaskKey, StoredEntry]
    posts: Sequence[Any]
    code: Mapping[str, bytes]


class Example(NamedTuple):
    """A cache with all that there can be in one, and what it tells while nothing is damaged."""

    backend: DirectoryCache
    keys: Sequence[TaskKey]
    digests: Sequence[str]
    view: View

    @property
    def root(self) -> Path:
        return self.backend.root

    def look(self) -> View:
        backend = DirectoryCache(self.root)
        backend.open()
        return view_of(backend, self.keys, self.digests)


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    with Cache(tmp_path / "cache"):
        Base(13, "cleared").run_graph(executor="serial")
        Base(13, "cleared").clear_task()
        with pytest.raises(FailedTaskError):
            Fails(7).run_graph(executor="serial")
        assert Entry(0.25, "some name").run_graph(executor="thread", max_workers=1)[0] == VALUE
        tasks = Entry(0.25, "some name"), Base(12, "word"), Base(13, "cleared"), Fails(7)
        keys = [task._task.key for task in tasks]
        digests = [path.name.removesuffix(".gz") for path in (tmp_path / "cache" / "code").iterdir()]
    backend = DirectoryCache(tmp_path / "cache")
    backend.post("a-run", {"entry": "Entry", "left": {"Base": 4}})
    assert backend.lease([NO_TASK]) == {NO_TASK}
    made = Example(backend, keys, digests, view_of(DirectoryCache(backend.root), keys, digests))
    assert (len(made.view.records), len(made.view.stored), len(made.view.posts)) == (2, 3, 1)
    assert [len(events) for events in made.view.events.values()] == [0, 0, 1, 1]
    yield made
    backend.unpost("a-run")
    backend.close()


def view_of(backend: DirectoryCache, keys: Sequence[TaskKey], digests: Sequence[str]) -> View:
    records = backend.look_up(keys)
    payloads: dict[TaskKey, bytes] = {}
    for key in keys:
        for digest in {None, records[key].digest if key in records else None}:
            try:
                payloads[key] = backend.load(key, digest)
            except (MissingResultError, DamagedEntryError):
                payloads.pop(key, None)
    stored = {entry.key: entry for name in backend.task_names() for entry in backend.stored(name)}
    events = {key: backend.events(key) for key in keys}
    code = {digest: text for digest in digests if (text := backend.kept_code(digest)) is not None}
    return View(records, payloads, events, stored, backend.posts(), code)


def wrong_in(seen: View, right: View) -> Iterator[str]:
    """What is told that is neither what it was nor nothing."""
    for name in ("records", "payloads", "code"):
        for key, value in getattr(seen, name).items():
            if value != getattr(right, name).get(key):
                yield f"{name}: {key}: {value}"
    if seen.posts and seen.posts != right.posts:
        yield f"posts: {seen.posts}"
    for key, events in seen.events.items():
        known_events = right.events[key]
        records = [right.records.get(key), *(event.record for event in known_events), None]
        for event in events:
            # What is not noted any more is found out from the disk, as far as it can be.
            found = event.kind in ("damaged", "removed") and event.record in records
            if not found and event not in [
                *known_events,
                *(replace(one, record=None) for one in known_events),
            ]:
                yield f"events: {event}"
    for key, entry in seen.stored.items():
        known = right.stored.get(key)
        if known is None or (
            entry.record not in (None, known.record)
            or entry.failure not in (None, known.failure)
            or entry.size not in (0, known.size)
        ):
            yield f"stored: {entry}"


# What the files of each kind are, and whether they are part of a stored entry.
KINDS = {
    "the record": ("*.Entry/*/record.json", True),
    "the record of an upstream": ("*.Base/*/record.json", True),
    "the result": ("*.Entry/*/result.pkl.gz", True),
    "the result of an upstream": ("*.Base/*/result.pkl.gz", True),
    "a data file": ("*.Entry/*/data/file", True),
    "a log": ("*.Entry/*/stdout.txt", True),
    "the note of a failure": ("*.Fails/*/failed.json", True),
    "the index": ("index.jsonl", False),
    "the journal": ("journal.jsonl", False),
    "the marker": ("taskproc.json", False),
    "a text of code": ("code/*.gz", False),
    "a post": ("runs/*.json", False),
    "a lease": ("leases/*", False),
}


def flips(content: bytes) -> Iterator[bytes]:
    """The content with each of its bits flipped, one at a time."""
    damaged = bytearray(content)
    for position in range(len(content)):
        for bit in range(8):
            damaged[position] ^= 1 << bit
            yield bytes(damaged)
            damaged[position] ^= 1 << bit


def cuts(content: bytes) -> Iterator[bytes]:
    """The content cut off at each length."""
    for length in range(len(content)):
        yield content[:length]


def damages(path: Path, all_of_them: bool, sample: int) -> list[bytes]:
    content = path.read_bytes()
    every = [*flips(content), *cuts(content)]
    return every if all_of_them else random.Random(path.name).sample(every, min(sample, len(every)))


def put(path: Path, content: bytes) -> None:
    """Write into the very file that is there."""
    with open(path, "r+b", buffering=0) as file:
        file.truncate(len(content))
        file.write(content)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_and_every_cut_is_detected_or_harmless(
    example: Example, kind: str, thorough: bool, figures: Any
) -> None:
    pattern, is_of_an_entry = KINDS[kind]
    paths = sorted(example.root.glob(pattern))
    assert paths, "there is nothing to damage"
    tried = 0
    wrong: list[str] = []
    for path in paths:
        content = path.read_bytes()
        for damaged in damages(path, thorough or is_of_an_entry, SAMPLE // len(paths)):
            put(path, damaged)
            tried += 1
            try:
                wrong.extend(f"{path.name}: {words}" for words in wrong_in(example.look(), example.view))
            except CacheError as error:
                if path.name != "taskproc.json" or str(example.root) not in str(error):
                    wrong.append(f"{path.name}: {error}")
        put(path, content)
    figures.count("bit flips and cuts tried", tried)
    figures.count("bit flips and cuts that gave another value", len(wrong))
    assert wrong == []
    assert list(wrong_in(example.look(), example.view)) == []


def right_after_runs(root: Path) -> str:
    """Run what has to be run twice; what is not right then, or ""."""
    for _ in range(2):
        with Cache(root):
            task = Entry(0.25, "some name")
            if (answer := task.run_graph(executor="serial", force=True)[0]) != VALUE:
                return f"answered {answer}"
            if (task.task_directory / "file").read_text() != "held in a file":
                return "its file is another"
            if task.get_result() != VALUE or task.plan().run:
                return "what is stored is not the answer"
    with Cache(root) as cache:
        return "" if set(left_wrong(cache.backend)) == set() else "not repaired"


def left_wrong(backend: Any) -> list[str]:
    """What is wrong in a cache and stays so when it is repaired."""
    if type(backend).verify is CacheBackend.verify:
        return []
    findings = [*backend.verify(repair=True), *backend.verify(repair=False)]
    return [f"{one.path}: {one.fault}" for one in findings if not (one.repaired or one.harmless)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_computed_anew_by_the_next_run(
    example: Example, kind: str, thorough: bool, figures: Any
) -> None:
    paths = sorted(example.root.glob(KINDS[kind][0]))
    assert paths
    wrong: list[str] = []
    for path in paths:
        for damaged in damages(path, False, RUNS * (40 if thorough else 1) // len(paths)):
            if not path.exists():
                break  # nothing depends on it, or the run has put its own in its place
            content = path.read_bytes()
            put(path, damaged)
            try:
                fault = right_after_runs(example.root)
            except CacheError as error:
                fault = "" if path.name == "taskproc.json" and str(example.root) in str(error) else str(error)
            if fault:
                wrong.append(f"{path.name}: {damaged!r}: {fault}")
            if path.parent == example.root:
                path.write_bytes(content)
            figures.count("damages run through", 1)
    assert wrong == []
