"""What the finder in front of `PathFinder` changes: bytecode older than its source, and nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import py_compile
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

import taskproc
from taskproc.errors import TaskFileError
from taskproc.imports import (
    TICK_NANOSECONDS,
    ProjectFinder,
    ProjectLoader,
    compiles_plainly,
    forbid_stale_bytecode,
    no_stale_bytecode,
    refuse_stale_modules,
)
from taskproc.modules import load_file_as

ROOT = Path(taskproc.__file__).parent.parent


class Project:
    """Modules in a folder on the import path, imported as if by a new process each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.compiled: list[str] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file, at the same time in seconds as before if it was there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = os.stat(path) if path.exists() else None
        path.write_text(text)
        if before is not None:
            os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
        return path

    def forget(self) -> None:
        """Take the modules of the folder out of memory."""
        for name, module in list(sys.modules.items()):
            places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
            if any(isinstance(place, str) and place.startswith(str(self.folder)) for place in places):
                del sys.modules[name]
        importlib.invalidate_caches()

    def load(self, name: str) -> ModuleType:
        """Import a module anew; `compiled` then tells which files were compiled for it."""
        self.forget()
        self.compiled.clear()
        with no_stale_bytecode():
            return importlib.import_module(name)

    def load_plainly(self, name: str) -> ModuleType:
        """Import a module anew, as a plain Python does."""
        self.forget()
        return importlib.import_module(name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    monkeypatch.syspath_prepend(made.folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)

    def source_to_code(self: SourceFileLoader, data: Any, path: Any, **options: Any) -> CodeType:
        made.compiled.append(Path(path).name)
        return SourceFileLoader.source_to_code(self, data, path, **options)

    monkeypatch.setattr(ProjectLoader, "source_to_code", source_to_code, raising=False)
    yield made
    made.forget()


def wait_until_settled(*files: Path) -> None:
    """Wait until bytecode that is written now is later than these files' last change beyond doubt."""
    last = max(max(os.stat(file).st_mtime_ns, os.stat(file).st_ctime_ns) for file in files)
    time.sleep(max(0, last + TICK_NANOSECONDS - time.time_ns()) / 1e9 + 0.05)


def bytecode_of(file: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(file)))


# --- What is new ---


def test_python_alone_runs_the_old_code_after_an_edit_within_the_second(project: Project) -> None:
    """Should this fail one day, the module under test has lost its purpose."""
    project.write("helpers.py", "factor = 2\n")
    assert project.load_plainly("helpers").factor == 2
    project.write("helpers.py", "factor = 3\n")
    assert project.load_plainly("helpers").factor == 2


def test_an_edit_within_the_second_is_seen_whatever_bytecode_is_there(project: Project) -> None:
    project.write("helpers.py", "factor = 2\n")
    for factor in (2, 3, 4, 5):
        project.write("helpers.py", f"factor = {factor}\n")
        assert project.load("helpers").factor == factor
        project.load_plainly("helpers")  # leaves bytecode, or is taken in by it
        assert project.load("helpers").factor == factor


def test_packages_and_relative_imports_are_seen_to_as_well(project: Project) -> None:
    project.write("package/__init__.py", "from . import inner\nfrom .inner.deep import f\nK = 1\n")
    project.write("package/inner/__init__.py", "from .deep import f as g\nL = 1\n")
    project.write("package/inner/deep.py", "def f(x=1):\n    return x\n")
    assert project.load_plainly("package").f() == 1
    project.write("package/__init__.py", "from . import inner\nfrom .inner.deep import f\nK = 2\n")
    project.write("package/inner/__init__.py", "from .deep import f as g\nL = 2\n")
    project.write("package/inner/deep.py", "def f(x=2):\n    return x\n")
    package = project.load("package")
    assert (package.K, package.inner.L, package.f(), package.inner.g()) == (2, 2, 2, 2)


def test_a_reload_sees_an_edit_within_the_second(project: Project) -> None:
    project.write("helpers.py", "factor = 2\n")
    project.load_plainly("helpers")
    helpers = project.load("helpers")
    project.write("helpers.py", "factor = 3\n")
    with no_stale_bytecode():
        assert importlib.reload(helpers).factor == 3


def test_a_file_put_back_with_its_old_time_is_seen(project: Project) -> None:
    """As `cp -p`, rsync or an archive put it there: long ago by its own account."""
    file = project.write("helpers.py", "factor = 2\n")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert project.load_plainly("helpers").factor == 2
    project.write("helpers.py", "factor = 3\n")
    assert os.stat(file).st_mtime == 1_700_000_000
    assert project.load_plainly("helpers").factor == 2
    assert project.load("helpers").factor == 3


def test_a_file_from_the_future_is_compiled_each_time(project: Project) -> None:
    file = project.write("helpers.py", "factor = 2\n")
    tomorrow = time.time() + 86400
    os.utime(file, (tomorrow, tomorrow))
    project.load_plainly("helpers")
    for factor in (3, 4):
        project.write("helpers.py", f"factor = {factor}\n")
        assert project.load("helpers").factor == factor


