"""Say what differs between two states of the code of a class: the causes, not what follows from them.

A part is named if its own form differs, or if one of its names leads elsewhere; a part that
only reaches one that changed is not. Knows nothing of how code is found or stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from taskproc.core.records import CodeMode
from taskproc.engine.reachable_code.description import (
    CodeDescription,
    Link,
    PartDescription,
    StatedDescription,
)
from taskproc.engine.reachable_code.text_diffs import changed_lines

TextOf: TypeAlias = Callable[[str], bytes | None]
"""Gives the text of a source file by its digest; None if it is not kept."""

_ELSEWHERE = " leads elsewhere: "
_DIGITS = re.compile(r" [0-9a-f]{32}$")  # by which closures of one name are told apart


class CodeChange(NamedTuple):
    """One thing that changed in the code of a class.

    Attributes:
        name: of the part, or of what the class states.
        file: the path of the file that it is written in; "" if it is in none.
        kind: whether it was there before, and is now.
        diff: what changed: a unified diff of its own lines, or words.
    """

    name: str
    file: str
    kind: Literal["changed", "added", "removed"]
    diff: str

    @property
    def is_text(self) -> bool:
        """Whether it is a diff of source, and nothing else."""
        return self.diff.startswith("--- ") and not self.diff.rpartition("\n@@ ")[2].count(_ELSEWHERE)


class _Change(NamedTuple):
    """A change of a part, with the part on both sides."""

    told: CodeChange
    before: PartDescription
    after: PartDescription

    def is_in(self, changes: Sequence[_Change]) -> bool:
        """Whether one of these tells it as well: that of what stands around it."""
        return self.told.is_text and any(self._is_within(other, changes) for other in changes)

    def _is_within(self, other: _Change, changes: Sequence[_Change]) -> bool:
        if other is self or not other.told.is_text:
            return False
        inside = _lies_in(self.before, other.before) and _lies_in(self.after, other.after)
        around = _lies_in(other.before, self.before) and _lies_in(other.after, self.after)
        # Of two with the same lines the first is told.
        return inside and (not around or changes.index(other) < changes.index(self))


def differences(
    before: CodeDescription, after: CodeDescription, text_of: TextOf, mode: CodeMode = "deep"
) -> list[CodeChange]:
    """What changed in the code of a class; [] if nothing did that counts.

    Args:
        before: the code as it was.
        after: the code as it is.
        text_of: gives the texts of the source files of both.
        mode: how much of the code counts.
    """
    stated = list(_stated_changes(before, after))
    old, new = _counting(before, mode), _counting(after, mode)
    pairs, removed, added = _paired(old, new)
    renamed = {one.label: other.label for one, other in pairs}
    changes = [
        _Change(change, one, other)
        for one, other in pairs
        if one.digest != other.digest and (change := _change(one, other, renamed, text_of)) is not None
    ]
    found = [change.told for change in changes if not change.is_in(changes)]
    found += [_one_sided(part, "removed", text_of) for part in _roots(removed, old)]
    found += [_one_sided(part, "added", text_of) for part in _roots(added, new)]
    # An object that is made otherwise holds other things: its source says why.
    names = {change.name for change in found}
    found = [change for change in found if not _is_state_of(change.name, names)]
    return [*stated, *sorted(found, key=lambda change: (change.kind != "changed", change.name))]


def _is_state_of(name: str, names: Collection[str]) -> bool:
    return name.endswith("(state)") and name.removesuffix("(state)") in names


def _counting(code: CodeDescription, mode: CodeMode) -> list[PartDescription]:
    """The parts that count; what is stated counts in any mode."""
    stated = {position for said in code.stated for position in said.parts}
    return [
        part
        for position, part in enumerate(code.parts)
        if mode == "deep" or position in stated or (mode == "class" and part.is_class)
    ]


def _paired(
    before: Collection[PartDescription], after: Collection[PartDescription]
) -> tuple[list[tuple[PartDescription, PartDescription]], list[PartDescription], list[PartDescription]]:
    """The parts that are the same thing before and after, and those that have no counterpart."""
    pairs: list[tuple[PartDescription, PartDescription]] = []
    left, right = list(before), list(after)
    # Those that are equal first; a closure's label has digits, which change with its code.
    for same in (_identity, _label, _surroundings, _name):
        waiting: dict[tuple[str, ...], list[PartDescription]] = {}
        for part in right:
            waiting.setdefault(same(part), []).append(part)
        unpaired = []
        for part in left:
            candidates = waiting.get(same(part))
            if candidates:
                pairs.append((part, candidates.pop(0)))
            else:
                unpaired.append(part)
        left, right = unpaired, [part for candidates in waiting.values() for part in candidates]
    return pairs, left, right


def _identity(part: PartDescription) -> tuple[str, ...]:
    return part.label, part.digest


def _label(part: PartDescription) -> tuple[str, ...]:
    return (part.label,)


def _surroundings(part: PartDescription) -> tuple[str, ...]:
    """Two closures of one function are told apart by what they hold."""
    return (part.name, *(f"{name} {_places(labels)}" for name, labels in part.links))


def _name(part: PartDescription) -> tuple[str, ...]:
    return (part.name,)


def _roots(parts: Iterable[PartDescription], everything: Iterable[PartDescription]) -> list[PartDescription]:
    """Those of the parts on one side only that something on both sides leads to, or nothing at all."""
    alone = list(parts)
    inner = {id(part) for part in alone}
    led_to: set[str] = set()
    led_to_by_others: set[str] = set()
    for part in everything:
        labels = {label for _, targets in part.links for label in targets}
        led_to |= labels
        if id(part) not in inner:
            led_to_by_others |= labels
    return [part for part in alone if part.label in led_to_by_others or part.label not in led_to]


def _change(
    before: PartDescription, after: PartDescription, renamed: Mapping[str, str], text_of: TextOf
) -> CodeChange | None:
    led = list(_led_elsewhere(before.links, after.links, renamed))
    is_same_text = before.own == after.own and [name for name, _ in before.links] == [
        name for name, _ in after.links
    ]
    if is_same_text and not led:
        return None
    words = "".join(f"{line}\n" for line in led)
    if not is_same_text:
        words = _own_change(before, after, text_of) + words
    return CodeChange(after.name, after.path or before.path, "changed", words)


def _led_elsewhere(
    before: tuple[Link, ...], after: tuple[Link, ...], renamed: Mapping[str, str]
) -> Iterator[str]:
    """In words, the names on both sides that lead to something else."""
    known = dict(before)
    for name, labels in after:
        was = known.get(name)
        if was is not None and [renamed.get(label, label) for label in was] != list(labels):
            yield f"{name}{_ELSEWHERE}was {_places(was)}, is {_places(labels)}"


def _places(labels: Iterable[str]) -> str:
    return ", ".join(_place(label) for label in labels) or "nothing known"


def _place(label: str) -> str:
    if label.startswith("import "):
        return f"`{label}`"
    return _DIGITS.sub("", label)


def _own_change(before: PartDescription, after: PartDescription, text_of: TextOf) -> str:
    if before.value is not None and after.value is not None and not _holds_code(before, after):
        return f"{after.name}: was {before.value}, is {after.value}\n"
    title = f"{before.path} ({before.name}), as it was", f"{after.path} ({after.name}), as it is"
    if before.file and after.file:
        was, now = text_of(before.file), text_of(after.file)
        if was is not None and now is not None:
            diff = changed_lines((title[0], was, before.lines), (title[1], now, after.lines))
            if diff:
                return diff
        else:
            side = "was" if was is None else "is"
            return f"{after.name} changed; the source as it {side} is no longer kept\n"
    if before.value is not None or after.value is not None:
        return f"{after.name}: was {_shown(before)}, is {_shown(after)}\n"
    return f"{after.name} changed; there is no source to show it by\n"


def _holds_code(*parts: PartDescription) -> bool:
    """Whether values hold functions without a name, of which there is but a digest."""
    return any(part.value is not None and '"__code__"' in part.value for part in parts)


def _lies_in(inner: PartDescription, outer: PartDescription) -> bool:
    return inner.path == outer.path and all(
        any(first <= start and end <= last for first, last in outer.lines) for start, end in inner.lines
    )


def _shown(part: PartDescription) -> str:
    if part.value is not None:
        return part.value
    return "a value known by its source" if part.file else "a value too long to be shown"


def _one_sided(part: PartDescription, kind: Literal["added", "removed"], text_of: TextOf) -> CodeChange:
    text = text_of(part.file) if part.file else None
    if part.value is not None:
        words = f"{part.name}: {'is now' if kind == 'added' else 'was'} {part.value}\n"
    elif text is None:
        words = f"{part.name}: {'reached now' if kind == 'added' else 'not reached any more'}\n"
    else:
        title = f"{part.path} ({part.name})"
        nothing = (f"{title}, not reached", b"", ())
        side = (title, text, part.lines)
        words = changed_lines(nothing, side) if kind == "added" else changed_lines(side, nothing)
    return CodeChange(part.name, part.path, kind, words)


def _stated_changes(before: CodeDescription, after: CodeDescription) -> Iterator[CodeChange]:
    """What a class states otherwise; of code, the parts that changed are told by themselves."""
    was = {said.name: said for said in before.stated}
    now = {said.name: said for said in after.stated}
    for name in sorted(was.keys() | now.keys()):
        old, new = was.get(name), now.get(name)
        if new is None and old is not None:
            yield CodeChange(
                name, "", "removed", f"{_called(old)} is no longer stated; it was {_told(old)}\n"
            )
        elif old is None and new is not None:
            yield CodeChange(name, "", "added", f"{_called(new)} is stated now: {_told(new)}\n")
        elif old is not None and new is not None and (old.kind, old.own) != (new.kind, new.own):
            yield CodeChange(name, "", "changed", _restated(old, new))


def _restated(old: StatedDescription, new: StatedDescription) -> str:
    if old.kind == new.kind == "file":
        return f"{_called(new)}: its content changed\n"
    return f"{_called(new)}: was {_told(old)}, is {_told(new)}\n"


def _called(said: StatedDescription) -> str:
    if said.kind == "version":
        return "task_version"
    return f"{'the file ' if said.kind == 'file' else ''}{said.name} (task_depends_on)"


def _told(said: StatedDescription) -> str:
    return f"version {said.text}" if said.kind == "distribution" else said.text
