"""The same work on taskproc and on its peers, as ratios to a plain loop.

    python benchmarks/compare.py [--sizes wide:1000 choose:100,50 ...] [--repeats 3]

Each figure is of a fresh process: CPU seconds with its children, cache in memory where there
is such a file system, two workers. Contenders take turns, so that noise hits them alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections import defaultdict
from pathlib import Path

from contenders import CONTENDERS
from graphs import answer_of, calls_of
from measuring import HERE, cost_of, median_ratio, print_table, scratch_folder

SIZES = ["wide:1000", "wide:10000", "choose:100,50", "chain:1000"]
START = "wide:1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WORKLOAD")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    options = parser.parse_args()
    contenders = [name for name in options.contenders if is_installed(name)]
    rows: list[list[str]] = []
    for workload in options.sizes:
        rows += rows_of(workload, contenders, options.repeats)
    print_table(["workload", "contender", "cold s", "x plain", "warm s", "above start s"], rows)
    print("\nCPU seconds with children, medians; 'x plain': median of the ratios within a repeat.")


def is_installed(contender: str) -> bool:
    if contender == "plain" or importlib.util.find_spec(contender) or contender == "taskproc":
        return True
    print(f"{contender} is not installed and is left out")
    return False


def rows_of(workload: str, contenders: list[str], repeats: int) -> list[list[str]]:
    answer = answer_of(calls_of(workload))
    cold: dict[str, list[float]] = defaultdict(list)
    warm: dict[str, list[float]] = defaultdict(list)
    start: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name in contenders:
            with scratch_folder() as folder:
                cold[name].append(cpu(name, workload, folder / "cache", answer))
                warm[name].append(cpu(name, workload, folder / "cache", answer))
                cpu(name, START, folder / "start", 0)
                start[name].append(cpu(name, START, folder / "start", 0))
    rows: list[list[str]] = []
    for name in contenders:
        ratio = f"{median_ratio(cold[name], cold['plain']):.2f}" if "plain" in contenders else "-"
        above = statistics.median(w - s for w, s in zip(warm[name], start[name], strict=True))
        cells = [f"{statistics.median(cold[name]):.2f}", ratio, f"{statistics.median(warm[name]):.2f}"]
        rows.append([workload if name == contenders[0] else "", name, *cells, f"{above:.2f}"])
    return rows


def cpu(contender: str, workload: str, cache: Path, answer: int) -> float:
    """CPU seconds of one run; a wrong answer ends the benchmark."""
    cost = cost_of([str(HERE / "contenders.py"), contender, workload, str(cache)])
    if cost.output.split()[-1:] != [str(answer)]:
        raise RuntimeError(f"{contender} answers {workload} with {cost.output!r}; it is {answer}")
    return cost.cpu


if __name__ == "__main__":
    main()
