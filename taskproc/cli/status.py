"""`taskproc status`: what a cache holds, task name by task name, and the runs under way.

Decides how it is shown; what counts as stale is decided in `core.overview`, and what a run
says of itself by the run. Writes nothing.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.existing import cache_options, existing_backend
from taskproc.cli.figures import columns, moment_for_people, size_for_people
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.times import for_people

if TYPE_CHECKING:
    from taskproc.core.overview import TaskRow
    from taskproc.core.records import JSON, Record
    from taskproc.interfaces import CacheBackend

    Post = Mapping[str, JSON]

_MOST_JOBS = 20
_MOST_ARGS = 60


@click.command("status", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", required=False)
@cache_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: str | None, output: str, plugins: Sequence[str], as_json: bool) -> None:
    """Show what is stored in CACHE and how the runs under way are going.

    \b
    For each task name:
      DONE      tasks with a stored result
      FAILED    tasks whose last job failed
      RUNNING   jobs that run now
      STALE     of those done, how many would be run again by what is in the cache: an upstream
                is missing, has another content or is stale itself, the cache was moved from
                a place that the result names, or the result holds code of another Python
      SIZE      bytes of the results and of their data files
      TOTAL     seconds that the stored results took, and MEDIAN, in the middle of them

    With FILE the code counts as well, of the tasks whose classes it defines or imports. It can
    be asked at any time, of a run in another terminal too, and it writes nothing.
    """
    backend = existing_backend(output, plugins)
    code_of_record = code_of_file(file, backend) if file is not None else None
    # The runs first: what ends meanwhile is counted as done rather than not at all.
    posts = backend.posts()
    rows = rows_of(backend, posts, code_of_record)
    with quiet_when_closed():
        if as_json:
            click.echo(json.dumps(as_object(rows, posts), indent=2))
        elif rows or posts:
            click.echo("\n".join(as_lines(rows, posts, time.time())))
        else:
            click.echo(f"nothing is stored in {backend.location}, and no run is under way")


def code_of_file(file: str, backend: CacheBackend) -> Callable[[Record], str | None]:
    """What tells the present code of a record's task, by the classes that a task file brings.

    Raises:
        TaskFileError: no such file, or it raises.
    """
    from taskproc.cli.defaults import no_defaults
    from taskproc.cli.entry import load_module, split_entry
    from taskproc.engine.codes import Codes

    with no_defaults():
        load_module(split_entry(file)[0])
    return Codes(backend).of_record


def rows_of(
    backend: CacheBackend,
    posts: Sequence[Post],
    code_of_record: Callable[[Record], str | None] | None = None,
) -> dict[str, TaskRow]:
    """A row for each task name; `code_of_record` tells the present code of a record's task, if known.

    Raises:
        CacheError: the backend can't list what it holds.
    """
    from taskproc.core.overview import sum_up
    from taskproc.engine.versions import python_minor

    entries = chain.from_iterable(backend.stored(name) for name in backend.task_names())
    was_enabled = gc.isenabled()
    gc.disable()  # of many thousand records none is garbage before the end
    try:
        return sum_up(entries, posts, backend.location, python_minor(), code_of_record)
    finally:
        if was_enabled:
            gc.enable()


def as_object(rows: Mapping[str, TaskRow], posts: Sequence[Post]) -> dict[str, Any]:
    """Rows and runs as one JSON object; times are Unix times and seconds."""
    tasks = {
        name: {
            "done": row.done,
            "failed": row.failed,
            "running": row.running,
            "stale": row.stale,
            "bytes": row.bytes,
            "seconds_total": row.seconds_total,
            "seconds_median": row.seconds_median,
            "last_run": row.last_run,
        }
        for name, row in rows.items()
    }
    return {"tasks": tasks, "runs": [dict(post) for post in posts]}


def as_lines(rows: Mapping[str, TaskRow], posts: Sequence[Post], now: float) -> list[str]:
    """Rows and runs for people."""
    head = ("TASK", "DONE", "FAILED", "RUNNING", "STALE", "SIZE", "TOTAL", "MEDIAN", "LAST RUN")
    table = [head, *[_cells(name, row, now) for name, row in rows.items()]]
    lines = columns(table, right=range(1, 8)) if rows else []
    for post in posts:
        lines += ["", *_run_lines(post, now)]
    return lines if rows else lines[1:]


def _cells(name: str, row: TaskRow, now: float) -> tuple[str, ...]:
    counts = (row.done, row.failed, row.running, row.stale)
    middle = row.seconds_median
    return (
        name,
        *[f"{count:,}" if count else "-" for count in counts],
        size_for_people(row.bytes) if row.done else "-",
        for_people(row.seconds_total) if row.seconds else "-",
        for_people(middle) if middle is not None else "-",
        moment_for_people(row.last_run, now) if row.last_run is not None else "-",
    )


def _run_lines(post: Post, now: float) -> list[str]:
    """One run: who runs what since when, how far it is, and what it is at."""
    from taskproc.core.overview import running_jobs

    who = f"{post.get('user', '?')}@{post.get('host', '?')}, process {post.get('pid', '?')}"
    jobs = running_jobs(post)
    lines = [
        f"run of {post.get('entry', '?')} by {who}, for {_since(post.get('started'), now)}: "
        f"{_how_far(post)}, {len(jobs):,} running"
    ]
    rows = [
        (
            f"{job['task']}/{str(job['key'])[:8]}",
            f"for {_since(job.get('since'), now)}",
            _where(job),
            _arguments(job.get("args")),
        )
        for job in jobs[:_MOST_JOBS]
    ]
    lines += [f"  {line}" for line in columns(rows, right=())] if rows else []
    if len(jobs) > _MOST_JOBS:
        lines.append(f"  and {len(jobs) - _MOST_JOBS:,} more")
    return lines


def _how_far(post: Post) -> str:
    counts = post.get("counts")
    known: Mapping[str, JSON] = counts if isinstance(counts, Mapping) else {}
    parts = [f"{known.get('finished', 0):,} of {known.get('total', 0):,} done"]
    parts += [f"{known[word]:,} {word}" for word in ("failed", "cached") if known.get(word)]
    return ", ".join(parts)


def _since(when: JSON, now: float) -> str:
    return for_people(max(0.0, now - when)) if isinstance(when, int | float) else "?"


def _where(job: Mapping[str, JSON]) -> str:
    if job.get("label"):
        return f"launched for {job['label']}"
    return f"process {job['pid']}" if job.get("pid") is not None else ""


def _arguments(args: JSON) -> str:
    text = json.dumps(args, ensure_ascii=False) if args else ""
    return text if len(text) <= _MOST_ARGS else f"{text[: _MOST_ARGS - 3]}..."
