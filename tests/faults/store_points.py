"""Try the store at points of failure, each in processes of its own, and tell how it went.

`python store_points.py FOLDER` reads cases as lines of JSON and answers each by a line. A case is one
run of the small graph that fails at one point; then follow, on a sound disk, a check of the
whole cache, a run that has to come to the right answer, and one that has nothing to do.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from failing_files import (
    DEATHS,
    Control,
    FaultyCache,
    Point,
    lines_of,
    paths_struck,
    pids_of,
    read_tree,
    steps_of,
    strikes,
    times_struck,
)
from power_cut import Replay, let_rows_hold, rows_that_hold, write_tree
from small_graph import Choose, Report, names_without, right_answer

from taskproc import Cache
from taskproc.engine import codes, runner
from taskproc.errors import CacheError, DamagedEntryWarning, FailedTaskError, TaskprocError
from taskproc.interfaces import TaskKey

PATIENCE = 120.0
"""Seconds after which a run counts as stuck; one takes some hundredths, with workers a second."""

LAUNCHED = "launched"

_AID = re.compile(r"/(code|runs|index\.jsonl|journal\.jsonl|stdout\.txt|stderr\.txt|failed\.json)(/|\.|$)")
"""What no result rests on: if it can't be written, a run goes on without."""


@dataclass(frozen=True)
class Case:
    """One run that fails.

    Attributes:
        executor: "serial", "thread", "process", or "launched" (all behind a prefix).
        scenario: "cold" (no cache yet), "rerun" (all there, and all stale), "warm" (all there),
            or "moved": not a run, but a result with its data files that is given another key.
        durable: the task whose results are synced as if they had taken long ("all": every task's).
        fault, at, sticky: see `Point`.
        way, seed: what a power cut leaves; see `power_cut`.
        careless: whether the store does not sync at all; to see that this is noticed.
    """

    executor: str
    scenario: str
    durable: str
    fault: str = "kill"
    at: int = 0
    sticky: bool = False
    way: str = ""
    seed: int = 0
    careless: bool = False

    @property
    def edition(self) -> str:
        """The edition under which this run goes; what stands there before is of the first."""
        return "1" if self.scenario in ("warm", "moved") else "2"