# --- What stays ---


def test_bytecode_is_written_once_the_source_has_settled_and_used_from_then_on(project: Project) -> None:
    files = [project.write(f"part{n}.py", f"import part{n + 1}\n") for n in range(30)]
    files.append(project.write("part30.py", "factor = 2\n"))
    project.load("part0")
    assert len(project.compiled) == 31
    assert not any(bytecode_of(file).exists() for file in files), "too early: another edit may follow"
    wait_until_settled(*files)
    project.load("part0")
    assert len(project.compiled) == 31
    assert all(bytecode_of(file).exists() for file in files)
    project.load("part0")
    assert project.compiled == []
    project.write("part30.py", "factor = 3\n")
    project.load("part0")
    assert project.compiled == ["part30.py"]


def test_bytecode_that_could_not_be_trusted_is_replaced_later(project: Project) -> None:
    file = project.write("helpers.py", "factor = 2\n")
    project.load_plainly("helpers")
    project.write("helpers.py", "factor = 3\n")
    wait_until_settled(file)
    assert project.load_plainly("helpers").factor == 2
    assert project.load("helpers").factor == 3
    assert project.load_plainly("helpers").factor == 3, "plain Python is right again, too"


@pytest.mark.parametrize("mode", ["CHECKED_HASH", "UNCHECKED_HASH"])
def test_bytecode_that_goes_by_content_is_left_to_python(project: Project, mode: str) -> None:
    file = project.write("helpers.py", "factor = 2\n")
    py_compile.compile(str(file), invalidation_mode=py_compile.PycInvalidationMode[mode])
    before = bytecode_of(file).read_bytes()
    project.load("helpers")
    assert project.compiled == []
    project.write("helpers.py", "factor = 3\n")
    unchecked = mode == "UNCHECKED_HASH"
    assert project.load("helpers").factor == (2 if unchecked else 3)
    after = bytecode_of(file).read_bytes()
    assert after[:8] == before[:8], "of the same kind as before"
    assert (after == before) is unchecked


def test_no_bytecode_is_written_where_python_was_told_not_to(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    wait_until_settled(project.write("helpers.py", "factor = 2\n"))
    assert project.load("helpers").factor == 2
    assert not (project.folder / "__pycache__").exists()


def test_bytecode_goes_where_python_was_told_to_put_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "elsewhere"))
    file = project.write("helpers.py", "factor = 2\n")
    project.load_plainly("helpers")
    assert bytecode_of(file).is_relative_to(tmp_path / "elsewhere")
    project.write("helpers.py", "factor = 3\n")
    assert project.load("helpers").factor == 3
    wait_until_settled(file)
    project.load("helpers")
    project.load("helpers")
    assert project.compiled == []
    assert not (project.folder / "__pycache__").exists()


def test_only_plain_sources_of_the_project_get_another_loader(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("namespace/helpers.py", "factor = 2\n")
    project.write("package/__init__.py", "")
    project.write("package/data.pyc", "not bytecode at all")
    project.write("site-packages/installed.py", "factor = 2\n")
    monkeypatch.syspath_prepend(project.folder / "site-packages")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", "factor = 2\n")
    monkeypatch.syspath_prepend(tmp_path / "archive.zip")
    sourceless = project.write("sourceless.py", "factor = 2\n")
    py_compile.compile(str(sourceless), str(sourceless.with_suffix(".pyc")))
    sourceless.unlink()

    for name in ("namespace", "installed", "zipped", "sourceless"):
        plain, ours = (load(name).__spec__ for load in (project.load_plainly, project.load))
        assert plain is not None
        assert ours is not None
        assert type(ours.loader) is type(plain.loader) is not ProjectLoader
    for name in ("namespace.helpers", "package"):
        plain, ours = (load(name).__spec__ for load in (project.load_plainly, project.load))
        assert plain is not None
        assert ours is not None
        assert type(ours.loader) is ProjectLoader
        assert (ours.name, ours.origin, ours.cached) == (plain.name, plain.origin, plain.cached)
        assert ours.submodule_search_locations == plain.submodule_search_locations
    # What is not the module's bytecode is its data, whatever it is called.
    assert pkgutil.get_data("package", "data.pyc") == b"not bytecode at all"
    for name in ("json", "numpy", "click", "taskproc", "taskproc.core.task", "math", "nowhere"):
        spec = ProjectFinder().find_spec(name)
        assert spec is None or type(spec.loader) is not ProjectLoader


def test_a_loader_of_somebody_elses_is_left_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(SourceFileLoader):
        pass

    class Editable:
        """As an editable installation leaves one, behind all others."""

        @staticmethod
        def find_spec(fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
            if fullname != "editable":
                return None
            file = str(project.folder / "hidden" / "editable.py")
            return importlib.util.spec_from_file_location(fullname, file, loader=Own(fullname, file))

    project.write("hidden/editable.py", "factor = 2\n")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable])
    assert type(project.load("editable").__loader__) is Own

    real = PathFinder.find_spec

    def find_spec(fullname: str, *others: Any) -> ModuleSpec | None:
        spec = real(fullname, *others)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = Own(spec.loader.name, spec.loader.path)
        return spec

    project.write("helpers.py", "factor = 2\n")
    monkeypatch.setattr(PathFinder, "find_spec", find_spec)
    assert type(project.load("helpers").__loader__) is Own


