"""Many runners on one cache, and a killer among them: right answers, and nothing done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from figures import Figures
from graph_of_cells import Graph
from many_runners import PATIENCE, SEED, Killer, Site, Slot, descendants, site_in, wait_until

FILE_SYSTEMS = [pytest.param(True, id="locks"), pytest.param(False, id="no locks")]
SIZES = {2: (6, 4), 8: (12, 5), 32: (20, 6)}
"""By the number of runners: how wide and how high a graph is."""

WAYS: dict[str, dict[str, Any]] = {
    "one worker": {"executor": "process", "max_workers": 1},
    "two workers": {"executor": "process", "max_workers": 2},
    "threads": {"executor": "thread", "max_workers": 2},
    "serial": {"executor": "serial", "max_workers": 1},
}
LAUNCHED = {"executor": "process", "max_workers": 2, "prefixes": {"tasks.Cell": "env"}}


@dataclass(frozen=True)
class Setting:
    """How many runners, of one graph or of overlapping ones, and how often somebody strikes."""

    count: int
    same: bool
    rounds: int
    strikes: int
    locks: bool = True
    launched: bool = False

    def __str__(self) -> str:
        words = [f"{self.count} on", "one graph" if self.same else "different graphs"]
        words += [] if self.locks else ["without locks"]
        return " ".join([*words, *["launched"] * self.launched])

    def start(self, site: Site, chance: random.Random) -> list[Slot]:
        slots = []
        for number in range(self.count):
            graph = Graph(0 if self.same else number % 8 * 2, *SIZES[self.count])
            options = LAUNCHED if self.launched else WAYS[chance.choice(list(WAYS))]
            slots.append(Slot(site, graph, options, by_command=chance.random() < 0.6))
        return slots


SETTINGS = [
    Setting(2, same=True, rounds=3, strikes=5),
    Setting(2, same=False, rounds=2, strikes=5),
    Setting(2, same=True, rounds=2, strikes=5, locks=False),
    Setting(2, same=False, rounds=1, strikes=6, launched=True),
    Setting(8, same=True, rounds=2, strikes=15),
    Setting(8, same=False, rounds=1, strikes=15),
    Setting(8, same=False, rounds=1, strikes=15, locks=False),
    Setting(32, same=True, rounds=1, strikes=40),
    Setting(32, same=False, rounds=1, strikes=40),
]


def check_the_end(site: Site, slots: list[Slot]) -> None:
    """Every runner has its answer, no task was stored twice, and all of it is there and sound."""
    errors = [error for slot in slots for error in slot.errors]
    assert not errors, "\n\n".join(errors)
    assert site.stored_twice() == {}
    for arguments, answer in site.answers():
        assert answer == Graph(**arguments).answer
    words = ["-m", "taskproc", "plan", "tasks.py", "-o", "counting:cache", "-p", "counting", "--json"]
    plan = site.start(*words, "--dont-force-entrypoint", "--kwargs", json.dumps(slots[0].graph.arguments))
    out, err = plan.communicate(timeout=PATIENCE)
    assert json.loads(out)["run"] == {}, out + err
    verify = site.start("-m", "taskproc", "cache", "verify", "cache")
    out, err = verify.communicate(timeout=PATIENCE)
    assert verify.returncode == 0, out + err


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_runners_with_a_killer_among_them_come_to_right_answers_and_store_each_task_once(
    tmp_path: Path, figures: Figures, thorough: bool, setting: Setting
) -> None:
    for number in range(setting.rounds * 20 if thorough else setting.rounds):
        chance = random.Random(f"{SEED} {setting} {number}")
        with site_in(tmp_path / str(number), setting.locks) as site:
            slots = setting.start(site, chance)
            Killer(site, chance.randrange(2**32)).strike(slots, setting.strikes)
            for slot in slots:
                slot.thread.join()
            who = f"{setting.count} runners with a killer"
            figures.count(f"{who}: rounds", 1)
            figures.count(f"{who}: runs that were killed", sum(slot.deaths for slot in slots))
            figures.count(f"{who}: errors and wrong answers", sum(len(slot.errors) for slot in slots))
            figures.count(f"{who}: tasks stored twice", len(site.stored_twice()))
            check_the_end(site, slots)


def finish(process: subprocess.Popen[str]) -> str:
    """What a runner printed that has to end well, and without a word of warning."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "Warning" not in err
    return out


