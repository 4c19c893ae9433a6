"""core/arguments.py and what it is made of: which values are one and the same, and which are refused."""

from __future__ import annotations

import array
import collections
import contextlib
import copy
import dataclasses
import datetime
import decimal
import functools
import inspect
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import types
from inspect import Parameter
from pathlib import Path
from typing import Any

import golden_values
import numpy as np
import pydantic
import pytest
from golden_values import Color, Pair, Point, Text
from hypothesis import given, settings
from hypothesis import strategies as st
from typed_values import ATOMS, HASHABLE, PLAIN_VALUES, RELATIVES, VALUES, Attrs, Model, typed

from taskproc.core.arguments import (
    ArgumentType,
    Binder,
    Encoder,
    Registration,
    canonical,
    default_factories,
    digest,
    fresh,
)
from taskproc.core.arguments.hidden_state import hides_state
from taskproc.core.future import Const, FutureDict, FutureList
from taskproc.errors import ArgumentError

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden_keys.json").read_text())


def key(value: Any) -> str:
    return digest(Encoder().encode(value))


def code_of(function: types.FunctionType) -> Any:
    return function.__code__.co_code.hex()


# Which values are the same

DRAWN, PLAIN_DRAWN = 6, 5
BATCH = 2 * DRAWN + PLAIN_DRAWN
PAIRS = BATCH * (BATCH - 1) // 2
"""How many pairs of values one example compares."""


def test_two_values_have_one_key_if_and_only_if_they_are_equal_in_value_and_type():
    compared = 0
    seen: dict[str, Any] = {}

    @given(
        st.lists(st.tuples(VALUES, st.sampled_from(RELATIVES)), min_size=DRAWN, max_size=DRAWN),
        st.lists(PLAIN_VALUES, min_size=PLAIN_DRAWN, max_size=PLAIN_DRAWN),
    )
    def compare(values: list[Any], plain: list[Any]) -> None:
        nonlocal compared
        batch = [value for value, _ in values] + [relative(value) for value, relative in values] + plain
        told = [(key(value), typed(value)) for value in batch]
        for (key_a, typed_a), (key_b, typed_b) in itertools.combinations(told, 2):
            assert (key_a == key_b) == (typed_a == typed_b), (typed_a, typed_b)
            compared += 1
        for its_key, its_type in told:  # and with all that other examples had
            assert seen.setdefault(its_key, its_type) == its_type

    compare()
    assert compared >= PAIRS * settings().max_examples


def test_the_nightly_profile_compares_a_million_pairs():
    assert settings.get_profile("nightly").max_examples * PAIRS >= 1_000_000
    assert settings.get_profile("taskproc").max_examples * PAIRS >= 5_000


@given(VALUES)
def test_the_json_form_survives_json(value):
    encoded = Encoder().encode(value)
    assert json.loads(canonical(encoded)) == encoded


@given(VALUES)
def test_a_fresh_copy_has_the_key_of_the_original_and_shares_nothing_that_can_change(value):
    copied = fresh(value)
    before = typed(value)
    assert typed(copied) == before
    assert key(copied) == key(value)
    change(value)
    assert typed(copied) == before


def change(value: Any) -> None:
    """Empty every container that a value holds."""
    if isinstance(value, Const):
        return  # a Future is handed on as it is
    if isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, functools.partial):
        parts = [*value.args, *value.keywords.values()]
    else:
        parts = [
            getattr(value, name) for name in ("x", "y", "start", "stop", "_hidden") if hasattr(value, name)
        ]
    for part in parts:
        change(part)
    if isinstance(value, list | dict | set | bytearray):
        value.clear()
    elif isinstance(value, Point | Attrs):
        value.x = "changed"


