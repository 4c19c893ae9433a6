"""Write a unified diff of some lines of two texts, numbered as they stand in their files.

Knows nothing of code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

Extract: TypeAlias = tuple[str, bytes, Sequence[tuple[int, int]]]
"""The title of a text, the text, and the first and last lines of what is taken from it."""

_CONTEXT = 3


def changed_lines(before: Extract, after: Extract) -> str:
    """A unified diff of what is taken from two texts; "" if that is the same."""
    old, new = list(_numbered(before)), list(_numbered(after))
    matcher = difflib.SequenceMatcher(
        None, [line for _, line in old], [line for _, line in new], autojunk=False
    )
    written: list[str] = []
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        _, first_old, _, first_new, _ = group[0]
        _, _, last_old, _, last_new = group[-1]
        written.append(f"@@ -{_span(old, first_old, last_old)} +{_span(new, first_new, last_new)} @@")
        for kind, from_old, to_old, from_new, to_new in group:
            if kind == "equal":
                written += [f" {line}" for _, line in old[from_old:to_old]]
            else:
                written += [f"-{line}" for _, line in old[from_old:to_old]]
                written += [f"+{line}" for _, line in new[from_new:to_new]]
    if not written:
        return ""
    return "\n".join([f"--- {before[0]}", f"+++ {after[0]}", *written]) + "\n"


def _numbered(extract: Extract) -> Iterator[tuple[int, str]]:
    _, text, ranges = extract
    lines = text.decode("utf-8", "replace").splitlines()
    for first, last in ranges:
        for number in range(first, min(last, len(lines)) + 1):
            yield number, lines[number - 1]


def _span(lines: Sequence[tuple[int, str]], first: int, last: int) -> str:
    """Where a hunk stands in its file, and how many lines it has."""
    if first == last:
        return f"{lines[first - 1][0] if first else 0},0"
    start = lines[first][0]
    return str(start) if last - first == 1 else f"{start},{last - first}"
