"""What a fingerprint was made of, kept so that a later look can say what changed.

Pure data: the fingerprint follows from it and from nothing else, so a description can be
written down, and changed (`renamed`) where the code was only called otherwise. Knows nothing
of how code is found, nor of what differs between two descriptions.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from taskproc.core.fingerprint import (
    SCHEME,
    Fingerprint,
    combine,
    fingerprint_of,
    part_digest,
    text_digest,
)

_FORMAT = "taskproc code"

Link: TypeAlias = tuple[str, tuple[str, ...]]
"""A name in a part's code, with the labels of what it leads to."""

StatedKind: TypeAlias = Literal["version", "file", "distribution", "code"]


@dataclass(frozen=True)
class PartDescription:
    """One function, class, constant or module that the code reaches.

    Attributes:
        name: canonical module and qualified name.
        label: what other parts call it: the name, with digits where several share one.
        own: digest of what counts of the part itself.
        links: the names in it, and what they lead to.
        is_class: whether it belongs to the class itself: its body, its bases.
        path: the file it is written in; "" if there is no source.
        file: digest of that file's whole text.
        lines: first and last lines of its statements there, from 1.
        value: the text of a value that counts as it is, if it is not long.
    """

    name: str
    label: str
    own: str
    links: tuple[Link, ...] = ()
    is_class: bool = False
    path: str = ""
    file: str = ""
    lines: tuple[tuple[int, int], ...] = ()
    value: str | None = None

    @property
    def digest(self) -> str:
        """The digest of the part: of its own form, and of where its names lead."""
        return part_digest(self.own, self.links)