class Bench:
    """The place in which cases are tried, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._root = folder / "place" / "cache"
        self._ran = folder / "ran"
        self._saved = folder / "saved"
        self._control = folder / "control"
        self._outcome = folder / "outcome"
        self._before = folder / "before"
        os.environ["RAN"] = str(self._ran)

    def prepare(self) -> None:
        """Make the cache that reruns begin with."""
        self._clean()
        # Whether Python ran old bytecode is not the question here, and takes half of the time.
        runner.refuse_stale_modules = lambda: None
        # Here, not in a child: what a run imports, and reads of code, all the forks have then.
        told = self._run("1", "thread")
        if "answer" not in told:
            raise RuntimeError(f"the first run failed: {told}")
        with Cache(self._root) as cache:
            Report().run_graph(executor="serial")
        codes.CodeReader = cache.codes._reader.refreshed  # type: ignore[assignment, misc]
        shutil.rmtree(self._before, ignore_errors=True)
        shutil.copytree(self._root, self._before)
        (entry,) = FaultyCache(self._root).stored("small_graph.Table")
        assert entry.record is not None
        self._old = entry.record
        self._moved = replace(self._old, key=TaskKey("small_graph.Moved", self._old.key.digest))

    def steps(self, case: Case) -> list[str]:
        """The kinds of the steps of a run in which nothing fails."""
        self._begin(case, journals=False)
        _, told = self._in_child(lambda: self._faulty_run(case))
        if told is None or told.get("answer") != right_answer(case.edition):
            raise RuntimeError(f"a run in which nothing failed failed: {told}")
        return [str(step[0]) for step in steps_of(self._control)]

    def try_out(self, case: Case) -> dict[str, Any]:
        """Run, fail, check; returns what was found: "wrong", "stuck", "lost" and "other", in words."""
        self._begin(case, journals=case.fault == "cut")
        faults: dict[str, list[str]] = {"wrong": [], "stuck": [], "lost": [], "other": []}
        over, told = self._in_child(lambda: self._faulty_run(case))
        if not over:
            faults["stuck"].append("the run that failed")
        self._await_workers()
        struck = times_struck(self._control)
        if case.fault == "cut" and struck:
            self._cut_power(case)
        if told is not None:
            self._judge(case, told, struck, faults)
        saved = {line.rsplit(" ", 1)[0] for line in lines_of(self._saved) if self._must_stay(line, case)}
        over, told = self._in_child(lambda: self._check(case, saved))
        if not over:
            faults["stuck"].append("the run after it")
        elif told is None:
            faults["wrong"].append("the process that checked died")
        else:
            for name, words in told.items():
                faults[name] += words
        return {"struck": struck, "case": asdict(case), "faults": faults}

    def _must_stay(self, saved: str, case: Case) -> bool:
        """Whether a result that was saved, as `FaultyCache` noted it, may not be computed again."""
        return case.fault != "unreadable" and (case.fault != "cut" or saved.endswith("True"))

    # --- the run that fails ---

    def _begin(self, case: Case, journals: bool) -> None:
        self._clean()
        if case.scenario != "cold":
            shutil.copytree(self._before, self._root)
        point = Point(case.fault, case.at, case.sticky, case.careless)
        Control.make(self._control, self._root, point, journals)

    def _clean(self) -> None:
        shutil.rmtree(self._root.parent, ignore_errors=True)
        self._root.parent.mkdir(parents=True)
        for path in (self._ran, self._saved):
            path.unlink(missing_ok=True)

    def _faulty_run(self, case: Case) -> dict[str, Any]:
        (self._control / "runner").write_text(str(os.getpid()))
        backend = FaultyCache(
            self._root, control=str(self._control), saved=str(self._saved), durable=case.durable
        )
        backend.put_under()
        if case.scenario == "moved":
            try:
                backend.replace_record(self._old.key, self._moved)
            except OSError as error:
                return {"errors": [{**_described(error), "clear": True}]}
            return {"answer": right_answer("1")}
        return self._run(case.edition, case.executor, backend)

    def _run(self, edition: str, executor: str, backend: FaultyCache | None = None) -> dict[str, Any]:
        """Run the graph; what it came to, its errors in words."""
        os.environ["EDITION"] = edition
        told: list[str] = []
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, kind, *_: told.append(f"{kind.__name__}: {message}")
        options: dict[str, Any] = {"executor": executor}
        if executor == LAUNCHED:
            names = (Report.task_name, Choose.task_name, "small_graph.Table")
            options = {"executor": "serial", "prefixes": dict.fromkeys(names, "env")}
        report: Report | None = None
        try:
            with Cache(backend or self._root):
                report = Report()
                answer, _ = report.run_graph(max_workers=2, on_error="continue", **options)
        except Exception as error:
            leaves = _leaves(error)
            failed = {one for one in leaves if isinstance(one, FailedTaskError)}
            names = {f"{one.task_name} {one.task_key}" for one in failed}
            apart = sorted(names_without(report, names)) if report is not None and failed else []
            return {"errors": list(map(_described, leaves)), "warnings": told, "apart": apart}
        return {"answer": answer, "warnings": told}

    def _await_workers(self) -> None:
        """Wait for what a dead runner has left to be gone too."""
        deadline = time.monotonic() + PATIENCE
        while any(map(_is_alive, pids_of(self._control))):
            if time.monotonic() > deadline:
                raise RuntimeError("processes of a run outlived it")
            time.sleep(0.005)

    def _cut_power(self, case: Case) -> None:
        root = str(self._root)
        rows = rows_that_hold(root)
        replay = Replay(root, None if case.scenario == "cold" else read_tree(str(self._before)))
        replay.steps(steps_of(self._control))
        replay.end()
        write_tree(root, replay.left(case.way, case.seed))
        if case.seed % 2:
            let_rows_hold(root, rows)

    # --- what is expected ---

    def _judge(self, case: Case, told: Mapping[str, Any], struck: int, faults: dict[str, list[str]]) -> None:
        """Look at how the failing run itself ended."""
        if "answer" in told:
            if told["answer"] != right_answer(case.edition):
                faults["wrong"].append(f"the failing run gave {told['answer']}")
        elif not struck:
            faults["other"].append(f"it failed though nothing did: {told}")
        if case.fault in DEATHS:
            return
        errors = told.get("errors", ())
        reason = "" if case.fault == "unreadable" else os.strerror(getattr(errno, case.fault))
        for error in errors:
            if not (error["clear"] and reason in error["text"] and (str(self._root) in error["text"])):
                faults["other"].append(f"no clear error: {error}")
        if not case.sticky:
            faults["other"] += self._others_went_on(told)
        aids = [path for path in paths_struck(self._control) if _AID.search(path)]
        if errors and aids and (not case.sticky or len(aids) == struck):
            faults["other"].append(f"what is only an aid failed a run: {aids}: {errors}")
        # A disk that lets nothing be removed lets nobody tidy up.
        parts = [str(path) for path in self._root.rglob("*.part")]
        if parts and not (case.sticky and strikes(case.fault, "unlink")):
            faults["other"].append(f"half a file stays: {parts}")

    def _others_went_on(self, told: Mapping[str, Any]) -> list[str]:
        """By one fault one task failed: is all that does not rest on it there?"""
        names = [error["type"] for error in told.get("errors", ())]
        done = {line.rsplit(" ", 1)[0] for line in lines_of(self._saved)}
        if FailedTaskError.__name__ not in names or not done:
            return []
        missing = set(told["apart"]) - done
        if len(names) > 1 or missing:
            return [f"by one fault {len(names)} tasks failed: {told}; others that were left out: {missing}"]
        return []

    def _check(self, case: Case, saved: set[str]) -> dict[str, list[str]]:
        """On a sound disk: the cache is whole, the next run is right, and the one after has nothing to do."""
        faults: dict[str, list[str]] = {"wrong": [], "lost": [], "other": []}
        if case.scenario == "moved":  # first: what is half moved stands under neither key
            faults["lost"] += self._complete_the_move()
        faults["other"] += self._verify()
        if case.scenario == "moved":
            return faults
        for number in (1, 2):
            self._ran.unlink(missing_ok=True)
            told = self._run(case.edition, "serial")
            if told.get("answer") != right_answer(case.edition):
                faults["wrong"].append(f"run {number} after it: {told}")
            ran = lines_of(self._ran)
            again = [line for line in ran if line in saved or number == 2]
            if again:
                faults["lost"].append(f"run {number} computed again: {again}")
            if case.fault not in ("cut", "unreadable") and any(
                DamagedEntryWarning.__name__ in one for one in told["warnings"]
            ):
                faults["other"].append(f"run {number} found damage: {told['warnings']}")
        parts = [str(path) for path in self._root.glob("*/*/*.part")]
        if parts:
            faults["other"].append(f"half a file stays for good: {parts}")
        return faults

    def _complete_the_move(self) -> list[str]:
        """The call that was broken off is repeated: is the result whole under its new key, with its data?"""
        backend = FaultyCache(self._root)
        try:
            backend.replace_record(self._old.key, self._moved)
            found = backend.look_up([self._old.key, self._moved.key])
            if list(found) == [self._moved.key]:
                backend.load(self._moved.key, self._moved.digest)
                return []
        except (TaskprocError, OSError) as error:
            return [f"what was moved: {error}"]
        return [f"what was moved is at {list(found)}"]

    def _verify(self) -> list[str]:
        """What `taskproc cache verify` finds wrong and does not repair."""
        if not (self._root / "taskproc.json").exists():
            return []  # no cache was made yet
        backend = FaultyCache(self._root)
        try:
            backend.open()
            found = [repr(one) for one in backend.verify(repair=True) if not (one.repaired or one.harmless)]
            again = [repr(one) for one in backend.verify(repair=False) if not one.harmless]
        except CacheError as error:
            return [f"verify: {error}"]
        finally:
            backend.close()
        return [f"not repaired: {one}" for one in found] + [f"found again: {one}" for one in again]

    # --- processes ---

    def _in_child(self, act: Callable[[], dict[str, Any]]) -> tuple[bool, dict[str, Any] | None]:
        """Do it in a forked process; whether that came to an end, and what it told (None: it died)."""
        self._outcome.unlink(missing_ok=True)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_child(act, self._outcome)
        os.close(writer)
        over, _, _ = select.select([reader], [], [], PATIENCE)
        os.close(reader)
        if not over:
            os.kill(pid, signal.SIGKILL)
            for one in pids_of(self._control):
                with suppress(OSError):
                    os.kill(one, signal.SIGKILL)
        os.waitpid(pid, 0)
        told = json.loads(self._outcome.read_text()) if self._outcome.exists() else None
        return bool(over), told


def _be_child(act: Callable[[], dict[str, Any]], outcome: Path) -> None:
    try:
        os.setpgid(0, 0)
        told = act()
        outcome.with_suffix(".new").write_text(json.dumps(told))
        outcome.with_suffix(".new").rename(outcome)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _described(error: BaseException) -> dict[str, Any]:
    clear = isinstance(error, CacheError | FailedTaskError)
    text = str(error) if clear else "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "text": text, "clear": clear}


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        with suppress(OSError):
            os.kill(pid, 0)
            return not os.path.isdir("/proc/self")
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def main() -> None:
    """Answer cases until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what tasks print that nobody captures
    bench = Bench(Path(sys.argv[1]))
    bench.prepare()
    for line in sys.stdin:
        asked = json.loads(line)
        counts = asked.pop("counts", False)
        case = Case(**asked)
        answers.write(json.dumps({"steps": bench.steps(case)} if counts else bench.try_out(case)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
