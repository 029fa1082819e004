"""One long-poll request: a read at the tail that waits for data, for the end of the stream, or for its timeout (PROTOCOL 5.7)."""

import asyncio

from ..errors import Unauthorized
from ..protocol.existing import require_visible
from ..protocol.page import Page
from ..protocol.state import StreamState
from ..storage.ticket import Ticket
from .draining import Drain
from .live_reads import LiveReads
from .term import Term


class PendingLongPoll:
    """A long-poll that waits at the tail of a stream.

    Args:
        engine: the engine that the stream belongs to.
        state: the stream.
        position: the byte position at which it waits.
        term: how long it may wait, or None if it may wait until its timeout.
        connection: a number that is the same for all requests of one connection. It decides when a drain ends the long-poll.

    Attributes:
        ticket: resolves with the next page. The page is empty if the timeout has expired or the stream is closed. The ticket fails with
            NotFound or Gone if the stream is deleted meanwhile, and with Unauthorized if the client may no longer read it.
    """

    __slots__ = ("_connection", "_engine", "_position", "_state", "_term", "_timer", "ticket")

    def __init__(
        self,
        engine: LiveReads,
        state: StreamState,
        position: int,
        term: Term | None = None,
        connection: int = 0,
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._state = state
        self._position = position
        self._term = term
        self.ticket: Ticket[Page] = Ticket()
        self.ticket.on_cancel(self._stop_waiting)
        engine.subscribe(state, self)
        timeout = engine.options.long_poll_timeout
        if term is not None:
            timeout = term.seconds_left(engine.clock.wall(), timeout)
        if engine.drain is not None:
            timeout = min(timeout, engine.drain.longest_wait(connection))
        self._timer = asyncio.get_running_loop().call_later(timeout, self._answer)

    @property
    def path(self) -> str:
        """The path of the stream."""
        return self._state.path

    @property
    def offset(self) -> str:
        """The offset at which the long-poll waits."""
        return self._state.name(self._position)

    def wake(self) -> None:
        """Checks the stream, and resolves the ticket if there is data, the stream has ended, or the server is stopping."""
        state = self._state
        try:
            require_visible(state, self._engine.clock())
        except Exception as gone:
            self._stop_waiting()
            self.ticket.fail(gone)
            return
        if state.visible_tail > self._position or state.visible_closed or self._engine.stopping:
            self._answer()

    def begin_drain(self, drain: Drain) -> bool:
        """Waits no longer than until the time of the connection. Returns False, because the long-poll ends by itself then."""
        loop = asyncio.get_running_loop()
        left = min(self._timer.when() - loop.time(), drain.longest_wait(self._connection))
        self._timer.cancel()
        self._timer = loop.call_later(left, self._answer)
        return False

    def end_soon(self) -> None:
        """Resolves the ticket with an empty page."""
        self._answer()

    def _answer(self) -> None:
        self._stop_waiting()
        if self._term is not None and self._term.is_over:
            self.ticket.fail(Unauthorized("the token is no longer valid"))
            return
        page = self._engine.reader.page(self._state, self._position, self._engine.options.page_size)
        page.add_callback(self._resolve)

    def _resolve(self, page: Ticket[Page]) -> None:
        try:
            self.ticket.resolve(page.result())
        except Exception as error:
            self.ticket.fail(error)

    def _stop_waiting(self) -> None:
        self._timer.cancel()
        self._engine.unsubscribe(self._state, self)
