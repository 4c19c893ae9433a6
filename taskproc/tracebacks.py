"""A traceback as its user should see it: without the frames of this library and of the import system.

Knows nothing of where the error came from.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from typing import Any, cast

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


def own_lines(error: BaseException) -> str:
    """The text of an error's traceback, and of what caused it, in the user's own lines."""
    whole = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [whole]
    while waiting:
        told = waiting.pop()
        if told is None:
            continue
        frames = list(_without_machinery(told.stack))
        # With no frame left, as for a SyntaxError, there is nothing to put under a heading.
        told.stack = traceback.StackSummary.from_list(frames) if frames else cast(Any, None)
        waiting += [told.__cause__, told.__context__, *(told.exceptions or ())]
    return "".join(whole.format())


def _without_machinery(stack: traceback.StackSummary) -> Iterator[traceback.FrameSummary]:
    for frame, follower in zip(stack, [*stack[1:], None], strict=False):
        # The __init__ that dataclasses wrote is on its way to a __post_init__ of ours.
        ours = follower if frame.filename == "<string>" and follower is not None else frame
        if not ours.filename.startswith((_OWN_FOLDER, "<frozen ")):
            yield frame
