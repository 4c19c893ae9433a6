"""Decide what becomes of stored records when a task class gets another name.

Records in, records out: nothing is read or written here. The digest in a key is that of the
arguments, and these name upstreams by their keys; so what has a renamed task among its
arguments gets another key, and so on downstream. Nothing recurses, for chains are long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from taskproc.core.arguments.canonical import canonical
from taskproc.core.records import INPUT_FILE, JSON, Record, TaskKey, content_digest, root_of_renamed

Respell: TypeAlias = Callable[[str], str]
"""Gives the new form of a `module:qualname`, or the same if that keeps its name."""


class Change(NamedTuple):
    """One record as it is stored, what it is to become (maybe the same), and what it rests on."""

    before: Record
    after: Record
    upstreams: frozenset[TaskKey]


@dataclass
class Changes:
    """What a rename does to the records of a cache.

    Attributes:
        ordered: the changes, a record always before those that it rests on. A change of nothing
            is among them where it stands between two others.
        taken: keys that have a result which stays under them.
        is_mentioned: whether the old name occurs in any key.
        unsound: how many records are left alone, for their arguments are not those of their key.
    """

    ordered: list[Change] = field(default_factory=list[Change])
    taken: set[TaskKey] = field(default_factory=set[TaskKey])
    is_mentioned: bool = False
    unsound: int = 0


def changes_of(
    records: Iterable[Record],
    old: str,
    new: str,
    code_of: Callable[[Record], str],
    respell: Respell,
    note: Mapping[str, JSON],
) -> Changes:
    """What a rename from `old` to `new` does to these records.

    Args:
        records: all that is stored.
        code_of: the fingerprint that a record has after the rename.
        respell: of the functions and classes that code and results refer to, the new names.
        note: what the changed records keep of it.
    """
    return _Renaming(list(records), old, new).changes(code_of, respell, note)


# In canonical JSON an unescaped quote never stands inside a text, so these match whole forms only.
_TASK = re.compile(rb'\{"__key__":"([^"\\]*)","__task__":"((?:[^"\\]|\\.)*)"\}')
_CLASS = re.compile(rb'"__class__":"((?:[^"\\]|\\.)*)"')


class _Renaming:
    def __init__(self, records: list[Record], old: str, new: str) -> None:
        self._records = {record.key: record for record in records}
        self._old, self._new = old, new
        self._moved: dict[TaskKey, TaskKey] = {}
        self._new_args: dict[TaskKey, dict[str, JSON]] = {}
        self._in_args: dict[TaskKey, tuple[TaskKey, ...]] = {}
        self._upstreams: dict[TaskKey, frozenset[TaskKey]] = {}
        self._found = Changes()

    def changes(
        self, code_of: Callable[[Record], str], respell: Respell, note: Mapping[str, JSON]
    ) -> Changes:
        seeds = [key for key, record in self._records.items() if self._survey(key, record)]
        self._move(seeds)
        below = self._below()
        names = {self._old, *(key.name for key in self._moved)}
        concerned: list[Change] = []
        for key, record in self._records.items():
            after = self._after(record, code_of(record), key in below, respell, names)
            if after != record:
                history = [*(record.provenance.get("renamed") or ()), note]
                after = replace(after, provenance={**after.provenance, "renamed": history})
            if after != record or key in below:
                concerned.append(Change(record, after, self._upstreams[key]))
            if after.key == key:
                self._found.taken.add(key)
        self._found.ordered = _downstream_first(concerned)
        return self._found

    # --- keys ---

    def _survey(self, key: TaskKey, record: Record) -> bool:
        """Note what a record names; whether its key is to change for a reason of its own."""
        text = canonical(dict(record.args)) if record.args else b"{}"
        in_args: tuple[TaskKey, ...] = ()
        if b'"__task__"' in text:
            found = {
                TaskKey(json.loads(b'"' + name + b'"'), digest.decode())
                for digest, name in _TASK.findall(text)
            }
            in_args = tuple(found)
            self._in_args[key] = in_args
        others = [upstream.key for upstream in record.upstreams if upstream.key.name != INPUT_FILE]
        self._upstreams[key] = frozenset((*in_args, *others))
        if key.name == self._old or any(each.name == self._old for each in self._upstreams[key]):
            self._found.is_mentioned = True
        names_old = any(each.name == self._old for each in in_args)
        return key.name == self._old or names_old or self._names_class(text)

    def _names_class(self, text: bytes) -> bool:
        return b'"__class__"' in text and any(
            _dotted(json.loads(b'"' + name + b'"')) == self._old for name in _CLASS.findall(text)
        )

    def _move(self, seeds: Sequence[TaskKey]) -> None:
        """Find the new keys, upstreams first: theirs are in the arguments of what is downstream."""
        downstream: dict[TaskKey, list[TaskKey]] = {}
        for key, in_args in self._in_args.items():
            for each in in_args:
                downstream.setdefault(each, []).append(key)
        waiting = dict.fromkeys(_reached(seeds, downstream), 0)
        for key in waiting:
            waiting[key] = sum(each in waiting for each in self._in_args.get(key, ()))
        ready = [key for key, count in waiting.items() if not count]
        while ready:
            key = ready.pop()
            self._move_one(key)
            for each in downstream.get(key, ()):
                waiting[each] -= 1
                if not waiting[each]:
                    ready.append(each)

    def _move_one(self, key: TaskKey) -> None:
        args = self._records[key].args
        if content_digest(canonical(dict(args))) != key.digest:
            self._found.unsound += 1
            return
        new_args = self._rewritten(args)
        name = self._new if key.name == self._old else key.name
        self._moved[key] = TaskKey(name, content_digest(canonical(new_args)))
        self._new_args[key] = new_args

    def _target(self, key: TaskKey) -> TaskKey:
        """What a key that somebody names becomes; of what is not stored the name alone can be told."""
        moved = self._moved.get(key)
        if moved is None:
            return TaskKey(self._new, key.digest) if key.name == self._old else key
        return moved

    def _rewritten(self, args: Mapping[str, JSON], are_known: bool = False) -> dict[str, JSON]:
        """Arguments with the new names and keys, in the order that the encoder would give them."""
        fresh: dict[str, JSON] = json.loads(json.dumps(dict(args)))
        containers: list[Any] = [fresh]
        for container in containers:  # which grows meanwhile
            items = container.values() if isinstance(container, dict) else container
            containers += [item for item in items if isinstance(item, dict | list)]
        for container in reversed(containers):  # the inner ones first
            if isinstance(container, dict):
                self._rewrite(container)
        return fresh

    def _rewrite(self, form: dict[str, JSON]) -> None:
        if "__task__" in form and "__key__" in form:
            form["__task__"], form["__key__"] = self._target(TaskKey(form["__task__"], form["__key__"]))
        elif "__class__" in form and _dotted(form["__class__"]) == self._old:
            form["__class__"] = with_colon(form["__class__"], self._new)
        for mark in ("__set__", "__frozenset__", "__dict__"):
            if isinstance(form.get(mark), list):
                form[mark].sort(key=canonical)

    # --- records ---

    def _below(self) -> set[TaskKey]:
        """The records that moved, and those that rest on them, however far up."""
        downstream: dict[TaskKey, list[TaskKey]] = {}
        for key, upstreams in self._upstreams.items():
            for each in upstreams:
                downstream.setdefault(each, []).append(key)
        moving = [key for key in {*self._records, *downstream} if self._target(key) != key]
        return {key for key in _reached(moving, downstream) if key in self._records}

    def _after(
        self, record: Record, code: str, is_below: bool, respell: Respell, moved_names: set[str]
    ) -> Record:
        changed: dict[str, Any] = {}
        key = self._moved.get(record.key, record.key)
        if key != record.key:
            args = self._new_args[record.key]
            changed = {"key": key, "args": args, "attributes": self._attributes(record)}
        if any(self._target(upstream.key) != upstream.key for upstream in record.upstreams):
            changed["upstreams"] = tuple(
                upstream._replace(key=self._target(upstream.key)) for upstream in record.upstreams
            )
        if code != record.code:
            changed["code"] = code
        root = self._root(record, is_below, respell, moved_names)
        if root != record.root:
            changed["root"] = root
        if not changed:
            return record
        names = record.provenance.get("names")
        if isinstance(names, list) and (respelt := [respell(name) for name in names]) != names:
            changed["provenance"] = {**record.provenance, "names": sorted(respelt)}
        return replace(record, **changed)

    def _root(self, record: Record, is_below: bool, respell: Respell, moved_names: set[str]) -> str | None:
        """The cache's root in a record or, for a result that no longer stands, what can be no root."""
        for name in record.provenance.get("holds") or ():
            # The pickle still says so.
            if respell(name) != name or _dotted(name) in moved_names:
                return root_of_renamed(_dotted(name))
        if is_below and record.root is not None:
            return root_of_renamed(self._old)
        return record.root

    def _attributes(self, record: Record) -> str:
        """The digest of the attributes; it names the class if one of them is the class itself."""
        if not self._names_class(canonical([dict(record.args), dict(record.left)])):
            return record.attributes
        # Commonly they are the arguments, what is kept of the others, and upstreams: the digest tells.
        upstreams = {
            upstream.path: {"__task__": ""} for upstream in record.upstreams if upstream.path[:1] != "_"
        }
        others = {path: task for path, task in upstreams.items() if path.isidentifier()}
        for attributes in ({**record.args, **record.left, **others}, {**record.left, **others}):
            nameless = json.loads(_TASK.sub(b'{"__task__":""}', canonical(dict(attributes))))
            if content_digest(canonical(nameless)) == record.attributes:
                return content_digest(canonical(self._rewritten(nameless)))
        return record.attributes


