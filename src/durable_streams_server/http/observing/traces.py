"""`Traces`: makes an OpenTelemetry span for each response. Imported only if somebody wants traces, because it imports `opentelemetry`.

A span is made when its response has ended, with the times of its beginning and its end. So nothing is kept for requests in progress, and
an event stream is one span over its whole life. The context that a client sends (`traceparent`) becomes the parent of the span.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from ...protocol.names import HOST, TRACEPARENT, TRACESTATE
from ...protocol.units import NANOSECONDS
from ..request import Request
from ..request_ids import given_id
from .described import agent_of, client_of, path_of, query_of
from .observer import Report
from .provider import TracerProvider
from .routes import ROUTES, SSE

#: The methods that HTTP defines. Others are shown as `_OTHER`, as the conventions of OpenTelemetry demand.
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY")
)
_OTHER: Final = "_OTHER"
#: The headers that carry the context of a trace.
_CARRIERS: Final = {
    "traceparent": TRACEPARENT,
    "tracestate": TRACESTATE,
}
_SERVER_ERROR: Final = 500
#: A Host with its port. Longer ones are not shown.
_HOST: Final = re.compile(r"(\S{1,255}?)(?::([0-9]{1,5}))?")

#: The parent and the attributes of a span that is not made yet.
_Kept = tuple[Context, dict[str, AttributeValue]]


class Traces:
    """A watcher that makes a span for each response.

    Args:
        provider: Makes the tracer. Its sampler decides which spans are recorded.
        clock: Returns nanoseconds since 1970.
    """

    def __init__(self, provider: TracerProvider, clock: Callable[[], int] = time.time_ns) -> None:
        self._tracer: Tracer = provider.get_tracer("durable_streams_server")
        self._clock = clock

    def finished(self, report: Report) -> None:
        """Makes the span of a whole response. It begins with the head of the request."""
        request, route, status, seconds, size, peer, waits = report
        described = _describe(request, status, peer)
        self._make_span(described, route, status, seconds + waits.body_wait, size)

    def live_began(self, request: Request, status: int, peer: str | None) -> Any:
        """Keeps what the span of an event stream needs of the request."""
        return _describe(request, status, peer), status

    def live_ended(self, kept: Any, seconds: float, size: int) -> None:
        """Makes the span of an event stream that has ended."""
        described, status = kept
        self._make_span(described, SSE, status, seconds, size)

    def _make_span(
        self, described: _Kept, route: int, status: int, seconds: float, size: int
    ) -> None:
        """Makes a span that ends now."""
        parent, attributes = described
        end = self._clock()
        attributes["durable_streams.route"] = ROUTES[route]
        attributes["http.response.body.size"] = size
        span = self._tracer.start_span(
            f"{attributes['http.request.method']!s} {ROUTES[route]}",
            parent,
            SpanKind.SERVER,
            attributes,
            start_time=end - int(seconds * NANOSECONDS),
            record_exception=False,
        )
        if status >= _SERVER_ERROR:
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)


def _describe(request: Request, status: int, peer: str | None) -> _Kept:
    """Returns the parent and the attributes of a request's span, named by the semantic conventions of OpenTelemetry for HTTP servers."""
    headers = request.headers
    carrier = {
        name: headers[header].decode("latin-1")
        for name, header in _CARRIERS.items()
        if header in headers and (header not in request.repeated or header == TRACESTATE)
    }
    found = _HOST.fullmatch(headers.get(HOST, b"").decode("latin-1"))
    attributes: dict[str, str | int | None] = {
        "http.request.method": request.method if request.method in _METHODS else _OTHER,
        "http.response.status_code": status,
        "url.path": path_of(request),
        "url.scheme": request.scheme,
        "url.query": query_of(request),
        "client.address": client_of(request, peer),
        "network.peer.address": peer,
        "server.address": found[1] if found else None,
        "server.port": int(found[2]) if found and found[2] else None,
        "user_agent.original": agent_of(request),
        "durable_streams.request_id": given_id(request).decode("ascii"),
    }
    shown: dict[str, AttributeValue] = {
        name: value for name, value in attributes.items() if value is not None and value != ""
    }
    # An empty context, because spans of the process have nothing to do with this request.
    return propagate.extract(carrier, Context()), shown
