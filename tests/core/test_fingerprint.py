"""The normal form of code: what counts, what does not, and what code names."""

from __future__ import annotations

import ast
from types import CodeType
from typing import Any

import pytest

from taskproc.core.fingerprint import (
    SCHEME,
    Reference,
    bytecode_form,
    combine,
    fingerprint_of,
    name_parts,
    normal_form,
    part_digest,
    read_fingerprint,
    same_code,
)


def form(text: str) -> str:
    return normal_form([ast.parse(text)]).digest


def references(text: str) -> set[str]:
    """Names a piece of code takes from outside: `a.b`, or `module:path` where it imports itself."""
    found = set()
    for path, module, level in normal_form([ast.parse(text)]).references:
        front = "" if module is None else f"{'.' * level}{module}:"
        found.add(front + ".".join(path))
    return found


SAME = [
    ("a comment", "x = 1", "x = 1  # one"),
    ("blank lines", "x = 1\ny = 2", "x = 1\n\n\n\ny = 2"),
    ("brackets", "x = a + b", "x = (a +\n    b)"),
    ("quotes", "x = 'a'", 'x = """a"""'),
    ("a trailing comma", "f(a, b)", "f(a, b,)"),
    ("a docstring", "def f():\n    'doc'\n    return 1", "def f():\n    return 1"),
    ("a class's docstring", "class A:\n    'doc'\n    x = 1", "class A:\n    x = 1"),
    ("a string that stands as a comment", "x = 1\n'the one'", "x = 1"),
    ("pass beside a docstring", "def f():\n    'doc'", "def f():\n    pass"),
    ("annotations of parameters", "def f(a: int, *b: str, c: int = 1): ...", "def f(a, *b, c=1): ..."),
    ("the annotation of a result", "def f() -> int: ...", "def f(): ..."),
    ("the annotation of a local", "def f():\n    x: int = 1", "def f():\n    x = 1"),
    ("a local only annotated", "def f():\n    x: int\n    x = 1", "def f():\n    x = 1"),
    ("the annotation of a global", "x: int = 1", "x = 1"),
    ("strings side by side", "x = 'a' 'b'", "x = 'ab'"),
    ("f-strings side by side", "x = f'a{b}' 'c' f'd'", "x = f'a{b}cd'"),
    ("an f-string with nothing in it", "x = f'a'", "x = 'a'"),
    ("an empty format", "x = f'{a:}'", "x = f'{a}'"),
    ("how an integer is written", "x = 0x10", "x = 1_6"),
    ("a lambda's brackets", "f = lambda x: x", "f = (lambda x: (x))"),
    ("elif", "if a:\n    b\nelif c:\n    d", "if a:\n    b\nelse:\n    if c:\n        d"),
]

DIFFERENT = [
    ("a constant", "x = 1", "x = 2"),
    ("its type", "x = 1", "x = 1.0"),
    ("a bool and an int", "x = 1", "x = True"),
    ("bytes and text", "x = 'a'", "x = b'a'"),
    ("a name and a string", "x = a", "x = 'a'"),
    ("None and nothing", "return_ = None", "return_ = ()"),
    ("an operator", "x = a + b", "x = a - b"),
    ("an order", "f(a, b)", "f(b, a)"),
    ("a keyword", "f(a=1)", "f(b=1)"),
    ("a star", "f(a)", "f(*a)"),
    ("a default", "def f(a=1): ...", "def f(a=2): ..."),
    ("whose default it is", "def f(*, a=1, b): ...", "def f(*, a, b=1): ..."),
    ("a parameter that is positional only", "def f(a, /): ...", "def f(a): ..."),
    ("a parameter that is a keyword only", "def f(*, a): ...", "def f(a): ..."),
    ("which star", "def f(*a): ...", "def f(**a): ..."),
    ("a decorator", "@a\ndef f(): ...", "def f(): ..."),
    ("the order of decorators", "@a\n@b\ndef f(): ...", "@b\n@a\ndef f(): ..."),
    ("a base class", "class A(B): ...", "class A: ..."),
    ("the annotation of a field", "class A:\n    x: int = 1", "class A:\n    x: str = 1"),
    ("a field only annotated", "class A:\n    x: int", "class A: ..."),
    ("the text of an f-string", "x = f'{a}b'", "x = f'{a}c'"),
    ("the format of an f-string", "x = f'{a:.2f}'", "x = f'{a:.3f}'"),
    ("the conversion of an f-string", "x = f'{a!r}'", "x = f'{a}'"),
    ("where text stands in an f-string", "x = f'a{b}'", "x = f'{b}a'"),
    ("async", "async def f(): ...", "def f(): ..."),
    ("yield and return", "def f():\n    yield 1", "def f():\n    return 1"),
    ("else of a loop", "for a in b:\n    c\nelse:\n    d", "for a in b:\n    c\nd"),
    ("what is deleted", "del a", "del b"),
    ("a case", "match a:\n    case None: b", "match a:\n    case True: b"),
    ("the name of a local", "def f(a):\n    return a", "def f(b):\n    return b"),
    ("break and continue", "while a:\n    break", "while a:\n    continue"),
    ("a spread in a dict", "x = {**a, b: c}", "x = {b: c, **a}"),
]


