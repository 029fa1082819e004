"""Turns the octets that a connection receives into whole requests, and enforces the limits of heads and bodies.

The library llhttp does the parsing, through the package `httptools`. Sockets, responses and time are handled elsewhere. A connection feeds
its parser with octets, and the parser passes each request to a callback once the request is whole.
"""

from collections.abc import Callable
from typing import Final, cast

import httptools
import msgspec

from ...errors import BadRequest, HeadersTooLarge, StreamError, UriTooLong
from ...protocol.hosts import check_host
from ...protocol.limits import MAX_HEADER_BYTES, MAX_HEADER_COUNT, MAX_URL_BYTES
from ...protocol.names import HOST, PRODUCER_SEQ
from ...protocol.units import KIB
from ..limits.budget import LARGE_BODY, Incoming
from ..proxies import FORWARDING_HEADERS
from ..request import NO_REQUEST, Request, join_lists, too_large
from ..request_target import split_target
from .framing import check_old_version, expects_continue, head_with_same_framing
from .known import END, LONGEST, with_body
from .lane import Lane
from .pending import PendingRequest

#: Maximum octets of an incomplete head. The limit also applies to the chunk sizes, extensions and trailers between two parts of a body.
_MAX_HEAD: Final = MAX_URL_BYTES + 2 * MAX_HEADER_BYTES
#: Octets of an incomplete head that do not count against the budget, because nearly every head is smaller and arrives whole.
_SMALL_HEAD: Final = KIB

_METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE")}
_SPACE: Final = 0x20
_NONE: Final[frozenset[bytes]] = frozenset()


class _Stop(Exception):
    """Raised in a callback to make llhttp stop parsing. `Parser._refusal` has the reason."""


def _ignore(_: object) -> None:
    """Does nothing. A released parser calls this function instead of its connection."""


