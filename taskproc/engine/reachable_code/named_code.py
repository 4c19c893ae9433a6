"""Decide where the name of a function or class leads (`module:qualname`) on which a task depends.

One state of the code has to give one fingerprint in every process, and not every process has
loaded what the stored result of an upstream holds. So what is in memory counts only where it
is there for sure: of what the task was given, and of modules that are loaded with the task's
own. Knows nothing of where the names are from.
"""

from __future__ import annotations

from taskproc.core.arguments.names import GIVEN, find_named
from taskproc.core.fingerprint import text_digest
from taskproc.engine.reachable_code.live_code import LiveCode
from taskproc.engine.reachable_code.parts import Part, PartTable
from taskproc.modules import canonical_name

_BY_NAME = text_digest("known by its name only")


def named_parts(cls: type, name: str, code: LiveCode, table: PartTable) -> list[Part]:
    """The parts behind a `module:qualname` (`.<given>`) beside the code of a class.

    None for what is from outside of the project; what can't be found counts by its name.
    """
    given = name.endswith(GIVEN)
    plain_name = name.removesuffix(GIVEN)
    module, _, qualname = plain_name.partition(":")
    thing = find_named(name)
    if thing is not None and (given or _is_loaded_with(cls, module, code)):
        return code.parts_of(thing)
    if code.static.is_foreign(module):
        return []
    parts = code.static.named(module, qualname.split("."))
    if not parts and thing is not None:  # the module has no source, or makes its names otherwise
        return code.parts_of(thing)
    return parts or [
        table.get(("name", plain_name), f"{module}.{qualname}", lambda part: part.settle(_BY_NAME))
    ]


def _is_loaded_with(cls: type, module: str, code: LiveCode) -> bool:
    homes = {canonical_name(base.__module__) for base in cls.__mro__}
    return module in homes or any(module in code.static.loaded_with(home) for home in homes)
