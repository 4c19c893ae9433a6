"""See to it that a worker runs the code that the runner took the fingerprint of.

A worker loads the project's files anew: it runs other code than the runner if a file was
edited since, or if the script set a global after its import (below its main guard, say). Then
the fingerprint does not speak for the result. The runner notes what stands under the names
that the code of a class reaches (`make_checks`), the worker compares (`failed_checks`).
Imported by workers, so it imports nothing that is slow.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from taskproc.core.arguments import Encoder, canonical
from taskproc.core.arguments.names import class_name
from taskproc.errors import ArgumentError
from taskproc.imports import compiles_plainly
from taskproc.modules import MAIN, canonical_name, main_reference

if TYPE_CHECKING:
    from taskproc.engine.reachable_code.parts import Part

Aspect: TypeAlias = Literal["code", "defaults", "bases", "value"]

_MUTABLE = (list, dict, set, bytearray)


class Check(NamedTuple):
    """What stands under a name of a module in the runner, told by a digest of one aspect of it.

    Attributes:
        module: the module.
        name: the qualified name in it.
        aspect: what the digest is of.
        digests: those that are right: several if the source has several definitions of the name.
        from_source: whether the runner has not loaded the module, and knows what its file says.
    """

    module: str
    name: str
    aspect: Aspect
    digests: tuple[str, ...]
    from_source: bool = False


def make_checks(cls: type, parts: Iterable[Part]) -> list[Check]:
    """Note what stands under the names that the code of a class reaches.

    A class that travels by value takes what it names in its own module along.
    """
    checks: dict[Check, None] = {}
    own = canonical_name(cls.__module__) if _goes_by_value(cls) else None
    for part in parts:
        if part.module and part.module not in sys.modules:
            checks.update(dict.fromkeys(_of_source(part)))
            continue
        module, name = _split(part.name)
        if module is None or module == own or not _is_plain(module):
            continue
        checks.update(dict.fromkeys(_of_thing(module, name, part.value is not None)))
    return list(checks)


class Comparison:
    """What the checks of a run come to in this process.

    Each is made once, and as soon as its module is here: tasks may fill what values a module has.

    Args:
        checks: by task name, what the runner noted.
    """

    def __init__(self, checks: Mapping[str, Sequence[Check]]) -> None:
        self._open = {name: list(own) for name, own in checks.items()}
        self._known: dict[Check, bool] = {}
        self._failed: dict[str, dict[str, None]] = {}
        self._begun = False

    def failed(self, task_name: str) -> list[str]:
        """The names in the code of a task class under which something else stands in this process."""
        if not self._begun:
            self._begun = True
            for name in self._open:  # of all at once: one task may change what another one reads
                self._look(name)
        elif self._open.get(task_name):
            self._look(task_name)
        return list(self._failed.get(task_name, ()))

    def _look(self, task_name: str) -> None:
        left = []
        for check in self._open[task_name]:
            fails = self._known.get(check)
            if fails is None:
                if check.module not in sys.modules:  # a function may import it, or may not
                    left.append(check)
                    continue
                fails = self._known[check] = _fails(check)
            if fails:
                self._failed.setdefault(task_name, {})[f"{check.module}.{check.name}"] = None
        self._open[task_name] = left


def _fails(check: Check) -> bool:
    thing = _look_up(check.module, check.name)
    if check.from_source:
        thing = _function_in(thing)
        # A decorator may have put something else there: of that the source does not tell.
        if thing is None or thing.__code__.co_qualname != check.name or not _is_plain(check.module):
            return False
    return _digest(thing, check.aspect) not in check.digests


def _is_plain(module: str) -> bool:
    """Whether a loaded module is what Python makes of its file, and nothing else."""
    return compiles_plainly(getattr(sys.modules[module], "__loader__", None))


def _goes_by_value(cls: type) -> bool:
    return "<" in cls.__qualname__ or (cls.__module__ == MAIN and main_reference(cls) is None)


def _split(full_name: str) -> tuple[str | None, str]:
    """The loaded module and the name in it of a canonical name."""
    parts = full_name.split(".")
    if "<" not in full_name:
        for count in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:count])
            if module in sys.modules:
                return module, ".".join(parts[count:])
    return None, ""


def _look_up(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        # As it stands there: a descriptor is not asked.
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found


def _of_thing(module: str, name: str, is_value: bool) -> Iterator[Check]:
    """The checks of something that is loaded here."""
    thing = _look_up(module, name)
    aspects: tuple[Aspect, ...] = ("value",) if is_value else ()
    members = [(name, thing)]
    if isinstance(thing, type):
        members += _methods(name, thing)
        aspects = ("bases",)
    for where, member in members:
        for aspect in ("code", "defaults") if isinstance(member, FunctionType) else aspects:
            digest = _digest(member, aspect)
            if digest is not None:
                yield Check(module, where, aspect, (digest,))


def _methods(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    for member_name, member in vars(cls).items():
        if isinstance(member, FunctionType) and member.__qualname__ == f"{cls.__qualname__}.{member_name}":
            yield f"{name}.{member_name}", member


def _of_source(part: Part) -> Iterator[Check]:
    """The checks of the functions in something that is known by its file only."""
    if part.source is None:
        return
    file, own = part.source.file, part.name.removeprefix(part.module).removeprefix(".")
    for name, nodes in file.definitions.items():
        if "<" in name or (own and name != own and not name.startswith(f"{own}.")):
            continue
        codes = tuple({_code_digest(code): None for code in file.compiled(name)})
        if codes and not any(isinstance(node, ast.ClassDef) for node in nodes):
            yield Check(part.module, name, "code", codes, from_source=True)
            written = [_written_defaults(node.args) for node in nodes if not isinstance(node, ast.ClassDef)]
            known = tuple(digest for digest in written if digest is not None)
            if len(known) == len(written):
                yield Check(part.module, name, "defaults", known, from_source=True)


def _written_defaults(args: ast.arguments) -> str | None:
    """The digest of defaults that are plain constants, else None."""
    by_word = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    try:
        return _defaults_digest(
            [ast.literal_eval(node) for node in args.defaults],
            {arg.arg: ast.literal_eval(node) for arg, node in by_word if node is not None},
        )
    except (ValueError, TypeError):
        return None


def _function_in(member: Any) -> FunctionType | None:
    """The function that something in a module or class was made of."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    found: FunctionType | None = member if isinstance(member, FunctionType) else None
    while found is not None and isinstance(inner := found.__dict__.get("__wrapped__"), FunctionType):
        found = inner
    return found


