"""Plugins are found, loaded one by one, and named when they are to blame."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import subprocess
import sys
import textwrap
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

import taskproc
from taskproc import hookspecs
from taskproc.errors import (
    ComponentOptionError,
    DuplicateComponentError,
    PluginError,
    PluginWarning,
    PrefixError,
    UnknownComponentError,
)
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import ArgumentType, Launcher, Reporter
from taskproc.registry import COMMANDS_HOOK, DEFAULT_PLUGINS, Registry
from taskproc.registry.components import ARGUMENT_TYPES_HOOK, KINDS
from taskproc.registry.listeners import MOMENTS, RunListeners
from taskproc.testing import example_job

LAUNCHER_PLUGIN = """
    from dataclasses import dataclass
    from typing import ClassVar
    from taskproc.hookspecs import hookimpl
    from taskproc.interfaces import Launcher

    @dataclass(frozen=True)
    class {cls}(Launcher):
        name: ClassVar[str] = "{name}"
        level: int = 1

        def command(self, argv, job):
            return ["{name}", str(self.level), *argv]

    @hookimpl
    def taskproc_register_launchers():
        return [{cls}]
"""
BACKEND_PLUGIN = """
    from dataclasses import dataclass
    from typing import ClassVar
    from taskproc.hookspecs import hookimpl
    from taskproc.interfaces import CacheBackend

    @dataclass(frozen=True)
    class Memory(CacheBackend):
        name: ClassVar[str] = "mem"
        url: str

        @classmethod
        def from_url(cls, text):
            if text == "bad":
                raise ZeroDivisionError("on purpose")
            return cls(text)

    Memory.__abstractmethods__ = frozenset()

    @hookimpl
    def taskproc_register_cache_backends():
        return [Memory]
"""


def launcher_plugin(name: str) -> str:
    return LAUNCHER_PLUGIN.format(name=name, cls=name.title())


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a plugin as pip would: a module and a .dist-info beside it, on sys.path."""
    site, installed = tmp_path / "site", []
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    serial = itertools.count()

    def install(name, source, version="1.0", distribution=None, module=None):
        module = module or f"installed_{name}_{next(serial)}".replace("-", "_")
        installed.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        distribution = distribution or f"taskproc-{name}"
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[taskproc]\n{name} = {module}\n")
        return module

    yield install
    for module in installed:
        sys.modules.pop(module, None)


def plugin(**hooks: Any) -> object:
    """A throw-away plugin object: each keyword is a hook and what it returns."""
    return type(
        "ThrowAway", (), {name: staticmethod(hookimpl(_returning(value))) for name, value in hooks.items()}
    )()


def _returning(value):
    return lambda: value


@dataclass(frozen=True)
class Nice(Launcher):
    name: ClassVar[str] = "nice"

    level: int = 10

    def command(self, argv, job):
        return ["nice", str(self.level), *argv]


# -- looking up


def test_every_default_plugin_offers_what_the_tuple_says():
    found = {(info.plugin, info.kind, info.name) for info in Registry().components()}
    said = {(one.name, kind.word, name) for one in DEFAULT_PLUGINS for kind, name in one.offers}
    assert said <= found
    assert {one for one in found if one[0] in {default.name for default in DEFAULT_PLUGINS}} == said
    defaults = [info for info in Registry().components() if info.plugin == "prefix_launcher"]
    assert [(info.distribution, info.version) for info in defaults] == [("taskproc", taskproc.__version__)]


def test_every_hook_is_a_kind_of_component_a_moment_the_argument_types_or_the_commands():
    hooks = {name for name in vars(hookspecs) if name.startswith("taskproc_")}
    assert hooks == {kind.hook for kind in KINDS} | set(MOMENTS) | {ARGUMENT_TYPES_HOOK, COMMANDS_HOOK}


def test_a_default_component_is_found_by_name_and_made_with_options():
    launcher = Registry().launcher("prefix:prefix=nice -n 5,max_jobs=3")
    assert launcher.command(["x"], example_job()) == ["nice", "-n", "5", "x"]
    assert launcher.max_jobs == 3


def test_a_default_component_is_found_without_looking_at_any_other_plugin(install):
    module = install("other", "raise SystemExit('never imported')")
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(next(p for p in sys.path if (Path(p) / (module + ".py")).exists())))!r})
        from taskproc.registry import Registry
        registry = Registry()
        registry.launcher("prefix:prefix=nice")
        unwanted = [name for name in sys.modules if name.startswith(("rich", "click", {module!r}))]
        unwanted += [name for name in sys.modules if name.endswith(("pool_executors", "progress"))]
        print(unwanted)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    root = Path(taskproc.__file__).parents[1]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout == "[]\n"


