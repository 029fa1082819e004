"""uvicorn's HTTP/1.1 connection with the limits of the native lane, for `serve --http asgi`.

By itself, uvicorn waits without limit for the rest of a head and for clients that read nothing. It answers invalid HTTP with a text of
its own, and accepts connections until no file handles are left. If another server runs the application, that server's limits apply.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from ...errors import BadRequest, Header, RequestTimeout, StreamError
from ...log import errors_only
from ...protocol.hosts import is_host
from ...protocol.names import HOST
from ...protocol.units import KIB
from .. import wire
from ..limits.admission import Admission, handle_of
from ..limits.refusals import HOLD
from ..limits.timeouts import Timeouts
from ..limits.unsent import UnsentTimer
from ..request import NO_REQUEST, SAFE_METHODS
from ..request_target import split_target
from .application import DurableStreamsApp
from .forwarded import describe_client
from .waiting import HELD, key_of

#: Bytes that may wait in the write buffer of a socket before the writer must wait.
_UNSENT: Final = 16 * KIB
#: The logger of uvicorn's connections, without their warnings about invalid requests.
_errors: Final = errors_only("uvicorn.error.requests")


def protocol_of(
    app: DurableStreamsApp, timeouts: Timeouts, admission: Admission
) -> Callable[..., "Http1Connection"]:
    """Returns the function that uvicorn calls to create a connection."""

    def connect(**given: Any) -> Http1Connection:
        return Http1Connection(app, timeouts, admission, **given)

    return connect


class Http1Connection(HttpToolsProtocol):
    """One client's HTTP/1.1 connection. It limits the time for the head of a request; the application limits the time for the body.

    Args:
        app: Answers the requests.
        timeouts: How long a client may take for each phase.
        admission: Decides on new connections.
        given: The arguments that uvicorn passes to a connection.
    """

    #: Slots, because an instance with more than 30 attributes in its dictionary is slower to access.
    __slots__ = (
        "_address",
        "_admission",
        "_answering",
        "_handler",
        "_is_half_closed",
        "_is_held",
        "_is_retired",
        "_is_trusted",
        "_late_scope",
        "_observer",
        "_timeouts",
        "_timer",
        "_unsent",
    )

    def __init__(
        self, app: DurableStreamsApp, timeouts: Timeouts, admission: Admission, **given: Any
    ) -> None:
        super().__init__(**given)
        self.logger = _errors
        self._handler = app.handler
        self._observer = app.observer
        self._timeouts = timeouts
        self._admission = admission
        self._address: str | None = None  # the peer, once the connection is counted
        self._late_scope: Any = None  # the scope of the incomplete head that the timer runs for
        self._answering: RequestResponseCycle | None = None  # the latest request that was started
        self._is_half_closed = False  # whether the client sends no more but still reads
        self._is_held = False  # whether the connection is refused and will be answered later
        self._is_retired = False  # whether the connection ends after its next response
        self._is_trusted = False  # whether the peer is a proxy whose headers are believed
        self._unsent = UnsentTimer(timeouts.send)
        self._timer: asyncio.TimerHandle | None = None  # limits the time until a head is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio calls it with this type
        """Starts the connection, or refuses it."""
        peer = transport.get_extra_info("peername")
        address = self._admission.proxies.counted_address(peer)
        handle = handle_of(transport)
        refusal = self._admission.admit(len(self.connections), handle, address)
        if refusal is None:
            self._address = address
        super().connection_made(transport)
        self._is_trusted = self._admission.proxies.trusts(peer)
        transport.set_write_buffer_limits(high=_UNSENT)
        if refusal is None:
            self._timer = self.loop.call_later(self._timeouts.idle, self._head_is_late)
        elif self._admission.hold(handle):
            self.connections.discard(self)  # because it takes no place among the connections
            self._is_held = True
            self.loop.call_soon(self._stop_reading)  # uvloop begins to read after this method
            self.loop.call_later(HOLD, self._end_hold, refusal)
        else:
            self._refuse(refusal)

    def _stop_reading(self) -> None:
        """Stops reading from the socket of a held connection."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _end_hold(self, refusal: StreamError) -> None:
        """Answers and closes a connection that was refused a second ago."""
        self._admission.end_hold()
        self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers, and no longer counts the connection."""
        self._stop_timer()
        self._unsent.stop()
        address, self._address = self._address, None
        self._admission.release(address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses received bytes. Starts a timer if they end within a head."""
        if self._is_held:
            return
        HttpToolsProtocol.data_received(self, data)
        if self._timer is None and self.scope is not None and "method" in self.scope:
            return  # most requests arrive with a complete head
        if not self._in_head():
            self._stop_timer()
        elif self.scope is not self._late_scope:
            self._late_scope = self.scope
            self._stop_timer()
            self._timer = self.loop.call_later(self._timeouts.head, self._head_is_late)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio uses the result
        """Handles a client that sends no more. Returns whether to keep the connection open until its complete requests are answered.

        A connection with a live read is closed, because a client that sends no more can hardly be told from one that has left. TLS
        connections cannot be half closed.
        """
        answering = self._answering
        self._is_half_closed = (
            answering is not None
            and not answering.response_complete
            and _is_finite(answering)
            and not is_ssl(self.transport)
        )
        return self._is_half_closed

    def on_response_complete(self) -> None:
        """Starts the next request. Closes a half-closed connection if it has no other complete request."""
        if self._is_half_closed and not (self.pipeline and _is_finite(self.pipeline[-1][0])):
            self.transport.close()
        else:
            super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Runs the application for a request, and remembers the request for `eof_received`."""
        self._answering = cycle
        if self._is_retired:
            _close_after(cycle)
        super()._start_asgi_task(cycle, app)

    @property
    def key(self) -> int:
        """The key of the connection, which decides when a drain ends it."""
        return key_of(self.client, self)

    @property
    def has_events(self) -> bool:
        """Whether the connection has an event stream."""
        return self._is_answering and b"live=sse" in self.cycle.scope["query_string"]

    def retire(self) -> None:
        """Closes the connection after its next response, so that the client's next request may reach another server."""
        self._is_retired = True
        if self._is_answering:
            _close_after(self.cycle)

    @property
    def is_writing(self) -> bool:
        """Whether a write waits until it is durable."""
        return self._is_answering and is_writing(self.cycle)

    def pause_writing(self) -> None:
        """Starts the timer for unsent bytes, because the write buffer is full."""
        super().pause_writing()
        self._unsent.begin(self.transport)

    def resume_writing(self) -> None:
        """Stops the timer for unsent bytes, because the write buffer has drained."""
        self._unsent.stop()
        super().resume_writing()

    def on_headers_complete(self) -> None:
        """Starts a request. The host comes from an absolute URL in the request line, and the client from the headers of a trusted proxy."""
        if self.url[:1] != b"/":
            *_, authority = split_target(self.url)
            if authority is not None:
                self.headers[:] = [
                    _with_authority(name, value, authority) for name, value in self.headers
                ]
        if self._is_trusted:
            describe_client(self.scope, self.headers, self._admission.proxies)
        super().on_headers_complete()

    def _in_head(self) -> bool:
        """Returns whether a head is incomplete. uvicorn creates its scope with the first byte and adds the method at the end."""
        return self.scope is not None and "method" not in self.scope

    def send_400_response(self, _: str) -> None:
        """Refuses bytes that are not valid HTTP."""
        self._refuse(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _head_is_late(self) -> None:
        """Refuses a head that took too long, or closes an idle connection."""
        self._timer = None
        if self._is_answering:  # the time for the next head starts after this response
            self._timer = self.loop.call_later(self._timeouts.head, self._head_is_late)
        elif self._in_head():
            self._refuse(RequestTimeout("the rest of the request's head did not come"))
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, refusal: StreamError) -> None:
        """Sends a refusal and closes the connection. Omits the refusal if it would precede or interrupt the response to a request."""
        if self.transport.is_closing():
            return
        is_of_body = self._is_answering and self.cycle.more_body and not self.cycle.response_started
        if not self.pipeline and (is_of_body or not self._is_answering):
            response = self._handler.refuse(NO_REQUEST, refusal)
            self.transport.write(wire.refusal(response, wire.date_line()))
            self._observer.refused(response, self._address)
        self.transport.close()


def _is_finite(cycle: RequestResponseCycle) -> bool:
    """Returns whether a request is complete and is not a live read."""
    return not cycle.more_body and b"live=" not in cycle.scope["query_string"]


def is_writing(cycle: Any) -> bool:
    """Returns whether a request of uvicorn is a complete write, or a held refusal, whose response has not begun."""
    if cycle.response_started:
        return False
    is_write = not cycle.more_body and cycle.scope["method"] not in SAFE_METHODS
    return is_write or HELD in cycle.scope


def _close_after(cycle: RequestResponseCycle) -> None:
    """Ends the connection after the response to a request, and says so in the response if it has not begun."""
    if cycle.keep_alive:
        cycle.keep_alive = False
        cycle.default_headers = [*cycle.default_headers, (b"connection", b"close")]


def _with_authority(name: bytes, value: bytes, authority: bytes) -> Header:
    """Returns a header unchanged, or a valid Host with the authority of an absolute URL as its value (RFC 9112, 3.2.2)."""
    is_replaced = name == HOST and (not value or is_host(value))
    return name, authority if is_replaced else value
