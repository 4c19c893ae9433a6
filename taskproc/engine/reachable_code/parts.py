"""Keep the parts that code consists of, and what each of them needs.

A part is made at once and filled in later, from a list of work to do: so functions that name
each other, and long chains of them, cost no recursion. Knows nothing of how parts are found.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

from taskproc.core.fingerprint import text_digest


class Part:
    """A function, class, constant or module of the project that some code reaches.

    Attributes:
        name: canonical module and qualified name, for people and for the fingerprint.
        label: tells the part from others of its name (two closures of one function).
        digest: of what counts of the part itself.
        needs: the parts that it names.
    """

    __slots__ = ("digest", "label", "name", "needs")

    def __init__(self, name: str, label: str) -> None:
        self.name = name
        self.label = label
        self.digest = ""
        self.needs: list[Part] = []

    def settle(self, own: str, links: Iterable[tuple[str, list[Part]]] = ()) -> None:
        """Set the digest from what the part itself says, and from which name led to which part."""
        lines = [own]
        for name, parts in links:
            if parts:
                self.needs += parts
                lines.append(f"{name} {[part.label for part in parts]}")
        self.digest = text_digest("\n".join(lines))

    def __repr__(self) -> str:
        return f"Part({self.name!r})"


class PartTable:
    """All parts found so far, by what they were made from."""

    def __init__(self) -> None:
        self._parts: dict[Hashable, Part] = {}
        self._to_fill: list[tuple[Part, Callable[[Part], None]]] = []
        self._kept: list[object] = []

    def get(
        self,
        key: Hashable,
        name: str,
        fill: Callable[[Part], None],
        *keep: object,
        label: Callable[[], str] | None = None,
    ) -> Part:
        """The part under `key`, made if it is new; `fill` sets its digest and its needs later.

        `keep` are the objects whose ids are in the key: an id must not come to mean another one.
        `label` gives the part's label; None: it is its name.
        """
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = Part(name, name if label is None else label())
            self._to_fill.append((part, fill))
            self._kept.extend(keep)
        return part

    def reach(self, roots: Iterable[Part]) -> list[tuple[str, str]]:
        """Name and digest of every part that the roots need, themselves included."""
        while self._to_fill:
            part, fill = self._to_fill.pop()
            fill(part)
        found = dict.fromkeys(roots)
        stack = list(found)
        while stack:
            for part in stack.pop().needs:
                if part not in found:
                    found[part] = None
                    stack.append(part)
        return [(part.name, part.digest) for part in found]


Links: TypeAlias = list[tuple[str, list[Part]]]
"""Names in a part's code, each with the parts it leads to."""
