"""Constructor arguments <-> canonical typed JSON -> digest.

`encoder` gives values their JSON form, `decoder` gives them back, `copies` makes what a task
gets of them, `binder` reads a call by the constructor's signature, `canonical` writes JSON
down, `names` says what classes and functions are called, `registered` is what plugins add.
"""

from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.binder import Binder, default_factories
from taskproc.core.arguments.canonical import canonical, digest
from taskproc.core.arguments.copies import fresh
from taskproc.core.arguments.encoder import Encodable, Encoder
from taskproc.core.arguments.registered import ArgumentType, Registration

if TYPE_CHECKING:
    from taskproc.core.arguments.decoder import decode

__all__ = [
    "ArgumentType",
    "Binder",
    "Encodable",
    "Encoder",
    "Registration",
    "canonical",
    "decode",
    "default_factories",
    "digest",
    "fresh",
]


def __getattr__(name: str) -> Any:
    # Loaded when it is first asked for: most runs, and all workers, only encode.
    if name == "decode":
        from taskproc.core.arguments.decoder import decode

        return decode
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
