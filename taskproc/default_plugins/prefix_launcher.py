"""Run each job behind any command that is put in front of it: `srun -n 1`, `nice`, `jbsub -wait`.

Decides how the text of a prefix is read; knows nothing of what the command does.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from taskproc.errors import PrefixError
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Job, Launcher, mask_text

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_HOME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*=)?~")
_TRAILING_LINES = re.compile(r"(?<!\\)\n\s*\Z")
_TEMPLATE = re.compile(r"\{(task_name|task_id|label|directory|stdout|stderr)\}")
_PIECE = re.compile(
    r"""
      (?P<blank>[ \t]+)
    | (?P<continued>\\\n)
    | (?P<escaped>\\.)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | (?P<shell>&&|\|\||[;&|<>()`\n$])
    | (?P<plain>[^\s;&|<>()`$\\'"]+|[^\S \t\n])
    | (?P<open>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_DOUBLE_QUOTES = re.compile(r'\\([$`"\\])|\\\n|([$`])')


@dataclass(frozen=True)
class PrefixLauncher(Launcher):
    """Put a command in front of each job's own.

    Attributes:
        prefix: the command, as text that is split as a shell would, or as a sequence of words
            that are taken as they are. Leading NAME=value words become environment variables.
            In every word {task_name}, {task_id}, {label}, {directory}, {stdout} and {stderr}
            are replaced by those of the job; other braces stay.

    Raises:
        PrefixError: the prefix has no command, an open quote, or needs a shell.
    """

    name: ClassVar[str] = "prefix"

    prefix: str | tuple[str, ...]
    _words: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _variables: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = _split(self.prefix) if isinstance(self.prefix, str) else _checked(self.prefix)
        variables: list[tuple[str, str]] = []
        while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
            variables.append((assignment[1], assignment[2]))
            del words[0]
        if not words or not words[0]:
            raise PrefixError(
                f"prefix {_shown(self.prefix)!r} has no command; leave the prefix out to run without one"
            )
        if not isinstance(self.prefix, str):
            object.__setattr__(self, "prefix", tuple(self.prefix))  # a list would make it unhashable
        object.__setattr__(self, "_words", tuple(words))
        object.__setattr__(self, "_variables", tuple(variables))

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        """The prefix's words, then `argv`."""
        return [_filled(word, job) for word in self._words] + list(argv)

    def environment(self, job: Job) -> dict[str, str]:
        """The variables of the leading NAME=value words."""
        return {name: _filled(value, job) for name, value in self._variables}

    @property
    def needs(self) -> tuple[str, ...]:
        """The command, unless its name depends on the job."""
        return () if _TEMPLATE.search(self._words[0]) else self._words[:1]

    def explain(self, returncode: int, stderr: str) -> str:
        """What the exit code of a command in front usually means."""
        if returncode == 126:
            return f"126 mostly means that something behind {self._words[0]!r} may not be executed"
        if returncode == 127:
            return f"127 mostly means that something behind {self._words[0]!r} was not found"
        try:
            name = signal.Signals(returncode - 128).name
        except ValueError:
            return ""
        return f"{returncode} mostly means that the job was ended by {name}"


def _filled(word: str, job: Job) -> str:
    """One word with its templates replaced; in one go, so that a value with braces stays as it is."""
    values = {
        "task_name": job.key.name,
        "task_id": str(job.task_id),
        "label": job.label,
        "directory": job.directory,
        "stdout": job.stdout,
        "stderr": job.stderr,
    }
    return _TEMPLATE.sub(lambda found: values[found[1]], word)


def _checked(prefix: Sequence[str]) -> list[str]:
    words = list(prefix)
    for word in words:
        if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PrefixError(f"prefix {_shown(prefix)!r} holds {word!r}: every word is a str")
        if "\0" in word:
            raise PrefixError(f"prefix {_shown(prefix)!r} holds a null character, which no command can take")
    return words


def _shown(prefix: Any) -> Any:
    """A prefix as it may be shown: the values of its NAME=value words may be secrets."""
    if isinstance(prefix, str):
        return mask_text(prefix)
    return [_shown(word) if isinstance(word, str) else word for word in prefix]


def _split(text: str) -> list[str]:
    """Split a prefix into words as a shell would, refusing what only a shell can do."""
    words: list[str] = []
    word: str | None = None  # None: between words
    for piece in _PIECE.finditer(_TRAILING_LINES.sub("", text).lstrip()):
        kind, raw = str(piece.lastgroup), piece[0]
        if kind == "blank":
            if word is not None:
                words.append(word)
            word = None
        elif kind == "shell":
            raise _needs_shell(text, raw)
        elif kind == "open":
            fault = "ends in a backslash" if raw == "\\" else f"has an open quote ({raw})"
            raise PrefixError(
                f"prefix {_shown(text)!r} {fault}: close it, or give the prefix as a list of words"
            )
        elif kind != "continued":
            before, word = word or "", (word or "") + _content(text, piece)
            home = _HOME.match(word)
            if kind == "plain" and home and home.end() > len(before):
                raise _needs_shell(text, "~")
    return _checked(words if word is None else [*words, word])


def _content(text: str, piece: re.Match[str]) -> str:
    """What a quoted, escaped or plain piece of a word stands for."""
    if piece["escaped"] is not None:
        return piece["escaped"][1:]
    if piece["double"] is not None:
        active = next((one for one in _IN_DOUBLE_QUOTES.finditer(piece["double"]) if one[2]), None)
        if active:
            raise _needs_shell(text, active[2])
        return _IN_DOUBLE_QUOTES.sub(lambda one: one[1] or "", piece["double"])
    return str(piece["single"] if piece["single"] is not None else piece["plain"])


def _needs_shell(text: str, mark: str) -> PrefixError:
    inner = _shown(text.strip()) + ' "$@"'
    return PrefixError(
        f"prefix {_shown(text)!r} has {mark!r}, which only a shell understands, and no shell is in between. "
        f"Ask for one: sh -c {shlex.quote(inner)} sh. "
        "If it is meant literally, put it in single quotes or give the prefix as a list of words"
    )


@hookimpl
def taskproc_register_launchers() -> list[type[Launcher]]:
    """The launcher of this module."""
    return [PrefixLauncher]
