"""JSON mode (PROTOCOL 9.1): bodies are validated and cut one level deep into raw slices; nothing is ever re-serialised.

The wire form of a JSON stream is each value's own bytes followed by one comma. A read drops the last comma and adds the
brackets, so any run of whole values is served as a byte range.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ...errors import BadRequest
from ..limits import MARK_SPACING, MAX_JSON_DEPTH
from ..units import KIB
from . import scan as json_scan
from .check import (
    ARRAY,
    VALUE,
    Values,
    check_depth,
    check_text,
    check_value,
    elements,
    empty_array,
    refuse_mark,
)
from .split import Splitter, split_all

_SPACE: Final = b" \t\n\r"
#: Bytes of a body that is parsed in one go, in a millisecond or so at most. Its wire form has no marks inside.
_AT_ONCE: Final = MARK_SPACING - 1
_AT_A_STRETCH: Final = (
    64 * KIB
)  # bytes of a body that is split without a pause, in a few milliseconds at most
_FEW_COMMAS: Final = 4096  # in such a body


def is_large(body: bytes) -> bool:
    """Whether a body takes longer than a millisecond or so, and is for a Splitter."""
    return len(body) > _AT_ONCE


def needs_turns(body: bytes) -> bool:
    """Whether a body takes longer than a few milliseconds, so that a Splitter should pause between its steps."""
    if len(body) <= _AT_ONCE:
        return False
    return len(body) > _AT_A_STRETCH or body.count(b",") > _FEW_COMMAS


def to_wire(body: bytes, *, allow_empty: bool = False) -> bytes:
    """Validates a body and returns its wire form: one level of array flattened, each value followed by a comma.

    Args:
        body: the request body.
        allow_empty: whether an empty array is a body without values (PUT) or an error (POST), PROTOCOL 9.1.3.

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
            values = elements(stripped)  # says what is wrong, or takes what is legal all the same
        if values:
            # The empty last value gives the joined bytes their final comma without a second copy. The list is typed for `Raw`,
            # but `join` takes bytes as well.
            values.append(b"")  # type: ignore[arg-type]
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
    # Fewer brackets than the limit cannot nest past it, so most bodies need no more than two counts.
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH:
        check_depth(values, limit)
    return wire


def value_ends(wire: bytes) -> Iterator[int]:
    """Yields where each whole value of a wire run ends, its comma included, counted from the run's beginning.

    The run begins where a value does, and may end inside one.
    """
    return json_scan.ends(wire)


def last_end(wire: bytes, limit: int) -> int:
    """Returns the last end of a whole value at or before `limit` in a wire run, or 0 if no value ends there."""
    return json_scan.last_end(wire, 0, limit)


def marks(wire: bytes) -> Iterable[int]:
    """Returns the ends of values at which a large wire run may be cut: at least MARK_SPACING apart, without the last.

    So the values between two marks are smaller than MARK_SPACING together, but for the last of them, which has any size. A
    splitter has found them already for a body that has just come.
    """
    splitter = Splitter(b"[" + wire[:-1] + b"]", max_messages=len(wire))
    try:
        while splitter.step():
            pass
    except BadRequest:  # the brackets make one value of 128 levels too deep
        return walked_marks(wire)
    return splitter.marks


def walked_marks(wire: bytes) -> Iterator[int]:
    """Yields the same as `marks`. It takes values of any depth that a body may have, and four times as long."""
    last = 0
    for end in json_scan.ends(wire):
        if end - last >= MARK_SPACING and end < len(wire):
            yield end
            last = end
