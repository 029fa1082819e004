"""Compares kept cursors with the streams that they point into, which may have been replaced or truncated since."""

from ...errors import BadRequest, Gone
from ..ancestry import locate
from ..offsets import Offset, parse
from ..state import StreamState


def unread_from(cursor: Offset, state: StreamState) -> Offset | None:
    """Returns the offset from which a stream has unread bytes for a cursor, or None if all are read.

    If the cursor belongs to an earlier stream at the path, the whole present stream is unread. If the cursor is past the tail,
    because a repair has removed bytes or an older copy was restored, nothing is unread.
    """
    try:
        position = locate(cursor, state.incarnation, state.ancestry, state.tail)
    except Gone:
        cursor, position = parse(state.name(state.base)), state.base
    except BadRequest:
        return None
    return cursor if position < state.tail else None


def belongs_to(cursor: Offset, state: StreamState) -> bool:
    """Returns whether a cursor is an offset of this stream or of its ancestors."""
    try:
        locate(cursor, state.incarnation, state.ancestry, state.tail)
    except (Gone, BadRequest):
        return False
    return True
