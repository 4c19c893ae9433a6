"""A folder for the files of a project."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "project").mkdir()
    return tmp_path / "project"
