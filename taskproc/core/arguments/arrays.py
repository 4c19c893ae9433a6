"""Decide the JSON form of numpy's scalars, arrays and dtypes: dtype, shape, digest of the content.

Never imports numpy: whoever holds an array has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.names import class_name
from taskproc.core.records import JSON, content_digest

if TYPE_CHECKING:
    from taskproc.core.arguments import Encoder

# Subclasses that carry no content beside that of the array; a masked array, say, has its mask.
_ARRAY_NAMES = ("ndarray", "memmap", "matrix", "recarray")


def numpy_encoding(kind: type) -> Callable[[Encoder, Any], JSON] | None:
    """How values of one of numpy's classes are encoded; None if it is none of them."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "ndarray"):
        return None
    if issubclass(kind, numpy.generic):
        return _encode_scalar if kind.__module__.partition(".")[0] == "numpy" else None
    if issubclass(kind, numpy.dtype):
        return lambda encoder, value: {"__dtype__": dtype_json(encoder, value)}
    if any(kind is getattr(numpy, name, None) for name in _ARRAY_NAMES):
        return _encode_array
    return None


def _encode_array(encoder: Encoder, value: Any) -> JSON:
    array: Any = sys.modules["numpy"].asarray(value)
    encoded: dict[str, JSON] = {
        "__array__": dtype_json(encoder, array.dtype),
        "shape": list(array.shape),
        **_content(encoder, array),
    }
    if type(value) is not type(array):
        encoded["class"] = class_name(type(value))
    return encoded


def _encode_scalar(encoder: Encoder, value: Any) -> JSON:
    dtype = value.dtype
    encoded: dict[str, JSON] = {"__scalar__": dtype_json(encoder, dtype)}
    if dtype.kind in "biufcSU" and dtype.char not in "gG":
        encoded["value"] = encoder.encode(value.item())
    else:
        encoded.update(_content(encoder, sys.modules["numpy"].asarray(value)))
    return encoded


def _content(encoder: Encoder, array: Any) -> dict[str, JSON]:
    """What is in an array, in C order: its items where bytes would not tell, else a digest."""
    dtype = array.dtype
    if dtype.names is not None:
        # Field by field: the bytes between the fields mean nothing.
        return {"fields": {name: _content(encoder, array[name]) for name in dtype.names}}
    flat = array.ravel()
    if dtype.hasobject or dtype.kind == "T":
        return {"items": encoder.encode(flat.tolist())}
    if dtype.char in "gG":
        # Extended precision has unused bytes in every item.
        return {"items": [str(item) for item in flat]}
    data = memoryview(flat.view("u1")) if flat.nbytes else b""
    return {"digest": content_digest(data)}


def dtype_json(encoder: Encoder, dtype: Any) -> JSON:
    """The JSON form of a dtype: all that tells it from another."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": dtype_json(encoder, base), "shape": list(shape)}
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        return {
            "names": list(dtype.names),
            "formats": [dtype_json(encoder, field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "titles": [encoder.encode(field[2]) if len(field) > 2 else None for field in fields],
            "itemsize": dtype.itemsize,
            "align": dtype.isalignedstruct,
        }
    if dtype.kind == "T":
        missing = [encoder.encode(dtype.na_object)] if hasattr(dtype, "na_object") else []
        return {"string": bool(dtype.coerce), "missing": missing}
    if dtype.type.__module__.partition(".")[0] != "numpy":
        return {"type": class_name(dtype.type), "str": dtype.str}
    return str(dtype.str)
