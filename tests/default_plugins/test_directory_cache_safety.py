"""Who can read and write a directory cache, what of it is read, and that no link leads out of it."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache.names import folder_name
from taskproc.default_plugins.directory_cache.rules import Rules
from taskproc.errors import CacheError, DamagedEntryError, UnsafeEntryWarning
from taskproc.interfaces import Event, Record, TaskKey
from taskproc.testing import example_key, example_record, played_owner

KEY = example_key()
OTHER = 12345
UMASKS = [0o000, 0o002, 0o022, 0o077, 0o277, 0o777]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> Iterator[DirectoryCache]:
    cache = DirectoryCache(root)
    yield cache
    cache.close()


def save(cache: DirectoryCache, key: TaskKey = KEY, payload: bytes = b"answer", **changes: Any) -> Record:
    record = example_record(key, payload, **changes)
    cache.begin(key)
    cache.save(record, payload, 9, durable=False)
    return record


def entry_of(cache: DirectoryCache, key: TaskKey = KEY) -> Path:
    return cache.root / key.name / key.digest


def do_everything(cache: DirectoryCache) -> None:
    """Have a cache make every kind of file it knows."""
    cache.open()
    cache.lease([KEY])
    cache.begin(KEY)
    cache.data_directory(KEY, create=True)
    for name in ("out", "err"):
        (cache.scratch() / name).write_text("said")
    cache.keep_logs(KEY, cache.scratch() / "out", cache.scratch() / "err")
    save(cache)
    save(cache, example_key(text="2"))
    cache.keep_code("abc", b"text")
    cache.note(Event("cleared", KEY))
    cache.note(Event("failed", KEY, text="why"))
    cache.post("run", {"pid": 1})
    cache.index()


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode) for path in [root, *root.rglob("*")]
    }


class umask:
    def __init__(self, mask: int) -> None:
        self.mask = mask

    def __enter__(self) -> None:
        self.before = os.umask(self.mask)

    def __exit__(self, *_: object) -> None:
        os.umask(self.before)


# Modes


@pytest.mark.parametrize("mask", UMASKS)
def test_all_that_is_made_is_for_its_owner_alone_whatever_the_umask(
    cache: DirectoryCache, root: Path, mask: int
) -> None:
    root.parent.mkdir(exist_ok=True)
    with umask(mask):
        do_everything(cache)
        found = modes(root)
    kinds = {path.split("/")[0] for path in found}
    assert {"index.jsonl", "journal.jsonl", "taskproc.json", "code", "runs", "jobs", "leases"} <= kinds
    for path, mode in found.items():
        assert mode == (0o700 if (root / path).is_dir() else 0o600), f"{path}: {mode:o}"


@pytest.mark.parametrize("mask", UMASKS)
def test_all_of_a_shared_cache_is_for_its_group_whatever_the_umask(root: Path, mask: int) -> None:
    cache = DirectoryCache(root, shared="group")
    with umask(mask):
        do_everything(cache)
        found = modes(root)
        cache.close()
    for path, mode in found.items():
        assert mode == (0o2770 if (root / path).is_dir() else 0o660), f"{path}: {mode:o}"
    assert json.loads((root / "taskproc.json").read_text())["shared"] == "group"


def test_a_folder_made_beforehand_is_tightened_when_it_becomes_a_cache(
    cache: DirectoryCache, root: Path
) -> None:
    root.mkdir()
    root.chmod(0o777)
    cache.open()
    save(cache)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_the_folders_above_a_new_cache_are_not_for_all_to_write(tmp_path: Path) -> None:
    with umask(0):
        save(DirectoryCache(tmp_path / "a" / "b" / "cache"))
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o775, 0o775]


def test_what_a_task_leaves_in_its_data_directory_keeps_the_modes_it_gave(
    cache: DirectoryCache, root: Path
) -> None:
    cache.begin(KEY)
    data = cache.data_directory(KEY, create=True)
    (data / "run.sh").touch(0o755)
    (data / "run.sh").chmod(0o755)
    cache.save(example_record(KEY, b"a", data=cache.list_data(KEY)), b"a", 9, durable=True)
    assert stat.S_IMODE((data / "run.sh").stat().st_mode) == 0o755


# Sharing


def test_members_of_the_group_find_each_others_results(root: Path) -> None:
    record = save(DirectoryCache(root, shared="group"))
    with played_owner(root):
        other = DirectoryCache.from_url(f"{root}?shared=group")
        other.open()
        assert other.look_up([KEY]) == {KEY: record}
        assert other.load(KEY) == b"answer"


class acting:
    """Act as a user of a group, in earnest: the kernel decides what may be read and written."""

    def __init__(self, user: int, group: int) -> None:
        self.user, self.group = user, group

    def __enter__(self) -> None:
        self.before = os.getegid(), os.getgroups(), os.umask(0o077)
        os.setgroups([self.group])
        os.setegid(self.user)  # a group of the user's own, as most systems have it
        os.seteuid(self.user)

    def __exit__(self, *_: object) -> None:
        os.seteuid(0)
        os.setegid(self.before[0])
        os.setgroups(self.before[1])
        os.umask(self.before[2])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_two_members_of_a_group_read_replace_and_remove_each_others_results_and_a_stranger_none() -> None:
    import shutil  # imported late where it is needed, when it can't be read any more

    from taskproc.default_plugins.directory_cache import journal, sharing, traces  # noqa: F401

    one, other, stranger, group = 3001, 3002, 3003, 4242
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o2770)
        os.chown(folder, 0, group)
        root = folder / "cache"
        private = folder / "spool"
        for round_, user in enumerate((one, other, one)):
            with acting(user, group):
                cache = DirectoryCache(root, shared="group")
                cache.open()
                assert KEY in cache.look_up([KEY]) if round_ else True
                assert cache.lease([KEY]) == {KEY}
                cache.begin(KEY)
                data = cache.data_directory(KEY, create=True)
                (data / "deep").mkdir()
                (data / "deep" / "file").write_text("x")
                private.write_text("said")
                record = example_record(KEY, b"%d" % round_, data=cache.list_data(KEY))
                cache.keep_logs(KEY, private, None)
                cache.save(record, b"%d" % round_, 9, durable=True)
                cache.note(Event("failed", KEY, text="why"))
                cache.note(Event("cleared", example_key(text="2")))
                cache.index()
                cache.close()
                assert cache.load(KEY) == b"%d" % round_
            for path in root.rglob("*"):
                assert path.lstat().st_gid == group, path
        with (
            acting(stranger, stranger),
            pytest.raises(CacheError, match=r"can't be|no member"),
        ):
            DirectoryCache(root, shared="group").open()
        folder.chmod(0o755)
        with acting(stranger, stranger), pytest.raises(CacheError, match="another user"):
            DirectoryCache(root).open()
        with acting(other, group):
            cache = DirectoryCache(root, shared="group")
            cache.discard([KEY])
            cache.discard_all(KEY.name)
            assert cache.look_up([KEY]) == {}
    finally:
        shutil.rmtree(folder)


def test_a_shared_cache_is_refused_unless_one_says_that_it_is(root: Path) -> None:
    save(DirectoryCache(root, shared="group"))
    with pytest.raises(CacheError, match=r"its group .* can write to it.*shared='group'"):
        DirectoryCache(root).open()
    DirectoryCache(root, shared="group").open()
    DirectoryCache(root, trust=True).open()
    with played_owner(root), pytest.raises(CacheError, match="another user"):
        DirectoryCache(root).open()


def test_what_is_added_by_who_only_trusts_a_shared_cache_is_for_the_group_as_well(root: Path) -> None:
    import pickle

    save(DirectoryCache(root, shared="group"))
    trusting = DirectoryCache(root, trust=True)
    trusting.open()
    for number, cache in enumerate((trusting, pickle.loads(pickle.dumps(trusting)))):
        key = example_key(f"taskfile.New{number}")
        save(cache, key)
        assert stat.S_IMODE((entry_of(cache, key) / "record.json").stat().st_mode) == 0o660
        assert stat.S_IMODE(entry_of(cache, key).stat().st_mode) == 0o2770


def test_a_private_cache_is_not_taken_for_a_shared_one(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    with pytest.raises(CacheError, match=r"not made to be shared.*chgrp"):
        DirectoryCache(root, shared="group").open()


def test_a_shared_cache_that_everybody_can_write_to_is_refused(root: Path) -> None:
    save(DirectoryCache(root, shared="group"))
    root.chmod(0o2777)
    with pytest.raises(CacheError, match="every user can write"):
        DirectoryCache(root, shared="group").open()


@pytest.mark.parametrize("query", ["shared=all", "trust=yes", "shared=", "trust=true&shared=world"])
def test_an_option_behind_a_path_that_is_not_known_is_told(query: str) -> None:
    with pytest.raises(CacheError, match=r"\?trust=true"):
        DirectoryCache.from_url(f"./cache?{query}")


def test_options_behind_a_path_may_be_joined_and_other_question_marks_are_the_paths() -> None:
    cache = DirectoryCache.from_url("./cache?shared=group&trust=true")
    assert (cache.root.name, cache.shared, cache.trust) == ("cache", "group", True)
    assert DirectoryCache.from_url("./what?").root.name == "what?"
    assert DirectoryCache.from_url("./a?b=c").root.name == "a?b=c"


def test_shared_is_a_word() -> None:
    with pytest.raises(CacheError, match="give 'group'"):
        DirectoryCache(Path("cache"), shared="everyone")  # type: ignore[arg-type]  # pyright: ignore


# Owners


def play_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(path, OTHER, -1, follow_symlinks=False)
    else:
        monkeypatch.setenv("TASKPROC_PLAYED_OWNER", f"{OTHER}:{path}")


def test_a_cache_of_another_user_is_refused_before_anything_in_it_is_read(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(cache)
    (root / "taskproc.json").unlink()
    os.mkfifo(root / "taskproc.json")  # who reads it would be told of something else
    play_other(root, monkeypatch)
    with pytest.raises(CacheError, match=r"another user \(uid 12345\).*trust"):
        DirectoryCache(root).open()


def test_the_played_owner_is_seen_in_other_processes(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    words = [sys.executable, "-m", "taskproc", "status", "-o", str(root)]
    with played_owner(root, OTHER):
        refused = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 2
    assert "uid 12345" in refused.stderr
    assert subprocess.run(words, capture_output=True, timeout=120, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_the_played_owner_can_not_make_a_strangers_cache_safe(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    os.chown(root, OTHER, -1)
    for uid in (0, os.geteuid()):
        with played_owner(root, uid), pytest.raises(CacheError, match="uid 12345"):
            DirectoryCache(root).open()


@pytest.mark.parametrize(
    ("group", "members", "is_safe"),
    [("ann", [], True), ("ann", ["ann"], True), ("ann", ["bob"], False), ("lab", [], False)],
)
def test_what_the_private_group_of_the_user_can_write_to_is_safe_and_what_any_other_can_is_not(
    cache: DirectoryCache, group: str, members: list[str], is_safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(cache)
    cache.root.chmod(0o775)  # as `umask 002` and a copy leave it
    uid, gid = 4711, os.stat(cache.root).st_gid
    user = pwd.struct_passwd(("ann", "x", uid, gid, "", "/", "/bin/sh"))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setattr("pwd.getpwuid", {uid: user}.__getitem__)
    monkeypatch.setattr("grp.getgrgid", {gid: grp.struct_group((group, "x", gid, members))}.__getitem__)
    status = os.stat(cache.root)
    owned = os.stat_result([*status[:4], uid, *status[5:10]])
    assert (Rules().fault_of_owner(owned, str(cache.root)) == "") is is_safe


@pytest.mark.parametrize("name", ["record.json", "result.pkl.gz"])
@pytest.mark.parametrize("how", ["owner", "group", "world"])
def test_a_file_of_another_in_a_cache_of_ours_is_not_read_and_told_once(
    cache: DirectoryCache, name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(cache)
    cache.index()
    path = entry_of(cache) / name
    if how == "owner":
        play_other(path, monkeypatch)
    else:
        path.chmod(0o620 if how == "group" else 0o602)
    reader = DirectoryCache(cache.root)
    reader.open()
    with pytest.warns(UnsafeEntryWarning, match=r"not read.*computed again"):
        assert reader.look_up([KEY]) == {}
    assert reader.look_up([KEY]) == {}  # a second warning would be an error
    if name == "result.pkl.gz":
        with pytest.raises(DamagedEntryError, match=r"another user|its group|every user"):
            reader.load(KEY)
    trusting = DirectoryCache(cache.root, trust=True)
    trusting.open()
    assert KEY in trusting.look_up([KEY])
    assert trusting.load(KEY) == b"answer"
    save(reader)
    reader.index()
    monkeypatch.undo()
    assert KEY in DirectoryCache(cache.root).look_up([KEY])


def test_rows_of_an_index_of_another_do_not_count(
    cache: DirectoryCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = save(cache)
    cache.index()
    forged = (root / "index.jsonl").read_bytes()
    (root / "index.jsonl").write_bytes(forged)
    play_other(root / "index.jsonl", monkeypatch)
    reader = DirectoryCache(root)
    reader.open()
    assert reader.look_up([KEY]) == {KEY: record}
    assert f"{KEY.name}/{KEY.digest}" not in reader._state.looker._index
    save(reader, example_key(text="2"))
    reader.index()
    assert forged not in (root / "index.jsonl").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_reads_nothing_and_is_refused_for_real(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    for folder in (root, *root.parents):
        if folder.name.startswith(("pytest-", "test_", "popen-")) or folder == root:
            folder.chmod(0o755)
    child = os.fork()
    if not child:  # nobody, in earnest
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            # Root's own is trusted, as root could do anything anyway: but 0600 can't be read.
            DirectoryCache(root).open()
        except CacheError as error:
            os._exit(0 if "can't be read" in str(error) else 3)
        except BaseException:
            os._exit(4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Links and other things in the place of files and folders


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's, with files of names that a cache writes and removes."""
    folder = tmp_path / "outside"
    (folder / KEY.digest).mkdir(parents=True)
    names = [
        "record.json",
        "result.pkl.gz",
        "x.json",
        "x.lock",
        "old.part",
        "record.json.aside",
        "stdout.txt",
    ]
    for name in names:
        (folder / name).write_text("mine")
        (folder / KEY.digest / name).write_text("mine")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


