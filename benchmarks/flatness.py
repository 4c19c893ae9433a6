"""Whether a task costs the same in a small and in a large graph.

    python benchmarks/flatness.py [--sizes 1000 10000 100000] [--repeats 3]

Prints CPU microseconds a task, cold and warm, less the cost of a run of one task.
"""

from __future__ import annotations

import argparse
import statistics

from measuring import HERE, cost_of, print_table, scratch_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kind", choices=["wide", "chain"], default="wide")
    parser.add_argument("--contender", default="taskproc")
    options = parser.parse_args()
    costs: dict[int, list[tuple[float, float]]] = {size: [] for size in options.sizes}
    for _ in range(options.repeats):
        for size in options.sizes:
            cold, warm = costs_of(options.contender, f"{options.kind}:{size}")
            cold_one, warm_one = costs_of(options.contender, f"{options.kind}:1")
            costs[size].append(((cold - cold_one) / size * 1e6, (warm - warm_one) / size * 1e6))
    medians = {
        size: [statistics.median(column) for column in zip(*costs[size], strict=True)] for size in costs
    }
    first = medians[options.sizes[0]]
    rows = [
        [f"{size:,}", f"{cold:.1f}", f"{cold / first[0]:.2f}", f"{warm:.1f}", f"{warm / first[1]:.2f}"]
        for size, (cold, warm) in medians.items()
    ]
    print_table(["tasks", "cold us", "x first", "warm us", "x first"], rows)


def costs_of(contender: str, workload: str) -> tuple[float, float]:
    """CPU seconds of a cold and of a warm run."""
    with scratch_folder() as folder:
        argv = [str(HERE / "contenders.py"), contender, workload, str(folder / "cache")]
        return cost_of(argv).cpu, cost_of(argv).cpu


if __name__ == "__main__":
    main()
