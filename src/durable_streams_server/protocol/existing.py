"""Checks that the stream of a request exists: in the newest state for writes, in the durable state for reads."""

from ..errors import BadRequest, Gone
from .ancestry import locate
from .media import Kind
from .offsets import Offset
from .refusals import stream_damaged, stream_not_found
from .state import StreamState


def require_existing(state: StreamState | None, now: int) -> StreamState:
    """Returns the newest state of a stream, after checking that the stream exists and is readable.

    Raises:
        NotFound: there is no stream, or it has expired.
        Gone: the stream is soft-deleted.
        StreamDamaged: the store has lost some of the stream's bytes.
    """
    if state is None or state.removed:
        raise stream_not_found()
    require_not_ended(state, state.soft_deleted, now)
    if state.damage is not None:
        raise stream_damaged()
    return state


def require_visible(state: StreamState | None, now: int) -> StreamState:
    """Returns the state of a stream that readers can see. A delete that is not durable yet does not count.

    Raises:
        NotFound: there is no stream, or it has expired.
        Gone: the stream is soft-deleted.
        StreamDamaged: the store has lost some of the stream's bytes.
    """
    if state is None or state.visible_removed:
        raise stream_not_found()
    require_not_ended(state, state.visible_soft_deleted, now)
    if state.damage is not None:
        raise stream_damaged()
    return state


def require_not_ended(state: StreamState, soft_deleted: bool, now: int) -> None:
    """Checks that a stream is neither deleted nor expired.

    Raises:
        NotFound: the stream has expired.
        Gone: the stream is soft-deleted, or has expired and still has forks.
    """
    expired = state.mortal and state.expired(now)
    if soft_deleted or (expired and state.children):
        raise Gone("the stream is deleted")
    if expired:
        raise stream_not_found()


def visible_position(state: StreamState, offset: Offset) -> int:
    """Returns the position that the offset of a read names in the visible part of a stream.

    In a binary or text stream, an offset one byte past the tail names the tail, and an offset one byte past an ancestor's part
    names the end of that part. `Reader.check` explains why.

    Raises:
        Gone: OFFSET_GONE, if the offset belongs to an earlier stream at this path.
        BadRequest: INVALID_OFFSET, if the offset was never minted for this stream, or is past the tail.
    """
    try:
        return locate(offset, state.incarnation, state.ancestry, state.visible_tail)
    except BadRequest:
        if state.media.kind is Kind.JSON or offset.position == 0:
            raise
    before = Offset(offset.incarnation, offset.position - 1)
    return locate(before, state.incarnation, state.ancestry, state.visible_tail)
