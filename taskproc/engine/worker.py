"""What runs in a worker: load, capture, run, save, answer.

The same code serves a process of our own pool, a launched command, and any thread or
process of somebody else's executor. It imports no click and no rich, and scans no entry
points: a worker's imports are the price of every launched job.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import taskproc
from taskproc.core.records import Outcome, Record, TaskKey, content_digest
from taskproc.core.task import enter_scope, leave_scope
from taskproc.engine import job_folder
from taskproc.engine.failure import describe
from taskproc.engine.forks import call_as_parent
from taskproc.engine.interruption import in_force
from taskproc.engine.job_binding import JobBinding
from taskproc.engine.jobs import (
    SMALL_RESULT,
    Answer,
    JobOrder,
    pack_answers,
    read_batch,
)
from taskproc.engine.opened_run import OpenedRun, open_order, spool_of_launched, spool_of_thread
from taskproc.engine.pickling import Pickled, dumps, name_unpicklable
from taskproc.engine.spool_file import use_spool_streams
from taskproc.engine.thread_capture import thread_capture
from taskproc.engine.time_limits import within
from taskproc.engine.versions import content_version, python_minor
from taskproc.errors import MissingResultError, UnpicklableResultError
from taskproc.interfaces import Announcer

_DURABLE_SECONDS = 0.1
_FLUSH_SECONDS = 0.02
_PYTHON = ".".join(map(str, sys.version_info[:3]))

_LATE_ORDERS = (0.1, 0.4, 1.5)
"""Seconds after which orders are looked for again: on a shared disk they may be seen late."""


def run_batch(payload: bytes, announcer: Announcer | None = None) -> bytes:
    """Do jobs one after the other; returns the answers that were not sent before, packed.

    Jobs left when the batch has used up its time are returned undone.
    """
    batch = read_batch(payload)
    return pack_answers(_run_jobs(open_order(batch.order), batch.jobs, announcer))


def _run_jobs(run: OpenedRun, jobs: Sequence[JobOrder], announcer: Announcer | None = None) -> list[Answer]:
    answers: list[Answer] = []
    begun = flushed = time.monotonic()
    for position, job in enumerate(jobs):
        # In threads, which nothing can end, it may be told to begin nothing more.
        recalled = position and getattr(announcer, "recalled", False)
        if recalled or (position and time.monotonic() - begun > run.order.budget):
            answers.extend(Answer(Outcome(left.key, "returned")) for left in jobs[position:])
            break
        if announcer is not None:
            announcer.announce(position)
        answers.append(run_job(run, job))
        now = time.monotonic()
        if announcer is not None and now - flushed > _FLUSH_SECONDS and position + 1 < len(jobs):
            announcer.send(pack_answers(answers))
            answers, flushed = [], now
    run.backend.index()
    if announcer is None and run.own_process:
        run.end_capture()
    return answers


def run_job(run: OpenedRun, job: JobOrder) -> Answer:
    """Do one job: compute, save, and say how it ended.

    One whose claim others have taken over, as its run had stood still for long, leaves everything
    as it is and is returned: what stands there now is theirs.
    """
    if not run.backend.stands(job.ticket):
        return Answer(Outcome(job.key, "returned"))
    binding = JobBinding(run, job)
    clock = time.monotonic()
    enter_scope(binding)
    try:
        with _kept_output(run, job.key):
            record, payload = _compute_and_save(binding, job)
        outcome = Outcome(job.key, "finished", time.monotonic() - clock, record=record)
        answer = Answer(outcome, payload if len(payload) <= SMALL_RESULT else None)
    except BaseException as error:  # noqa: BLE001 - it is this job's failure, whatever it is
        stands = run.backend.stands(job.ticket)
        if stands:
            with _only_warns(f"what {job.key} replaced could not be put back"):
                run.backend.abandon(job.key)
        if run.in_runner and _is_broken_off(error):
            raise KeyboardInterrupt from None
        seconds = time.monotonic() - clock
        if binding.unsound:
            damaged = tuple(dict.fromkeys(binding.unsound))
            return Answer(Outcome(job.key, "damaged", seconds, damaged=damaged))
        if not stands:
            return Answer(Outcome(job.key, "returned", seconds))
        answer = Answer(Outcome(job.key, "failed", seconds, failure=describe(error)))
    finally:
        leave_scope()
    return answer


class _ClaimLostError(Exception):
    """Others took a job's claim over while it ran."""


