"""Where a fork diverges: `Stream-Fork-Offset` and `Stream-Fork-Sub-Offset` resolved to a byte position of the source.

This needs the source's bytes, so it comes before the decision. Positions never move, so what is found stays true; that the
source is still the same incarnation, the decision checks.
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
    """Returns the command with its fork position filled in, where it names one, or with the problem that it has.

    Finding a position far inside a large append takes long: on a loop it is done in `turns`.

    A repeated PUT is answered from what is stored with the fork, so a problem is for the decision to raise: it alone knows
    whether the path is taken.
    """
    fork = command.fork
    if fork is None or (fork.offset is None and not fork.sub_offset):
        return Ticket.of(command)
    resolved: Ticket[Create] = Ticket()

    def with_source(source: StreamState | None) -> Ticket[Fork]:
        if source is None or source.soft_deleted or source.expired(now):
            return Ticket.of(fork)  # the decision says what is wrong with it
        return _position(reader, source, fork, turns).then(
            lambda position: Ticket.of(
                msgspec.structs.replace(fork, position=position, incarnation=source.incarnation)
            )
        )

    def hand_over(found: Ticket[Fork]) -> None:
        try:
            place = found.result()
        except StreamError as problem:
            place = msgspec.structs.replace(fork, problem=problem)
        except Exception as error:
            resolved.fail(error)
            return
        resolved.resolve(msgspec.structs.replace(command, fork=place))

    store.find(fork.source).then(with_source).add_callback(hand_over)
    return resolved


def _position(reader: Reader, source: StreamState, fork: Fork, turns: Turns | None) -> Ticket[int]:
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
    """Goes `sub_offset` bytes, or JSON values, past the anchor, never past the next append (PROTOCOL 4.2)."""
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
    """Returns where the value ends that is the `count`th of those between two value ends."""
    position = start

    def step() -> Ticket[int | None]:
        if position >= end:
            raise _overshoot()
        if turns is None or position == start:
            return look(None)
        return turns.ticket().then(look)

    def look(_: None) -> Ticket[int | None]:
        if source.removed:
            raise _overshoot()  # the decision finds that it is gone
        return reader.value_ends(source, position, end).then(found)

    def found(ends: list[int]) -> Ticket[int | None]:
        nonlocal position, count
        if count <= len(ends):
            return Ticket.of(ends[count - 1])
        count -= len(ends)
        position = ends[-1]
        return Ticket.of(None)

    return repeat(step)


def _overshoot() -> BadRequest:
    return BadRequest("the sub-offset goes past the next append", "INVALID_SUB_OFFSET")
