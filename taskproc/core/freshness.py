"""Decide what is stale, and say why: (graph, records, fingerprints) -> Plan.

Compares contents and never clocks. Knows nothing of where records are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import NamedTuple

from taskproc.core.fingerprint import same_code
from taskproc.core.graph import Node, TaskGraph
from taskproc.core.records import (
    ALSO_READ,
    CHANGED_MEANWHILE,
    INPUT_FILE,
    CodeMode,
    Plan,
    Reason,
    Record,
    TaskKey,
    UpstreamRecord,
    input_record,
    is_root_of_renamed,
    seen_digest,
)
from taskproc.core.task import Task
from taskproc.errors import OptionError

_MISSING = Reason("missing", "no stored result")


class Circumstances(NamedTuple):
    """What holds for the whole look: the present place, Python, code, and the caller's wishes.

    Attributes:
        location: the root of the cache as it is now.
        python: minor version of the running Python ("3.11").
        code_of: fingerprint of the code of a task's class, and of the functions and classes that
            it depends on besides (`named_code`); `code_scheme` numbers how it is made.
        code: how much of a task's code counts, where its class does not say; "off": nobody's.
        force: whether the root is run in any case.
    """

    location: str
    python: str
    code_of: Callable[[type[Task], tuple[str, ...]], str]
    code_scheme: int
    code: CodeMode = "deep"
    force: bool = False


def code_mode(detect_source_change: bool, code: CodeMode) -> CodeMode:
    """How much code counts, of the two options that say so.

    Raises:
        OptionError: `code` is none of the three.
    """
    if code not in ("deep", "class", "off"):
        raise OptionError(f"code is {code!r}; it must be 'deep', 'class' or 'off'")
    return code if detect_source_change else "off"


def make_plan(graph: TaskGraph, records: Mapping[TaskKey, Record], now: Circumstances) -> Plan:
    """Sort the tasks of a graph into those that would run, the cached and the blocked, with reasons."""
    run: dict[TaskKey, Reason] = {}
    cached: list[TaskKey] = []
    blocked: dict[TaskKey, Reason] = {}
    for key, node in graph.nodes.items():
        obstacle = _obstacle(node, blocked)
        if obstacle is not None:
            blocked[key] = obstacle
            continue
        reason = _stale(key, node, records, run, now)
        if reason is None and now.force and key == graph.root:
            reason = Reason("forced", "the entry task is run in any case")
        if reason is None:
            cached.append(key)
        else:
            run[key] = reason
    seconds, untimed = _expected_seconds(run, records)
    return Plan(graph.root, run, cached, blocked, seconds, untimed)


def _obstacle(node: Node, blocked: Mapping[TaskKey, Reason]) -> Reason | None:
    """Why a task can't be run, nor its stored result be judged."""
    for file in node.inputs:
        if file.now.fault:
            return Reason("input_missing", f"its input file {file.file!r} {file.now.fault}")
    if blocked:
        for upstream in node.upstreams:
            if upstream.key in blocked:
                return Reason("upstream_blocked", f"its upstream {upstream.key.name} can't run")
    return None


def _stale(
    key: TaskKey,
    node: Node,
    records: Mapping[TaskKey, Record],
    run: Mapping[TaskKey, Reason],
    now: Circumstances,
) -> Reason | None:
    record = records.get(key)
    if record is None:
        return _MISSING
    own = stale_in_itself(record, node, records, now)
    if own is not None:
        return own
    for upstream in node.upstreams:
        if upstream.key in run:
            return Reason("upstream_runs", f"its upstream {upstream.key.name} runs")
    return upstreams_differ(record, node, records)


def stale_in_itself(
    record: Record, node: Node, records: Mapping[TaskKey, Record], now: Circumstances
) -> Reason | None:
    """Why a record does not speak for the task as it is now, upstreams and input files aside."""
    if record.root is not None and record.root != now.location:
        what = "what was renamed" if is_root_of_renamed(record.root) else "the cache's old place"
        return Reason("moved", f"its result names {what}")
    if record.python is not None and record.python != now.python:
        return Reason("python", f"its result holds code of Python {record.python}, this is {now.python}")
    code = code_differs(record, type(node.task), named_code(node, records), now)
    if code is not None:
        return code
    if record.attributes != node.attributes:
        return Reason("attributes", "what its __init__ left in the attributes changed")
    return None


