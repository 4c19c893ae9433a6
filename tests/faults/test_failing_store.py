"""The store on a disk that fails, a machine that loses power, and processes that die: at every step.

A case is a run of the small graph, cold or with all of it stale, that fails at one step; afterwards,
on a sound disk, the cache has to be whole, nothing that was finished is computed again, and the
answer is right. `store_points.py` tries them, in processes of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from failing_files import strikes
from power_cut import WAYS

ROOT = Path(__file__).parent.parent.parent
IN_PROCESS = (1050, 1_000_000)
WITH_WORKERS = (20, 1500)
"""How many points are tried at most by day, and by night (TASKPROC_FAULTS=all): then it is all of
them, but where each run starts processes of its own, and takes a second."""
_SEEDS = 2
REPORT = "small_graph.Report"

Case = dict[str, Any]
Verdict = dict[str, Any]


class Points:
    """Processes that try cases, each in a place of its own."""

    def __init__(self, folder: Path, number: int) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'faults'}"}
        self._idle: list[subprocess.Popen[str]] = []
        self._guard = threading.Lock()
        self._workers = ThreadPoolExecutor(number)
        for each in range(number):
            self._idle.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        str(ROOT / "tests" / "faults" / "store_points.py"),
                        str(folder / str(each)),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                    cwd=ROOT / "tests" / "faults",
                )
            )

    def ask(self, cases: Iterable[Case]) -> Iterator[Any]:
        """The answers to cases, in their order."""
        return self._workers.map(self._ask, list(cases))

    def _ask(self, case: Case) -> Any:
        with self._guard:
            process = self._idle.pop()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(case) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, f"the process that tries cases died at {case}"
            return json.loads(answer)
        finally:
            with self._guard:
                self._idle.append(process)

    def close(self) -> None:
        self._workers.shutdown()
        for process in self._idle:
            process.communicate()


@pytest.fixture(scope="module")
def points() -> Iterator[Points]:
    # In memory where that can be had: what a disk costs says nothing here.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as folder:
        found = Points(Path(folder), 2)
        yield found
        found.close()


def cases_of(kind: Case, steps: Sequence[str]) -> Iterator[Case]:
    """All the cases of a run that takes these steps."""
    if kind.get("fault") == "unreadable":
        for at in range(1, len(steps) + 1):
            yield {**kind, "at": at}
            yield {**kind, "at": at, "sticky": True}
        return
    for at, step in enumerate(steps, start=1):
        for fault in ("kill", "torn"):
            if strikes(fault, step):
                yield {**kind, "fault": fault, "at": at}
        for way in WAYS:
            for seed in range(_SEEDS if way in ("prefix", "subset") else 1):
                yield {**kind, "fault": "cut", "at": at, "way": way, "seed": at + seed}
        for fault in ("EIO", "ENOSPC", "EACCES"):
            if strikes(fault, step):
                for sticky in (False, True):
                    yield {**kind, "fault": fault, "at": at, "sticky": sticky}


def all_cases(points: Points, executors: Sequence[str]) -> list[Case]:
    kinds: list[Case] = [
        {"executor": executor, "scenario": scenario, "durable": durable}
        for executor in executors
        for scenario, durable in (*product(("cold", "rerun"), ("all", REPORT, "")), ("warm", ""))
    ]
    # The last task alone: what it rests on has to survive with it.
    kinds = [kind for kind in kinds if kind["durable"] != REPORT or kind["scenario"] == "cold"]
    kinds += [{**kind, "fault": "unreadable"} for kind in kinds if not kind["durable"]]
    counted = points.ask({**kind, "counts": True} for kind in kinds)
    return [case for kind, told in zip(kinds, counted, strict=True) for case in cases_of(kind, told["steps"])]


def test_a_store_that_does_not_sync_would_be_found_out(points: Points) -> None:
    """And what would be found of one that does: nothing."""
    case: Case = {"executor": "serial", "scenario": "cold", "durable": "all", "fault": "cut", "way": "none"}
    for careless in (True, False):
        cases = [{**case, "at": at, "careless": careless} for at in (60, 90, 120)]
        lost = [bool(verdict["faults"]["lost"]) for verdict in points.ask(cases)]
        assert lost == [careless] * 3


def test_a_result_that_is_given_another_key_is_lost_at_no_step(points: Points, figures: Any) -> None:
    kind: Case = {"executor": "serial", "scenario": "moved", "durable": "all"}
    (told,) = points.ask([{**kind, "counts": True}])
    judge(points.ask(cases_of(kind, told["steps"])), figures)


def some(cases: list[Case], number: int) -> list[Case]:
    """So many of the cases, others at each number of cases, and always the same."""
    return random.Random(len(cases)).sample(cases, min(number, len(cases)))


def judge(verdicts: Iterable[Verdict], figures: Any) -> None:
    """Count, and complain of the first few that went wrong."""
    tried = [verdict for verdict in verdicts if verdict["struck"]]
    figures.count("write points tried", len(tried))
    bad: Counter[str] = Counter()
    words: list[str] = []
    for verdict in tried:
        for name, faults in verdict["faults"].items():
            bad[name] += bool(faults)
            words += [f"{name}: {verdict['case']}: {fault}" for fault in faults]
    for name in ("wrong", "stuck", "lost"):
        figures.count(f"write points: {name}", bad[name])
    assert not words, "\n".join([f"{len(words)} faults", *words[:10]])


@pytest.mark.parametrize(
    ("executors", "numbers"),
    [(("serial", "thread"), IN_PROCESS), (("process", "launched"), WITH_WORKERS)],
    ids=["in one process", "with workers"],
)
def test_whatever_step_of_a_run_fails_the_next_run_is_right_and_nothing_finished_is_lost(
    points: Points, figures: Any, thorough: bool, executors: Sequence[str], numbers: tuple[int, int]
) -> None:
    cases = all_cases(points, executors)
    judge(points.ask(some(cases, numbers[thorough])), figures)
