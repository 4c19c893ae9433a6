"""Arguments of classes that a plugin registers: keys, copies, jobs, and the plugin's faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Const, Task
from taskproc.errors import ArgumentError, DuplicateComponentError, FailedTaskError, NoCacheError
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import ArgumentType


class Table:
    """A class of somebody else's that no Encoder knows."""

    def __init__(self, *rows: Any) -> None:
        self.rows = list(rows)


class Tables:
    """A plugin that knows it."""

    @hookimpl
    def taskproc_register_argument_types(self) -> list[ArgumentType]:
        return [ArgumentType(f"{__name__}:Table", lambda table: table.rows)]


class Count(Task):
    def __init__(self, table: Table) -> None:
        self.table = table

    def run_task(self) -> int:
        return len(self.table.rows)


class Nested(Task):
    """Constructs in a job what it may not."""

    def run_task(self) -> int:
        return Count(Table(1)).task_id


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache", plugins=[Tables()]) as opened:
        yield opened


def test_equal_tables_are_one_task_and_others_are_not(cache: Cache) -> None:
    assert Count(Table(1, 2)) is Count(table=Table(1, 2))
    assert Count(Table(1, 2)) is not Count(Table(1, 2.0))
    assert Count(Table(1)).task_args == {"table": {"__registered__": f"{__name__}:Table", "value": [1]}}


def test_a_table_changed_after_construction_changes_no_task(cache: Cache) -> None:
    table = Table([1])
    task = Count(table)
    table.rows[0].append(2)
    table.rows.append(3)
    assert task.table is not table
    assert task.table.rows == [[1]]
    assert task is Count(Table([1]))


def test_a_job_gets_the_table_and_its_result_is_found_again(cache: Cache, tmp_path: Path) -> None:
    assert Count(Table(1, 2)).run_graph(max_workers=1)[0] == 2
    with Cache(tmp_path / "cache", plugins=[Tables()]):
        task = Count(Table(1, 2))
        assert task.get_result() == 2
        assert not task.plan().run


def test_without_the_plugin_the_class_is_refused_as_ever(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache"):
        with pytest.raises(ArgumentError, match=r"Count\(table=\.\.\.\): .*Table can't be part.*dataclass"):
            Count(Table())


def test_two_plugins_for_one_class_are_refused_where_it_is_used(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", plugins=[Tables(), type("Others", (Tables,), {})()]):
        with pytest.raises(DuplicateComponentError, match="'Tables' and plugin 'Others'"):
            Count(Table())
        assert Count(3) is Count(3)  # type: ignore[arg-type]


def test_a_future_of_a_table_says_what_it_is_where_its_cache_is_open(cache: Cache) -> None:
    assert Const(Table(1)).to_json() == {"__const__": {"__registered__": f"{__name__}:Table", "value": [1]}}


def test_constructing_a_task_of_a_table_in_a_job_is_told_as_of_any_other(cache: Cache) -> None:
    with pytest.raises(FailedTaskError, match=r"constructed inside the run_task of .*Nested") as raised:
        Nested().run_graph(max_workers=1)
    assert isinstance(raised.value.__cause__, NoCacheError)
