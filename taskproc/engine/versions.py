"""What a record says of a result's content and of the running Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from taskproc.core.records import DataFile, content_digest


def content_version(digest: str, data: Sequence[DataFile]) -> str:
    """Digest of a result's whole content: its pickle's digest, and its data files if any."""
    if not data:
        return digest
    text = json.dumps([digest, *[list(file) for file in data]])
    return content_digest(text.encode())


def python_minor() -> str:
    """The running Python's minor version, "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