def _is_claim_lost() -> bool:
    """Whether that is the exception which is being handled: then the logs, too, are another's."""
    return isinstance(sys.exception(), _ClaimLostError)


def _is_broken_off(error: BaseException) -> bool:
    """Whether a job on the runner's main thread was ended by a signal, and not by the task itself."""
    if threading.current_thread() is not threading.main_thread():
        return False
    signals = in_force()
    return bool(signals.number) if signals is not None else isinstance(error, KeyboardInterrupt)


def _compute_and_save(binding: JobBinding, job: JobOrder) -> tuple[Record, bytes]:
    backend = binding.run.backend
    started, clock = time.time(), time.monotonic()
    backend.begin(job.key)
    task = binding.main_task()
    binding.run.other_code(job.key.name)  # asked before the task fills what values its modules have
    with within(binding.run.order.limits.get(job.key.name)):
        result = call_as_parent(task.run_task)
    if binding.run.in_runner and (signals := in_force()) is not None:
        signals.check()  # a task that swallows the interruption has come to who knows what
    if binding.unsound:  # the task went on without an upstream's result: it must not count
        raise MissingResultError(f"an upstream of {job.key.name} could not be read")
    pickled = _pickle_result(result, backend.location)
    data = backend.list_data(job.key)
    digest = content_digest(pickled.payload)
    seconds = time.monotonic() - clock
    provenance: dict[str, Any] = {
        "job": job.token,
        "seconds": seconds,
        "started": started,
        "host": binding.run.host,
        "pid": os.getpid(),
        "python": _PYTHON,
        "taskproc": taskproc.__version__,
    }
    if job.notes:
        provenance.update(job.notes)
    if other_code := binding.run.other_code(job.key.name):
        provenance["other_code"] = other_code
    if pickled.holds:
        provenance["holds"] = sorted(pickled.holds)
    record = Record(
        key=job.key,
        args=job.args,
        # What ran was not what the runner took the fingerprint of: no code vouches for the result.
        code="" if other_code else job.code,
        code_scheme=binding.run.order.code_scheme,
        attributes=job.attributes_digest,
        upstreams=binding.rests_on(),
        digest=digest,
        version=content_version(digest, data),
        data=data,
        root=backend.location if pickled.names_root else None,
        python=python_minor() if pickled.by_value else None,
        provenance=provenance,
        left=job.left or {},
    )
    if not backend.stands(job.ticket):
        raise _ClaimLostError
    backend.save(
        record,
        pickled.payload,
        type(task).task_compress_level,
        durable=seconds > _DURABLE_SECONDS or bool(data),
    )
    return record, pickled.payload


def _pickle_result(result: Any, root: str) -> Pickled:
    try:
        return dumps(result, root=root)
    except Exception as error:
        raise UnpicklableResultError(
            f"the result can't be pickled: {name_unpicklable(result)} ({type(error).__name__}: {error})"
        ) from error


