"""The handler straight on the socket: an asyncio protocol on llhttp's parser, given to uvicorn as its HTTP class.

No task, future or coroutine exists here. A request is answered when its ticket resolves; an event stream is pulled when its
stream has changed or its socket can take more. Requests on one connection are answered one after the other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import httptools
import msgspec

from ..errors import BadRequest, HeadersTooLarge, StreamError, UriTooLong
from ..protocol.names import MAX_HEADER_BYTES, MAX_URL_BYTES, MIB
from ..protocol.render import Response
from ..storage.ticket import Abandoned, Cancelled, Ticket
from ..streams.event_stream import END, WAIT, EventStream
from . import wire
from .handler import Live, Reply
from .lane import Lane
from .request import Request, declared_length, too_large

_UNSENT: Final = 16 * 1024  # bytes that a socket has not taken, before the writer waits
_MAX_HEAD: Final = MAX_URL_BYTES + 2 * MAX_HEADER_BYTES  # octets of a head that is not complete
_STEP: Final = MIB  # a body without a declared length takes its budget in steps
_TRUSTED: Final = ("127.0.0.1", "::1")  # proxies on this machine may name the client's scheme

_METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE")}
_NONE: Final[frozenset[bytes]] = frozenset()

_log = logging.getLogger("durable_streams_server")


class _Turn(msgspec.Struct, frozen=True):
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
        "_ended",
        "_events",
        "_fed",
        "_header_bytes",
        "_headers",
        "_input_over",
        "_keep_alive",
        "_lane",
        "_parser",
        "_parts",
        "_pausing",
        "_queue",
        "_refusal",
        "_repeated",
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
        self._headers: dict[bytes, bytes] = {}
        self._repeated: set[bytes] | None = None
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._size = self._taken = self._fed = self._unsent = 0
        self._answering: _Turn | None = None
        self._ticket: Ticket[Reply] | None = None
        self._events: EventStream | None = None
        self._refusal: Exception | None = None
        self._keep_alive = self._writable = True
        self._ended = self._input_over = self._sends_no_more = self._pausing = (
            self._announces_more
        ) = False
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
            if self._fed > _MAX_HEAD:
                self._refuse_input(HeadersTooLarge("the request has too many or too large headers"))
                self._next()
                return
            if self._fed == 0:
                self._deadline = self._lane.now + self._lane.timeouts.head
            self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._input_over = True  # what follows is not HTTP; nothing else is spoken here
        except httptools.HttpParserCallbackError as error:
            self._refuse_input(self._refusal or cast(Exception, error.__context__))
        except httptools.HttpParserError:
            self._refuse_input(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))
        if self._answering is None:
            if self._input_over:
                self._next()
            elif self._request is not None:
                self._deadline = self._lane.now + self._lane.timeouts.body
            elif self._fed == 0:
                self._deadline = self._lane.now + self._lane.timeouts.idle
        elif self._queue and not self._pausing and not self._input_over:
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
        self._wait_for_client()
        if self._events is not None:
            self._pump()
        else:
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

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._url = url = self._url + url
        if len(url) > MAX_URL_BYTES:
            raise self._stop(UriTooLong(f"the URL is longer than {MAX_URL_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        name = name.lower()
        headers = self._headers
        self._header_bytes += len(name) + len(value)
        if name not in headers:
            headers[name] = value
        elif self._repeated is None:
            self._repeated = {name}
        else:
            self._repeated.add(name)

    def on_headers_complete(self) -> None:
        """The head is there: what can be refused by it alone is, before any of the body."""
        lane = self._lane
        headers = self._headers
        method = self._parser.get_method()
        url = self._url
        if b"?" in url or b"#" in url or url[:1] != b"/":
            path, query = _split(url)
        else:
            path, query = url, b""
        request = self._request = Request(
            _METHODS.get(method) or method.decode("ascii"),
            path,
            query,
            headers,
            frozenset(self._repeated) if self._repeated else _NONE,
            self._header_bytes,
            self._scheme,
            "",
            declared_length(headers),
        )
        if self._trusted and b"x-forwarded-proto" in headers:
            request.scheme = "https" if headers[b"x-forwarded-proto"] == b"https" else "http"
        self._parts = []
        self._size = self._taken = self._fed = self._header_bytes = 0
        self._url = b""
        self._headers = {}
        self._repeated = None
        try:
            request.check_limits(lane.app.max_body)
            declared = request.declared
            if declared:
                lane.budget.take(declared)
                self._taken = declared
        except StreamError as refusal:
            raise self._stop(refusal) from None
        if b"upgrade" in headers and self._parser.should_upgrade():
            self._keep_alive = False
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self._announces_more = True
            self._invite()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        size = self._size = self._size + len(body)
        if size > self._taken:
            self._take_more(size)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self._request
        assert request is not None
        parts = self._parts
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        chunked = self._parser.get_http_version() == "1.1"
        keep_alive = chunked and self._parser.should_keep_alive()
        taken = self._taken
        self._request = None
        self._parts = []
        self._taken = 0
        self._announces_more = False
        turn = _Turn(request, keep_alive, chunked, taken, None)
        if self._answering is None and not self._queue and self._writable:
            self._begin(turn)
        else:
            self._queue.append(turn)

    # -- answers ------------------------------------------------------------

    def _begin(self, turn: _Turn) -> None:
        """Answers a request whose turn it is."""
        self._answering = turn
        request = turn.request
        if turn.refusal is not None:
            self._send(turn, self._lane.handler.refuse(request, turn.refusal))
            return
        answer = self._lane.handler.handle(request, self._pump)
        request.body = b""
        if not isinstance(answer, Ticket):
            self._answer(turn, answer)
            return
        self._ticket = answer
        answer.add_callback(self._answered)

    def _answered(self, ticket: Ticket[Reply]) -> None:
        self._ticket = None
        turn = cast(_Turn, self._answering)
        try:
            reply = ticket.result()
        except Abandoned:
            self._lane.budget.give_back(turn.taken)
            self.transport.abort()  # nobody knows what became of it
            return
        except Cancelled:
            self._lane.budget.give_back(turn.taken)
            return  # the client has left
        self._answer(turn, reply)
        self._next()

    def _answer(self, turn: _Turn, reply: Reply) -> None:
        if turn.taken:
            self._lane.budget.give_back(turn.taken)
        if isinstance(reply, Live):
            self._stream(turn, reply)
        else:
            self._send(turn, reply)

    def _next(self) -> None:
        """Goes on to the requests that wait; without any, to what the client does next."""
        queue = self._queue
        while queue and self._answering is None and self._writable:
            self._begin(queue.popleft())
        if self._answering is not None or queue or not self._writable:
            return
        if self._input_over:
            self._end()
            return
        if self._pausing:
            self._resume_reading()
        if self._announces_more:
            self._invite()
        self._wait_for_client()

    def _send(self, turn: _Turn, response: Response) -> None:
        """Sends a whole response and ends the turn."""
        transport = self.transport
        if transport.is_closing():
            return
        to_head = turn.request.method == "HEAD"
        keep_alive = turn.keep_alive and self._stays(turn)
        framing = self._lane.date if keep_alive else self._lane.date + wire.CLOSE
        if response.status == 204:
            transport.write(wire.head(response, framing))
        else:
            head = wire.head(response, framing + wire.length(response, to_head))
            if to_head:
                transport.write(head)
            elif response.size <= _UNSENT:
                transport.write(head + response.whole)
            else:
                transport.writelines((head, *response.parts))
        self._answering = None
        if not keep_alive:
            self._finish()

    def _stays(self, turn: _Turn) -> bool:
        return (
            turn.keep_alive
            and self._keep_alive
            and turn.refusal is None
            and (not self._input_over or len(self._queue) > 0)
        )

    def _finish(self) -> None:
        """Answers no more: the last response has been sent."""
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
        self._deadline = 0.0
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
        self._answering = None
        if not (self._keep_alive and chunked):
            self._finish()
        self._next()

    # -- inside -------------------------------------------------------------

    def _expect(self, seconds: float) -> None:
        """Sets the time by which the client must do what it is to do next."""
        self._deadline = self._lane.now + seconds

    def _wait_for_client(self) -> None:
        """Expects what the client does next, while it is not the server's turn."""
        timeouts = self._lane.timeouts
        if self._answering is not None:
            self._deadline = 0.0
        elif self._request is not None:
            self._expect(timeouts.body)
        else:
            self._expect(timeouts.head if self._fed else timeouts.idle)

    def _take_more(self, size: int) -> None:
        """Takes room for a body that is larger than was declared, or that declared nothing."""
        limit = self._lane.app.max_body
        if size > limit:
            raise self._stop(too_large(limit))
        step = max(size - self._taken, min(_STEP, limit - self._taken))
        try:
            self._lane.budget.take(step)
        except StreamError as refusal:
            raise self._stop(refusal) from None
        self._taken += step

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
        if self._ended or transport.is_closing():
            return
        self._ended = True
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
