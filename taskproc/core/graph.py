"""From one task to the graph of all it needs: upstreams, input files, an order, cycles.

Knows nothing of what is stored, and reads no files. Walks without recursion, so that depth costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from taskproc.core.arguments import Encoder
from taskproc.core.arguments.canonical import canonical
from taskproc.core.arguments.hidden_state import hides_state
from taskproc.core.arguments.names import class_name, named_code
from taskproc.core.arguments.object_parts import taking_apart
from taskproc.core.future import PLAIN, futures_in
from taskproc.core.input_file import InputFile
from taskproc.core.records import JSON, TaskKey, content_digest
from taskproc.core.task import Task, plain_attributes, task_class
from taskproc.errors import AmbiguousTaskError, ArgumentError, CycleError, ForeignCacheError


class Upstream(NamedTuple):
    """A direct upstream: the attribute path it was found at, and its key."""

    path: str
    key: TaskKey


class InputVersion(NamedTuple):
    """What an input file holds: the digest of its content or, if it has none, what is wrong with it.

    `place` is where it was looked at: a relative path leads elsewhere once the working directory changes.
    """

    version: str
    fault: str = ""
    place: str = ""


class Input(NamedTuple):
    """An input file of a task: the attribute path it was found at, the file as given, its content."""

    path: str
    file: str
    now: InputVersion


class Node(NamedTuple):
    """A task in the graph: its direct upstreams, the digest of its public attributes, its input files.

    The digest does not name the tasks among the attributes: `upstreams` does.
    """

    task: Task
    upstreams: tuple[Upstream, ...]
    attributes: str
    inputs: tuple[Input, ...] = ()


# Equal values of one of these types have equal JSON; not so floats, of which 0.0 equals -0.0.
_TOLD_BY_EQUALITY = frozenset({int, str, bool, type(None)})

Fallback: TypeAlias = Callable[[Any], str]
"""Gives a digest of an attribute that the encoder can't encode."""


@dataclass(frozen=True)
class TaskGraph:
    """A root and all it needs. `nodes` is ordered: upstreams come before downstreams."""

    root: TaskKey
    nodes: Mapping[TaskKey, Node]


def build_graph(
    root: Task, encoder: Encoder, fallback: Fallback, version_of: Callable[[str], InputVersion]
) -> TaskGraph:
    """Walk the upstreams of `root`.

    Args:
        encoder: encodes the plain attributes for their digest.
        fallback: gives a digest of an attribute that `encoder` can't encode.
        version_of: tells what an input file holds.

    Raises:
        CycleError: tasks wait for each other; they are named in order.
        ForeignCacheError: an upstream belongs to another Cache.
        AmbiguousTaskError: two classes of one name meet with equal arguments.
        ArgumentError: an attribute can be neither encoded nor given to `fallback`.
    """
    nodes: dict[TaskKey, Node] = {}
    open_nodes: dict[TaskKey, Node] = {}
    stack: list[tuple[Task, bool]] = [(root, False)]
    while stack:
        task, upstreams_done = stack.pop()
        key = task._task.key
        if upstreams_done:
            nodes[key] = open_nodes.pop(key)
            continue
        known = nodes.get(key) or open_nodes.get(key)
        if known is not None:
            _refuse_namesake(known.task, task)
            if key in open_nodes:
                raise _cycle(open_nodes, key)
            continue
        node, direct = _visit(task, root, encoder, fallback, version_of)
        open_nodes[key] = node
        stack.append((task, True))
        for upstream in reversed(direct):
            done = nodes.get(upstream._task.key)
            if done is None or type(done.task) is not type(upstream):
                stack.append((upstream, False))
    return TaskGraph(root._task.key, nodes)


def node_of(
    task: Task, encoder: Encoder, fallback: Fallback, version_of: Callable[[str], InputVersion]
) -> Node:
    """The node of one task by itself; raises as `build_graph` does."""
    return _visit(task, task, encoder, fallback, version_of)[0]


def _visit(
    task: Task,
    root: Task,
    encoder: Encoder,
    fallback: Fallback,
    version_of: Callable[[str], InputVersion],
) -> tuple[Node, list[Task]]:
    """The node of one task, and its direct upstream tasks."""
    found: list[Upstream] = []
    inputs: list[Input] = []
    tasks: list[Task] = []
    attributes = plain_attributes(task)
    for name, value in attributes.items():
        if type(value) not in PLAIN:
            for path, upstream in _upstreams_in(value, name):
                if isinstance(upstream, InputFile):
                    inputs.append(Input(path, upstream.path, version_of(upstream.path)))
                    continue
                if upstream._task.binding.location != root._task.binding.location:
                    raise ForeignCacheError(
                        f"{task!r}.{path} is {upstream!r} of the Cache at {upstream._task.binding.location}, "
                        f"but {root!r} belongs to the Cache at {root._task.binding.location}; "
                        "construct both inside one Cache"
                    )
                found.append(Upstream(path, upstream._task.key))
                tasks.append(upstream)
    counted = _counted(task, attributes, {upstream.key for upstream in found}, encoder, fallback)
    if not tasks and _are_arguments(counted, task):
        return Node(task, (), task._task.key.digest, tuple(inputs)), tasks
    text = canonical(counted)
    names = {*named_code(text), *_called_on(tasks, task)} if tasks else named_code(text)
    if names and not set(names).issubset(task._task.named_code):
        task._task.named_code = tuple(sorted({*names, *task._task.named_code}))
    return Node(task, tuple(found), content_digest(text), tuple(inputs)), tasks


