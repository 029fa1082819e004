"""Resolves `Stream-Fork-Offset` and `Stream-Fork-Sub-Offset` to the byte position at which a fork leaves its source.

This reads bytes of the source, so it happens before the decision. The position stays valid, because bytes never move. The decision checks
that the source is still the same incarnation.
"""

from __future__ import annotations

import msgspec

from ..errors import BadRequest, Gone, StreamError
from ..protocol.commands import Create, Fork
from ..protocol.existing import visible_position
from ..protocol.media import Kind
from ..protocol.state import StreamState
from ..storage.store import Store
from ..storage.ticket import Ticket, repeat
from .reader import Reader
from .turns import Turns


def resolve(
    store: Store, reader: Reader, command: Create, now: int, turns: Turns | None = None
) -> Ticket[Create]:
    """Returns the command with the byte position of its fork, or with the error that the fork offsets cause.

    The decision raises the error, because only the decision knows whether the fork exists already. If it does, a repeated PUT is compared
    with the stored configuration of the fork, and is confirmed even if the source has changed.

    Args:
        store: the store that has the source.
        reader: reads the source.
        command: the create command, whether or not it creates a fork.
        now: steady time in microseconds.
        turns: runs the search for a position inside a large append in steps. If it is None, the search runs without a break.
    """
    fork = command.fork
    if fork is None or (fork.offset is None and not fork.sub_offset):
        return Ticket.of(command)
    resolved: Ticket[Create] = Ticket()

    def with_source(source: StreamState | None) -> Ticket[Fork]:
        if source is None or source.soft_deleted or source.expired(now):
            return Ticket.of(fork)  # the decision raises the error
        return _position(reader, source, fork, turns).then(
            lambda position: Ticket.of(
                msgspec.structs.replace(fork, position=position, incarnation=source.incarnation)
            )
        )

    def finish(found: Ticket[Fork]) -> None:
        try:
            place = found.result()
        except StreamError as problem:
            place = msgspec.structs.replace(fork, problem=problem)
        except Exception as error:
            resolved.fail(error)
            return
        resolved.resolve(msgspec.structs.replace(command, fork=place))

    store.find(fork.source).then(with_source).add_callback(finish)
    return resolved


def _position(reader: Reader, source: StreamState, fork: Fork, turns: Turns | None) -> Ticket[int]:
    """Returns the byte position at which a fork leaves its source."""
    if fork.offset is None:
        anchor = source.visible_tail
    else:
        try:
            anchor = visible_position(source, fork.offset)
        except Gone:
            raise BadRequest("the fork offset is outside the source", "INVALID_OFFSET") from None
    return reader.check(source, anchor).then(
        lambda checked: _refine(reader, source, checked, fork.sub_offset or 0, turns)
    )


def _refine(
    reader: Reader, source: StreamState, anchor: int, sub_offset: int, turns: Turns | None
) -> Ticket[int]:
    """Returns the position `sub_offset` bytes, or JSON values, after the anchor.

    Raises:
        BadRequest: the position is past the end of the next append (PROTOCOL 4.2).
    """
    if sub_offset == 0:
        return Ticket.of(anchor)
    if sub_offset < 0 or anchor == source.visible_tail:
        raise _overshoot()

    def within(end: int) -> Ticket[int]:
        if source.media.kind is Kind.JSON:
            return _nth_value_end(reader, source, anchor, end, sub_offset, turns)
        if anchor + sub_offset > end:
            raise _overshoot()
        return Ticket.of(anchor + sub_offset)

    return reader.next_append_end(source, anchor).then(within)


def _nth_value_end(
    reader: Reader, source: StreamState, start: int, end: int, count: int, turns: Turns | None
) -> Ticket[int]:
    """Returns the end of the `count`th JSON value between two value ends."""
    position = start

    def step() -> Ticket[int | None]:
        if position >= end:
            raise _overshoot()
        if turns is None or position == start:
            return search(None)
        return turns.ticket().then(search)

    def search(_: None) -> Ticket[int | None]:
        if source.removed:
            raise _overshoot()  # the decision finds that the source is deleted
        return reader.value_ends(source, position, end).then(count_down)

    def count_down(ends: list[int]) -> Ticket[int | None]:
        nonlocal position, count
        if count <= len(ends):
            return Ticket.of(ends[count - 1])
        count -= len(ends)
        position = ends[-1]
        return Ticket.of(None)

    return repeat(step)


def _overshoot() -> BadRequest:
    return BadRequest("the sub-offset goes past the next append", "INVALID_SUB_OFFSET")