@pytest.mark.parametrize("locks", FILE_SYSTEMS)
def test_eight_runners_that_start_at_once_compute_one_graph_once_between_them(
    tmp_path: Path, figures: Figures, locks: bool
) -> None:
    graph = Graph(0, *SIZES[8])
    options = {"executor": "thread", "max_workers": 1}
    with site_in(tmp_path, locks) as site:
        runners = [site.script("Main", graph.arguments, options, "wait") for _ in range(8)]
        for runner in runners:
            assert runner.stdout is not None
            assert runner.stdout.readline() == "ready\n"
        (tmp_path / "go").touch()
        for runner in runners:
            assert finish(runner) == f"answer {graph.answer}\n"
        starts = [(row, column) for row, column, _ in site.lines("starts")]
        assert max(Counter(starts).values()) == 1
        shares = Counter(pid for *_, pid in site.lines("starts"))
        assert len(shares) == 8
        figures.worst("8 runners of one graph: times that a task ran", max(Counter(starts).values()))
        figures.add("8 runners of one graph: smallest share", min(shares.values()), f"of {len(starts)} tasks")
        assert site.stored_twice() == {}


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_runners_that_are_stopped_for_a_while_keep_their_claims(tmp_path: Path, executor: str) -> None:
    graph = Graph(0, *SIZES[2])
    with site_in(tmp_path) as site:
        options = {"executor": executor, "max_workers": 1}
        runners = [site.script("Main", graph.arguments, options) for _ in range(3)]
        for runner in runners:
            wait_until(lambda: site.lines("starts"))
            runner.send_signal(signal.SIGSTOP)
            time.sleep(0.7)
            runner.send_signal(signal.SIGCONT)
        assert {finish(runner).splitlines()[-1] for runner in runners} == {f"answer {graph.answer}"}
        assert max(Counter((row, column) for row, column, _ in site.lines("starts")).values()) == 1
        assert site.stored_twice() == {}


def runs_of_long(site: Site) -> int:
    return [words[0] for words in site.lines("starts")].count("long")


@pytest.mark.parametrize("locks", FILE_SYSTEMS)
@pytest.mark.parametrize(
    ("executor", "death"),
    [
        ("process", signal.SIGKILL),
        ("thread", signal.SIGKILL),
        ("serial", signal.SIGKILL),
        ("process", signal.SIGSEGV),
        ("process", signal.SIGTERM),
    ],
)
def test_what_a_dead_runner_was_at_is_taken_over_within_seconds(
    tmp_path: Path, figures: Figures, executor: str, death: signal.Signals, locks: bool
) -> None:
    options = {"executor": executor, "max_workers": 2}
    with site_in(tmp_path, locks) as site:
        first = site.script("Pair", {"name": "a"}, options)
        wait_until(lambda: runs_of_long(site) == 1)
        second = site.script("Pair", {"name": "b"}, options)
        wait_until(lambda: ["quick", "b"] in site.lines("starts"))
        assert runs_of_long(site) == 1
        first.send_signal(death)
        killed = time.monotonic()
        wait_until(lambda: runs_of_long(site) == 2)
        seconds = time.monotonic() - killed
        kind = "on a file system with locks" if locks else "without locks"
        figures.worst(f"seconds until a dead runner's task is taken over, {kind}", seconds, "s")
        assert seconds < 5
        (tmp_path / "go").touch()
        assert finish(second) == "answer 11\n"
        assert site.stored_twice() == {}


def test_runners_that_stop_for_good_lose_their_claims_and_are_right_when_they_go_on(
    tmp_path: Path, figures: Figures
) -> None:
    with ExitStack() as sites, ThreadPoolExecutor() as threads:
        stopped = [
            threads.submit(stop_and_go_on, site, executor)
            for executor in ("process", "thread")
            for locks in (True, False)
            for site in [sites.enter_context(site_in(tmp_path / f"{executor}-{locks}", locks))]
        ]
        for seconds in stopped:
            figures.worst("seconds until a stopped runner's task is taken over", seconds.result(), "s")


def stop_and_go_on(site: Site, executor: str) -> float:
    """Stop a runner and its workers, wait for another to take its task over, and let it go on."""
    options = {"executor": executor, "max_workers": 2}
    first = site.script("Pair", {"name": "a"}, options)
    wait_until(lambda: runs_of_long(site) == 1 and ["quick", "a"] in site.lines("starts"))
    processes = [first.pid, *descendants(first.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    second = site.script("Pair", {"name": "b"}, options)
    wait_until(lambda: runs_of_long(site) == 2)
    seconds = time.monotonic() - stopped
    (site.folder / "go").touch()
    assert finish(second) == "answer 11\n"
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert finish(first) == "answer 11\n"
    assert site.stored_twice() == {}
    return seconds
