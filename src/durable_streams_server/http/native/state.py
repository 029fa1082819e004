"""The state of a connection of the native lane: its attributes, its phase and its place in line.

A connection is one object, so that an append costs no more attribute accesses than it must, but its methods are spread over several
classes. `ConnectionState` is the base of all. `Holding`, `Ending`, `Answering` and `Receiving` each add one task, and `Connection`
in `connection.py` puts them together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from ...storage.ticket import Ticket
from ...streams.event_stream import EventStream
from ...streams.turns import Line
from ..handler import Reply
from .lane import Lane
from .parser import Parser
from .pending import PendingRequest
from .phase import Phase

# An enumeration member takes longer to look up than everything else that `_settle` does, so each has a name here.
_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_ANSWERING: Final = Phase.ANSWERING
_SENDING: Final = Phase.SENDING
_LINGERING: Final = Phase.LINGERING
_CLOSED: Final = Phase.CLOSED


class ConnectionState(asyncio.BufferedProtocol):
    """The attributes of one connection, and the phase that follows from them.

    Attributes:
        transport: the socket's transport. uvicorn reads this attribute.
    """

    __slots__ = (
        "_address",
        "_answering",
        "_body_began_at",
        "_deadline",
        "_events",
        "_holds_page",
        "_is_ending",
        "_is_in_line",
        "_is_paused",
        "_is_writable",
        "_keep_alive",
        "_lane",
        "_page_bytes",
        "_parser",
        "_phase",
        "_queue",
        "_received_eof",
        "_requests_left",
        "_scheme",
        "_ticket",
        "_turns",
        "_unparsed",
        "_unsent",
        "_uses_large_buffer",
        "_was_alone",
        "transport",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._turns = lane.turns
        self._parser: Parser = cast(Parser, None)  # None until the connection is made
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # likewise
        self._scheme = "http"
        self._address: str | None = None  # the address that admission counted, or None

        self._phase = _CLOSED
        self._deadline = 0.0  # of the phase, in the loop's time; see `_enter`
        self._body_began_at = 0.0  # in the loop's time
        self._unsent = 0  # bytes in the write buffer when the connection was last checked

        self._queue: deque[PendingRequest] = deque()
        self._answering: PendingRequest | None = None
        self._ticket: Ticket[Reply] | None = None  # of the request being answered
        self._events: EventStream | None = None  # that is being sent
        self._requests_left = 0  # requests that this step may still begin
        self._is_in_line = False

        self._unparsed: bytes | memoryview = b""  # octets received and set aside
        self._is_paused = False  # whether reading from the socket is paused
        self._was_alone = True  # whether no step waited in line when reading was last resumed
        self._uses_large_buffer = False  # even while the turn of the loop is full
        self._received_eof = False

        self._keep_alive = True
        self._is_writable = True  # whether the write buffer is empty enough for more
        self._holds_page = False  # whether a large page is held until the client has read it
        self._page_bytes = 0  # bytes of large pages written so far
        self._is_ending = False  # whether the last response has been written

    @property
    def deadline(self) -> float:
        """The loop's time at which the current phase has lasted too long."""
        return self._deadline

    @property
    def unsent(self) -> int:
        """Bytes of small responses that the client has not read, as of the last check. Large pages are counted elsewhere."""
        return self._unsent if self._phase is _SENDING and not self._holds_page else 0

    # -- phase --------------------------------------------------------------

    def _settle(self) -> None:
        """Enters the phase that follows from the connection's state, unless it is the current phase."""
        parser = self._parser
        if self._phase is _CLOSED:
            return
        if self._is_ending:
            phase = _SENDING if self.transport.get_write_buffer_size() else _LINGERING
        elif not self._is_writable:
            phase = _SENDING
        elif self._answering is not None or self._queue:
            phase = _ANSWERING
        elif parser.request is not None:
            phase = _BODY
        else:
            phase = _HEAD if parser.has_begun else _IDLE
        if phase is not self._phase:
            self._enter(phase)
            if phase is _BODY:
                self._body_began_at = self._lane.now

    def _enter(self, phase: Phase) -> None:
        """Enters a phase, or restarts the time of the current one. Besides this method, only `_begin` sets the deadline."""
        self._phase = phase
        self._deadline = self._lane.now + self._lane.phase_durations[phase]
        if phase is _SENDING:
            self._unsent = self.transport.get_write_buffer_size()

    def _is_body_too_slow(self, now: float) -> bool:
        """Returns whether the body arrives at less than the least rate. A pause that is too long has a deadline of its own."""
        lane = self._lane
        overtime = now - self._body_began_at - lane.phase_durations[_BODY]
        return self._parser.body_size + len(self._unparsed) < overtime * lane.least_rate

    def _restart_send_time(self) -> None:
        """Restarts the time of the sending phase if the client has read something since the last check."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._enter(_SENDING if unsent or not self._is_ending else _LINGERING)
        else:
            self._unsent = unsent

    # -- line ---------------------------------------------------------------

    def _wait_in_line(self, *, is_read: bool = False) -> None:
        """Schedules a call of `_advance` for this connection's place in line, unless one is scheduled.

        Args:
            is_read: whether the next request is a cheap read, which may pass the writes in line.
        """
        if not self._is_in_line:
            self._is_in_line = True
            if is_read:
                line = Line.READS
            elif self._events is None and not self._received_eof:
                line = Line.URGENT
            else:
                line = Line.WORK
            self._turns.add(self._advance, line)

    def _advance(self) -> None:
        """Does one step of this connection's work. `Connection` implements it."""
        raise NotImplementedError
