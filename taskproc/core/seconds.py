"""Read durations: a number of seconds, or a text such as "90s", "10m", "2h" or "1d".

Knows nothing of what they limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from taskproc.errors import OptionError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TEXT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*")
WANTED = 'a number of seconds above 0, or a text such as "90s", "10m", "2h" or "1d"'


def read_seconds(value: object) -> float:
    """The seconds that a number or a text stands for.

    Raises:
        ValueError: it is neither, or not above 0.
    """
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (found := _TEXT.fullmatch(value)):
        seconds = float(found[1]) * _UNITS[found[2]]
    if not (0 < seconds < math.inf):
        raise ValueError(f"it must be {WANTED}")
    return seconds


def read_timeouts(option: str, timeouts: object) -> dict[str, float | None]:
    """The time limits of labels in seconds; None, or the text "none", for no limit.

    Raises:
        OptionError: one is something else, or it is no dict of labels; `option` is named.
    """
    found: dict[str, float | None] = {}
    if not isinstance(timeouts, Mapping):
        raise OptionError(f"{option} is {timeouts!r}; it must be a dict of labels and seconds")
    for label, value in timeouts.items():
        if not isinstance(label, str):
            raise OptionError(f"{option}: {label!r} is no label; a label is a text")
        try:
            found[label] = None if value is None or value == "none" else read_seconds(value)
        except ValueError as error:
            raise OptionError(
                f'{option}: the time limit of {label!r} is {value!r}; {error}, or "none" for no limit'
            ) from None
    return found
