"""Which stored results go, by which criterion, and what that does to those that stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskproc.core.pruning import Criteria, choose
from taskproc.core.records import INPUT_FILE, Record, StoredEntry, TaskKey, UpstreamRecord


def entry(
    number: int,
    upstreams: tuple[int, ...] = (),
    size: int = 10,
    ended: float | None = None,
    name: str = "m.T",
) -> StoredEntry:
    record = Record(
        key=TaskKey(name, str(number)),
        args={},
        code="",
        code_scheme=1,
        attributes="",
        upstreams=tuple(UpstreamRecord(f"u{up}", TaskKey("m.T", str(up)), "v") for up in upstreams),
        digest="",
        version="v",
        provenance={} if ended is None else {"started": ended - 1, "seconds": 1.0},
    )
    return StoredEntry(record.key, record, size)


def removed(entries: list[StoredEntry], criteria: Criteria) -> set[str]:
    return {one.key.digest for one in choose(entries, criteria).removed}


def test_by_age_what_finished_before_goes_and_what_nobody_knows_the_age_of_stays() -> None:
    entries = [entry(1, ended=100.0), entry(2, ended=200.0), entry(3)]
    assert removed(entries, Criteria(before=150.0)) == {"1"}
    assert removed(entries, Criteria(before=300.0)) == {"1", "2"}


def test_of_several_criteria_a_result_has_to_meet_all() -> None:
    entries = [entry(1, size=10, ended=1.0), entry(2, size=99, ended=1.0), entry(3, size=99, ended=9.0)]
    assert removed(entries, Criteria(before=5.0, larger_than=50)) == {"2"}
    assert removed(entries, Criteria(names={"m.Other"}, before=5.0)) == set()
    assert removed(entries, Criteria(stale={TaskKey("m.T", "3")}, larger_than=50)) == {"3"}


def test_what_is_kept_keeps_all_that_it_rests_on_by_its_record() -> None:
    entries = [entry(1), entry(2, (1,)), entry(3, (2,)), entry(4, (1,)), entry(5)]
    assert removed(entries, Criteria(kept={TaskKey("m.T", "3")})) == {"4", "5"}


def test_results_that_stay_and_rest_on_what_goes_are_counted_however_far_below() -> None:
    entries = [entry(1, size=99), entry(2, (1,)), entry(3, (2,)), entry(4)]
    choice = choose(entries, Criteria(larger_than=50))
    assert [one.key.digest for one in choice.removed] == ["1"]
    assert (choice.resting, choice.stays, choice.stays_bytes) == (2, 3, 30)


def test_input_files_are_no_results_and_failures_alone_are_passed_over() -> None:
    record = entry(1).record
    assert record is not None
    failed = StoredEntry(TaskKey("m.T", "9"), None, 0)
    choice = choose([failed, entry(1, (2,))], Criteria(names={"m.T", INPUT_FILE}))
    assert [one.key.digest for one in choice.removed] == ["1"]


def test_to_fit_a_size_the_oldest_go_first_but_after_all_that_rest_on_them() -> None:
    entries = [entry(1, ended=1.0), entry(2, (1,), ended=5.0), entry(3, ended=3.0), entry(4, ended=9.0)]
    assert removed(entries, Criteria(max_size=30)) == {"3"}
    assert removed(entries, Criteria(max_size=20)) == {"3", "2"}
    assert removed(entries, Criteria(max_size=10)) == {"3", "2", "1"}
    assert removed(entries, Criteria(max_size=40)) == set()


def test_what_can_not_go_to_fit_a_size_is_told() -> None:
    entries = [entry(1, ended=1.0), entry(2, (1,), ended=5.0, name="m.Kept")]
    choice = choose(entries, Criteria(names={"m.T"}, max_size=5))
    assert choice.removed == []
    assert choice.over == 15


@given(st.data())
def test_to_fit_a_size_no_result_that_stays_rests_on_one_that_goes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    entries = [
        entry(
            number,
            tuple(data.draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else (),
            size=data.draw(st.integers(0, 20)),
            ended=data.draw(st.none() | st.floats(0, 100)),
        )
        for number in range(count)
    ]
    wanted = data.draw(st.integers(0, 200))
    choice = choose(entries, Criteria(max_size=wanted))
    assert choice.resting == 0
    assert choice.stays_bytes <= wanted or choice.over
    assert choice.over == max(0, choice.stays_bytes - wanted) == 0