def _digest(thing: Any, aspect: Aspect) -> str | None:
    if aspect == "value":
        text = _text(thing)
        return None if text is None else _digest_of(text)
    if aspect == "bases":
        return _digest_of("\n".join(map(class_name, thing.__bases__))) if isinstance(thing, type) else None
    function = _function_in(thing) if isinstance(thing, FunctionType) else None
    if function is None:
        return None
    if aspect == "code":
        return _code_digest(function.__code__)
    return _defaults_digest(function.__defaults__ or (), function.__kwdefaults__ or {})


def _defaults_digest(values: Iterable[Any], by_word: Mapping[str, Any]) -> str:
    told = [_default(value) for value in values]
    told += [f"{word}={_default(value)}" for word, value in sorted(by_word.items())]
    return _digest_of("\n".join(told))


def _default(value: Any) -> str:
    """What a default says; one that calls may fill says different things in different processes."""
    text = None if isinstance(value, _MUTABLE) else _text(value)
    return class_name(type(value)) if text is None else text


def _text(value: Any) -> str | None:
    try:
        return canonical(Encoder().encode(value)).decode("utf-8", "surrogatepass")
    except (ArgumentError, ValueError):
        return None


def _digest_of(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _code_digest(code: CodeType) -> str:
    """What a function does, whatever file and line it is from."""
    hashed = hashlib.blake2b(digest_size=16)
    stack = [code]
    while stack:
        inner = stack.pop()
        constants = [
            "code" if isinstance(constant, CodeType) else _text_of(constant) for constant in inner.co_consts
        ]
        hashed.update(inner.co_code)
        hashed.update(repr((inner.co_names, inner.co_varnames, constants)).encode("utf-8", "surrogatepass"))
        stack += [constant for constant in inner.co_consts if isinstance(constant, CodeType)]
    return hashed.hexdigest()


def _text_of(constant: Any) -> str:
    # The order in a set depends on the process.
    if isinstance(constant, frozenset):
        return f"frozenset {sorted(map(_text_of, constant))}"
    if isinstance(constant, tuple):
        return f"tuple {[_text_of(item) for item in constant]}"
    return f"{type(constant).__name__} {constant!r}"
