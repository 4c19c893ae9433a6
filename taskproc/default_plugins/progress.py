"""Show people how a run is going: live bars on a terminal, a line now and then elsewhere.

Writes to stderr only. Hearing of a job costs a few counters; what is shown is drawn from them
at a fixed rate. Knows nothing of how jobs are run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Literal

from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Outcome, Plan, Reporter, RunReport

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.progress import Progress, TaskID

_REDRAWS_PER_SECOND = 5


class _Counts:
    """How far one run has come: the plan's numbers and what was heard since."""

    def __init__(self, plan: Plan) -> None:
        self.root = plan.root.name
        self.cached = len(plan.cached)
        self.planned = plan.run_counts
        self.total = len(plan.run)
        self.only_root = list(plan.run) == [plan.root]
        self.started = 0
        self.ended = 0
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def hear(self, outcome: Outcome) -> None:
        self.ended += 1
        if outcome.kind == "failed":
            self.failed[outcome.key.name] += 1
        elif outcome.kind != "cancelled":
            self.done[outcome.key.name] += 1

    @property
    def running(self) -> int:
        return max(0, self.started - self.ended)

    def first_line(self) -> str:
        alone = f" (the entry task {self.root} alone)" if self.only_root and self.cached else ""
        return f"{self.total} to run{alone}, {self.cached} cached"

    def line(self) -> str:
        done, failed = self.done.total(), self.failed.total()
        total = max(self.total, done + failed)  # a damaged entry brings tasks back that the plan left out
        parts = [f"{done} of {total} done", f"{self.running} running"]
        return ", ".join([*parts, f"{failed} failed"] if failed else parts)


class _Bars:
    """A live bar for each task name; the only user of rich."""

    def __init__(self, counts: _Counts) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._counts = counts
        self._ids: dict[str, TaskID] = {}
        console = Console(stderr=True)
        self._most = max(1, console.height - 3)
        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}", style="red", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        # A run's own output and a debugger need stdout and stderr as they are: no redirection.
        self._live: Live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=_REDRAWS_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _draw(self) -> RenderableType:
        for name, (done, total, failed) in self._rows().items():
            if name not in self._ids:
                self._ids[name] = self._progress.add_task(name, total=total, failed="")
            self._progress.update(
                self._ids[name],
                completed=done + failed,
                total=max(total, done + failed),
                failed=f"{failed} failed" if failed else "",
            )
        return self._progress.get_renderable()

    def _rows(self) -> dict[str, tuple[int, int, int]]:
        """Done, planned and failed, by task name; what has no room on the terminal is one row."""
        counts = self._counts
        done, failed = counts.done.copy(), counts.failed.copy()
        names = list(dict.fromkeys([*counts.planned, *done, *failed]))
        own = names if len(names) <= self._most else names[: self._most - 1]
        rows = {name: (done[name], counts.planned.get(name, 0), failed[name]) for name in own}
        rest = names[len(own) :]
        if rest:
            planned = sum(counts.planned.get(name, 0) for name in rest)
            other = sum(done[name] for name in rest), planned, sum(failed[name] for name in rest)
            rows[f"{len(rest)} other tasks"] = other
        return rows

    def stop(self) -> None:
        self._live.stop()


@dataclass
class _Showing:
    """What is on show; all None between runs."""

    counts: _Counts | None = None
    bars: _Bars | None = None
    began: float = 0.0
    said: float = 0.0


@dataclass(frozen=True)
class ProgressReporter(Reporter):
    """Tell on stderr how a run goes.

    Attributes:
        style: "bars" for live bars, "lines" for plain lines, "auto" for bars on a terminal.
        interval: the least time between two plain lines, in seconds.
    """

    name: ClassVar[str] = "progress"

    style: Literal["auto", "bars", "lines"] = "auto"
    interval: float = 5.0
    _showing: _Showing = field(init=False, repr=False, compare=False, default_factory=_Showing)

    @hookimpl
    def taskproc_run_started(self, plan: Plan) -> None:
        """Say what is to run and what is cached."""
        self._stop_bars()  # of a run that never said it was over
        showing = self._showing
        showing.counts = _Counts(plan)
        showing.began = showing.said = monotonic()
        self._say(showing.counts.first_line())
        if plan.run and self._wants_bars():
            showing.bars = _Bars(showing.counts)

    @hookimpl
    def taskproc_job_started(self) -> None:
        """Count it."""
        if self._showing.counts is not None:
            self._showing.counts.started += 1

    @hookimpl
    def taskproc_job_finished(self, outcome: Outcome) -> None:
        """Count it, and say how far the run is if that was long ago."""
        showing = self._showing
        if showing.counts is None:
            return
        showing.counts.hear(outcome)
        if showing.bars is None:
            now = monotonic()
            if now - showing.said >= self.interval:
                showing.said = now
                self._say(f"{showing.counts.line()} after {_seconds(now - showing.began)}")

    @hookimpl
    def taskproc_run_finished(self, report: RunReport) -> None:
        """Say what the run came to."""
        self._stop_bars()
        self._showing.counts = None
        stats = report.stats
        words = [f"{sum(stats['stats'].values())} executed"]
        failed = sum(stats["failed"].values())
        if failed:
            words.append(f"{failed} failed")
        words.append(f"{sum(stats['cached'].values())} cached")
        status = "done" if report.status == "finished" else report.status
        self._say(f"{status}: {', '.join(words)} in {_seconds(stats['elapsed_seconds'])}")

    def _wants_bars(self) -> bool:
        if self.style != "auto":
            return self.style == "bars"
        stream = sys.stderr
        return bool(stream and not stream.closed and stream.isatty()) and os.environ.get("TERM") != "dumb"

    def _stop_bars(self) -> None:
        bars, self._showing.bars = self._showing.bars, None
        if bars is not None:
            bars.stop()

    def _say(self, text: str) -> None:
        # Where stderr is closed there is nobody to tell, and nothing else is wrong.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"taskproc: {text}\n")
            sys.stderr.flush()


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@hookimpl
def taskproc_register_reporters() -> list[type[Reporter]]:
    """The reporter of this module."""
    return [ProgressReporter]
