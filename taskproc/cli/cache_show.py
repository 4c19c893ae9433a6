"""`taskproc cache show`: all that is known of one stored result, without unpickling it. Writes nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.existing import cache_place, made_backend
from taskproc.cli.figures import columns, size_for_people
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.times import for_people
from taskproc.errors import UsageError

if TYPE_CHECKING:
    from taskproc.core.records import Event, Record, StoredEntry
    from taskproc.interfaces import CacheBackend


@click.command("show", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="[CACHE] TASK[/KEY] [NAME=VALUE]...", nargs=-1)
@cache_place
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(words: Sequence[str], output: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """Show all that is known of one stored result: arguments, who computed it, when and how, what
    it rests on, its files, and what happened to it. Nothing is unpickled.

    TASK is a task's name, `module.Class`, or `Class` where there is just one. Where there are
    several results of the name, say which one by arguments, as they are stored (VALUE is JSON or
    plain text), or by the beginning of its KEY.
    """
    from taskproc.cli.cache_ls import entry_object

    backend, rest = made_backend(output, words, plugins)
    if not rest:
        raise UsageError("show what? Give TASK or TASK/KEY; `taskproc cache ls` lists them")
    entry = _chosen(backend, rest)
    files = list(_files(backend, entry))
    events = backend.events(entry.key)
    with quiet_when_closed():
        if as_json:
            told = {"task": entry.key.name, **entry_object(entry), **_record_object(entry.record)}
            told["files"] = [{"path": path, "bytes": size} for path, size in files]
            told["events"] = [_event_object(event) for event in events]
            click.echo(json.dumps(told, indent=2))
        else:
            click.echo("\n".join(_lines(entry, files, events)))


def _chosen(backend: CacheBackend, words: Sequence[str]) -> StoredEntry:
    """The one entry that is meant.

    Raises:
        UsageError: there is none, or there are several.
    """
    from taskproc.cli.cache_clear import stored_candidates
    from taskproc.cli.chosen import full_name, none_matches, read_wanted, several_match
    from taskproc.cli.values import split_assignments

    wanted = read_wanted(words[0], split_assignments("argument", "NAME=VALUE", words[1:]))
    name = full_name(wanted.name, backend.task_names(), backend.location)
    known = stored_candidates(backend, name)
    matching = [key for key, candidate in known.items() if wanted.takes(candidate)]
    if not matching:
        raise none_matches(wanted, name, list(known.values()), time.time())
    if len(matching) > 1:
        raise several_match(name, [known[key] for key in matching], time.time())
    for entry in backend.stored(name):
        if entry.key == matching[0]:
            return entry
    raise UsageError(f"{matching[0]} has just gone")


def _files(backend: CacheBackend, entry: StoredEntry) -> Iterator[tuple[str, int]]:
    """The files of an entry, as far as it is kept in files, with their sizes."""
    record, logs = entry.record, backend.log_paths(entry.key)
    data = sum(file.size for file in record.data) if record is not None else 0
    if record is not None:
        yield "result", entry.size - data
        for file in record.data:
            yield f"data/{file.path}", file.size
    for path in logs:
        try:
            yield str(path), os.lstat(path).st_size
        except OSError:
            continue


def _record_object(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {}
    return {
        "digest": record.digest,
        "version": record.version,
        "code": record.code,
        "root": record.root,
        "python": record.python,
        "provenance": dict(record.provenance),
        "left": dict(record.left),
        "upstreams": [
            {"path": up.path, "task": up.key.name, "key": up.key.digest, "version": up.version}
            for up in record.upstreams
        ],
    }


def _event_object(event: Event) -> dict[str, Any]:
    return {"kind": event.kind, "when": event.when, "who": event.who, "text": event.text}


def _lines(entry: StoredEntry, files: Sequence[tuple[str, int]], events: Sequence[Event]) -> Iterator[str]:
    yield str(entry.key)
    record = entry.record
    args = record.args if record is not None else (entry.failure.args if entry.failure is not None else None)
    yield from _section(
        "arguments", [(name, json.dumps(value, ensure_ascii=False)) for name, value in (args or {}).items()]
    )
    if record is not None:
        yield from _section("computed", _provenance(record.provenance))
        yield from _section("rests on", [(up.path, str(up.key), up.version[:8]) for up in record.upstreams])
        yield from _section("content", _content(record))
    yield from _section("files", [(path, size_for_people(size)) for path, size in files])
    yield from _section("events", [(_moment(one.when), one.kind, one.who, one.text) for one in events])


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield f"{title}:"
        yield from (f"  {line}" for line in columns(rows))


def _provenance(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What a record tells of who computed its result; a file may have been edited by hand."""
    rows: list[tuple[str, ...]] = []
    for name, value in facts.items():
        if name == "started":
            rows.append(("started", _moment(value)))
        elif name == "seconds" and isinstance(value, int | float):
            rows.append(("took", for_people(value)))
        elif isinstance(value, Mapping):
            rows.append((name, ", ".join(f"{key} {one}" for key, one in value.items())))
        elif isinstance(value, str | int | float):
            rows.append((name, str(value)))
        else:
            rows.append((name, json.dumps(value, ensure_ascii=False)))
    return rows


def _content(record: Record) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("digest", record.digest),
        ("version", record.version),
        ("code", record.code),
    ]
    if record.root is not None:
        rows.append(("names a path in", record.root))
    if record.python is not None:
        rows.append(("holds code of", f"Python {record.python}"))
    return rows


def _moment(when: object) -> str:
    if not isinstance(when, int | float):
        return "at an unknown time"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return "at an impossible time"
