"""What it costs to ask for the plan of a cached graph, as a ratio to running it.

    python benchmarks/plans.py [--sizes wide:100000 ...] [--repeats 3]

CPU seconds of fresh processes that construct the graph and, on one and the same cache, in
which every result is stored: `run_graph` (warm), or `plan`. The ratio is to be at most 1.3.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from graphs import answer_of, calls_of, parse
from measuring import HERE, cost_of, median_ratio, print_table, scratch_folder

CONTENDERS = str(HERE / "contenders.py")
ASK = "import sys, plans; print(plans.count_cached(*sys.argv[1:]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["wide:100000"], metavar="WORKLOAD")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows: list[list[str]] = []
    for workload in options.sizes:
        plan, warm = costs_of(workload, options.repeats)
        medians = [f"{statistics.median(costs):.2f}" for costs in (plan, warm)]
        rows.append([workload, *medians, f"{median_ratio(plan, warm):.2f}"])
    print_table(["workload", "plan s", "warm run s", "ratio"], rows)
    print("\nCPU seconds of whole processes, medians; 'ratio': median of the ratios within a repeat.")


def costs_of(workload: str, repeats: int) -> tuple[list[float], list[float]]:
    """CPU seconds of a plan and of a warm run in each repeat; a wrong answer ends the benchmark."""
    calls = calls_of(workload)
    answer, count = answer_of(calls), len(calls)
    plan: list[float] = []
    warm: list[float] = []
    with scratch_folder() as folder:
        cache = folder / "cache"
        cost_of([CONTENDERS, "taskproc", workload, str(cache)])
        for _ in range(repeats):
            plan.append(cpu_of(["-c", ASK, workload, str(cache)], count))
            warm.append(cpu_of([CONTENDERS, "taskproc", workload, str(cache)], answer))
    return plan, warm


def cpu_of(argv: list[str], expected: int) -> float:
    cost = cost_of(argv)
    if cost.output.split()[-1:] != [str(expected)]:
        raise RuntimeError(f"{' '.join(argv)} says {cost.output!r}; it is {expected}")
    return cost.cpu


def count_cached(workload: str, folder: str | Path) -> int:
    """How many tasks of a workload its plan says are cached; those that would run end the benchmark."""
    import tasks

    kind, numbers = parse(workload)
    with tasks.Cache(folder):
        plan = tasks.ROOTS[kind](*numbers).plan()
    if plan.run or plan.blocked:
        sys.exit(f"{len(plan.run) + len(plan.blocked)} tasks of {workload} are not cached")
    return len(plan.cached)


if __name__ == "__main__":
    main()
