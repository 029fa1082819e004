"""The attributes of a native connection, its phase, and its place in the queue of work.

A connection is one object, because further objects would cost every append an attribute access. Its methods are divided among several
classes, which inherit from each other. `ConnectionState` is the base class, `Holding`, `Ending`, `Answering` and `Receiving` each add one
responsibility, and `Connection` in `connection.py` combines them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from ...storage.ticket import Ticket
from ...streams.event_stream import EventStream
from ...streams.turns import Line
from ..replies import Reply
from .lane import Lane
from .parser import Parser
from .pending import PendingRequest
from .phase import Phase

# Names for the members, because looking up a member of the enumeration takes longer than the rest of `_settle`.
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
        "_body_since",
        "_deadline",
        "_events",
        "_holds_page",
        "_is_ending",
        "_is_paused",
        "_is_queued",
        "_is_writable",
        "_keep_alive",
        "_lane",
        "_page_bytes",
        "_parser",
        "_peer",
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
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # also None until then
        self._scheme = "http"
        self._address: str | None = None  # the address that admission counted, or None
        self._peer: str | None = None  # the address of the peer, or None for a Unix socket

        self._phase = _CLOSED
        self._deadline = 0.0  # loop time at which the phase has lasted too long
        self._body_began_at = 0.0  # time of the event loop's clock
        self._body_since = 0.0  # time of the observer's clock, or 0 if no body is waited for
        self._unsent = 0  # bytes in the write buffer when the connection was last checked

        self._queue: deque[PendingRequest] = deque()
        self._answering: PendingRequest | None = None
        self._ticket: Ticket[Reply] | None = None  # the ticket for the reply to `_answering`
        self._events: EventStream | None = None  # the event stream that is being sent
        self._requests_left = 0  # requests that may still begin in this step
        self._is_queued = False

        self._unparsed: bytes | memoryview = b""  # octets that were received and set aside
        self._is_paused = False  # whether reading from the socket is paused
        self._was_alone = True  # whether no other work waited when reading was resumed
        self._uses_large_buffer = False  # whether to use the large buffer even if the loop is busy
        self._received_eof = False

        self._keep_alive = True
        self._is_writable = True  # whether the write buffer is empty enough for more
        self._holds_page = False  # whether a large page is held until the client has read it
        self._page_bytes = 0  # bytes of large pages written so far
        self._is_ending = False  # whether the last response has been written

    @property
    def deadline(self) -> float:
        """Time of the event loop's clock at which the current phase has lasted too long."""
        return self._deadline

    @property
    def unsent(self) -> int:
        """Bytes in the write buffer at the last check. It is 0 for a large page, whose bytes the send budget counts already."""
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
                self._body_since = self._lane.clock()

    def _enter(self, phase: Phase) -> None:
        """Enters a phase, or restarts the timeout of the current phase. Only `_begin` also sets the deadline."""
        self._phase = phase
        self._deadline = self._lane.now + self._lane.phase_durations[phase]
        if phase is _SENDING:
            self._unsent = self.transport.get_write_buffer_size()

    def _is_body_too_slow(self, now: float) -> bool:
        """Returns whether the current body has arrived more slowly than `least_rate` allows.

        Args:
            now: current time of the event loop's clock.
        """
        lane = self._lane
        overtime = now - self._body_began_at - lane.phase_durations[_BODY]
        return self._parser.body_size + len(self._unparsed) < overtime * lane.least_rate

    def _restart_send_time(self) -> None:
        """Restarts the timeout of the sending phase if the client has read something since the last check."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._enter(_SENDING if unsent or not self._is_ending else _LINGERING)
        else:
            self._unsent = unsent

    # -- queue --------------------------------------------------------------

    def _enqueue_step(self, *, is_read: bool = False) -> None:
        """Queues a call of `_advance` in `Turns`, unless one is queued already.

        Args:
            is_read: whether the next request is a cheap read, which may pass the writes that are queued.
        """
        if not self._is_queued:
            self._is_queued = True
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