@contextlib.contextmanager
def _kept_output(run: OpenedRun, key: TaskKey) -> Iterator[None]:
    """Keep what the job prints in the task's logs, by the best means there is here."""
    if run.in_runner and not run.order.captured:
        yield
        with _only_warns(f"what an older job of {key} printed could not be removed"):
            run.backend.keep_logs(key, None, None)
        return
    backend = run.backend
    if not run.own_process:
        spool = spool_of_thread(run.spool.parent, run.order.run, key)
        stdout, stderr = Path(f"{spool}.out"), Path(f"{spool}.err")
        try:
            with thread_capture(stdout, stderr):
                yield
        finally:
            with _only_warns(f"the output of {key} could not be kept"):
                if not _is_claim_lost():
                    backend.keep_logs(key, *[path if path.exists() else None for path in (stdout, stderr)])
        return
    capture = run.capture()
    capture.start()
    try:
        yield
    finally:
        try:
            with _only_warns(f"the output of {key} could not be kept"):
                spools = capture.finish()
                if not _is_claim_lost():
                    backend.keep_logs(key, *spools)
        finally:
            run.put_process_right()


@contextlib.contextmanager
def _only_warns(what: str) -> Iterator[None]:
    """Turn a disk's fault into a warning: it must hide neither a result that is stored nor a failure."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{what}: {error}", RuntimeWarning, stacklevel=3)


def run_launched(directory: str) -> int:
    """Do the job whose orders lie in a directory; returns the exit code.

    It is done only under a claim of this process: so it may outlive its run, and nobody computes
    the task beside it. One that waited in a queue while its run died is not done at all.
    """
    folder = Path(directory)
    payload = _orders_in(folder)
    if payload is None:
        print(f"taskproc: nothing to do: nobody waits for the job {folder.name} any more", file=sys.stderr)
        return 1
    batch = read_batch(payload)
    run = open_order(batch.order)
    run.spool = spool_of_launched(directory)
    (job,) = batch.jobs
    try:
        if run.backend.lease_for_job(job.key, job.ticket):
            job_folder.note_start(folder)
            answers = _run_jobs(run, batch.jobs)
        else:
            print(
                f"taskproc: not done: the run of the job {folder.name} has ended, or its task {job.key} is "
                "another's to do by now",
                file=sys.stderr,
            )
            answers = [Answer(Outcome(job.key, "returned"))]
    except Exception as error:  # noqa: BLE001 - of the cache; whatever it is, the runner hears of it
        answers = [Answer(Outcome(job.key, "failed", failure=describe(error)))]
    try:
        job_folder.write_sealed(folder / job_folder.OUTCOME_FILE, pack_answers(answers))
    except FileNotFoundError:
        pass  # its run was cancelled, and has removed the folder
    except OSError as error:
        job_folder.note_unwritten(folder, error)
        print(f"taskproc: the outcome of the job {folder.name} could not be kept: {error}", file=sys.stderr)
    # Not before: who finds the task unclaimed must find the outcome, or there is none.
    run.backend.close()
    return 0 if answers[0].outcome.kind == "finished" else 1


def _orders_in(folder: Path) -> bytes | None:
    """What a launched job is to do; None: its orders are gone, and not just late to be seen here."""
    for pause in (*_LATE_ORDERS, None):
        with contextlib.suppress(OSError):
            os.listdir(folder.parent)  # which makes a network file system look again
        try:
            return job_folder.read_sealed(folder / job_folder.ORDERS_FILE)
        except FileNotFoundError:
            if pause is not None:
                time.sleep(pause)
    return None


def main(argv: Sequence[str]) -> int:
    """`--pool SOCKET STATUS LIFELINE`, or the directory of a launched job."""
    use_spool_streams()  # before anything of the user's takes hold of the others
    if argv[:1] == ["--pool"]:
        import gc

        from taskproc.engine.serve import serve

        gc.freeze()  # what is loaded by now lives as long as the worker: no need to look at it again
        serve(*(int(number) for number in argv[1:4]))
        return 0
    if len(argv) != 1:
        print("usage: python -m taskproc.engine.worker JOB_DIRECTORY", file=sys.stderr)
        return 2
    return run_launched(argv[0])


if __name__ == "__main__":
    # Under its own name, so that what a job pickles here is found again elsewhere.
    from taskproc.engine.worker import main as _main

    sys.exit(_main(sys.argv[1:]))