class Parser:
    """Parses the requests of one connection.

    Args:
        lane: the state that all connections share, with the limits and the receive budget.
        scheme: the scheme of the connection, `http` or `https`.
        trusted: whether the peer is a trusted proxy, whose headers describe the client.
        on_request: called with each whole request, and once with a refusal if octets cannot be parsed.
        check_head: called with the head of a request with a large body. Raises an error if the head alone is enough to refuse the request.
        address: the peer's address, whose share large bodies count against if no trusted proxy names the client, or None.

    Attributes:
        request: the request whose body is being received, or None.
        has_begun: whether a part of a request has been received, but not all of it. Empty lines before a request do not count.
        is_over: whether parsing has ended. It never begins again.
        awaits_continue: whether the client waits for `100 Continue` before it sends the body (RFC 9110, 10.1.1).
        body_size: octets of the body received so far.
    """

    __slots__ = (
        "_address",
        "_body",
        "_check_head",
        "_chunked",
        "_found",
        "_framing",
        "_head_taken",
        "_header_bytes",
        "_headers",
        "_host",
        "_http",
        "_incoming",
        "_lane",
        "_looks_up",
        "_may_continue",
        "_octets",
        "_on_request",
        "_refusal",
        "_repeated",
        "_scheme",
        "_taken",
        "_trusted",
        "_url",
        "awaits_continue",
        "body_size",
        "has_begun",
        "is_over",
        "request",
    )

    def __init__(
        self,
        lane: Lane,
        scheme: str,
        trusted: bool,
        on_request: Callable[[PendingRequest], None],
        check_head: Callable[[Request], None],
        address: str | None = None,
    ) -> None:
        self._lane = lane
        self._scheme = scheme
        self._trusted = trusted
        self._on_request = on_request
        self._check_head = check_head
        self._address = address
        self._http = httptools.HttpRequestParser(self)
        self.is_over = False
        self._refusal: Exception | None = None
        self._octets = 0  # octets parsed since the last whole request or the last part of a body
        self._may_continue = True  # whether the last request allows another one after it

        # The head that is being received.
        self.has_begun = self.awaits_continue = False
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: dict[bytes, list[bytes]] | None = None
        self._header_bytes = self._head_taken = 0
        self._host: bytes | None = None  # the last Host that was found valid
        self._chunked = True
        # A head with the same framing, after a request for an upgrade. See `_parse_after_upgrade`.
        self._framing: bytes | None = None

        # The body that is being received. A second part moves the first one from `_body` to `_incoming`.
        self.request: Request | None = None
        self._body = b""
        self._incoming: Incoming | None = None
        self.body_size = self._taken = 0

        # Requests found in the current octets, or None if no request in them may be kept.
        self._found: list[Request] | None = None
        self._looks_up = True  # False after a head with Producer-Seq, as the next head differs

    def feed(self, data: bytes | memoryview) -> None:
        """Parses octets, and calls `on_request` with each request that they complete. Does nothing once parsing is over."""
        if self.is_over:
            return
        if self._octets > _MAX_HEAD:
            self.refuse(HeadersTooLarge("the request has too many or too large headers"))
            return
        if not self.has_begun and self._looks_up and len(data) <= LONGEST:
            self._look_up(bytes(data))
        else:
            self._parse(data)

    @property
    def body_left(self) -> int:
        """Octets of the current body that have not arrived yet, or 0 if there is no body or its length is unknown."""
        request = self.request
        return (
            0 if request is None or request.declared is None else request.declared - self.body_size
        )

    def refuse(self, refusal: Exception) -> None:
        """Ends parsing, and calls `on_request` with a refusal, which is sent after the responses to earlier requests."""
        if self.is_over:
            return
        # The Origin header decides which scripts may read the refusal, and an incomplete head may contain it already.
        request = self.request or msgspec.structs.replace(NO_REQUEST, headers=self._headers)
        self.end()
        self.request = None
        self._on_request(PendingRequest(request, False, True, 0, refusal, self._lane.clock()))

    def end(self) -> None:
        """Ends parsing, and no longer counts the bytes of an incomplete request against the budget."""
        self.is_over = True
        self._lane.budget.give_back(self._taken + self._head_taken)
        if self._incoming is not None:
            self._incoming.release()
        self._forget_body()
        self._forget_head()

    def release(self) -> None:
        """Ends parsing and drops all references to the connection, so that it is freed without the garbage collector."""
        self.end()
        self._http = cast(httptools.HttpRequestParser, None)
        self._on_request = self._check_head = _ignore

    # -- known requests -----------------------------------------------------

    def _look_up(self, octets: bytes) -> None:
        """Recognises a known request. Otherwise parses the octets, and keeps the request in them for the next time.

        The octets must follow a whole request, or be the first ones of the connection.
        """
        if self._is_known(octets):
            return
        found = self._found = []
        self._parse(octets)
        self._found = None
        if len(found) == 1 and self._may_continue and not self.has_begun and not self.is_over:
            self._lane.known.keep(octets, found[0])

    def _is_known(self, octets: bytes) -> bool:
        """Returns whether `octets` are a known head and its whole body. If so, calls `on_request` with the request."""
        end = octets.find(END) + len(END)
        known = self._lane.known.find(octets[:end])
        if known is None or not self._may_continue or known.scheme != self._scheme:
            return False
        size = len(octets) - end
        if size != (known.declared or 0):
            return False
        if not size:
            self._octets = 0
            self._on_request(PendingRequest(known, True, True, 0, None, self._lane.clock()))
            return True
        try:
            self._lane.budget.take(size)
        except StreamError:
            return False  # the request is parsed instead, and then refused
        self._octets = 0
        request = with_body(known, octets[end:])
        self._on_request(PendingRequest(request, True, True, size, None, self._lane.clock()))
        return True

    def _parse(self, data: bytes | memoryview) -> None:
        """Feeds octets to llhttp, and refuses them if llhttp or one of the callbacks below fails."""
        self._octets += len(data)
        try:
            try:
                self._http.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._parse_after_upgrade(data, upgrade.args[0])
        except httptools.HttpParserCallbackError as error:
            self.refuse(self._refusal or cast(Exception, error.__context__))
        except httptools.HttpParserError:
            self.refuse(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))
        else:
            if self.has_begun and self.request is None:
                self._check_partial_head(len(data))

    # -- callbacks of llhttp ------------------------------------------------

    def on_message_begin(self) -> None:
        """Notes that a request has begun."""
        self.has_begun = True

    def on_url(self, url: bytes) -> None:
        """Adds a part of the request target."""
        self._url = url = self._url + url
        if len(url) > MAX_URL_BYTES:
            raise self._stop(UriTooLong(f"the URL is longer than {MAX_URL_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds one header."""
        name = name.lower()
        if value and value[-1] <= _SPACE:
            value = value.rstrip(b" \t")  # llhttp leaves this white space (RFC 9110, 5.5)
        headers = self._headers
        self._header_bytes += len(name) + len(value)
        if name not in headers:
            headers[name] = value
        elif self._repeated is None:
            self._repeated = {name: [value]}
        else:
            self._repeated.setdefault(name, []).append(value)

    def on_headers_complete(self) -> None:
        """Creates the request from its head. Refuses the request before its body is received if the head alone is enough to refuse it."""
        if self._framing is not None:
            self._framing = None  # this is only the head that `_parse_after_upgrade` made
            self._forget_head()
            return
        if self.is_over:
            raise _Stop  # the last response has been sent
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
        if self._trusted and not FORWARDING_HEADERS.isdisjoint(headers):
            self._lane.admission.proxies.describe(request)
        if self._head_taken:
            self._lane.budget.give_back(self._head_taken)
            self._head_taken = 0
        self._url = b""
        self._headers = {}
        self._repeated = None
        self._header_bytes = 0
        lane = self._lane
        version = self._http.get_http_version()
        self._chunked = version == "1.1"
        try:
            if not self._chunked:
                check_old_version(version, headers)
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
        if b"upgrade" in headers or b"expect" in headers:
            self._prepare_for_body(request, method)

    def on_body(self, body: bytes) -> None:
        """Adds a part of the body."""
        size = self.body_size = self.body_size + len(body)
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
        """Calls `on_request` with the request, which is now whole."""
        if self._framing is not None:
            return  # llhttp ends a request for an upgrade at its head, but the body follows
        request = self.request
        assert request is not None
        incoming = self._incoming
        request.body = self._body if incoming is None else incoming.whole()
        keep_alive = self._chunked and self._http.should_keep_alive()
        pending = PendingRequest(
            request, keep_alive, self._chunked, self._taken, None, self._lane.clock(), incoming
        )
        self._looks_up = PRODUCER_SEQ not in request.headers
        self._may_continue = keep_alive
        if self._found is not None:
            self._found.append(request)
        self.request = None
        self._octets = 0
        self.has_begun = self.awaits_continue = False
        self._body = b""
        self._incoming = None
        self.body_size = self._taken = 0
        if self._headers:
            self._forget_head()  # drops the trailers, which mean nothing here
        if incoming is not None and incoming.size > LARGE_BODY:
            self._lane.heap.used(incoming.size)
        self._on_request(pending)

    # -- inside -------------------------------------------------------------

    def _prepare_for_body(self, request: Request, method: bytes) -> None:
        """Handles the `Upgrade` header, which the server ignores, and the `Expect` header."""
        headers = request.headers
        if b"upgrade" in headers and method != b"CONNECT" and self._http.should_upgrade():
            self._framing = head_with_same_framing(headers, self._http.should_keep_alive())
        if b"expect" in headers and self._chunked and expects_continue(request):
            self.awaits_continue = True

    def _add_part(self, part: bytes) -> None:
        """Adds a further part of the body.

        Raises:
            StreamError: the head alone is enough to refuse the request, or the budget has no room for the part.
        """
        request, incoming = self.request, self._incoming
        if incoming is None:
            client = request.client if request else None
            incoming = self._incoming = Incoming(self._lane.budget, client or self._address)
            self._lane.budget.give_back(self._taken)
            self._taken = 0
            incoming.add(self._body)
            self._body = b""
        was_small = incoming.size <= LARGE_BODY
        incoming.add(part)
        if was_small and incoming.size > LARGE_BODY and request and request.declared is None:
            self._check_head(request)

    def _check_partial_head(self, latest: int) -> None:
        """Counts an incomplete head against the budget, and refuses it if it is too large already.

        Args:
            latest: number of octets that were parsed last.
        """
        if self._octets == 0:
            self._octets = latest  # a request ended in these octets, and the head began after it
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
        """Returns an exception for a callback to raise, so that parsing ends with `refusal`."""
        self._refusal = refusal
        return _Stop()

    def _parse_after_upgrade(self, data: bytes | memoryview, start: int) -> None:
        """Parses the octets after the head of a request for an upgrade, as if no upgrade had been asked for.

        llhttp parses nothing after such a head. So a new llhttp parser is fed a head with the same framing, and then the octets.

        Args:
            data: the octets that were being parsed.
            start: where the head ends in `data`.
        """
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
        self.is_over = True  # CONNECT asks for a tunnel, in which the octets are not HTTP

    def _forget_head(self) -> None:
        """Drops the parts of the current head."""
        self._url = b""
        self._headers = {}
        self._repeated = None
        self._header_bytes = self._head_taken = 0

    def _forget_body(self) -> None:
        """Drops the parts of the current body."""
        self._body = b""
        self._incoming = None
        self.body_size = self._taken = 0