def named_code(node: Node, records: Mapping[TaskKey, Record]) -> tuple[str, ...]:
    """The functions and classes (`module:qualname`) whose code counts beside that of the class.

    Those among the arguments and attributes, and those that the upstreams' results hold: an
    object comes with its methods.
    """
    names = node.task._task.named_code
    for upstream in node.upstreams:
        record = records.get(upstream.key)
        held = record.provenance.get("holds") if record is not None else None
        if held:
            names = tuple(sorted({*names, *held}))
    return names


def code_differs(
    record: Record, cls: type[Task], names: tuple[str, ...], now: Circumstances
) -> Reason | None:
    """Why the code that made a record is not that of the task, as far as that counts."""
    code = now.code_of(cls, names)
    if record.code == code and record.code_scheme == now.code_scheme:
        return None
    mode = "off" if now.code == "off" else cls.task_code or now.code
    if mode != "off" and (other := record.provenance.get("other_code")):
        return Reason("code", f"its worker had other code than the runner: {', '.join(other)}")
    if record.code_scheme != now.code_scheme:
        # What such a fingerprint says can't be read: only where nothing counts it does no harm.
        if same_code("", code, mode):
            return None
        return Reason("code", "its code was fingerprinted by another scheme")
    return None if same_code(record.code, code, mode) else Reason("code", "its code changed")


def upstream_records(node: Node, records: Mapping[TaskKey, Record]) -> tuple[UpstreamRecord, ...]:
    """What a result of this node would be said to rest on, from the present records."""
    upstreams = [UpstreamRecord(path, key, records[key].version) for path, key in node.upstreams]
    return tuple(upstreams + [input_record(*file[:2], file.now.version) for file in node.inputs])


def is_unchanged(
    node: Node, record: Record | None, records: Mapping[TaskKey, Record], now: Circumstances
) -> bool:
    """Whether a stored result still speaks for its task, now that all its upstreams have finished."""
    return (
        record is not None
        and stale_in_itself(record, node, records, now) is None
        and upstreams_differ(record, node, records) is None
    )


def upstreams_differ(record: Record, node: Node, records: Mapping[TaskKey, Record]) -> Reason | None:
    """Why a result does not rest on what its upstreams and input files hold now."""
    current = upstream_records(node, records)
    if record.upstreams == current:
        return None
    own = [upstream for upstream in record.upstreams if upstream.path != ALSO_READ]
    for known, upstream in zip_longest(own, current):
        if upstream is None:
            return Reason("upstreams", f"it has no upstream at {known.path} any more")
        if known is None or (known.path, known.key) != (upstream.path, upstream.key):
            kind = "input file" if upstream.key.name == INPUT_FILE else "upstream"
            return Reason("upstreams", f"it has another {kind} at {upstream.path}")
        if known.version != upstream.version and (change := _change(known, upstream, records)):
            return Reason("upstreams", change)
    for known in record.upstreams[len(own) :]:
        read = records.get(known.key)
        if read is None or read.version != known.version:
            return Reason("upstreams", f"the content of {known.key.name}, which it read, changed")
    return None


def _change(known: UpstreamRecord, now: UpstreamRecord, records: Mapping[TaskKey, Record]) -> str:
    """What of an upstream or input file is not as it was, in words; "" if it is."""
    if now.key.name == INPUT_FILE:
        what = f"input file {now.key.digest!r} at {now.path}"
        if known.version == CHANGED_MEANWHILE:
            return f"its {what} changed while it ran"
        return f"the content of its {what} changed"
    version, _, attributes = known.version.partition("+")
    if version != now.version:
        return f"the content of its upstream {now.key.name} at {now.path} changed"
    if attributes != seen_digest(records[now.key]):
        return f"the attributes of its upstream {now.key.name} at {now.path}, which it looked at, changed"
    return ""


def _expected_seconds(
    run: Mapping[TaskKey, Reason], records: Mapping[TaskKey, Record]
) -> tuple[dict[str, float], list[str]]:
    """How long the tasks to run took the last time, by name, and the names of which nothing is known."""
    if not run:
        return {}, []
    from statistics import median  # its imports would cost every run

    names = {key.name for key in run}
    known: dict[str, list[float]] = {name: [] for name in names}
    own: dict[TaskKey, float] = {}
    for key, record in records.items():
        if key.name in names:
            seconds = record.provenance.get("seconds")
            if isinstance(seconds, int | float):
                known[key.name].append(float(seconds))
                own[key] = float(seconds)
    typical = {name: median(values) for name, values in known.items() if values}
    expected: dict[str, float] = {}
    for key in run:
        seconds = own.get(key, typical.get(key.name))
        if seconds is not None:
            expected[key.name] = expected.get(key.name, 0.0) + seconds
    return expected, sorted(names - typical.keys())
