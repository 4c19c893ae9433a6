"""The workloads of `graphs.py`, as tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from taskproc import Cache, Const, Future, FutureList, Task

__all__ = ["ROOTS", "Cache", "Choose", "Square", "Step", "Total"]


class Square(Task):
    def __init__(self, i: int):
        self.i = i

    def run_task(self) -> int:
        return self.i * self.i


class Total(Task):
    def __init__(self, n: int):
        self.squares = FutureList([Square(i) for i in range(n)])

    def run_task(self) -> int:
        return sum(self.squares.get_result())


class Choose(Task):
    left: Future[int]
    right: Future[int]

    def __init__(self, n: int, k: int):
        if 0 < k < n:
            self.left = Choose(n - 1, k - 1)
            self.right = Choose(n - 1, k)
        else:
            self.left = Const(0)
            self.right = Const(1)

    def run_task(self) -> int:
        return self.left.get_result() + self.right.get_result()


class Step(Task):
    before: Future[int]

    def __init__(self, i: int):
        self.before = Step(i - 1) if i else Const(0)

    def run_task(self) -> int:
        return self.before.get_result() + 1


def last_step(n: int) -> Step:
    return Step(n - 1)


ROOTS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"wide": Total, "choose": Choose, "chain": last_step}
)
