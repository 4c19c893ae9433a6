"""The scripts that many runners run, and the answers they have to come to.

What was stored is told by a journal that the cache backend of these runs keeps: a line each time
a worker has saved a record, which no kill takes back. Knows nothing of who kills whom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

# The backend of these runs, a plugin in a file: the directory cache, and a line for each save.
# With NO_LOCKS in the environment it plays a file system that has none.
COUNTING = '''
import errno, fcntl, os
from dataclasses import dataclass
from typing import ClassVar

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.hookspecs import hookimpl

def note(file, text):
    """Append one line in one write, which nothing tears."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (text + "\\n").encode())
    os.close(descriptor)

if "NO_LOCKS" in os.environ:
    def refuse(*words):
        raise OSError(errno.ENOLCK, "No locks available")
    def control(descriptor, command, *words, really=fcntl.fcntl):
        kinds = [getattr(fcntl, f"F_{kind}K{how}", None)
                 for kind in ("OFD_SETL", "OFD_GETL", "SETL", "GETL") for how in ("", "W")]
        return refuse() if command in kinds else really(descriptor, command, *words)
    fcntl.lockf = fcntl.flock = refuse
    fcntl.fcntl = control

@dataclass(frozen=True)
class CountingCache(DirectoryCache):
    name: ClassVar[str] = "counting"

    def save(self, record, payload, compress_level, durable):
        super().save(record, payload, compress_level, durable)
        note(f"{self.root}.saves", f"{record.key} {record.provenance['job']}")

@hookimpl
def taskproc_register_cache_backends():
    return [CountingCache]
'''

# A graph of layers: each cell needs two of the layer above it, so that neighbours share most.
TASKS = '''
import ctypes, json, os, sys, time
from taskproc import Cache, FutureList, Task
from counting import note

FOLDER = os.path.dirname(os.path.abspath(__file__))

def stumble():
    """Die of a real segmentation fault if the killer asks for one."""
    try:
        os.unlink(f"{FOLDER}/segfault")
    except FileNotFoundError:
        return
    note(f"{FOLDER}/stumbled", str(os.getpid()))
    ctypes.string_at(0)

class Cell(Task):
    def __init__(self, row, column):
        self.row = row
        self.column = column
        self.above = FutureList([Cell(row - 1, column + i) for i in range(2)] if row else [])

    def run_task(self):
        note(f"{FOLDER}/starts", f"{self.row} {self.column} {os.getpid()}")
        stumble()
        time.sleep(0.01 + (self.row + self.column) % 5 * 0.02)
        if self.column % 5 == 0:
            (self.task_directory / "file").write_text(str(self.column))
        above = [value["number"] for value in self.above.get_result()]
        number = sum(above) + self.row if above else self.column ** 2 + 1
        return {"number": number, "ballast": bytes(5000 if self.column % 3 == 0 else 5)}

class Main(Task):
    def __init__(self, first, width, rows):
        self.parts = FutureList([Cell(rows - 1, first + i) for i in range(width)])

    def run_task(self):
        answer = sum(value["number"] for value in self.parts.get_result())
        print("answer", answer)
        return answer

class Long(Task):
    """Takes until the test says so."""

    def run_task(self):
        note(f"{FOLDER}/starts", f"long {os.getpid()}")
        while not os.path.exists(f"{FOLDER}/go"):
            time.sleep(0.01)
        return 1

class Quick(Task):
    def __init__(self, name):
        self.name = name

    def run_task(self):
        note(f"{FOLDER}/starts", f"quick {self.name}")
        return 10

class Pair(Task):
    def __init__(self, name):
        self.parts = FutureList([Long(), Quick(name)])

    def run_task(self):
        return sum(self.parts.get_result())

def main():
    name, arguments, options = json.loads(sys.argv[1])
    with Cache("counting:cache", plugins=["counting"]):
        task = {"Main": Main, "Pair": Pair}[name](**arguments)
        if "wait" in sys.argv:
            print("ready", flush=True)
            while not os.path.exists(f"{FOLDER}/go"):
                time.sleep(0.005)
        answer, stats = task.run_graph(**options)
    print("answer", answer)

if __name__ == "__main__":
    main()
'''


@cache
def number_of(row: int, column: int) -> int:
    """What the cell at this place has to come to."""
    if row == 0:
        return column**2 + 1
    return number_of(row - 1, column) + number_of(row - 1, column + 1) + row


@dataclass(frozen=True)
class Graph:
    """What one runner is to compute."""

    first: int
    width: int = 6
    rows: int = 4

    @property
    def answer(self) -> int:
        return sum(number_of(self.rows - 1, self.first + i) for i in range(self.width))

    @property
    def arguments(self) -> dict[str, int]:
        return {"first": self.first, "width": self.width, "rows": self.rows}