def _are_arguments(counted: Mapping[str, JSON], task: Task) -> bool:
    """Whether what counts of the attributes is just what was given as arguments, and plain.

    Then the task's key is its digest already. Of most small tasks that is so.
    """
    args = task._task.args
    return (
        bool(counted)
        and counted == args
        and all(
            type(value) in _TOLD_BY_EQUALITY and type(args[name]) is type(value)
            for name, value in counted.items()
        )
    )


def _called_on(upstreams: Sequence[Task], task: Task) -> Iterator[str]:
    """The methods of its upstreams (`module:Class.method`) that a task's own methods may call.

    With those that these call in turn, and the ones that Python calls by itself (`__len__`). Their
    code is no part of what an upstream's result holds, nor of the task's own class.
    """
    mentions = task_class(type(task)).mentions
    for cls in set(map(type, upstreams)):
        members = task_class(cls).members
        if not members:
            continue
        called = [name for name in members if name in mentions or name.startswith("__")]
        for name in called:  # it grows
            called += [inner for inner in members if inner in members[name] and inner not in called]
            yield f"{class_name(cls)}.{name}"


def _counted(
    task: Task,
    attributes: Mapping[str, Any],
    upstreams: Collection[TaskKey],
    encoder: Encoder,
    fallback: Fallback,
) -> dict[str, JSON]:
    """The JSON of what counts of the attributes; tasks of these keys are not named in it."""
    if upstreams:
        encoder = encoder.leaving_out(upstreams)
    counted: dict[str, JSON] = {}
    for name, value in attributes.items():
        if not name.startswith("_"):
            counted[name] = _encoded(task, name, value, encoder, fallback)
        elif type(value) not in PLAIN and not isinstance(value, Task):
            # Of a hidden attribute the Futures count alone: which item of what they stand for.
            futures = [_encoded(task, path, one, encoder, fallback) for path, one in futures_in(value, name)]
            if futures:
                counted[name] = futures
    return counted


def attributes_now(node: Node, encoder: Encoder, fallback: Fallback) -> tuple[str, dict[str, JSON]]:
    """The digest of a task's attributes as they are now, and what of them there is to show to people.

    A task that ran in this process may have changed what another one holds as well. Shown is
    the JSON of the public attributes without upstreams or input files in them, but for those
    that are an argument under its own name.
    """
    task = node.task
    attributes, args = plain_attributes(task), task._task.args
    kinds = set(map(type, attributes.values()))
    if bytearray not in kinds and all(kind in PLAIN or issubclass(kind, Task) for kind in kinds):
        # Nothing of that can have been changed in place: the digest is still the one of the look.
        return node.attributes, {
            name: encoder.encode(value)
            for name, value in attributes.items()
            if not (name.startswith("_") or isinstance(value, Task) or _is_same(args.get(name), value))
        }
    counted = _counted(task, attributes, {upstream.key for upstream in node.upstreams}, encoder, fallback)
    if _are_arguments(counted, task):
        return task._task.key.digest, {}
    left = {
        name: encoded
        for name, encoded in counted.items()
        if not (name in args and args[name] == encoded and type(args[name]) is type(encoded))
        and not name.startswith("_")
        and not (type(attributes[name]) not in PLAIN and _upstreams_in(attributes[name], name))
    }
    return content_digest(canonical(counted)), left


def _is_same(argument: JSON, value: Any) -> bool:
    return type(argument) is type(value) and bool(argument == value)


def _upstreams_in(value: Any, name: str) -> list[tuple[str, Task | InputFile]]:
    """(path, task or input file) for every one that a value's Futures read."""
    found: list[tuple[str, Task | InputFile]] = []
    for path, future in futures_in(value, name):
        if isinstance(future, Task | InputFile):
            found.append((path, future))
        else:
            found.extend((path, upstream) for upstream in future.get_upstreams())
    return found


def _encoded(task: Task, name: str, value: Any, encoder: Encoder, fallback: Fallback) -> JSON:
    try:
        return encoder.encode(value)
    except ArgumentError:
        pass
    kind = type(value)
    plain = vars(value) if hasattr(value, "__dict__") and not hides_state(kind, object) else None
    if plain is not None and not any("__slots__" in vars(base) for base in kind.__mro__[:-1]):
        try:  # rather than its pickle, which may differ from process to process
            return {"__object__": class_name(kind), "vars": encoder.encode(plain)}
        except ArgumentError:
            pass
    try:
        return {"__object__": class_name(kind), "parts": taking_apart(encoder).encode(value)}
    except ArgumentError:
        pass
    try:
        return {"__object__": class_name(kind), "pickle": fallback(value)}
    except Exception as error:
        raise ArgumentError(
            f"{task!r}.{name}, an object of class {kind.__module__}.{kind.__qualname__}, can't be pickled "
            f"({type(error).__name__}: {error}), so no worker could have it; make it in run_task instead"
        ) from error


def _refuse_namesake(known: Task, task: Task) -> None:
    if type(known) is not type(task):
        raise AmbiguousTaskError(
            f"two different classes are called {task.task_name}, and {task!r} of each stands in one graph; "
            "give them different names, or construct the whole graph anew after redefining a class"
        )


def _cycle(open_nodes: Mapping[TaskKey, Node], key: TaskKey) -> CycleError:
    """Name the circle that closes at `key`: the open nodes are the path that led here, in order."""
    path = list(open_nodes)
    circle = [repr(open_nodes[entered].task) for entered in path[path.index(key) :]]
    return CycleError("tasks wait for each other in a circle: " + " -> ".join([*circle, circle[0]]))
