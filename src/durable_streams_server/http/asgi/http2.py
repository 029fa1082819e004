"""One client's HTTP/2 connection: uvicorn's own, with the limits that the other lanes have.

`zttp` parses, and refuses what abuses the protocol: floods of resets, pings and continuations, header lists over 64 KiB, more than
128 streams at once. uvicorn runs the ASGI application once for each stream. What neither of them does is here:

- A stream's answer waits until the client has opened its window, in slices. uvicorn alone hands all to zttp, which keeps whatever
  the window does not take, so a client that opens none would hold whole pages.
- While a client does not read from its socket, nothing more is read from it, or its pings would be answered into memory.
- A stream, or a connection, that takes nothing for as long as `Timeouts.send` is cut. Only requests keep a connection from being
  idle, not pings.
- Streams count as connections do, against all that the server takes and against the client's share.
- A connection that has had many requests is left for a new one, with no request lost: zttp ends a connection at its 4,096th
  stream, and whatever runs on it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

import zttp
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.zttp_h2_impl import RequestResponseCycle, ZttpH2Protocol

from ...errors import BadRequest, StreamError
from ...protocol.units import KIB
from ..limits.admission import Admission, handle_of
from ..limits.shares import address_of
from ..limits.timeouts import Timeouts
from ..limits.unsent import UnsentTimer
from ..native.lane import Lane
from ..request import NO_REQUEST
from .application import DurableStreamsApp
from .receiving import Receive, Scope
from .sending import Message, Send, start_message

_UNSENT: Final = 16 * KIB  # bytes written to a socket that does not take them, before reading stops
_SLICE: Final = 64 * KIB  # bytes of one stream that wait for its window at once
_NO_ERROR: Final = 0x0  # RFC 9113, 7
_REFUSED_STREAM: Final = 0x7
#: Streams of one connection after which its client is told to open another as soon as nothing runs on it, and at the latest.
_MANY: Final = 1000
_MOST: Final = 3500
_QUIET: Final = 1.0  # seconds without a stream before that: some clients lose what is in flight
_ANY_STREAM: Final = 2**31 - 1
_LINGER: Final = 2.0  # seconds until a connection is closed whose client has been refused, or told to open another


def protocol_of(
    app: DurableStreamsApp, timeouts: Timeouts, admission: Admission, lane: Lane | None = None
) -> Callable[..., Http2Connection]:
    """Returns what uvicorn calls for each connection.

    Args:
        app: answers the requests.
        timeouts: how long a client may take.
        admission: decides on new connections and streams.
        lane: what the server's HTTP/1.1 connections share, if they are of the native lane. It cuts the slowest clients while all
            together hold too much.
    """

    def connect(**given: Any) -> Http2Connection:
        if lane is not None and lane.loop is None:
            lane.begin(given["server_state"].connections)
        return Http2Connection(app, timeouts, admission, lane, **given)

    return connect


class Http2Connection(ZttpH2Protocol):
    """One client's connection, and the streams on it."""

    def __init__(
        self,
        app: DurableStreamsApp,
        timeouts: Timeouts,
        admission: Admission,
        lane: Lane | None,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.timeout_keep_alive = timeouts.idle  # type: ignore[assignment]  # a float will do
        self._application: Any = self.app
        self._handler = app.handler
        self._timeouts = timeouts
        self._admission = admission
        self._lane = lane
        self._address: str | None = None
        self._is_admitted = False
        self._place_is_taken = False  # by one of the streams; each other one counts by itself
        self._refusal: StreamError | None = None  # of the connection itself
        self._waiting: dict[RequestResponseCycle, asyncio.Future[None]] = {}  # for their windows
        self._unsent = UnsentTimer(timeouts.send)
        self._heard_at = self.loop.time()
        self._opened = 0  # streams so far
        self._is_leaving = False  # whether the client has been told to open another connection
        self._is_left = False  # and long ago

    # -- events of the socket -----------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins, or refuses the connection."""
        address = address_of(transport)
        others = len(self.connections)
        self._refusal = self._admission.admit(others, handle_of(transport), address)
        if self._refusal is None:
            self._address, self._is_admitted = address, True
        super().connection_made(transport)
        if self._lane is not None:
            self._lane.watch(self)
        self.flow = _Flow(transport)
        transport.set_write_buffer_limits(high=_UNSENT)
        self._await_request()
        if self._refusal is not None:
            self.loop.call_later(_LINGER, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends, and has every stream know."""
        self._unsent.stop()
        super().connection_lost(exc)
        self._wake()
        if self._is_admitted:
            self._is_admitted = False
            self._admission.release(self._address)

    def data_received(self, data: bytes) -> None:
        """Parses what has come. What is no HTTP/2, or abuses it, ends the connection with a GOAWAY that says why."""
        self._heard_at = self.loop.time()
        try:
            self.conn.receive_data(data)
            self.handle_events()
        except zttp.RemoteProtocolError:
            self._give_up()
            return
        self.flush()
        if self._waiting:
            self._wake()

    def _give_up(self) -> None:
        """Closes the connection. Nothing more can be sent on its streams, although their tasks still run."""
        self.flush()
        self.transport.close()
        for cycle in self.cycles.values():
            cycle.disconnected = True
            cycle.message_event.set()
        self._wake()

    def pause_writing(self) -> None:
        """The client does not read what it was sent."""
        super().pause_writing()
        self._unsent.begin(self.transport)

    def resume_writing(self) -> None:
        """The client has read it."""
        self._unsent.stop()
        super().resume_writing()

    # -- requests -----------------------------------------------------------

    def handle_request(self, event: zttp.Request) -> None:
        """Begins a stream. While the server stops, the application itself refuses it."""
        if self._is_left:  # a client sends it again elsewhere
            self.conn.stream(event.stream_id).reset(_REFUSED_STREAM)
            return
        if not event.path.isascii():
            refusal = BadRequest("the request is not valid HTTP", "INVALID_HTTP")
            self._answer_at_once(event.stream_id, refusal)
            return
        self._unset_keepalive_if_required()
        is_stopping, self.shutdown_requested = self.shutdown_requested, False
        self.app = functools.partial(self._serve, event.stream_id)
        super().handle_request(event)
        self.app = self._application  # or the connection would refer to itself
        self.shutdown_requested = is_stopping
        cycle = self.cycles[event.stream_id]
        if event.end_stream:  # and no other event says so
            cycle.more_body = False
            cycle.message_event.set()
        self._opened += 1
        if self._opened == _MOST:
            self._leave()

    def on_stream_closed(self) -> None:
        """A stream has ended."""
        if self._opened < _MANY or self.shutdown_requested:
            super().on_stream_closed()
            return
        if self.transport.is_closing():
            return
        self.resume_reading_if_idle()
        if not self.cycles:
            self._unset_keepalive_if_required()
            if self._is_left:
                self.transport.close()
            elif not self._is_leaving:
                self.timeout_keep_alive_task = self.loop.call_later(_QUIET, self._leave_quietly)

    def _leave_quietly(self) -> None:
        """Leaves the connection if nothing has run on it for a while, so that nothing is likely to be on its way."""
        self.timeout_keep_alive_task = None
        if not self.cycles:
            self._leave_for_good()

    def _leave(self) -> None:
        """Tells the client to open another connection. What it has asked for before it knew is answered (RFC 9113, 6.8)."""
        if not self._is_leaving and not self.transport.is_closing():
            self._is_leaving = True
            self.conn.close(_NO_ERROR, _ANY_STREAM)
            self.flush()
            self.loop.call_later(_LINGER, self._leave_for_good)

    def _leave_for_good(self) -> None:
        """Takes no more requests; the client has known for a while. The streams that there are go on to their ends."""
        if not self.transport.is_closing():
            self._is_left = True
            self.conn.close(_NO_ERROR)
            self.flush()
            if not self.cycles:
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Closes a connection on which no request came for too long."""
        if not self.cycles:
            super().timeout_keep_alive_handler()

    async def _serve(self, stream_id: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one stream."""
        cycle = self.cycles.get(stream_id)
        if cycle is None:
            return  # the client has given it up already
        if self._refusal is not None:
            self.shutdown_requested = True
            await self._refuse(self._refusal, send)
            return
        is_counted = self._place_is_taken  # the connection is counted, and so its first stream is
        if is_counted:
            refusal = self._admission.admit_stream(len(self.connections), self._address)
            if refusal is not None:
                await self._refuse(refusal, send)
                self._end(cycle)
                return
        self._place_is_taken = True
        try:
            await self._application(scope, receive, functools.partial(self._give, cycle, send))
        finally:
            if is_counted:
                self._admission.release_stream(self._address)
            else:
                self._place_is_taken = False
        self._end(cycle)

    def _end(self, cycle: RequestResponseCycle) -> None:
        """Resets a stream whose answer is cut short, or whose client still sends a body that nobody will read (RFC 9113, 8.1)."""
        if self.transport.is_closing() or cycle.disconnected:
            return
        if not cycle.response_complete:
            if cycle.response_started:
                self._cut(cycle)
        elif cycle.more_body:
            cycle.stream.reset(_NO_ERROR)
            self.flush()

    async def _refuse(self, refusal: StreamError, send: Send) -> None:
        response = self._handler.refuse(NO_REQUEST, refusal)
        await send(start_message(response, response.all_headers))
        await send({"type": "http.response.body", "body": response.whole})

    def _answer_at_once(self, stream_id: int, refusal: StreamError) -> None:
        response = self._handler.refuse(NO_REQUEST, refusal)
        stream = self.conn.stream(stream_id)
        stream.send_response(response.status, list(response.all_headers))
        stream.send_data(response.whole)
        stream.end_message()
        self.flush()

    # -- answers ------------------------------------------------------------

    async def _give(self, cycle: RequestResponseCycle, send: Send, message: Message) -> None:
        """Sends a part of an answer, no faster than the stream's window opens.

        A stream ends only when its window has taken everything, so that a slow client's streams count until then.
        """
        body = message.get("body", b"")
        if not body or cycle.bodyless:
            await send(message)
            return
        more, view, ends = message.get("more_body", False), memoryview(body), False
        for begin in range(0, len(view), _SLICE):
            await self._room(cycle)
            part = view[begin : begin + _SLICE]
            is_last = begin + len(part) == len(view)
            ends = is_last and not more and self._has_window(cycle, len(part))
            await send({"type": "http.response.body", "body": part, "more_body": not ends})
        if not ends:
            await self._room(cycle)
            if not more:
                await send({"type": "http.response.body", "body": b""})

    def _has_window(self, cycle: RequestResponseCycle, size: int) -> bool:
        """Whether the client's windows take so many bytes at once."""
        return size <= min(cycle.stream.send_window or 0, self.conn.send_window)

    async def _room(self, cycle: RequestResponseCycle) -> None:
        """Waits until the client has opened the stream's window for all that was sent. Cuts a stream that takes nothing."""
        while (unsent := cycle.stream.pending_bytes) and not cycle.disconnected:
            waiter = self._waiting[cycle] = self.loop.create_future()
            try:
                async with asyncio.timeout(self._timeouts.send):
                    await waiter
            except TimeoutError:
                if (cycle.stream.pending_bytes or 0) >= unsent:
                    self._cut(cycle)
            finally:
                del self._waiting[cycle]

    def _wake(self) -> None:
        """Has the streams go on whose windows have opened, or that are no more."""
        for cycle, waiter in self._waiting.items():
            is_over = cycle.disconnected or not cycle.stream.pending_bytes
            if is_over and not waiter.done():
                waiter.set_result(None)

    def _cut(self, cycle: RequestResponseCycle) -> None:
        """Resets one stream; the others go on."""
        cycle.abort_stream()
        cycle.message_event.set()  # or the application would not learn of it

    # -- what the native lane asks of its connections once a second (`patrol.py`) --

    def check(self, _: float) -> None:
        """Does nothing: this connection has timers of its own."""

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken."""
        parked = sum(cycle.stream.pending_bytes or 0 for cycle in self._waiting)
        return parked + self.transport.get_write_buffer_size()

    @property
    def deadline(self) -> float:
        """When a client that has not been heard of since must have taken them, in the loop's time."""
        return self._heard_at + self._timeouts.send

    def cut(self) -> None:
        """Ends the connection of a client that is too slow while others wait."""
        self.transport.abort()

    # -- time ---------------------------------------------------------------

    def handle_rst_stream(self, event: zttp.RstStream) -> None:
        """The client has given a stream up."""
        super().handle_rst_stream(event)
        self._wake()

    def _await_request(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class _Flow(FlowControl):
    """Reads nothing from a client that does not read."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.resume_reading()

    def resume_reading(self) -> None:
        if not self.write_paused and not self._transport.is_closing():
            super().resume_reading()
