"""uvicorn's own HTTP connection for `serve --http asgi`, with the limits that the native lane has.

uvicorn reads heads for as long as a client takes, holds an answer for as long as its client does not take it, refuses what is no
HTTP in words of its own, and takes connections until there are no file handles. Whoever runs the application under another server has what that server offers.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from ...errors import BadRequest, Header, RequestTimeout, StreamError
from ...protocol.forwarding import client_scheme
from ...protocol.hosts import is_host
from ...protocol.names import FORWARDED, HOST, X_FORWARDED_PROTO
from .. import wire
from ..limits.admission import Admission, handle_of
from ..limits.shares import address_of
from ..limits.timeouts import Timeouts
from ..limits.unsent import UnsentTimer
from ..proxies import is_trusted
from ..request import NO_REQUEST, index_headers
from ..target import split_target
from .application import DurableStreamsApp

_UNSENT: Final = (
    16 * 1024
)  # bytes written to a socket that does not take them, before the writer waits

_OF_PROXIES: Final = (X_FORWARDED_PROTO, FORWARDED)


def protocol_of(
    app: DurableStreamsApp, timeouts: Timeouts, admission: Admission
) -> Callable[..., "AsgiConnection"]:
    """Returns what uvicorn calls for each connection."""

    def connect(**given: Any) -> AsgiConnection:
        return AsgiConnection(app, timeouts, admission, **given)

    return connect


class AsgiConnection(HttpToolsProtocol):
    """One client's connection. Only the head of a request has its time here; its body has it in the application."""

    #: DeliverySlots, since an instance with more than 30 attributes in its dictionary is slower in all of them.
    __slots__ = (
        "_address",
        "_admission",
        "_answering",
        "_handler",
        "_late_scope",
        "_sends_no_more",
        "_timeouts",
        "_timer",
        "_trusted",
        "_unsent",
    )

    def __init__(
        self, app: DurableStreamsApp, timeouts: Timeouts, admission: Admission, **given: Any
    ) -> None:
        super().__init__(**given)
        self._handler = app.handler
        self._timeouts = timeouts
        self._admission = admission
        self._address: str | None = None  # that the connection counts under, once it is admitted
        self._late_scope: Any = None  # the head that the timer runs for
        self._answering: RequestResponseCycle | None = None  # the request that is, or was last
        self._sends_no_more = False
        self._trusted = False  # whether it is a proxy's connection
        self._unsent = UnsentTimer(timeouts.send)
        self._timer: asyncio.TimerHandle | None = None  # until the first head has come, or the next

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins, or refuses the connection."""
        address = address_of(transport)
        handle = handle_of(transport)
        refusal = self._admission.admit(len(self.connections), handle, address)
        if refusal is None:
            self._address = address
        super().connection_made(transport)
        self._trusted = is_trusted(transport)
        transport.set_write_buffer_limits(high=_UNSENT)
        if refusal is None:
            self._timer = self.loop.call_later(self._timeouts.idle, self._time_is_up)
        else:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._stop_timer()
        self._unsent.stop()
        address, self._address = self._address, None
        self._admission.release(address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what has come. A head that is whole at once needs no timer."""
        HttpToolsProtocol.data_received(self, data)
        if self._timer is None and self.scope is not None and "method" in self.scope:
            return  # as for most requests
        if not self._in_head():
            self._stop_timer()
        elif self.scope is not self._late_scope:
            self._late_scope = self.scope
            self._stop_timer()
            self._timer = self.loop.call_later(self._timeouts.head, self._time_is_up)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. Its whole requests are answered, and the connection ends after that.

        A live read does not wait for such a client, which can hardly be told from one that has left. TLS cannot be half closed.
        """
        answering = self._answering
        self._sends_no_more = (
            answering is not None
            and not answering.response_complete
            and _is_finite(answering)
            and not is_ssl(self.transport)
        )
        return self._sends_no_more

    def on_response_complete(self) -> None:
        """Goes on to the next request, unless the client sends no more and there is no other that can be answered."""
        if self._sends_no_more and not (self.pipeline and _is_finite(self.pipeline[-1][0])):
            self.transport.close()
        else:
            super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self._unsent.begin(self.transport)

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._unsent.stop()
        super().resume_writing()

    def on_headers_complete(self) -> None:
        """Hands a whole head over. If the target is a whole URL, that names the host; a proxy names the scheme."""
        if self.url[:1] != b"/":
            *_, authority = split_target(self.url)
            if authority is not None:
                self.headers[:] = [_named(name, value, authority) for name, value in self.headers]
        if self._trusted and any(name in _OF_PROXIES for name, _ in self.headers):
            self._believe_proxies()
        super().on_headers_complete()

    def _believe_proxies(self) -> None:
        """Takes the client's scheme from what proxies say. uvicorn, which reads another entry of the list, is not shown it."""
        said, _, _ = index_headers(pair for pair in self.headers if pair[0] in _OF_PROXIES)
        scheme = client_scheme(said)
        if scheme is not None:
            self.scope["scheme"] = scheme
        self.headers[:] = [pair for pair in self.headers if pair[0] != X_FORWARDED_PROTO]

    def _in_head(self) -> bool:
        """Whether a head has begun and is not complete. uvicorn makes a scope with the first octet, and adds the method at the end."""
        return self.scope is not None and "method" not in self.scope

    def send_400_response(self, _: str) -> None:
        """Refuses what is not HTTP."""
        self._refuse(BadRequest("the request is not valid HTTP", "INVALID_HTTP"))

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _time_is_up(self) -> None:
        self._timer = None
        if self._is_answering:  # it is the server's turn, and the next head has its time after that
            self._timer = self.loop.call_later(self._timeouts.head, self._time_is_up)
        elif self._in_head():
            self._refuse(RequestTimeout("the rest of the request's head did not come"))
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, refusal: StreamError) -> None:
        """Ends the connection with a refusal, unless that would come before or into the answer to another request."""
        if self.transport.is_closing():
            return
        is_of_body = self._is_answering and self.cycle.more_body and not self.cycle.response_started
        if not self.pipeline and (is_of_body or not self._is_answering):
            response = self._handler.refuse(NO_REQUEST, refusal)
            self.transport.write(wire.refusal(response, wire.date_line()))
        self.transport.close()


def _is_finite(cycle: RequestResponseCycle) -> bool:
    """Whether a request is whole, and no live read."""
    return not cycle.more_body and b"live=" not in cycle.scope["query_string"]


def _named(name: bytes, value: bytes, authority: bytes) -> Header:
    """Returns a header, with the authority of a whole URL as the value of a valid Host (RFC 9112, 3.2.2)."""
    is_replaced = name == HOST and (not value or is_host(value))
    return name, authority if is_replaced else value
