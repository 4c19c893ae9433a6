"""engine/pickling.py: what went by value and comes back leaves the classes it finds as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from taskproc.engine.pickling import dumps, loads


def make_class() -> Any:
    class Local:
        limit = 3

        def method(self) -> int:
            return self.limit

        @property
        def double(self) -> int:
            return 2 * self.limit

    return Local


def test_a_class_that_went_by_value_and_comes_back_keeps_its_own_methods() -> None:
    cls = make_class()
    method, double = vars(cls)["method"], vars(cls)["double"]
    payload = dumps([cls, cls()]).payload
    cls.limit = 4
    back, instance = loads(payload)
    assert back is cls
    assert vars(cls)["method"] is method
    assert vars(cls)["double"] is double
    assert instance.method() == 4


def test_a_class_that_is_new_to_a_process_arrives_whole_and_once(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(dumps(make_class()).payload)
    program = (
        "from taskproc.engine.pickling import loads\n"
        "payload = open('payload', 'rb').read()\n"
        "cls = loads(payload)\n"
        "assert (cls().method(), cls().double) == (3, 6)\n"
        "method = cls.method\n"
        "assert loads(payload) is cls and cls.method is method\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
