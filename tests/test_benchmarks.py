"""The benchmarks run, and compare like with like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_comparison_prints_a_row_for_each_contender() -> None:
    sizes = ("wide:20", "choose:6,3", "chain:5")
    output = run("compare.py", "--repeats", "1", "--contenders", "taskproc", "plain", "--sizes", *sizes)
    rows = [line.split() for line in output.splitlines()[2:8]]
    assert [row[:2] for row in rows[::2]] == [[size, "taskproc"] for size in sizes]
    # The base of the ratios stands at 1 against itself.
    assert [(row[0], row[2]) for row in rows[1::2]] == [("plain", "1.00")] * 3


def test_the_flatness_of_the_cost_is_told_for_each_size() -> None:
    output = run("flatness.py", "--repeats", "1", "--sizes", "5", "1000")
    assert [line.split()[0] for line in output.splitlines()[2:]] == ["5", "1,000"]


def test_the_imports_are_compared() -> None:
    assert "import taskproc.engine.worker" in run("imports.py", "--repeats", "1")


def test_the_plan_of_a_cached_graph_is_compared_with_its_warm_run() -> None:
    output = run("plans.py", "--repeats", "1", "--sizes", "wide:20", "choose:6,3")
    rows = [line.split() for line in output.splitlines()[2:4]]
    assert [row[0] for row in rows] == ["wide:20", "choose:6,3"]
    assert all(float(row[3]) > 0 for row in rows)


def test_the_cost_of_fingerprints_is_told_for_each_class() -> None:
    output = run("fingerprints.py", "--repeats", "1", "--modules", "3", "--classes", "4")
    row = output.splitlines()[2].split()
    assert row[0] == "12"
    assert all(float(cell) > 0 for cell in row[1:])


@pytest.mark.parametrize(
    ("workload", "count", "answer"), [("wide:10", 11, 285), ("choose:6,3", 15, 20), ("chain:7", 7, 7)]
)
def test_the_plain_calls_are_as_many_as_the_tasks_and_give_their_answer(
    workload: str, count: int, answer: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import graphs
    import tasks

    calls = graphs.calls_of(workload)
    kind, numbers = graphs.parse(workload)
    with tasks.Cache(tmp_path / "cache"):
        found, stats = tasks.ROOTS[kind](*numbers).run_graph(executor="serial")
    assert (len(calls), graphs.answer_of(calls)) == (count, answer)
    assert (sum(stats["stats"].values()), found) == (count, answer)
