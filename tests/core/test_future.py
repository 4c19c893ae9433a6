"""core/future.py: what stands for a value that is yet to be computed."""

from __future__ import annotations

import collections
import copy
import dataclasses
import pickle
from collections.abc import Iterable
from typing import Any

import pytest

from taskproc.core.arguments import Encodable, Encoder
from taskproc.core.future import Const, Future, FutureDict, FutureList, Indexable, Item, futures_in, is_future
from taskproc.errors import ArgumentError, MissingItemError


class Fake(Indexable, Encodable):
    """As much of a task as a Future needs. Neither hashable nor comparable, as a task may be."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str, result: Any = None) -> None:
        self.task_name = f"taskfile.{name}"
        self.task_args = {"n": 6, "k": 3}
        self.result = result

    def __eq__(self, other: object) -> bool:
        raise AssertionError("tasks are not to be compared")

    def get_result(self) -> Any:
        return copy.deepcopy(self.result)

    def get_upstreams(self) -> Iterable[Any]:
        return (self,)

    def to_json(self) -> dict[str, Any]:
        return {"__task__": self.task_name, "__key__": "0"}

    def encode_with(self, encoder: Encoder) -> Any:
        return self.to_json()


class Stranger:
    """A Future of somebody who never heard of our classes."""

    def __init__(self, *tasks: Any) -> None:
        self.tasks = tasks

    def get_result(self) -> str:
        return "strange"

    def to_json(self) -> dict[str, Any]:
        return {"n": len(self.tasks)}

    def get_upstreams(self) -> Iterable[Any]:
        return iter(self.tasks)


def names(tasks: Iterable[Any]) -> list[str]:
    return [task.task_name.removeprefix("taskfile.") for task in tasks]


def found(value: Any) -> dict[str, str]:
    return {path: type(future).__name__ for path, future in futures_in(value, "x")}


def test_whatever_has_the_three_methods_is_a_future_and_nothing_else_is():
    futures = [Fake("A"), Const(1), Const(1)[0], FutureList(), FutureDict(), Stranger()]
    others = [1, "x", None, [Const(1)], {"a": Const(1)}, object(), Fake, Stranger, len]
    assert [is_future(value) for value in futures] == [True] * 6
    assert not any(is_future(value) for value in others)
    assert all(isinstance(value, Future) for value in futures)


def test_a_const_gives_its_value_and_needs_no_task():
    const = Const((1, 2))
    assert const.get_result() == (1, 2)
    assert const.value == (1, 2)
    assert list(const.get_upstreams()) == []
    assert const.to_json() == {"__const__": {"__tuple__": [1, 2]}}


def test_indexing_gives_the_future_of_the_item_and_can_be_repeated():
    task = Fake("Multi", {"foo": [41, 42]})
    item = task["foo"][1]
    assert isinstance(item, Item)
    assert item.get_result() == 42
    assert names(item.get_upstreams()) == ["Multi"]
    assert item.to_json() == {"__item__": 1, "of": {"__item__": "foo", "of": task.to_json()}}
    assert task["foo"][0:1].get_result() == [41]


def test_items_under_keys_of_other_types_are_different_futures():
    task = Fake("Multi")
    assert task[1].to_json() != task["1"].to_json()


def test_a_missing_key_names_the_task_its_arguments_the_key_and_the_keys_there_are():
    with pytest.raises(MissingItemError) as raised:
        Fake("Multi", {"foo": 1, "bar": 2})["fo"].get_result()
    message = str(raised.value)
    assert "taskfile.Multi(n=6, k=3) has no item 'fo'" in message
    assert "a dict with the keys 'foo', 'bar'" in message
    assert isinstance(raised.value, KeyError)
    assert isinstance(raised.value, IndexError)


def test_only_a_few_of_many_keys_are_named():
    with pytest.raises(MissingItemError, match=r"'0', '1', .*'9', \.\.\.$"):
        Fake("Multi", {str(n): n for n in range(1000)})["x"].get_result()


def test_an_index_out_of_range_and_a_value_without_items_are_told_as_such():
    with pytest.raises(MissingItemError, match="a list of 2 items"):
        Fake("Multi", [1, 2])[2].get_result()
    with pytest.raises(MissingItemError, match="an object of class int"):
        Fake("Multi", 5)[0].get_result()
    with pytest.raises(MissingItemError, match=r"Multi\(n=6, k=3\)\['a'\] has no item 'b': .*an empty dict"):
        Fake("Multi", {"a": {}})["a"]["b"].get_result()


def test_a_future_cannot_be_iterated_over_because_its_length_is_not_known():
    for future in (Const([1]), Fake("A"), Const([1])[0]):
        with pytest.raises(TypeError, match="not iterable"):
            list(future)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="not iterable"):
            assert 1 in future  # type: ignore[operator]
        with pytest.raises(TypeError):
            _a, _b = future  # type: ignore[misc]


def test_a_future_list_is_a_list_and_gives_the_list_of_values():
    futures = FutureList([Fake("A", 1), Const(2)])
    futures.append(Stranger())
    assert isinstance(futures, list)
    assert len(futures) == 3
    assert [future.get_result() for future in futures] == [1, 2, "strange"]
    assert futures.get_result() == [1, 2, "strange"]
    assert type(futures.get_result()) is list
    assert futures[1].get_result() == 2


def test_a_future_dict_is_a_dict_and_gives_the_dict_of_values():
    futures = FutureDict({"a": Fake("A", 1)})
    futures[2] = Const(2)  # type: ignore[index]
    assert isinstance(futures, dict)
    assert list(futures) == ["a", 2]
    assert futures.get_result() == {"a": 1, 2: 2}
    assert type(futures.get_result()) is dict
    assert FutureDict([("a", Const(1))]).get_result() == {"a": 1}


def test_what_is_made_of_a_future_list_is_a_future_list():
    one, two, three = Const(1), Fake("A", 2), Const(3)
    futures = FutureList([one, two, three])
    made = [futures[1:], futures[::-1], futures.copy(), copy.copy(futures), futures + [one], [one] + futures]
    made += [futures + futures[:0], futures * 2, 2 * futures]
    assert {type(item) for item in made} == {FutureList}
    values = [item.get_result() for item in made]
    assert values[:6] == [[2, 3], [3, 2, 1], [1, 2, 3], [1, 2, 3], [1, 2, 3, 1], [1, 1, 2, 3]]
    assert values[6:] == [[1, 2, 3], [1, 2, 3, 1, 2, 3], [1, 2, 3, 1, 2, 3]]
    assert futures[1] is two
    futures += [one]
    assert type(futures) is FutureList
    with pytest.raises(TypeError):
        futures + (one,)  # type: ignore[operator]


def test_what_is_made_of_a_future_dict_is_a_future_dict():
    one, two = Const(1), Const(2)
    futures = FutureDict({"a": one}, b=two)
    made = [futures.copy(), copy.copy(futures), futures | {"b": one}, {"b": one} | futures]
    assert {type(item) for item in made} == {FutureDict}
    assert [item.get_result() for item in made] == [
        {"a": 1, "b": 2},
        {"a": 1, "b": 2},
        {"a": 1, "b": 1},
        {"a": 1, "b": 2},
    ]
    assert FutureDict(a=one).get_result() == {"a": 1}
    with pytest.raises(TypeError):
        futures | [one]  # type: ignore[operator]


def test_lists_and_dicts_of_futures_nest():
    nested = FutureDict({"a": FutureList([Const(1), FutureDict({2: Fake("A", 3)})])})
    assert nested.get_result() == {"a": [1, {2: 3}]}
    assert names(nested.get_upstreams()) == ["A"]
    assert nested.to_json() == {
        "__future_dict__": {
            "a": {
                "__future_list__": [
                    {"__const__": 1},
                    {"__future_dict__": {"__dict__": [[2, {"__task__": "taskfile.A", "__key__": "0"}]]}},
                ]
            }
        }
    }


def test_each_upstream_is_named_once_in_order():
    a, b, c = Fake("A"), Fake("B"), Fake("C")
    futures = FutureList([a, b["x"], FutureList([a, Stranger(c, b)])])
    assert names(futures.get_upstreams()) == ["A", "B", "C"]


def test_a_member_that_is_no_future_is_an_error_that_names_its_place():
    with pytest.raises(ArgumentError, match=r"FutureList\[1\] is an object of class int.*Const\(value\)"):
        FutureList([Const(1), 2])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match=r"FutureDict\['b'\] is an object of class str"):
        FutureDict({"a": Const(1), "b": "x"})  # type: ignore[dict-item]


def test_a_member_that_is_no_future_is_found_when_it_was_added_later():
    added: FutureList[Any] = FutureList([Const(1)])
    added.append("x")  # type: ignore[arg-type]
    stored: FutureDict[str, Any] = FutureDict()
    stored["a"] = 5  # type: ignore[assignment]
    for futures in (added, stored):
        for use in (futures.get_result, futures.to_json, lambda f=futures: list(f.get_upstreams())):
            with pytest.raises(ArgumentError, match="not a Future"):
                use()


def test_a_future_list_that_contains_itself_still_knows_its_upstreams():
    futures: FutureList[Any] = FutureList([Fake("A")])
    futures.append(futures)
    assert names(futures.get_upstreams()) == ["A"]
    with pytest.raises(ArgumentError, match="contains itself"):
        futures.to_json()


def test_futures_are_found_in_lists_dicts_tuples_and_sets_with_their_paths():
    value = [1, Const(1), {"a": (Const(2), "x"), Stranger(): None}, [[Fake("A")]], {Const(3)}, frozenset()]
    assert found(value) == {
        "x[1]": "Const",
        "x[2].keys()": "Stranger",
        "x[2]['a'][0]": "Const",
        "x[3][0][0]": "Fake",
        "x[4]{...}": "Const",
    }
    assert found(Fake("A")) == {"x": "Fake"}
    assert found(5) == {}
    assert found([object(), Fake, "text"]) == {}


def test_future_lists_and_dicts_are_opened_up_and_other_futures_are_not():
    value = FutureDict({"a": FutureList([Fake("A"), Const([Fake("B")])]), (1, 2): Fake("C")["x"]})
    assert found(value) == {
        "x['a'][0]": "Fake",
        "x['a'][1]": "Const",
        'x[{"__tuple__":[1,2]}]': "Item",
    }


def test_futures_are_found_in_named_tuples_default_dicts_and_dataclasses():
    Named = collections.namedtuple("Named", "a b")

    @dataclasses.dataclass
    class Holder:
        future: Any
        other: Any = None

    groups = collections.defaultdict(list, g=[Fake("A")])
    assert found([Named(1, Fake("B")), groups, Holder([Const(1)])]) == {
        "x[0][1]": "Fake",
        "x[1]['g'][0]": "Fake",
        "x[2].future[0]": "Const",
    }


def test_the_search_for_futures_ends_in_what_contains_itself_or_is_very_deep():
    value: list[Any] = [Fake("A")]
    value.append(value)
    assert found(value) == {"x[0]": "Fake"}
    deep: Any = Fake("A")
    for _ in range(5000):
        deep = [deep]
    assert len(found(deep)) == 1


def test_the_futures_of_a_set_come_in_an_order_that_every_process_agrees_to():
    found = [future.get_result() for _, future in futures_in({Const(n) for n in range(50)}, "x")]
    assert found == sorted(range(50), key=lambda n: f"{n}}}")


def test_all_futures_can_be_pickled_and_copied():
    made = [
        Const([1]),
        Const({"a": 1})["a"],
        FutureList([Const(1), FutureList([Const(2)])]),
        FutureDict({"a": Const(1), 2: FutureList()}),
    ]
    for future in made:
        for copied in (pickle.loads(pickle.dumps(future)), copy.copy(future), copy.deepcopy(future)):
            assert type(copied) is type(future)
            assert copied.to_json() == future.to_json()
            assert copied.get_result() == future.get_result()


def test_a_const_whose_value_cannot_be_part_of_a_key_is_refused_where_it_becomes_one():
    const = Const(object())
    assert const.get_result() is const.value
    with pytest.raises(ArgumentError, match=r"A\(f=\.\.\.\)\[0\]"):
        Encoder().encode(FutureList([const]), "A(f=...)")


def test_futures_show_what_they_are_made_of():
    assert repr(FutureList([Const(1)["a"]])) == "FutureList([Const(1)['a']])"
    assert repr(FutureDict({"a": Const(1)})) == "FutureDict({'a': Const(1)})"
