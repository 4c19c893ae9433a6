"""`taskproc logs`: what a task printed, or prints right now.

Decides which task is shown and how long it is waited for. Whose bytes they are while it runs
is decided in `engine.following`. Writes nothing to the cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.errors import INTERRUPTED, say
from taskproc.cli.existing import cache_options, existing_backend
from taskproc.cli.output import quiet_when_closed
from taskproc.errors import CacheError

if TYPE_CHECKING:
    from taskproc.cli.chosen import Candidate, Wanted
    from taskproc.core.records import JSON, TaskKey
    from taskproc.engine.following import StreamName
    from taskproc.interfaces import CacheBackend

_STORED_SECONDS = 2.0
"""How often, while a task is waited for, the stored ones are listed."""


@click.command("logs", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("task", metavar="TASK[/KEY]")
@click.argument("args", metavar="[NAME=VALUE]...", nargs=-1)
@cache_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed, until the task has ended.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Show stdout alone.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Show stderr alone.")
def command(
    task: str,
    args: Sequence[str],
    output: str,
    plugins: Sequence[str],
    follow: bool,
    only_stdout: bool,
    only_stderr: bool,
) -> None:
    """Show what a task printed: its stdout on stdout, its stderr on stderr.

    TASK is a task's name, `module.Class`, or `Class` where there is just one. Where there are
    several tasks of the name, say which one by arguments, as they are stored (VALUE is JSON or
    plain text), or by the beginning of its KEY. If more than one matches they are listed, and
    nothing is shown; with -f the one that runs is taken, if it is the only one.

    A failed task's output is kept as well. Of a task that runs, what it printed so far is shown.

    With -f a run under way that may still come to the task is waited for.
    """
    from taskproc.cli.chosen import read_wanted
    from taskproc.cli.values import split_assignments

    wanted = read_wanted(task, split_assignments("argument", "NAME=VALUE", args))
    backend = existing_backend(output, plugins)
    streams: list[StreamName] = ["stdout", "stderr"]
    if only_stdout != only_stderr:
        streams = ["stdout"] if only_stdout else ["stderr"]
    logs = _Logs(backend, streams, follow)
    try:
        with quiet_when_closed():
            logs.show(logs.choose(wanted))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None


@dataclass
class _Logs:
    """One showing of logs."""

    backend: CacheBackend
    streams: Sequence[StreamName]
    follow: bool
    waits: bool = False
    is_empty: bool = True

    def choose(self, wanted: Wanted) -> TaskKey:
        """The one task that is meant; with `follow` it is waited for.

        Raises:
            UsageError: there is none, or there are several.
        """
        from taskproc.cli.chosen import full_name, none_matches, several_match

        stored = _NowAndThen(self._stored)
        posts = self.backend.posts()
        names = {*self.backend.task_names(), *_names_in(posts)}
        name = full_name(wanted.name, names, self.backend.location)
        while True:
            running = {one.key: one for one in self._running(posts, name)}
            chosen = [key for key, one in running.items() if wanted.takes(one)]
            if self.follow and len(chosen) == 1:
                return chosen[0]
            may_come = self.follow and any(_left(post, name) for post in posts)
            known = {**running, **stored(name, not may_come)}
            chosen = [key for key, one in known.items() if wanted.takes(one)]
            if len(chosen) == 1:
                return chosen[0]
            now = time.time()
            if chosen:
                states = {**known, **running}
                raise several_match(name, [states[key] for key in chosen], now)
            if not may_come:
                raise none_matches(wanted, name, list(known.values()), now)
            self._wait(str(wanted))
            posts = self.backend.posts()

    def show(self, key: TaskKey) -> None:
        """Show what the task printed; with `follow` to its end, and if a run may come to it from there."""
        from taskproc.engine.following import follow, jobs_of, marks_of

        is_shown = False
        may_come = _MayCome(self.backend, key)
        while True:
            before = marks_of(self.backend, key)
            posts = self.backend.posts()
            job = next((one for one in jobs_of(posts, self.backend.location) if one.key == key), None)
            if job is not None:
                if job.spool is None:
                    self.is_empty = False
                    say(f"what {key.name} prints goes to the terminal of its run, and is not kept")
                follow(self.backend, job, self.streams, before, self._sink, to_the_end=self.follow)
                is_shown = True
            if not self.follow or (job is None and not may_come(posts)):
                break
            if job is None:
                self._wait(f"{key.name}/{key.digest[:8]}")
        if not is_shown:
            self._show_kept(key)
        if self.is_empty:
            say(f"nothing is kept of what {key} printed")

    def _wait(self, what: str) -> None:
        from taskproc.engine.following import ASK_SECONDS

        if not self.waits:
            self.waits = True
            say(f"waiting for {what}: a run is under way that may come to it")
        time.sleep(ASK_SECONDS)

    def _running(self, posts: Sequence[Mapping[str, JSON]], name: str) -> Iterator[Candidate]:
        from taskproc.cli.chosen import Candidate
        from taskproc.engine.following import jobs_of

        for job in jobs_of(posts, self.backend.location):
            if job.key.name == name:
                yield Candidate(job.key, job.args, "running", job.since)

    def _stored(self, name: str) -> dict[TaskKey, Candidate]:
        from taskproc.cli.chosen import Candidate
        from taskproc.core.overview import ended_at

        found: dict[TaskKey, Candidate] = {}
        for entry in self.backend.stored(name):
            failure, record = entry.failure, entry.record
            if failure is not None:
                args = record.args if record is not None else failure.args
                found[entry.key] = Candidate(entry.key, args, "failed", failure.when)
            elif record is not None:
                found[entry.key] = Candidate(entry.key, record.args, "done", ended_at(record))
        return found

    def _show_kept(self, key: TaskKey) -> None:
        from taskproc.engine.plain_files import open_plain

        paths = self.backend.log_paths(key)
        for name in self.streams:
            try:
                file = open_plain(getattr(paths, name))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CacheError(f"{error.filename!r} can't be read: {error.strerror}") from error
            with file:
                while chunk := file.read(1 << 16):
                    self._sink(name, chunk)

    def _sink(self, name: StreamName, data: bytes) -> None:
        self.is_empty = False
        stream: Any = getattr(sys, name)
        if stream is not None:  # else we were started with the descriptor closed
            stream.buffer.write(data)
            stream.buffer.flush()


class _NowAndThen:
    """A listing that is slow for many tasks, done again only after a while."""

    def __init__(self, look: Callable[[str], dict[TaskKey, Candidate]]) -> None:
        self._look = look
        self._again = 0.0
        self._found: dict[TaskKey, Candidate] = {}

    def __call__(self, name: str, at_once: bool) -> dict[TaskKey, Candidate]:
        begun = time.monotonic()
        if at_once or begun >= self._again:
            self._found = self._look(name)
            now = time.monotonic()
            self._again = now + max(_STORED_SECONDS, 10 * (now - begun))
        return self._found


class _MayCome:
    """Whether a run under way may still come to a task; asked again and again while it is waited for."""

    def __init__(self, backend: CacheBackend, key: TaskKey) -> None:
        self._backend = backend
        self._key = key
        self._asked: object = None
        self._answer = False

    def __call__(self, posts: Sequence[Mapping[str, JSON]]) -> bool:
        ahead = {str(post.get("run")): post for post in posts if _left(post, self._key.name)}
        # Of a name, a task more is done only if fewer are left.
        asked = {run: _left(post, self._key.name) for run, post in ahead.items()}
        if asked != self._asked:
            self._asked = asked
            self._answer = any(not self._has_ended(run, post) for run, post in ahead.items())
        return self._answer

    def _has_ended(self, run: str, post: Mapping[str, JSON]) -> bool:
        """Whether the task's job in this run is over."""
        record = self._backend.look_up([self._key]).get(self._key)
        if record is not None and str(record.provenance.get("job")).startswith(f"{run}-"):
            return True
        started = post.get("started")
        return any(
            event.kind == "failed" and (event.when or 0.0) >= (started or 0.0)
            for event in self._backend.events(self._key)
        )


def _left(post: Mapping[str, JSON], name: str) -> int:
    left = post.get("left")
    count = left.get(name, 0) if isinstance(left, Mapping) else 0
    return count if isinstance(count, int) else 0


def _names_in(posts: Sequence[Mapping[str, JSON]]) -> Iterator[str]:
    """The names of the tasks that run, or may still do."""
    from taskproc.core.overview import running_jobs

    for post in posts:
        yield from (str(job["task"]) for job in running_jobs(post))
        left = post.get("left")
        if isinstance(left, Mapping):
            yield from left
