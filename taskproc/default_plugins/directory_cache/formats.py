"""The two files of an entry, as bytes: the gzip pickle, and the record as JSON.

Decides what is a whole record and what compresses. Every line of JSON that the cache writes ends
with a check of itself, so that no flipped bit shows anybody another argument, time or name.
Knows nothing of where files are kept.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from taskproc.interfaces import JSON, DataFile, Record, TaskKey, UpstreamRecord, content_digest

FORMAT = 1
"""The number of the record's format; a record of another format does not count."""

# One encoder kept, and no look for circles: a record has none.
_encode = json.JSONEncoder(check_circular=False).encode

# The check is the last word of a line, and of all that stands before it. It is against disks, not
# against people: what somebody has written anew, in a layout of their own, is taken at its word,
# and so are lines from before there were checks.
_CHECK = b', "check": "'
_END = b'"}\n'

# What a record's provenance tells that others reckon with, where it tells it.
_LISTS = {"names": str, "holds": str, "other_code": str, "accepted": dict, "renamed": dict}
_RECKONED_WITH = frozenset({*_LISTS, "packages"})

_NO_NAMES = frozenset({"", ".", ".."})

_CHUNK = 1 << 20
_GZIP = 16  # added to zlib's window bits: with gzip's header and check sum
_PROBE_FROM = 1 << 18
_PROBE_SLICE = 1 << 14
_PROBE_SLICES = 4
_WORTH_IT = 0.9


def compress(payload: bytes, level: int) -> Iterator[bytes]:
    """The payload as a gzip file, in pieces; a big one that does not compress is only stored."""
    size = len(payload)
    if size >= _PROBE_FROM and level and not _is_compressible(payload):
        level = 0
    # zlib touches 256 KiB of memory at its usual settings, 40 us before the first byte.
    if size <= 512:
        window, memory = 9, 1
    elif size <= 4096:
        window, memory = 12, 4
    else:
        window, memory = 15, 8
    compressor = zlib.compressobj(level, zlib.DEFLATED, window + _GZIP, memory)
    if size <= _CHUNK:
        yield compressor.compress(payload) + compressor.flush()
        return
    view = memoryview(payload)
    for start in range(0, size, _CHUNK):
        if piece := compressor.compress(view[start : start + _CHUNK]):
            yield piece
    yield compressor.flush()


def _is_compressible(payload: bytes) -> bool:
    """Try 64 KiB, taken from several places: a header or a run of zeros says little of the rest."""
    step = (len(payload) - _PROBE_SLICE) // (_PROBE_SLICES - 1)
    sample = b"".join(payload[i * step : i * step + _PROBE_SLICE] for i in range(_PROBE_SLICES))
    return len(zlib.compress(sample, 1)) < _WORTH_IT * len(sample)


def decompress(data: bytes) -> bytes:
    """The payload of a gzip file.

    Raises:
        zlib.error: it is damaged or incomplete.
    """
    # Room for all of it at once if it was only stored, so that it is not copied over and over.
    return zlib.decompress(data, zlib.MAX_WBITS + _GZIP, max(len(data), zlib.DEF_BUF_SIZE))


def encode_record(record: Record, result_bytes: int) -> bytes:
    """A record as one line of JSON; `result_bytes` is the size of the result's file."""
    return encode_line(record_fields(record, result_bytes))


def encode_line(fields: dict[str, JSON]) -> bytes:
    """One line of JSON, in ASCII, for `decode_line`; there is at least one field."""
    body = _encode(fields)[:-1].encode()
    return b"%b%b%b%b" % (body, _CHECK, content_digest(body).encode(), _END)


def decode_line(line: bytes) -> Any:
    """The fields that `encode_line` was given, and its check.

    Raises:
        ValueError, RecursionError: this is no JSON, or not what was written.
    """
    body, found, rest = line.rpartition(_CHECK)
    if found and rest.endswith(_END) and rest[: -len(_END)].decode() != content_digest(body):
        raise ValueError("the line is not what its check is of")
    return json.loads(line.decode())


