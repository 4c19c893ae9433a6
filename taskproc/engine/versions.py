"""Digests that stand for content. Knows nothing of where the content is kept."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence

from taskproc.core.records import DataFile


def content_digest(payload: bytes) -> str:
    """Digest (32 hex digits) of the uncompressed pickle of a result."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


def content_version(digest: str, data: Sequence[DataFile]) -> str:
    """Digest of a result's whole content: its pickle's digest, and its data files if any."""
    if not data:
        return digest
    text = json.dumps([digest, *[list(file) for file in data]])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def python_minor() -> str:
    """The running Python's minor version, "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
