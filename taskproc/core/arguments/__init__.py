"""Constructor arguments <-> canonical typed JSON -> digest.

`encoder` gives values their JSON form, `binder` reads a call by the constructor's signature,
`canonical` writes JSON down, `names` says what classes and functions are called.
"""

from taskproc.core.arguments.binder import Binder, default_factories
from taskproc.core.arguments.canonical import canonical, digest
from taskproc.core.arguments.encoder import Encodable, Encoder, fresh

__all__ = [
    "Binder",
    "Encodable",
    "Encoder",
    "canonical",
    "default_factories",
    "digest",
    "fresh",
]
