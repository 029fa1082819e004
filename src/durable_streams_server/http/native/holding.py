"""Holds a large page for a native connection until the client has read the page."""

from __future__ import annotations

from .state import ConnectionState


class Holding(ConnectionState):
    """The part of a connection that holds a large page while the client reads it.

    `Outgoing` uses `taken` and `cut` to find and abort the slowest clients.
    """

    __slots__ = ()

    @property
    def taken(self) -> int:
        """Bytes of large pages that the client has read so far."""
        return self._page_bytes - self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Aborts the connection of a client that reads too slowly while other clients wait for memory."""
        self.transport.abort()

    def _hold_page(self, page: object) -> None:
        """Holds a large page, so that its bytes count against the send budget until the client has read it."""
        if page is not None and self.transport.get_write_buffer_size():
            self._lane.outgoing.hold(self, page)
            self._holds_page = True

    def _release_page(self) -> None:
        """Releases the large page that is held, unless an event stream is still sending it."""
        if self._holds_page and (self._events is None or self._events.holder is None):
            self._holds_page = False
            self._lane.outgoing.release(self)
