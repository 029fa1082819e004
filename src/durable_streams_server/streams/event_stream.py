"""The body of one SSE response, which catches up in pages and then follows the tail (PROTOCOL 5.8).

The owner of the socket pulls the next bytes when it can send them. So a slow client costs one event and an offset in memory. When
there is nothing to send, `pull` returns WAIT, and `on_ready` is called when the owner should pull again.
"""

import asyncio
import enum
from collections.abc import Callable, Iterator
from typing import Final

from ..protocol import sse
from ..protocol.limits import SSE_PAGE_SIZE
from ..protocol.media import Kind
from ..protocol.page import Page
from ..protocol.state import StreamState
from ..storage.ticket import Ticket
from .draining import Drain
from .live_reads import LiveReads
from .tails import SharedEvent
from .term import Term

#: Number of pieces that one event stream may send in one turn of the loop. Sending them takes about half a millisecond.
PULLS: Final = 8
_AGE_VARIES: Final = 0.2  # fraction of the maximum age by which an event stream may end early


class Signal(enum.Enum):
    """The result of `EventStream.pull` when there are no bytes to send."""

    WAIT = "wait"  # pull again after `on_ready` is called
    END = "end"  # the response body is complete


class EventStream:
    """The events of one SSE response.

    Args:
        engine: the engine that the stream belongs to.
        state: the stream.
        position: the byte position at which the first event starts.
        cursor: the CDN cursor that the client sent, or None.
        on_ready: called when `pull` may have new bytes. It must not raise.
        term: how long the event stream may last, or None if it may reach its maximum age. It ends with a control event, even if the
            reader is behind.

    Attributes:
        holder: the large run of bytes that the next pieces are part of, or None. The owner must keep a reference to it until the client
            has received these pieces, because the reference counts against the send budget.
        page: a page that has been loaded but not yet pulled, or None.
        on_close: called when the event stream is closed, or None. A second `close` may call it again.
    """

    __slots__ = (
        "_cursor",
        "_ends_at",
        "_engine",
        "_failure",
        "_group",
        "_is_ending",
        "_keep_alive_due",
        "_kind",
        "_last_event_is_due",
        "_loading",
        "_on_ready",
        "_opened",
        "_pieces",
        "_position",
        "_seen_closed",
        "_seen_tail",
        "_state",
        "_stop",
        "_term",
        "_term_is_over",
        "_timer",
        "_waits",
        "holder",
        "on_close",
        "page",
    )

    def __init__(
        self,
        engine: LiveReads,
        state: StreamState,
        position: int,
        cursor: str | None,
        on_ready: Callable[[], None],
        term: Term | None = None,
    ) -> None:
        self._engine = engine
        self._state = state
        self._kind = sse.encoding_of(state.media)
        self._position = position
        self._cursor = cursor if engine.is_ahead(cursor) else None
        self._on_ready = on_ready
        self._pieces: Iterator[bytes] | None = None
        self.holder: object = None
        self._seen_tail = -1  # the tail that the last control event has reported
        self._seen_closed = False
        self.page: Page | None = None
        self.on_close: Callable[[], None] | None = None
        self._failure: BaseException | None = None
        self._loading = self._opened = self._stop = self._keep_alive_due = False
        self._term, self._term_is_over = term, False
        self._is_ending = False  # whether the body must end soon, because the server drains
        self._last_event_is_due = False  # whether the body ends now, even if the reader is behind
        self._waits = False  # whether the reader is at the tail and has been sent everything
        loop = asyncio.get_running_loop()
        # A random age keeps clients that connected together, as after a restart, from reconnecting together for ever.
        age = engine.options.sse_max_age * (1 - _AGE_VARIES * engine.random())
        if term is not None:
            age = term.seconds_left(engine.clock.wall(), age)
        self._ends_at = loop.time() + age
        self._group = engine.subscribe(state, self)
        self._timer = loop.call_later(self._next_timer(loop.time()), self._on_timer)

    @property
    def state(self) -> StreamState:
        """The state of the stream."""
        return self._state

    @property
    def end(self) -> Page | None:
        """An empty page at the end of a closed stream whose data has all been sent; None otherwise."""
        state, position = self._state, self._position
        if not state.visible_closed or position != state.visible_tail:
            return None
        return Page(state, position, position, b"", at_tail=True, closed=True)

    def news(self) -> bytes | None:
        """Returns the event for the newest append if the reader was at the tail before that append, or None if the caller has to use `pull`.

        This is the fast path that nearly every event takes. After the call, the reader is at the new tail.
        """
        if not self._waits or self._engine.stopping:
            return None
        state, group = self._state, self._group
        tail = state.visible_tail
        if state.visible_closed or state.visible_removed or state.visible_soft_deleted:
            return None
        event = group.shared(self._position, tail) if group.shares else None
        data: bytes | None = None
        if event is None:
            data = self._latest_event(tail)
        elif event.at_tail:
            data = event.data
        if data is not None:
            self._position = self._seen_tail = tail
        return data

    def pull(self) -> bytes | Signal:
        """Returns the next bytes of the body, WAIT if there are none yet, or END if the body is complete."""
        self._waits = False
        if self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
            self._pieces = self.holder = None
        if self._failure is not None:
            raise self._failure
        if self._term_is_over:  # also if a page has been loaded meanwhile
            return Signal.END if self._stop else self._last_bytes()
        if self.page is not None:
            page, self.page = self.page, None
            return self._event(page)
        state = self._state
        if self._stop or state.visible_removed or state.visible_soft_deleted:
            return Signal.END
        if self._loading:
            return Signal.WAIT
        is_ending = self._is_ending or self._engine.stopping
        is_behind = (
            state.visible_tail != self._seen_tail or state.visible_closed != self._seen_closed
        )
        if is_behind and not self._last_event_is_due:
            self._last_event_is_due = is_ending  # a reader that catches up gets one more event
            shared = self._group.shared(self._position, state.visible_tail)
            if shared is None or not self._is_like_others:
                return self._read_page()
            self._position = shared.end
            if shared.at_tail:
                self._seen_tail = shared.end
                self._stop = self._seen_closed = shared.closed
            return shared.data
        if is_ending or self._keep_alive_due:
            return self._idle_bytes()
        self._waits = self._is_like_others and self._position == self._seen_tail
        return Signal.WAIT

    def farewell(self) -> bytes:
        """Returns a last control event, for a body that the server ends between two events."""
        return self._control(self._position, up_to_date=False, closed=False)

    def wake(self) -> None:
        """Calls `on_ready`, because the stream has changed or the server is shutting down."""
        if not self._loading:
            self._on_ready()

    def begin_drain(self, _: Drain) -> bool:
        """Returns True, because the drain ends each event stream at a time of its own."""
        return True

    def end_soon(self) -> None:
        """Ends the body with a control event as soon as possible, because the server drains. A reader that is behind gets one more event before."""
        self._is_ending, self._waits = True, False
        self.wake()

    def close(self) -> None:
        """Unsubscribes from the stream and cancels the timer. The owner must call this when the response has ended, for whatever reason."""
        self._timer.cancel()
        self._stop, self._waits = True, False
        self._pieces = self.page = self.holder = None
        if self.on_close is not None:
            self.on_close()
        self._engine.unsubscribe(self._state, self)

    def _read_page(self) -> bytes | Signal:
        """Reads the next page and returns its first event, or WAIT if the page has to be loaded."""
        self._loading = True
        ticket = self._engine.reader.page(self._state, self._position, SSE_PAGE_SIZE)
        if ticket.done:
            self._loading = False
            return self._event(ticket.result())
        ticket.add_callback(self._loaded)
        return Signal.WAIT

    def _loaded(self, ticket: Ticket[Page]) -> None:
        self._loading = False
        try:
            self.page = ticket.result()
        except Exception as error:
            self._failure = error
        self._on_ready()

    def _event(self, page: Page) -> bytes | Signal:
        """Encodes a page as a data event, if it has data, and the control event that always follows."""
        state, kind = self._state, self._kind
        data = page.data
        if page.at_tail:
            self._seen_tail, self._seen_closed = page.end, page.closed
        if kind is Kind.TEXT:
            size = sse.complete_text(data, page.closed)
            if size < len(data):  # the next event starts with the incomplete character
                data = data[:size]
                if not data and self._opened:
                    return self.pull()
        end = page.start + len(data)
        at_tail = page.at_tail and end == page.end
        self._position = end
        self._stop = page.closed
        opening = b"" if self._opened else sse.RETRY
        self._opened = True
        if not data:
            return opening + self._control(end, at_tail, page.closed)
        if len(data) <= sse.WHOLE:
            ending = self._ending(at_tail, page.closed)
            whole = opening + sse.whole_event(kind, state.name(end), data, ending)
        else:
            control = self._control(end, at_tail, page.closed)
            events = sse.data_event(kind, state.name(end), data)
            first = opening + next(events)
            second = next(events, None)
            if second is not None:
                self._pieces, self.holder = _chain(second, events, control), page.holder
                return first
            whole = first + control
        is_same = not opening and self._cursor is None
        if is_same and self._group.shares:
            self._group.share(page.start, SharedEvent(end, at_tail, page.closed, whole))
        return whole

    def _latest_event(self, tail: int) -> bytes | None:
        """Encodes the newest append, if it is the only data after the reader's position. Returns None otherwise."""
        latest = self._group.latest
        if latest is None or latest.start != self._position:
            return None
        data, kind = latest.data, self._kind
        if not data or len(data) > sse.WHOLE or latest.start + len(data) != tail:
            return None
        if kind is Kind.TEXT and not data.isascii():
            return None  # the append may end inside a character
        ending = self._engine.cursors.ending()
        whole = sse.whole_event(kind, self._state.name(tail), data, ending)
        if self._group.shares:
            self._group.share(latest.start, SharedEvent(tail, True, False, whole))
        return whole

    @property
    def _is_like_others(self) -> bool:
        """Whether every other reader at the same position would receive the same event."""
        return self._opened and self._cursor is None

    def _ending(self, up_to_date: bool, closed: bool) -> bytes:
        cursor = None if closed else self._engine.next_cursor(self._cursor)
        return sse.control_ending(cursor, up_to_date, closed)

    def _control(self, position: int, up_to_date: bool, closed: bool) -> bytes:
        cursor = None if closed else self._engine.next_cursor(self._cursor)
        return sse.control_event(self._state.name(position), cursor, up_to_date, closed)

    def _idle_bytes(self) -> bytes:
        """Returns a keep-alive comment, or a last control event if the event stream has reached its maximum age or the server is stopping."""
        self._keep_alive_due = False
        if self._engine.stopping or self._is_ending or self._is_expired():
            return self._engine.retry() + self._last_bytes()
        return sse.KEEP_ALIVE

    def _last_bytes(self) -> bytes:
        """Returns a last control event, after which the body is complete."""
        self._stop = True
        up_to_date = self._position == self._state.visible_tail
        return self._control(self._position, up_to_date, closed=False)

    def _is_expired(self) -> bool:
        return asyncio.get_running_loop().time() >= self._ends_at

    def _next_timer(self, now: float) -> float:
        return min(self._engine.options.sse_keep_alive, max(0.0, self._ends_at - now))

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._waits = False
        self._keep_alive_due = True  # `_idle_bytes` then returns a comment or the last event
        term = self._term
        if term is not None:
            self._term_is_over = now >= self._ends_at or term.is_over
        if now < self._ends_at and not self._term_is_over:
            self._timer = loop.call_later(self._next_timer(now), self._on_timer)
        self._on_ready()


def _chain(first: bytes, rest: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    yield first
    yield from rest
    yield last


WAIT: Final = Signal.WAIT
END: Final = Signal.END
