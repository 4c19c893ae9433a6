"""What it costs to fingerprint the code of task classes, beside what Python takes to compile it.

    python benchmarks/fingerprints.py [--modules 10] [--classes 40] [--repeats 5]

A project of `modules` modules is generated, each with `classes` task classes and twice as
many functions that they reach, some in other modules. Each repeat is of a fresh process that
imports it and then takes the CPU time of every class's fingerprint, and of `ast.parse` and
`compile` of the same sources, without looking for garbage, as a run does. The fingerprints
are to cost at most 1 ms a class on average; they are worked out once a run.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import statistics
import sys
import time
from pathlib import Path

from measuring import cost_of, median_ratio, print_table, scratch_folder

MEASURE = "import sys, fingerprints; fingerprints.measure(*sys.argv[1:])"

HEAD = '''"""Module {module} of a project that a benchmark generates."""

import math
from collections import Counter

from taskproc import Const, Future, Task

import {other}

RATE_{module} = 0.{number}5
WEIGHTS_{module} = {{"near": 1.0, "far": [0.5, 0.25], "unit": "m"}}


def scale_{module}(value, by=RATE_{module}):
    """Scale a value."""
    return value * by + WEIGHTS_{module}["near"]

'''

BODY = '''
def clean_{i}(values, lowest={i}):
    """Drop what is too small."""
    kept = []
    for value in values:
        # Negative ones are faults of the gauge.
        if value > lowest:
            kept.append(scale_{module}(value))
    return kept


def summed_{i}(values, *, digits: int = 3) -> float:
    """Sum up, and round."""
    counts = Counter(int(value) for value in values)
    total = sum(math.sqrt(abs(key)) * count for key, count in counts.items())
    try:
        return round(total / len(values), digits)
    except ZeroDivisionError:
        return {other}.RATE_{other}


class Step{i}(Task):
    """Step {i} of module {module}."""

    task_label = "light"
    before: Future[float]

    def __init__(self, n: int, name: str = "step{i}") -> None:
        self.n = n
        self.name = name
        self.before = Step{previous}(n - 1) if n else Const(0.0)

    def run_task(self) -> float:
        """Compute it."""
        start = self.before.get_result()
        values = [start + i * {i} for i in range(self.n)]
        found = summed_{i}(clean_{i}(values))
        return {other}.scale_{other}(found) if found > 1 else self.shifted(found)

    def shifted(self, value: float) -> float:
        return value + {other}.WEIGHTS_{other}["far"][0]

'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--modules", type=int, default=10)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with scratch_folder() as folder:
        write_project(folder, options.modules, options.classes)
        argv = ["-c", MEASURE, str(folder), str(options.modules)]
        cost_of(argv)  # compiles what was not compiled yet
        outputs = [cost_of(argv).output.split() for _ in range(options.repeats)]
    count = options.modules * options.classes
    if {int(words[0]) for words in outputs} != {count}:
        raise RuntimeError(
            f"there are {count} classes, but as many have a fingerprint of their own: {outputs}"
        )
    ours = [float(words[1]) for words in outputs]
    compiled = [float(words[2]) for words in outputs]
    cells = [f"{statistics.median(seconds) / count * 1e3:.3f}" for seconds in (ours, compiled)]
    head = ["classes", "fingerprint ms a class", "parse and compile ms a class", "ratio"]
    print_table(head, [[f"{count:,}", *cells, f"{median_ratio(ours, compiled):.2f}"]])
    print("\nCPU milliseconds, medians; 'ratio': median of the ratios within a process.")


def write_project(folder: Path, modules: int, classes: int) -> None:
    """Generate the sources; each module uses the next one, the last one the first."""
    names = [f"part{number}" for number in range(modules)]
    for number, name in enumerate(names):
        other = names[(number + 1) % modules]
        parts = [HEAD.format(module=name, other=other, number=number)]
        parts += [BODY.format(module=name, other=other, i=i, previous=max(0, i - 1)) for i in range(classes)]
        (folder / f"{name}.py").write_text("".join(parts))


def measure(folder: str, modules: str) -> None:
    """Print how many fingerprints there are, and the CPU seconds of these and of compiling."""
    from taskproc.core.task import Task
    from taskproc.engine.reachable_code import CodeReader

    sys.path.insert(0, folder)
    classes: list[type[Task]] = []
    for number in range(int(modules)):
        module = importlib.import_module(f"part{number}")
        classes += [thing for name, thing in vars(module).items() if name.startswith("Step")]
    texts = [(path.name, path.read_text()) for path in sorted(Path(folder).glob("part*.py"))]
    gc.collect()
    gc.disable()
    begun = time.process_time()
    reader = CodeReader()
    found = {reader.fingerprint(cls) for cls in classes}
    ours = time.process_time() - begun
    begun = time.process_time()
    for name, text in texts:
        compile(ast.parse(text, name), name, "exec")
    print(len(found), ours, time.process_time() - begun)


if __name__ == "__main__":
    main()
