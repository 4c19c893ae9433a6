"""`taskproc plugins`: what is there to choose from, who offers it, and what failed to load."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from taskproc.cli.output import quiet_when_closed
from taskproc.errors import PluginWarning


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "-p",
    "--plugin",
    "plugins",
    multiple=True,
    metavar="PLUGIN",
    help="Load a plugin (NAME or ./FILE.py), or leave one out (no:NAME). Repeatable.",
)
def command(as_json: bool, plugins: Sequence[str]) -> None:
    """List the components that plugins offer, and the plugins that failed to load."""
    from taskproc.registry import Registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the failures are in the list
        registry = Registry(plugins)
        components = [_plain(item) for item in registry.components()]
        failures = [
            {**_plain(item), "way_out": item.way_out.removeprefix("; ")} for item in registry.failures()
        ]
    with quiet_when_closed():
        if as_json:
            click.echo(json.dumps({"components": components, "failures": failures}, indent=2))
        else:
            click.echo(_table(components))
            for failure in failures:
                click.echo(_failure_line(failure))


def _plain(item: Any) -> dict[str, Any]:
    return asdict(item)


def _table(components: Sequence[dict[str, Any]]) -> str:
    rows = [("KIND", "NAME", "PLUGIN", "DISTRIBUTION")]
    for item in components:
        origin = " ".join(word for word in (item["distribution"], item["version"]) if word)
        rows.append((item["kind"], item["name"], item["plugin"], origin or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _failure_line(failure: dict[str, Any]) -> str:
    origin = " ".join(word for word in (failure["distribution"], failure["version"]) if word)
    return f"failed to load: {failure['plugin']}{f' ({origin})' if origin else ''}: {failure['error']}"
