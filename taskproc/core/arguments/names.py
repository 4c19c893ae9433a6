"""Decide what a class or function is called, so that another process finds the same one.

Knows nothing of how names are used. Reads `sys.modules`, imports nothing.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from taskproc.modules import canonical_name


def class_name(kind: type) -> str:
    """`module:Qualname` of a class, the same however its module came to run."""
    return f"{_public_module(kind, str(kind.__module__), kind.__qualname__)}:{kind.__qualname__}"


def found_name(thing: Any) -> str | None:
    """`module:qualname` of something that stands under that very name, else None.

    A lambda, a function made in a function and a class that was since replaced have none.
    """
    qualname = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(qualname, str):
        return None
    owner = getattr(thing, "__objclass__", type(thing))
    for module in (getattr(thing, "__module__", None), getattr(owner, "__module__", None)):
        if isinstance(module, str) and _look_up(module, qualname) is thing:
            return f"{_public_module(thing, module, qualname)}:{qualname}"
    return None


# How the Encoder marks what has code of its own.
_NAMED = re.compile(rb'"__(?:function|class|object|enum|subclass|future)__":"([^"\\]+)"')


GIVEN = ".<given>"
"""Ends the name of what a task was given, and which so is loaded wherever that task is made."""


def named_code(text: bytes) -> tuple[str, ...]:
    """The `module:qualname.<given>` of every function and class that an encoded value names, in order."""
    if b'"__' not in text:
        return ()
    return tuple(sorted({name.decode() + GIVEN for name in _NAMED.findall(text)}))


def find_named(name: str) -> Any:
    """The loaded function or class of a `module:qualname`, marked as given or not, or None."""
    module, _, qualname = name.removesuffix(GIVEN).partition(":")
    return _look_up(module, qualname)


def find_loaded(name: str) -> Any:
    """The loaded function or class of a `module:qualname`, or None; runs no code of any module.

    For names that come out of stored text: a module's own `__getattr__` may import others.
    """
    module, _, qualname = name.partition(":")
    names = vars(sys.modules[module]) if module in sys.modules else {}
    found: Any = None
    for part in qualname.split("."):
        found = names.get(part)
        if isinstance(found, staticmethod):
            found = found.__func__
        # The dicts of the bases as well: a method may stand in one of them.
        mro = type.__dict__["__mro__"].__get__(found) if isinstance(found, type) else ()
        names = {key: item for base in reversed(mro) for key, item in vars(base).items()}
    return found


def _look_up(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _public_module(thing: Any, module: str, qualname: str) -> str:
    """The canonical module; of the standard library, its public parent where that has the thing too.

    Python moves such things about between its versions (`pathlib._local` in 3.13).
    """
    if "._" in module and module.partition(".")[0] in sys.stdlib_module_names:
        parent = module.partition("._")[0]
        if _look_up(parent, qualname) is thing:
            return parent
    return canonical_name(module)
