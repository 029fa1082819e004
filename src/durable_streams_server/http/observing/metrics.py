"""`Metrics`: answers `/metrics`. It reads the counters on the event loop, and writes the text on a thread, which takes some milliseconds.

Requests that arrive while a text is being written get that text, so many scrapers cost no more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ...protocol.names import CONTENT_TYPE
from ...protocol.render import Response
from ...storage.files.switching import switching
from ...storage.ticket import Ticket
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .exposition import Exposition

_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"
_PLAIN: Final = "text/plain"
_NO_STORE: Final = (b"cache-control", b"no-store")


class Metrics:
    """Answers requests for the metrics of one application.

    Args:
        take: returns the present values of all metrics. It is called on the event loop.
    """

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take
        self._exposition: Exposition | None = None  # created on the first request
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, list[Ticket[Response]]] = {}  # by format, the requests to answer
        self._is_writing = False

    def scrape(self, accept: bytes) -> Ticket[Response]:
        """Returns a ticket for a response with all metrics.

        Args:
            accept: the Accept header of the request. A scraper that accepts OpenMetrics gets it, and any other the text format.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the application was started on another loop
            self._loop, self._waiting, self._is_writing = loop, {}, False
        ticket: Ticket[Response] = Ticket()
        name = _OPEN_METRICS if b"application/openmetrics-text" in accept else _PLAIN
        self._waiting.setdefault(name, []).append(ticket)
        self._write_next(loop)
        return ticket

    def _write_next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to write the text of the next format, unless a thread is writing already."""
        if self._is_writing or not self._waiting:
            return
        accept = next(iter(self._waiting))
        self._is_writing = True
        snapshot = self._take()
        switching.begin()  # otherwise the thread would delay each turn of the event loop
        try:
            writing = loop.run_in_executor(None, self._write, snapshot, accept)
        except Exception as error:  # the system cannot start a thread
            switching.end()
            self._is_writing = False
            for ticket in self._waiting.pop(accept):
                ticket.fail(error)
            return

        def done(written: asyncio.Future[Response]) -> None:
            switching.end()
            self._is_writing = False
            self._answer(self._waiting.pop(accept), written)
            self._write_next(loop)

        writing.add_done_callback(done)

    def _write(self, snapshot: Snapshot, accept: str) -> Response:
        """Returns the response with a snapshot. Runs on a thread."""
        if self._exposition is None:
            from .exposition import Exposition

            self._exposition = Exposition()
        body, content_type = self._exposition.render(snapshot, accept)
        return Response(200, [(CONTENT_TYPE, content_type.encode("ascii")), _NO_STORE], body)

    def _answer(self, waiting: list[Ticket[Response]], written: asyncio.Future[Response]) -> None:
        """Answers all requests that wait for one text. Each gets a response of its own, because the handler adds headers to it."""
        try:
            response = written.result()
        except (Exception, asyncio.CancelledError) as error:
            for ticket in waiting:
                ticket.fail(error)
            return
        for ticket in waiting:
            ticket.resolve(Response(200, [*response.headers], response.body))
