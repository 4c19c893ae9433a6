"""Say why a task would run again, and what changed: the reason in the plan, with what is behind it.

Decides nothing: freshness has. It gathers what people ask next: which lines of which helper,
which value, who cleared it and when. Writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from taskproc.core.arguments import canonical
from taskproc.core.freshness import named_code, upstream_records
from taskproc.core.records import (
    INPUT_FILE,
    JSON,
    CodeMode,
    DataFile,
    Event,
    Explanation,
    Plan,
    Reason,
    Record,
    TaskKey,
    UpstreamRecord,
    is_root_of_renamed,
)
from taskproc.engine.stored_tasks import likely_old_names, nearest_record
from taskproc.errors import DamagedEntryError, MissingResultError

if TYPE_CHECKING:
    from taskproc.core.task import Task
    from taskproc.engine.session import Cache
    from taskproc.engine.surveying import Survey

_MOST_ORIGINS = 5
_MOST_FILES = 5
_ABSENT = object()


def explain(cache: Cache, task: Task, code: CodeMode) -> Explanation:
    """Why `run_graph` would run a task, or that it would not."""
    survey = cache.survey(task, code, force=False)
    return Explainer(cache, survey).of(task._task.key)


class Explainer:
    """Explains the tasks of one survey."""

    def __init__(self, cache: Cache, survey: Survey) -> None:
        self._cache = cache
        self._survey = survey
        self._plan: Plan = survey.plan

    def of(self, key: TaskKey) -> Explanation:
        """The explanation of one task of the graph."""
        reason = self._plan.run.get(key) or self._plan.blocked.get(key)
        record = self._survey.records.get(key)
        if reason is None and record is not None:
            return self._of_stored(key, record)
        if reason is None:
            return Explanation(
                key, self._args(key), False
            )  # for the type checkers: what has no record is not cached
        details: list[str] = []
        origins: list[Explanation] = []
        if reason.kind == "missing":
            details += self._of_missing(key)
        elif reason.kind in ("upstream_runs", "upstream_blocked"):
            origins = list(self._origins(key, reason))
        elif record is not None:
            details += self._of_stale(key, record, reason)
        return Explanation(key, self._args(key), False, reason, tuple(details), tuple(origins))

    def _args(self, key: TaskKey) -> Mapping[str, JSON]:
        return self._survey.graph.nodes[key].task._task.args

    # --- a result that stands ---

    def _of_stored(self, key: TaskKey, record: Record) -> Explanation:
        try:
            self._cache.backend.load(key, record.digest)
        except (DamagedEntryError, MissingResultError) as error:
            reason = Reason("damaged", "damaged: digest differs")
            return Explanation(key, self._args(key), False, reason, (str(error), _provenance(record)))
        if record.data and (changed := _changed_files(record.data, self._cache.backend.list_data(key))):
            reason = Reason("damaged", "damaged: digest differs, of files in its data directory")
            return Explanation(key, self._args(key), False, reason, (changed, _provenance(record)))
        details = [_provenance(record), *self._packages(key, record)]
        return Explanation(key, self._args(key), True, None, tuple(details))

    def _packages(self, key: TaskKey, record: Record) -> Iterator[str]:
        """What else is installed, where it is not what it was: that does not count, but people ask."""
        told = record.provenance.get("packages")
        before: Mapping[str, str] = told if isinstance(told, Mapping) else {}
        now = self._cache.codes.packages(type(self._survey.graph.nodes[key].task)) if before else {}
        for name, version in sorted(before.items()):
            if now.get(name, version) != version:
                yield (
                    f"it was computed with {name} {version}, and {now[name]} is installed now; that does not "
                    f"count (task_depends_on = [{name!r}] would make it count)"
                )

    # --- a result that is gone, or never was ---

    def _of_missing(self, key: TaskKey) -> Iterator[str]:
        events = self._cache.backend.events(key)
        lost = [event for event in events if event.kind != "failed"][-1:]
        # A failure is no reason for a result to be gone, but is what people look for.
        for event in [*lost, *(event for event in events[-1:] if event.kind == "failed")]:
            yield _told(event)
        if not lost:
            yield from self._of_unknown(key)

    def _of_unknown(self, key: TaskKey) -> Iterator[str]:
        for old in likely_old_names(self._cache, key):
            yield (
                f"results of {old} with these arguments are stored: if the class was moved or renamed, carry "
                f"them over with: taskproc cache rename {old} {key.name} -o {self._cache.location}"
            )
            return
        args = self._survey.graph.nodes[key].task._task.args
        nearest = nearest_record(self._cache, key.name, args)
        if nearest is not None:
            differing = _differing(nearest.args, args, "is {} there and {} here")
            yield f"the stored result that is nearest has other arguments: {differing}"

    # --- a result that does not stand ---

    def _of_stale(self, key: TaskKey, record: Record, reason: Reason) -> Iterator[str]:
        node = self._survey.graph.nodes[key]
        if reason.kind == "code":
            cls = type(node.task)
            names = named_code(node, self._survey.records)
            mode = cls.task_code or self._survey.now.code
            yield from code_changes(self._cache, cls, record, mode, names)
        elif reason.kind == "attributes":
            left = self._cache.facts_of_job(node, self._survey.records)["left"] or {}
            yield _differing(record.left, left) or "an attribute holds other objects than it did"
        elif reason.kind == "upstreams":
            yield from _changed_upstreams(record.upstreams, upstream_records(node, self._survey.records))
        elif reason.kind == "moved":
            if is_root_of_renamed(record.root):
                yield f"it was stored in {record.root}, and names that: what holds a name can't be renamed"
            else:
                now = self._cache.location
                yield f"it was stored in {record.root}, and names a path there; the cache is now {now}"
        yield _provenance(record)

    def _origins(self, key: TaskKey, why: Reason) -> Iterator[Explanation]:
        """Explain the tasks with which it begins, one of each name and reason."""
        nodes = self._survey.graph.nodes
        # Above one that can't run some might run, but those are not what keeps it.
        reasons = self._plan.blocked if why.kind == "upstream_blocked" else self._plan.run
        seen = {key}
        groups: dict[tuple[str, str], list[TaskKey]] = {}
        stack = [key]
        while stack:
            for upstream in nodes[stack.pop()].upstreams:
                above = upstream.key
                reason = reasons.get(above)
                if above in seen or reason is None:
                    continue
                seen.add(above)
                if reason.kind in ("upstream_runs", "upstream_blocked"):
                    stack.append(above)
                else:
                    groups.setdefault((above.name, reason.text), []).append(above)
        for number, members in enumerate(groups.values()):
            if number == _MOST_ORIGINS:
                return
            yield self.of(members[0])


def code_changes(
    cache: Cache, cls: type[Task], record: Record, mode: CodeMode, names: tuple[str, ...]
) -> Iterator[str]:
    """What differs between the code that made a stored result and that of today, in paragraphs."""
    other = record.provenance.get("other_code")
    if other:  # no code vouches for such a result, so there is none to compare
        named = ", ".join(map(str, other)) if isinstance(other, list) else str(other)
        yield (
            f"its worker had other code than the runner: {named}; workers must import the same files, and "
            "find under each name what the runner has there"
        )
    else:
        yield from cache.codes.changes(cls, record, mode, names)


def accepted_before(record: Record) -> list[Mapping[str, JSON]]:
    """What a record tells of those who accepted its code; a backend may give what was edited by hand."""
    told = record.provenance.get("accepted")
    return [note for note in told if isinstance(note, Mapping)] if isinstance(told, list) else []


def _provenance(record: Record) -> str:
    facts = record.provenance
    by = f"process {facts.get('pid', '?')} on {facts.get('host', '?')}"
    text = f"computed {_moment(facts.get('started'))} by {by}"
    if isinstance(seconds := facts.get("seconds"), int | float):
        text += f" in {seconds:.3g} s"
    if who := facts.get("put"):
        text = f"put in by hand {_moment(facts.get('started'))} by {who}"
    for accepted in accepted_before(record):
        text += f"; its code was accepted {_moment(accepted.get('when'))} by {accepted.get('who')}"
    return text


def _told(event: Event) -> str:
    at, by = _moment(event.when), f" by {event.who}" if event.who else ""
    text = f": {event.text}" if event.text else ""
    if event.kind == "cleared":
        return f"{event.text or 'cleared by hand'} {at}{by}"
    if event.kind == "damaged":
        found = f", found {at}{by}" if event.when is not None else ""
        what = "damaged" if "missing" in event.text else "damaged: digest differs"
        return f"{what}{found}{text}"
    if event.kind == "failed":
        return f"its last job failed {at}{by}{text}"
    if event.kind == "renamed":
        return f"its results were renamed {at}{by}{text}"
    before = f"; it was {_provenance(event.record)}" if event.record is not None else ""
    return f"its folder was removed by hand{before}"


def _moment(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "at a time that is not known"
    return time.strftime("at %Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _changed_files(before: Sequence[DataFile], now: Sequence[DataFile]) -> str:
    """Which files of a data directory are not what its record says; "" if all are."""
    was, is_now = {file.path: file for file in before}, {file.path: file for file in now}
    paths = sorted(path for path in was.keys() | is_now.keys() if was.get(path) != is_now.get(path))
    more = f" and {len(paths) - _MOST_FILES} more" if len(paths) > _MOST_FILES else ""
    return f"not as they were stored: {', '.join(paths[:_MOST_FILES])}{more}" if paths else ""


def _differing(before: Mapping[str, JSON], now: Mapping[str, JSON], words: str = "was {}, is {}") -> str:
    """Which names have other values: "n was 5, is 6"."""
    told = []
    for name in dict.fromkeys([*before, *now]):
        was, is_now = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if _ABSENT not in (was, is_now) and canonical(was) == canonical(is_now):
            continue
        texts = _shown(was), _shown(is_now)
        alike = texts[0] == texts[1]
        told.append(f"{name} differs, behind {texts[0]}" if alike else f"{name} {words.format(*texts)}")
    return "; ".join(told)


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "not there"
    if isinstance(value, dict) and "__digest__" in value:
        return f"something long (digest {str(value['__digest__'])[:8]})"
    if isinstance(value, dict) and value.keys() == {"__task__", "__key__"}:
        return f"{value['__task__']}/{str(value['__key__'])[:8]}"
    if isinstance(value, dict) and value.keys() == {"__input_file__"}:
        return f"the file {value['__input_file__']!r}"
    text = canonical(value).decode("ascii")
    return text if len(text) <= 80 else text[:77] + "..."


def _changed_upstreams(before: tuple[UpstreamRecord, ...], now: tuple[UpstreamRecord, ...]) -> Iterator[str]:
    known = {upstream.path: upstream for upstream in before}
    for upstream in now:
        was = known.pop(upstream.path, None)
        if was == upstream:
            continue
        what = _named(upstream)
        if was is None:
            yield f"{upstream.path} is new: {what}"
        elif was.key != upstream.key:
            yield f"{upstream.path} was {_named(was)}, is {what}"
        else:
            versions = f"was {was.version[:32]}, is {upstream.version[:32]}"
            yield f"the content of {upstream.path} ({what}) {versions}"
    for was in known.values():
        yield f"{was.path} is gone: {_named(was)}"


def _named(upstream: UpstreamRecord) -> str:
    name, digest = upstream.key
    return f"the file {digest!r}" if name == INPUT_FILE else f"{name}/{digest[:8]}"