def _dotted(name: str) -> str:
    return name.replace(":", ".", 1)


def with_colon(before: str, new: str) -> str:
    """The `module:qualname` of a dotted name, with as long a qualname as there was before."""
    words = new.split(".")
    count = min(len(before.partition(":")[2].split(".")), len(words) - 1)
    return f"{'.'.join(words[:-count])}:{'.'.join(words[-count:])}"


def _reached(starts: Iterable[TaskKey], downstream: Mapping[TaskKey, Sequence[TaskKey]]) -> list[TaskKey]:
    found = dict.fromkeys(starts)
    stack = list(found)
    while stack:
        for each in downstream.get(stack.pop(), ()):
            if each not in found:
                found[each] = None
                stack.append(each)
    return list(found)


def _downstream_first(changes: Sequence[Change]) -> list[Change]:
    by_key = {change.before.key: change for change in changes}
    waiting = dict.fromkeys(by_key, 0)
    for change in changes:
        for key in change.upstreams:
            if key in waiting:
                waiting[key] += 1
    ready = [key for key, count in waiting.items() if not count]
    ordered: dict[TaskKey, Change] = {}
    while ready:
        key = ready.pop()
        ordered[key] = by_key[key]
        for each in by_key[key].upstreams:
            if each in waiting:
                waiting[each] -= 1
                if not waiting[each]:
                    ready.append(each)
    # Records of different times may go round in a circle.
    return [*ordered.values(), *(by_key[key] for key in by_key if key not in ordered)]
