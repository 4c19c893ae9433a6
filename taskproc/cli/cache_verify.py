"""`taskproc cache verify`: check every stored result, and repair what can be.

Decides how findings are shown and which exit code they mean; what is a fault, and how it is
repaired, is the cache backend's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.existing import cache_place, made_backend
from taskproc.cli.figures import size_for_people
from taskproc.cli.output import quiet_when_closed
from taskproc.errors import UsageError

if TYPE_CHECKING:
    from taskproc.interfaces import CacheBackend, Finding, TaskKey

WRONG = 1


@click.command("verify", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cache", metavar="[CACHE]", nargs=-1)
@cache_place
@click.option("--dry-run", is_flag=True, help="Tell what is wrong; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, at the end.")
def command(
    cache: Sequence[str], output: str | None, plugins: Sequence[str], dry_run: bool, as_json: bool
) -> None:
    """Check every stored result in CACHE against its record, and repair what can be.

    Results and data files are read whole and compared by their digests; nothing is unpickled. What
    is damaged is set aside under another name, as a run does it, and the next run computes it
    anew; what runs that were killed left is cleared away. No sound result is removed, and
    nothing that a living run holds is touched.

    The exit code is 0 if all is well, was repaired or is harmless, and 1 if something is wrong
    and was not repaired.
    """
    backend, rest = made_backend(output, cache, plugins)
    if rest:
        raise UsageError(f"verify checks a whole cache; what is {rest[0]!r} for?")
    check = _Check(backend.location, as_json)
    try:
        with quiet_when_closed():
            check.make(backend, repair=not dry_run)
            click.echo(json.dumps(check.as_object(), indent=2) if as_json else check.summary())
    finally:
        backend.close()
    if check.wrong:
        raise click.exceptions.Exit(WRONG)


@dataclass
class _Check:
    """What a check came to so far."""

    location: str
    as_json: bool
    entries: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list["Finding"])

    def make(self, backend: CacheBackend, repair: bool) -> None:
        """Check everything; findings are printed while it goes on."""
        for finding in backend.verify(repair, self._checked):
            self.findings.append(finding)
            if not self.as_json:
                click.echo(_line(finding, self.location))

    def _checked(self, key: TaskKey, size: int) -> None:
        self.entries += 1
        self.bytes += size

    @property
    def wrong(self) -> int:
        """How many faults are neither repaired nor harmless."""
        return sum(not (one.repaired or one.harmless) for one in self.findings)

    def summary(self) -> str:
        """One line for people."""
        what = "entry" if self.entries == 1 else "entries"
        text = f"{self.entries:,} {what} checked, {size_for_people(self.bytes)}: "
        if not self.findings:
            return text + "nothing is wrong"
        repaired = sum(one.repaired for one in self.findings)
        harmless = sum(one.harmless and not one.repaired for one in self.findings)
        parts = [(repaired, "repaired"), (harmless, "harmless"), (self.wrong, "wrong and not repaired")]
        return text + ", ".join(f"{count:,} {word}" for count, word in parts if count)

    def as_object(self) -> dict[str, Any]:
        """All of it as one JSON object."""
        return {
            "entries": self.entries,
            "bytes": self.bytes,
            "repaired": sum(one.repaired for one in self.findings),
            "wrong": self.wrong,
            "findings": [
                {
                    "task": one.key.name if one.key is not None else None,
                    "key": one.key.digest if one.key is not None else None,
                    "path": one.path,
                    "fault": one.fault,
                    "repaired": one.repaired,
                    "harmless": one.harmless,
                }
                for one in self.findings
            ],
        }


def _line(finding: Finding, location: str) -> str:
    outcome = "repaired" if finding.repaired else "harmless" if finding.harmless else "WRONG"
    return f"{outcome}: {finding.path.removeprefix(location + '/')}: {finding.fault}"
