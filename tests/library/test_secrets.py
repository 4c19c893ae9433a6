"""A secret in the environment is in no file of the cache, in no message and on no command line."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskproc import Cache, Task
from taskproc.core.masking import mask_text, mask_words
from taskproc.engine.masking import Secrets
from taskproc.errors import FailedTaskError, PrefixError

CANARY = "c4n4ry-7f3a9e51"
PREFIXED = "pr3f1x-51e9a3f7"

PIPELINE = """
import os
from pathlib import Path
from taskproc import FutureList, Task

API_TOKEN = os.environ["API_TOKEN"]


class Client:
    def __init__(self):
        self.token = API_TOKEN


CLIENT = Client()


class Step(Task):
    task_label = "gpu"

    def __init__(self, n):
        self.n = n
        self.token = os.environ["API_TOKEN"]
        self._hidden = {"deep": [self.token]}

    def run_task(self):
        environment = dict(os.environ)
        used = [API_TOKEN, CLIENT.token, self.token, self._hidden, environment]
        for pid in ("self", str(os.getppid())):
            words = Path(f"/proc/{pid}/cmdline")
            if words.exists():
                assert CLIENT.token.encode() not in words.read_bytes(), "on a command line"
        (self.task_directory / "size").write_text(str(len(used)))
        print("working")
        if self.n:
            raise ValueError("the sensor is unplugged")
        return len(used)


class Main(Task):
    def __init__(self):
        self.steps = FutureList([Step(n) for n in range(3)])

    def run_task(self):
        return None
"""

WAYS = {
    "process": ["-x", "process", "-n", "2"],
    "thread": ["-x", "thread", "-n", "2"],
    "serial": ["-x", "serial"],
    "prefix": ["--prefix", f"gpu=SOME_TOKEN={PREFIXED} env OTHER_SECRET={PREFIXED} nice -n 1"],
    "a prefix that fails": ["--prefix", f"gpu=env OTHER_SECRET={PREFIXED} false"],
    "no prefix at all": ["--prefix", f"gpu=OTHER_SECRET={PREFIXED} nice && true"],
    "no command": ["--prefix", f"gpu=OTHER_SECRET={PREFIXED} no-such-command"],
}


def files_with(folder: Path, *secrets: str) -> list[str]:
    """The files below a folder that hold a secret, gzip files unpacked."""
    found: list[str] = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            found += [str(path) for secret in secrets if secret.encode() in data]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_no_file_and_no_message_holds_a_secret_of_the_environment(
    tmp_path: Path, write: Callable[[str, str], Path], environment: dict[str, str], way: str
) -> None:
    write("pipeline.py", PIPELINE)

    def run(*words: str, token: str = CANARY) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "taskproc", *words],
            cwd=tmp_path,
            env={**environment, "API_TOKEN": token, "DB_PASSWORD": CANARY},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        for secret in (CANARY, PREFIXED, token):
            assert secret not in done.stdout + done.stderr
            assert files_with(tmp_path / "cache", secret) == []
        return done

    words = ["run", "pipeline.py", "-o", "cache", "--on-error", "continue", "--loglevel", "debug", *WAYS[way]]
    done = run(*words)
    assert done.returncode == (2 if way.startswith("no ") else 1), done.stderr
    if way in ("process", "thread", "serial", "prefix"):
        assert "the sensor is unplugged" in done.stderr
        for command in (["status"], ["logs", "Step"], ["why", "pipeline.py", "Step", "-a", "n=0"]):
            run(*command, "-o", "cache")
        why = run("why", "pipeline.py", "-o", "cache", "Step", "-a", "n=0", token="an0ther-7f3a9e52")
        assert "$API_TOKEN" in why.stdout or "attribute" in why.stdout


def test_an_error_of_the_library_shows_no_secret_of_a_prefix(cache: Cache) -> None:
    class Step(Task):
        task_label = "gpu"

        def run_task(self) -> None:
            pass

    for prefix, error in (
        (f"API_TOKEN={PREFIXED} nice | cat", PrefixError),
        (f"API_TOKEN='{PREFIXED} more", PrefixError),
        ([f"API_TOKEN={PREFIXED}"], PrefixError),
        (f"env API_TOKEN={PREFIXED} false", FailedTaskError),
    ):
        with pytest.raises(error) as caught:
            Step().run_graph(prefixes={"gpu": prefix})
        assert PREFIXED not in str(caught.value)
        assert "API_TOKEN=***" in str(caught.value)


def test_plain_settings_in_a_command_line_stay_to_be_seen() -> None:
    words = ["env", "OMP_NUM_THREADS=1", "DATA=/scratch/somewhere", "--api-key=xyz", "MODEL=abcdefghijklmnop"]
    assert mask_words(words) == [
        "env",
        "OMP_NUM_THREADS=1",
        "DATA=/scratch/somewhere",
        "--api-key=***",
        "MODEL=***",
    ]
    assert mask_text("DB_PASS='a b' N=1 srun -n 1") == "DB_PASS=*** N=1 srun -n 1"


def test_a_secret_is_masked_by_the_name_of_its_variable_wherever_it_stands_in_a_value() -> None:
    secrets = Secrets({"API_TOKEN": 'a"\u00e9\\b', "LONG_KEY": "abcdef", "KEY": "abcd", "HOME": "/home/me"})
    value = {"x": ["abcdefg", 'a"\u00e9\\b', 7, None], "/home/me": "abcd"}
    assert secrets.mask_json(value) == {"x": ["$LONG_KEYg", "$API_TOKEN", 7, None], "/home/me": "$KEY"}
    assert secrets.mask_json_text('["a\\"\u00e9\\\\b", "a\\"\\u00e9\\\\b"]') == '["$API_TOKEN", "$API_TOKEN"]'


def test_another_secret_is_another_attribute_though_neither_is_kept(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Step(Task):
        def __init__(self) -> None:
            self.token = os.environ["API_TOKEN"]

        def run_task(self) -> str:
            return self.token[-1]

    canary = os.urandom(8).hex()  # this file itself is kept, as the code of the task
    monkeypatch.setenv("API_TOKEN", f"{canary}1")
    assert Step().run_graph()[0] == "1"
    with Cache(cache.location):
        monkeypatch.setenv("API_TOKEN", f"{canary}2")
        assert Step().run_graph()[0] == "2"
    assert files_with(Path(cache.location), canary) == []
