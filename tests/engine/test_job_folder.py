"""The files through which a launched job gets its orders and tells its outcome."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from taskproc.engine import job_folder
from taskproc.engine.jobs import Answer, pack_answers
from taskproc.interfaces import Outcome, TaskKey


def test_no_flipped_bit_and_no_cut_of_orders_or_outcome_is_read(tmp_path: Path) -> None:
    path = tmp_path / "outcome.pkl"
    content = pack_answers([Answer(Outcome(TaskKey("tasks.One", "0" * 32), "finished", 1.5))])
    job_folder.write_sealed(path, content)
    assert job_folder.read_sealed(path) == content
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for position in range(len(whole)):
        for bit in range(8):
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(OSError, match="it is damaged"):
                job_folder.read_sealed(path)
            damaged[position] ^= 1 << bit
        path.write_bytes(whole[:position])
        with pytest.raises(OSError, match="it is damaged"):
            job_folder.read_sealed(path)


def test_what_another_version_wrote_without_a_seal_is_read(tmp_path: Path) -> None:
    content = pack_answers([])
    job_folder.write(tmp_path / "outcome.pkl", content)
    assert job_folder.read_sealed(tmp_path / "outcome.pkl") == content


def test_a_folder_is_removed_though_its_worker_puts_its_outcome_there_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "job"
    job_folder.make_folder(folder)
    job_folder.write_sealed(folder / job_folder.ORDERS_FILE, b"orders")
    rmdir, late = os.rmdir, [b"outcome"]

    def rmdir_late(*words: Any, **more: Any) -> None:
        if late:
            job_folder.write_sealed(folder / job_folder.OUTCOME_FILE, late.pop())
        rmdir(*words, **more)

    monkeypatch.setattr(os, "rmdir", rmdir_late)
    job_folder.remove(folder)
    assert not late
    assert not folder.exists()
