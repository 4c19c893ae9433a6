"""Find out which stored or running task is meant: `module.Class[/KEY]` and NAME=VALUE words.

Decides what matches, and what is said where nothing does, or too much. Knows nothing of what
the task is wanted for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taskproc.cli.figures import columns, moment_for_people
from taskproc.core.records import JSON, TaskKey
from taskproc.errors import UsageError
from taskproc.registry.components import did_you_mean

_MOST = 20
_MOST_ARGS = 80
_SHORT_KEY = 8


@dataclass(frozen=True)
class Candidate:
    """A task of which something is known; `args` is None where they are not.

    `when` is the Unix time at which it came into its state, or None.
    """

    key: TaskKey
    args: Mapping[str, JSON] | None
    state: Literal["running", "failed", "done"]
    when: float | None


@dataclass(frozen=True)
class Wanted:
    """Which tasks are meant: `name` as it was typed, the beginning of a key, and arguments."""

    name: str
    key: str
    args: Mapping[str, str]

    def __str__(self) -> str:
        return " ".join([self.name + (f"/{self.key}" if self.key else ""), *map("=".join, self.args.items())])

    def takes(self, candidate: Candidate) -> bool:
        """Whether the key and the arguments, as far as they were given, are those of a task."""
        args = candidate.args or {}
        return candidate.key.digest.startswith(self.key) and all(
            name in args and _means(text, args[name]) for name, text in self.args.items()
        )


def read_wanted(task: str, args: Mapping[str, str]) -> Wanted:
    """Which tasks are meant by TASK[/KEY] and NAME=VALUE words."""
    found = re.fullmatch(r"(.+)/([0-9a-fA-F]*)", task)
    return Wanted(found[1], found[2].lower(), args) if found else Wanted(task, "", args)


def full_name(typed: str, names: Collection[str], location: str) -> str:
    """The task name that is meant: one of `names`, or the end of just one of them (`Class`).

    Raises:
        UsageError: there is none, or there are several.
    """
    if typed in names:
        return typed
    ends = sorted(name for name in names if name.endswith(f".{typed}"))
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UsageError(f"{typed!r} may be any of {', '.join(ends)}; say which one")
    last = {name.rpartition(".")[2]: name for name in names}
    hint = did_you_mean(typed, [*names, *last])
    if not hint and names:
        some = sorted(names)[:_MOST]
        hint = f"; there are {', '.join(some)}" + (", ..." if len(names) > len(some) else "")
    raise UsageError(f"nothing is stored of a task {typed!r} in {location}, and none runs{hint}")


def none_matches(wanted: Wanted, name: str, candidates: Sequence[Candidate], now: float) -> UsageError:
    """The error where none of the tasks of a name is meant."""
    known = sorted({arg for candidate in candidates for arg in candidate.args or {}})
    unknown = [arg for arg in wanted.args if arg not in known]
    if unknown and known:
        hint = did_you_mean(unknown[0], known) or f"; its arguments are {', '.join(known)}"
        return UsageError(f"no {name} has an argument {unknown[0]!r}{hint}")
    if not candidates:
        return UsageError(f"nothing is stored of {wanted}, and it does not run")
    listed = _listed(candidates, now)
    return UsageError(f"nothing is stored of {wanted}, and it does not run; there are\n{listed}")


def several_match(name: str, candidates: Sequence[Candidate], now: float) -> UsageError:
    """The error where more than one task is meant."""
    return UsageError(
        f"{len(candidates):,} tasks of the name {name} match; say which one, by its arguments "
        f"(NAME=VALUE) or its key ({name}/KEY)\n{_listed(candidates, now)}"
    )


def _listed(candidates: Iterable[Candidate], now: float) -> str:
    """The tasks, the latest first, with what tells them apart."""
    latest = sorted(candidates, key=lambda one: (one.state == "running", one.when or 0.0), reverse=True)
    rows = [
        (
            f"  {one.key.name}/{one.key.digest[:_SHORT_KEY]}",
            one.state,
            moment_for_people(one.when, now) if one.when is not None else "",
            _arguments(one.args),
        )
        for one in latest[:_MOST]
    ]
    more = len(latest) - len(rows)
    return "\n".join([*columns(rows), *([f"  and {more:,} more"] if more else [])])


def _arguments(args: Mapping[str, JSON] | None) -> str:
    text = json.dumps(args, ensure_ascii=False) if args is not None else ""
    return text if len(text) <= _MOST_ARGS else f"{text[: _MOST_ARGS - 3]}..."


def _means(text: str, stored: JSON) -> bool:
    """Whether a typed text stands for a stored argument: as JSON, or as it is."""
    if text == stored:
        return True
    try:
        typed: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if _is_number(typed) and _is_number(stored):
        return bool(typed == stored)
    # Python takes True for 1, also inside lists; their texts differ.
    return json.dumps(typed, sort_keys=True) == json.dumps(stored, sort_keys=True)


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