@given(st.dictionaries(HASHABLE, VALUES, min_size=2, max_size=5), st.randoms())
def test_the_order_of_a_dict_does_not_matter(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert key(dict(items)) == key(value)


@given(st.sets(HASHABLE, min_size=2, max_size=5), st.randoms())
def test_the_order_of_a_set_does_not_matter(value, random):
    items = list(value)
    random.shuffle(items)
    assert key(set(items)) == key(value)
    assert key(frozenset(items)) == key(frozenset(value))


def test_keys_are_those_that_earlier_versions_and_other_pythons_gave():
    assert golden_values.digests(golden_values.values() | golden_values.arrays()) == GOLDEN


def test_no_two_golden_values_share_a_key():
    assert len(set(GOLDEN.values())) == len(GOLDEN)


def test_other_processes_with_other_hash_seeds_give_the_same_keys():
    code = "import golden_values as g, json; print(json.dumps(g.digests(g.values())))"
    for seed in ("0", "1", "4242"):
        path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        answer = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        told = json.loads(answer.stdout)
        assert told == {name: GOLDEN[name] for name in told}


def test_json_values_are_written_as_they_are():
    plain = {"n": 6, "k": [1, 2.5, "x", None, True, {"a": {}}]}
    assert Encoder().encode(plain) == plain


def test_types_that_json_lacks_are_marked():
    encode = Encoder().encode
    assert encode((1, 2)) == {"__tuple__": [1, 2]}
    assert encode({1: "a"}) == {"__dict__": [[1, "a"]]}
    assert encode({2, 1}) == {"__set__": [1, 2]}
    assert encode(float("nan")) == {"__float__": "nan"}
    assert encode(Point(1, 2)) == {"__object__": "golden_values:Point", "fields": {"x": 1, "y": 2}}


def test_a_subclass_of_a_builtin_class_is_told_from_its_base():
    class Words(list):
        pass

    assert len({key(Words("ab")), key(["a", "b"]), key(Text("ab")), key("ab")}) == 4
    assert key(Words("ab")) == key(Words("ab"))


def test_a_subclass_whose_attributes_would_be_lost_is_refused():
    class Words(list):
        pass

    class Slotted(str):
        __slots__ = ("language",)

    words, slotted = Words("ab"), Slotted("ab")
    assert key(slotted)
    words.language = "en"
    slotted.language = "en"
    for value in (words, slotted):
        with pytest.raises(ArgumentError, match="attributes would be lost"):
            key(value)


@dataclasses.dataclass
class Labelled(datetime.datetime):
    label: str


@dataclasses.dataclass
class Refused(PermissionError):
    label: str


@dataclasses.dataclass
class Numbers(array.array):  # type: ignore[type-arg]
    label: str


@pytest.mark.parametrize(
    "value",
    [
        os.stat("."),
        time.localtime(0),
        datetime.datetime.__new__(Labelled, 2024, 1, 1),
        Refused("label"),
        array.array.__new__(Numbers, "i", [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_more_than_can_be_seen_is_refused(value):
    if isinstance(value, Labelled | Numbers):
        value.label = "label"
    with pytest.raises(ArgumentError, match=type(value).__name__):
        key(value)


BASES = [
    int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
]  # fmt: skip


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_no_class_made_in_python_is_taken_for_one_that_hides_something(base):
    class Mixin:
        __slots__ = ()

    kinds = [base]
    for slots in (None, (), ("x", "y"), ["x", "__dict__"], "x", {"x": "text"}):
        names = {} if slots is None else {"__slots__": slots}
        for bases in ((base,), (Mixin, base), (base, Mixin), (kinds[-1],)):
            with contextlib.suppress(TypeError):  # slots are not for every class
                kinds.append(type("Made", bases, dict(names)))
    assert len(kinds) > 8
    assert [kind.__mro__ for kind in kinds if hides_state(kind, base)] == []


def test_a_subclass_of_datetime_is_told_from_its_base():
    class Moment(datetime.datetime):
        pass

    assert key(Moment(2024, 1, 1)) == key(Moment(2024, 1, 1))
    assert key(Moment(2024, 1, 1)) != key(datetime.datetime(2024, 1, 1))


def test_an_ordered_dict_keeps_its_order_and_a_default_dict_its_default():
    od, dd = collections.OrderedDict, collections.defaultdict
    assert key(od(a=1, b=2)) != key(od(b=2, a=1))
    assert len({key(dd(list)), key(dd(set)), key(dd(None)), key({})}) == 4


def test_a_decimal_is_told_by_its_digits_whatever_the_decimal_context_says():
    texts = ["1E+5", "1E-50", "-0", "Infinity", "sNaN7", "1.00000000000000000000000000000000000001"]
    before = [key(decimal.Decimal(text)) for text in texts]
    with decimal.localcontext(decimal.Context(prec=2, capitals=0)):
        assert [key(decimal.Decimal(text)) for text in texts] == before


def test_combined_flags_are_told_apart_from_single_ones():
    both = golden_values.Access.READ | golden_values.Access.WRITE
    assert len({key(both), key(golden_values.Access.READ), key(golden_values.Access(0)), key(3)}) == 4


# Classes of users


def test_every_field_of_a_dataclass_counts_and_nothing_else():
    @dataclasses.dataclass(slots=True, frozen=True)
    class Slotted:
        x: int
        quiet: int = dataclasses.field(default=0, repr=False, compare=False)

    @dataclasses.dataclass
    class Cached:
        x: int

        @functools.cached_property
        def square(self) -> int:
            return self.x**2

    assert key(Slotted(1)) != key(Slotted(1, quiet=1))
    cached = Cached(2)
    before = key(cached)
    assert cached.square == 4
    assert key(cached) == before


def test_a_subclass_of_a_dataclass_that_is_none_itself_is_refused_if_it_holds_more():
    class Named(Point):
        pass

    assert key(Named(1)) != key(Point(1))
    named = Named(1)
    named.name = "p"
    with pytest.raises(ArgumentError, match=r"'name' is not a field.*@dataclass"):
        key(named)


class OpenModel(pydantic.BaseModel, extra="allow"):
    x: int


def test_attrs_classes_and_pydantic_models_are_told_by_their_fields():
    assert key(Attrs(1)) == key(Attrs(1))
    assert (
        len({key(Attrs(1)), key(Attrs(2)), key(Attrs(1, [1])), key(Model(x=1)), key(Model(x=1, why=[2]))})
        == 5
    )
    assert key(OpenModel(x=1, z=2)) != key(OpenModel(x=1, z=3))


def test_private_attributes_of_a_pydantic_model_do_not_count():
    a, b = Model(x=1), Model(x=1)
    b._private = 5
    assert key(a) == key(b)


def test_task_args_says_what_an_object_is_made_of_as_attribute_property_or_method():
    class Base:
        def __init__(self, n: int) -> None:
            self.n = n

    class Method(Base):
        def __task_args__(self) -> Any:
            return (self.n,)

    class Attribute:
        def __init__(self, n: int) -> None:
            self.__task_args__ = n

    for make in (Method, Attribute, golden_values.Own):
        assert key(make(1)) == key(make(1)) != key(make(2))
    assert key(Method(1)) != key(Attribute(1))


def test_a_stranger_s_future_is_told_by_its_class_and_its_json():
    class Delayed:
        def __init__(self, n: int) -> None:
            self.n = n

        def get_result(self) -> int:
            return self.n

        def to_json(self) -> Any:
            return {"n": (self.n,)}

        def get_upstreams(self) -> Any:
            return ()

    encoded = Encoder().encode(Delayed(1))
    assert encoded["__future__"].endswith("Delayed")
    assert encoded["json"] == {"n": {"__tuple__": [1]}}


# numpy


def test_an_array_is_told_by_its_content_not_by_how_it_lies_in_memory():
    grid = np.arange(12.0).reshape(3, 4)
    assert key(np.asfortranarray(grid)) == key(grid) == key(grid.copy())
    wide = np.arange(24.0)[::2].reshape(3, 4)
    assert key(wide) == key(wide.copy())
    assert key(np.arange(8)[::2]) == key(np.array([0, 2, 4, 6]))


def test_the_gaps_between_the_fields_of_a_structured_array_do_not_count():
    dtype = np.dtype([("a", "i1"), ("b", "f8"), ("c", "i2", (2,))], align=True)
    a = np.frombuffer(b"\0" * dtype.itemsize * 2, dtype=dtype).copy()
    b = a.copy()
    b.view("u1").reshape(2, -1)[:, 1:8] = 7
    assert key(a) == key(b)
    b["c"][1, 0] = 1
    assert key(a) != key(b)


def test_long_doubles_are_told_by_value():
    a = np.array([0.1, 2.0], dtype=np.longdouble)
    assert key(a) == key(a.copy()) != key(a * 2)
    assert key(a[0]) == key(np.longdouble(0.1)) != key(np.longdouble(0.2))


def test_arrays_of_variable_length_strings_are_told_by_their_text():
    long = "a text that is too long to stand in the array itself " * 3
    a = np.array(["a", long], dtype=np.dtypes.StringDType())
    b = np.array(["a", "".join(list(long))], dtype=np.dtypes.StringDType())
    assert key(a) == key(b) != key(np.array(["a", long[:-1] + "x"], dtype=np.dtypes.StringDType()))


def test_a_masked_array_is_refused_because_its_mask_would_be_lost():
    with pytest.raises(ArgumentError, match="MaskedArray"):
        key(np.ma.masked_array([1, 2], mask=[True, False]))


def test_an_object_array_is_told_by_its_items_and_refused_if_one_of_them_is():
    a = np.array([[1], (1,)], dtype=object)
    assert key(a) == key(copy.deepcopy(a))
    with pytest.raises(ArgumentError, match=r"n\[1\]"):
        Encoder().encode(np.array([1, object()], dtype=object), "n")


# Functions and classes


def test_a_function_goes_by_name_and_one_without_a_name_by_its_code():
    def local(x: int) -> int:
        return x

    encoder = Encoder(code_of)
    assert encoder.encode(golden_values.twice) == {"__function__": "golden_values:twice"}
    assert encoder.encode(local) == {"__code__": code_of(local)}
    assert encoder.encode([lambda: 1]) != encoder.encode([lambda x: x])


def test_a_function_that_was_since_replaced_does_not_go_by_its_name(monkeypatch):
    old = golden_values.twice
    monkeypatch.setattr(golden_values, "twice", lambda x: x + x)
    assert "__code__" in Encoder(code_of).encode(old)


def test_a_lambda_without_an_encoder_for_code_is_refused_with_the_way_out():
    with pytest.raises(ArgumentError, match=r"A\(f=\.\.\.\)\[0\].*top level of a module"):
        Encoder().encode([lambda: 1], "A(f=...)")


def test_a_class_made_in_a_function_is_refused_because_another_of_its_name_may_be_meant():
    class Local:
        pass

    with pytest.raises(ArgumentError, match=r"Local can't be found.*top level"):
        key(Local)


# Classes that plugins register


class Table:
    """What no Encoder knows by itself."""

    def __init__(self, *rows: Any) -> None:
        self.rows = rows


def registering(kind: type, encode: Any) -> Encoder:
    name = f"{kind.__module__}:{kind.__qualname__}"
    return Encoder(find_type={name: Registration(ArgumentType(name, encode), "plugin 'tables'")}.get)


def test_a_registered_class_is_told_by_its_name_and_by_what_the_plugin_gives():
    encoder = registering(Table, lambda table: list(table.rows))
    assert encoder.encode([Table(1, (2,))]) == [
        {"__registered__": f"{__name__}:Table", "value": [1, {"__tuple__": [2]}]}
    ]
    # In itself, too.
    assert encoder.encode(Table(Table())) != encoder.encode(Table(Table(Table())))
    assert encoder.encode({"__registered__": f"{__name__}:Table", "value": []}) != encoder.encode(Table())
    assert key({"__registered__": 1}) != key({"__registered__": 2})


def test_a_subclass_of_a_registered_class_is_not_registered():
    class Indexed(Table):
        pass

    with pytest.raises(ArgumentError, match="Indexed can't be part"):
        registering(Table, lambda table: list(table.rows)).encode(Indexed())


@pytest.mark.parametrize(
    "value",
    [Point(1), Text("a"), Pair(1, "a"), golden_values.Own(1), Color.RED, 1, None, golden_values.twice, {}],
    ids=lambda value: type(value).__name__,
)
def test_a_class_that_has_a_form_of_its_own_keeps_it(value):
    def fail(value: Any) -> Any:
        raise AssertionError("asked")

    assert registering(type(value), fail).encode(value) == Encoder().encode(value)


class Panic(BaseException):
    pass


@pytest.mark.parametrize("error", [ZeroDivisionError("on purpose"), SystemExit(3), Panic("at the disco")])
def test_a_plugin_that_fails_to_encode_is_named_with_class_and_place(error):
    def fail(table: Table) -> Any:
        raise error

    with pytest.raises(ArgumentError) as raised:
        registering(Table, fail).encode({"a": [Table()]}, "Job(x=...)")
    message = str(raised.value)
    for part in (
        "Job(x=...)['a'][0]",
        f"{__name__}:Table",
        "plugin 'tables'",
        type(error).__name__,
        str(error),
    ):
        assert part in message


def test_what_a_plugin_gives_and_nobody_knows_is_told_with_plugin_class_and_place():
    encoder = registering(Table, lambda table: {"rows": list(table.rows)})
    with pytest.raises(ArgumentError) as raised:
        encoder.encode([Table(1, object())], "Job(x=...)")
    message = str(raised.value)
    assert f"Job(x=...)[0] ({__name__}:Table by plugin 'tables')['rows'][1]: an object of class" in message
    with pytest.raises(ArgumentError, match="contains itself"):
        registering(Table, lambda table: [table]).encode(Table())


def test_for_a_class_that_a_known_plugin_helps_with_the_error_names_it():
    frame = type("DataFrame", (), {"__module__": "pandas.core.frame", "__qualname__": "DataFrame"})()
    with pytest.raises(
        ArgumentError, match=r"install taskproc-dataframes, or pass it as the output of a task"
    ):
        key(frame)


# What is refused


@pytest.mark.parametrize(
    "value",
    [object(), threading.Lock(), iter([]), sys, memoryview(b""), types.SimpleNamespace(a=1), [].append],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_naming_class_place_and_ways_out(value):
    with pytest.raises(ArgumentError) as raised:
        Encoder().encode([1, {"a": (value,)}], "Choose(n=...)")
    message = str(raised.value)
    assert "Choose(n=...)[1]['a'][0]" in message
    assert type(value).__qualname__ in message
    assert "dataclass" in message
    assert "output of a task" in message
    assert isinstance(raised.value, TypeError)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_contains_itself_is_refused():
    in_list: list[Any] = []
    in_list.append(in_list)
    in_dict: dict[str, Any] = {}
    in_dict["me"] = ({1: in_dict},)
    point = Point(1)
    point.y = point
    futures: FutureList[Any] = FutureList()
    futures.append(futures)
    for value in (in_list, in_dict, point, futures):
        with pytest.raises(ArgumentError, match="contains itself"):
            key(value)


def test_what_is_nested_too_deep_is_refused_and_what_is_not_is_taken():
    assert key(nested(90))
    with pytest.raises(ArgumentError, match="more than 100 deep"):
        key(nested(100_000))
    value: Any = 1
    for _ in range(90):
        value = Point(1, value)
    assert key(value)


# Fresh copies


def test_immutable_values_are_returned_themselves():
    for value in (None, 1, "x", 1.5, b"x", Path("a"), golden_values.twice, Point, sys):
        assert fresh(value) is value


def test_futures_and_functions_inside_are_kept_and_containers_of_futures_are_copied():
    const = Const([1])
    futures = FutureList([const])
    mapped = FutureDict({"a": futures})
    given = {"f": [golden_values.twice], "c": (const,), "l": futures, "d": mapped}
    copied = fresh(given)
    assert copied["f"] == [golden_values.twice]
    assert copied["c"][0].value == [1]
    assert copied["c"][0].value is not const.value
    assert type(copied["l"]) is FutureList
    assert copied["l"] is not futures
    assert copied["l"][0].value == [1]
    assert type(copied["d"]) is FutureDict
    assert copied["d"]["a"][0].value == [1]


def test_one_object_in_two_places_becomes_two_as_the_key_does_not_tell_it():
    shared = [Point(1)]
    copied = fresh({"a": shared, "b": [shared], "p": shared[0]})
    assert copied["a"] == copied["b"][0] == shared
    assert len({id(shared), id(copied["a"]), id(copied["b"][0])}) == 3
    assert copied["p"] is not copied["a"][0]


def test_dicts_are_copied_in_the_order_of_their_keys():
    given = {"b": {10: "x", 9: "y"}, "a": Point(1, {"d": 1, "c": 2})}
    copied = fresh(given)
    assert copied == given
    assert list(copied) == ["a", "b"]
    assert list(copied["b"]) == [9, 10]
    assert list(copied["a"].y) == ["c", "d"]
    assert list(fresh(collections.OrderedDict(b=1, a=2))) == ["b", "a"]


def test_an_array_and_an_object_are_copied():
    array, point = np.zeros(3), Point(1, [2])
    copied = fresh([array, point])
    copied[0][0] = 1
    copied[1].y.append(3)
    assert array[0] == 0
    assert point == Point(1, [2])


def test_what_cannot_be_copied_is_an_error_that_says_how_to_help():
    @dataclasses.dataclass
    class Guarded:
        lock: Any

    with pytest.raises(ArgumentError, match=r"Guarded can't be copied.*__deepcopy__"):
        fresh([Guarded(threading.Lock())])


# Binding


def test_arguments_by_place_by_name_and_by_default_are_the_same():
    def __init__(self, n, k=1, *, z=5): ...

    binder = Binder(__init__, "x.A")
    expected = {"n": 1, "k": 1, "z": 5}
    for args, kwargs in [((1,), {}), ((1, 1), {}), ((), {"k": 1, "n": 1}), ((1,), {"z": 5})]:
        bound = binder.bind(args, kwargs)
        assert bound == expected
        assert list(bound) == ["n", "k", "z"]


NAMES = ("a", "b", "c", "d", "e")


@st.composite
def signatures(draw: Any) -> inspect.Signature:
    """A signature of a constructor, with parameters of every kind."""
    kinds = sorted(draw(st.lists(st.sampled_from(list(inspect._ParameterKind)), max_size=len(NAMES))))
    parameters, has_default = [], False
    for name, kind in zip(NAMES, kinds, strict=False):
        is_variable = kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        if is_variable and any(p.kind == kind for p in parameters):
            continue
        default: Any = Parameter.empty
        # Behind a parameter with a default, one that may be given by place must have one too.
        if not is_variable and (draw(st.booleans()) or (has_default and kind != Parameter.KEYWORD_ONLY)):
            default, has_default = draw(ATOMS), True
        parameters.append(Parameter(name, kind, default=default))
    return inspect.Signature([Parameter("self", Parameter.POSITIONAL_ONLY), *parameters])


@st.composite
def call_forms(draw: Any) -> tuple[inspect.Signature, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """A signature, and ways to give its parameters the same values."""
    signature = draw(signatures())
    parameters = list(signature.parameters.values())[1:]
    values = {p.name: draw(ATOMS) for p in parameters if p.default is Parameter.empty or draw(st.booleans())}
    rest = draw(st.lists(ATOMS, max_size=2))
    more = draw(st.dictionaries(st.sampled_from(["x", "y", "é"]), ATOMS, max_size=2))
    return signature, [draw(one_call(parameters, values, rest, more)) for _ in range(4)]


@st.composite
def one_call(
    draw: Any, parameters: list[Parameter], values: dict[str, Any], rest: list[Any], more: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    by_place = [p for p in parameters if p.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    has_rest = bool(rest) and any(p.kind == Parameter.VAR_POSITIONAL for p in parameters)
    # Up to the last that can't be given otherwise.
    fewest = max(
        (n for n, p in enumerate(by_place, 1) if has_rest or (p.kind == 0 and p.name in values)), default=0
    )
    placed = by_place[: draw(st.integers(fewest, len(by_place)))]
    args = [values.get(p.name, p.default) for p in placed] + (rest if has_rest else [])
    kwargs = dict(more) if any(p.kind == Parameter.VAR_KEYWORD for p in parameters) else {}
    for p in parameters:
        can_be_named = p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) and p not in placed
        if can_be_named and (p.name in values or draw(st.booleans())):
            kwargs[p.name] = values.get(p.name, p.default)
    shuffled = draw(st.permutations(list(kwargs)))
    return tuple(args), {name: kwargs[name] for name in shuffled}


@given(call_forms())
def test_however_a_call_is_written_its_arguments_have_one_key(forms):
    signature, calls = forms

    def __init__(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return typed(dict(bound.arguments))

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    binder = Binder(__init__, "x.A")
    bound = [binder.bind(args, kwargs) for args, kwargs in calls]
    assert len({canonical({name: Encoder().encode(one[name]) for name in one}) for one in bound}) == 1
    assert [list(one) for one in bound] == [list(signature.parameters)[1:]] * len(calls)
    # And what was bound is what a plain call would have been given.
    assert {binder.call(__init__, "me", one) for one in bound} == {
        __init__("me", *args, **kwargs) for args, kwargs in calls
    }


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"n": 2}), ((1,), {"q": 2}), ((1,), {"self": 2})]
)
def test_arguments_that_do_not_fit_are_an_error_that_shows_the_signature(args, kwargs):
    def __init__(self, n: int, k: int = 1, *, z: int = 5) -> None: ...

    with pytest.raises(ArgumentError, match=r"x\.A: .*x\.A\(n: int, k: int = 1, \*, z: int = 5\)"):
        Binder(__init__, "x.A").bind(args, kwargs)


def test_variable_arguments_stand_under_their_names_and_are_called_again_as_given():
    def __init__(self, a, /, b=2, *rest, c, **more):
        return (self, a, b, rest, c, more)

    binder = Binder(__init__, "x.A")
    bound = binder.bind((1, 3, 4, 5), {"c": 6, "d": 7, "a": 8})
    assert bound == {"a": 1, "b": 3, "rest": (4, 5), "c": 6, "more": {"d": 7, "a": 8}}
    assert binder.call(__init__, "me", bound) == ("me", 1, 3, (4, 5), 6, {"d": 7, "a": 8})
    assert binder.bind((1,), {"c": 6}) == {"a": 1, "b": 2, "rest": (), "c": 6, "more": {}}


def test_a_plain_constructor_is_called_with_what_was_bound():
    def __init__(self, n, *, k=2):
        return (self, n, k)

    binder = Binder(__init__, "x.A")
    assert binder.call(__init__, "me", binder.bind((1,), {})) == ("me", 1, 2)


def test_a_class_without_a_constructor_takes_no_arguments():
    binder = Binder(object.__init__, "x.A")
    assert binder.bind((), {}) == {}
    with pytest.raises(ArgumentError, match=r"x\.A\(\)"):
        binder.bind((1,), {})


@dataclasses.dataclass
class Config:
    n: int
    tags: list[str] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(("cls", "name"), [(Config, "tags"), (Attrs, "hidden")])
def test_defaults_that_a_class_makes_anew_are_made_anew_at_each_binding(cls, name):
    binder = Binder(cls.__init__, "x.A", default_factories(cls))
    first, second = binder.bind((1,), {}), binder.bind((1,), {})
    assert first[name] == []
    assert first[name] is not second[name]
    assert binder.bind((1, ["a"]), {})[name] == ["a"]
