"""Contract suites for plugin authors, one for each protocol of `taskproc.interfaces`.

Subclass a suite in a test file, say in `make` how your component is made, and pytest
runs the whole list against it. The default plugins subclass the same suites.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor
from queue import SimpleQueue
from typing import Any

import pytest

from taskproc.components import EXECUTOR, LAUNCHER, fault_of_class
from taskproc.engine.dispatch import worker_command
from taskproc.interfaces import ExecutorProvider, Job, Launcher, TaskKey


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
