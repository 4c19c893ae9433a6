"""What a task is bound to: the questions it asks, and what is kept on each task.

Knows nothing of who answers: a Cache in the runner, the job in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from taskproc.core.arguments import Encoder
from taskproc.core.records import JSON, CodeMode, Explanation, Plan, Record, RunStats, TaskKey

if TYPE_CHECKING:
    from taskproc.core.task import Task

NEW, BUILDING, READY = range(3)


class Binding(Protocol):
    """What a task asks of the Cache, or in a job of the worker, that it belongs to."""

    instances: dict[tuple[type, str], Task]
    encoder: Encoder
    location: str

    @property
    def folder(self) -> str:
        """The folder from which relative paths of input files count."""
        ...

    def encode_arguments(self, task_name: str, bound: Mapping[str, Any]) -> dict[str, JSON]:
        """The JSON of a call's arguments, by parameter."""
        ...

    def initialise(self, depth: int, call: Callable[[], None]) -> None:
        """Run `call`, the body of an `__init__` that is `depth` constructions deep."""

    def wait_until_built(self, state: TaskState) -> None:
        """Wait while another thread constructs the same task."""

    def restore(self, cls: type[Task], digest: str, args: Mapping[str, JSON]) -> Task:
        """The task that an unpickled one stands for, by its key and its stored arguments."""
        ...

    def load_result(self, task: Task) -> Any: ...
    def run_graph(self, task: Task, **options: Any) -> tuple[Any, RunStats]: ...
    def plan(self, task: Task, *, detect_source_change: bool, code: CodeMode, force: bool = ...) -> Plan: ...
    def why(self, task: Task, *, detect_source_change: bool, code: CodeMode) -> Explanation: ...
    def get_record(self, task: Task) -> Record | None: ...
    def decode_arguments(self, task: Task) -> dict[str, Any]: ...
    def clear(self, task: Task) -> None: ...
    def clear_all(self, task_name: str) -> None: ...
    def data_directory(self, task: Task, create: bool) -> Path: ...
    def log_path(self, task: Task, stream: Literal["stdout", "stderr"]) -> Path: ...


class TaskState:
    """What taskproc keeps on a task, under the one name `_task`."""

    __slots__ = ("args", "attributes", "binding", "bound", "key", "meant", "named_code", "phase")

    def __init__(self, binding: Binding, key: TaskKey, args: Mapping[str, JSON], phase: int) -> None:
        self.binding = binding
        self.key = key
        self.args = args
        self.phase = phase
        # The arguments `__init__` is yet to be run on; which of several threads takes them, runs it.
        self.bound: list[dict[str, Any]] = []
        # Functions and classes among the arguments: their code joins the task's fingerprint.
        self.named_code: tuple[str, ...] = ()
        # The classes of the tasks among the arguments, and what the names of others stood for.
        self.meant: tuple[object, ...] = ()
        # For a reference in a worker: gives its plain attributes, on first use.
        self.attributes: Callable[[], Mapping[str, Any]] | None = None
