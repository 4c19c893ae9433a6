"""The options of `taskproc run`, in the order in which the help lists them.

What an option comes to, beside the file's defaults, is decided in settings.
"""

from __future__ import annotations

from typing import Any

import click

from taskproc.cli.defaults import CODE, LOG_LEVELS, ON_ERROR


def run_options() -> list[click.Parameter]:
    """The options, named as the fields of `settings.Given`."""
    return [
        *which_task(),
        *_what_counts(),
        _option(
            ["--early-cutoff/--no-early-cutoff"],
            "Whether an upstream that is run again and comes to the same content leaves what is below it "
            "as it is. Default: no.",
        ),
        _option(
            ["--dry-run"], "The same as `taskproc plan`: run and write nothing.", is_flag=True, default=False
        ),
        *_what_is_shown_of_a_plan("With --dry-run: "),
        *_how_to_run(),
        plugin_option(),
        *_what_to_show(),
    ]


def plan_options() -> list[click.Parameter]:
    """Those that make a difference to what would run."""
    return [
        *which_task(),
        *_what_counts(),
        *_what_is_shown_of_a_plan(),
        plugin_option(),
        log_level_option(),
    ]


def which_task() -> list[click.Parameter]:
    """What says which task is meant, and where it is cached."""
    return [
        output_option(),
        _repeatable(
            ["-a", "--arg", "arguments"],
            "An argument of the entry task, read by the constructor's annotations.",
            metavar="NAME=VALUE",
        ),
        _option(["--kwargs"], "Arguments of the entry task, as a JSON object.", metavar="JSON"),
    ]


def output_option() -> click.Option:
    """`-o CACHE`."""
    return _option(
        ["-o", "--output"],
        "Where results are kept: a path, or NAME:REST for the cache backend NAME. Required.",
        metavar="CACHE",
    )


def plugin_option() -> click.Option:
    """`-p PLUGIN`."""
    return _repeatable(
        ["-p", "--plugin", "plugins"],
        "Load a plugin (NAME or ./FILE.py), or leave one out (no:NAME).",
        metavar="PLUGIN",
    )


def log_level_option() -> click.Option:
    """`-l LEVEL`."""
    return _option(
        ["-l", "--loglevel"],
        "Show log messages of this level and above on stderr. Default: warning.",
        type=click.Choice(LOG_LEVELS),
    )


def code_options() -> list[click.Parameter]:
    """How much of the code counts."""
    return [
        _option(
            ["--code"],
            "How much code counts: all that a class reaches (deep, the default), the class itself and its "
            "bases (class), or none (off).",
            type=click.Choice(CODE),
        ),
        _option(
            ["--detect-source-change/--disable-detect-source-change", " /-D"],
            "Whether a task whose code changed is run again; -D is --code off. Default: yes.",
        ),
    ]


def _what_counts() -> list[click.Parameter]:
    return [
        _option(
            ["--force-entrypoint/--dont-force-entrypoint"],
            "Whether the entry task is run even if its result is stored. Default: yes.",
        ),
        *code_options(),
    ]


def _what_is_shown_of_a_plan(before: str = "") -> list[click.Parameter]:
    return [
        _option(
            ["--json", "as_json"], f"{before}Print one JSON object.".strip(), is_flag=True, default=False
        ),
        _option(["-v", "--verbose"], f"{before}List every task that would run.", is_flag=True, default=False),
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
        _repeatable(
            ["--timeout", "timeouts"],
            "End a task of LABEL, which then has failed, when it has run so long: seconds, or 90s, 10m, 2h, "
            "1d; none: never.",
            metavar="LABEL=SECONDS",
        ),
        _option(
            ["--on-error"],
            "After a failure, start nothing more (stop, the default) or run what can be run.",
            type=click.Choice(ON_ERROR),
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
        log_level_option(),
    ]


def _option(names: list[str], text: str, **facts: Any) -> click.Option:
    return click.Option(names, help=text, **{"default": None, **facts})


def _repeatable(names: list[str], text: str, metavar: str) -> click.Option:
    return click.Option(names, help=f"{text} Repeatable.", metavar=metavar, multiple=True, default=())
