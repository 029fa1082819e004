"""Octets in, requests out: llhttp's callbacks, the limits of heads and bodies, framing, and requests for an upgrade.

Nothing here knows of sockets, answers or time. `native.py` feeds a parser with what its socket receives, and is handed each
request as soon as the request is whole.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import httptools
import msgspec
from httptools.parser.url_parser import URL

from ...errors import BadRequest, HeadersTooLarge, StreamError, UriTooLong
from ...protocol.forwarding import client_scheme
from ...protocol.hosts import check_host
from ...protocol.limits import MAX_HEADER_BYTES, MAX_HEADER_COUNT, MAX_URL_BYTES
from ...protocol.names import (
    CONTENT_LENGTH,
    FORWARDED,
    HOST,
    PRODUCER_SEQ,
    TRANSFER_ENCODING,
    X_FORWARDED_PROTO,
)
from ...protocol.units import KIB
from .. import wire
from ..limits.budget import LARGE_BODY, Incoming
from ..request import NO_REQUEST, Request, join_lists, too_large
from .known import END, LONGEST, with_body

if TYPE_CHECKING:
    from .lane import Lane

#: Octets of a head that is not complete, or of what stands between two parts of a body: chunk sizes, extensions, trailers.
_MAX_HEAD: Final = MAX_URL_BYTES + 2 * MAX_HEADER_BYTES
#: Octets of a head that is not complete that cost nothing: most heads fit, and come whole.
_SMALL_HEAD: Final = KIB

_METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE")}
_SPACE: Final = 0x20
_NONE: Final[frozenset[bytes]] = frozenset()


class Turn(msgspec.Struct):
    """A request that waits for its turn, or what refuses it.

    Attributes:
        request: the whole request; of one that is refused, as much as is known.
        keep_alive: whether another request may follow its answer.
        chunked: whether the client knows chunks, as HTTP/1.1 clients do.
        taken: bytes of the budget that it holds, besides those of `incoming`.
        refusal: why it is refused unheard, or None.
        incoming: what its body holds, if that came in parts.
    """

    request: Request
    keep_alive: bool
    chunked: bool
    taken: int
    refusal: Exception | None
    incoming: Incoming | None = None


class _Stop(Exception):
    """Ends the parsing: `_refusal` says why."""


def _nobody(_: object) -> None:
    """Is called instead of a connection that is gone."""


class Parser:
    """The receiving half of one connection.

    Args:
        lane: has the limits and the budget of bodies.
        scheme: the socket's, `http` or `https`.
        trusted: whether the peer may name another scheme, as a proxy on this machine may.
        on_turn: called with each whole request, and with a refusal of what cannot be read on from.
        check_head: refuses, by raising, a request with a large body by its head alone.
        address: whose share of the budget large bodies are part of; None for nobody's.

    Attributes:
        request: the request whose body is being read, or None.
        began: whether some of a request has come that is not whole. Empty lines before one are no part of it.
        over: whether nothing more is read.
        asks: whether the client waits to be told to send the body (RFC 9110, 10.1.1).
        size: how many octets of the body have come.
    """

    __slots__ = (
        "_address",
        "_body",
        "_check_head",
        "_chunked",
        "_found",
        "_framing",
        "_goes_on",
        "_head_taken",
        "_header_bytes",
        "_headers",
        "_host",
        "_http",
        "_incoming",
        "_lane",
        "_looks_up",
        "_octets",
        "_on_turn",
        "_refusal",
        "_repeated",
        "_scheme",
        "_taken",
        "_trusted",
        "_url",
        "asks",
        "began",
        "over",
        "request",
        "size",
    )

    def __init__(
        self,
        lane: "Lane",
        scheme: str,
        trusted: bool,
        on_turn: Callable[[Turn], None],
        check_head: Callable[[Request], None],
        address: str | None = None,
    ) -> None:
        self._lane = lane
        self._scheme = scheme
        self._trusted = trusted
        self._on_turn = on_turn
        self._http = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: dict[bytes, list[bytes]] | None = None
        self._header_bytes = 0
        self._host: bytes | None = None  # the last one that was found valid
        self._address = address
        self._check_head = check_head
        self._body = b""  # its first part
        self._incoming: Incoming | None = None  # all of its parts, when there are several
        self._framing: bytes | None = (
            None  # of a request for an upgrade, to read it as if it were none
        )
        self.size = self._taken = self._head_taken = 0
        self._refusal: Exception | None = None
        self._chunked = True
        self.request: Request | None = None
        self._octets = 0  # since the last whole request, or the last part of a body
        self.began = self.over = self.asks = False
        self._found: list[Request] | None = (
            None  # in the octets that are parsed, if a request may be kept
        )
        self._looks_up = (
            True  # whether to look up the next head: not after one with a number that counts up
        )
        self._goes_on = True  # whether more requests may follow, as far as the last one says

    def feed(self, data: bytes | memoryview) -> None:
        """Reads octets, at least one, and hands over each request that they complete. When it is over, octets mean nothing."""
        if self.over:
            return
        if self._octets > _MAX_HEAD:
            self.refuse(HeadersTooLarge("the request has too many or too large headers"))
            return
        if not self.began and self._looks_up and len(data) <= LONGEST:
            self._look_up(bytes(data))
        else:
            self._parse(data)

    @property
    def body_left(self) -> int:
        """How many octets of a body are still to come, where its head says how long it is; 0 otherwise."""
        request = self.request
        return 0 if request is None or request.declared is None else request.declared - self.size

    def refuse(self, refusal: Exception) -> None:
        """Refuses what cannot be read on from. Its answer comes after those of the requests before it."""
        if self.over:
            return
        # Of a head that is not complete, what has come may say which origin may read the refusal.
        request = self.request or msgspec.structs.replace(NO_REQUEST, headers=self._headers)
        self.end()
        self.request = None
        self._on_turn(Turn(request, False, True, 0, refusal))

    def end(self) -> None:
        """Reads nothing more, and gives back what a body that is not complete holds."""
        self.over = True
        self._lane.budget.give_back(self._taken + self._head_taken)
        if self._incoming is not None:
            self._incoming.release()
        self._forget_body()
        self._forget_head()

    def release(self) -> None:
        """Ends, and lets go of who is called: without that, only the collector would free the connection."""
        self.end()
        self._http = cast(httptools.HttpRequestParser, None)
        self._on_turn = self._check_head = _nobody

    def _look_up(self, octets: bytes) -> None:
        """Reads octets that come between two requests. If they are one whole request, it may be known, and may be kept."""
        if self._is_known(octets):
            return
        found = self._found = []
        self._parse(octets)
        self._found = None
        if len(found) == 1 and self._goes_on and not self.began and not self.over:
            self._lane.known.keep(octets, found[0])

    def _parse(self, data: bytes | memoryview) -> None:
        self._octets += len(data)
        try:
            try:
                self._http.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._read_on(data, upgrade.args[0])
        except httptools.HttpParserCallbackError as error:
            self.refuse(self._refusal or cast(Exception, error.__context__))
        except httptools.HttpParserError:
            self.refuse(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))
        else:
            if self.began and self.request is None:
                self._check_part_of_head(len(data))

    def _is_known(self, octets: bytes) -> bool:
        """Hands over the request that octets are, if they are known to be one."""
        end = octets.find(END) + len(END)
        known = self._lane.known.find(octets[:end])
        if known is None or not self._goes_on or known.scheme != self._scheme:
            return False
        size = len(octets) - end
        if size != (known.declared or 0):
            return False
        if not size:
            self._octets = 0
            self._on_turn(Turn(known, True, True, 0, None))
            return True
        try:
            self._lane.budget.take(size)
        except StreamError:
            return False  # parsed, it is refused as such a request is
        self._octets = 0
        self._on_turn(Turn(with_body(known, octets[end:]), True, True, size, None))
        return True

    # -- llhttp's callbacks -------------------------------------------------

    def on_message_begin(self) -> None:
        """The first octet of a request."""
        self.began = True

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
            self._repeated = {name: [value]}
        else:
            self._repeated.setdefault(name, []).append(value)

    def on_headers_complete(self) -> None:
        """The head is there: what can be refused by it alone is, before any of the body."""
        if self._framing is not None:
            self._framing = None  # the request is known; this is only how its body is framed
            self._forget_head()
            return
        if self.over:
            raise _Stop  # the last answer has been given
        lane = self._lane
        headers = self._headers
        method = self._http.get_method()
        url = self._url
        authority = None
        if b"?" in url or b"#" in url or url[:1] != b"/":
            path, query, authority = split_target(url)
        else:
            path, query = url, b""
        request = self.request = Request(
            _METHODS.get(method) or method.decode("ascii"),
            path,
            query,
            headers,
            join_lists(headers, self._repeated) if self._repeated else _NONE,
            self._header_bytes,
            self._scheme,
        )
        if self._trusted and (X_FORWARDED_PROTO in headers or FORWARDED in headers):
            request.scheme = client_scheme(headers) or self._scheme
        if self._head_taken:
            lane.budget.give_back(self._head_taken)
            self._head_taken = 0
        self._url = b""
        self._headers = {}
        self._repeated = None
        self._header_bytes = 0
        version = self._http.get_http_version()
        self._chunked = version == "1.1"
        try:
            if not self._chunked:
                _check_old(version, headers)
            request.check_limits(lane.app.max_body)
            host = headers.get(HOST)
            if host is None or host != self._host:
                check_host(host, is_needed=self._chunked)
                self._host = host
            if authority is not None:
                check_host(authority, is_needed=True)
                headers[HOST] = authority  # RFC 9112, 3.2.2
            declared = request.declared
            if declared and declared > LARGE_BODY:
                self._check_head(request)
                lane.budget.check(declared)
        except StreamError as refusal:
            raise self._stop(refusal) from None
        if b"upgrade" in headers and method != b"CONNECT" and self._http.should_upgrade():
            self._framing = _framing_of(headers, self._http.should_keep_alive())
        if b"expect" in headers and self._chunked and _awaits_leave(request):
            self.asks = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        size = self.size = self.size + len(body)
        lane = self._lane
        if size > lane.app.max_body:
            raise self._stop(too_large(lane.app.max_body))
        try:
            self._octets = 0
            if size == len(body):
                lane.budget.take(size)
                self._taken = size
                self._body = body
            else:
                self._add_part(body)
        except StreamError as refusal:
            raise self._stop(refusal) from None

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._framing is not None:
            return  # its body comes after all
        request = self.request
        assert request is not None
        incoming = self._incoming
        request.body = self._body if incoming is None else incoming.whole()
        keep_alive = self._chunked and self._http.should_keep_alive()
        turn = Turn(request, keep_alive, self._chunked, self._taken, None, incoming)
        self._looks_up = PRODUCER_SEQ not in request.headers  # or no two heads are alike
        self._goes_on = keep_alive
        if self._found is not None:
            self._found.append(request)
        self.request = None
        self._octets = 0
        self.began = self.asks = False
        self._body = b""
        self._incoming = None
        self.size = self._taken = 0
        if self._headers:
            self._forget_head()  # trailers, which mean nothing here
        if incoming is not None and incoming.size > LARGE_BODY:
            self._lane.heap.used(incoming.size)
        self._on_turn(turn)

    # -- inside -------------------------------------------------------------

    def _add_part(self, part: bytes) -> None:
        """Adds a further part of the body.

        Raises:
            StreamError: the head decides that the request is refused, or there is no room for the part.
        """
        incoming = self._incoming
        if incoming is None:
            incoming = self._incoming = Incoming(self._lane.budget, self._address)
            self._lane.budget.give_back(self._taken)
            self._taken = 0
            incoming.add(self._body)
            self._body = b""
        was_small = incoming.size <= LARGE_BODY
        incoming.add(part)
        request = self.request
        if was_small and incoming.size > LARGE_BODY and request and request.declared is None:
            self._check_head(request)

    def _check_part_of_head(self, latest: int) -> None:
        """Counts what a head that is not complete holds, and refuses one that is too large already.

        Args:
            latest: how many octets have come last.
        """
        if self._octets == 0:
            self._octets = (
                latest  # a request has ended among them, and some of them are of this head
            )
        if len(self._headers) > MAX_HEADER_COUNT or self._header_bytes > MAX_HEADER_BYTES:
            self.refuse(HeadersTooLarge("the request has too many or too large headers"))
            return
        more = self._octets - _SMALL_HEAD - self._head_taken
        if more > 0:
            try:
                self._lane.budget.take(more)
            except StreamError as refusal:
                self.refuse(refusal)
            else:
                self._head_taken += more

    def _stop(self, refusal: Exception) -> _Stop:
        self._refusal = refusal
        return _Stop()

    def _read_on(self, data: bytes | memoryview, start: int) -> None:
        """Reads on after the head of a request for an upgrade: with a new parser, which is told only how the body is framed."""
        rest = memoryview(data)
        while self._framing is not None:
            rest = rest[start:]
            self._http = httptools.HttpRequestParser(self)
            self._http.feed_data(self._framing)
            try:
                self._http.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                start = upgrade.args[0]
            else:
                return
        self.over = True  # a tunnel: what follows is not HTTP

    def _forget_head(self) -> None:
        self._url = b""
        self._headers = {}
        self._repeated = None
        self._header_bytes = self._head_taken = 0

    def _forget_body(self) -> None:
        self._body = b""
        self._incoming = None
        self.size = self._taken = 0


def _check_old(version: str, headers: dict[bytes, bytes]) -> None:
    """Refuses versions that are not spoken here, and what HTTP/1.0 does not know.

    Raises:
        BadRequest: INVALID_HTTP.
    """
    if version != "1.0":
        raise BadRequest("the request is not of HTTP/1.1 or 1.0", "INVALID_HTTP")
    if TRANSFER_ENCODING in headers:  # the framing is faulty (RFC 9112, 6.1)
        raise BadRequest("HTTP/1.0 has no transfer codings", "INVALID_HTTP")


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


def split_target(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Returns the path and the query of a request target, and the authority if the target is a whole URL."""
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query, None
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return target, b"", None  # which names no stream
    return parsed.path or b"/", parsed.query or b"", _authority(parsed)


def _authority(parsed: URL) -> bytes | None:
    """Returns the authority of a URL: its user, host and port, as far as it has them."""
    host = parsed.host
    if parsed.schema is None or host is None:
        return None
    if b":" in host:
        host = b"[%b]" % host
    if parsed.userinfo is not None:
        host = b"%b@%b" % (parsed.userinfo, host)
    return host if parsed.port is None else b"%b:%d" % (host, parsed.port)
