"""One long-poll: a read that waits for data, for the end of the stream, or for its time (PROTOCOL 5.7)."""

import asyncio

from ..protocol.decide import require_visible
from ..protocol.page import Page
from ..protocol.state import StreamState
from ..storage.ticket import Ticket
from .live_reads import LiveReads


class PendingLongPoll:
    """A reader at a tail.

    Attributes:
        ticket: resolves with the next page; an empty one when the time is up or the stream has ended. Fails with NotFound
            or Gone when the stream is deleted meanwhile.
    """

    __slots__ = ("_engine", "_position", "_state", "_timer", "ticket")

    def __init__(self, engine: LiveReads, state: StreamState, position: int) -> None:
        self._engine = engine
        self._state = state
        self._position = position
        self.ticket: Ticket[Page] = Ticket()
        self.ticket.on_cancel(self._leave)
        engine.subscribe(state, self)
        timeout = engine.options.long_poll_timeout
        self._timer = asyncio.get_running_loop().call_later(timeout, self._time_up)

    @property
    def path(self) -> str:
        """The stream's path."""
        return self._state.path

    @property
    def offset(self) -> str:
        """The offset that the reader waits at."""
        return self._state.name(self._position)

    def wake(self) -> None:
        """Looks again; answers if there is something to say."""
        state = self._state
        try:
            require_visible(state, self._engine.clock())
        except Exception as gone:
            self._leave()
            self.ticket.fail(gone)
            return
        if state.visible_tail > self._position or state.visible_closed or self._engine.stopping:
            self._answer()

    def _time_up(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self._leave()
        page = self._engine.reader.page(self._state, self._position, self._engine.options.page_size)
        page.add_callback(self._hand_over)

    def _hand_over(self, page: Ticket[Page]) -> None:
        try:
            self.ticket.resolve(page.result())
        except Exception as error:
            self.ticket.fail(error)

    def _leave(self) -> None:
        self._timer.cancel()
        self._engine.unsubscribe(self._state, self)
