"""Keep the parts that code consists of, and what each of them needs.

A part is made at once and filled in later, from a list of work to do: so functions that name
each other, and long chains of them, cost no recursion. Knows nothing of how parts are found.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from taskproc.core.fingerprint import part_digest, text_digest
from taskproc.engine.reachable_code.source_file import SourceFile


class Source(NamedTuple):
    """Where a part is written: syntax trees of a file."""

    file: SourceFile
    nodes: Sequence[ast.AST]


class Part:
    """A function, class, constant or module of the project that some code reaches.

    Attributes:
        name: canonical module and qualified name, for people and for the fingerprint.
        label: tells the part from others of its name (two closures of one function).
        own: digest of what counts of the part itself.
        links: the names in it, each with what it leads to.
        digest: of both, its own form and its links.
        needs: the parts that it names.
        body: of a class, the parts that belong to it: its bases and, without source, its methods.
        source: where it is written, if that is known.
        module: the module of what is known by its file only, loaded or not; else "".
        value: the text of a value that counts as it is, else None.
    """

    __slots__ = ("body", "digest", "label", "links", "module", "name", "needs", "own", "source", "value")

    def __init__(self, name: str, label: str) -> None:
        self.name = name
        self.label = label
        self.own = ""
        self.links: Links = []
        self.digest = ""
        self.needs: list[Part] = []
        self.body: list[Part] = []
        self.source: Source | None = None
        self.module = ""
        self.value: str | None = None

    def settle(self, own: str, links: Links | None = None) -> None:
        """Set the digest from what the part itself says, and from which name led where."""
        self.own = own
        self.links = links or []
        for _, targets in self.links:
            self.needs += [target for target in targets if isinstance(target, Part)]
        self.digest = part_digest(own, ((name, map(label_of, targets)) for name, targets in self.links))

    def settle_value(self, text: str) -> None:
        """Set the digest from the text of a value."""
        self.value = text
        self.settle(text_digest(text))

    def __repr__(self) -> str:
        return f"Part({self.name!r})"


Target: TypeAlias = Part | str
"""What a name leads to: a part or, outside of the project, the import by which it was had."""

WITHOUT_ASSERTIONS = "False, by python -O"
"""What `__debug__` leads to, and with it every assertion, in a Python that leaves assertions out."""

Links: TypeAlias = list[tuple[str, list[Target]]]
"""Names in a part's code, each with what it leads to."""


def label_of(target: Target) -> str:
    """How a part's digest speaks of what one of its names leads to."""
    return target if isinstance(target, str) else target.label


def module_of(target: Target) -> str:
    """The module outside of the project that a name leads to; "" if it leads to a part."""
    is_import = isinstance(target, str) and target.startswith("import ")
    return str(target).partition(":")[0].removeprefix("import ") if is_import else ""


def debug_targets() -> list[Target]:
    """What `__debug__` leads to."""
    return [] if __debug__ else [WITHOUT_ASSERTIONS]


def foreign_modules(parts: Iterable[Part]) -> list[str]:
    """The modules outside of the project from which parts import what they name."""
    found = dict.fromkeys(module_of(one) for part in parts for _, targets in part.links for one in targets)
    return [module for module in found if module]


def bodies(parts: Iterable[Part]) -> list[Part]:
    """The parts, and those that belong to them."""
    found = dict.fromkeys(parts)
    stack = list(found)
    while stack:
        for part in stack.pop().body:
            if part not in found:
                found[part] = None
                stack.append(part)
    return list(found)


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

    def reach(self, roots: Iterable[Part]) -> list[Part]:
        """Every part that the roots need, themselves included."""
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
        return list(found)
