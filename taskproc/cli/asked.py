"""Ask before results are removed. Decides what counts as a yes."""

from __future__ import annotations

import sys

import click

from taskproc.cli.errors import say
from taskproc.errors import UsageError


def ask(what: str, is_yes: bool) -> None:
    """Go on only if somebody says yes: by `--yes`, or at the terminal.

    Raises:
        UsageError: there is nobody to ask.
        click.exceptions.Exit: with 1, the answer is no.
    """
    if is_yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            f"{what}: nothing was removed, as nobody can be asked here; say --yes if it is to be"
        )
    if not click.confirm(f"{what}: remove?", err=True):
        say("nothing was removed")
        raise click.exceptions.Exit(1)
