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
from ..protocol.names import (
    CONTENT_LENGTH,
    MAX_HEADER_BYTES,
    MAX_URL_BYTES,
    MIB,
    TRANSFER_ENCODING,
)
from ..protocol.render import Response
from ..storage.ticket import Abandoned, Cancelled, Ticket
from ..streams.event_stream import END, WAIT, EventStream
from . import wire
from .handler import Live, Reply
from .lane import Lane
from .request import Request, declared_length, too_large

_UNSENT: Final = 16 * 1024  # bytes that a socket has not taken, before the writer waits
#: Octets of a head that is not complete, or of what stands between two parts of a body: chunk sizes, extensions, trailers.
_MAX_HEAD: Final = MAX_URL_BYTES + 2 * MAX_HEADER_BYTES
_STEP: Final = MIB  # a body without a declared length takes its budget in steps
_TRUSTED: Final = ("127.0.0.1", "::1")  # proxies on this machine may name the client's scheme

_METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE")}
_SPACE: Final = 0x20
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
        "_body",
        "_chunked",
        "_deadline",
        "_ended",
        "_events",
        "_fed",
        "_framing",
        "_header_bytes",
        "_headers",
        "_input_over",
        "_keep_alive",
        "_lane",
        "_parser",
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
        self._body: bytes | bytearray = b""
        self._framing: bytes | None = (
            None  # of a request for an upgrade, to read it as if it were none
        )
        self._size = self._taken = self._unsent = 0
        self._fed = 0  # octets since the last whole request, or the last part of a body
        self._answering: _Turn | None = None
        self._ticket: Ticket[Reply] | None = None
        self._events: EventStream | None = None
        self._refusal: Exception | None = None
        self._keep_alive = self._writable = self._chunked = True
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
        self._parser = cast(
            httptools.HttpRequestParser, None
        )  # which holds this, so that both would wait for the collector
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
            return  # a client that goes on sending after its last answer
        if self._fed > _MAX_HEAD:
            self._refuse_input(HeadersTooLarge("the request has too many or too large headers"))
            self._next()
            return
        begins = self._fed == 0
        self._fed += len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._read_on(data, upgrade.args[0])
        except httptools.HttpParserCallbackError as error:
            self._refuse_input(self._refusal or cast(Exception, error.__context__))
        except httptools.HttpParserError:
            self._refuse_input(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))
        if self._answering is not None or not self._writable:
            if self._queue and not self._pausing and not self._input_over:
                self._pause_reading()
        elif self._input_over:
            self._next()
        elif self._request is not None:
            self._expect(self._lane.timeouts.body)
        elif self._fed == 0:
            self._deadline = self._lane.now + self._lane.timeouts.idle
        elif begins:
            self._expect(self._lane.timeouts.head)

    def eof_received(self) -> bool:
        """The client sends no more; it may still read its answers, but a live read does not wait for it."""
        self._input_over = self._sends_no_more = True
        if self._answering is None and not self._queue:
            return False
        if self._scheme == "https":
            return False  # TLS cannot be half closed
        self._wake()
        self._leave_poll()
        return True

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        self._writable = False
        self._unsent = self.transport.get_write_buffer_size()
        self._expect(self._lane.timeouts.send)

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._writable = True
        self._unsent = 0
        self._wait_for_client()
        self._pump()
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
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent = unsent
            self._expect(self._lane.timeouts.send if unsent else self._lane.timeouts.linger)
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
        if value and value[-1] <= _SPACE:
            value = value.rstrip(b" \t")  # the parser leaves it (RFC 9110, 5.5)
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
        if self._framing is not None:
            self._framing = None  # the request is known; this is only how its body is framed
            self._forget_head()
            return
        if self._input_over:
            raise _Stop  # the last answer has been given
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
            said = headers[b"x-forwarded-proto"].lower()
            if said in (b"http", b"https"):
                request.scheme = said.decode("ascii")
        self._body = b""
        self._size = self._taken = self._header_bytes = 0
        self._url = b""
        self._headers = {}
        self._repeated = None
        version = self._parser.get_http_version()
        self._chunked = version == "1.1"
        try:
            if not self._chunked and version != "1.0":
                raise BadRequest("the request is not of HTTP/1.1 or 1.0", "INVALID_HTTP")
            request.check_limits(lane.app.max_body)
            declared = request.declared
            if declared:
                lane.budget.take(declared)
                self._taken = declared
        except StreamError as refusal:
            raise self._stop(refusal) from None
        if b"upgrade" in headers and method != b"CONNECT" and self._parser.should_upgrade():
            self._framing = _framing_of(headers, self._parser.should_keep_alive())
        if b"expect" in headers and self._chunked and _awaits_leave(request):
            self._announces_more = True
            self._invite()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        size = self._size = self._size + len(body)
        if size > self._taken:
            self._take_more(size)
        self._fed = 0
        if not self._body:
            self._body = body
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)  # many small parts cost what they hold, no more
        self._body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._framing is not None:
            return  # its body comes after all
        request = self._request
        assert request is not None
        body = self._body
        request.body = body if isinstance(body, bytes) else bytes(body)
        keep_alive = self._chunked and self._parser.should_keep_alive()
        taken = self._taken
        self._request = None
        self._body = b""
        self._taken = self._fed = 0
        self._announces_more = False
        if self._headers:
            self._forget_head()  # trailers, which mean nothing here
        turn = _Turn(request, keep_alive, self._chunked, taken, None)
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
        answer = self._lane.handler.handle(request, self._wake)
        request.body = b""
        if not isinstance(answer, Ticket):
            self._answer(turn, answer)
            return
        self._ticket = answer
        answer.add_callback(self._answered)
        if self._sends_no_more:
            self._leave_poll()

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
        if queue or not self._writable:
            return
        if self._pausing:
            self._resume_reading()  # also while a live read goes on, to see its client leave
        if self._answering is not None:
            return
        if self._input_over:
            self._end()
            return
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
        self._give_up_body()
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

    def _wake(self) -> None:
        """An event stream may have something to send."""
        self._pump()
        if self._answering is None:
            self._next()

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
                    if self._sends_no_more:
                        last = events.farewell()
                        write(wire.chunk(last) if chunked else last)
                        self._end_stream(chunked)
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

    def _leave_poll(self) -> None:
        """Gives up a long-poll whose client sends no more: hardly ever does one that half closes still wait."""
        turn = self._answering
        if turn is not None and self._ticket is not None and b"live=" in turn.request.query:
            self.transport.close()

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
        if self._answering is None and not self._queue and self._writable:
            self._announces_more = False
            self.transport.write(wire.CONTINUE)

    def _stop(self, refusal: Exception) -> _Stop:
        self._refusal = refusal
        return _Stop()

    def _refuse_input(self, refusal: Exception) -> None:
        """Refuses what cannot be read on from, after the answers before it."""
        if self._input_over:
            return
        self._input_over = True
        self._give_up_body()
        request = self._request or Request("GET", b"/", b"", {})
        self._request = None
        self._queue.append(_Turn(request, False, True, 0, refusal))

    def _read_on(self, data: bytes, start: int) -> None:
        """Reads on after the head of a request for an upgrade: with a new parser, which is told only how the body is framed."""
        rest = memoryview(data)
        while self._framing is not None:
            rest = rest[start:]
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(self._framing)
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                start = upgrade.args[0]
            else:
                return
        self._input_over = True  # a tunnel: what follows is not HTTP

    def _forget_head(self) -> None:
        self._url = b""
        self._headers = {}
        self._repeated = None
        self._header_bytes = 0

    def _give_up_body(self) -> None:
        self._lane.budget.give_back(self._taken)
        self._taken = 0
        self._body = b""

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
        timeouts = self._lane.timeouts
        self._unsent = transport.get_write_buffer_size()
        self._expect(timeouts.send if self._unsent else timeouts.linger)
        if self._scheme == "http" and not self._sends_no_more:
            transport.write_eof()
        else:
            transport.close()


def _framing_of(headers: dict[bytes, bytes], keep_alive: bool) -> bytes:
    """Returns the head of a request with a body that is framed as these headers say."""
    lines = [
        b"%b: %b\r\n" % (name, headers[name])
        for name in (CONTENT_LENGTH, TRANSFER_ENCODING)
        if name in headers
    ]
    if not keep_alive:
        lines.append(wire.CLOSE)
    return b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(lines)


def _awaits_leave(request: Request) -> bool:
    """Whether the client sends its body only when it is told to (RFC 9110, 10.1.1)."""
    headers = request.headers
    has_body = request.declared or TRANSFER_ENCODING in headers
    return bool(has_body) and headers[b"expect"].lower() == b"100-continue"


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
