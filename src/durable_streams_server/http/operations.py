"""Answers the routes that operators' tools call, outside the stream root: `/healthz`, `/readyz` and `/metrics`.

Health checks need no token, and the server answers them also while it drains and while it refuses other requests for overload. They are cheap,
because they name no stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import MethodNotAllowed, NotFound
from ..protocol.names import CONTENT_TYPE, HEALTH_PATH, METRICS_PATH, READY_PATH
from ..protocol.render import Response
from ..storage.ticket import Ticket
from ..streams.engine import Engine
from .facts import ServerFacts
from .observing.metrics import Metrics
from .readiness import Readiness
from .request import Request

#: The methods of these routes, as in an `Allow` header.
METHODS: Final = "GET, HEAD, OPTIONS"
_HEADERS: Final = ((CONTENT_TYPE, b"application/json"), (b"cache-control", b"no-store"))


class Operations:
    """Answers the routes of `OPERATIONS_PATHS`.

    Args:
        engine: Runs the streams.
        facts: What the server tells about itself.
        metrics: Answers `/metrics`. None returns 404 there.
    """

    def __init__(self, engine: Engine, facts: ServerFacts, metrics: Metrics | None = None) -> None:
        self._readiness = Readiness(engine, facts)
        self._answers: dict[str, Callable[[Request], Ticket[Response]]] = {
            HEALTH_PATH: _alive,
            READY_PATH: self._ready,
        }
        if metrics is not None:
            self._answers[METRICS_PATH] = lambda request: metrics.scrape(
                request.headers.get(b"accept", b"")
            )

    def handle(self, request: Request, path: str) -> Ticket[Response]:
        """Returns a ticket for the response to a request.

        Raises:
            NotFound: RESERVED_PATH, because no route has this path.
            MethodNotAllowed: The method is neither GET nor HEAD.
        """
        answer = self._answers.get(path)
        if answer is None:
            raise NotFound("this path is reserved for the server itself", "RESERVED_PATH")
        if request.method not in ("GET", "HEAD"):
            allow = (b"allow", METHODS.encode())
            raise MethodNotAllowed("the method is not known here", headers=[allow])
        return answer(request)

    def _ready(self, _: Request) -> Ticket[Response]:
        return self._readiness.check().then(lambda _: _status("ready"))


def _alive(_: Request) -> Ticket[Response]:
    """Returns the response that shows that the event loop runs."""
    return _status("alive")


def _status(text: str) -> Ticket[Response]:
    return Ticket.of(Response(200, [*_HEADERS], b'{"status":"%b"}' % text.encode()))
