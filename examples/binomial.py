"""Binomial coefficients by Pascal's rule: a graph of tasks that share most of their parts.

taskproc run examples/binomial.py -o .cache -a n=100 -a k=50
python examples/binomial.py -o .cache
"""

from __future__ import annotations

from taskproc import Const, Future, Task


class Choose(Task):
    """How many ways there are to choose `k` things of `n`."""

    left: Future[int]
    right: Future[int]

    def __init__(self, n: int, k: int):
        # Tasks set as attributes are what this one waits for. Choose(n, k) is one object,
        # however often it is constructed, so this makes n * k tasks and not 2 ** n.
        if 0 < k < n:
            self.left = Choose(n - 1, k - 1)
            self.right = Choose(n - 1, k)
        elif k in (0, n):
            # A Const is a value that looks like a task.
            self.left = Const(0)
            self.right = Const(1)
        else:
            raise ValueError(f"can't choose {k} of {n}: it must be 0 <= k <= n")

    def run_task(self) -> int:
        return self.left.get_result() + self.right.get_result()


class Main(Task):
    """What the command runs when no task is named."""

    def __init__(self, n: int = 6, k: int = 3):
        self.n = n
        self.k = k
        self.answer = Choose(n, k)

    def run_task(self) -> int:
        answer = self.answer.get_result()
        print(f"{self.n} choose {self.k} is {answer}")
        return answer


if __name__ == "__main__":
    Main.cli()
