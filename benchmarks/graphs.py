"""The work of the benchmarks, as plain functions and the graph of their calls.

A workload is a text: `wide:N` (N independent calls and the sum of them), `choose:N,K` (a
binomial coefficient by Pascal's rule), `chain:N` (N calls, each on the result of the one
before). Knows nothing of who runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Call(NamedTuple):
    """One call: `function(*own, *results of inputs)`. `own` tells it from all others."""

    name: str
    function: Callable[..., int]
    own: tuple[int, ...]
    inputs: tuple[str, ...]


def square(i: int) -> int:
    return i * i


def total(*values: int) -> int:
    return sum(values)


def add(n: int, k: int, left: int, right: int) -> int:
    return left + right


def one(n: int, k: int) -> int:
    return 1


def step(i: int, before: int = 0) -> int:
    return before + 1


def calls_of(workload: str) -> list[Call]:
    """The calls of a workload, each after its inputs; the last one gives the answer."""
    kind, numbers = parse(workload)
    makers: dict[str, Callable[..., list[Call]]] = {"wide": _wide, "choose": _choose, "chain": _chain}
    return makers[kind](*numbers)


def parse(workload: str) -> tuple[str, list[int]]:
    """`"choose:100,50"` into `("choose", [100, 50])`."""
    kind, _, numbers = workload.partition(":")
    return kind, [int(number) for number in numbers.split(",")]


def answer_of(calls: list[Call]) -> int:
    """The answer, computed here and now."""
    results: dict[str, int] = {}
    for call in calls:
        results[call.name] = call.function(*call.own, *(results[name] for name in call.inputs))
    return results[calls[-1].name]


def _wide(n: int) -> list[Call]:
    leaves = [Call(f"square-{i}", square, (i,), ()) for i in range(n)]
    return [*leaves, Call("total", total, (), tuple(leaf.name for leaf in leaves))]


def _choose(n: int, k: int) -> list[Call]:
    calls: dict[str, Call] = {}
    for row in range(1, n + 1):
        for column in range(max(0, k - (n - row)), min(row, k) + 1):
            if 0 < column < row:
                inputs: Any = (f"choose-{row - 1}-{column - 1}", f"choose-{row - 1}-{column}")
                call = Call(f"choose-{row}-{column}", add, (row, column), inputs)
            else:
                call = Call(f"choose-{row}-{column}", one, (row, column), ())
            calls[call.name] = call
    return list(calls.values())


def _chain(n: int) -> list[Call]:
    return [Call(f"step-{i}", step, (i,), (f"step-{i - 1}",) if i else ()) for i in range(n)]
