"""What travels to workers and back arrives whole."""

from __future__ import annotations

import pickle
from dataclasses import fields

from taskproc.core.records import DataFile, Failure, Outcome, Record, TaskKey, UpstreamRecord
from taskproc.engine.jobs import (
    Answer,
    Batch,
    InputOrder,
    JobOrder,
    UpstreamOrder,
    pack_answers,
    read_batch,
    unpack_answers,
)
from taskproc.engine.jobs import _plain as plain_job

KEY = TaskKey("taskfile.Train", "0" * 32)
UPSTREAM = TaskKey("taskfile.Load", "1" * 32)

RECORD = Record(
    key=KEY,
    args={"rate": 0.1, "where": {"__tuple__": [1, 2]}},
    code="c" * 32,
    code_scheme=1,
    attributes="a" * 32,
    upstreams=(UpstreamRecord("data['x']", UPSTREAM, "v" * 32),),
    digest="d" * 32,
    version="w" * 32,
    data=(DataFile("sub/model.bin", 7, "e" * 32),),
    root="/a/cache",
    python="3.11",
    provenance={"job": "r-1", "seconds": 0.5},
    left={"seen": "a"},
)


def test_an_answer_comes_back_with_every_field_of_its_outcome_and_record() -> None:
    # Every field differs from its default, so that none can be forgotten on the way.
    outcome = Outcome(
        KEY, "failed", 1.5, 0.0, RECORD, Failure("ValueError", "no", "trace", b"pickled"), (UPSTREAM,)
    )
    for field in (one for one in fields(Record) if one.default not in (None, ())):
        assert getattr(RECORD, field.name), field.name
    answers = [Answer(outcome, b"result"), Answer(Outcome(UPSTREAM, "returned"))]
    assert unpack_answers(pack_answers(answers)) == answers


def test_a_job_arrives_with_every_field_of_its_order() -> None:
    upstream = UpstreamOrder(
        "data", UPSTREAM, "v" * 32, "d" * 32, {"n": 1}, b"attributes", b"result", "a" * 32
    )
    file = InputOrder("data", "x.csv", "/data/x.csv", "e" * 32, (1, 2, 3, 4, 5))
    job = JobOrder(
        KEY,
        {"rate": 0.1},
        b"own",
        (upstream,),
        "c" * 32,
        "a" * 32,
        "run-1",
        (file,),
        {"n": 1},
        {"names": ["a:b"]},
        "a ticket",
    )
    assert all(job)
    payload = pickle.dumps((b"order", [plain_job(job)]))
    assert read_batch(payload) == Batch(b"order", [job])
