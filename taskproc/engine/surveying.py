"""Look at all that a task needs and at what is stored of it, for plans, runs and explanations.

Gathers what freshness decides on: the graph, records, code, input files. Writes nothing.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from taskproc.core.arguments import Encoder, canonical
from taskproc.core.freshness import Circumstances, make_plan, named_code
from taskproc.core.graph import Input, Node, TaskGraph, attributes_now, build_graph, node_of
from taskproc.core.records import ALSO_READ, JSON, CodeMode, Plan, Record, TaskKey, content_digest
from taskproc.core.task import Task
from taskproc.engine.codes import Codes
from taskproc.engine.input_files import InputFiles
from taskproc.engine.jobs import InputOrder
from taskproc.engine.masking import Secrets
from taskproc.engine.pickling import dumps
from taskproc.engine.versions import python_minor
from taskproc.interfaces import CacheBackend

_LONGEST_SHOWN = 120


class Survey(NamedTuple):
    """A graph, the records now stored of it, what holds for the look, and what is to be done."""

    graph: TaskGraph
    records: dict[TaskKey, Record]
    now: Circumstances
    plan: Plan


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Do not look for garbage while only things that last are made: it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Surveying:
    """What a Cache tells of tasks and of what is stored of them."""

    backend: CacheBackend
    location: str
    encoder: Encoder
    codes: Codes
    inputs: InputFiles
    secrets: Secrets | None = None

    def survey(self, task: Task, code: CodeMode, force: bool) -> Survey:
        """Look at all that a task needs, and at what is stored of it; writes nothing."""
        self.backend.open()
        with _no_garbage_collection():
            graph = build_graph(task, self.encoder, _pickle_digest, self.inputs.version_of)
            now = self.circumstances(code, force)
            records = self.backend.look_up(list(graph.nodes))
            # What stored results read beside their upstreams stands last in their records.
            also = {up.key for r in records.values() for up in r.upstreams[-1:] if up.path == ALSO_READ}
            if also:
                also = {up.key for r in records.values() for up in r.upstreams if up.path == ALSO_READ}
                records.update(self.backend.look_up([key for key in also if key not in records]))
            return Survey(graph, records, now, make_plan(graph, records, now))

    def names_of(self, task: Task) -> tuple[str, ...]:
        """The functions and classes whose code counts for a task beside that of its class."""
        node = node_of(task, self.encoder, _pickle_digest, self.inputs.version_of)
        return named_code(node, self.backend.look_up([upstream.key for upstream in node.upstreams]))

    def facts_of_job(
        self, node: Node, records: Mapping[TaskKey, Record], now: Circumstances | None = None
    ) -> dict[str, Any]:
        """What the order of a job says of its task beside what the graph knows.

        The code is that of `now`, of the look that the job is of; None: of the last look of all.
        """
        task = node.task
        names = named_code(node, records)
        attributes, left = attributes_now(node, self.encoder, _pickle_digest)
        notes: dict[str, JSON] = {}
        if packages := self.codes.packages(type(task)):
            notes["packages"] = packages
        if names:
            notes["names"] = list(names)
        return {
            "code": (self.codes.of if now is None else now.code_of)(type(task), names),
            "attributes_digest": attributes,
            "inputs": tuple([self._input_order(file) for file in node.inputs]) if node.inputs else (),
            "left": {name: _brief(value) for name, value in self._shown(left).items()} if left else None,
            "notes": notes or None,
        }

    def _shown(self, left: Mapping[str, JSON]) -> dict[str, JSON]:
        """Attributes as people may see them, in records and on screens."""
        if self.secrets is None:
            self.secrets = Secrets()
        return {name: self.secrets.mask_json(value) for name, value in left.items()}

    def _input_order(self, file: Input) -> InputOrder:
        reading = self.inputs.last(file.now.place)
        # Another thread's look may have read it anew meanwhile.
        state = reading.state if reading is not None and reading.now == file.now else None
        return InputOrder(file.path, file.file, file.now.place, file.now.version, state)

    def circumstances(self, code: CodeMode, force: bool) -> Circumstances:
        """What holds for a look at a graph of this Cache, now."""
        look = self.codes.refresh()
        self.secrets = None  # the environment may have changed
        return Circumstances(
            location=self.location,
            python=python_minor(),
            code_of=look.of,
            code_scheme=self.codes.scheme,
            code=code,
            force=force,
        )


def _pickle_digest(value: Any) -> str:
    return content_digest(dumps(value).payload)


def _brief(value: JSON) -> JSON:
    """An attribute's JSON for people, or a digest of it if it is long."""
    text = canonical(value)
    return value if len(text) <= _LONGEST_SHOWN else {"__digest__": content_digest(text)}
