"""`Observer`: both lanes report each response to it once. It counts the responses, and passes them on to a watcher.

Every append passes here, so counting takes well under a microsecond: it adds to lists that are indexed by small numbers, and creates
nothing but floats. `/metrics` reads the lists when it is asked. A watcher, such as an access log, gets the same reports.

A response is reported when it is handed to the socket, or to the host server. An event stream is reported twice: once when it begins, with
its status, and once when it ends, with its duration and its bytes. A request whose client left before it was answered is not reported.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from ...protocol.names import X_REQUEST_ID
from ...protocol.render import Response
from ...storage.distribution import SHORT_SECONDS
from ..request import NO_REQUEST, Request
from .routes import LIVE, ROUTES, SSE, route_of

#: Upper bounds in seconds of the buckets that count how long requests took.
BOUNDS: Final = (*SHORT_SECONDS[1:], 5.0, 10.0)
#: Upper bounds in seconds of the buckets that count how long live reads lasted.
LIVE_BOUNDS: Final = (0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
#: Statuses are below this number.
_STATUSES: Final = 600


class Waits:
    """What a request waited for before the handler got it. `PendingRequest` of the native lane has the same attributes.

    Attributes:
        body_wait: seconds from the head of the request to the end of its body.
        queue_wait: seconds that the request waited for its turn, or for earlier requests on its connection.
    """

    __slots__ = ("body_wait", "queue_wait")

    def __init__(self, body_wait: float = 0.0, queue_wait: float = 0.0) -> None:
        self.body_wait = body_wait
        self.queue_wait = queue_wait


class WaitsLike(Protocol):
    """Either `Waits`, or a `PendingRequest`."""

    body_wait: float
    queue_wait: float


_NO_WAITS: Final = Waits()


class Report(NamedTuple):
    """One response that was sent as a whole.

    Attributes:
        request: The request. Its body may be missing, and parts of its head too if its parser refused it.
        route: The number of the route. `ROUTES` has the names.
        status: The status of the response.
        seconds: Seconds from the end of the whole request to the response, including the time that the request was queued.
        size: Bytes of the response's body.
        peer: The address of the connection's peer, or None for a Unix socket or an unknown peer.
        waits: What the request waited for before the handler got it. All zeros if nothing is known about that.
    """

    request: Request
    route: int
    status: int
    seconds: float
    size: int
    peer: str | None
    waits: WaitsLike = _NO_WAITS


class Watcher(Protocol):
    """Gets every report after it was counted, for example to write an access log. Its methods must be quick, and must not raise."""

    def finished(self, report: Report) -> None:
        """Handles a response that was sent as a whole."""
        ...

    def live_began(self, request: Request, status: int, peer: str | None) -> Any:
        """Handles the beginning of an event stream. Returns what `live_ended` needs about the request, which is freed now."""
        ...

    def live_ended(self, kept: Any, seconds: float, size: int) -> None:
        """Handles the end of an event stream.

        Args:
            kept: What `live_began` returned.
            seconds: Seconds from the end of the whole request to the end of the event stream.
            size: Bytes of the events that were sent.
        """
        ...


class LiveRead:
    """One event stream that is being sent. Whoever sends it reports each piece to `add`, and calls `end` at the end."""

    __slots__ = ("_is_over", "_observer", "kept", "sent", "since", "watcher")

    def __init__(self, observer: Observer, since: float) -> None:
        self._observer = observer
        self._is_over = False
        self.since = since
        self.sent = 0  # bytes of events
        self.watcher: Watcher | None = None
        self.kept: Any = None

    def add(self, size: int) -> None:
        """Counts bytes that were sent."""
        self.sent += size
        self._observer.sizes[SSE] += size

    def end(self) -> None:
        """Reports the end of the event stream. Further calls do nothing."""
        if not self._is_over:
            self._is_over = True
            self._observer._live_ended(self)


class Observer:
    """Counts the responses of one application.

    Args:
        clock: Returns monotonic time in seconds.

    Attributes:
        clock: Returns monotonic time in seconds. A lane calls it when a request is whole, and passes the time with the report.
        watcher: Gets every report, or None.
        names_requests: Whether each request gets an id, because the watcher wants to name it.
        counts: Numbers of responses, indexed by route and status.
        buckets: Numbers of responses by duration, indexed by route and bucket. The last bucket has no upper bound.
        seconds: Sums of the durations, indexed by route.
        sizes: Bytes of all response bodies, indexed by route.
        received: Bytes of all request bodies.
        live: Number of event streams that are being sent.
    """

    __slots__ = (
        "_bounds",
        "buckets",
        "clock",
        "counts",
        "live",
        "names_requests",
        "received",
        "seconds",
        "sizes",
        "watcher",
    )

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.watcher: Watcher | None = None
        self.names_requests = False
        routes = range(len(ROUTES))
        self._bounds = [bounds_of(route) for route in routes]
        self.counts = [[0] * _STATUSES for _ in routes]
        self.buckets = [[0] * (len(bounds) + 1) for bounds in self._bounds]
        self.seconds = [0.0] * len(ROUTES)
        self.sizes = [0] * len(ROUTES)
        self.received = 0
        self.live = 0

    def finished(
        self,
        request: Request,
        status: int,
        since: float,
        size: int,
        peer: str | None,
        waits: WaitsLike | None = None,
    ) -> None:
        """Counts a response that was sent as a whole.

        Args:
            request: The request, or the parts of it that are known.
            status: The status of the response.
            since: The time of `clock` when the whole request had been received.
            size: Bytes of the response's body.
            peer: The address of the connection's peer, or None.
            waits: What the request waited for before the handler got it, or None.
        """
        route = request.route or route_of(request)
        seconds = self.clock() - since
        self.counts[route][status] += 1
        self.buckets[route][bisect_left(self._bounds[route], seconds)] += 1
        self.seconds[route] += seconds
        if size:
            self.sizes[route] += size
        if self.watcher is not None:
            self.watcher.finished(
                Report(request, route, status, seconds, size, peer, waits or _NO_WAITS)
            )

    def refused(self, response: Response, peer: str | None) -> None:
        """Counts the refusal of a connection or of octets that are not a request."""
        request = NO_REQUEST
        if self.names_requests:
            sent = dict(response.headers).get(X_REQUEST_ID, b"")
            request = msgspec.structs.replace(NO_REQUEST, id=sent)
        self.finished(request, response.status, self.clock(), response.size, peer)

    def live_began(self, request: Request, status: int, since: float, peer: str | None) -> LiveRead:
        """Counts the beginning of an event stream, and returns the object that its end must be reported to. For arguments see `finished`."""
        self.counts[SSE][status] += 1
        self.live += 1
        live = LiveRead(self, since)
        watcher = self.watcher
        if watcher is not None:
            live.watcher = watcher
            live.kept = watcher.live_began(request, status, peer)
        return live

    def _live_ended(self, live: LiveRead) -> None:
        """Counts the end of an event stream."""
        self.live -= 1
        seconds = self.clock() - live.since
        self.buckets[SSE][bisect_left(self._bounds[SSE], seconds)] += 1
        self.seconds[SSE] += seconds
        if live.watcher is not None:
            live.watcher.live_ended(live.kept, seconds, live.sent)


def bounds_of(route: int) -> tuple[float, ...]:
    """Returns the upper bounds in seconds of a route's buckets."""
    return LIVE_BOUNDS if route in LIVE else BOUNDS
