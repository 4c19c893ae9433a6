"""core/arguments/decoder.py: what comes back from stored arguments, and what does not."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import json
import subprocess
import sys
import types
from typing import Any, NamedTuple

import attrs
import golden_values
import numpy as np
import pydantic
import pytest
from golden_values import Color, Pair, Point
from hypothesis import given, settings
from hypothesis import strategies as st
from typed_values import ATOMS, PLAIN_VALUES, VALUES, Cached, Model, Triple, typed

from taskproc.core.arguments import Encoder, canonical, decode
from taskproc.core.arguments.names import find_loaded
from taskproc.core.future import Const, FutureDict, FutureList, Item
from taskproc.core.input_file import InputFile
from taskproc.errors import TaskprocError, UndecodableError


def no_task(name: str, key: str) -> Any:
    raise LookupError(f"no task {name}")


def stored(value: Any) -> Any:
    """The JSON form of a value, as it comes back from a file."""
    return json.loads(canonical(Encoder().encode(value)))


def again(value: Any) -> Any:
    return decode(stored(value), no_task)


# What comes back


@settings(max_examples=4 * settings().max_examples)
@given(VALUES)
def test_what_is_decoded_is_equal_to_the_value_in_value_and_type_and_has_its_form(value):
    decoded = again(value)
    assert typed(decoded) == typed(value)
    assert Encoder().encode(decoded) == Encoder().encode(value)


@given(PLAIN_VALUES)
def test_a_decoded_value_shares_nothing_with_the_form_it_was_decoded_from(value):
    form = stored(value)
    before = canonical(form)
    change(decode(form, no_task))
    assert canonical(form) == before


def change(value: Any) -> None:
    """Empty every container in a value."""
    if isinstance(value, list | tuple):
        for item in value:
            change(item)
    if isinstance(value, dict):
        for item in value.values():
            change(item)
    if isinstance(value, list | dict | set):
        value.clear()


NOT_TOLD = {"own way", "own way of more"}
"""The golden values whose form does not tell the value."""


@pytest.mark.parametrize("name", sorted(golden_values.values().keys() - NOT_TOLD))
def test_each_golden_value_comes_back(name):
    value = golden_values.values()[name]
    decoded = again(value)
    assert type(decoded) is type(value)
    assert Encoder().encode(decoded) == Encoder().encode(value)
    assert typed(decoded) == typed(value)


@pytest.mark.parametrize("name", sorted(golden_values.arrays()))
def test_of_numpys_golden_values_those_without_a_digest_come_back(name):
    value = golden_values.arrays()[name]
    form = stored(value)
    if '"digest":' in canonical(form).decode() and getattr(value, "size", 1):
        with pytest.raises(UndecodableError, match="by its digest"):
            decode(form, no_task)
    else:
        decoded = decode(form, no_task)
        assert type(decoded) is type(value)
        assert Encoder().encode(decoded) == form


def test_arrays_whose_items_stand_in_the_form_come_back():
    texts = np.array([["a", "é"], ["", "b"]], dtype=np.dtypes.StringDType())
    objects = np.array([[1, "a", None], [(1, 2), [3], 1.0]], dtype=object)
    long = np.array([0.1, -2.0], dtype=np.longdouble)
    for array in (texts, objects, long, objects.view(np.recarray), np.zeros((0, 2)).view(np.matrix)):
        decoded = again(array)
        assert type(decoded) is type(array)
        assert decoded.dtype == array.dtype
        assert decoded.tolist() == array.tolist()
    assert repr(again(np.longdouble("0.1"))) == repr(np.longdouble("0.1"))


def test_two_nans_in_a_set_are_two_again():
    value = {float("nan"), float("nan"), 1}
    assert len(again(value)) == 3


@dataclasses.dataclass
class Loud:
    """A dataclass whose constructor would do things."""

    x: int
    made: list[str] = dataclasses.field(init=False, default_factory=list)
    late: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        raise AssertionError("called again")


@attrs.define
class LoudAttrs:
    x: int = attrs.field(validator=attrs.validators.lt(3), converter=lambda x: x + 1)
    made: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        raise AssertionError("called again")


class LoudModel(pydantic.BaseModel, extra="allow"):
    x: int = pydantic.Field(alias="ex", default_factory=lambda: 1 // 0)
    _private: list[int] = pydantic.PrivateAttr(default=[5])
    _undefined: int

    @pydantic.field_validator("x")
    @classmethod
    def refuse(cls, x: int) -> int:
        raise ValueError("validated again")

    def model_post_init(self, context: Any) -> None:
        raise AssertionError("called again")


class Tuned(dict[str, int]):
    def __init__(self) -> None:
        raise AssertionError("called again")


def test_objects_are_made_without_their_constructors_validators_and_converters():
    loud = object.__new__(Loud)
    loud.x, loud.made = 1, ["here"]
    told = again(loud)
    assert (told.x, told.made, hasattr(told, "late")) == (1, ["here"], False)
    loud_attrs = object.__new__(LoudAttrs)
    object.__setattr__(loud_attrs, "x", 7)
    loud_attrs.made = 2
    assert again(loud_attrs) == loud_attrs
    tuned = dict.__new__(Tuned)
    tuned["a"] = 1
    assert type(again(tuned)) is Tuned
    assert again(tuned) == {"a": 1}


def test_a_pydantic_model_comes_back_by_field_name_with_extras_and_private_attributes():
    form = {"__object__": f"{__name__}:LoudModel", "fields": {"x": 3}, "extra": {"z": [4]}}
    told = decode(form, no_task)
    assert (told.x, told.z, told.model_extra, told._private) == (3, [4], {"z": [4]}, [5])
    assert told._private is not LoudModel.__private_attributes__["_private"].default
    assert Encoder().encode(told) == form
    model = Model(x=[1], why=(2,))
    assert again(model) == model
    assert again(model).model_dump(by_alias=True) == {"x": [1], "why": (2,)}


class Root(pydantic.RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Refusal(ValueError):
    code: int


@dataclasses.dataclass
class Column(list[Any]):
    unit: str = "m"


def test_classes_with_fields_that_are_also_something_else_come_back():
    assert again(Root([1, 2])) == Root([1, 2])
    assert again(Refusal(3)).code == 3
    column = Column("s")
    column.append((1,))
    told = again(column)
    assert (type(told), told.unit, list(told)) == (Column, "s", [(1,)])


def test_an_attrs_class_that_keeps_its_hash_can_be_hashed_when_it_comes_back():
    assert {again(Cached(1))} == {Cached(1)}


# Futures


class Upstream:
    """What stands for a task here."""

    def get_result(self) -> int:
        return 5

    def to_json(self) -> Any:
        return {}

    def get_upstreams(self) -> Any:
        return ()


def test_tasks_come_from_the_caller_by_name_and_key():
    asked = []

    def of_task(name: str, key: str) -> Any:
        asked.append((name, key))
        return Upstream()

    task = {"__task__": "m.Job", "__key__": "0" * 32}
    decoded = decode({"a": [task, {"__tuple__": [{"__item__": "k", "of": task}]}]}, of_task)
    assert isinstance(decoded["a"][0], Upstream)
    assert type(decoded["a"][1][0]) is Item
    assert decoded["a"][1][0].key == "k"
    assert asked == [("m.Job", "0" * 32)] * 2
    futures = decode({"__future_dict__": {"a": {"__future_list__": [task]}}}, of_task)
    assert (type(futures), type(futures["a"])) == (FutureDict, FutureList)
    assert futures.get_result() == {"a": [5]}


def test_our_futures_come_back():
    value = FutureDict({(1, 2): FutureList([Const([1])[0], Const(None)])})
    assert again(value).get_result() == {(1, 2): [1, None]}
    assert again([InputFile("a/b"), InputFile("\ud83d")]) == [InputFile("a/b"), InputFile("\ud83d")]


def test_a_task_that_the_caller_does_not_know_is_told_with_its_place():
    with pytest.raises(UndecodableError, match=r"Choose\(n=\.\.\.\)\['a'\]\[1\] .*no task m\.Job"):
        decode({"a": [1, {"__task__": "m.Job", "__key__": "0"}]}, no_task, where="Choose(n=...)")


# What does not come back


class Delayed(Upstream):
    pass


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.arange(3), "by its digest"),
        (np.datetime64("2024-01-01"), "by its digest"),
        (golden_values.Own(3), r"golden_values:Own.*__task_args__"),
        (lambda: 1, "lambda or closure"),
        (Delayed(), "a Future of a class"),
    ],
    ids=["array", "datetime64", "task_args", "lambda", "foreign future"],
)
def test_what_the_form_does_not_tell_is_refused_with_what_and_where(value, why):
    form = Encoder(lambda function: "digest").encode([1, {"a": (value,), "b": 2}])
    with pytest.raises(
        UndecodableError, match=rf"^Choose\(n=\.\.\.\)\[1\]\['a'\]\[0\] can't be decoded.*{why}"
    ):
        decode(form, no_task, where="Choose(n=...)")


def test_the_error_is_ours_and_a_value_error():
    assert issubclass(UndecodableError, TaskprocError)
    assert issubclass(UndecodableError, ValueError)


def test_a_local_class_comes_back_only_through_a_way_to_find_it():
    @dataclasses.dataclass
    class Local:
        x: int

    form = stored(Local(1))
    with pytest.raises(UndecodableError, match=r"<locals>\.Local is not there.*import it first"):
        decode(form, no_task)
    assert decode(form, no_task, {form["__object__"]: Local}.get) == Local(1)


FORMS = [
    {"__object__": "NAME", "fields": {}},
    {"__enum__": "NAME", "name": "RED"},
    {"__subclass__": "NAME", "value": 1},
    {"__class__": "NAME"},
    {"__function__": "NAME"},
    {"__default_dict__": {}, "default": {"__class__": "NAME"}},
    {"__partial__": {"__function__": "NAME"}, "args": [], "keywords": {}},
    {"__array__": "<f8", "shape": [0], "class": "NAME"},
    {"__dtype__": {"type": "NAME", "str": "<f8"}},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: next(iter(form)))
def test_nothing_is_imported_because_stored_text_names_it(form, tmp_path):
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\n")
    (tmp_path / "lazy.py").write_text(
        "def __getattr__(name):\n    import trap\n    raise AttributeError(name)\n"
    )
    code = (
        "import json, sys, numpy, lazy\n"
        "from taskproc.core.arguments import decode\n"
        "from taskproc.errors import UndecodableError\n"
        "for name in ('trap:Job', 'lazy:trap', 'lazy:trap.Job', 'antigravity:x', 'nowhere:x', 'x', ':'):\n"
        f"    form = json.loads({json.dumps(form)!r}.replace('NAME', name))\n"
        "    try:\n        print(decode(form, None))\n        sys.exit(name)\n"
        "    except UndecodableError as error:\n        print(error)\n"
        "sys.exit('trap' in sys.modules or 'antigravity' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "sprung").exists()


def test_nothing_that_stored_text_names_is_called():
    called = []

    class Trap(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            called.append(args)

        def __instancecheck__(cls, instance: object) -> bool:
            called.append(instance)
            return False

    class Job(metaclass=Trap):
        def __init__(self) -> None:
            called.append(self)

    for form in FORMS:
        with pytest.raises(UndecodableError):
            decode(form, no_task, lambda name: Job)
    assert called == []


def test_find_loaded_finds_what_has_a_name_and_runs_nothing():
    module = types.ModuleType("a_module_of_this_test")

    class Meta(type):
        @property
        def told(cls) -> None:
            raise AssertionError("ran")

    class Thing(metaclass=Meta):
        @staticmethod
        def plain() -> None: ...

        @property
        def told(self) -> None: ...

    module.Thing, module.here = Thing, Thing()  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        assert find_loaded("a_module_of_this_test:Thing.plain") is Thing.plain
        assert find_loaded("a_module_of_this_test:Thing.mro") is None
        assert find_loaded("a_module_of_this_test:here.told") is None
    finally:
        del sys.modules[module.__name__]
    assert find_loaded("builtins:str.upper") is str.upper
    assert find_loaded("collections:Counter.keys") is dict.keys


# Classes that have changed since


def changed(old: Any, new: Any) -> str:
    """What is said of a value of `old` once its class has become `new`."""
    kind = old if isinstance(old, type) else type(old)
    new.__module__, new.__qualname__ = kind.__module__, kind.__qualname__
    form = stored(old)
    with pytest.raises(UndecodableError) as raised:
        decode(form, no_task, lambda name: new)
    return str(raised.value)


def test_a_class_with_other_fields_than_then_gives_no_value():
    @dataclasses.dataclass
    class More:
        x: int
        y: Any
        z: int = 3

    @dataclasses.dataclass
    class Fewer:
        x: int

    assert "are x, y, z now; when this was stored they were x, y" in changed(Point(1), More)
    assert "are x now; when this was stored they were x, y" in changed(Point(1), Fewer)
    assert "are a, b now" in changed(Triple(1, 2), NamedTuple("Triple", [("a", int), ("b", int)]))
    assert "are a, b, d now" in changed(
        Triple(1, 2), NamedTuple("Triple", [("a", int), ("b", int), ("d", int)])
    )


def test_a_class_that_is_of_another_kind_now_gives_no_value():
    class Plain:
        pass

    class Own:
        __task_args__ = (1,)

    @dataclasses.dataclass
    class Derived(list[Any]):
        x: int
        y: int

    assert "was a class with fields" in changed(Point(1), Plain)
    assert "was a class with fields" in changed(Point(1), Own)
    assert "derived from no built-in class" in changed(Point(1, 2), Derived)
    assert "was a class with fields" in changed(Pair(1, "a"), Plain)
    assert "was an enum" in changed(Color.RED, Plain)
    assert "was an enum" in changed(Color.RED, enum.Flag("Color", "RED"))
    assert "no member 'RED' any more" in changed(Color.RED, enum.Enum("Color", "BLUE"))
    assert "was a subclass of a built-in class" in changed(golden_values.Text("a"), Plain)
    assert "not a int" in changed(golden_values.Text("a"), type("Text", (int,), {}))


def test_a_thing_that_is_found_under_a_name_not_its_own_gives_no_value():
    for form in FORMS[:7]:
        with pytest.raises(UndecodableError, match=r"something else|not stand|was a"):
            decode(form, no_task, lambda name: Point)
    with pytest.raises(UndecodableError, match="something else"):
        decode({"__function__": "golden_values:twice"}, no_task, lambda name: len)


# Text that no Encoder has written


def test_what_a_plugin_has_encoded_does_not_come_back():
    with pytest.raises(UndecodableError, match="a plugin said"):
        decode({"__registered__": "pandas:DataFrame", "value": {}}, no_task)


@pytest.mark.parametrize(
    "form",
    [
        {"__set__": [[1]]},
        {"__set__": [1, True]},
        {"__dict__": [[1, 2], [1.0, 3]]},
        {"__dict__": [[1]]},
        {"__tuple__": 5},
        {"__tuple__": [1], "more": 2},
        {"__unknown__": 1},
        {"__int__": "ten"},
        {"__float__": "1e5"},
        {"__str__": "zz"},
        {"__complex__": [1]},
        {"__complex__": ["a", "b"]},
        {"__range__": ["a"]},
        {"__datetime__": "yesterday"},
        {"__datetime__": "2024-01-01T00:00:00", "zone": 5},
        {"__zone__": "../../etc/passwd"},
        {"__zone__": "No/Where"},
        {"__decimal__": "x"},
        {"__fraction__": [1, 0]},
        {"__path__": "a", "class": "Popen"},
        {"__enum__": "golden_values:Color"},
        {"__enum__": "golden_values:Access", "value": 64},
        {"__object__": "golden_values:Point"},
        {"__object__": "golden_values:Point", "fields": 3},
        {"__object__": "golden_values:Point", "fields": {"x": 1}, "extra": {}},
        {"__future_list__": [1]},
        {"__task__": "m.Job"},
        {"__input_file__": ""},
        {"__default_dict__": {}, "default": 5},
        {"__partial__": 5, "args": [], "keywords": {}},
        {"__scalar__": "int8", "value": 1},
        {"__scalar__": "|i1", "value": 300},
        {"__array__": "f8", "shape": [0]},
        {"__array__": "|O", "shape": [3], "items": [1]},
        {1: 2},
        (1, 2),
        b"a",
    ],
    ids=str,
)
def test_a_form_that_no_encoder_has_written_is_refused(form):
    with pytest.raises(UndecodableError, match=r"^value(\[1\])? can't be decoded"):
        decode(form, no_task)
    with pytest.raises(UndecodableError, match=r"^value\['a'\]\[0\]"):
        decode({"a": [form]}, no_task)


JSON = st.recursive(
    ATOMS.filter(lambda value: value is None or isinstance(value, bool | int | str))
    | st.sampled_from(["builtins:int"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["__tuple__", "__dict__", "__object__", "fields", "__set__", "value", "args"]),
            inner,
            max_size=3,
        )
    ),
)


@given(JSON)
def test_whatever_the_text_is_it_gives_a_value_or_our_error(form):
    with contextlib.suppress(UndecodableError):
        decode(form, no_task)


# Depth


def set_default(value: Any) -> Any:
    return collections.defaultdict(None, {1: value})


def wrapped(wrap: Any, depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: [value],
        lambda value: (value, 2),
        lambda value: {"a": value},
        lambda value: {1: value},
        set_default,
        lambda value: Point(1, value),
        lambda value: Triple(value, 1),
        lambda value: Model(x=value),
        lambda value: frozenset({value}),
        Const,
    ],
    ids=["list", "tuple", "dict", "pairs", "defaultdict", "dataclass", "namedtuple", "model", "set", "const"],
)
def test_what_can_be_encoded_is_not_too_deep_to_be_decoded(wrap):
    value = wrapped(wrap, 100)
    form = json.loads(canonical(Encoder().encode(value)))
    assert Encoder().encode(decode(form, no_task)) == form


def test_what_is_nested_deeper_than_any_encoder_goes_is_refused():
    for wrap in (
        lambda form: [form],
        lambda form: {"__tuple__": [form]},
        lambda form: {"base": form, "shape": []},
    ):
        form = wrapped(wrap, 5_000)
        with pytest.raises(UndecodableError, match=r"more than 100 deep|RecursionError"):
            decode({"__dtype__": form} if "base" in form else form, no_task)
