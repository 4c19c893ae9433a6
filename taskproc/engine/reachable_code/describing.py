"""Write down what a fingerprint was made of, from the parts that were found.

Decides nothing about fingerprints; costs nothing until somebody asks.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from taskproc.engine.masking import Secrets
from taskproc.engine.reachable_code.description import CodeDescription, PartDescription, StatedDescription
from taskproc.engine.reachable_code.parts import Part, Source, label_of
from taskproc.engine.reachable_code.source_file import SourceFile, first_line
from taskproc.engine.reachable_code.statements import Statement

_LONGEST_VALUE = 1024


def describe(
    parts: Sequence[Part], own: Collection[Part], stated: Sequence[tuple[Statement, Sequence[Part]]]
) -> CodeDescription:
    """The description of a class: all that it reaches, what of that is its own, what it states."""
    ordered = sorted(parts, key=lambda part: (part.name, part.label, part.digest))
    places = {part: position for position, part in enumerate(ordered)}
    mine = set(own)
    secrets = Secrets()
    files: dict[int, SourceFile] = {id(part.source.file): part.source.file for part in parts if part.source}
    return CodeDescription(
        tuple(_part(part, part in mine, secrets) for part in ordered),
        tuple(
            StatedDescription(
                said.name, said.kind, said.digest, said.text, tuple(sorted(places[one] for one in reached))
            )
            for said, reached in stated
        ),
        lambda: {file.digest: file.data for file in files.values()},
    )


def _part(part: Part, is_class: bool, secrets: Secrets) -> PartDescription:
    source = part.source
    return PartDescription(
        name=part.name,
        label=part.label,
        own=part.own,
        links=tuple((name, tuple(map(label_of, targets))) for name, targets in part.links),
        is_class=is_class,
        path=source.file.path if source else "",
        file=source.file.digest if source else "",
        lines=tuple(_lines(source, node) for node in source.nodes) if source else (),
        value=_shown(part.value, secrets),
    )


def _shown(value: str | None, secrets: Secrets) -> str | None:
    """The text of a value as people may see it; None if it is too long."""
    return None if value is None or len(value) > _LONGEST_VALUE else secrets.mask_json_text(value)


def _lines(source: Source, node: ast.AST) -> tuple[int, int]:
    if isinstance(node, ast.Module):
        return 1, source.file.data.count(b"\n") + 1
    return first_line(node), int(getattr(node, "end_lineno", 0) or 0)
