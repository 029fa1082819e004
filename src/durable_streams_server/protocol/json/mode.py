"""Turns JSON bodies into wire bytes, and finds the ends of values in wire bytes (PROTOCOL 9.1).

In the wire form of a JSON stream, the exact bytes of each value are followed by one comma. Nothing is serialised again. A read
drops the last comma and adds the brackets of an array, so any sequence of whole values can be served as a byte range.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ...errors import BadRequest
from ..limits import MARK_SPACING, MAX_JSON_DEPTH
from ..units import KIB
from . import scan
from .check import (
    ARRAY,
    VALUE,
    Values,
    check_depth,
    check_text,
    check_value,
    elements,
    refuse_mark,
)
from .refusals import empty_array
from .split import Splitter, split_all

_SPACE: Final = b" \t\n\r"
#: Maximum bytes of a body that is parsed in one step, which takes about a millisecond. The wire form of such a body needs no marks.
_AT_ONCE: Final = MARK_SPACING - 1
#: Maximum bytes of a body that is split without a pause, which takes a few milliseconds.
_AT_A_STRETCH: Final = 64 * KIB
_FEW_COMMAS: Final = 4096  #: maximum number of commas in a body that is split without a pause


def is_large(body: bytes) -> bool:
    """Returns whether a body must be cut by a `Splitter`, because parsing it at once takes more than about a millisecond."""
    return len(body) > _AT_ONCE


def needs_turns(body: bytes) -> bool:
    """Returns whether the event loop must do other work between the steps of a `Splitter`.

    This is the case for bodies that take longer than a few milliseconds to split.
    """
    if len(body) <= _AT_ONCE:
        return False
    return len(body) > _AT_A_STRETCH or body.count(b",") > _FEW_COMMAS


def to_wire(body: bytes, *, allow_empty: bool = False) -> bytes:
    """Validates a body and returns its wire form.

    If the body is an array, each element becomes a value of the stream. Any other body becomes one value.

    Args:
        body: the request body.
        allow_empty: whether an empty array is allowed, as in a PUT, or an error, as in a POST (PROTOCOL 9.1.3).

    Raises:
        BadRequest: INVALID_JSON, or EMPTY_ARRAY.
        TooLarge: TOO_MANY_MESSAGES.
    """
    if len(body) > _AT_ONCE:
        return split_all(body, allow_empty=allow_empty).wire
    if body[:3] == b"\xef\xbb\xbf":
        refuse_mark(body)
    if not body.isascii():
        check_text(body)
    stripped = body.lstrip(_SPACE)
    values: Values
    if stripped[:1] == b"[":
        limit = MAX_JSON_DEPTH - 1
        try:
            values = ARRAY.decode(stripped)
        except (msgspec.DecodeError, RecursionError):
            # `elements` raises an error with the position, or accepts valid JSON that msgspec refuses.
            values = elements(stripped)
        if values:
            # The empty last value gives the joined bytes their final comma without a second copy.
            values.append(b"")  # type: ignore[arg-type]  # the list is typed for `Raw`, but `join` takes bytes as well
        elif not allow_empty:
            raise empty_array()
        wire = b",".join(values)
    else:
        limit = MAX_JSON_DEPTH
        try:
            VALUE.decode(stripped)
        except (msgspec.DecodeError, RecursionError):
            check_value(stripped)
        stripped = stripped.rstrip(_SPACE)
        values = [stripped]
        wire = stripped + b","
    # A body with fewer opening brackets than the limit cannot be nested deeper, so two counts suffice for most bodies.
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH:
        check_depth(values, limit)
    return wire


def value_ends(wire: bytes) -> Iterator[int]:
    """Yields the end of each whole value in a range of wire bytes, including its comma.

    The range must begin at a value, and may end inside one. The ends are counted from the beginning of the range.
    """
    return scan.ends(wire)


def last_end(wire: bytes, limit: int) -> int:
    """Returns the end of the last whole value that ends at or before `limit` in a range of wire bytes, or 0 if there is none."""
    return scan.last_end(wire, 0, limit)


def marks(wire: bytes) -> Iterable[int]:
    """Returns the positions at which a large range of wire bytes may be cut into pages.

    Marks are ends of values, at least `MARK_SPACING` apart. The end of the range is not a mark. So the values between two marks are
    smaller than `MARK_SPACING` together, except for the last of them, which may have any size. For the body of a request, a
    `Splitter` finds the marks while it validates.
    """
    splitter = Splitter(b"[" + wire[:-1] + b"]", max_messages=len(wire))
    try:
        while splitter.step():
            pass
    except BadRequest:  # the added brackets make a value of 128 levels too deep
        return walked_marks(wire)
    return splitter.marks


def walked_marks(wire: bytes) -> Iterator[int]:
    """Yields the same positions as `marks`, for values of any depth that a body may have. It takes four times as long."""
    last = 0
    for end in scan.ends(wire):
        if end - last >= MARK_SPACING and end < len(wire):
            yield end
            last = end
