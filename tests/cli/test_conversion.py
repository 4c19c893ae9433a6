"""What a typed text becomes, by annotation."""

from __future__ import annotations

import datetime
import enum
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Union

import pytest

from taskproc.cli.conversion import Misfit, describe, from_json, from_text


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Size:
    width: int
    unit: str = "cm"
    where: Path | None = None
    tags: tuple[str, ...] = field(default_factory=tuple)


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("6", int, 6),
        ("-3", int, -3),
        ("2.5", float, 2.5),
        ("3", float, 3.0),
        ("true", bool, True),
        ("No", bool, False),
        ("1", bool, True),
        ("0", bool, False),
        ("6", str, "6"),
        ('"quoted"', str, '"quoted"'),
        ("", str, ""),
        ("a/b", Path, Path("a/b")),
        ("null", Optional[int], None),  # noqa: UP045 - the older form too
        ("None", int | None, None),
        ("7", int | None, 7),
        ("7", Optional[str], "7"),  # noqa: UP045 - the older form too
        ("7", Union[int, str], 7),  # noqa: UP007 - the older form too
        ("x", str | int, "x"),
        ("7", str | int, 7),
        ("1", bool | int, 1),
        ("true", bool | int, True),
        ("2.5", int | float, 2.5),
        ("[1]", list[int] | int, [1]),
        ("fast", Literal["fast", "slow"], "fast"),
        ("2", Literal[1, 2], 2),
        ("true", Literal[True, "x"], True),
        ("RED", Colour, Colour.RED),
        ("LOW", Level, Level.LOW),
        ("[1, 2]", list[int], [1, 2]),
        ("[1, 2]", Sequence[float], [1.0, 2.0]),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ('[1, "a"]', tuple[int, str], (1, "a")),
        ('["a"]', list[Path], [Path("a")]),
        ("[2, 2]", set[int], {2}),
        ("[1]", list, [1]),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ('{"1": 2}', dict[int, int], {1: 2}),
        ('{"a": 1}', Mapping[str, float], {"a": 1.0}),
        ('{"a": [1]}', dict, {"a": [1]}),
        ('{"width": 3}', Size, Size(3)),
        ('{"width": 3, "where": "x", "tags": ["t"]}', Size, Size(3, where=Path("x"), tags=("t",))),
        ("1", Any, 1),
        ("[1, null]", Any, [1, None]),
        ("plain", Any, "plain"),
        ("{'not': json}", Any, "{'not': json}"),
        ("5", UserId, 5),
        ("5", Annotated[int, "unit"], 5),
        ("1.10", Decimal, Decimal("1.10")),
        ("2024-02-29", datetime.date, datetime.date(2024, 2, 29)),
        ("2024-02-29T10:00", datetime.datetime, datetime.datetime(2024, 2, 29, 10)),
        ("12345678123456781234567812345678", uuid.UUID, uuid.UUID("12345678" * 4)),
        ("ab", bytes, b"ab"),
    ],
)
def test_a_text_becomes_what_the_annotation_wants(text: str, wanted: Any, value: Any) -> None:
    found = from_text(text, wanted)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_float() -> None:
    assert math.isnan(from_text("nan", float))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("six", int),
        ("1.5", int),
        ("", int),
        ("x", float),
        ("maybe", bool),
        ("2", bool),
        ("none", int),
        ("x", int | None),
        ("medium", Literal["fast", "slow"]),
        ("3", Literal[1, 2]),
        ("GREEN", Colour),
        ("1", Colour),
        ("1, 2", list[int]),
        ('["a"]', list[int]),
        ("[true]", list[int]),
        ("[1]", list[str]),
        ("[1, 2, 3]", tuple[int, int]),
        ("[1]", dict[str, int]),
        ('{"a": "x"}', dict[str, int]),
        ('{"a": 1}', list[int]),
        ('{"width": "wide"}', Size),
        ('{"with": 3}', Size),
        ("{}", Size),
        ("3", Size),
        ("1.1.1", Decimal),
        ("tomorrow", datetime.date),
        pytest.param("[" * 100_000, list[int], id="too deep"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(text: str, wanted: Any) -> None:
    with pytest.raises(Misfit):
        from_text(text, wanted)


def test_a_misfit_inside_a_container_is_named() -> None:
    with pytest.raises(Misfit, match='"x" is not int'):
        from_text('[1, "x"]', list[int])
    with pytest.raises(Misfit, match="Size needs 'width'; its fields: width, unit, where, tags"):
        from_json({"unit": "m"}, Size)


def test_an_annotation_is_described_as_one_would_write_it() -> None:
    assert describe(int | None) == "int | None"
    assert describe(Literal["a", "b"]) == "Literal['a', 'b']"
    assert describe(Colour) == "Colour (RED, BLUE)"
    assert describe(list[int]) == "list[int]"
    assert describe(Path) == "Path"