def test_an_installed_plugin_is_found_when_its_component_is_asked_for(install):
    module = install("fast", launcher_plugin("fast"))
    registry = Registry()
    assert module not in sys.modules
    launcher = registry.launcher("fast:level=3")
    assert launcher.command(["x"], example_job()) == ["fast", "3", "x"]
    info = next(info for info in registry.components() if info.name == "fast")
    assert (info.kind, info.plugin, info.distribution, info.version) == (
        "launcher",
        "fast",
        "taskproc-fast",
        "1.0",
    )
    assert [str(option) for option in info.options] == [
        "python: str | None = None",
        "max_jobs: int | None = None",
        "level: int = 1",
    ]


def test_an_unknown_name_lists_what_is_known_with_a_guess():
    with pytest.raises(UnknownComponentError, match=r"no launcher named 'prefx'; known: .*prefix.*") as error:
        Registry().launcher("prefx")
    assert "did you mean 'prefix'?" in str(error.value)
    with pytest.raises(UnknownComponentError, match="no reporter named ''"):
        Registry().reporter("")


def test_an_unknown_name_mentions_the_plugins_that_are_broken_or_disabled(install):
    install("broken", "import no_such_module_at_all")
    install("off", launcher_plugin("off"))
    with (
        pytest.warns(PluginWarning),
        pytest.raises(UnknownComponentError, match=r"broken.*taskproc-broken 1\.0.*no_such_module") as error,
    ):
        Registry(["no:off"]).launcher("wanted")
    assert "disabled plugins: off" in str(error.value)


# -- which plugins are loaded


def test_a_plugin_is_selected_by_entry_point_by_module_by_file_or_as_an_object(install, tmp_path):
    install("byname", launcher_plugin("byname"))
    module = install("elsewhere", launcher_plugin("bymodule"))
    file = tmp_path / "by file's.py"
    file.write_text(textwrap.dedent(launcher_plugin("byfile")))
    own = plugin(taskproc_register_launchers=[Nice])
    registry = Registry(["byname", module, str(file), own], environ={"TASKPROC_DISABLE_PLUGINS": "all"})
    known = {info.name for info in registry.components() if info.kind == "launcher"}
    assert known == {"prefix", "byname", "bymodule", "byfile", "nice"}
    assert registry.failures() == []


