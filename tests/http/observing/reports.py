"""Records what an observer passes on to its watcher."""

from typing import Any

from durable_streams_server.http.observing.observer import Report, WaitsLike
from durable_streams_server.http.observing.routes import ROUTES
from durable_streams_server.http.request import Request

PEER = "192.0.2.7"


class Recorder:
    """A watcher that records every report.

    Attributes:
        finished_: route, status, bytes and peer of each whole response.
        began: path, status and peer of each event stream.
        ended: path and bytes of each event stream that has ended.
        seconds: how long each response or event stream took.
        ids: the id of each whole response's request.
        waits: what each whole response's request waited for.
    """

    def __init__(self) -> None:
        self.finished_: list[tuple[str, int, int, str | None]] = []
        self.began: list[tuple[str, int, str | None]] = []
        self.ended: list[tuple[str, int]] = []
        self.seconds: list[float] = []
        self.ids: list[bytes] = []
        self.waits: list[WaitsLike] = []

    def finished(self, report: Report) -> None:
        request, route, status, seconds, size, peer, waits = report
        assert isinstance(request, Request)
        self.finished_.append((ROUTES[route], status, size, peer))
        self.seconds.append(seconds)
        self.ids.append(request.id)
        self.waits.append(waits)

    def live_began(self, request: Request, status: int, peer: str | None) -> Any:
        path = request.raw_path.decode()
        self.began.append((path, status, peer))
        return path

    def live_ended(self, kept: Any, seconds: float, size: int) -> None:
        self.ended.append((kept, size))
        self.seconds.append(seconds)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
