"""How tasks are constructed in a Cache: their arguments' JSON, depth, threads, classes made anew.

Knows nothing of what is stored or run.
"""

from __future__ import annotations

import contextvars
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from taskproc.core.arguments import Encoder
from taskproc.core.binding import NEW, READY, TaskState
from taskproc.core.records import JSON
from taskproc.core.task import Task
from taskproc.engine.task_classes import task_classes
from taskproc.errors import SlowKeyWarning, TaskDefinitionError

_DEEP = 40
_DEEPEST = 100_000  # about 2 GB of stacks: an endless one must not take all memory
_WAIT_SECONDS = 0.001
SLOW_KEY_SECONDS = 0.1
"""A key that takes longer to make is warned of."""


class Constructing:
    """What a Cache does for tasks under construction.

    Attributes:
        encoder: encodes their arguments.
        instances: the tasks made so far, by class and key.
        newest_class: the serial of the latest Task class that was looked at.
        slow_arguments: which slow arguments were warned of.
    """

    encoder: Encoder
    instances: dict[tuple[type, str], Task]
    newest_class: int
    slow_arguments: set[str]

    def encode_arguments(self, task_name: str, bound: Mapping[str, Any]) -> dict[str, JSON]:
        if self.newest_class != Task._task_serial:
            self._forget_replaced()
        encode, clock = self.encoder.encode, time.perf_counter
        encoded: dict[str, JSON] = {}
        begun = clock()
        for name, value in bound.items():
            encoded[name] = encode(value, f"{task_name}({name}=...)")
        if clock() - begun > SLOW_KEY_SECONDS:
            self._warn_of_slow_arguments(task_name, bound)
        return encoded

    def _forget_replaced(self) -> None:
        """Forget the tasks made so far if one of their classes was made anew since.

        Else tasks of other classes, which have it as an upstream, would go on with the old one.
        """
        self.newest_class = Task._task_serial
        newest = task_classes()
        known = list(self.instances.items())
        if any(newest.get(cls._task_name, cls) is not cls for cls in {type(task) for _, task in known}):
            for place, task in known:
                if task._task.phase == READY:
                    self.instances.pop(place, None)

    def _warn_of_slow_arguments(self, task_name: str, bound: Mapping[str, Any]) -> None:
        """Warn, once each, of the arguments that are slow a second time: no pause of the machine's."""
        for name, value in bound.items():
            begun = time.perf_counter()
            self.encoder.encode(value)
            seconds = time.perf_counter() - begun
            where = f"{task_name}({name}=...)"
            if seconds > SLOW_KEY_SECONDS and where not in self.slow_arguments:
                self.slow_arguments.add(where)
                warnings.warn(
                    f"{where}: it takes {seconds:.1f} s to make a key of this argument (an object of class "
                    f"{type(value).__qualname__}), each time a task with it is constructed; pass it as the "
                    "output of a task, or as an InputFile, or give its class a short `__task_args__`",
                    SlowKeyWarning,
                    stacklevel=4,
                )

    def initialise(self, depth: int, call: Callable[[], None]) -> None:
        """Run an `__init__`; a deep one on a fresh stack, so that depth costs no recursion."""
        if depth >= _DEEPEST:
            raise TaskDefinitionError(
                f"tasks construct tasks, {_DEEPEST:,} deep; an `__init__` seems to construct its own task "
                "again and again: give it a case that ends"
            )
        if depth % _DEEP != _DEEP - 1:
            call()
            return
        context = contextvars.copy_context()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                context.run(call)
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)

        thread = threading.Thread(target=run, name="taskproc-construct", daemon=True)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    def wait_until_built(self, state: TaskState) -> None:
        """Another thread is constructing the same task: wait for it."""
        while state.phase not in (NEW, READY):
            time.sleep(_WAIT_SECONDS)
