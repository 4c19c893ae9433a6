"""Decide how a JSON value is written down for comparison: one text for one value.

Knows nothing of where the value came from.
"""

from __future__ import annotations

import json

from taskproc.core.records import JSON, content_digest

_encoder = json.JSONEncoder(sort_keys=True, allow_nan=False, check_circular=False, separators=(",", ":"))


def canonical(value: JSON) -> bytes:
    """The one text of a JSON value: ASCII, compact, keys in order.

    Raises:
        ValueError: a float in it is not finite (the Encoder writes those as text).
    """
    return _encoder.encode(value).encode("ascii")


def digest(value: JSON) -> str:
    """The digest of a JSON value: that of its canonical text."""
    return content_digest(canonical(value))
