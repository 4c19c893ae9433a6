"""Decide where a name in a piece of code comes from: from the piece itself, or from outside.

Python's rules of scope, as far as they are needed for that. Knows nothing of syntax trees.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

ScopeKind: TypeAlias = Literal["root", "function", "class", "comprehension"]


class Reference(NamedTuple):
    """A name that code takes from outside itself, with the attributes read from it.

    `path` is `("helpers", "f")` for `helpers.f`. If the code imports it itself, `module` and
    `level` are those of its import statement, and `path` begins inside that module.
    """

    path: tuple[str, ...]
    module: str | None = None
    level: int = 0

    @property
    def text(self) -> str:
        """The reference as one word: `helpers.f`, or `.lib.deep:deep` where it is imported."""
        path = ".".join(self.path)
        return path if self.module is None else f"{'.' * self.level}{self.module}:{path}"


class Scope:
    """The names of one function, class body or comprehension; "root" is the module around it all.

    Attributes:
        bound: names bound here.
        from_outside: names declared `global`.
        imports: names bound here by an import, with what they stand for.
        loads: names read here, each with the attributes read from it, and the places in the
            normal form where it stands.
    """

    __slots__ = ("bound", "from_outside", "imports", "kind", "loads", "parent")

    def __init__(self, kind: ScopeKind, parent: Scope | None) -> None:
        self.kind = kind
        self.parent = parent
        self.bound: set[str] = set()
        self.from_outside: set[str] = set()
        self.imports: dict[str, Reference] = {}
        self.loads: dict[tuple[str, ...], list[int]] = {}


def resolve(scope: Scope, path: tuple[str, ...]) -> Reference | None:
    """Where a name comes from: None if the code binds it itself."""
    name = path[0]
    inner: Scope | None = scope
    while inner is not None and inner.kind != "root":
        if name in inner.from_outside:
            break
        if name in inner.imports and (inner is scope or inner.kind != "class"):
            imported = inner.imports[name]
            return Reference(imported.path + path[1:], imported.module, imported.level)
        # What a class body binds is not seen from its methods; its own loads were sifted before.
        if name in inner.bound and inner.kind != "class":
            return None
        inner = inner.parent
    return Reference(path)
