"""What it costs to start: imports, as ratios.

    python benchmarks/imports.py [--repeats 15]

Each figure is of a fresh interpreter, less one that does nothing. The first ratio is to be
at most 1; the second is the price of every launched job.
"""

from __future__ import annotations

import argparse
import statistics

from measuring import cost_of, print_table

NOTHING = "pass"
PAIRS = [
    ("import taskproc", "import cloudpickle, pluggy"),
    ("from taskproc import Cache, Task", "import cloudpickle, pluggy"),
    ("import taskproc.engine.worker", "import cloudpickle"),
    ("import taskproc.cli.main", "import click"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    statements = list(dict.fromkeys([NOTHING, *(statement for pair in PAIRS for statement in pair)]))
    costs: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(repeats + 1):
        for statement in statements:
            costs[statement].append(cost_of(["-c", statement]).cpu * 1e3)
    # The first round compiles what was not compiled yet.
    medians = {statement: statistics.median(values[1:]) for statement, values in costs.items()}
    own = {statement: medians[statement] - medians[NOTHING] for statement in statements}
    rows = [
        [statement, f"{own[statement]:.1f}", base, f"{own[base]:.1f}", f"{own[statement] / own[base]:.2f}"]
        for statement, base in PAIRS
    ]
    print_table(["statement", "ms", "against", "ms", "ratio"], rows)
    print(f"\nCPU milliseconds above an interpreter that does nothing ({medians[NOTHING]:.1f} ms).")


if __name__ == "__main__":
    main()
