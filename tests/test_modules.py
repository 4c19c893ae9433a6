"""What a module is called, and whether it is the user's own."""

from __future__ import annotations

import sysconfig

import pytest

from taskproc.modules import is_installed


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
