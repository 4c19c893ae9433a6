"""The plugin as a plugin: it is cheap to load, and the keys it makes are the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pandas as pd
import polars as pl
import pytest
import taskproc_dataframes

from taskproc.registry import Registry

KEYS = """
import sys
import taskproc_dataframes
assert not {"pandas", "polars", "numpy"} & set(sys.modules), "loading the plugin imports a library"
import datetime, json
import pandas as pd, polars as pl
from taskproc.core.arguments import Encoder, digest
from taskproc.registry import Registry
encoder = Encoder(find_type=Registry([taskproc_dataframes]).argument_type)
values = [
    pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.date_range("2024", periods=2, tz="UTC")),
    pd.Series({"x", "y", "z"} and ["x", "y"], dtype="category"),
    pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1], []]}),
]
print(json.dumps([digest(encoder.encode(value)) for value in values]))
"""


def test_keys_are_the_same_in_other_processes_and_the_plugin_imports_neither_library():
    path = os.pathsep.join(part for part in sys.path if part)
    answers = set()
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", KEYS], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        answers.add(done.stdout)
    assert len(answers) == 1
    assert len(set(json.loads(answers.pop()))) == 3


def class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


@pytest.mark.parametrize(
    "kind",
    [
        pd.DataFrame, pd.Series, pd.Index, pd.RangeIndex, pd.MultiIndex, pd.DatetimeIndex, pd.TimedeltaIndex,
        pd.PeriodIndex, pd.IntervalIndex, pd.CategoricalIndex, pd.Categorical, pd.Timestamp, pd.Timedelta,
        pd.Period, pd.Interval, type(pd.NaT), type(pd.NA), pd.arrays.NumpyExtensionArray,
        pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray, pd.arrays.StringArray,
        pd.arrays.ArrowStringArray, pd.arrays.ArrowExtensionArray, pd.arrays.DatetimeArray,
        pd.arrays.TimedeltaArray, pd.arrays.PeriodArray, pd.arrays.IntervalArray, pd.arrays.SparseArray,
        pl.DataFrame, pl.Series,
    ],
    ids=class_name,
)  # fmt: skip
def test_each_class_is_registered_under_the_name_it_has_here(kind):
    registration = Registry([taskproc_dataframes]).argument_type(class_name(kind))
    assert registration is not None


def test_the_classes_are_listed():
    listed: list[Any] = [
        info for info in Registry([taskproc_dataframes]).components() if info.kind == "argument type"
    ]
    assert class_name(pd.DataFrame) in {info.name for info in listed}
