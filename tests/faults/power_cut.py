"""What a power cut may leave of a folder, from the steps that were done before it.

What was brought to the disk (fsync) is there. Of all that came after, any part may be: names that
were made, renamed or removed (each step wholly or not at all), in order or not; and of the content
of a file nothing, half, zeros, all, or what it was before. Files that did not go through the log
(a task's own) are as little known to the disk.
"""

from __future__ import annotations

import os
import random
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from failing_files import Tree, read_tree

from taskproc.default_plugins.directory_cache.index import signature

WAYS = ("none", "all", "prefix", "subset")
"""Which of the names that were not synced are there: none, all, the first so many, or any."""


@dataclass(eq=False)
class File:
    """A file: its content on the disk (None: it never came there), and as it was at the end."""

    durable: Any = None
    content: Any = b""


@dataclass(eq=False)
class Folder:
    """A folder: its names on the disk, and as they were at the end."""

    durable: dict[str, Node] = field(default_factory=dict[str, "Node"])
    current: dict[str, Node] = field(default_factory=dict[str, "Node"])


Node = File | Folder
Change = tuple[Folder, str, Node | None]


class Replay:
    """The steps of a run, done again on a model of the disk.

    Args:
        root: the folder that the steps are in.
        before: what stood there before the first of them, all of it on the disk; None: nothing.
    """

    def __init__(self, root: str, before: Tree | None) -> None:
        self._above, self._name = os.path.split(root)
        self._root = root
        self._top = Folder()
        self._pending: list[tuple[Change, ...]] = []
        if before is not None:
            self._top.durable[self._name] = self._top.current[self._name] = _durable(before)

    def steps(self, steps: Sequence[tuple[Any, ...]]) -> None:
        for kind, path, *rest in steps:
            if kind in ("mkdir", "create", "unlink", "rmdir", "rmtree", "rename", "fsync"):
                getattr(self, f"_{kind}")(path, *rest)

    def end(self) -> None:
        """Look at what stands there now, which tells what else was done."""
        found = read_tree(self._root)
        top = Folder(current={self._name: Folder()}) if found is None else self._top
        self._see(top, {self._name: found} if found is not None else {})

    def left(self, way: str, seed: int) -> Tree | None:
        """What may be left; None: not even the root."""
        chance = random.Random(f"{way} {seed}")
        pending = self._pending
        if way == "none":
            pending = []
        elif way == "prefix":
            pending = pending[: chance.randrange(len(pending) + 1)]
        elif way == "subset":
            pending = [one for one in pending if chance.random() < 0.5]
        names = {id(folder): dict(folder.durable) for folder in self._folders()}
        for changes in pending:
            for change in changes:
                _apply(names[id(change[0])], change)
        tree = _resolved(self._top, names, chance)
        return tree.get(self._name)

    # --- the steps ---

    def _mkdir(self, path: str) -> None:
        self._new(path, Folder())

    def _create(self, path: str) -> None:
        self._new(path, File())

    def _unlink(self, path: str, tree: Any) -> None:
        folder, name = self._place(path)
        _filled(folder.current.pop(name, None), tree)
        self._pending.append(((folder, name, None),))

    def _rmdir(self, path: str) -> None:
        self._unlink(path, {})

    def _rmtree(self, path: str, tree: Any) -> None:
        for name, inside in (tree or {}).items():
            (self._rmtree if isinstance(inside, dict) else self._unlink)(f"{path}/{name}", inside)
        self._rmdir(path)

    def _rename(self, source: str, target: str, is_folder: bool, replaced: Any) -> None:
        old, name = self._place(source)
        if name not in old.current:
            self._new(source, Folder() if is_folder else File())
        node = old.current.pop(name)
        new, new_name = self._place(target)
        _filled(new.current.get(new_name), replaced)
        new.current[new_name] = node
        self._pending.append(((old, name, None), (new, new_name, node)))

    def _fsync(self, path: str, found: Any) -> None:
        node = self._top if path == self._above else self._known(path, isinstance(found, dict))
        if isinstance(node, File):
            node.durable = node.content = found
            return
        for inside in found:
            if inside not in node.current:  # a task's own
                self._new(f"{path}/{inside}", self._kind_of(f"{path}/{inside}"))
        done = [one for one in self._pending if one[-1][0] is node]
        for change in (change for changes in done for change in changes):
            _apply(change[0].durable, change)
        self._pending = [one for one in self._pending if one not in done]

    def _known(self, path: str, is_folder: bool) -> Node:
        folder, name = self._place(path)
        return folder.current.get(name) or self._new(path, Folder() if is_folder else File())

    def _kind_of(self, path: str) -> Node:
        return Folder() if os.path.isdir(path) else File()

    def _new(self, path: str, node: Node) -> Node:
        folder, name = self._place(path)
        folder.current[name] = node
        self._pending.append(((folder, name, node),))
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        folder = self._top
        *above, name = os.path.relpath(path, self._above).split(os.sep)
        for position, part in enumerate(above):
            node = folder.current.get(part)
            if not isinstance(node, Folder):
                node = self._new(os.path.join(self._above, *above[: position + 1]), Folder())
            folder = node if isinstance(node, Folder) else Folder()
        return folder, name

    def _see(self, folder: Folder, found: Tree) -> None:
        for name, inside in found.items():
            node = folder.current.get(name)
            if node is None or isinstance(node, Folder) != isinstance(inside, dict):
                node = Folder() if isinstance(inside, dict) else File()
                folder.current[name] = node
                self._pending.append(((folder, name, node),))
            if isinstance(node, Folder):
                self._see(node, inside)
            else:
                node.content = inside
        for name in set(folder.current) - set(found):
            del folder.current[name]
            self._pending.append(((folder, name, None),))

    def _folders(self) -> Iterator[Folder]:
        seen: set[int] = set()
        waiting: list[Node] = [self._top, *(node for one in self._pending for _, _, node in one if node)]
        waiting += [folder for one in self._pending for folder, _, _ in one]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Folder) and id(node) not in seen:
                seen.add(id(node))
                waiting += [*node.durable.values(), *node.current.values()]
                yield node


