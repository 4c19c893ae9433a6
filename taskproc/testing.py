"""Contract suites for plugin authors, one for each protocol of `taskproc.interfaces`.

Subclass a suite in a test file, say in `make` how your component is made, and pytest
runs the whole list against it. The default plugins subclass the same suites.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from taskproc.engine.dispatch import worker_command
from taskproc.errors import CacheError, DamagedEntryError, MissingResultError
from taskproc.interfaces import (
    PLAYED_OWNER,
    CacheBackend,
    Event,
    ExecutorProvider,
    Job,
    Launcher,
    Record,
    StoredEntry,
    TaskKey,
    UpstreamRecord,
    arguments_digest,
    content_digest,
)
from taskproc.registry.components import CACHE_BACKEND, EXECUTOR, LAUNCHER, fault_of_class


@contextmanager
def played_owner(path: str | os.PathLike[str], uid: int = 4_000_000_000) -> Iterator[None]:
    """Play that a path, and what is below it, belongs to another user, here and in processes started here.

    Caches opened inside are refused, or read with `trust=True`, as if the owner were `uid`. It can
    only take trust away: a `uid` who would be trusted (root, or who runs this) is not played.
    """
    before = os.environ.get(PLAYED_OWNER)
    os.environ[PLAYED_OWNER] = f"{uid}:{os.path.abspath(path)}"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PLAYED_OWNER]
        else:
            os.environ[PLAYED_OWNER] = before


def example_job(**changes: Any) -> Job:
    """A job as a launcher is handed it, to test launchers and reporters with."""
    job = Job(
        key=TaskKey("taskfile.Train", "00ff" * 8),
        task_id=int("00ff" * 8, 16),
        args={"rate": 0.1},
        labels=("taskfile.Train", "gpu"),
        label="gpu",
        root="/data/cache",
        project="/home/someone/project",
        directory="/data/cache/taskfile.Train/00ff/data",
        job_directory="/data/cache/jobs/1",
        stdout="/data/cache/jobs/1/client.out",
        stderr="/data/cache/jobs/1/client.err",
        name="taskfile-Train-00ff",
    )
    return dataclasses.replace(job, **changes)


class LauncherContract(ABC):
    """What every launcher keeps to, whatever it starts jobs with."""

    ARGV = ("/usr/bin/python3", "-P", "-m", "taskproc.engine.worker", "/data/cache/jobs/1")

    @abstractmethod
    def make(self) -> Launcher:
        """The launcher under test; equal options at each call."""

    def test_the_registry_accepts_the_class(self) -> None:
        launcher = self.make()
        assert fault_of_class(LAUNCHER, type(launcher)) == ""
        assert vars(type(launcher)).get("name") == launcher.name, "a launcher names itself"

    def test_the_command_ends_in_the_words_of_the_worker_unaltered(self) -> None:
        words = self.make().command(self.ARGV, example_job())
        assert isinstance(words, list | tuple)
        assert all(isinstance(word, str) for word in words)
        assert tuple(words[-len(self.ARGV) :]) == self.ARGV

    def test_the_command_leaves_its_arguments_as_they_are_and_says_the_same_again(self) -> None:
        launcher, argv = self.make(), list(self.ARGV)
        first = launcher.command(argv, example_job())
        assert argv == list(self.ARGV)
        assert list(launcher.command(argv, example_job())) == list(first)

    def test_blanks_and_quotes_in_paths_stay_inside_their_words(self) -> None:
        odd = '/data/some one\'s "cache" $HOME'
        job = example_job(
            root=odd,
            project='/srv/some one\'s "project" $HOME',
            directory=f"{odd}/data",
            job_directory=f"{odd}/jobs/1",
            stdout=f"{odd}/out",
            stderr=f"{odd}/err",
        )
        words = self.make().command(self.ARGV, job)
        plain = self.make().command(self.ARGV, example_job())
        assert len(words) == len(plain), "a path has become several words, or none"
        assert tuple(words[-len(self.ARGV) :]) == self.ARGV

    def test_the_environment_maps_names_to_text(self) -> None:
        for name, value in self.make().environment(example_job()).items():
            assert isinstance(name, str)
            assert name
            assert "=" not in name
            assert isinstance(value, str)

    def test_what_it_needs_on_the_path_is_a_tuple_of_commands(self) -> None:
        needs = self.make().needs
        assert isinstance(needs, tuple)
        assert all(isinstance(word, str) and word for word in needs)

    def test_the_limits_are_whole_numbers(self) -> None:
        launcher = self.make()
        assert launcher.max_jobs is None or launcher.max_jobs >= 1
        assert launcher.default_max_jobs >= 1
        assert launcher.python is None or isinstance(launcher.python, str)

    @pytest.mark.parametrize("returncode", [0, 1, 2, 125, 126, 127, 130, 137, 143, 255, -9, -15])
    def test_every_exit_code_can_be_explained_or_left_unexplained(self, returncode: int) -> None:
        for stderr in ("", "some\nlines: of a client\n"):
            assert isinstance(self.make().explain(returncode, stderr), str)

    def test_cancelling_nothing_starts_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("cancel([]) started a command")

        monkeypatch.setattr(subprocess, "Popen", refuse)
        self.make().cancel([])

    def test_it_is_a_value(self) -> None:
        launcher = self.make()
        with pytest.raises(dataclasses.FrozenInstanceError):
            launcher.max_jobs = 7  # type: ignore[misc]
        assert launcher == self.make()
        assert hash(launcher) == hash(self.make())

    def test_a_pickled_copy_says_the_same(self) -> None:
        launcher = self.make()
        copy = pickle.loads(pickle.dumps(launcher))
        assert copy == launcher
        assert copy.command(self.ARGV, example_job()) == launcher.command(self.ARGV, example_job())


class ExecutorContract(ABC):
    """What every executor provider keeps to, wherever its workers are."""

    @abstractmethod
    def make(self) -> ExecutorProvider:
        """The provider under test; equal options at each call."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        """An executor of two workers, shut down after the test."""
        with self.make().open(2, worker_command()) as executor:
            yield executor

    def test_the_registry_accepts_the_class(self) -> None:
        provider = self.make()
        assert fault_of_class(EXECUTOR, type(provider)) == ""
        assert provider == self.make()

    def test_a_result_comes_back(self, executor: Executor) -> None:
        assert executor.submit(pow, 2, 10).result() == 1024

    def test_keyword_arguments_travel(self, executor: Executor) -> None:
        assert executor.submit(int, "ff", base=16).result() == 255

    def test_a_function_without_a_name_in_any_module_travels(self, executor: Executor) -> None:
        factor = 7
        assert executor.submit(lambda number: factor * number, 6).result() == 42

    def test_an_exception_comes_back_as_what_it_was(self, executor: Executor) -> None:
        future = executor.submit(int, "not a number")
        with pytest.raises(ValueError, match="not a number"):
            future.result()

    def test_the_work_after_a_failed_one_is_done(self, executor: Executor) -> None:
        assert isinstance(executor.submit(divmod, 1, 0).exception(), ZeroDivisionError)
        assert executor.submit(divmod, 7, 2).result() == (3, 1)

    def test_many_works_are_all_done_each_with_its_own_result(self, executor: Executor) -> None:
        futures = [executor.submit(pow, number, 2) for number in range(200)]
        assert [future.result() for future in futures] == [number * number for number in range(200)]

    def test_callbacks_hear_of_the_end(self, executor: Executor) -> None:
        heard: SimpleQueue[Any] = SimpleQueue()
        executor.submit(pow, 3, 2).add_done_callback(lambda future: heard.put(future.result()))
        assert heard.get(timeout=30) == 9

    def test_a_work_in_place_is_done_when_submit_returns_and_on_the_callers_thread(
        self, executor: Executor
    ) -> None:
        future = executor.submit(threading.get_ident)
        if self.make().in_place:
            assert future.done()
            assert future.result() == threading.get_ident()
        else:
            # In another process the number may be the same by chance, but not the pair.
            other = executor.submit(lambda: (os.getpid(), threading.get_ident())).result()
            assert other != (os.getpid(), threading.get_ident())

    def test_shutdown_waits_for_what_was_submitted(self) -> None:
        executor = self.make().open(2, worker_command())
        futures = [executor.submit(time.sleep, 0.02) for _ in range(6)]
        executor.shutdown(wait=True)
        assert all(future.done() and future.exception() is None for future in futures)

    def test_nothing_is_taken_after_shutdown(self) -> None:
        executor = self.make().open(1, worker_command())
        executor.shutdown()
        executor.shutdown()  # a second one is harmless
        with pytest.raises(RuntimeError):
            executor.submit(pow, 1, 1)

    def test_two_executors_of_one_provider_are_apart(self, executor: Executor) -> None:
        with self.make().open(1, worker_command()) as other:
            assert other.submit(pow, 2, 3).result() == 8
        assert executor.submit(pow, 2, 4).result() == 16


def example_key(name: str = "taskfile.Train", text: str = "1") -> TaskKey:
    """A task key; another `text` stands for other arguments."""
    return TaskKey(name, content_digest(text.encode()))


def example_record(key: TaskKey, payload: bytes, **changes: Any) -> Record:
    """A record as the engine makes it for a result without data files."""
    upstream = UpstreamRecord("loader['train']", TaskKey("taskfile.Load", "00ff" * 8), "ab" * 16)
    record = Record(
        key=key,
        args={"rate": 0.1, "layers": {"__tuple__": [1, 2]}, "name": "caf\u00e9 \t\n"},
        code="c0de" * 8,
        code_scheme=1,
        attributes="a77e" * 8,
        upstreams=(upstream,),
        digest=content_digest(payload),
        version=content_digest(payload),
        provenance={"job": "0123456789abcdef", "seconds": 0.25, "started": 1700000000.5, "host": "h"},
    )
    return dataclasses.replace(record, **changes)


class CacheBackendContract(ABC):
    """What every cache backend keeps to, wherever it stores.

    The tests find what is stored as files below `tmp_path`; a backend that keeps it elsewhere
    overrides `stored_files` to return none.
    """

    @abstractmethod
    def make(self, tmp_path: Path) -> CacheBackend:
        """The backend under test; at each call another object on the same place."""

    def stored_files(self, tmp_path: Path) -> list[Path]:
        """The files the backend keeps, each of which the tests damage byte by byte."""
        return sorted(path for path in tmp_path.rglob("*") if path.is_file())

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[CacheBackend]:
        backend = self.make(tmp_path)
        backend.open()
        yield backend
        backend.close()

    @staticmethod
    def store(backend: CacheBackend, key: TaskKey, payload: bytes = b"answer", **changes: Any) -> Record:
        """Save a result as a job does."""
        record = example_record(key, payload, **changes)
        backend.begin(key)
        backend.save(record, payload, 9, durable=False)
        return record

    def store_with_data(self, backend: CacheBackend, key: TaskKey, text: str) -> Record:
        """Save a result with a data directory of two files."""
        backend.begin(key)
        directory = backend.data_directory(key, create=True)
        (directory / "model.bin").write_text(text)
        (directory / "more").mkdir()
        (directory / "more" / "notes").write_text(text)
        record = example_record(key, text.encode(), data=backend.list_data(key))
        backend.save(record, text.encode(), 9, durable=True)
        return record

    # A component

    def test_the_registry_accepts_the_class(self, backend: CacheBackend) -> None:
        assert fault_of_class(CACHE_BACKEND, type(backend)) == ""

    def test_a_backend_is_a_value(self, backend: CacheBackend, tmp_path: Path) -> None:
        assert backend == self.make(tmp_path)
        assert hash(backend) == hash(self.make(tmp_path))
        assert backend.location == self.make(tmp_path).location

    def test_looking_around_writes_nothing(self, backend: CacheBackend, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        key = example_key()
        assert backend.look_up([key]) == {}
        with pytest.raises(MissingResultError):
            backend.load(key)
        backend.data_directory(key, create=False)
        assert backend.list_data(key) == ()
        backend.log_paths(key)
        backend.discard([key])
        backend.discard_all(key.name)
        assert sorted(tmp_path.rglob("*")) == before

    # Results

    def test_a_saved_result_comes_back_with_its_record(self, backend: CacheBackend, tmp_path: Path) -> None:
        key = example_key()
        record = self.store(backend, key, root="/data/cache", python="3.11")
        for reader in (backend, self.make(tmp_path)):
            assert reader.look_up([key]) == {key: record}
            assert reader.load(key) == b"answer"
            assert reader.load(key, record.digest) == b"answer"

    @pytest.mark.parametrize("level", [0, 1, 9])
    @pytest.mark.parametrize("size", [0, 1, 600, 5000, 3_000_000])
    def test_results_of_all_sizes_come_back(self, backend: CacheBackend, level: int, size: int) -> None:
        for text, payload in (("random", random.Random(size).randbytes(size)), ("zeros", bytes(size))):
            key = example_key(text=text)
            backend.save(example_record(key, payload), payload, level, durable=False)
            assert backend.load(key) == payload
            assert key in backend.look_up([key])

    def test_a_new_result_replaces_the_old_one(self, backend: CacheBackend) -> None:
        key = example_key()
        self.store(backend, key, b"old")
        assert backend.look_up([key])
        record = self.store(backend, key, b"new")
        assert backend.look_up([key]) == {key: record}
        assert backend.load(key) == b"new"

    def test_a_look_up_finds_just_those_of_many_keys_that_are_stored(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        keys = [example_key(f"taskfile.Task{i % 3}", str(i)) for i in range(150)]
        records = [self.store(backend, key, str(i).encode()) for i, key in enumerate(keys) if i % 2]
        stored = {record.key: record for record in records}
        assert backend.look_up(keys) == stored
        backend.index()
        for reader in (backend, self.make(tmp_path)):
            assert reader.look_up(keys) == stored
            assert reader.look_up(keys[:4]) == {key: stored[key] for key in keys[:4] if key in stored}

    def test_an_indexed_entry_that_changes_is_seen_as_it_is(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        first, second, third = (example_key(text=text) for text in "123")
        for key in (first, second, third):
            self.store(backend, key)
        backend.index()
        other = self.make(tmp_path)
        record = self.store(other, first, b"other!")
        other.discard([second])
        for reader in (backend, self.make(tmp_path)):
            found = reader.look_up([first, second, third])
            assert set(found) == {first, third}
            assert found[first] == record

    def test_tasks_of_one_name_or_one_digest_are_told_apart(self, backend: CacheBackend) -> None:
        keys = [TaskKey(name, digest * 16) for name in ("a.B", "a.C") for digest in ("01", "02")]
        for key in keys:
            self.store(backend, key, str(key).encode())
        assert [backend.load(key) for key in keys] == [str(key).encode() for key in keys]

    @pytest.mark.parametrize(
        "name",
        [
            *("../../outside.Task", "/outside.Task", "a/b.C", "..", ".", "", "test_x.test_f.<locals>.Task"),
            *(
                "new\nline.T",
                "tab\tand\0nul.T",
                "blank and 'quote\".T",
                "caf\u00e9.\u4f60\u597d",
                "lone.\udcff",
            ),
            *("taskproc.json", "index.jsonl", "journal.jsonl", "jobs", "leases", "code", "runs"),
            *("a%2Fb.C", "x." + "long" * 100),
        ],
    )
    def test_any_task_name_stays_inside_the_cache(self, tmp_path: Path, name: str) -> None:
        place = tmp_path / "deep" / "cache"
        backend = self.make(place)
        neighbours = [example_key(name + "x"), example_key("x" + name), example_key("a/b.C." + name)]
        for key in neighbours:
            self.store(backend, key, b"neighbour")
        record = self.store(backend, example_key(name), b"mine")
        backend.index()
        assert self.make(place).look_up([record.key]) == {record.key: record}
        assert backend.load(record.key) == b"mine"
        assert [path.name for path in tmp_path.iterdir()] in ([], ["deep"])
        assert [path.name for path in tmp_path.rglob("*") if path.parent == place.parent] in ([], ["cache"])
        backend.discard_all(name)
        assert set(backend.look_up([record.key, *neighbours])) == set(neighbours)
        backend.close()

    # Damage

    def test_another_digest_than_the_stored_one_is_damage(self, backend: CacheBackend) -> None:
        key = example_key()
        self.store(backend, key)
        with pytest.raises(DamagedEntryError) as caught:
            backend.load(key, "00" * 16)
        assert caught.value.key == key

    @pytest.mark.filterwarnings("ignore::taskproc.errors.DamagedEntryWarning")
    @pytest.mark.parametrize("indexed", [False, True])
    @pytest.mark.parametrize("harm", ["flip", "truncate"])
    def test_no_damaged_byte_becomes_an_answer(self, tmp_path: Path, indexed: bool, harm: str) -> None:
        key, backend = example_key(), self.make(tmp_path)
        record = self.store(backend, key)
        if indexed:
            backend.index()
        backend.close()
        for path in self.stored_files(tmp_path):
            sound = path.read_bytes()
            for position in range(len(sound)):
                if harm == "flip":
                    damaged = bytearray(sound)
                    damaged[position] ^= 1 << position % 8
                    path.write_bytes(damaged)
                else:
                    path.write_bytes(sound[:position])
                self._check_answers(tmp_path, record, f"{path.name} at {position}")
            path.write_bytes(sound)
        assert self.make(tmp_path).look_up([key]) == {key: record}

    def _check_answers(self, tmp_path: Path, record: Record, what: str) -> None:
        backend = self.make(tmp_path)
        try:
            backend.open()
            found = backend.look_up([record.key])
            assert set(found) <= {record.key}, what
            for digest in (record.digest, found[record.key].digest if found else None):
                assert backend.load(record.key, digest) == b"answer", what
        except (CacheError, DamagedEntryError, MissingResultError):
            pass
        finally:
            backend.close()

    def test_an_entry_set_aside_is_gone_until_it_is_computed_again(self, backend: CacheBackend) -> None:
        key = example_key()
        backend.set_aside(key)
        self.store(backend, key)
        for _ in range(2):
            backend.set_aside(key)
            assert backend.look_up([key]) == {}
            with pytest.raises(MissingResultError):
                backend.load(key)
            record = self.store(backend, key)
            assert backend.look_up([key]) == {key: record}

    # Data directories

    def test_a_data_directory_is_made_when_it_is_asked_for(self, backend: CacheBackend) -> None:
        key = example_key()
        path = backend.data_directory(key, create=False)
        assert path.is_absolute()
        assert not path.exists()
        for _ in range(2):
            assert backend.data_directory(key, create=True) == path
            assert path.is_dir()
        assert backend.list_data(key) == ()

    def test_data_files_are_listed_in_order_by_path_size_and_content(self, backend: CacheBackend) -> None:
        key = example_key()
        directory = backend.data_directory(key, create=True)
        (directory / "b").mkdir()
        for name in ("b/c", "b.txt", "a b\n.txt"):
            (directory / name).write_text(name)
        listed = backend.list_data(key)
        assert [(file.path, file.size) for file in listed] == [("a b\n.txt", 8), ("b.txt", 5), ("b/c", 3)]
        (directory / "b.txt").write_text("B.TXT")
        again = backend.list_data(key)
        assert [old == new for old, new in zip(listed, again, strict=True)] == [True, False, True]

    def test_a_result_whose_data_file_is_gone_cut_or_changed_is_not_found(
        self, backend: CacheBackend
    ) -> None:
        key = example_key()
        record = self.store_with_data(backend, key, "whole")
        backend.index()
        assert backend.look_up([key]) == {key: record}
        file = backend.data_directory(key, create=False) / "model.bin"
        for other in ("cut", "whale"):
            file.write_text(other)
            assert backend.look_up([key]) == {}
            file.write_text("whole")
            assert backend.look_up([key]) == {key: record}
        file.unlink()
        assert backend.look_up([key]) == {}

    def test_a_job_starts_with_empty_data_and_its_failure_brings_the_old_back(
        self, backend: CacheBackend
    ) -> None:
        key = example_key()
        record = self.store_with_data(backend, key, "old")
        directory = backend.data_directory(key, create=False)
        for _ in range(2):
            backend.begin(key)
            assert backend.look_up([key]) == {}
            assert backend.data_directory(key, create=True) == directory
            assert list(directory.iterdir()) == []
            (directory / "half").write_text("half")
            backend.abandon(key)
            assert backend.look_up([key]) == {key: record}
            assert backend.load(key) == b"old"
            assert (directory / "more" / "notes").read_text() == "old"
            assert not (directory / "half").exists()

    def test_a_new_result_forgets_the_old_data(self, backend: CacheBackend) -> None:
        key = example_key()
        self.store_with_data(backend, key, "old")
        record = self.store_with_data(backend, key, "renewed")
        assert backend.look_up([key]) == {key: record}
        assert (backend.data_directory(key, create=False) / "model.bin").read_text() == "renewed"
        backend.abandon(key)
        assert backend.look_up([key]) == {key: record}
        assert backend.list_data(key) == record.data

    def test_a_job_that_was_killed_leaves_no_answer_and_harms_no_later_job(
        self, backend: CacheBackend
    ) -> None:
        key = example_key()
        old = self.store_with_data(backend, key, "old")
        backend.begin(key)
        (backend.data_directory(key, create=True) / "half").write_text("half")
        assert backend.look_up([key]) == {}
        backend.begin(key)
        assert list(backend.data_directory(key, create=True).iterdir()) == []
        backend.abandon(key)
        assert backend.look_up([key]) == {key: old}
        record = self.store_with_data(backend, key, "renewed")
        assert backend.look_up([key]) == {key: record}

    def test_without_data_the_old_result_stays_until_it_is_replaced(self, backend: CacheBackend) -> None:
        key = example_key()
        record = self.store(backend, key, b"old")
        backend.begin(key)
        assert backend.look_up([key]) == {key: record}
        backend.abandon(key)
        assert backend.load(key) == b"old"

    # Forgetting

    def test_a_discarded_task_is_gone_and_its_data_directory_is_empty(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        first, second = example_key(text="1"), example_key(text="2")
        self.store_with_data(backend, first, "data")
        record = self.store(backend, second)
        log = backend.scratch() / "log"
        log.write_text("said")
        backend.keep_logs(first, log, None)
        directory = backend.data_directory(first, create=False)
        backend.index()
        for _ in range(2):
            backend.discard([first, example_key(text="absent")])
            for reader in (backend, self.make(tmp_path)):
                assert reader.look_up([first, second]) == {second: record}
            assert directory.is_dir()
            assert list(directory.iterdir()) == []
            assert not backend.log_paths(first).stdout.exists()
            with pytest.raises(MissingResultError):
                backend.load(first)

    def test_all_tasks_of_one_name_can_be_discarded(self, backend: CacheBackend) -> None:
        train = [example_key(text=str(i)) for i in range(5)]
        others = [example_key("taskfile.Trainer"), example_key("taskfile")]
        for key in [*train, *others]:
            self.store(backend, key)
        backend.discard_all("taskfile.Train")
        backend.discard_all("taskfile.Unknown")
        assert set(backend.look_up([*train, *others])) == set(others)

    # Logs and scratch

    def test_logs_are_moved_to_their_place_and_go_when_there_are_none(self, backend: CacheBackend) -> None:
        key = example_key()
        paths = backend.log_paths(key)
        backend.keep_logs(key, None, None)
        for text in ("first", "second"):
            out, err = backend.scratch() / "1.out", backend.scratch() / "1.err"
            out.write_text(text)
            err.write_text(text)
            backend.keep_logs(key, out, err)
            assert (paths.stdout.read_text(), paths.stderr.read_text()) == (text, text)
            assert not out.exists()
        backend.keep_logs(key, None, None)
        assert not paths.stdout.exists()
        assert not paths.stderr.exists()

    def test_workers_share_the_scratch_folder(self, backend: CacheBackend) -> None:
        scratch = backend.scratch()
        assert scratch.is_dir()
        assert pickle.loads(pickle.dumps(backend)).scratch() == scratch

    # Several users of one cache

    def test_a_pickled_copy_saves_and_sees_the_same_entries(self, backend: CacheBackend) -> None:
        key = example_key()
        copy = pickle.loads(pickle.dumps(backend))
        assert copy == backend
        record = self.store(copy, key)
        assert backend.look_up([key]) == {key: record}
        again = pickle.loads(pickle.dumps(backend))
        assert again.load(key) == b"answer"

    def test_threads_may_save_and_look_up_side_by_side(self, backend: CacheBackend) -> None:
        def work(number: int) -> bool:
            key = example_key(f"taskfile.Task{number % 2}", str(number))
            record = self.store(backend, key, str(number).encode())
            backend.index()
            return backend.look_up([key]) == {key: record} and backend.load(key) == str(number).encode()

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(64)))

    def test_a_key_is_leased_once(self, backend: CacheBackend) -> None:
        keys = [example_key(text=str(i)) for i in range(3)]
        assert backend.lease(keys[:2]) == set(keys[:2])
        assert backend.lease(keys) == {keys[2]}
        backend.release([keys[0]])
        assert backend.lease(keys) == {keys[0]}
        backend.close()
        assert backend.lease(keys) == set(keys)
        backend.release([*keys, example_key(text="never leased")])

    def test_another_process_has_what_is_left_until_claims_are_given_back(
        self, backend: CacheBackend
    ) -> None:
        keys = [example_key(text=str(i)) for i in range(3)]
        backend.lease(keys[:2])
        with _OtherProcess(backend, "lease", keys) as other:
            assert other.answer == {keys[2]}
            assert backend.lease(keys) == set()
        assert backend.lease(keys) == {keys[2]}
        backend.release([keys[1]])
        with _OtherProcess(backend, "lease", keys) as other:
            assert other.answer == {keys[1]}
        backend.close()
        with _OtherProcess(backend, "lease", keys) as other:
            assert other.answer == set(keys)

    def test_the_claims_of_a_killed_process_end_with_it(self, backend: CacheBackend) -> None:
        keys = [example_key(text=str(i)) for i in range(3)]
        with _OtherProcess(backend, "lease", keys) as other:
            assert other.answer == set(keys)
            assert backend.lease(keys) == set()
            other.process.kill()
            other.process.wait()
            assert backend.lease(keys) == set(keys)

    def test_a_ticket_stands_as_long_as_the_claims_do(self, backend: CacheBackend) -> None:
        self.needs(backend, "ticket", "stands")
        assert backend.stands(""), "who has no ticket has nothing to lose"
        worker = pickle.loads(pickle.dumps(backend))
        keys = [example_key(text=str(i)) for i in range(2)]
        backend.lease(keys)
        ticket = backend.ticket()
        assert ticket
        assert worker.stands(ticket)
        backend.release(keys[:1])
        backend.lease(keys[:1])
        assert backend.ticket() == ticket
        backend.close()
        assert not worker.stands(ticket)

    def test_a_job_claims_its_key_beside_its_runner_and_keeps_it_when_that_one_is_gone(
        self, backend: CacheBackend
    ) -> None:
        self.needs(backend, "ticket", "stands", "lease_for_job")
        key, other_key = example_key(text="1"), example_key(text="2")
        backend.lease([key])
        ticket = backend.ticket()
        with _OtherProcess(backend, "lease_for_job", key, ticket) as job:
            assert job.answer is True
            with _OtherProcess(backend, "lease_for_job", key, ticket) as second:
                assert second.answer is False
            backend.close()
            assert backend.lease([key, other_key]) == {other_key}
        assert backend.lease([key]) == {key}
        with _OtherProcess(backend, "lease_for_job", example_key(text="3"), ticket) as late:
            assert late.answer is False, "its runner is gone"

    def test_it_is_known_who_else_holds_a_key(self, backend: CacheBackend) -> None:
        self.needs(backend, "holder")
        key = example_key()
        assert backend.holder(key) is None
        with _OtherProcess(backend, "lease", [key]) as other:
            holder = backend.holder(key)
            assert holder is not None
            assert (holder.pid, holder.host, holder.is_job) == (other.process.pid, os.uname().nodename, False)
            assert str(holder.pid) in holder.words
        assert backend.holder(key) is None

    # What people ask. A backend that does not offer a method is exempt from its tests.

    @staticmethod
    def needs(backend: CacheBackend, *methods: str) -> None:
        """Skip a test of methods that the backend leaves as they are in `CacheBackend`."""
        for method in methods:
            if getattr(type(backend), method) is getattr(CacheBackend, method):
                pytest.skip(f"{type(backend).__name__} does not offer {method}")

    def listed(self, tmp_path: Path) -> dict[TaskKey, StoredEntry]:
        """All that another object on the same place lists."""
        reader = self.make(tmp_path)
        entries = [entry for name in reader.task_names() for entry in reader.stored(name)]
        found = {entry.key: entry for entry in entries}
        assert len(found) == len(entries), "an entry is listed twice"
        return found

    def test_what_people_ask_of_an_empty_cache_is_answered_and_writes_nothing(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        key = example_key()
        if type(backend).task_names is not CacheBackend.task_names:
            assert backend.task_names() == []
            assert list(backend.stored(key.name)) == []
        backend.note(Event("cleared", key, 1.0))
        backend.note(Event("failed", key, 1.0))
        backend.unpost("run")
        assert backend.events(key) == []
        assert backend.kept_code("c0de") is None
        assert backend.posts() == []
        assert sorted(tmp_path.rglob("*")) == before

    def test_what_is_left_of_the_attributes_and_nested_provenance_come_back(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        left = {"path": "/data/caf\u00e9", "nested": [1, {"deep": None}]}
        provenance = {"seconds": 0.5, "accepted": [{"who": "ann", "when": 1.5}], "packages": {"numpy": "2.1"}}
        record = self.store(backend, example_key(), left=left, provenance=provenance)
        backend.index()
        found = self.make(tmp_path).look_up([record.key])[record.key]
        assert (found, found.left, found.provenance) == (record, left, provenance)

    def test_every_stored_result_is_listed_with_its_record_and_size(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "task_names", "stored")
        names = ["taskfile.Train", "a/b.C", "..", "x." + "long" * 100, "jobs"]
        records = [self.store(backend, example_key(name, text)) for name in names for text in "12"]
        records.append(self.store_with_data(backend, example_key("with.Data"), "five!"))
        listed: dict[TaskKey, StoredEntry] = {}
        for _ in range(2):  # at first from each record, then by an index if the backend has one
            listed = self.listed(tmp_path)
            assert {key: entry.record for key, entry in listed.items()} == {r.key: r for r in records}
            assert all(entry.failure is None and entry.size > 0 for entry in listed.values())
            backend.index()
        assert backend.task_names() == sorted([*names, "with.Data"])
        without = next(iter(backend.stored("taskfile.Train"))).size
        assert 10 < listed[example_key("with.Data")].size < without + 50
        assert list(backend.stored("taskfile.Unknown")) == []

    def test_what_does_not_count_in_a_look_up_is_not_listed(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "task_names", "stored")
        whole, cleared, damaged, cut = (example_key(f"taskfile.Task{text}", text) for text in "1234")
        for key in (whole, cleared, damaged):
            self.store(backend, key)
        self.store_with_data(backend, cut, "whole")
        backend.index()
        backend.discard([cleared])
        backend.set_aside(damaged)
        (backend.data_directory(cut, create=False) / "model.bin").write_text("cut")
        backend.data_directory(example_key("taskfile.Begun"), create=True)
        assert list(self.listed(tmp_path)) == [whole]
        assert self.make(tmp_path).task_names() == [whole.name]

    def test_what_takes_room_is_told_of_each_task_and_what_is_pruned_is_gone_for_good(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "usage", "prune")
        names = ["taskfile.Train", "a/b.C", "..", "x." + "long" * 100, "jobs"]
        records = [self.store(backend, example_key(name)) for name in names]
        records.append(self.store_with_data(backend, example_key("with.Data"), "five!"))
        keys = {record.key for record in records}
        told = list(self.make(tmp_path).usage())
        assert {one.key for one in told if one.kind == "results" and one.bytes > 0} == keys
        assert [one.bytes for one in told if one.kind == "data"] == [10]
        gone = {example_key("with.Data"), example_key("..")}
        assert backend.lease(gone) == gone
        backend.prune([*gone, example_key("taskfile.Unknown")])
        backend.prune([example_key("jobs")], "damaged")
        backend.prune([example_key("jobs")], "failures")
        backend.release(gone)
        assert set(self.make(tmp_path).look_up(keys)) == keys - gone
        assert {one.key for one in self.make(tmp_path).usage() if one.key is not None} == keys - gone
        assert not backend.data_directory(example_key("with.Data"), create=False).exists()

    def test_a_sound_cache_is_verified_without_a_finding_and_changes_nothing(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "verify")
        args = {"rate": 0.1, "name": "caf\u00e9"}
        keys = [TaskKey(name, arguments_digest(args)) for name in ("taskfile.Train", "a/b.C", "jobs")]
        for key in keys:
            self.store(backend, key, args=args)
        backend.close()
        before = {path: path.read_bytes() for path in self.stored_files(tmp_path)}
        checked: dict[TaskKey, int] = {}
        for repair in (False, True):
            assert list(self.make(tmp_path).verify(repair, checked.__setitem__)) == []
            assert set(checked) == set(keys)
        assert {path: path.read_bytes() for path in self.stored_files(tmp_path)} == before

    # What happened

    def test_a_failure_is_listed_until_a_result_is_saved_or_all_is_discarded(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "note", "events", "stored")
        first, second, third = (example_key("a/b.C", text) for text in "123")
        self.store(backend, third)
        for when in (1.5, 2.5):
            for key in (first, second, third):
                backend.begin(key)
                backend.abandon(key)
                failure = Event("failed", key, when, "ann@node7", "ValueError: no", args={"n": [1]})
                backend.note(failure)
                assert backend.events(key)[-1] == failure
        listed = self.listed(tmp_path)
        assert {key: (entry.record is None, entry.failure) for key, entry in listed.items()} == {
            key: (key != third, Event("failed", key, 2.5, "ann@node7", "ValueError: no", args={"n": [1]}))
            for key in (first, second, third)
        }
        backend.begin(first)
        assert self.listed(tmp_path)[first].failure, "a failure is known while the task is tried again"
        record = self.store(backend, first)
        backend.discard([second])
        backend.discard([third])
        (entry,) = self.listed(tmp_path).values()
        assert (entry.key, entry.record, entry.failure) == (first, record, None)
        assert [event.kind for event in backend.events(second) if event.kind == "failed"] == []

    def test_events_are_told_of_their_task_or_all_of_its_name_the_latest_last(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "note", "events")
        key, other, namesake = example_key(), example_key(text="2"), example_key("other.Train")
        record = self.store(backend, key)
        for each in (other, namesake):
            self.store(backend, each)
        events = [
            Event("renamed", key),
            Event("cleared", key, 1.25, "ann@node7, process 4711", "tab\t, line\n, caf\u00e9", record),
            Event("cleared", TaskKey(key.name, ""), 2.0),
            Event("damaged", key, 3.0, text="its digest differs"),
            Event("failed", key, 4.0),
        ]
        for event in reversed(events):
            backend.note(event)
        backend.note(Event("cleared", other, 2.5))
        for reader in (backend, self.make(tmp_path)):
            assert reader.events(key) == events
            assert reader.events(other) == [events[2], Event("cleared", other, 2.5)]
            assert reader.events(namesake) == []

    def test_an_entry_that_was_set_aside_is_told_to_be_damaged(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "events")
        key = example_key()
        record = self.store(backend, key)
        backend.index()
        backend.set_aside(key)
        event = self.make(tmp_path).events(key)[-1]
        assert (event.kind, event.key, event.record) == ("damaged", key, record)
        self.store(backend, key)
        assert backend.events(key) == []

    # Other records

    def test_a_record_is_replaced_and_the_result_stays(self, backend: CacheBackend, tmp_path: Path) -> None:
        self.needs(backend, "replace_record")
        key = example_key()
        old = self.store_with_data(backend, key, "kept")
        backend.index()
        new = dataclasses.replace(old, code="new", provenance={"accepted": [{"who": "ann"}]})
        for _ in range(2):
            backend.replace_record(key, new)
            for reader in (backend, self.make(tmp_path)):
                assert reader.look_up([key]) == {key: new}
                assert reader.load(key) == b"kept"
                assert (reader.data_directory(key, create=False) / "model.bin").read_text() == "kept"
            backend.index()

    @pytest.mark.parametrize("name", ["taskfile.Train", "a/b.New"])
    @pytest.mark.parametrize("replaces", [False, True])
    def test_a_record_of_another_key_takes_result_data_and_logs_along(
        self, backend: CacheBackend, tmp_path: Path, name: str, replaces: bool
    ) -> None:
        self.needs(backend, "replace_record")
        key, new_key = example_key(), example_key(name, "new")
        old, neighbour = (
            self.store_with_data(backend, key, "kept"),
            self.store(backend, example_key(text="2")),
        )
        log = backend.scratch() / "log"
        log.write_text("said")
        backend.keep_logs(key, log, None)
        if replaces:
            self.store_with_data(backend, new_key, "replaced")
        backend.index()
        new = dataclasses.replace(old, key=new_key)
        for _ in range(2):  # the second one finds it done
            backend.replace_record(key, new)
            for reader in (backend, self.make(tmp_path)):
                keys = [key, new_key, neighbour.key]
                assert reader.look_up(keys) == {new_key: new, neighbour.key: neighbour}
                assert reader.load(new_key) == b"kept"
                assert reader.list_data(new_key) == new.data
                assert reader.log_paths(new_key).stdout.read_text() == "said"
                with pytest.raises(MissingResultError):
                    reader.load(key)
            backend.index()
        assert self.store(backend, key).key in backend.look_up([key])

    def test_a_record_is_replaced_only_where_its_result_is_stored(self, backend: CacheBackend) -> None:
        self.needs(backend, "replace_record")
        key, new_key = example_key(), example_key(text="new")
        record = example_record(key, b"answer")
        for attempt in (record, dataclasses.replace(record, key=new_key)):
            with pytest.raises(MissingResultError):
                backend.replace_record(key, attempt)
        stored = self.store(backend, key, b"another answer")
        for attempt in (record, dataclasses.replace(record, key=new_key)):
            with pytest.raises(CacheError):
                backend.replace_record(key, attempt)
        assert backend.look_up([key, new_key]) == {key: stored}

    # Code

    def test_a_text_of_code_is_kept_under_its_digest(self, backend: CacheBackend, tmp_path: Path) -> None:
        self.needs(backend, "keep_code", "kept_code")
        texts = {"00ff": b"def f(): ...\n", "ab" * 32: bytes(range(256)), "1": b"", "2": b"x" * 1_000_000}
        for _ in range(2):
            for digest, text in texts.items():
                backend.keep_code(digest, text)
            for reader in (backend, self.make(tmp_path)):
                assert {digest: reader.kept_code(digest) for digest in texts} == texts
                assert reader.kept_code("fffe") is None

    @pytest.mark.parametrize("digest", ["", "..", "../00", "00/00", "AB", "g0", "\0", "00\n", "\u0660"])
    def test_what_is_no_digest_names_no_text_of_code(self, backend: CacheBackend, digest: str) -> None:
        self.needs(backend, "keep_code", "kept_code")
        with pytest.raises((CacheError, ValueError)):
            backend.keep_code(digest, b"text")
        assert backend.kept_code(digest) is None

    # What runs do

    def test_what_a_run_posts_is_seen_by_others_until_it_takes_it_back(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "post", "unpost", "posts")
        facts = [{"run": "1", "running": [{"n": n}], "text": "caf\u00e9\n"} for n in range(3)]
        others = (backend, self.make(tmp_path), pickle.loads(pickle.dumps(backend)))
        for each in facts:
            backend.post("1", each)
            assert all(other.posts() == [each] for other in others)
        backend.post("2/../2", {"run": 2})
        backend.close()  # a run's own end is `unpost`
        assert all(sorted(map(len, other.posts())) == [1, 3] for other in others)
        others[1].unpost("1")  # not its own
        backend.unpost("2/../2")
        assert all(other.posts() == [facts[-1]] for other in others)
        backend.unpost("1")
        backend.unpost("1")
        assert all(other.posts() == [] for other in others)

    def test_the_post_of_a_killed_process_is_not_seen_any_more(
        self, backend: CacheBackend, tmp_path: Path
    ) -> None:
        self.needs(backend, "post", "unpost", "posts")
        backend.post("mine", {"run": "mine"})
        with _OtherProcess(backend, "post", "theirs", {"run": "theirs"}) as other:
            for reader in (backend, self.make(tmp_path)):
                assert sorted(post["run"] for post in reader.posts()) == ["mine", "theirs"]
            other.process.kill()
            other.process.wait()
            assert backend.posts() == [{"run": "mine"}]
        backend.post("mine", {"run": "again"})
        assert self.make(tmp_path).posts() == [{"run": "again"}]
        backend.unpost("mine")


class _OtherProcess:
    """Another process that calls one method of a backend, and lives until the `with` ends."""

    SCRIPT = """if True:
        import pickle, sys
        backend, method, arguments = pickle.load(sys.stdin.buffer)
        sys.stdout.buffer.write(pickle.dumps(getattr(backend, method)(*arguments)))
        sys.stdout.buffer.flush()
        sys.stdin.buffer.read()
        backend.close()
    """

    def __init__(self, backend: CacheBackend, method: str, *arguments: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(pickle.dumps((backend, method, arguments)))
        self.process.stdin.flush()
        self.answer: Any = pickle.load(self.process.stdout)

    def __enter__(self) -> _OtherProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
