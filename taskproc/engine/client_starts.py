"""Start the clients of launched jobs: write the job's folder, ask the launcher, start its command.

Each launcher has a thread of its own for that, so that one that hangs when it is asked for its
command holds up its own jobs only. Knows nothing of what becomes of a client.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import subprocess
import threading
from collections.abc import Callable, Mapping

from taskproc.core.records import JSON
from taskproc.engine import job_folder
from taskproc.engine.clients import Client, command_of
from taskproc.engine.launched_jobs import facts_of, facts_of_client
from taskproc.engine.plain_files import create_private


class ClientStarts:
    """Starts the clients of one run.

    Args:
        started: called with each client whose process has been started.
        failed: called with each that could not be, and why.
        facts: what names the run to those who come after it.
    """

    def __init__(
        self,
        started: Callable[[Client], None],
        failed: Callable[[Client, BaseException], None],
        facts: Callable[[], Mapping[str, JSON]],
    ) -> None:
        self._started = started
        self._failed = failed
        self._facts = facts
        self._waiting: dict[int, queue.SimpleQueue[Client | None]] = {}
        self._threads: list[threading.Thread] = []

    def add(self, client: Client) -> None:
        """Start a client soon; on one thread only."""
        waiting = self._waiting.get(id(client.launcher))
        if waiting is None:
            waiting = self._waiting[id(client.launcher)] = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._start_those_in, args=(waiting,), name="taskproc-launch", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        waiting.put(client)

    def close(self) -> list[threading.Thread]:
        """Start nothing any more; returns the threads, which end soon unless a launcher hangs."""
        for waiting in self._waiting.values():
            waiting.put(None)
        return self._threads

    def _start_those_in(self, waiting: queue.SimpleQueue[Client | None]) -> None:
        while (client := waiting.get()) is not None:
            try:
                if not client.is_over:
                    self._start(client)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the command may be a plugin's
                self._failed(client, error)

    def _start(self, client: Client) -> None:
        job, launcher, folder = client.job, client.launcher, client.folder
        if folder.exists():  # of this very job, when it was launched before and left something
            folder.rename(f"{folder}-{secrets.token_hex(3)}")
        job_folder.make_folder(folder)
        facts = facts_of(job, launcher, self._facts())
        job_folder.write_facts(folder, facts)
        job_folder.write_sealed(folder / job_folder.ORDERS_FILE, client.orders)
        client.argv = command_of(launcher, client.words, job)
        environment = {**os.environ, **launcher.environment(job)}
        if client.is_over:  # it was cancelled while its launcher was asked
            job_folder.remove(folder)
            return
        with (
            open(create_private(job.stdout), "wb") as stdout,
            open(create_private(job.stderr), "wb") as stderr,
        ):
            client.process = subprocess.Popen(
                client.argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        self._started(client)
        with contextlib.suppress(OSError):  # without it a later run can't end the client, and that is all
            job_folder.write_facts(folder, {**facts, **facts_of_client(client.process.pid)})
