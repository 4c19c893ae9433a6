"""Renaming a task: a process that dies at each step of the disk, leases, long chains."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from failing_disk import FailingFiles, FastFiles, Killed, cache_on

from taskproc.core.arguments.canonical import digest
from taskproc.core.records import ALSO_READ, Record, TaskKey, UpstreamRecord
from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.engine.rename import rename
from taskproc.engine.renamed_records import changes_of
from taskproc.errors import CacheError
from taskproc.testing import example_record

OLD, NEW = "tasks.Old", "tasks.New"


def record(name: str, args: dict[str, Any], *upstreams: Record, **changes: Any) -> Record:
    read = tuple(UpstreamRecord(f"up{n}", one.key, one.version) for n, one in enumerate(upstreams))
    made = example_record(TaskKey(name, digest(args)), name.encode())
    return dataclasses.replace(made, args=args, upstreams=read, root=None, **changes)


def task(of: Record) -> dict[str, str]:
    return {"__task__": of.key.name, "__key__": of.key.digest}


def some() -> list[Record]:
    leaf = record(OLD, {"n": 1})
    by_args = record("tasks.A", {"leaf": task(leaf)}, leaf)
    by_init = record("tasks.B", {}, by_args)
    again = record(OLD, {"n": 2, "b": [task(by_args)]}, by_init)
    reads = record("tasks.C", {})
    also = (UpstreamRecord(ALSO_READ, again.key, again.version),)
    return [leaf, by_args, by_init, again, dataclasses.replace(reads, upstreams=also)]


def renamed() -> dict[TaskKey, tuple[UpstreamRecord, ...]]:
    leaf = record(NEW, {"n": 1})
    by_args = record("tasks.A", {"leaf": task(leaf)}, leaf)
    by_init = record("tasks.B", {}, by_args)
    again = record(NEW, {"n": 2, "b": [task(by_args)]}, by_init)
    old = {one.key.name: one for one in some()}
    made = [leaf, by_args, by_init, again]
    found = {
        one.key: tuple(
            up._replace(version=old[OLD if up.key.name == NEW else up.key.name].version)
            for up in one.upstreams
        )
        for one in made
    }
    found[TaskKey("tasks.C", digest({}))] = (UpstreamRecord(ALSO_READ, again.key, some()[3].version),)
    return found


def store(cache: DirectoryCache, records: list[Record]) -> None:
    for one in records:
        cache.save(one, one.key.name.encode(), 1, durable=False)
    cache.index()


def stored(root: Path) -> dict[TaskKey, tuple[UpstreamRecord, ...]]:
    cache = DirectoryCache(root)
    return {
        entry.key: entry.record.upstreams
        for name in cache.task_names()
        for entry in cache.stored(name)
        if entry.record is not None
    }


@pytest.mark.parametrize("kill", [True, False])
def test_broken_off_at_any_step_the_same_again_completes_it_and_nothing_is_lost(
    tmp_path: Path, kill: bool
) -> None:
    failed = set()
    for at in range(1, 1000):
        root = tmp_path / str(at)
        store(cache_on(root, FastFiles()), some())
        files = FailingFiles(at, kill)
        with suppress(OSError, CacheError, Killed):
            rename(cache_on(root, files), OLD, NEW)
        failed.add(files.failed)
        rename(cache_on(root, FastFiles()), OLD, NEW)
        assert stored(root) == renamed(), (at, files.failed)
        if files.left > 0:
            break
    else:
        raise AssertionError("there is no end of steps")
    assert {"rename", "_create", "_write"} <= failed


def test_what_a_run_has_under_lease_is_left_and_so_is_what_it_rests_on(tmp_path: Path) -> None:
    store(DirectoryCache(tmp_path), some())
    other = DirectoryCache(tmp_path)
    held = some()[2].key
    assert other.lease([held]) == {held}
    told = rename(DirectoryCache(tmp_path), OLD, NEW)
    assert (told.busy, told.carried, told.rewritten) == (3, 1, 1)
    assert {some()[index].key for index in (0, 1, 2)} <= set(stored(tmp_path))
    other.release([held])
    assert rename(DirectoryCache(tmp_path), OLD, NEW).busy == 0
    assert stored(tmp_path) == renamed()


def test_a_result_whose_arguments_are_not_those_of_its_key_is_left_alone(tmp_path: Path) -> None:
    odd = dataclasses.replace(record(OLD, {"n": 5}), args={"n": 6})
    store(DirectoryCache(tmp_path), [*some(), odd])
    assert rename(DirectoryCache(tmp_path), OLD, NEW).unsound == 1
    assert stored(tmp_path) == {**renamed(), odd.key: ()}


def test_chains_and_breadths_of_many_thousands_take_no_recursion_and_little_time() -> None:
    chain = [record(OLD, {"n": 0})]
    for n in range(1, 10_000):
        chain.append(record("tasks.Link", {"n": n, "before": task(chain[-1])}, chain[-1]))
    wide = [record("tasks.Wide", {"n": n}) for n in range(20_000)]
    begun = time.perf_counter()
    found = changes_of([*chain, *wide], OLD, NEW, lambda one: one.code, lambda name: name, {})
    assert time.perf_counter() - begun < 20
    assert [change.before for change in found.ordered] == chain[::-1]
    assert found.ordered[-1].after.key == TaskKey(NEW, chain[0].key.digest)


def test_only_task_forms_are_rewritten_and_sets_stay_in_order() -> None:
    leaves = [record(OLD, {"n": n}) for n in range(20)]
    args: dict[str, Any] = {
        "set": {"__set__": sorted(map(task, leaves), key=str)},
        "text": f'{{"__key__":"{leaves[0].key.digest}","__task__":"{OLD}"}}',
        "name": OLD,
        "classes": [{"__class__": "tasks:Old"}, {"__class__": "tasks:Older"}, {"__function__": "tasks:Old"}],
    }
    holder = record("tasks.Holder", args)
    found = changes_of([*leaves, holder], OLD, NEW, lambda one: one.code, lambda name: name, {})
    after = {change.before.key: change.after for change in found.ordered}
    new = after[holder.key]
    assert new.args["text"] == args["text"]
    assert new.args["name"] == OLD
    assert new.args["classes"] == [{"__class__": "tasks:New"}, *args["classes"][1:]]
    assert {one["__task__"] for one in new.args["set"]["__set__"]} == {NEW}
    assert new.key == TaskKey("tasks.Holder", digest(dict(new.args)))