def every_writer(cache: DirectoryCache) -> Iterator[Callable[[], object]]:
    record = example_record(KEY, b"answer")
    yield lambda: cache.begin(KEY)
    yield lambda: cache.save(record, b"answer", 9, durable=True)
    yield lambda: cache.keep_logs(KEY, None, None)
    yield lambda: cache.abandon(KEY)
    yield lambda: cache.set_aside(KEY)
    yield lambda: cache.data_directory(KEY, create=True)
    yield lambda: cache.note(Event("failed", KEY, text="why"))
    yield lambda: cache.note(Event("cleared", KEY))
    yield lambda: cache.keep_code("abc", b"text")
    yield lambda: cache.post("run", {"pid": 1})
    yield lambda: cache.unpost("run")
    yield lambda: cache.lease([KEY])
    yield lambda: (cache.scratch() / "spool").write_text("said")
    yield cache.index
    yield lambda: cache.replace_record(KEY, record)
    yield lambda: cache.discard([KEY])
    yield lambda: cache.discard_all(KEY.name)


PLACES = [
    "{task}",
    "{task}/{key}",
    "{task}/{key}/data",
    "{task}/{key}/record.json",
    "{task}/{key}/result.pkl.gz",
    "{task}/{key}/stdout.txt",
    "{task}/{key}/failed.json",
    "index.jsonl",
    "journal.jsonl",
    "runs",
    "jobs",
    "code",
    "leases",
]


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_written_or_removed_behind_a_planted_link(
    cache: DirectoryCache, root: Path, outside: Path, place: str
) -> None:
    cache.scratch()
    path = root / place.format(task=KEY.name, key=KEY.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_file = "." in path.name and path.name != KEY.name
    if not os.path.lexists(path):
        path.symlink_to(outside / "record.json" if is_file else outside)
    else:
        path.rmdir()
        path.symlink_to(outside)
    before = contents(outside)
    folders = sorted(outside.rglob("*"))
    for write in every_writer(DirectoryCache(root)):
        with contextlib.suppress(CacheError, OSError, LookupError):
            write()
        assert contents(outside) == before
        assert sorted(outside.rglob("*")) == folders


def test_a_task_whose_folder_is_a_link_fails_with_the_path_and_the_way_out(
    cache: DirectoryCache, root: Path, outside: Path
) -> None:
    cache.scratch()
    (root / KEY.name).symlink_to(outside)
    with pytest.raises(CacheError, match=r"is a link, and nothing is written.*remove the link"):
        save(cache)


@pytest.mark.parametrize("name", ["record.json", "result.pkl.gz"])
def test_a_result_or_record_behind_a_link_is_not_read(
    cache: DirectoryCache, tmp_path: Path, name: str
) -> None:
    save(cache)
    cache.index()
    path = entry_of(cache) / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    for reader in (cache, DirectoryCache(cache.root)):
        with pytest.warns(UnsafeEntryWarning, match="is a link"):
            assert reader.look_up([KEY]) == {}
    if name == "result.pkl.gz":
        with pytest.raises(DamagedEntryError, match="is a link"):
            cache.load(KEY, example_record(KEY, b"answer").digest)
    before = (tmp_path / name).read_bytes()
    save(cache, payload=b"newer")
    assert KEY in cache.look_up([KEY])
    assert (tmp_path / name).read_bytes() == before


def plant_pipe(path: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("kept")


def plant_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        path.symlink_to("/dev/zero")


def plant_socket(path: Path) -> None:
    import socket

    before = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.fchdir(before)
        os.close(before)


def plant_hole(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 42)


def within(seconds: float, function: Callable[[], object]) -> None:
    """Call it; fail if it takes longer, as it would for ever at a pipe that nobody writes to."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for ever"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("plant", [plant_pipe, plant_folder, plant_device, plant_socket, plant_hole])
@pytest.mark.parametrize("name", ["record.json", "result.pkl.gz", "failed.json"])
def test_what_is_no_file_in_the_place_of_one_is_neither_waited_for_nor_read_and_gives_way(
    cache: DirectoryCache, name: str, plant: Callable[[Path], None]
) -> None:
    save(cache)
    path = entry_of(cache) / name
    path.unlink(missing_ok=True)
    plant(path)

    def use() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = cache.look_up([KEY])
            assert (KEY in found) == (name == "failed.json")
            list(cache.stored(KEY.name))
            cache.task_names()
            cache.events(KEY)
            if name == "result.pkl.gz" and plant is not plant_hole:
                with pytest.raises(DamagedEntryError):
                    cache.load(KEY, example_record(KEY, b"answer").digest)
        save(cache, payload=b"newer")
        assert KEY in cache.look_up([KEY])
        assert cache.load(KEY) == b"newer"

    within(120, use)


@pytest.mark.parametrize("plant", [plant_pipe, plant_folder, plant_device, plant_socket])
@pytest.mark.parametrize(
    "name",
    [
        "index.jsonl",
        "journal.jsonl",
        "runs/x.json",
        "runs/x.lock",
        "code/ab.gz",
        "leases/0123456789abcdef.lease",
    ],
)
def test_what_is_no_file_beside_the_entries_holds_nobody_up(
    cache: DirectoryCache, root: Path, name: str, plant: Callable[[Path], None]
) -> None:
    save(cache)
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    plant(path)
    if name == "runs/x.lock":
        facts = {"host": os.uname().nodename, "pid": 1, "locked": True, "facts": {}}
        path.with_suffix(".json").write_text(json.dumps(facts))

    def use() -> None:
        other = DirectoryCache(root)
        other.open()
        assert KEY in other.look_up([KEY])
        other.posts()
        other.post("run", {"pid": 1})
        other.unpost("run")
        other.note(Event("cleared", example_key(text="2"), time.time()))
        other.events(KEY)
        other.kept_code("ab")
        other.keep_code("ab", b"text")
        assert len(other.lease([example_key(text="3"), example_key(text="4")])) == 2
        save(other, example_key(text="3"))
        other.index()
        other.close()

    within(120, use)


def test_a_link_in_the_place_of_what_was_printed_is_not_kept_and_what_it_points_to_stays_as_it_is(
    cache: DirectoryCache, tmp_path: Path
) -> None:
    outside, spool = tmp_path / "outside", tmp_path / "spool.out"
    outside.write_text("of the user")
    outside.chmod(0o644)
    spool.symlink_to(outside)
    with pytest.raises(OSError, match="no regular file"):
        cache.keep_logs(KEY, spool, None)
    assert not cache.log_paths(KEY).stdout.exists()
    assert outside.stat().st_mode & 0o777 == 0o644


def test_a_lease_file_without_end_holds_nobody_up(cache: DirectoryCache, root: Path) -> None:
    save(cache)
    (root / "leases").mkdir(exist_ok=True)
    plant_hole(root / "leases" / "00112233aabbccdd.lease")
    within(120, lambda: cache.lease([KEY]))


def test_a_marker_that_is_no_file_marks_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "taskproc.json").symlink_to("/dev/null")
    cache = DirectoryCache(tmp_path)
    for attempt in (cache.open, lambda: cache.discard([TaskKey("precious", "a")])):
        with pytest.raises(CacheError):
            attempt()
    with pytest.raises(CacheError):
        cache.discard_all("precious")
    assert (tmp_path / "precious").is_dir()


@pytest.mark.parametrize("name", ["index.jsonl", "journal.jsonl"])
def test_a_copy_made_of_hard_links_is_not_written_to_through_them(
    cache: DirectoryCache, root: Path, tmp_path: Path, name: str
) -> None:
    save(cache)
    cache.index()
    cache.note(Event("cleared", KEY, 1.0))
    subprocess.run(["cp", "-al", str(root), str(tmp_path / "copy")], check=True)
    before = (tmp_path / "copy" / name).read_bytes()
    again = DirectoryCache(root)
    save(again, example_key(text="2"))
    again.index()
    again.note(Event("cleared", KEY, 2.0))
    assert (tmp_path / "copy" / name).read_bytes() == before
    assert (root / name).read_bytes().startswith(before)
    assert len((root / name).read_bytes()) > len(before)


# Names


NAMES = [
    "../../evil.Task",
    "..",
    ".",
    "/etc/passwd",
    "a/../../b",
    "a\0b",
    "\n",
    "",
    "%2e%2e",
    "x" * 5000,
    "\u202e\u2066task",
    "\ud800",
    "taskproc.json",
    "INDEX.JSONL",
    "jobs",
    "..\\..\\windows",
    "\u2025/\uff0e\uff0e",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["name", "digest"])
def test_no_task_name_and_no_key_leads_out_of_the_cache(
    tmp_path: Path, root: Path, name: str, part: str
) -> None:
    key = TaskKey(name, "00ff" * 8) if part == "name" else TaskKey("taskfile.Train", name)
    cache = DirectoryCache(root)
    record = save(cache, key)
    cache.data_directory(key, create=True)
    cache.note(Event("failed", key))
    cache.post(name or "run", {"pid": 1})
    assert cache.look_up([key]) == {key: record}
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    entry = cache.log_paths(key).stdout.parent
    assert entry.resolve().is_relative_to(root.resolve())
    assert len(entry.relative_to(root).parts) == 2
    cache.discard([key])
    cache.discard_all(key.name)
    cache.close()
    assert (root / "taskproc.json").is_file()
    assert folder_name(name) not in ("", ".", "..")


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "..", "", "a/b", "a\0b", "ABC", "x" * 300])
def test_no_digest_of_a_kept_text_leads_out_of_the_cache(
    cache: DirectoryCache, root: Path, digest: str
) -> None:
    save(cache)
    (root.parent / "b.gz").write_bytes(b"")
    assert cache.kept_code(digest) is None
    with pytest.raises(CacheError, match="no digest"):
        cache.keep_code(digest, b"text")


@pytest.mark.parametrize(
    "path", ["../../../../secret", "/etc/passwd", "a/../../../x", "..", "a\0b", "", "./x"]
)
def test_a_record_that_names_files_outside_of_its_data_does_not_count(
    cache: DirectoryCache, path: str
) -> None:
    save(cache)
    place = entry_of(cache) / "record.json"
    fields = json.loads(place.read_text())
    fields.pop("check", None)
    fields["data"] = [[path, 0, "00"]]
    place.write_text(json.dumps(fields))
    assert cache.look_up([KEY]) == {}
    from taskproc.default_plugins.directory_cache.formats import decode_record

    assert decode_record(place.read_bytes()) is None
