"""What a cache holds, summed up from entries and posts made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from taskproc.core.overview import TaskRow, ended_at, running_jobs, sum_up
from taskproc.core.records import (
    CHANGED_MEANWHILE,
    Event,
    Record,
    StoredEntry,
    TaskKey,
    UpstreamRecord,
    input_record,
)

HERE = "/cache"


def key_of(text: str) -> TaskKey:
    """`"m.Fit/1"` as a key."""
    name, _, digest = text.partition("/")
    return TaskKey(name, digest)


def done(
    text: str, version: str = "v1", reads: Iterable[Any] = (), size: int = 10, **facts: Any
) -> StoredEntry:
    """A stored result; `reads` are (key, version) pairs, or whole upstream records."""
    upstreams = tuple(
        item if isinstance(item, UpstreamRecord) else UpstreamRecord("up", key_of(item[0]), item[1])
        for item in reads
    )
    record = Record(key_of(text), {}, "code", 1, "attributes", upstreams, "digest", version, **facts)
    return StoredEntry(record.key, record, size)


def rows_of(*entries: StoredEntry, posts: Iterable[Any] = (), **options: Any) -> dict[str, TaskRow]:
    return sum_up(entries, posts, HERE, "3.11", **options)


def stale_of(*entries: StoredEntry, **options: Any) -> dict[str, int]:
    return {name: row.stale for name, row in rows_of(*entries, **options).items() if row.stale}


def test_a_row_counts_results_bytes_and_seconds() -> None:
    provenance = [{"seconds": seconds, "started": 1000.0} for seconds in (1.0, 2.0, 9.0)]
    row = rows_of(*[done(f"m.Fit/{number}", provenance=facts) for number, facts in enumerate(provenance)])[
        "m.Fit"
    ]
    assert (row.done, row.failed, row.running, row.stale, row.bytes) == (3, 0, 0, 0, 30)
    assert (row.seconds_total, row.seconds_median, row.last_run) == (12.0, 2.0, 1009.0)


def test_nothing_is_summed_up_to_no_rows() -> None:
    assert rows_of() == {}


def test_rows_come_in_the_order_of_the_names() -> None:
    assert list(rows_of(done("m.B/1"), done("m.C/1"), done("m.A/1"))) == ["m.A", "m.B", "m.C"]


def test_a_failure_counts_beside_the_result_that_was_there_before() -> None:
    old = done("m.Fit/1", provenance={"seconds": 1.0, "started": 10.0})
    failure = Event("failed", old.key, when=50.0)
    row = rows_of(
        StoredEntry(old.key, old.record, old.size, failure), StoredEntry(key_of("m.Fit/2"), None, 0, failure)
    )["m.Fit"]
    assert (row.done, row.failed, row.last_run) == (1, 2, 50.0)


@pytest.mark.parametrize(
    "provenance", [{}, {"seconds": None, "started": None}, {"seconds": "1", "started": True}]
)
def test_a_record_without_its_times_counts_all_the_same(provenance: dict[str, Any]) -> None:
    row = rows_of(done("m.Fit/1", provenance=provenance))["m.Fit"]
    assert (row.done, row.seconds_total, row.seconds_median, row.last_run) == (1, 0, None, None)


def test_the_end_of_a_job_is_its_start_and_what_it_took() -> None:
    entry = done("m.Fit/1", provenance={"started": 5})
    assert entry.record is not None
    assert ended_at(entry.record) == 5.0


def test_a_result_whose_upstream_has_its_content_still_is_fresh() -> None:
    assert stale_of(done("m.Up/1"), done("m.Down/1", reads=[("m.Up/1", "v1")])) == {}


def test_a_result_whose_upstream_has_another_content_is_stale() -> None:
    assert stale_of(done("m.Down/1", reads=[("m.Up/1", "v1")]), done("m.Up/1", "v2")) == {"m.Down": 1}


def test_a_result_whose_upstream_is_missing_is_stale() -> None:
    failed = StoredEntry(key_of("m.Up/1"), None, 0, Event("failed", key_of("m.Up/1")))
    assert stale_of(done("m.Down/1", reads=[("m.Up/1", "v1")]), failed) == {"m.Down": 1}


def test_what_rests_on_a_stale_result_is_stale_however_far_below() -> None:
    links = [done(f"m.Link/{n}", reads=[(f"m.Link/{n - 1}", "v1")]) for n in range(1, 5000)]
    fresh = [done("m.Other/1"), done("m.Other/2", reads=[("m.Other/1", "v1")])]
    assert stale_of(*reversed(links), *fresh) == {"m.Link": 4999}
    assert stale_of(done("m.Link/0"), *links, *fresh) == {}


def test_a_result_that_names_another_root_is_stale() -> None:
    assert stale_of(done("m.Fit/1", root=HERE)) == {}
    assert stale_of(done("m.Fit/1", root="/old")) == {"m.Fit": 1}


def test_a_result_that_holds_code_of_another_python_is_stale() -> None:
    assert stale_of(done("m.Fit/1", python="3.11")) == {}
    assert stale_of(done("m.Fit/1", python="3.12")) == {"m.Fit": 1}


def test_an_input_file_is_no_missing_upstream_unless_it_changed_while_it_was_read() -> None:
    assert stale_of(done("m.Fit/1", reads=[input_record("file", "data.csv", "v1")])) == {}
    changed = input_record("file", "data.csv", CHANGED_MEANWHILE)
    assert stale_of(done("m.Fit/1", reads=[changed])) == {"m.Fit": 1}


def test_the_code_counts_where_somebody_tells_it() -> None:
    entries = [done("m.Fit/1"), done("m.Edited/1"), done("m.Unknown/1")]
    codes = {"m.Fit": "code", "m.Edited": "other"}
    assert stale_of(*entries, code_of_record=lambda record: codes.get(record.key.name)) == {"m.Edited": 1}


def test_jobs_that_run_count_also_where_nothing_is_stored() -> None:
    jobs = [{"task": "m.Fit", "key": "1"}, {"task": "m.New", "key": "2"}, {"task": "m.New", "key": "3"}]
    rows = rows_of(done("m.Fit/1"), posts=[{"running": jobs[:1]}, {"running": jobs[1:]}])
    assert {name: (row.done, row.running) for name, row in rows.items()} == {"m.Fit": (1, 1), "m.New": (0, 2)}


@pytest.mark.parametrize(
    "running",
    [None, 3, "text", {"task": "m.Fit"}, [None, 1, "task", {"task": "m.Fit"}], [{"task": 5, "key": "1"}]],
)
def test_a_post_that_makes_no_sense_tells_of_no_job(running: Any) -> None:
    assert running_jobs({"running": running}) == []
    assert running_jobs({}) == []
