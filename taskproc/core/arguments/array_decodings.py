"""Make numpy's values of the JSON forms of `arrays` again, where the form holds the content.

Never imports numpy: stored text alone is no reason to. An array whose form has a digest is
refused, as nobody can tell an array by that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.arrays import dtype_json
from taskproc.core.arguments.encoder import Encoder
from taskproc.core.arguments.names import class_name
from taskproc.core.arguments.plain_decodings import Form

if TYPE_CHECKING:
    from taskproc.core.arguments.decoder import Decoder


def _numpy(decoder: Decoder) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise decoder.refused("it is one of numpy's values, and numpy is not imported; import it first")
    return numpy


def _decode_scalar(decoder: Decoder, form: dict[str, Any]) -> Any:
    dtype = _dtype(decoder, form["__scalar__"])
    if "value" in form:
        plain = decoder.inside("", form["value"])
        if dtype.kind in "SU":  # what ends in zeros is told by its length
            length = dtype.itemsize // (4 if dtype.kind == "U" else 1)
            plain = plain.ljust(length, "\0" if dtype.kind == "U" else b"\0")
        value = dtype.type(plain)
    elif "items" in form:
        value = _of_items(decoder, dtype, form["items"])[0]
    else:
        raise decoder.refused("a scalar of this kind is stored by its digest only")
    if value.dtype != dtype:
        raise TypeError(f"its value is none of {dtype}")
    return value


def _decode_array(decoder: Decoder, form: dict[str, Any]) -> Any:
    numpy = _numpy(decoder)
    dtype, shape = _dtype(decoder, form["__array__"]), tuple(form["shape"])
    if math.prod(shape) == 0:
        array = numpy.zeros(shape, dtype)
    elif "items" in form:
        array = _of_items(decoder, dtype, form["items"]).reshape(shape)
    else:
        raise decoder.refused("an array is stored by its digest only; pass it as the output of a task")
    name = form.get("class")
    if name is None:
        return array
    kind = next((one for one in (numpy.matrix, numpy.recarray) if class_name(one) == name), None)
    if kind is None:
        raise decoder.refused(f"an array of class {name} is stored without what makes it one")
    return array.view(kind)


def _of_items(decoder: Decoder, dtype: Any, forms: Any) -> Any:
    """A flat array of items that stand in the form one by one."""
    items = decoder.inside("", forms)
    array = _numpy(decoder).empty(len(items), dtype)
    for index, item in enumerate(items):
        array[index] = dtype.type(item) if dtype.char in "gG" else item
    return array


def _decode_dtype(decoder: Decoder, form: dict[str, Any]) -> Any:
    return _dtype(decoder, form["__dtype__"])


def _dtype(decoder: Decoder, form: Any) -> Any:
    dtype = _numpy(decoder).dtype(_description(decoder, form))
    # numpy takes more than one text for most of its dtypes; the Encoder writes one.
    if dtype_json(Encoder(), dtype) != form:
        raise decoder.refused(f"the dtype {dtype} is another one than was stored")
    return dtype


def _description(decoder: Decoder, form: Any) -> Any:
    """What numpy makes a dtype of."""
    if isinstance(form, str):
        return form
    if "base" in form:
        return _dtype(decoder, form["base"]), tuple(form["shape"])
    if "type" in form:
        return decoder.named_class(form["type"])
    if "string" in form:
        missing = decoder.inside("", form["missing"])
        given = {"na_object": missing[0]} if missing else {}
        return _numpy(decoder).dtypes.StringDType(coerce=form["string"], **given)
    return {
        "names": form["names"],
        "formats": [_dtype(decoder, one) for one in form["formats"]],
        "offsets": form["offsets"],
        "titles": decoder.inside("", form["titles"]),
        "itemsize": form["itemsize"],
        "aligned": form["align"],
    }


ARRAY_DECODINGS: Mapping[str, Form] = {
    "__scalar__": Form(_decode_scalar, ("value", "items", "digest", "fields")),
    "__array__": Form(_decode_array, ("shape", "items", "digest", "fields", "class")),
    "__dtype__": Form(_decode_dtype),
}
