"""What records and events say of a result's content, of the running Python, and of who we are."""

from __future__ import annotations

import json
import os
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


def user_name() -> str:
    """Who runs this process."""
    import getpass  # which loads the terminal's module: no job needs it

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return f"uid {os.getuid()}"


def who_we_are() -> str:
    """User, host and process: "ann@node7, process 4711"."""
    return f"{user_name()}@{os.uname().nodename}, process {os.getpid()}"
