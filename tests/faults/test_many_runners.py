"""Many runners on one cache, and a killer among them: right answers, and nothing done twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from figures import Figures
from graph_of_cells import Graph
from many_runners import PATIENCE, SEED, Killer, Site, Slot, site_in, wait_until

EXECUTORS = [("process", 1), ("process", 2), ("thread", 2), ("serial", 1)]
FILE_SYSTEMS = [pytest.param(True, id="locks")]
SIZES = {2: (6, 4), 8: (12, 5), 32: (20, 6)}
"""By the number of runners: how wide and how high a graph is."""


def start_slots(site: Site, count: int, same: bool, chance: random.Random) -> list[Slot]:
    slots = []
    for number in range(count):
        width, rows = SIZES[count]
        graph = Graph(0 if same else number % 8 * 2, width, rows)
        executor, workers = chance.choice(EXECUTORS)
        options = {"executor": executor, "max_workers": workers}
        slots.append(Slot(site, graph, options, by_command=chance.random() < 0.6))
    return slots


def check_the_end(site: Site, slots: list[Slot]) -> None:
    """Every runner has its answer, no task was stored twice, and all of it is there and sound."""
    errors = [error for slot in slots for error in slot.errors]
    assert not errors, "\n\n".join(errors)
    assert site.stored_twice() == {}
    for arguments, answer in site.answers():
        assert answer == Graph(**arguments).answer
    for graph in {slot.graph for slot in slots}:
        words = ["-m", "taskproc", "plan", "tasks.py", "-o", "counting:cache", "-p", "counting"]
        plan = site.start(
            *words, "--json", "--dont-force-entrypoint", "--kwargs", json.dumps(graph.arguments)
        )
        out, err = plan.communicate(timeout=120)
        assert json.loads(out)["run"] == {}, out + err


@pytest.mark.parametrize("same", [True, False], ids=["same", "different"])
@pytest.mark.parametrize(("count", "rounds", "strikes"), [(2, 3, 5), (8, 2, 15), (32, 1, 40)])
def test_runners_with_a_killer_among_them_come_to_right_answers_and_store_each_task_once(
    tmp_path: Path, figures: Figures, thorough: bool, count: int, rounds: int, strikes: int, same: bool
) -> None:
    for number in range(rounds * 20 if thorough else rounds):
        chance = random.Random(f"{SEED} {count} {same} {number}")
        with site_in(tmp_path / str(number)) as site:
            slots = start_slots(site, count, same, chance)
            killer = Killer(site, chance.randrange(2**32))
            killer.strike(slots, strikes)
            for slot in slots:
                slot.thread.join()
            figures.count(f"{count} runners: rounds with a killer", 1)
            figures.count(f"{count} runners: kills", sum(slot.deaths for slot in slots))
            figures.count(f"{count} runners: errors", sum(len(slot.errors) for slot in slots))
            figures.count(f"{count} runners: tasks stored twice", len(site.stored_twice()))
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