@pytest.mark.parametrize(("one", "other"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_what_does_not_count(one: str, other: str) -> None:
    assert form(one) == form(other)


@pytest.mark.parametrize(("one", "other"), [row[1:] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT])
def test_what_counts(one: str, other: str) -> None:
    assert form(one) != form(other)


NAMES = [
    ("a global", "def f(): return g", {"g"}),
    ("an attribute of a global", "def f(): return a.b.c", {"a.b.c"}),
    ("what follows a call is not read from the global", "def f(): return a.b().c", {"a.b"}),
    ("a parameter", "def f(g): return g.x", set()),
    ("a local", "def f():\n    g = 1\n    return g", set()),
    ("a local that is bound later in the text", "def f():\n    print(g)\n    g = 1", {"print"}),
    ("a global that is assigned", "def f():\n    global g\n    g += 1", {"g"}),
    ("an enclosing function's local", "def f():\n    g = 1\n    def h(): return g\n    return h", set()),
    ("a default", "def f(x=g): return x", {"g"}),
    ("a decorator", "@g\ndef f(): ...", {"g"}),
    ("an annotation of a function", "def f(x: g) -> h: ...", set()),
    ("an annotation of a class", "class A:\n    x: g", {"g"}),
    ("a class attribute is not seen by methods", "class A:\n    g = 1\n    def f(self): return g", {"g"}),
    ("a class attribute is seen by the body", "class A:\n    g = 1\n    h = g", set()),
    (
        "a class attribute made from a global of its name",
        "class A:\n    g = staticmethod(g)",
        {"staticmethod", "g"},
    ),
    ("a variable of a comprehension", "def f(): return [x for x in g]", {"g"}),
    ("a comprehension over its own name", "x = [x for x in x]", {"x"}),
    ("the second loop of a comprehension", "def f(): return [y for x in g for y in x]", {"g"}),
    ("a walrus in a comprehension", "def f(a):\n    [y := x for x in a]\n    return y", set()),
    ("a lambda", "def f(): return lambda x: x + g", {"g"}),
    ("an f-string", "def f(): return f'{g:{h}}'", {"g", "h"}),
    ("an exception", "def f():\n    try: ...\n    except E as e: return e", {"E"}),
    ("a pattern", "def f(x):\n    match x:\n        case P(a=b) | {1: b, **c}: return b, c", {"P"}),
    ("a with statement", "def f():\n    with g() as h: return h", {"g"}),
    ("an import inside", "def f():\n    import a.b\n    return a.b.c", {"a:b.c"}),
    ("an import under a name", "def f():\n    import a.b as c\n    return c.d", {"a.b:d"}),
    ("a name imported inside", "def f():\n    from a import b as c\n    return c.d", {"a:b", "a:b.d"}),
    ("a relative import inside", "def f():\n    from ..a import b", {"..a:b"}),
    ("an import for its own sake", "def f():\n    import a.b", {"a.b:"}),
    (
        "an import by a plain name",
        "def f(): return importlib.import_module('a.b')",
        {"a.b:", "importlib.import_module"},
    ),
    ("an import by a name that is computed", "def f(n): return import_module(n)", {"import_module"}),
    ("an annotation in a text", "class A:\n    x: 'list[g]'", {"list", "g"}),
    ("a text that is no annotation", "class A:\n    x: Literal['g']", {"Literal"}),
    ("an annotation that is read", "@h.register\ndef f(x: g): ...", {"h.register", "g"}),
    ("an import seen from an inner function", "def f():\n    import a\n    return lambda: a.b", {"a:b"}),
]


@pytest.mark.parametrize(("text", "names"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_what_code_names(text: str, names: set[str]) -> None:
    # The names bound by the piece itself stand outside of it too; they are not asked about here.
    assert references(text) == names


def test_names_from_outside_are_numbers_in_the_shape() -> None:
    def shape(text: str) -> str:
        return normal_form(ast.parse(text).body, nameless=True).shape

    assert shape("def f(): return g(h)") == shape("def e(): return i(j)")
    assert shape("def f(): return g(h)") != shape("def f(): return g(g)")
    assert shape("def f(a): return g(a)") != shape("def f(b): return g(b)")
    assert shape("class A(B):\n    x = 1") == shape("class C(D):\n    x = 1")
    assert shape("class A:\n    def f(self): ...") != shape("class A:\n    def g(self): ...")
    assert shape("def f():\n    from a import b as c") == shape("def f():\n    from d import e as c")
    assert shape("def f():\n    from a import b as c") != shape("def f():\n    from a import b as d")


def test_settings_of_a_class_can_be_left_unread() -> None:
    def unread(text: str) -> str:
        return normal_form(ast.parse(text).body, {"task_label"}).digest

    plain = unread("class A:\n    x = 1")
    assert unread("class A:\n    task_label = 'gpu'\n    x = 1") == plain
    assert unread("class A:\n    task_label: str = 'gpu'\n    x = 1") == plain
    assert unread("class A:\n    x = 1\n    class B:\n        task_label = 'gpu'") != plain
    assert unread("class A:\n    x = task_label = 1") != plain


def test_long_and_deep_code_costs_no_recursion() -> None:
    assert form("x = " + " + ".join(["a"] * 700)) != form("x = " + " + ".join(["a"] * 699))
    chain = "x = a" + ".b()" * 300
    assert form(chain) != form(chain + ".c")


# Everything that Python 3.11 can say, more or less.
EVERYTHING = '''
import os, sys as system
from a.b import c as d, e
from . import f
X: int = 0xFF + 10**30 - 1.5e300 * 2j
Y = b"bytes\\xff", "text \\u2014 \\U0001fae8", ..., None, True, 1e999
@deco(1)
class A(B, metaclass=M, **kw):
    """Doc."""
    x: int = 1
    y: "list[str]"
    def m(self, a, /, b: int = 2, *args: int, c=3, d, **kw) -> "A":
        """Doc."""
        global G
        nonlocal_ = [i for i in a if i for j in i]
        s = {k: v async for k, v in b} | {*a} | {1, 2}
        g = (n for n in a if (m := n))
        t = f"{a!r:>{b}} {c=} {d:%Y-%m} {{}} " "tail" f"{a['x']}"
        u = f"a" f"{b}" f"c"
        if a < b <= c is not d not in e and not f or g:
            del a[0], b.c
        elif a: pass
        else: raise E(1) from None
        for i, *j in a: continue
        else: pass
        while True: break
        with a as b, c: ...
        try: x @= 1
        except (E, F) as e: return ~x
        except: yield
        else: yield from a
        finally: assert a, "b"
        try: pass
        except* E: pass
        match a:
            case [1, 2, *rest] | {"k": v, **more} if v: pass
            case P(x=1, y=Q.z) as p: pass
            case None | True | -1 | "s" | _: pass
        return lambda x, *y, z=1: x if y else z
    async def n(self):
        async with a as b: await c
        async for i in d: x = a[1:2, ::3, ...]
        return a // b % c ** d << e >> f & g | h ^ i
def outer():
    v = 1
    def inner():
        nonlocal v
        v += 1
    return inner
'''


def test_the_fingerprint_is_the_same_on_every_python() -> None:
    assert SCHEME == 2
    assert form(EVERYTHING) == "fe97a2692f3d87d5b65799e10e6f1ee2"


def test_new_syntax_that_only_annotates_does_not_count() -> None:
    generic = "def f[T](x: T) -> T: return x"
    try:
        tree = ast.parse(generic)
    except SyntaxError:  # before Python 3.12 there is none, and nothing to compare
        return
    assert normal_form([tree]).digest == form("def f(x): return x")


def test_the_parameters_of_a_class_count() -> None:
    try:
        one, other = ast.parse("class A[T: int]: x: T"), ast.parse("class A[T: str]: x: T")
    except SyntaxError:  # before Python 3.12 there are none
        return
    assert normal_form([one]) != normal_form([other])
    assert {reference.path for reference in normal_form([one]).references} == {("int",)}


# --- fingerprints ---

PARTS = [("a", "1"), ("b", "2"), ("c", "3")]


def test_a_fingerprint_has_three_parts_and_is_read_back() -> None:
    made = fingerprint_of(PARTS, PARTS[:1], [("version", "4")])
    assert [len(part) for part in made] == [32, 16, 16]
    assert read_fingerprint(str(made)) == made
    nothing = fingerprint_of(PARTS, PARTS[:1], [])
    assert nothing.stated == ""
    assert read_fingerprint(str(nothing)) == nothing


def test_equal_in_depth_is_equal_in_the_rest() -> None:
    made = [
        fingerprint_of(PARTS, PARTS[:1], [("version", "4")]),
        fingerprint_of(PARTS, PARTS[:2], [("version", "4")]),
        fingerprint_of(PARTS, PARTS[:1], [("version", "5")]),
        fingerprint_of(PARTS, PARTS[:1], []),
        fingerprint_of(PARTS[:2], PARTS[:1], [("version", "4")]),
    ]
    assert len({fingerprint.deep for fingerprint in made}) == len(made)
    assert made[0].own == made[2].own == made[4].own != made[1].own
    assert made[0].stated == made[1].stated == made[4].stated != made[2].stated


@pytest.mark.parametrize(
    ("stored", "modes"),
    [
        (fingerprint_of(PARTS, PARTS[:1], [("version", "4")]), {"deep", "class", "off"}),
        (fingerprint_of(PARTS[:2], PARTS[:1], [("version", "4")]), {"class", "off"}),
        (fingerprint_of(PARTS, PARTS[:2], [("version", "4")]), {"off"}),
        (fingerprint_of(PARTS, PARTS[:1], [("version", "5")]), set()),
        (fingerprint_of(PARTS, PARTS[:1], []), set()),
    ],
)
def test_each_mode_compares_what_it_is_for(stored: object, modes: set[str]) -> None:
    current = str(fingerprint_of(PARTS, PARTS[:1], [("version", "4")]))
    every: list[Any] = ["deep", "class", "off"]
    assert {mode for mode in every if same_code(str(stored), current, mode)} == modes
    assert {mode for mode in every if same_code(current, str(stored), mode)} == modes


@pytest.mark.parametrize(
    "text", ["", "a" * 32, "..", "a.b.c", f"{'a' * 32}.{'b' * 16}.x", f"{'A' * 32}.{'b' * 16}."]
)
def test_what_can_not_be_read_is_like_no_other(text: str) -> None:
    said = str(fingerprint_of(PARTS, PARTS[:1], [("version", "4")]))
    silent = str(fingerprint_of(PARTS, PARTS[:1], []))
    every: list[Any] = ["deep", "class", "off"]
    assert read_fingerprint(text) is None
    assert not any(same_code(text, said, mode) or same_code(said, text, mode) for mode in every)
    assert not any(same_code(text, text, mode) for mode in every)
    assert [same_code(text, silent, mode) for mode in every] == [False, False, True]


def test_a_part_is_told_by_its_form_and_by_where_its_names_lead() -> None:
    links = [("f", ["helpers.f"]), ("len", [])]
    assert part_digest("0", links) == part_digest("0", list(links))
    others = [("0", links[:1]), ("1", links), ("0", [("f", ["helpers.g"]), ("len", [])]), ("0", links[::-1])]
    assert part_digest("0", links) not in {part_digest(*other) for other in others}


def test_a_fingerprint_does_not_depend_on_the_order_of_the_parts() -> None:
    parts = [("a", "1"), ("b", "2"), ("a", "3")]
    assert combine(parts) == combine(reversed(parts)) == combine(parts + parts)
    assert combine(parts) != combine(parts[:2])
    assert combine([("a", "1"), ("b", "2")]) != combine([("a", "2"), ("b", "1")])


def test_parts_of_one_name_are_numbered() -> None:
    assert name_parts([("a", "3"), ("b", "2"), ("a", "1")]) == {"a": "1", "a#2": "3", "b": "2"}


def code(text: str) -> CodeType:
    return next(c for c in compile(text, "x.py", "exec").co_consts if isinstance(c, CodeType))


BYTECODE = [
    ("lines", "def f(x): return x + 1", "\n\ndef f(x):\n    # why\n    return x + 1", True),
    ("a docstring", "def f(x):\n    'a'\n    return x", "def f(x):\n    'b'\n    return x", True),
    ("annotations", "def f(x: int): return x", "def f(x): return x", True),
    ("a constant", "def f(x): return x + 1", "def f(x): return x + 2", False),
    ("the type of a constant", "def f(x): return x + 1", "def f(x): return x + 1.0", False),
    ("a name", "def f(x): return g(x)", "def f(x): return h(x)", False),
    ("an inner function", "def f(): return lambda: 1", "def f(): return lambda: 2", False),
    ("a set of constants", "def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}", False),
]


@pytest.mark.parametrize(
    ("one", "other", "same"), [row[1:] for row in BYTECODE], ids=[row[0] for row in BYTECODE]
)
def test_what_counts_of_bytecode(one: str, other: str, same: bool) -> None:
    assert (bytecode_form(code(one)).digest == bytecode_form(code(other)).digest) == same


def test_what_bytecode_names() -> None:
    text = """
def f(x):
    import helpers
    from .lib import deep as d
    y = [g(i) for i in x.attribute]
    return a.b.c(y) + (lambda: late)()
"""
    found = set(bytecode_form(code(text)).references)
    assert found >= {
        Reference(("g",)),
        Reference(("a", "b", "c")),
        Reference(("late",)),
        Reference((), "helpers"),
        Reference(("deep",), "lib", 1),
    }
    assert not {reference for reference in found if "attribute" in reference.path}
