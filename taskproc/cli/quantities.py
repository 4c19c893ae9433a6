"""Read sizes and ages as people write them: "50G", "1.5 MB", "30d"."""

from __future__ import annotations

import re

import click

_FORM = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_SIZES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40,
    "tib": 2**40,
}  # fmt: skip
_AGES = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def size(text: str) -> int:
    """A number of bytes.

    Raises:
        click.BadParameter: it is none.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[2].lower() not in _SIZES:
        raise click.BadParameter(f"{text!r} is no size; write a number and a unit: 500M, 50G, 2GiB")
    return int(float(found[1]) * _SIZES[found[2].lower()])


def age(text: str) -> float:
    """A number of seconds.

    Raises:
        click.BadParameter: it is none.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[2].lower() not in _AGES:
        raise click.BadParameter(f"{text!r} is no age; write a number and a unit: 90min, 12h, 30d, 4w")
    return float(found[1]) * _AGES[found[2].lower()]
