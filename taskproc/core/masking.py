"""Decide what in a command line may be a secret, and show it without.

Knows nothing of the environment; what of that is a secret is for the engine's `masking`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASS|PWD|KEY|CRED|AUTH|PRIVATE|SESSION|COOKIE|SIGNATURE|WEBHOOK|DSN|DATABASE_URL|CANARY",
    re.IGNORECASE,
)
_WORD = re.compile(r"(-{0,2}[A-Za-z_][A-Za-z0-9_.-]*)=(.+)", re.DOTALL)
_IN_TEXT = re.compile(
    r"""(?<![A-Za-z0-9_])([A-Za-z_][A-Za-z0-9_]*)=((?:'[^']*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$)|[^\s'"])+)"""
)
_MASK = "***"
_LONG = 12


def is_secret_name(name: str) -> bool:
    """Whether what has this name is likely to be a secret: `API_TOKEN`, `DB_PASSWORD`."""
    return _SECRET_NAME.search(name) is not None


def mask_words(words: Iterable[str]) -> list[str]:
    """A command line as it may be shown: `API_TOKEN=***`; plain settings such as `THREADS=1` stay."""
    return [_WORD.sub(_masked, word) for word in words]


def mask_text(text: str) -> str:
    """The same for the text of a command line."""
    return _IN_TEXT.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    # A long word under any name may be a secret; a path is none.
    is_secret = is_secret_name(name) or (len(value) >= _LONG and "/" not in value)
    return f"{name}={_MASK}" if is_secret else found[0]
