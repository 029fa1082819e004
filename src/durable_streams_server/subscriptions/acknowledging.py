"""Checks and applies the acknowledgements of workers and receivers (PROTOCOL 7.2).

The protocol rules do not read the content of streams. So this module first checks that a read can begin at each acknowledged offset.
It also splits a large request into several records.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import BadRequest, StreamError
from ..protocol.ancestry import locate
from ..protocol.existing import require_visible
from ..protocol.offsets import Offset
from ..protocol.state import StreamState
from ..protocol.subscriptions.commands import Acknowledge
from ..protocol.subscriptions.outcomes import AckOutcome
from ..protocol.subscriptions.workers import is_stale
from ..storage.ticket import Ticket
from ..streams.engine import Engine
from .loading import in_slices

#: Maximum acknowledgements in one record, because applying a record blocks the event loop.
_ACKS_PER_RECORD: Final = 250


class Acknowledger:
    """Applies acknowledgements to the subscriptions of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def acknowledge(self, command: Acknowledge) -> Ticket[AckOutcome]:
        """Moves the cursors that `command` names, if a read can begin at each acknowledged offset.

        Raises:
            BadRequest: INVALID_OFFSET for an offset past the tail, or inside an append or a JSON value.
            Fenced: the wake is over. This is checked before the offsets (PROTOCOL 7.2).
        """
        engine = self._engine
        if is_stale(engine.store.subscriptions, command, engine.clock()):
            return self._execute(command)
        checked: Ticket[None] = in_slices(
            engine.turns, command.acks, lambda ack: self._check_offset(*ack)
        )
        return checked.then(lambda _: self._apply(command))

    def _apply(self, command: Acknowledge) -> Ticket[AckOutcome]:
        """Applies a command whose offsets are valid, in several records if it has many acknowledgements."""
        acks = command.acks
        if len(acks) <= _ACKS_PER_RECORD:
            return self._execute(command)
        parts = [
            msgspec.structs.replace(command, acks=acks[at : at + _ACKS_PER_RECORD], done=False)
            for at in range(0, len(acks), _ACKS_PER_RECORD)
        ]
        last = msgspec.structs.replace(parts.pop(), done=command.done)

        def apply_part(part: Acknowledge) -> Ticket[object]:
            return self._engine.turns.ticket().then(lambda _: self._execute(part))

        return in_slices(self._engine.turns, parts, apply_part).then(lambda _: self._execute(last))

    def _execute(self, command: Acknowledge) -> Ticket[Any]:
        return self._engine.store.execute(command, self._engine.clock())

    def _check_offset(self, path: str, offset: Offset) -> Ticket[int]:
        """Checks one acknowledged offset. Accepts any offset of a deleted stream, because the rules ignore such offsets."""

        def check(state: StreamState | None) -> Ticket[int]:
            try:
                alive = require_visible(state, self._engine.clock())
                position = locate(offset, alive.incarnation, alive.ancestry, alive.visible_tail)
            except BadRequest:
                raise
            except StreamError:
                return Ticket.of(0)
            return self._engine.reader.check(alive, position).then(
                lambda begin: require_boundary(position, begin)
            )

        def require_boundary(position: int, begin: int) -> Ticket[int]:
            # A client acknowledges what it has read, and a read never ends inside an append.
            if begin != position:
                raise BadRequest("the offset is inside an append", "INVALID_OFFSET")
            return Ticket.of(position)

        return self._engine.store.find(path).then(check)
