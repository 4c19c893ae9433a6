"""Labels: how many tasks of a kind run at once, and behind which command they run.

    taskproc run examples/labels_and_limits.py -o .cache

The limits and the prefix stand at the end of this file. The command line overrides them:
`--rate-limit download=1`, `--prefix "polite=nice -n 5"`.
"""

from __future__ import annotations

import os
import time

from taskproc import DefaultArguments, FutureList, Task


class Download(Task):
    """Stands for work that hits a server which takes two callers at most."""

    task_label = "download"

    def __init__(self, page: int):
        self.page = page

    def run_task(self) -> tuple[float, float]:
        start = time.monotonic()
        time.sleep(0.15)
        return start, time.monotonic()


class Crunch(Task):
    """Stands for heavy work that should leave the machine usable; runs behind `nice`."""

    # A task may have several labels; each one's limit holds.
    task_label = ["polite", "heavy"]

    def __init__(self, part: int):
        self.part = part

    def run_task(self) -> int:
        return os.nice(0)


class Main(Task):
    def __init__(self, pages: int = 8):
        self.downloads = FutureList([Download(page) for page in range(pages)])
        self.parts = FutureList([Crunch(part) for part in range(2)])

    def run_task(self) -> dict[str, int]:
        spans = self.downloads.get_result()
        # At the start of some download, the most of them were running.
        peak = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
        niceness = min(self.parts.get_result()) - os.nice(0)
        print(f"{len(spans)} downloads, at most {peak} at once")
        print(f"the heavy parts ran with {niceness} more niceness than this task")
        return {"peak": peak, "niceness": niceness}


DefaultArguments(
    num_workers=4,
    rate_limits={"download": 2, "heavy": 1},
    prefix={"polite": "nice -n 10"},
).populate()

if __name__ == "__main__":
    Main.cli()