def record_fields(record: Record, result_bytes: int) -> dict[str, JSON]:
    """A record as JSON knows it; `record_of_fields` reads it."""
    fields: dict[str, JSON] = {
        "format": FORMAT,
        "task": record.key.name,
        "key": record.key.digest,
        "args": dict(record.args),
        "code": record.code,
        "code_scheme": record.code_scheme,
        "attributes": record.attributes,
        "upstreams": [(up.path, up.key.name, up.key.digest, up.version) for up in record.upstreams],
        "digest": record.digest,
        "version": record.version,
        "data": record.data,
        "root": record.root,
        "python": record.python,
        "result_bytes": result_bytes,
        "provenance": dict(record.provenance),
    }
    if record.left:  # most tasks have nothing to tell there
        fields["left"] = dict(record.left)
    return fields


def is_whole_line(line: bytes) -> bool:
    """Whether a line is JSON, and what was written."""
    try:
        decode_line(line)
    except (ValueError, RecursionError):
        return False
    return True


def is_newer(text: bytes) -> bool:
    """Whether this is a whole record that a newer taskproc has written, of a format unknown here."""
    try:
        fields: Any = decode_line(text)
        return type(fields["format"]) is int and fields["format"] > FORMAT
    except (ValueError, RecursionError, LookupError, TypeError):
        return False


def decode_record(text: bytes) -> tuple[Record, int] | None:
    """The record and the size of its result's file; None if this is no whole record of ours."""
    try:
        fields: Any = decode_line(text)
    except (ValueError, RecursionError):
        return None
    return record_of_fields(fields)


def record_of_fields(fields: Any) -> tuple[Record, int] | None:
    """What `record_fields` was given; None if `fields` is no such thing."""
    try:
        if fields["format"] != FORMAT:
            return None
        upstreams, data = fields["upstreams"], fields["data"]
        record = Record(
            TaskKey(fields["task"], fields["key"]),
            fields["args"],
            fields["code"],
            fields["code_scheme"],
            fields["attributes"],
            tuple(
                [
                    UpstreamRecord(path, TaskKey(name, digest), version)
                    for path, name, digest, version in upstreams
                ]
            ),
            fields["digest"],
            fields["version"],
            tuple([DataFile(path, size, digest) for path, size, digest in data]) if data else (),
            fields["root"],
            fields["python"],
            fields["provenance"],
            fields.get("left", {}),
        )
        result_bytes = fields["result_bytes"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return (record, result_bytes) if _has_right_types(record, result_bytes) else None


def _has_right_types(record: Record, result_bytes: object) -> bool:
    """Whether what JSON gave has the types that a record promises; spelled out to be quick."""
    (name, digest), root, python = record.key, record.root, record.python
    if not type(name) is type(digest) is type(record.digest) is type(record.version) is str:
        return False
    for path, (name, digest), version in record.upstreams:
        if not type(path) is type(name) is type(digest) is type(version) is str:
            return False
    for path, size, digest in record.data:
        if not (type(path) is type(digest) is str and type(size) is int and _stays_inside(path)):
            return False
    return (
        type(record.code) is type(record.attributes) is str
        and type(record.code_scheme) is type(result_bytes) is int
        and type(record.args) is type(record.provenance) is type(record.left) is dict
        and (root is None or type(root) is str)
        and (python is None or type(python) is str)
        and (_RECKONED_WITH.isdisjoint(record.provenance) or _has_right_notes(record.provenance))
    )


def _stays_inside(path: str) -> bool:
    """Whether a path leads to a file below the folder that it starts from, as those of data files do."""
    return _NO_NAMES.isdisjoint(path.split("/")) and "\0" not in path


def _has_right_notes(provenance: Mapping[str, Any]) -> bool:
    """Whether what is reckoned with has its type; without it a result might count that should not."""
    for name, kind in _LISTS.items():
        told = provenance.get(name, ())
        if told != () and not (type(told) is list and all(type(one) is kind for one in told)):
            return False
    packages = provenance.get("packages", {})
    return type(packages) is dict and all(type(version) is str for version in packages.values())
