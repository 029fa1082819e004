"""Ends a native connection and releases the memory that it holds."""

from __future__ import annotations

from typing import Final

from ...log import log as _log
from .holding import Holding
from .pending import PendingRequest

#: Seconds that the event loop takes to close a socket, after the step that asks for it.
_CLOSING: Final = 0.00002


class Ending(Holding):
    """The part of a connection that closes it, and then no longer counts its bytes against the server's budgets."""

    __slots__ = ()

    @property
    def _is_long_polling(self) -> bool:
        """Whether a long-poll is being answered.

        When a client half-closes its connection, the server ends the long-poll, because nearly every such client has left.
        """
        pending = self._answering
        return (
            pending is not None and self._ticket is not None and b"live=" in pending.request.query
        )

    def _drop_further_requests(self) -> None:
        """Stops parsing and drops the queued requests, because the last response has been sent."""
        self._parser.end()
        for pending in self._queue:
            self._release(pending)
        self._queue.clear()

    def _end(self) -> None:
        """Ends the connection after the last response.

        A client that may still be sending gets time to read the response. If the server closed the socket at once, the system would
        answer further octets with a reset, and the client could lose the response.
        """
        if self._is_ending or self.transport.is_closing():
            return
        if self._scheme == "http" and not self._received_eof:
            self._is_ending = True
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        """Closes the connection once its write buffer is empty."""
        self._is_ending = True
        self._turns.spend(_CLOSING)
        self.transport.close()

    def _fail(self, error: Exception) -> None:
        """Logs an unexpected exception and aborts the connection."""
        _log.error("a connection failed", exc_info=error)
        self._release_everything()
        self.transport.abort()

    def _clean_up(self) -> None:
        """Releases everything that a lost connection holds, and releases its place in `Admission`."""
        address, self._address = self._address, None
        self._lane.admission.release(address)
        self._release_everything()
        if self._parser is not None:
            self._parser.release()

    def _release_everything(self) -> None:
        """Releases the bytes that the connection's requests hold, and cancels its reads. A write in progress is completed.

        An exception here is logged and not raised, because `_fail` calls this method after another exception.
        """
        if self._parser is not None:
            self._parser.end()
        for pending in self._queue:
            self._release(pending)
        self._queue.clear()
        self._lane.outgoing.release(self)
        unparsed, self._unparsed = self._unparsed, b""
        self._lane.budget.give_back(len(unparsed))
        events, self._events = self._events, None
        ticket, answering = self._ticket, self._answering
        if answering is not None and ticket is None:
            self._release(answering)
            if answering.live is not None:
                answering.live.end()
        try:
            if events is not None:
                events.close()
            elif answering is not None and ticket is not None and answering.request.method == "GET":
                ticket.cancel()
        except Exception as error:
            _log.error("what a connection held was not given up", exc_info=error)

    def _release(self, pending: PendingRequest) -> None:
        """Stops counting the bytes of a request against the receive budget."""
        self._lane.budget.give_back(pending.taken)
        pending.taken = 0
        if pending.incoming is not None:
            pending.incoming.release()
