"""Data frames of pandas and polars as arguments of taskproc's tasks.

Decides what tells two frames apart. Imports neither library: a frame's class is known by its name.
"""

from __future__ import annotations

from taskproc.hookspecs import hookimpl
from taskproc.interfaces import ArgumentType
from taskproc_dataframes.pandas_types import pandas_types
from taskproc_dataframes.polars_types import polars_types


@hookimpl
def taskproc_register_argument_types() -> list[ArgumentType]:
    """The argument types of this distribution."""
    return [ArgumentType(name, encode) for name, encode in [*pandas_types(), *polars_types()]]
