"""The handler straight on the socket: an asyncio protocol on llhttp's parser, given to uvicorn as its HTTP class.

No task, future or coroutine exists here. A request is answered when its ticket resolves; an event stream is pulled when its
stream has changed or its socket can take more. Requests on one connection are answered one after the other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import httptools

from ..errors import BadRequest, HeadersTooLarge, StreamError, UriTooLong
from ..protocol.names import MAX_HEADER_BYTES, MAX_URL_BYTES, MIB
from ..protocol.render import Response
from ..storage.ticket import Abandoned, Cancelled, Ticket
from ..streams.event_stream import END, WAIT, EventStream
from . import wire
from .handler import Live, Reply
from .lane import Lane
from .request import Request, index_headers, too_large

_UNSENT: Final = 16 * 1024  # bytes that a socket has not taken, before the writer waits
_MAX_HEAD: Final = MAX_URL_BYTES + 2 * MAX_HEADER_BYTES  # octets of a head that is not complete
_STEP: Final = MIB  # a body without a declared length takes its budget in steps
_TRUSTED: Final = ("127.0.0.1", "::1")  # proxies on this machine may name the client's scheme

_log = logging.getLogger("durable_streams_server")


class _Turn(NamedTuple):
    """A request that waits for its turn, or what refuses it."""

    request: Request
    keep_alive: bool
    chunked: bool  # whether the client knows chunks: HTTP/1.1
    taken: int  # bytes of the budget that its body holds
    refusal: Exception | None


class _Stop(Exception):
    """Ends the parsing: `_refusal` says why."""


def protocol_of(lane: Lane) -> Callable[..., "Connection"]:
    """Returns what uvicorn calls for each connection; of what it gives, its set of connections is all that is needed."""

    def connect(**given: Any) -> Connection:
        if lane.loop is None:
            lane.begin(given["server_state"].connections)
        return Connection(lane)

    return connect


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_announces_more",
        "_answering",
        "_deadline",
        "_events",
        "_fed",
        "_headers",
        "_input_over",
        "_keep_alive",
        "_lane",
        "_parser",
        "_parts",
        "_pausing",
        "_queue",
        "_refusal",
        "_request",
        "_scheme",
        "_sends_no_more",
        "_size",
        "_taken",
        "_ticket",
        "_trusted",
        "_unsent",
        "_url",
        "_writable",
        "transport",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[_Turn] = deque()
        self._request: Request | None = None  # whose body is being read
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = self._taken = self._fed = self._unsent = 0
        self._answering: _Turn | None = None
        self._ticket: Ticket[Reply] | None = None
        self._events: EventStream | None = None
        self._refusal: Exception | None = None
        self._keep_alive = self._writable = True
        self._input_over = self._sends_no_more = self._pausing = self._announces_more = False
        self._scheme = "http"
        self._trusted = False
        self._deadline = 0.0  # for the client to do something; 0 while it has nothing to do
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    # -- the socket ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_UNSENT)
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"
        peer = transport.get_extra_info("peername")
        self._trusted = not peer or peer[0] in _TRUSTED
        self._expect(self._lane.timeouts.idle)
        self._lane.added(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Gives everything back."""
        self._input_over = True
        self._lane.connections.discard(self)
        self._give_up_body()
        for turn in self._queue:
            self._lane.budget.give_back(turn.taken)
        self._queue.clear()
        if self._events is not None:
            self._events.close()
            self._events = None
        ticket, self._ticket = self._ticket, None
        answering = self._answering
        if ticket is not None and answering is not None and answering.request.method == "GET":
            ticket.cancel()  # a read whose client has left is given up; a write is seen through

    def data_received(self, data: bytes) -> None:
        """Parses what has come."""
        if self._input_over:
            return  # a client that goes on sending after its refusal
        if self._request is None:
            if self._fed == 0:
                self._expect(self._lane.timeouts.head)
            self._fed += len(data)
        else:
            self._expect(self._lane.timeouts.body)
        if self._fed - len(data) > _MAX_HEAD:
            self._refuse_input(HeadersTooLarge("the request has too many or too large headers"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._input_over = True  # what follows is not HTTP; nothing else is spoken here
        except httptools.HttpParserCallbackError as error:
            self._refuse_input(self._refusal or cast(Exception, error.__context__))
        except httptools.HttpParserError:
            self._refuse_input(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))
        if self._queue and not self._pausing and not self._input_over:
            self._pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; it may still read."""
        self._input_over = self._sends_no_more = True
        if self._answering is None and not self._queue:
            return False
        self._keep_alive = False
        return self._scheme == "http"  # TLS cannot be half closed

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        self._writable = False
        self._unsent = self.transport.get_write_buffer_size()
        self._expect(self._lane.timeouts.send)

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._writable = True
        self._deadline = 0.0
        if self._request is not None:
            self._expect(self._lane.timeouts.body)
        if self._events is not None:
            self._pump()
        elif self._answering is None:
            self._next()

    def shutdown(self) -> None:
        """The server stops: a connection without a request is closed, any other after its answer."""
        if self._answering is None and not self._queue:
            self.transport.close()
        else:
            self._keep_alive = False

    def check(self, now: float) -> None:
        """Closes the connection if the client has had its time."""
        if not self._deadline or now < self._deadline:
            return
        if not self._writable:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent = unsent
                self._expect(self._lane.timeouts.send)
                return
        self.transport.abort()

    # -- the parser's callbacks ---------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._url += url
        if len(self._url) > MAX_URL_BYTES:
            raise self._stop(UriTooLong(f"the URL is longer than {MAX_URL_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there: what can be refused by it alone is, before any of the body."""
        lane = self._lane
        headers, repeated, size = index_headers(self._headers)
        method = self._parser.get_method().decode("ascii")
        path, query = _split(self._url)
        request = Request(method, path, query, headers, repeated, size, self._scheme)
        if self._trusted:
            forwarded = headers.get(b"x-forwarded-proto")
            if forwarded is not None:
                request.scheme = "https" if forwarded.lower() == b"https" else "http"
        self._request = request
        self._parts = []
        self._size = self._taken = self._fed = 0
        try:
            lane.handler.admit(request)
            declared = request.content_length
            if declared:
                lane.budget.take(declared)
                self._taken = declared
        except StreamError as refusal:
            raise self._stop(refusal) from None
        if self._parser.should_upgrade():
            self._keep_alive = False
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._announces_more = True
            self._invite()
        self._expect(lane.timeouts.body)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        size = self._size = self._size + len(body)
        if size > self._taken:
            limit = self._lane.app.max_body
            if size > limit:
                raise self._stop(too_large(limit))
            step = max(size - self._taken, min(_STEP, limit - self._taken))
            try:
                self._lane.budget.take(step)
            except StreamError as refusal:
                raise self._stop(refusal) from None
            self._taken += step
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = cast(Request, self._request)
        parts = self._parts
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        current = self._parser.get_http_version() == "1.1"
        keep_alive = current and self._parser.should_keep_alive()
        turn = _Turn(request, keep_alive, current, self._taken, None)
        self._request = None
        self._parts = []
        self._taken = 0
        self._deadline = 0.0
        self._announces_more = False
        self._queue.append(turn)
        self._next()

    # -- answers ------------------------------------------------------------

    def _next(self) -> None:
        """Answers the request whose turn it is, if there is one and the client takes what it is sent."""
        while self._queue and self._answering is None and self._writable:
            turn = self._queue.popleft()
            self._answering = turn
            if turn.refusal is not None:
                self._send(turn, self._lane.handler.refuse(turn.request, turn.refusal))
                continue
            ticket = self._lane.handler.handle(turn.request, self._pump)
            turn.request.body = b""
            if ticket.done:
                self._answer(ticket)
            else:
                self._ticket = ticket
                ticket.add_callback(self._answered)
        if self._answering is not None or self._queue or not self._writable:
            return
        if self._input_over:
            self._end()
            return
        if self._pausing:
            self._resume_reading()
        if self._announces_more:
            self._invite()
        if not self._deadline:
            self._expect(self._lane.timeouts.idle)

    def _answered(self, ticket: Ticket[Reply]) -> None:
        self._ticket = None
        self._answer(ticket)
        self._next()

    def _answer(self, ticket: Ticket[Reply]) -> None:
        turn = cast(_Turn, self._answering)
        self._lane.budget.give_back(turn.taken)
        try:
            reply = ticket.result()
        except Abandoned:
            self.transport.abort()  # nobody knows what became of it
            return
        except Cancelled:
            return  # the client has left
        if isinstance(reply, Live):
            self._stream(turn, reply)
        else:
            self._send(turn, reply)

    def _send(self, turn: _Turn, response: Response) -> None:
        """Sends a whole response and ends the turn."""
        if self.transport.is_closing():
            return
        to_head = turn.request.method == "HEAD"
        keep_alive = self._stays(turn)
        framing = self._lane.date + wire.length(response, to_head)
        if not keep_alive:
            framing += wire.CLOSE
        head = wire.head(response, framing)
        body = b"" if to_head else response.body
        if len(body) <= _UNSENT:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        self._finish(keep_alive)

    def _stays(self, turn: _Turn) -> bool:
        return (
            turn.keep_alive
            and self._keep_alive
            and turn.refusal is None
            and not (self._input_over and not self._queue)
        )

    def _finish(self, keep_alive: bool) -> None:
        self._answering = None
        if not keep_alive:
            for turn in self._queue:
                self._lane.budget.give_back(turn.taken)
            self._queue.clear()
            self._input_over = True

    def _stream(self, turn: _Turn, live: Live) -> None:
        """Begins an event stream: in chunks, or to an old client until the connection ends."""
        self._events = live.events
        if self.transport.is_closing():
            return  # what closes the events comes next
        framing = self._lane.date
        self._keep_alive = self._stays(turn)
        if turn.chunked:
            framing += wire.CHUNKED
        if not self._keep_alive:
            framing += wire.CLOSE
        self.transport.write(wire.head(live.head, framing))
        self._pump()

    def _pump(self) -> None:
        """Sends what an event stream has, as far as the client takes it."""
        events = self._events
        if events is None or self.transport.is_closing():
            return
        chunked = cast(_Turn, self._answering).chunked
        write = self.transport.write
        try:
            while self._writable:
                data = events.pull()
                if data is WAIT:
                    return
                if data is END:
                    self._end_stream(chunked)
                    return
                write(self._lane.chunk(data) if chunked else data)
        except Exception as error:
            _log.error("an event stream failed", exc_info=error)
            self.transport.abort()

    def _end_stream(self, chunked: bool) -> None:
        events, self._events = self._events, None
        cast(EventStream, events).close()
        if chunked:
            self.transport.write(wire.LAST_CHUNK)
        self._finish(self._keep_alive and chunked)
        self._next()

    # -- inside -------------------------------------------------------------

    def _expect(self, seconds: float) -> None:
        """Sets the time by which the client must do what it is to do next."""
        loop = self._lane.loop
        self._deadline = loop.time() + seconds if loop is not None else 0.0

    def _invite(self) -> None:
        """Tells a client that asked first to send its body, when that is the next thing it is told."""
        if self._answering is None and not self._queue:
            self._announces_more = False
            self.transport.write(wire.CONTINUE)

    def _stop(self, refusal: Exception) -> _Stop:
        self._refusal = refusal
        return _Stop()

    def _refuse_input(self, refusal: Exception) -> None:
        """Refuses what cannot be read on from, after the answers before it."""
        self._input_over = True
        self._give_up_body()
        request = self._request or Request("GET", b"/", b"", {})
        self._request = None
        self._queue.append(_Turn(request, False, True, 0, refusal))
        self._next()

    def _give_up_body(self) -> None:
        self._lane.budget.give_back(self._taken)
        self._taken = 0
        self._parts = []

    def _pause_reading(self) -> None:
        """Reads no more until the requests that have come are answered."""
        if not self.transport.is_closing():
            self._pausing = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._pausing = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _end(self) -> None:
        """Closes after the last response, leaving a client that still sends the time to read it."""
        transport = self.transport
        if transport.is_closing():
            return
        if self._scheme == "http" and not self._sends_no_more:
            transport.write_eof()
            self._expect(self._lane.timeouts.linger)
        else:
            transport.close()


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Returns the path and the query of a request target."""
    if not target.startswith(b"/") or b"#" in target:
        try:
            parsed = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            return target, b""  # which names no stream
        return parsed.path or b"/", parsed.query or b""
    path, _, query = target.partition(b"?")
    return path, query
