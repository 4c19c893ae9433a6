"""Keep secrets of the environment out of what is written down, or shown, for people.

What a task is given and what it answers is stored as it is; this is for what taskproc tells by
itself of the values that attributes and constants have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from taskproc.core.masking import is_secret_name
from taskproc.core.records import JSON

_SHORTEST = 4
"""Shorter values are no secrets, and stand in every other text."""

_FOLDERS = ("PWD", "OLDPWD")


class Secrets:
    """The secrets of one environment, as they are now."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        values = {
            value: f"${name}"
            for name, value in found.items()
            if is_secret_name(name) and len(value) >= _SHORTEST and name not in _FOLDERS
        }
        # The longest first: one may be a part of another.
        self._values = sorted(values.items(), key=lambda item: -len(item[0]))

    def mask(self, text: str) -> str:
        """The text with the name of the variable, as `$NAME`, in the place of each secret."""
        for value, name in self._values:
            if value in text:
                text = text.replace(value, name)
        return text

    def mask_json_text(self, text: str) -> str:
        """The same for the text of a JSON value, in which a secret may be escaped."""
        text = self.mask(text)
        for value, name in self._values:
            for is_ascii in (True, False):
                escaped = json.dumps(value, ensure_ascii=is_ascii)[1:-1]
                if escaped != value:
                    text = text.replace(escaped, name)
        return text

    def mask_json(self, value: JSON) -> JSON:
        """A JSON value with the secrets in its texts masked."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, Mapping):
            return {self.mask(name): self.mask_json(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask_json(part) for part in value]
        return value
