"""Receives octets on a native connection, and leaves the event loop time for other connections."""

from __future__ import annotations

from typing import Final, cast

from ...errors import StreamError
from ...streams.turns import WRITES_AT_ONCE
from .lane import SMALL_BUFFER
from .phase import Phase
from .state import ConnectionState

#: Octets parsed in one step. 16 KiB of the smallest chunks or of pipelined heads take about 2 ms. A part of a body whose length is
#: known is one call of the parser, however large it is.
STEP_OCTETS: Final = 16 * 1024
#: Octets of one read above which the event loop does not read the same socket again in the same turn.
_LARGE_PART: Final = 64 * 1024
#: Work of one turn, counted in requests by `Turns`. Below it, the event loop may read again from the same client if no other work waits.
#: This allows about six large parts.
_ALONE_LIMIT: Final = 192
#: Seconds that the event loop takes to receive one part of a large body.
_RECEIVE_TIME: Final = 0.0005
_P: Final = 0x50  # the first octet of POST, PUT and PATCH

_IDLE: Final = Phase.IDLE
_BODY: Final = Phase.BODY


class Receiving(ConnectionState):
    """The part of a connection that parses octets in steps, and pauses reading from the socket between steps."""

    __slots__ = ()

    def get_buffer(self, _: int) -> memoryview:
        """Returns the buffer that the event loop receives into next.

        The buffer is small if the event loop has too much work for this turn, because the loop receives from every ready socket before
        it does other work.
        """
        is_small = self._turns.begun >= WRITES_AT_ONCE and not self._uses_large_buffer
        lane = self._lane
        return lane.small_buffer if is_small else lane.buffer

    def _receive(self, data: memoryview) -> None:
        """Parses as much of `data` as fits this turn of the event loop, and sets the rest aside."""
        parser, turns = self._parser, self._turns
        if self._unparsed or (
            turns.is_full and (len(data) >= SMALL_BUFFER or self._must_wait(data))
        ):
            size = 0
        else:
            size = min(len(data), max(STEP_OCTETS, parser.body_left))
            turns.count(parser.feed, data[:size])
            # The octets just parsed may contain the head, and only the head says how many of the next octets are one part of its body.
            if more := min(len(data) - size, parser.body_left):
                turns.count(parser.feed, data[size : size + more])
                size += more
        if size < len(data) and not parser.is_over:
            self._set_aside(data[size:])
        elif (
            size >= _LARGE_PART
            and not self._may_read_on
            and not self._is_paused
            and not parser.is_over
        ):
            self._pause_reading()  # otherwise the event loop would read this socket again and again
            self._enqueue_step()

    def _must_wait(self, data: memoryview) -> bool:
        """Returns whether `data` begins a write, which has to wait for a later turn and so need not be parsed yet."""
        return self._phase is _IDLE and data[0] == _P

    @property
    def _may_read_on(self) -> bool:
        """Whether the event loop may read this socket again in this turn, because no other work waits and there is time left."""
        turns = self._turns
        return self._was_alone and turns.begun < _ALONE_LIMIT and not len(turns)

    def _set_aside(self, rest: memoryview) -> None:
        """Keeps a copy of octets to parse later, and pauses reading. Refuses the request if the budget has no room."""
        try:
            self._lane.budget.take(len(rest))
        except StreamError as refusal:
            self._parser.refuse(refusal)
            return
        self._unparsed = b"".join((self._unparsed, rest))
        self._uses_large_buffer = False
        if not self._is_paused:
            self._pause_reading()
        self._enqueue_step()

    def _parse_set_aside(self) -> None:
        """Parses some of the octets that were set aside."""
        parser = self._parser
        unparsed = self._unparsed
        if not unparsed:
            return
        if parser.is_over:
            size = len(unparsed)
        else:
            size = max(STEP_OCTETS, min(len(unparsed), parser.body_left))
        view = memoryview(unparsed)
        left = len(view) - min(size, len(view))
        self._lane.budget.give_back(len(view) - left)
        # A view keeps the whole object in memory. So a small rest is copied, because the budget counts only the rest.
        is_half = left * 2 > len(cast(bytes, view.obj))
        self._unparsed = view[size:] if is_half else bytes(view[size:])
        parser.feed(view[:size])
        if self._phase is _BODY:
            self._enter(_BODY)

    def _pause_reading(self) -> None:
        """Stops reading from the socket until `_resume_reading` is called."""
        if not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        """Resumes reading from the socket."""
        self._is_paused = False
        if self._parser.has_begun:
            # With the small buffer, receiving a large body would take minutes while there are many other clients.
            self._uses_large_buffer = True
            self._was_alone = not len(self._turns)
            self._turns.spend(_RECEIVE_TIME)
        if not self.transport.is_closing():
            self.transport.resume_reading()
