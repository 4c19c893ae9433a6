"""Run one workload with one contender: `python contenders.py NAME WORKLOAD CACHE`.

Prints the answer. A second run on the same CACHE is the warm one.
"""

from __future__ import annotations

import gzip
import os
import pickle
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from graphs import Call, calls_of, parse

WORKERS = 2


def run_taskproc(workload: str, folder: str) -> int:
    import tasks

    kind, numbers = parse(workload)
    with tasks.Cache(folder):
        answer: int = tasks.ROOTS[kind](*numbers).run_graph(max_workers=WORKERS)[0]
    return answer


def run_plain(workload: str, folder: str) -> int:
    """One `submit` and one gzip file, written aside and renamed, a call."""
    calls = calls_of(workload)
    Path(folder).mkdir(parents=True, exist_ok=True)
    results: dict[str, int] = {}
    missing: dict[str, Call] = {}
    for call in calls:
        try:
            with gzip.open(path_of(folder, call), "rb") as file:
                results[call.name] = pickle.load(file)
        except FileNotFoundError:
            missing[call.name] = call
    if missing:
        compute(missing, results, folder)
    return results[calls[-1].name]


def compute(missing: dict[str, Call], results: dict[str, int], folder: str) -> None:
    waits_for = {name: sum(one not in results for one in call.inputs) for name, call in missing.items()}
    downstream: dict[str, list[Call]] = defaultdict(list)
    for call in missing.values():
        for name in call.inputs:
            downstream[name].append(call)
    done: SimpleQueue[tuple[str, Future[int]]] = SimpleQueue()
    with ProcessPoolExecutor(WORKERS) as pool:

        def submit(call: Call) -> None:
            values = [results[name] for name in call.inputs]
            future = pool.submit(compute_and_save, path_of(folder, call), call.function, call.own, values)
            future.add_done_callback(lambda future: done.put((call.name, future)))

        for name, count in waits_for.items():
            if not count:
                submit(missing[name])
        for _ in missing:
            name, future = done.get()
            results[name] = future.result()
            for call in downstream[name]:
                waits_for[call.name] -= 1
                if not waits_for[call.name]:
                    submit(call)


def compute_and_save(path: str, function: Callable[..., int], own: tuple[int, ...], values: list[int]) -> int:
    result = function(*own, *values)
    aside = f"{path}.{os.getpid()}"
    with gzip.open(aside, "wb") as file:
        pickle.dump(result, file)
    os.rename(aside, path)
    return result


def path_of(folder: str, call: Call) -> str:
    return f"{folder}/{call.name}.pkl.gz"


def run_joblib(workload: str, folder: str) -> int:
    """`Memory` around each function; what may run at once goes through one `Parallel`."""
    from joblib import Memory, Parallel, delayed

    memory = Memory(folder, verbose=0)
    calls = calls_of(workload)
    cached: dict[Any, Any] = {call.function: memory.cache(call.function) for call in calls}
    waves: dict[int, list[Call]] = defaultdict(list)
    wave_of: dict[str, int] = {}
    for call in calls:
        wave_of[call.name] = 1 + max((wave_of[name] for name in call.inputs), default=0)
        waves[wave_of[call.name]].append(call)
    results: dict[str, int] = {}
    with Parallel(n_jobs=WORKERS) as parallel:
        for wave in waves.values():
            work = [
                (cached[call.function], (*call.own, *(results[one] for one in call.inputs))) for call in wave
            ]
            if len(work) == 1:
                answers = [function(*arguments) for function, arguments in work]
            else:
                answers = parallel(delayed(function)(*arguments) for function, arguments in work)
            results.update(zip((call.name for call in wave), answers, strict=True))
    return results[calls[-1].name]


def run_diskcache(workload: str, folder: str) -> int:
    """`memoize` around each function, in one process: it has no workers."""
    import diskcache

    calls = calls_of(workload)
    results: dict[str, int] = {}
    with diskcache.Cache(folder) as cache:
        cached: dict[Any, Any] = {call.function: cache.memoize()(call.function) for call in calls}
        for call in calls:
            results[call.name] = cached[call.function](*call.own, *(results[name] for name in call.inputs))
    return results[calls[-1].name]


CONTENDERS = {
    "taskproc": run_taskproc,
    "plain": run_plain,
    "joblib": run_joblib,
    "diskcache": run_diskcache,
}

if __name__ == "__main__":
    name, workload, folder = sys.argv[1:]
    print(CONTENDERS[name](workload, folder))