def test_the_finder_stands_right_before_pythons_own_and_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path)
    with no_stale_bytecode():
        place = sys.meta_path.index(PathFinder)
        assert type(sys.meta_path[place - 1]) is ProjectFinder
        assert [finder for finder in sys.meta_path if type(finder) is not ProjectFinder] == before
        during = list(sys.meta_path)
        assert forbid_stale_bytecode() is None
        with no_stale_bytecode():
            assert sys.meta_path == during
        assert sys.meta_path == during, "the outer one is still in force"
    assert sys.meta_path == before
    others = [finder for finder in before if finder is not PathFinder]
    monkeypatch.setattr(sys, "meta_path", others)
    with no_stale_bytecode():
        assert sys.meta_path == others
    monkeypatch.setattr(sys, "meta_path", before)
    with no_stale_bytecode():
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder) is not ProjectFinder]
    assert sys.meta_path == before


def test_importing_the_library_puts_no_finder_in_place() -> None:
    text = (
        "import sys; before = list(sys.meta_path); import taskproc, taskproc.engine.worker;"
        " from taskproc import Cache, Task; import taskproc.cli.main, taskproc.cli.run, taskproc.imports;"
        " assert sys.meta_path == before, sys.meta_path"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", text], env=environment, check=True)


@pytest.mark.parametrize("flags", [[], ["-S"], ["-I"], ["-O"]])
def test_the_first_import_of_a_process_goes_through_the_finder(tmp_path: Path, flags: list[str]) -> None:
    """Where libraries are installed is asked of a module that imports others for the answer."""
    (tmp_path / "helpers.py").write_text("factor = 2\n")
    text = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]; from taskproc import imports;"
        " imports.forbid_stale_bytecode(); import helpers, sysconfig, concurrent.futures;"
        " concurrent.futures.ThreadPoolExecutor, sysconfig.get_paths();"
        " assert type(helpers.__loader__) is imports.ProjectLoader"
    )
    subprocess.run([sys.executable, *flags, "-c", text], check=True)


# --- What was imported before anybody asked us ---


def test_a_module_that_was_loaded_from_old_bytecode_is_refused_once(project: Project) -> None:
    file = project.write("helpers.py", "factor = 2\n")
    project.load_plainly("helpers")
    refuse_stale_modules()
    assert bytecode_of(file).exists()
    project.write("helpers.py", "factor = 3\n")
    assert project.load_plainly("helpers").factor == 2
    with pytest.raises(TaskFileError, match=r"helpers\.py was changed .* that is removed now: run again"):
        refuse_stale_modules()
    assert project.load_plainly("helpers").factor == 3
    refuse_stale_modules()


def test_old_bytecode_that_can_not_be_removed_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: object) -> None:
        raise PermissionError(path)

    project.write("helpers.py", "factor = 2\n")
    project.load_plainly("helpers")
    project.write("helpers.py", "factor = 3\n")
    project.load_plainly("helpers")
    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(TaskFileError, match=r"helpers\.cpython-\d+\.pyc; delete that file: run again"):
        refuse_stale_modules()


@pytest.mark.parametrize("mode", ["UNCHECKED_HASH", None])
def test_modules_without_bytecode_or_with_unchecked_bytecode_are_not_refused(
    project: Project, mode: str | None
) -> None:
    file = project.write("helpers.py", "factor = 2\n")
    if mode is not None:
        py_compile.compile(str(file), invalidation_mode=py_compile.PycInvalidationMode[mode])
    project.load_plainly("helpers")
    project.write("helpers.py", "factor = 3\n")
    if mode is None:
        bytecode_of(file).unlink()
    refuse_stale_modules()
    project.write("helpers.py", "this is no Python\n")
    refuse_stale_modules()
    file.unlink()
    refuse_stale_modules()


# --- Who may compare code with its source ---


def test_the_loaders_of_this_library_compile_plainly_and_others_may_not(project: Project) -> None:
    class Own(SourceFileLoader):
        pass

    file = project.write("helpers.py", "factor = 2\n")
    loaders: list[Callable[[], ModuleType]] = [
        lambda: project.load("helpers"),
        lambda: project.load_plainly("helpers"),
        lambda: load_file_as("helpers", str(file)),
    ]
    assert all(compiles_plainly(load().__loader__) for load in loaders)
    assert not compiles_plainly(Own("helpers", str(file)))
    assert not compiles_plainly(None)
