"""Decides appends and closes (PROTOCOL 5.2, 5.3)."""

from ...errors import Conflict, OffsetMismatch, StreamClosed, TooLarge, TooManyRequests
from ..commands import Append
from ..existing import require_existing
from ..limits import MAX_POSITION, RETRY_SOON
from ..names import STREAM_CLOSED, STREAM_NEXT_OFFSET
from ..offsets import ZERO, Offset
from ..preconditions import check_conditions
from ..producers import ProducerState, is_duplicate
from ..state import Appended, Lookup, StreamState
from .outcomes import AppendOutcome, Decision
from .rules import Rules


def decide_append(states: Lookup, command: Append, now: int, rules: Rules) -> Decision:
    """Decides an append. Checks it in the order of PROTOCOL 5.2, and checks `If-Match` and `If-None-Match` last."""
    if rules.registry is not None:
        rules.registry.refuse_write(command.path)
    state = require_existing(states.get(command.path), now)
    if state.closed:
        return _append_to_closed(state, command)
    if command.media is not None and command.media.essence != state.media.essence:
        raise Conflict(
            f"the stream's content type is {state.media.essence}", "CONTENT_TYPE_MISMATCH"
        )
    body = command.body
    if body.problem is not None:
        raise body.problem.refusal()
    stamp = command.stamp
    if stamp is not None:
        known = state.producers.get(stamp.producer)
        if is_duplicate(known, stamp):
            return Decision((), AppendOutcome(state.name(state.tail), False, False, known))
        if known is None and len(state.producers) >= rules.max_producers:
            raise TooManyRequests(
                "the stream has too many producers", "TOO_MANY_PRODUCERS", retry_after=RETRY_SOON
            )
    if command.expected is not None:
        _check_expected(state, command.expected)
    if command.seq is not None and state.last_seq is not None and command.seq <= state.last_seq:
        raise Conflict("Stream-Seq must be greater than the last one", "SEQUENCE_REGRESSION")
    start = state.tail
    tail = start + len(body.wire)
    if tail > rules.max_stream_bytes:  # rare, because a stream has at most `tail` bytes of its own
        check_room(start, len(body.wire), start - state.base, rules)
    if command.conditions is not None:
        check_conditions(command.conditions, state)
    change = Appended(
        state.path,
        state.incarnation,
        start,
        body.wire,
        command.closes,
        now,
        stamp,
        command.seq,
    )
    producer = ProducerState(stamp.epoch, stamp.seq) if stamp else None
    outcome = AppendOutcome(state.name(tail), command.closes, command.has_body, producer)
    return Decision((change,), outcome)


def check_room(start: int, size: int, before: int, rules: Rules) -> None:
    """Refuses data that a stream has no room for.

    Args:
        start: the position of the data.
        size: the bytes of the data. A close without data has none, and always passes.
        before: the bytes that the stream has before the data, without those that a fork inherits.
        rules: the store's configuration.

    Raises:
        Conflict: STREAM_FULL.
        TooLarge: STREAM_TOO_LARGE.
    """
    if start + size > MAX_POSITION:
        raise Conflict("the stream is full", "STREAM_FULL")
    if size and before + size > rules.max_stream_bytes:
        raise TooLarge(
            f"the stream may have at most {rules.max_stream_bytes} bytes", "STREAM_TOO_LARGE"
        )


def _append_to_closed(state: StreamState, command: Append) -> Decision:
    """Confirms a repetition of the close that closed the stream, and refuses any other append (PROTOCOL 5.2, 5.2.1)."""
    next_offset = state.name(state.tail)
    stamp = command.stamp
    if stamp is not None and stamp == state.closed_by:
        known = ProducerState(stamp.epoch, stamp.seq)
        return Decision((), AppendOutcome(next_offset, True, False, known))
    if stamp is None and not command.has_body:
        return Decision((), AppendOutcome(next_offset, True, False, None))
    raise StreamClosed(
        "the stream is closed",
        headers=[(STREAM_NEXT_OFFSET, next_offset.encode()), (STREAM_CLOSED, b"true")],
    )


def _check_expected(state: StreamState, expected: Offset) -> None:
    """Refuses an append whose `Stream-Expected-Offset` is not the tail."""
    tail = state.name(state.tail)
    at_start = expected == ZERO and state.tail == 0
    if not at_start and str(expected) != tail:
        raise OffsetMismatch(
            "the tail is not at the expected offset",
            headers=[(STREAM_NEXT_OFFSET, tail.encode())],
        )
