"""uvicorn's HTTP/2 connection with the limits of the other lanes.

`zttp` parses the frames. It refuses floods of resets, pings and continuations, header lists over 64 KiB, and more than 128 concurrent
streams. uvicorn runs the ASGI application once for each stream. This file adds the rest:

- A response is sent in slices, as fast as the client opens the window of its stream. uvicorn alone would pass whole pages to zttp, which
  buffers all bytes beyond the window, so a client that opens no window would hold whole pages in memory.
- While a client does not read from its socket, the server does not read from it either. Otherwise answers to pings would pile up.
- A stream or a connection whose client reads nothing for `Timeouts.send` seconds is cut. A connection that receives pings but no requests
  counts as idle.
- Each stream counts as a connection, against the server's maximum and the share of the client's address.
- After many requests the server asks the client to open a new connection, and loses no request. Without this, zttp would end the
  connection at its 4,096th stream, whatever runs on it.
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
from ..limits.timeouts import Timeouts
from ..limits.unsent import UnsentTimer
from ..native.lane import Lane
from ..request import NO_REQUEST
from .application import DurableStreamsApp
from .forwarded import describe_client
from .http1 import is_writing
from .receiving import Receive, Scope
from .sending import Message, Send, start_message
from .waiting import key_of

#: Bytes that may wait in the write buffer of a socket before the server stops reading from it.
_UNSENT: Final = 16 * KIB
#: Bytes of one stream that may wait for its window.
_SLICE: Final = 64 * KIB
_NO_ERROR: Final = 0x0  # error codes of RFC 9113, 7
_REFUSED_STREAM: Final = 0x7
#: Streams after which the server sends GOAWAY as soon as no stream runs on the connection.
_MANY: Final = 1000
#: Streams after which the server sends GOAWAY even if streams still run on the connection.
_MOST: Final = 3500
#: Seconds without a stream before the server sends GOAWAY to an idle client, because some clients fail requests that are in flight when the
#: GOAWAY arrives.
_QUIET: Final = 1.0
#: The highest stream id. A GOAWAY with this id refuses no stream.
_ANY_STREAM: Final = 2**31 - 1
#: Seconds between the first GOAWAY and the second, and between the refusal of a connection and its end.
_LINGER: Final = 2.0


def protocol_of(
    app: DurableStreamsApp, timeouts: Timeouts, admission: Admission, lane: Lane | None = None
) -> Callable[..., Http2Connection]:
    """Returns the function that uvicorn calls to create a connection.

    Args:
        app: Answers the requests.
        timeouts: How long a client may take for each phase.
        admission: Decides on new connections and streams.
        lane: The native lane, if the server's HTTP/1.1 connections use it. It cuts the slowest clients while all clients together
            hold too much memory.
    """

    def connect(**given: Any) -> Http2Connection:
        if lane is not None and lane.loop is None:
            lane.begin(given["server_state"].connections)
        return Http2Connection(app, timeouts, admission, lane, **given)

    return connect


class Http2Connection(ZttpH2Protocol):
    """One client's HTTP/2 connection and its streams."""

    def __init__(
        self,
        app: DurableStreamsApp,
        timeouts: Timeouts,
        admission: Admission,
        lane: Lane | None,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.timeout_keep_alive = timeouts.idle  # type: ignore[assignment]  # uvicorn declares an int, and a float works
        self._application: Any = self.app
        self._handler = app.handler
        self._observer = app.observer
        self._timeouts = timeouts
        self._admission = admission
        self._lane = lane
        self._address: str | None = None
        self._is_admitted = False
        self._is_trusted = False  # whether the peer is a proxy whose headers are believed
        self._place_is_taken = False  # whether a running stream is counted as the connection
        self._refusal: StreamError | None = None  # why the connection itself was refused
        #: The streams that wait for their windows.
        self._waiting: dict[RequestResponseCycle, asyncio.Future[None]] = {}
        self._unsent = UnsentTimer(timeouts.send)
        self._heard_at = self.loop.time()
        self._opened = 0  # streams so far
        self._is_retired = False  # whether to send a GOAWAY as soon as no stream runs
        self._is_leaving = False  # whether the first GOAWAY has been sent
        self._is_left = False  # whether the second GOAWAY has been sent, so new streams are refused

    # -- socket -------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio calls it with this type
        """Starts the connection, or refuses it."""
        peer = transport.get_extra_info("peername")
        address = self._admission.proxies.counted_address(peer)
        self._is_trusted = self._admission.proxies.trusts(peer)
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
        """Stops the timers, wakes every stream, and no longer counts the connection."""
        self._unsent.stop()
        super().connection_lost(exc)
        self._wake()
        if self._is_admitted:
            self._is_admitted = False
            self._admission.release(self._address)

    def data_received(self, data: bytes) -> None:
        """Parses received bytes. Invalid or abusive HTTP/2 ends the connection with a GOAWAY that names the error."""
        self._heard_at = self.loop.time()
        try:
            self.conn.receive_data(data)
            self.handle_events()
        except zttp.RemoteProtocolError:
            self._close_after_error()
            return
        self.flush()
        if self._waiting:
            self._wake()

    def _close_after_error(self) -> None:
        """Closes the connection and wakes the tasks of its streams, which can no longer send anything."""
        self.flush()
        self.transport.close()
        for cycle in self.cycles.values():
            cycle.disconnected = True
            cycle.message_event.set()
        self._wake()

    def pause_writing(self) -> None:
        """Starts the timer for unsent bytes, because the write buffer is full."""
        super().pause_writing()
        self._unsent.begin(self.transport)

    def resume_writing(self) -> None:
        """Stops the timer for unsent bytes, because the write buffer has drained."""
        self._unsent.stop()
        super().resume_writing()

    # -- stop of the server --------------------------------------------------

    @property
    def key(self) -> int:
        """The key of the connection, which decides when a drain ends it."""
        return key_of(self.client, self)

    @property
    def has_events(self) -> bool:
        """Whether a stream of the connection is an event stream."""
        cycles = self.cycles.values()
        return any(b"live=sse" in cycle.scope["query_string"] for cycle in cycles)

    def shutdown(self) -> None:
        """Closes the connection once no stream runs on it, because the server stops."""
        if not self.transport.is_closing():
            super().shutdown()

    def retire(self) -> None:
        """Asks the client to use another connection for further requests, as soon as no stream runs on this one.

        Some clients fail requests that are in flight when the GOAWAY arrives.
        """
        self._is_retired = True
        if not self.cycles:
            self._leave()

    @property
    def is_writing(self) -> bool:
        """Whether a write waits until it is durable."""
        return any(map(is_writing, self.cycles.values()))

    # -- requests -----------------------------------------------------------

    def handle_request(self, event: zttp.Request) -> None:
        """Starts a stream. While the server stops, the application itself refuses the request."""
        if self._is_left:  # the client repeats the request on another connection
            self.conn.stream(event.stream_id).reset(_REFUSED_STREAM)
            return
        if not event.path.isascii():
            refusal = BadRequest("the request is not valid HTTP", "INVALID_HTTP")
            self._refuse_now(event.stream_id, refusal)
            return
        self._unset_keepalive_if_required()
        is_stopping, self.shutdown_requested = self.shutdown_requested, False
        self.app = functools.partial(self._serve, event.stream_id)
        super().handle_request(event)
        self.app = self._application  # otherwise the connection would be in a reference cycle
        self.shutdown_requested = is_stopping
        cycle = self.cycles[event.stream_id]
        if event.end_stream:  # no other event reports the end of the body
            cycle.more_body = False
            cycle.message_event.set()
        self._opened += 1
        if self._opened == _MOST:
            self._leave()

    def on_stream_closed(self) -> None:
        """Handles the end of a stream. After many streams, starts to close the connection once no stream runs on it."""
        if self._is_retired and not self.cycles:
            self._leave()
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
        """Sends GOAWAY after a second without a stream, when no request is likely to be in flight."""
        self.timeout_keep_alive_task = None
        if not self.cycles:
            self._leave_for_good()

    def _leave(self) -> None:
        """Sends a GOAWAY that refuses no stream. Requests that the client sends before it receives the GOAWAY are answered (RFC 9113, 6.8)."""
        if not self._is_leaving and not self.transport.is_closing():
            self._is_leaving = True
            self.conn.close(_NO_ERROR, _ANY_STREAM)
            self.flush()
            self.loop.call_later(_LINGER, self._leave_for_good)

    def _leave_for_good(self) -> None:
        """Sends a GOAWAY after which new streams are refused, and closes the connection once its running streams have ended."""
        if not self.transport.is_closing():
            self._is_left = True
            self.conn.close(_NO_ERROR)
            self.flush()
            if not self.cycles:
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection if no stream runs on it, because it has received no request for too long."""
        if not self.cycles:
            super().timeout_keep_alive_handler()

    async def _serve(self, stream_id: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one stream."""
        cycle = self.cycles.get(stream_id)
        if cycle is None:
            return  # the client has already reset the stream
        if self._refusal is not None:
            self.shutdown_requested = True
            await self._refuse(self._refusal, send)
            return
        is_counted = self._place_is_taken  # one running stream counts as the connection
        if is_counted:
            refusal = self._admission.admit_stream(len(self.connections), self._address)
            if refusal is not None:
                await self._refuse(refusal, send)
                self._end(cycle)
                return
        self._place_is_taken = True
        if self._is_trusted:
            describe_client(scope, scope["headers"], self._admission.proxies)
        try:
            await self._application(scope, receive, functools.partial(self._send, cycle, send))
        finally:
            if is_counted:
                self._admission.release_stream(self._address)
            else:
                self._place_is_taken = False
        self._end(cycle)

    def _end(self, cycle: RequestResponseCycle) -> None:
        """Resets a stream whose response is incomplete, or whose client still sends a body that nobody will read (RFC 9113, 8.1)."""
        if self.transport.is_closing() or cycle.disconnected:
            return
        if not cycle.response_complete:
            if cycle.response_started:
                self._cut(cycle)
        elif cycle.more_body:
            cycle.stream.reset(_NO_ERROR)
            self.flush()

    async def _refuse(self, refusal: StreamError, send: Send) -> None:
        """Sends a refusal as the response to a stream."""
        response = self._handler.refuse(NO_REQUEST, refusal)
        await send(start_message(response, response.all_headers))
        await send({"type": "http.response.body", "body": response.whole})
        self._observer.refused(response, self._address)

    def _refuse_now(self, stream_id: int, refusal: StreamError) -> None:
        """Refuses a stream immediately, without running the application."""
        response = self._handler.refuse(NO_REQUEST, refusal)
        stream = self.conn.stream(stream_id)
        stream.send_response(response.status, list(response.all_headers))
        stream.send_data(response.whole)
        stream.end_message()
        self.flush()
        self._observer.refused(response, self._address)

    # -- responses ----------------------------------------------------------

    async def _send(self, cycle: RequestResponseCycle, send: Send, message: Message) -> None:
        """Sends a part of a response, no faster than the client opens the window of the stream.

        The stream ends only when all its bytes are sent, so that the streams of slow clients count until then.
        """
        body = message.get("body", b"")
        if not body or cycle.bodyless:
            await send(message)
            return
        more, view, ends = message.get("more_body", False), memoryview(body), False
        for begin in range(0, len(view), _SLICE):
            await self._await_window(cycle)
            part = view[begin : begin + _SLICE]
            is_last = begin + len(part) == len(view)
            ends = is_last and not more and self._has_window(cycle, len(part))
            await send({"type": "http.response.body", "body": part, "more_body": not ends})
        if not ends:
            await self._await_window(cycle)
            if not more:
                await send({"type": "http.response.body", "body": b""})

    def _has_window(self, cycle: RequestResponseCycle, size: int) -> bool:
        """Returns whether the windows of the stream and the connection have room for `size` bytes."""
        return size <= min(cycle.stream.send_window or 0, self.conn.send_window)

    async def _await_window(self, cycle: RequestResponseCycle) -> None:
        """Waits until all bytes of the stream are sent. Resets the stream if none is sent for `Timeouts.send` seconds."""
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
        """Resumes streams whose windows have opened, or that have ended."""
        for cycle, waiter in self._waiting.items():
            is_over = cycle.disconnected or not cycle.stream.pending_bytes
            if is_over and not waiter.done():
                waiter.set_result(None)

    def _cut(self, cycle: RequestResponseCycle) -> None:
        """Resets one stream. Other streams continue."""
        cycle.abort_stream()
        cycle.message_event.set()  # wakes the application, which then sees the disconnect

    # -- for `patrol.py`, which checks every connection once a second ----------

    def check(self, _: float) -> None:
        """Does nothing, because HTTP/2 connections have timers of their own."""

    @property
    def unsent(self) -> int:
        """Returns the bytes that wait for the client: in zttp and in the write buffer."""
        parked = sum(cycle.stream.pending_bytes or 0 for cycle in self._waiting)
        return parked + self.transport.get_write_buffer_size()

    @property
    def deadline(self) -> float:
        """Returns the loop time after which a client that has sent nothing may be cut for its unsent bytes."""
        return self._heard_at + self._timeouts.send

    def cut(self) -> None:
        """Aborts the connection, because its client is too slow while others wait."""
        self.transport.abort()

    def handle_rst_stream(self, event: zttp.RstStream) -> None:
        """Ends a stream that the client has reset."""
        super().handle_rst_stream(event)
        self._wake()

    def _await_request(self) -> None:
        """Starts the timer that closes the connection if no request arrives."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class _Flow(FlowControl):
    """Stops reading from a client while the client does not read."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.resume_reading()

    def resume_reading(self) -> None:
        if not self.write_paused and not self._transport.is_closing():
            super().resume_reading()
