"""How a connection of the native lane holds a large page until its client has read it."""

from __future__ import annotations

from .state import ConnectionState


class Holding(ConnectionState):
    """Holds the large page that the client is reading, and measures how fast the client reads. `Outgoing` calls this a sender."""

    __slots__ = ()

    @property
    def taken(self) -> int:
        """Bytes of large pages that the client has read. `Outgoing` compares clients by it."""
        return self._page_bytes - self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Aborts the connection of a client that reads too slowly while other clients wait for memory."""
        self.transport.abort()

    def _hold_page(self, page: object) -> None:
        """Holds a large page until the client has read it, so that its bytes count against the send budget until then."""
        if page is not None and self.transport.get_write_buffer_size():
            self._lane.outgoing.hold(self, page)
            self._holds_page = True

    def _release_page(self) -> None:
        """Releases a large page, unless an event stream still sends it."""
        if self._holds_page and (self._events is None or self._events.holder is None):
            self._holds_page = False
            self._lane.outgoing.release(self)
