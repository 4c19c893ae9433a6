"""Runners that do not agree on the code or the environment share a cache, and have each its own answers.

What one stores while the other looks, computes and loads is no answer of the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Task
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Plan, Reporter

Write = Callable[[str, str], Path]


class Seen(Task):
    def __init__(self, size: int) -> None:
        self.seen = os.environ["SEEN"]
        self.size = size

    def run_task(self) -> str:
        return self.seen * self.size


class Shows(Task):
    def __init__(self, size: int) -> None:
        self.seen = os.environ["SEEN"]
        self.up = Seen(size)

    def run_task(self) -> str:
        return self.seen + self.up.get_result()[0]


class OtherRunner(Reporter):
    """Runs the same tasks in another environment, at one moment of the run that it watches."""

    name = "other-runner"

    def __init__(self, moment: str, size: int, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._moment, self._size, self._place, self._patch = moment, size, place, monkeypatch
        self.answer: Any = None

    def _run(self, moment: str) -> None:
        if moment == self._moment and self.answer is None:
            self._patch.setenv("SEEN", "b")
            with Cache(self._place):
                self.answer, _ = Shows(self._size).run_graph(executor="serial")

    @hookimpl
    def taskproc_run_started(self, plan: Plan) -> None:
        self._run("started")

    @hookimpl
    def taskproc_job_finished(self, outcome: Any) -> None:
        self._run(outcome.key.name.rpartition(".")[2])


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("size", [1, 5000])
@pytest.mark.parametrize("moment", ["started", "Seen", "Shows"])
@pytest.mark.filterwarnings("ignore::taskproc.errors.DamagedEntryWarning")
def test_a_run_answers_by_what_it_saw_whatever_another_runner_stores_meanwhile(
    cache: Cache, moment: str, size: int, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEN", "a")
    if warm:
        Shows(size).run_graph(executor="serial")
    other = OtherRunner(moment, size, cache.location, monkeypatch)
    assert Shows(size).run_graph(executor="serial", reporters=[other])[0] == "aa"
    assert other.answer in ("bb", None)
    for seen in ("a", "b", "a"):
        monkeypatch.setenv("SEEN", seen)
        with Cache(cache.location):
            assert Shows(size).run_graph(executor="serial")[0] == seen * 2


def test_an_entry_that_another_runner_replaced_is_not_called_damaged_nor_thrown_away(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEN", "a")
    other = OtherRunner("Seen", 5000, cache.location, monkeypatch)
    assert Shows(5000).run_graph(executor="serial", reporters=[other])[0] == "aa"  # with no warning


TWO_MINDS = """
import json, os, sys, time
from taskproc import Cache, FutureList, Task

class Leaf(Task):
    def __init__(self, n):
        self.n = n

    def run_task(self):
        time.sleep(0.002)
        return [self.n] + ["MIND"] * 300

class Middle(Task):
    def __init__(self, n):
        self.up = Leaf(n)

    def run_task(self):
        return self.up.get_result()[1]

class Top(Task):
    def __init__(self):
        self.parts = FutureList([Middle(n) for n in range(12)])

    def run_task(self):
        return "".join(sorted(set(self.parts.get_result()))) + "MIND"

if __name__ == "__main__":
    with Cache("../cache"):
        task = Top()
    print("ready", flush=True)
    sys.stdin.read()
    answers = []
    for _ in range(4):
        answer, stats = task.run_graph(max_workers=2, executor="thread")
        answers.append(answer)
    print(json.dumps(answers))
"""


def test_two_runners_with_other_code_on_one_cache_have_each_its_own_answers(
    write: Write, environment: dict[str, str], tmp_path: Path
) -> None:
    runners = []
    for mind in "ab":
        write(f"{mind}/tasks.py", TWO_MINDS.replace("MIND", mind))
        runner = subprocess.Popen(
            [sys.executable, "-W", "ignore", "tasks.py"], cwd=tmp_path / mind, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        runners.append(runner)
    try:
        for runner in runners:
            assert runner.stdout is not None
            assert runner.stdout.readline() == "ready\n"
        for runner in runners:
            assert runner.stdin is not None
            runner.stdin.close()
            runner.stdin = None
        for mind, runner in zip("ab", runners, strict=True):
            out, err = runner.communicate(timeout=60)
            assert runner.returncode == 0, err
            assert json.loads(out) == [mind * 2] * 4
    finally:
        for runner in runners:
            runner.kill()
            runner.wait()