def _durable(tree: Any) -> Node:
    if not isinstance(tree, dict):
        return File(tree, tree)
    names = {name: _durable(inside) for name, inside in tree.items()}
    return Folder(names, dict(names))


def _filled(node: Node | None, tree: Any) -> None:
    """A file is about to lose its name: what was in it."""
    if isinstance(node, File) and not isinstance(tree, dict) and tree is not None:
        node.content = tree


def _apply(names: dict[str, Node], change: Change) -> None:
    _, name, node = change
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _resolved(folder: Folder, names: dict[int, dict[str, Node]], chance: random.Random) -> Tree:
    return {
        name: _resolved(node, names, chance) if isinstance(node, Folder) else _content(node, chance)
        for name, node in sorted(names[id(folder)].items())
    }


def _content(file: File, chance: random.Random) -> Any:
    full = file.content
    if file.durable == full or not isinstance(full, bytes):
        return full
    choices = [b"", full[: len(full) // 2], bytes(len(full)), full]
    return chance.choice(choices if file.durable is None else [*choices, file.durable])


def write_tree(path: str, tree: Any) -> None:
    """Make a path hold this, and leave alone what it holds already."""
    found = read_tree(path)
    if found == tree:
        return
    if not isinstance(found, dict) or not isinstance(tree, dict):
        if isinstance(found, dict):
            shutil.rmtree(path)
        elif found is not None:
            os.unlink(path)
        if tree is None:
            return
    if isinstance(tree, dict):
        os.makedirs(path, 0o700, exist_ok=True)
        for name in {*(found if isinstance(found, dict) else ()), *tree}:
            write_tree(f"{path}/{name}", tree.get(name))
    elif isinstance(tree, tuple):
        os.symlink(tree[1], path)
    else:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(tree)


def rows_that_hold(root: str) -> list[bytes]:
    """The rows of the index that speak of the files as they are; those with data files left out.

    (What has data was synced before it had a row.)
    """
    found: list[bytes] = []
    with suppress(OSError), open(f"{root}/index.jsonl", "rb") as file:
        for line in file.read().splitlines():
            fields = line.split(b"\t", 3)
            with suppress(OSError):
                if len(fields) == 4 and fields[2] == _signature(root, fields[1]):
                    found.append(line)
    return found


def let_rows_hold(root: str, rows: Sequence[bytes]) -> None:
    """Make these rows of the index speak of the files that are there now.

    The times of a file may come to the disk without its content, so that its row still holds.
    """
    path = f"{root}/index.jsonl"
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    for number, line in enumerate(lines):
        if line in rows:
            _, entry, _, text = line.split(b"\t", 3)
            with suppress(OSError):
                body = b"\t".join([entry, _signature(root, entry), text])
                lines[number] = b"%08x\t%b" % (zlib.crc32(body), body)
    with open(path, "wb") as file:
        file.write(b"".join(line + b"\n" for line in lines))


def _signature(root: str, entry: bytes) -> bytes:
    folder = f"{root}/{entry.decode()}"
    return signature(os.stat(f"{folder}/record.json"), os.stat(f"{folder}/result.pkl.gz")).encode()