@dataclass(frozen=True)
class StatedDescription:
    """One thing that a class states in `task_version` or `task_depends_on`.

    Attributes:
        name: what it is called.
        kind: what it is.
        own: digest of what it comes to, but for code.
        text: the same for people.
        parts: positions, among the parts, of the code that it comes to.
    """

    name: str
    kind: StatedKind
    own: str
    text: str
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class CodeDescription:
    """All that the fingerprint of a class is made of.

    Attributes:
        parts: what the code reaches.
        stated: what the class states.
        texts: gives the source files; a description that was read back knows their digests only.
    """

    parts: tuple[PartDescription, ...]
    stated: tuple[StatedDescription, ...] = ()
    texts: Callable[[], Mapping[str, bytes]] = field(default=dict[str, bytes], compare=False, repr=False)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that follows from it."""
        pairs = [(part.name, part.digest) for part in self.parts]
        own = [pair for pair, part in zip(pairs, self.parts, strict=True) if part.is_class]
        stated = [
            (said.name, stated_digest(said.own, [pairs[i] for i in said.parts])) for said in self.stated
        ]
        return fingerprint_of(pairs, own, stated)

    def files(self) -> dict[str, bytes]:
        """The texts of the source files that it refers to, by their digests."""
        return dict(self.texts())

    def to_bytes(self) -> bytes:
        """The description as JSON."""
        content = {
            "format": _FORMAT,
            "scheme": SCHEME,
            "fingerprint": str(self.fingerprint),
            "parts": [_fields(part) for part in self.parts],
            "stated": [_fields(said) for said in self.stated],
        }
        return json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> CodeDescription | None:
        """The description of these bytes; None if they are damaged, or of another scheme."""
        try:
            content = json.loads(data)
            if content["format"] != _FORMAT or content["scheme"] != SCHEME:
                return None
            parts = tuple(_part(fields) for fields in content["parts"])
            stated = tuple(_said(fields, len(parts)) for fields in content["stated"])
            read = cls(parts, stated)
            return read if str(read.fingerprint) == content["fingerprint"] else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def stated_digest(own: str, parts: list[tuple[str, str]]) -> str:
    """The digest of a stated thing, from its own and from the parts of code that it comes to."""
    return combine([("", own), *parts])


def renamed(description: CodeDescription, names: Mapping[str, str]) -> CodeDescription:
    """The description of the same code, had its classes, functions or modules been called otherwise.

    Args:
        names: new canonical names by the old ones (`{"tasks.Sum": "tasks.Total"}`, or a module's).
            What stands below such a name (`tasks.Sum.f`) is renamed with it.

    It tells what the fingerprint becomes by a change of names and of nothing else. Where a name
    is part of a text (a long value, a string), the new fingerprint differs from it: the task is
    then stale, and no answer is taken for another.
    """
    rename = _Renaming(names)
    parts = tuple(rename.part(part) for part in description.parts)
    stated = tuple(dataclasses.replace(said, name=rename.label(said.name)) for said in description.stated)
    return CodeDescription(parts, stated, description.texts)


class _Renaming:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        longest_first = sorted(names, key=len, reverse=True)
        self._label = re.compile(rf"^({'|'.join(map(re.escape, longest_first))})(?=$|[.( #])")
        # In the text of a value a class or function is `module:Qualname`.
        spelled = {self._with_colon(old, new) for old, new in names.items()}
        self._values = [pair for pair in spelled if pair is not None]

    def label(self, label: str) -> str:
        return self._label.sub(lambda found: self._names[found[1]], label) if self._names else label

    def part(self, part: PartDescription) -> PartDescription:
        value, own = part.value, part.own
        if value is not None:
            for old, new in self._values:
                value = value.replace(f'"{old}"', f'"{new}"')
            own = own if value == part.value else text_digest(value)
        links = tuple(self._link(name, labels) for name, labels in part.links)
        return dataclasses.replace(
            part, name=self.label(part.name), label=self.label(part.label), own=own, links=links, value=value
        )

    def _link(self, name: str, labels: tuple[str, ...]) -> Link:
        new = tuple(map(self.label, labels))
        for before, after in zip(labels, new, strict=True):
            if before != after:
                name = _respelled(name, before, after)
        return name, new

    @staticmethod
    def _with_colon(old: str, new: str) -> tuple[str, str] | None:
        if "." not in old or "." not in new:
            return None
        before, after = old.rpartition("."), new.rpartition(".")
        return f"{before[0]}:{before[2]}", f"{after[0]}:{after[2]}"


def _respelled(name: str, before: str, after: str) -> str:
    """How code spells a thing that is now called otherwise: `tasks.Sum` becomes `tasks.Total`."""
    module, colon, path = name.rpartition(":")
    words = [word for word in (*module.lstrip(".").split("."), *path.split(".")) if word]
    old, new = before.split("."), after.split(".")
    if len(old) != len(new):
        return name
    for start in range(len(words)):
        for first in range(len(old)):
            length = len(old) - first
            if words[start : start + length] == old[first:]:
                changed = [*words[:start], *new[first:], *words[start + length :]]
                count = len([word for word in module.lstrip(".").split(".") if word])
                dots = module[: len(module) - len(module.lstrip("."))]
                return f"{dots}{'.'.join(changed[:count])}{colon}{'.'.join(changed[count:])}"
    return name


def _fields(thing: PartDescription | StatedDescription) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    fields = {one.name: (getattr(thing, one.name), one.default) for one in dataclasses.fields(thing)}
    return {name: value for name, (value, default) in fields.items() if value != default}


def _part(fields: Any) -> PartDescription:
    lines = tuple((int(first), int(last)) for first, last in fields.pop("lines", ()))
    links = tuple((_text(name), tuple(map(_text, labels))) for name, labels in fields.pop("links", ()))
    is_class = bool(fields.pop("is_class", False))
    texts: dict[str, Any] = {key: value if value is None else _text(value) for key, value in fields.items()}
    return PartDescription(**texts, links=links, lines=lines, is_class=is_class)


def _said(fields: Any, count: int) -> StatedDescription:
    parts = tuple(int(position) for position in fields.pop("parts", ()))
    if not all(0 <= position < count for position in parts):
        raise ValueError("a position that is none")
    texts: dict[str, Any] = {key: _text(value) for key, value in fields.items()}
    return StatedDescription(**texts, parts=parts)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
