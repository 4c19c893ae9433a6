"""Decide what the fingerprints of code become when a class gets another name, from what is kept of it.

A class that goes to another module may take the rest of its module along (the file was
renamed) or not; the old file tells, if it is still there. A wrong guess leaves results stale,
and never makes a stale one stand: a fingerprint only counts if the code of today has it.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterable
from dataclasses import replace

from taskproc.core.fingerprint import read_fingerprint
from taskproc.engine.reachable_code.description import CodeDescription, PartDescription, renamed
from taskproc.engine.reachable_code.source_file import undisturbed
from taskproc.interfaces import CacheBackend


class RenamedCodes:
    """The fingerprints after a rename.

    Args:
        backend: keeps the descriptions.
        old, new: the task names.
        codes: all fingerprints in the cache.

    Attributes:
        guess: what was supposed, in words, where the files do not tell what moves; else "".
    """

    def __init__(self, backend: CacheBackend, old: str, new: str, codes: Iterable[str]) -> None:
        self._backend = backend
        self._old, self._word = old, new.rpartition(".")[2]
        self.guess = ""
        self._descriptions = {code: self._kept(code) for code in dict.fromkeys(codes)}
        self._names = self._find_names(old, new)
        self._new: dict[str, CodeDescription] = {}
        self._after: dict[str, str] = {}

    def of(self, code: str) -> str:
        """What a fingerprint becomes; the same if its code names nothing that is renamed."""
        after = self._after.get(code)
        if after is None:
            after = self._after[code] = self._find(code)
        return after

    def is_known(self, code: str) -> bool:
        """Whether it is kept what code it was."""
        return self._descriptions.get(code) is not None

    def keep(self, after: str) -> None:
        """Keep the description of a new fingerprint."""
        description = self._new.pop(after, None)
        if description is not None:
            self._backend.keep_code(description.fingerprint.deep, description.to_bytes())

    def respell(self, name: str) -> str:
        """The new name of a function or class, as `module:qualname`."""
        module, colon, qualname = name.partition(":")
        words = qualname.split(".")
        for count in range(len(words), 0, -1):
            new = self._names.get(".".join((module, *words[:count])))
            if new is not None:
                home, _, last = new.rpartition(".")
                return f"{home}:{'.'.join((last, *words[count:]))}"
        return f"{self._names.get(module, module)}{colon}{qualname}"

    def _kept(self, code: str) -> CodeDescription | None:
        parts = read_fingerprint(code)
        data = self._backend.kept_code(parts.deep) if parts is not None else None
        description = CodeDescription.from_bytes(data) if data is not None else None
        return description if description is not None and str(description.fingerprint) == code else None

    def _find(self, code: str) -> str:
        description = self._descriptions.get(code)
        if description is None:
            return code
        changed = renamed(self._with_own_name(description), self._names)
        after = str(changed.fingerprint)
        if after != code:
            self._new[after] = changed
        return after

    def _with_own_name(self, description: CodeDescription) -> CodeDescription:
        """The description with the new name where the class, or one derived from it, names itself.

        There the name leads nowhere, as what it stands for counts in full, so `renamed` passes over it.
        """
        if not any(part.is_class and part.name == self._old for part in description.parts):
            return description
        parts = tuple(self._part(part) if part.is_class else part for part in description.parts)
        return replace(description, parts=parts)

    def _part(self, part: PartDescription) -> PartDescription:
        word = self._old.rpartition(".")[2]
        links = []
        for name, labels in part.links:
            first, dot, rest = name.partition(".")
            links.append((f"{self._word}{dot}{rest}" if first == word and not labels else name, labels))
        return replace(part, links=tuple(links))

    def _find_names(self, old: str, new: str) -> dict[str, str]:
        """All that is called otherwise, by its old name: the class, and what goes along with it."""
        names = {old: new}
        old_module, new_module = old.rpartition(".")[0], new.rpartition(".")[0]
        if old_module == new_module:
            return names
        parts = [part for known in self._descriptions.values() if known is not None for part in known.parts]
        inside = [part for part in parts if f"{part.name}.".startswith(f"{old_module}.")]
        ends = [f"{os.sep}{old_module.replace('.', os.sep)}{end}" for end in (".py", f"{os.sep}__init__.py")]
        files = {part.path for part in inside if part.path.endswith(tuple(ends))}
        left = _defined(files)
        # Nothing has been moved in the files yet, or the old one is gone: then all of it moves.
        is_unmoved = old.rpartition(".")[2] in left
        is_whole = not left or is_unmoved
        if is_unmoved:
            self.guess = (
                f"as {old} is still in {', '.join(sorted(files))}, it is supposed that all of that file will "
                f"be in {new_module}; if that is not so, rename it back, edit the file, and rename it then"
            )
        for part in inside:
            word = part.name.removeprefix(f"{old_module}.").partition(".")[0]
            if part.name == old_module or not word.isidentifier() or f"{old_module}.{word}" == old:
                continue
            if is_whole or word not in left:
                names[f"{old_module}.{word}"] = f"{new_module}.{word}"
        if is_whole:
            names[old_module] = new_module
        return names


def _defined(paths: Iterable[str]) -> set[str]:
    """What the files that are still there define at their top level."""
    found: set[str] = set()
    for path in paths:
        try:
            with open(path, "rb") as file:
                text = file.read()
            tree = undisturbed(functools.partial(ast.parse, text))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(statement.name)
            elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.If | ast.Try):
                found |= {
                    node.id
                    for node in ast.walk(statement)
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                }
    return found
