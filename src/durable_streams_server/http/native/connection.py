"""One HTTP/1.1 connection of the native lane, which answers requests without ASGI.

`Connection` is an asyncio protocol that uvicorn uses as its HTTP class. It reacts to the events of its socket and of the server, and
answers the requests on one connection one after the other. It uses no task, future or coroutine. A request is answered when its ticket
resolves, and an event stream is read when the stream changes or the write buffer has room again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, cast

from ...errors import RequestTimeout, StreamError
from ...storage.ticket import Abandoned, Cancelled, Ticket
from ...streams.turns import WRITES_AT_ONCE
from .. import wire
from ..limits.admission import handle_of
from ..limits.refusals import HOLD
from ..limits.shares import address_of_peer
from ..observing.observer import LiveRead
from ..replies import Reply
from ..request import SAFE_METHODS, Request
from ..request_ids import named
from .answering import MAX_UNSENT, Answering
from .handling import handles_event
from .lane import Lane
from .parser import Parser
from .pending import PendingRequest
from .phase import Phase
from .receiving import STEP_OCTETS, Receiving

#: If one read has more octets than this, the time to parse them counts against the turn of the event loop.
_SMALL_READ: Final = 2 * 1024
#: Requests that one connection may begin in one step.
_STEP_REQUESTS: Final = 8
#: Bytes that a queued request counts against the receive budget, besides its body.
_QUEUED_BYTES: Final = 1024

_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_ANSWERING: Final = Phase.ANSWERING
_SENDING: Final = Phase.SENDING
_CLOSED: Final = Phase.CLOSED


def connection_factory(lane: Lane) -> Callable[..., Connection]:
    """Returns the function that uvicorn calls to make each native connection.

    uvicorn passes several keyword arguments. The function uses only the server's set of connections.
    """

    def connect(**given: Any) -> Connection:
        if lane.loop is None:
            lane.begin(given["server_state"].connections)
        return Connection(lane)

    return connect


class Connection(Receiving, Answering):
    """One client's HTTP/1.1 connection.

    Args:
        lane: the state that all connections of the server share.
    """

    __slots__ = ()

    # -- events of the socket -----------------------------------------------

    @handles_event
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the connection, or refuses the connection if the server has too many."""
        self.transport = cast(asyncio.Transport, transport)
        # With a low-water mark of 0, `resume_writing` is called only when the buffer is empty. A large page is held until then.
        self.transport.set_write_buffer_limits(high=MAX_UNSENT, low=0)
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"
        lane = self._lane
        proxies = lane.admission.proxies
        name = transport.get_extra_info("peername")
        peer = self._peer = address_of_peer(name)
        trusted = proxies.trusts(name)
        self._parser = Parser(
            lane, self._scheme, trusted, self._begin_or_queue, self._check_head, peer
        )
        address = proxies.counted_address(name)
        handle = handle_of(transport)
        refusal = lane.admission.admit(len(lane.connections), handle, address)
        if refusal is None:
            self._address = address
            lane.watch(self)
            self._enter(_IDLE)
        else:
            self._refuse_connection(refusal, handle)

    def _refuse_connection(self, refusal: StreamError, handle: int) -> None:
        """Refuses a connection, at once or after it was held for a second."""
        self._parser.is_over = True
        if self._lane.admission.hold(handle):
            self._is_writable = False  # so that octets that still arrive are ignored
            loop = asyncio.get_running_loop()
            loop.call_soon(self._stop_reading)  # uvloop begins to read after `connection_made`
            loop.call_later(HOLD, self._end_hold, refusal)
        else:
            self._lane.watch(self)
            self._enter(_IDLE)
            self._turn_away(refusal)

    def _stop_reading(self) -> None:
        """Stops reading from the socket of a held connection."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    @handles_event
    def _end_hold(self, refusal: StreamError) -> None:
        """Answers a held connection, if it still exists."""
        self._lane.admission.end_hold()
        self._is_writable = True
        if not self.transport.is_closing():
            self._lane.watch(self)
            self._enter(_IDLE)
            self._turn_away(refusal)

    def connection_lost(self, _: Exception | None) -> None:
        """Releases what the connection holds. Queues this work if the event loop is busy, because thousands of clients may leave at once."""
        self._enter(_CLOSED)
        lane = self._lane
        lane.connections.discard(self)
        if self._turns.admits(is_read=False):
            self._clean_up()
        else:
            self._turns.add(self._clean_up)

    def buffer_updated(self, size: int) -> None:
        """Parses the octets that were received.

        Most appends are one call of this method, so it contains the code of `handles_event` instead of using the decorator.
        """
        parser = self._parser
        data = self._lane.buffer[:size]
        try:
            self._requests_left = _STEP_REQUESTS
            turns = self._turns
            if size > STEP_OCTETS or self._unparsed or turns.begun >= WRITES_AT_ONCE:
                self._receive(data)
            elif size > _SMALL_READ:
                turns.count(parser.feed, data)
            else:
                parser.feed(data)
            if self._phase is _BODY:
                self._enter(_BODY)  # restarts the body timeout, because part of the body arrived
            if self._queue and not self._is_paused and not parser.is_over:
                self._pause_reading()
            if self._answering is not None or not self._is_writable:
                if self._is_writable:
                    return  # the phase is ANSWERING, and stays so
            elif parser.is_over:
                self._continue()
            elif parser.awaits_continue:
                self._send_continue()
            self._settle()
        except Exception as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """Handles a half-close by the client. Returns whether the connection stays open for the server's responses.

        The server still answers the requests that it has received, but ends live reads. It queues this work if the event loop is busy,
        because thousands of clients may leave at once.
        """
        self._parser.is_over = self._received_eof = True
        if self._is_ending or self._scheme == "https":
            self._is_ending = True
            return False  # the transport then closes itself, because TLS cannot be half-closed
        if not self._is_queued and self._turns.admits(is_read=False):
            self._advance()
        else:
            self._enqueue_step()
        return True

    @handles_event
    def pause_writing(self) -> None:
        """Stops writing, because the write buffer is full."""
        self._is_writable = False

    @handles_event
    def resume_writing(self) -> None:
        """Writes again, because the write buffer is empty."""
        self._is_writable = True
        self._release_page()
        if self._events is not None or self._queue or self._unparsed:
            self._enqueue_step()
        else:
            self._continue()

    # -- events of the server -----------------------------------------------

    @property
    def key(self) -> int:
        """The key of the connection, which decides when a drain ends it."""
        return hash(self._on_events_ready)

    @property
    def has_events(self) -> bool:
        """Whether the connection has an event stream."""
        return self._events is not None

    def retire(self) -> None:
        """Closes the connection after its next response, so that the client's next request may reach another server."""
        self._keep_alive = False

    @property
    def is_writing(self) -> bool:
        """Whether a write waits until it is durable."""
        pending = self._answering
        return (
            pending is not None
            and self._ticket is not None
            and pending.request.method not in SAFE_METHODS
        )

    @handles_event
    def shutdown(self) -> None:
        """Closes the connection because the server stops. A connection that is answering a request is closed after the response."""
        if self._answering is None and not self._queue:
            self._close()
        else:
            self._keep_alive = False

    @handles_event
    def check(self, now: float) -> None:
        """Ends a phase that has lasted too long. Refuses an incomplete request with 408, and otherwise aborts the connection.

        Args:
            now: current time of the event loop's clock.
        """
        if self._phase is _SENDING:
            self._restart_send_time()
        if self._holds_page and not self.transport.get_write_buffer_size():
            self._release_page()  # the buffer was never full, so `resume_writing` was not called
        if now < self._deadline and not (self._phase is _BODY and self._is_body_too_slow(now)):
            return
        if self._phase in (_HEAD, _BODY):
            part = "head" if self._phase is _HEAD else "body"
            self._parser.refuse(RequestTimeout(f"the rest of the request's {part} did not come"))
            self._continue()
        else:
            self.transport.abort()

    def _advance(self) -> None:
        """Does one step of the connection's work. `Turns` calls this method when the connection's turn has come."""
        self._is_queued = False
        if self._phase is _CLOSED or self.transport.is_closing():
            return
        try:
            self._requests_left = _STEP_REQUESTS
            if self._answering is None and not self._queue and self._is_writable:
                self._parse_set_aside()
            self._send_events()
            self._continue()
            if self._received_eof and self._is_long_polling:
                self._close()
            self._settle()
        except Exception as error:
            self._fail(error)

    def _on_reply(self, ticket: Ticket[Reply]) -> None:
        """Sends the reply of a resolved ticket.

        Each durable append calls this method, so it contains the code of `handles_event` instead of using the decorator.
        """
        self._ticket = None
        pending = self._answering
        assert pending is not None
        try:
            try:
                reply = ticket.result()
            except Abandoned:
                self._release(pending)
                self.transport.abort()  # nobody knows the outcome of the request
            except Cancelled:
                self._release(pending)  # the client has left
            else:
                self._reply(pending, reply)
                self._continue()
            self._settle()
        except Exception as error:
            self._fail(error)

    def _on_events_ready(self) -> None:
        """Sends the events that are ready. The event stream calls this method.

        Most calls do not change the phase of the connection, so the method updates the phase only when a stream ends.
        """
        try:
            events = self._events
            if events is not None:
                is_free = self._is_writable and not self._holds_page and not self._received_eof
                if is_free and not self.transport.is_closing():
                    data = events.news()
                    if data is not None:  # nearly always
                        pending = cast(PendingRequest, self._answering)
                        self.transport.write(self._lane.chunk(data) if pending.chunked else data)
                        cast(LiveRead, pending.live).add(len(data))
                        return
                if events.page is not None and len(self._turns):
                    self._enqueue_step()  # because many readers may be catching up at once
                    return
            self._send_events()
            if self._answering is None:
                self._continue()
                self._settle()
        except Exception as error:
            self._fail(error)

    # -- requests -----------------------------------------------------------

    def _begin_or_queue(self, pending: PendingRequest) -> None:
        """Begins to answer a request that the parser has completed, or queues the request if it must wait.

        A client that pipelines many requests gets a few responses in each step. The writes of many clients wait in one queue.
        """
        if self._body_since:
            pending.body_wait = pending.since - self._body_since
            self._body_since = 0.0
        if self._lane.observer.names_requests:
            pending.request = named(pending.request)
        if self._answering is not None or self._queue or not self._is_writable:
            self._enqueue(pending)
            return
        turns = self._turns
        if turns.begun < turns.unasked:
            turns.begun += 1  # inlines `admits`, to save a call
            is_full = False
        else:
            is_full = not turns.admits(pending.request.is_cheap)
        if is_full or self._requests_left <= 0:
            self._enqueue(pending)
            self._enqueue_step(is_read=pending.request.is_cheap and self._requests_left > 0)
        else:
            try:
                self._begin(pending)
            except Exception as error:
                self._fail(error)  # not raised, because the parser would treat it as a refusal

    def _check_head(self, request: Request) -> None:
        """Refuses a request with a large body by its head alone, unless the result may depend on an earlier request.

        Raises:
            StreamError: the refusal.
        """
        if self._answering is None and not self._queue:
            self._lane.handler.check_head(request, self._peer)

    def _enqueue(self, pending: PendingRequest) -> None:
        """Queues a request. If the budget has no room, refuses the request and ends parsing."""
        if pending.refusal is None:
            try:
                self._lane.budget.take(_QUEUED_BYTES)
            except StreamError as refusal:
                self._release(pending)
                self._parser.refuse(refusal)
                return
            pending.taken += _QUEUED_BYTES
        self._queue.append(pending)

    def _begin(self, pending: PendingRequest) -> None:
        """Hands a request to the handler and sends the reply, now or when its ticket resolves."""
        self._answering = pending
        self._requests_left -= 1
        self._uses_large_buffer = False
        self._phase, self._deadline = (
            _ANSWERING,
            math.inf,
        )  # inlines `_enter`, to save a call
        request = pending.request
        lane = self._lane
        answer: Reply | Ticket[Reply]
        if pending.refusal is not None:
            answer = self._refuse(pending, pending.refusal)
        else:
            lane.observer.received += len(request.body)
            answer = lane.handler.handle(request, self._on_events_ready, self._peer)
        request.body = b""
        if isinstance(answer, Ticket):
            self._ticket = answer
            answer.add_callback(self._on_reply)
            if self._received_eof and self._is_long_polling:
                self._close()
        else:
            self._reply(pending, answer)

    def _refuse(self, pending: PendingRequest, refusal: Exception) -> Reply | Ticket[Reply]:
        """Refuses a request that is not whole. Returns the response, or a ticket for it if it must be held."""
        lane = self._lane
        reply: Reply = lane.handler.refuse(pending.request, refusal)
        if not lane.app.refusals.must_hold_body(refusal):
            return reply
        if not self._is_paused:
            self._pause_reading()  # the rest of the body need not be received meanwhile
        held: Ticket[Reply] = Ticket()
        held_at = lane.clock()

        def end_hold() -> None:
            pending.since += lane.clock() - held_at  # because a hold does not make a request slow
            held.resolve(reply)

        asyncio.get_running_loop().call_later(HOLD, end_hold)
        return held

    def _continue(self) -> None:
        """Begins the queued requests. If there are none, parses further octets, resumes reading, or ends the connection."""
        queue = self._queue
        while queue and self._answering is None and self._is_writable:
            if self._requests_left <= 0:
                self._enqueue_step()
                return
            pending = queue.popleft()
            pending.queue_wait = self._lane.clock() - pending.since
            self._begin(pending)
        if queue or not self._is_writable:
            return
        if self._unparsed:
            if self._answering is None:
                self._enqueue_step()
            return
        answering = self._answering
        if self._is_paused and (answering is None or answering.refusal is None):
            self._resume_reading()  # also in a live read, because only reading shows that a client has left
        if answering is not None:
            return
        if self._parser.is_over:
            self._end()
        elif self._parser.awaits_continue:
            self._send_continue()

    def _send_continue(self) -> None:
        """Asks a client that waits for `100 Continue` to send its body."""
        self._parser.awaits_continue = False
        self.transport.write(wire.CONTINUE)
