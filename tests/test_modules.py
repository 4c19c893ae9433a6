"""What a module is called, and whether it is the user's own."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from taskproc.modules import is_installed, is_on_path_of_others


@pytest.mark.parametrize(
    ("file", "installed"),
    [
        (f"{sysconfig.get_path('stdlib')}/json/__init__.py", True),
        ("/home/someone/env/lib/python3.11/site-packages/numpy/__init__.py", True),
        ("/usr/lib/python3/dist-packages/numpy/__init__.py", True),
        ("/home/someone/site-packages-report/tasks.py", False),
        (f"{sysconfig.get_path('stdlib')}-of-mine/tasks.py", False),
    ],
)
def test_a_file_is_installed_if_a_whole_folder_name_says_so(file: str, installed: bool) -> None:
    assert is_installed(file) is installed


def test_a_folder_that_pythonpath_names_is_on_the_path_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert not is_on_path_of_others(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"/elsewhere:{tmp_path}")
    assert is_on_path_of_others(str(tmp_path))


def test_a_folder_that_an_editable_installation_left_is_on_the_path_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, source = tmp_path / "site", tmp_path / "source"
    site.mkdir()
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(site))
    assert not is_on_path_of_others(str(source))
    (site / "_editable_source.pth").write_text(f"{source}\n")
    assert is_on_path_of_others(str(source))
    assert not is_on_path_of_others(str(tmp_path / "sour"))
