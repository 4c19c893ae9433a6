"""The options of `taskproc run`, in the order in which the help lists them.

What an option comes to, beside the file's defaults, is decided in settings.
"""

from __future__ import annotations

from typing import Any

import click

from taskproc.cli.defaults import LOG_LEVELS, ON_ERROR


def run_options() -> list[click.Parameter]:
    """The options, named as the fields of `settings.Given`."""
    return [*_what_to_run(), *_how_to_run(), *_what_to_show()]


def _what_to_run() -> list[click.Parameter]:
    return [
        _option(
            ["-o", "--output"],
            "Where results are kept: a path, or NAME:REST for the cache backend NAME. Required.",
            metavar="CACHE",
        ),
        _repeatable(
            ["-a", "--arg", "arguments"],
            "An argument of the entry task, read by the constructor's annotations.",
            metavar="NAME=VALUE",
        ),
        _option(["--kwargs"], "Arguments of the entry task, as a JSON object.", metavar="JSON"),
        _option(
            ["--force-entrypoint/--dont-force-entrypoint"],
            "Whether the entry task is run even if its result is stored. Default: yes.",
        ),
        _option(
            ["--detect-source-change/--disable-detect-source-change", " /-D"],
            "Whether a task whose code changed is run again. Default: yes.",
        ),
        _option(
            ["--dry-run"], "Show what would run, and why; run and write nothing.", is_flag=True, default=False
        ),
    ]


def _how_to_run() -> list[click.Parameter]:
    return [
        _option(
            ["-t", "--exec-type"],
            "How jobs run: process (default), thread, serial (or local), or a plugin's executor.",
            metavar="NAME",
        ),
        _option(["-x", "--executor"], "The same, with options.", metavar="NAME[:OPT=VAL,...]"),
        _option(
            ["-n", "--num-workers"],
            "How many jobs at once. Default: the number of cores.",
            type=click.IntRange(min=1),
            metavar="N",
        ),
        _repeatable(
            ["--prefix", "prefixes"],
            "Put COMMAND in front of the jobs of LABEL. Or a JSON object of them.",
            metavar="LABEL=COMMAND",
        ),
        _repeatable(
            ["--launcher", "launchers"],
            "Start the jobs of LABEL by the launcher NAME.",
            metavar="LABEL=NAME[:OPT=VAL,...]",
        ),
        _repeatable(["--rate-limit"], "Run at most N tasks of LABEL at once.", metavar="LABEL=N"),
        _option(["--rate-limits"], "The same, as a JSON object.", metavar="JSON"),
        _option(
            ["--on-error"],
            "After a failure, start nothing more (stop, the default) or run what can be run.",
            type=click.Choice(ON_ERROR),
        ),
        _repeatable(
            ["-p", "--plugin", "plugins"],
            "Load a plugin (NAME or ./FILE.py), or leave one out (no:NAME).",
            metavar="PLUGIN",
        ),
    ]


def _what_to_show() -> list[click.Parameter]:
    return [
        _repeatable(
            ["--report", "reporters"], "Let the reporter NAME hear of the run.", metavar="NAME[:OPT=VAL,...]"
        ),
        _option(
            ["--show-progress/--dont-show-progress"], "Whether progress is shown on stderr. Default: yes."
        ),
        _option(
            ["-l", "--loglevel"],
            "Show log messages of this level and above on stderr. Default: warning.",
            type=click.Choice(LOG_LEVELS),
        ),
    ]


def _option(names: list[str], text: str, **facts: Any) -> click.Option:
    return click.Option(names, help=text, **{"default": None, **facts})


def _repeatable(names: list[str], text: str, metavar: str) -> click.Option:
    return click.Option(names, help=f"{text} Repeatable.", metavar=metavar, multiple=True, default=())
