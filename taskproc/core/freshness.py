"""Decide what is stale, and say why: (graph, records, fingerprints) -> Plan.

Compares contents and never clocks. Knows nothing of where records are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from taskproc.core.graph import Node, TaskGraph
from taskproc.core.records import Plan, Reason, Record, TaskKey, UpstreamRecord
from taskproc.core.task import Task


class Circumstances(NamedTuple):
    """What holds for the whole look: the present place, Python, code, and the caller's wishes.

    Attributes:
        location: the root of the cache as it is now.
        python: minor version of the running Python ("3.11").
        code_of: fingerprint of a task's code; `code_scheme` numbers how it is made.
        detect_source_change: whether another code makes a task stale.
        force: whether the root is run in any case.
    """

    location: str
    python: str
    code_of: Callable[[Task], str]
    code_scheme: int
    detect_source_change: bool = True
    force: bool = False


def make_plan(graph: TaskGraph, records: Mapping[TaskKey, Record], now: Circumstances) -> Plan:
    """Sort the tasks of a graph into those that would run, each with its reason, and the cached."""
    run: dict[TaskKey, Reason] = {}
    cached: list[TaskKey] = []
    for key, node in graph.nodes.items():
        reason = _stale(key, node, records, run, now)
        if reason is None and now.force and key == graph.root:
            reason = Reason("forced", "the entry task is run in any case")
        if reason is None:
            cached.append(key)
        else:
            run[key] = reason
    return Plan(root=graph.root, run=run, cached=cached)


def _stale(
    key: TaskKey,
    node: Node,
    records: Mapping[TaskKey, Record],
    run: Mapping[TaskKey, Reason],
    now: Circumstances,
) -> Reason | None:
    record = records.get(key)
    if record is None:
        return Reason("missing", "no stored result")
    own = stale_in_itself(record, node, now)
    if own is not None:
        return own
    for upstream in node.upstreams:
        if upstream.key in run:
            return Reason("upstream_runs", f"its upstream {upstream.key.name} runs")
    current = upstream_records(node, records)
    if record.upstreams != current:
        return Reason("upstreams", _what_differs(record.upstreams, current))
    return None


def stale_in_itself(record: Record, node: Node, now: Circumstances) -> Reason | None:
    """Why a record does not speak for the task as it is now, upstreams aside."""
    if record.root is not None and record.root != now.location:
        return Reason("moved", "its result names the cache's old place")
    if record.python is not None and record.python != now.python:
        return Reason("python", f"its result holds code of Python {record.python}, this is {now.python}")
    if now.detect_source_change:
        if record.code_scheme != now.code_scheme:
            return Reason("code", "its code was fingerprinted by another scheme")
        if record.code != now.code_of(node.task):
            return Reason("code", "its code changed")
    if record.attributes != node.attributes:
        return Reason("attributes", "what its __init__ left in the attributes changed")
    return None


def upstream_records(node: Node, records: Mapping[TaskKey, Record]) -> tuple[UpstreamRecord, ...]:
    """What a result of this node would be said to rest on, from the present records."""
    return tuple([UpstreamRecord(path, key, records[key].version) for path, key in node.upstreams])


def _what_differs(stored: tuple[UpstreamRecord, ...], current: tuple[UpstreamRecord, ...]) -> str:
    before = {upstream.path: upstream for upstream in stored}
    for upstream in current:
        known = before.get(upstream.path)
        if known is None or known.key != upstream.key:
            return f"it has another upstream at {upstream.path}"
        if known.version != upstream.version:
            return f"the content of its upstream {upstream.key.name} at {upstream.path} changed"
    return "its upstreams changed"
