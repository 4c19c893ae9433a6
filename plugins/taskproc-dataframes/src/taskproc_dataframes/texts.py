"""Write down long lists of texts and of bytes by the digest of their exact content.

A frame's key would otherwise hold each of a million texts. Nothing is lost: the texts are
joined, and their lengths tell where each of them ends.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from taskproc.interfaces import content_digest


def told_texts(texts: Sequence[str]) -> dict[str, Any]:
    """What tells a list of texts from any other; they may hold lone surrogates."""
    # A lone surrogate has bytes of its own, so the lengths in characters place every end.
    return _told("texts", map(len, texts), "".join(texts).encode("utf-8", "surrogatepass"), len(texts))


def told_bytes(items: Sequence[bytes]) -> dict[str, Any]:
    """What tells a list of bytes from any other."""
    return _told("bytes", map(len, items), b"".join(items), len(items))


def _told(kind: str, lengths: Iterable[int], joined: bytes, count: int) -> dict[str, Any]:
    numbers = array("q", lengths)
    if sys.byteorder == "big":
        numbers.byteswap()
    return {kind: count, "lengths": content_digest(numbers.tobytes()), "digest": content_digest(joined)}