def test_a_relative_file_is_the_one_of_the_folder_where_it_was_named(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(textwrap.dedent(launcher_plugin("mine")))
    monkeypatch.chdir(tmp_path)
    registry = Registry(["./mine.py"])
    monkeypatch.chdir("/")
    assert registry.launcher("mine").name == "mine"


def test_a_file_given_twice_is_one_plugin(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(textwrap.dedent(launcher_plugin("mine")))
    monkeypatch.chdir(tmp_path)
    registry = Registry(["./mine.py", str(tmp_path / "mine.py"), tmp_path / "mine.py"])
    assert registry.launcher("mine").name == "mine"


def test_a_backend_of_a_one_file_plugin_travels_to_another_process(tmp_path):
    file = tmp_path / "keep.py"
    file.write_text(textwrap.dedent(BACKEND_PLUGIN))
    import cloudpickle

    payload = cloudpickle.dumps(Registry([file]).cache_backend("mem:there"))
    script = f"import pickle; print(pickle.loads({payload!r}).url)"
    command = [sys.executable, "-c", script]
    root = Path(taskproc.__file__).parents[1]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout == "there\n"


def test_a_module_given_under_two_names_is_one_plugin(install):
    module = install("twice", launcher_plugin("twice"))
    registry = Registry([module, "twice"])
    assert registry.launcher("twice").name == "twice"
    assert registry.failures() == []


@pytest.mark.parametrize("word", ["no:off", "no:taskproc-off", "no:Taskproc_Off"])
def test_a_disabled_plugin_is_not_imported(install, word):
    module = install("off", launcher_plugin("off"))
    with pytest.raises(UnknownComponentError):
        Registry([word]).launcher("off")
    assert module not in sys.modules


@pytest.mark.parametrize("value", ["off", "x, off ,y", "all", "taskproc-off"])
def test_the_environment_disables_plugins_unless_they_are_asked_for(install, value):
    install("off", launcher_plugin("off"))
    environ = {"TASKPROC_DISABLE_PLUGINS": value}
    with pytest.raises(UnknownComponentError):
        Registry(environ=environ).launcher("off")
    assert Registry(environ=environ).launcher("prefix:prefix=x").name == "prefix"
    assert Registry(["off"], environ=environ).launcher("off").name == "off"


def test_the_environment_of_the_process_counts(install, monkeypatch):
    install("off", launcher_plugin("off"))
    monkeypatch.setenv("TASKPROC_DISABLE_PLUGINS", "off")
    assert "off" not in {info.name for info in Registry().components()}


def test_the_last_word_on_a_plugin_wins(install):
    install("flip", launcher_plugin("flip"))
    assert Registry(["no:flip", "flip"]).launcher("flip").name == "flip"
    with pytest.raises(UnknownComponentError):
        Registry(["flip", "no:flip"]).launcher("flip")


def test_a_disabled_default_can_be_replaced(install):
    install("mine", launcher_plugin("prefix"))
    launcher = Registry(["no:prefix_launcher"]).launcher("prefix:level=4")
    assert launcher.command([], example_job()) == ["prefix", "4"]


def test_disabling_what_is_not_there_is_a_warning_with_a_guess():
    with pytest.warns(PluginWarning, match=r"no:progres disables nothing; .*did you mean 'progress'\?"):
        Registry(["no:progres"]).load_all()


@pytest.mark.parametrize("word", ["", " ", "no:", "no: "])
def test_an_empty_word_is_refused(word):
    with pytest.raises(PluginError, match="names no plugin"):
        Registry([word])


# -- plugins that are broken

REGISTER = "from taskproc.hookspecs import hookimpl\n@hookimpl\n"
BROKEN = {
    "import": (
        "import no_such_module_at_all",
        "ModuleNotFoundError: No module named 'no_such_module_at_all'",
    ),
    "syntax": ("def f(:\n    pass", "SyntaxError: "),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "argument": (f"{REGISTER}def taskproc_job_started(task): ...", "{'task'}"),
    "hook": (f"{REGISTER}def taskproc_job_stopped(job): ...", "unknown hook 'taskproc_job_stopped'"),
    "marker": ("def taskproc_job_started(job): ...", "lacks its marker: put @hookimpl"),
    "nothing": ("x = 1", "implements no hook"),
    "raises": (f"{REGISTER}def taskproc_register_launchers(): return [1 / 0]", "ZeroDivisionError: "),
    "none": (f"{REGISTER}def taskproc_register_launchers(): return None", "returned None, not a list"),
    "rubbish": (f"{REGISTER}def taskproc_register_launchers(): return ['x']", "'x' is not a class"),
    "wrapper": (
        "from taskproc.hookspecs import hookimpl\n@hookimpl(wrapper=True)\n"
        "def taskproc_job_started(job): yield",
        "is a wrapper or generator",
    ),
    "coroutine": (f"{REGISTER}async def taskproc_job_started(job): ...", "is a coroutine function"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_named_with_its_distribution_and_harms_nobody_else(install, fault):
    source, said = BROKEN[fault]
    install("broken", source, version="2.5")
    install("sound", launcher_plugin("sound"))
    registry = Registry()
    with pytest.warns(PluginWarning) as caught:
        registry.load_all()
    registry.load_all()
    assert len(caught) == 1
    assert "plugin 'broken' (taskproc-broken 2.5): " in str(caught[0].message)
    assert said in str(caught[0].message)
    assert "-p no:broken" in str(caught[0].message)
    (failure,) = registry.failures()
    assert (failure.plugin, failure.distribution, failure.version) == ("broken", "taskproc-broken", "2.5")
    assert said in failure.error
    assert "\n" not in failure.error
    assert registry.launcher("sound").name == "sound"
    assert not registry.listen().hears("taskproc_job_started")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_that_was_asked_for_is_an_error(install, fault):
    source, said = BROKEN[fault]
    install("broken", source)
    registry = Registry(["broken"])
    for _ in range(2):
        with pytest.raises(PluginError, match=r"plugin 'broken' \(taskproc-broken 1\.0\)") as error:
            registry.launcher("prefix:prefix=x")
        assert said in str(error.value)
    assert [failure.plugin for failure in registry.failures()] == ["broken"]


def test_the_place_of_the_fault_is_in_the_message(install):
    module = install("broken", "x = 1\ny = x / 0\n")
    with pytest.warns(PluginWarning, match=rf"ZeroDivisionError: division by zero \(.*{module}\.py:2\)"):
        Registry().load_all()


def test_a_disabled_broken_plugin_is_not_spoken_of(install):
    install("broken", "1 / 0")
    registry = Registry(["no:broken"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.load_all()
    assert registry.failures() == []


def test_a_plugin_that_does_not_exist_is_an_error_with_a_guess(install):
    install("docker", launcher_plugin("docker"))
    with pytest.raises(PluginError, match=r"plugin 'dokcer': no plugin or module .* did you mean 'docker'"):
        Registry(["dokcer"]).load_all()
    with pytest.raises(PluginError, match=r"there is no file .*/missing\.py"):
        Registry(["./missing.py"]).load_all()
    with pytest.raises(PluginError, match="no plugin or module has this name"):
        Registry(["os.nothing_below"]).load_all()


def test_listing_the_components_raises_nothing_for_a_broken_plugin_that_was_asked_for(install):
    install("broken", "1 / 0")
    registry = Registry(["broken"])
    assert "prefix" in {info.name for info in registry.components()}
    assert len(registry.failures()) == 1


class NoName(Nice):
    name = None  # type: ignore[assignment]


class NotDecorated(Nice):
    name: ClassVar[str] = "plain"
    depth: int = 3


@dataclass(frozen=True)
class NoCommand(Launcher):
    name: ClassVar[str] = "nocommand"


@dataclass(frozen=True)
class OddName(Nice):
    name: ClassVar[str] = "a:b"


class PlainReporter(Reporter):
    name: ClassVar[str] = "plain"


@dataclass(frozen=True)
class NoBase:
    name: ClassVar[str] = "nobase"


@pytest.mark.parametrize(
    ("hook", "cls", "said"),
    [
        ("launchers", NoName, "NoName has no name"),
        ("launchers", OddName, "OddName has the name 'a:b'"),
        ("launchers", NotDecorated, "NotDecorated is not a dataclass"),
        ("launchers", NoCommand, "NoCommand lacks command of Launcher"),
        ("launchers", NoBase, "NoBase does not derive from taskproc.interfaces.Launcher"),
        ("launchers", Nice(), "is not a class"),
        ("reporters", PlainReporter, "PlainReporter is not a dataclass"),
        ("cache_backends", Nice, "Nice does not derive from taskproc.interfaces.CacheBackend"),
    ],
)
def test_a_class_that_is_no_component_is_told_what_it_lacks(hook, cls, said):
    registry = Registry([plugin(**{f"taskproc_register_{hook}": [cls]})])
    with pytest.raises(PluginError, match="plugin 'ThrowAway': ") as error:
        registry.load_all()
    assert said in str(error.value)


def test_a_plugin_object_can_be_registered_at_once_and_once():
    registry, own = Registry(), plugin(taskproc_register_launchers=[Nice])
    registry.register(own)
    assert registry.launcher("nice").name == "nice"
    with pytest.raises(PluginError, match="registered already"):
        registry.register(own)
    with pytest.raises(PluginError, match="is not a class"):
        registry.register(plugin(taskproc_register_launchers=[3]))
    assert registry.failures() == []


# -- two of one name


def test_two_plugins_with_one_component_name_are_refused_when_it_is_used(install):
    install("one", launcher_plugin("same"))
    install("two", launcher_plugin("same"), version="3.0")
    registry = Registry()
    registry.load_all()
    with pytest.raises(
        DuplicateComponentError,
        match=r"plugin 'one' \(taskproc-one 1\.0\).*plugin 'two' \(taskproc-two 3\.0\)",
    ) as error:
        registry.launcher("same")
    assert "-p no:one or -p no:two" in str(error.value) or "-p no:two or -p no:one" in str(error.value)
    assert Registry(["no:two"]).launcher("same").name == "same"
    assert [info.plugin for info in registry.components() if info.name == "same"] == ["one", "two"]


def test_a_rival_of_a_default_in_use_is_found_when_the_run_begins(install):
    install("rival", launcher_plugin("prefix"))
    registry = Registry()
    registry.launcher("prefix:prefix=x")
    for _ in range(2):
        with pytest.raises(DuplicateComponentError, match=r"'prefix_launcher' .*'rival'"):
            registry.listen()


def test_a_rival_of_a_default_that_nobody_uses_harms_nobody(install):
    install("rival", launcher_plugin("prefix"))
    Registry().load_all()


def test_two_plugins_of_one_name_are_told_apart_by_distribution(install):
    install("gpu", launcher_plugin("same"), distribution="gpu-here")
    install("gpu", launcher_plugin("same"), distribution="gpu-there")
    with pytest.raises(DuplicateComponentError, match=r"no:gpu-here.*|no:gpu-there.*"):
        Registry().launcher("same")
    registry = Registry(["no:gpu-there"])
    assert registry.launcher("same").name == "same"


def test_one_class_from_two_plugins_is_no_conflict():
    first, second = plugin(taskproc_register_launchers=[Nice]), plugin(taskproc_register_launchers=(Nice,))
    assert Registry([first, second]).launcher("nice") == Nice()


# -- argument types

TYPE_PLUGIN = """
    from taskproc.hookspecs import hookimpl
    from taskproc.interfaces import ArgumentType

    @hookimpl
    def taskproc_register_argument_types():
        return [ArgumentType("somewhere.deep:Outer.Frame", lambda frame: frame.rows)]
"""


def types_plugin(*types: Any) -> object:
    return plugin(taskproc_register_argument_types=list(types))


def test_a_registered_class_is_found_by_name_with_the_plugin_that_knows_it(install):
    install("frames", TYPE_PLUGIN)
    registry = Registry()
    found = registry.argument_type("somewhere.deep:Outer.Frame")
    assert found is not None
    assert found.type.name == "somewhere.deep:Outer.Frame"
    assert found.plugin == "plugin 'frames' (taskproc-frames 1.0)"
    assert registry.argument_type("somewhere.deep:Frame") is None
    assert Registry(["no:frames"]).argument_type("somewhere.deep:Outer.Frame") is None


def test_no_plugin_is_loaded_before_a_class_is_asked_for(install):
    module = install("frames", TYPE_PLUGIN)
    registry = Registry()
    assert module not in sys.modules
    registry.argument_type("somewhere:else")
    assert module in sys.modules


def test_argument_types_are_listed_with_the_components(install):
    install("frames", TYPE_PLUGIN, version="2.5")
    (info,) = [info for info in Registry().components() if info.kind == "argument type"]
    assert (info.name, info.plugin) == ("somewhere.deep:Outer.Frame", "frames")
    assert (info.distribution, info.version, info.options) == ("taskproc-frames", "2.5", ())


def test_a_class_that_two_plugins_register_is_refused_naming_both_when_it_is_asked_for(install):
    install("one", TYPE_PLUGIN)
    install("two", TYPE_PLUGIN)
    registry = Registry()
    registry.load_all()
    assert registry.argument_type("another:Class") is None
    for _ in range(2):
        with pytest.raises(
            DuplicateComponentError, match=r"'one' \(taskproc-one 1\.0\) and .*'two'"
        ) as error:
            registry.argument_type("somewhere.deep:Outer.Frame")
    assert "-p no:one or -p no:two" in str(error.value)
    assert Registry(["no:one"]).argument_type("somewhere.deep:Outer.Frame") is not None


def test_one_argument_type_from_two_plugins_is_no_conflict():
    one = ArgumentType("m:C", str)
    found = Registry([types_plugin(one), types_plugin(one)]).argument_type("m:C")
    assert found is not None
    assert found.type is one


def test_a_plugin_that_is_registered_later_is_heard_of():
    registry = Registry()
    assert registry.argument_type("m:C") is None
    registry.register(types_plugin(ArgumentType("m:C", str)))
    assert registry.argument_type("m:C") is not None


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ([str], "<class 'str'> is no taskproc.interfaces.ArgumentType"),
        ([ArgumentType("pandas.DataFrame", str)], "'pandas.DataFrame': give the class as 'module:Qualname'"),
        ([ArgumentType(dict, str)], "give the class as 'module:Qualname'"),  # type: ignore[arg-type]
        ([ArgumentType("m:C", 5)], "has the encode 5, which can't be called"),  # type: ignore[arg-type]
        ([ArgumentType("m:C", str), ArgumentType("m:C", repr)], "registers the argument type 'm:C' twice"),
    ],
)
def test_what_is_no_argument_type_is_the_plugins_fault(types, said):
    with pytest.raises(PluginError, match="plugin 'ThrowAway': ") as error:
        Registry([types_plugin(*types)]).argument_type("m:C")
    assert said in str(error.value)


def test_a_broken_plugin_that_nobody_asked_for_hides_no_class_of_another(install):
    install("broken", "import nowhere_to_be_found")
    install("frames", TYPE_PLUGIN)
    with pytest.warns(PluginWarning, match="'broken'"):
        assert Registry().argument_type("somewhere.deep:Outer.Frame") is not None


# -- options


class Colour(enum.Enum):
    RED = 1
    BLUE = "azure"


@dataclass(frozen=True)
class Rich(Nice):
    name: ClassVar[str] = "rich"

    image: str = dataclasses.field(kw_only=True)
    share: float = 1.0
    quiet: bool = False
    where: Path | None = None
    colour: Colour = Colour.RED
    mode: Literal["fast", "safe", 3] = "fast"
    mounts: tuple[str, ...] = ()
    counts: list[int] = dataclasses.field(default_factory=list)
    sizes: Sequence[int] = ()
    pair: tuple[int, str] = (1, "x")
    either: int | str = 0
    words: str | tuple[str, ...] = ""
    anything: Any = None
    unknown: "NotThere" = None  # type: ignore[name-defined]  # noqa: F821, UP037
    _hidden: int = 0


OPTIONS = [
    ("level=3", "level", 3),
    ("share=2", "share", 2.0),
    ("quiet=true", "quiet", True),
    ("quiet=NO", "quiet", False),
    ("where=/a b/c", "where", Path("/a b/c")),
    ("colour=BLUE", "colour", Colour.BLUE),
    ("colour=azure", "colour", Colour.BLUE),
    ("colour=1", "colour", Colour.RED),
    ("mode=safe", "mode", "safe"),
    ("mode=3", "mode", 3),
    ("mounts=a", "mounts", ("a",)),
    ("mounts=a,mounts=b,c=", "error", None),
    ("mounts=a,b,mounts=c", "mounts", ("a,b", "c")),
    ("counts=1,counts=2", "counts", [1, 2]),
    ("sizes=1,sizes=2", "sizes", (1, 2)),
    ("pair=4,pair=y", "pair", (4, "y")),
    ("either=5", "either", 5),
    ("either=5x", "either", "5x"),
    ("words=a b", "words", "a b"),
    ("words=a,words=b", "words", ("a", "b")),
    ("python=none", "python", "none"),
    ("max_jobs=2", "max_jobs", 2),
    ("image=a,b,,c", "image", "a,b,,c"),
    ("image=python:3.11", "image", "python:3.11"),
    ("image=a=b", "image", "a=b"),
    (" level =3", "level", 3),
]


@pytest.mark.parametrize(("text", "name", "value"), [one for one in OPTIONS if one[1] != "error"])
def test_options_become_values_by_their_annotations(text, name, value):
    registry = Registry([plugin(taskproc_register_launchers=[Rich])])
    rest = "" if text.startswith("image") else "image=i,"
    found = getattr(registry.launcher(f"rich:{rest}{text}"), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("levle=3", "launcher 'rich' has no option 'levle'; did you mean 'level'?"),
        ("_hidden=3", "has no option '_hidden'"),
        ("name=x", "has no option 'name'"),
        ("mounts=a,mounts=b,c=", "has no option 'c'"),
        ("level", "option 'level' of launcher 'rich' has no value: write level=VALUE"),
        ("level=x", "option 'level' of launcher 'rich' is 'x', but it wants int"),
        ("level=", "option 'level' of launcher 'rich' is '', but it wants int"),
        ("level=1,level=2", "is '1', '2', but it wants int (given 2 times, and it takes one value)"),
        ("share=much", "option 'share' of launcher 'rich' is 'much', but it wants float"),
        ("quiet=perhaps", "it wants bool"),
        ("colour=green", "it wants Colour"),
        ("mode=slow", "it wants Literal['fast', 'safe', 3]"),
        ("counts=1,counts=x", "is '1', 'x', but it wants list[int]"),
        ("pair=1", "(give it 2 times)"),
        ("max_jobs=many", "it wants int | None"),
        ("anything=1", "which can be given from Python only"),
        ("unknown=1", "which can be given from Python only"),
        ("", "launcher 'rich' needs the option 'image': image=VALUE"),
        ("level=1", "launcher 'rich' needs the option 'image'"),
    ],
)
def test_a_wrong_option_is_named_beside_those_there_are(text, said):
    registry = Registry([plugin(taskproc_register_launchers=[Rich])])
    rest = "" if "needs" in said or "value: write" in said else "image=i,"
    with pytest.raises(ComponentOptionError) as error:
        registry.launcher(f"rich:{rest}{text}")
    assert said in str(error.value)
    assert "(its options: python: str | None = None, max_jobs: int | None = None, level: int = 10, " in str(
        error.value
    )
    assert "image: str (required)" in str(error.value)


def test_what_the_component_itself_refuses_is_told_in_its_name():
    @dataclass(frozen=True)
    class Picky(Nice):
        name: ClassVar[str] = "picky"

        def __post_init__(self):
            raise {1: ValueError, 2: KeyError, 3: PrefixError}[self.level]("too picky")

    registry = Registry([plugin(taskproc_register_launchers=[Picky])])
    with pytest.raises(ComponentOptionError, match="launcher 'picky' refuses its options: too picky"):
        registry.launcher("picky:level=1")
    with pytest.raises(
        PluginError, match=r"launcher 'picky' could not be made: KeyError: 'too picky' \(.*\)"
    ):
        registry.launcher("picky:level=2")
    with pytest.raises(PrefixError, match=r"^too picky$"):
        registry.launcher("picky:level=3")


def test_the_class_of_a_launcher_can_be_had_for_options_that_are_not_text():
    assert Registry().launcher_class("prefix")(prefix=("a b",)).needs == ("a b",)


# -- cache backends


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mem:there", "there"),
        ("mem:", ""),
        ("mem:a:b", "a:b"),
        ("mem:s3://bucket/x", "s3://bucket/x"),
        ("mem://bucket/x", "mem://bucket/x"),
        ("MEM://bucket/x", "MEM://bucket/x"),
    ],
)
def test_a_cache_backend_is_chosen_by_name_or_by_scheme(tmp_path, text, url):
    (tmp_path / "plugin.py").write_text(textwrap.dedent(BACKEND_PLUGIN))
    backend = Registry([tmp_path / "plugin.py"]).cache_backend(text)
    assert (backend.name, backend.url) == ("mem", url)


@pytest.mark.parametrize("text", ["cache", "./mem:x", "a:b", "./a b'\"c", "/x/y:z", "directory:cache", "1:2"])
def test_any_other_text_is_a_path(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    backend = Registry().cache_backend(text)
    assert backend.name == "directory"
    assert Path(backend.location) == tmp_path / text.removeprefix("directory:")
    assert list(tmp_path.iterdir()) == []


def test_a_path_object_is_never_read_as_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(Registry().cache_backend(Path("directory:x")).location) == tmp_path / "directory:x"


def test_an_unknown_scheme_and_an_empty_path_are_errors(tmp_path):
    with pytest.raises(UnknownComponentError, match=r"no cache backend named 's3'; known: directory"):
        Registry().cache_backend("s3://bucket/x")
    with pytest.raises(PluginError, match="empty"):
        Registry().cache_backend("")
    (tmp_path / "plugin.py").write_text(textwrap.dedent(BACKEND_PLUGIN))
    with pytest.raises(PluginError, match="cache backend 'mem' could not be made: ZeroDivisionError"):
        Registry([tmp_path / "plugin.py"]).cache_backend("mem:bad")


# -- moments


class Recorder:
    """Hears everything, in its own list."""

    def __init__(self):
        self.heard = []

    @hookimpl
    def taskproc_run_started(self, plan):
        self.heard.append(("run_started", plan))

    @hookimpl
    def taskproc_job_started(self):
        self.heard.append(("job_started",))

    @hookimpl
    def taskproc_job_finished(self, outcome):
        self.heard.append(("job_finished", outcome))

    @hookimpl
    def taskproc_run_finished(self, report):
        self.heard.append(("run_finished", report))


ALL = [("run_started", 1), ("job_started",), ("job_finished", 3), ("run_finished", 4)]


def tell_all(listeners: RunListeners, times: int = 1) -> None:
    for argument, moment in list(enumerate(MOMENTS, start=1)) * times:
        listeners.notify(moment, argument)


def test_plugins_and_reporters_hear_the_moments_with_as_many_arguments_as_they_take():
    as_plugin, as_reporter = Recorder(), Recorder()
    listeners = Registry([as_plugin]).listen([as_reporter])
    tell_all(listeners)
    assert as_plugin.heard == as_reporter.heard == ALL


def test_an_installed_plugin_hears_the_moments(install):
    module = install(
        "ears",
        f"{REGISTER}def taskproc_job_started(job): heard.append(job)\nheard = []",
        module="ears_module",
    )
    listeners = Registry().listen()
    listeners.notify("taskproc_job_started", "job")
    assert sys.modules[module].heard == ["job"]
    sys.modules[module].heard = None
    with pytest.warns(PluginWarning, match=r"plugin 'ears' \(taskproc-ears 1\.0\) .*-p no:ears"):
        listeners.notify("taskproc_job_started", "job")


@pytest.mark.parametrize("error", [ZeroDivisionError("on purpose"), SystemExit(3)])
def test_a_listener_that_raises_is_named_once_and_silenced_and_the_others_hear_everything(error):
    class Broken(Recorder):
        @hookimpl
        def taskproc_job_started(self):
            super().taskproc_job_started()
            raise error

    before, broken, after = Recorder(), Broken(), Recorder()
    registry = Registry([before, broken, after])
    listeners = registry.listen()
    with pytest.warns(PluginWarning) as caught:
        tell_all(listeners, times=3)
    assert before.heard == after.heard == ALL * 3
    assert broken.heard == ALL[:2]
    (warning,) = caught
    said = str(warning.message)
    assert "plugin 'Broken' failed in taskproc_job_started and is silenced for the rest of this run" in said
    assert f"{type(error).__name__}: {error}" in said
    assert "-p no:" not in said  # it was given as an object, so there is nothing to disable
    with pytest.warns(PluginWarning):
        tell_all(registry.listen())  # silenced for a run, not for ever
    assert broken.heard == ALL[:2] * 2


def test_a_reporter_that_raises_is_called_by_its_name():
    @dataclass(frozen=True)
    class Loud(Reporter):
        name: ClassVar[str] = "loud"

        @hookimpl
        def taskproc_run_started(self, plan):
            raise ZeroDivisionError

    listeners = Registry().listen([Loud(), Loud()])
    with pytest.warns(PluginWarning, match="reporter 'loud' failed in taskproc_run_started") as caught:
        tell_all(listeners, times=2)
    assert len(caught) == 2  # equal, but two


def test_a_keyboard_interrupt_is_nobodys_fault():
    class Pressed(Recorder):
        @hookimpl
        def taskproc_job_started(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Registry().listen([Pressed()]).notify("taskproc_job_started", None)


def test_reporters_belong_to_their_own_run():
    registry, first, second = Registry(), Recorder(), Recorder()
    one, other = registry.listen([first]), registry.listen([second])
    tell_all(one)
    assert (first.heard, second.heard) == (ALL, [])
    tell_all(other)
    assert (first.heard, second.heard) == (ALL, ALL)


def test_nobody_is_called_where_nobody_hears():
    class OnlyStarts:
        @hookimpl
        def taskproc_run_started(self):
            pass

    listeners = Registry().listen([OnlyStarts()])
    assert [moment for moment in MOMENTS if listeners.hears(moment)] == ["taskproc_run_started"]
    assert not Registry().listen().hears("taskproc_job_finished")


def test_a_reporter_can_be_given_as_text(capsys):
    listeners = Registry().listen(["progress:interval=3"])
    assert all(listeners.hears(moment) for moment in MOMENTS)
    with pytest.raises(UnknownComponentError):
        Registry().listen(["progres"])


class WrongArgument:
    name = "wrong"

    @hookimpl
    def taskproc_job_started(self, task): ...


class Unmarked:
    name = "unmarked"

    def taskproc_job_started(self, job): ...


class RegistersThings:
    name = "registrar"

    @hookimpl
    def taskproc_register_launchers(self): ...


@pytest.mark.parametrize(
    ("reporter", "said"),
    [
        (WrongArgument(), "reporter 'wrong' can't be used: PluginValidationError: .*'task'"),
        (Unmarked(), "reporter 'unmarked' can't be used: .*lacks its marker"),
        (RegistersThings(), "reporter 'registrar' can't be used: taskproc_register_launchers is for plugins"),
        (object(), "reporter object can't be used: .*implements no hook"),
        (Recorder, r"is a class: give an instance, Recorder\(\.\.\.\)"),
    ],
)
def test_a_reporter_that_can_hear_nothing_is_an_error_that_names_it(reporter, said):
    with pytest.raises(PluginError, match=said):
        Registry().listen([reporter])


# -- commands


def command(name: str) -> Any:
    return types.SimpleNamespace(name=name, main=lambda: None)


def test_commands_come_from_every_plugin_and_a_broken_one_is_left_out():
    def boom():
        return 1 / 0

    registry = Registry(
        [
            plugin(taskproc_register_commands=[command("a"), command("b")]),
            type("Boom", (), {"taskproc_register_commands": staticmethod(hookimpl(boom))})(),
            type("Rubbish", (), {"taskproc_register_commands": staticmethod(hookimpl(lambda: ["x"]))})(),
        ]
    )
    with pytest.warns(PluginWarning) as caught:
        assert [one.name for one in registry.commands()] == ["a", "b"]
    said = " ".join(str(one.message) for one in caught)
    assert "plugin 'Boom': ZeroDivisionError" in said
    assert "plugin 'Rubbish': taskproc_register_commands gave 'x', which is not a click command" in said
    assert [one.name for one in registry.commands()] == ["a", "b"]
    assert len(registry.failures()) == 2


def test_a_command_that_two_plugins_give_is_nobodys():
    registry = Registry()
    registry.register(plugin(taskproc_register_commands=[command("a"), command("b")]), "one")
    registry.register(plugin(taskproc_register_commands=[command("b")]), "two")
    with pytest.warns(PluginWarning, match=r"command 'b' is also one of plugin '(one|two)'"):
        assert [one.name for one in registry.commands()] == ["a"]
