"""See to it that a worker runs the code that the runner took the fingerprint of.

A worker loads the project's files anew: it runs other code than the runner if a file was
edited since, or if the script set a global after its import (below its main guard, say). Then
the fingerprint does not speak for the result. The runner notes what stands under the names
that the code of a class reaches (`make_checks`), the worker compares (`failed_checks`).
Imported by workers, so it imports nothing that is slow.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from taskproc.core.arguments import Encoder, canonical
from taskproc.errors import ArgumentError
from taskproc.modules import MAIN, canonical_name, main_reference


class Check(NamedTuple):
    """What stands under a name of a module in the runner: code or a value, told by a digest."""

    module: str
    name: str
    digest: str


def make_checks(cls: type, reached: Iterable[tuple[str, bool]], is_plain: Any) -> list[Check]:
    """Note what stands under the names that the code of a class reaches.

    A class that travels by value takes what it names in its own module along.

    Args:
        cls: the class.
        reached: canonical names (`helpers.f`), each with whether it is a value that counts as it is.
        is_plain: tells of a module's loader whether it compiles what the file holds and nothing else.
    """
    checks: dict[tuple[str, str], Check] = {}
    own = canonical_name(cls.__module__) if _goes_by_value(cls) else None
    for full_name, is_value in reached:
        module, name = _split(full_name)
        if module is None or module == own or not is_plain(getattr(sys.modules[module], "__loader__", None)):
            continue
        thing = _look_up(module, name)
        members = _methods(name, thing) if isinstance(thing, type) else [(name, thing)]
        for where, member in members:
            digest = _digest(member, is_value)
            if digest is not None:
                checks[module, where] = Check(module, where, digest)
    return list(checks.values())


def failed_checks(checks: Sequence[Check]) -> list[str]:
    """The names under which something else stands in this process."""
    failed = []
    for module, name, digest in checks:
        if module not in sys.modules:  # a function may import it, or may not
            continue
        thing = _look_up(module, name)
        if _digest(thing, not isinstance(thing, FunctionType)) != digest:
            failed.append(f"{module}.{name}")
    return failed


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


def _methods(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    for member_name, member in vars(cls).items():
        if isinstance(member, FunctionType) and member.__qualname__ == f"{cls.__qualname__}.{member_name}":
            yield f"{name}.{member_name}", member


def _digest(thing: Any, is_value: bool) -> str | None:
    if isinstance(thing, FunctionType):
        while isinstance(inner := thing.__dict__.get("__wrapped__"), FunctionType):
            thing = inner
        return _code_digest(thing.__code__)
    if not is_value:
        return None
    try:
        text = canonical(Encoder().encode(thing))
    except (ArgumentError, ValueError):
        return None
    return hashlib.blake2b(text, digest_size=16).hexdigest()


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
