"""Limits the live reads that run at once: all of them, those of one stream, and those of one client.

A live read takes its place before the server looks for the stream, and gives the place back once, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...errors import TooManyRequests, Unavailable
from ...protocol.limits import RETRY_SOON
from ...protocol.page import Page
from ...storage.ticket import Ticket
from ...streams.event_stream import EventStream

T = TypeVar("T")


class Place:
    """The place of one live read among those that may run at once."""

    __slots__ = ("_client", "_path", "_readers")

    def __init__(self, readers: LiveReaders, path: str, client: str | None) -> None:
        self._readers: LiveReaders | None = readers
        self._path = path
        self._client = client

    def hold_for(self, begin: Callable[[], Ticket[Page]]) -> Ticket[Page]:
        """Begins a long-poll, and gives the place back when its ticket is done, also if it fails or is cancelled."""
        ticket = self._begin(begin)
        ticket.add_callback(lambda _: self.give_back())
        return ticket

    def hold_for_events(self, begin: Callable[[], Ticket[EventStream]]) -> Ticket[EventStream]:
        """Opens an event stream, and gives the place back when the event stream is closed, or when its ticket fails or is cancelled."""

        def attach(done: Ticket[EventStream]) -> None:
            try:
                done.result().on_close = self.give_back
            except Exception:
                self.give_back()

        ticket = self._begin(begin)
        ticket.add_callback(
            attach
        )  # the first callback, so nothing has closed the event stream yet
        return ticket

    def _begin(self, begin: Callable[[], Ticket[T]]) -> Ticket[T]:
        """Calls `begin`, and gives the place back if that fails."""
        try:
            return begin()
        except BaseException:
            self.give_back()
            raise

    def give_back(self) -> None:
        """Gives the place back. A second call does nothing."""
        readers, self._readers = self._readers, None
        if readers is not None:
            readers.count(self._path, self._client, -1)


class LiveReaders:
    """Counts live reads. A stream or client without live reads takes no memory.

    Args:
        limit: maximum number of live reads.
        per_stream: maximum number of live reads of one stream.
        per_client: maximum number of live reads of one client.

    Attributes:
        used: number of live reads that run now.
        refused: number of live reads that were refused.
    """

    def __init__(self, limit: int, per_stream: int, per_client: int) -> None:
        self.limit = limit
        self.per_stream = per_stream
        self.per_client = per_client
        self.used = 0
        self.refused = 0
        self._of_streams: dict[str, int] = {}
        self._of_clients: dict[str, int] = {}

    @property
    def most_of_one_stream(self) -> int:
        """Number of live reads of the stream that has most."""
        return max(self._of_streams.values(), default=0)

    @property
    def most_of_one_client(self) -> int:
        """Number of live reads of the client that has most."""
        return max(self._of_clients.values(), default=0)

    def take(self, path: str, client: str | None, per_client: int | None = None) -> Place:
        """Returns a place for a live read. The caller must give it back when the live read has ended.

        Args:
            path: the path of the stream, which need not exist.
            client: the key of the client, or None for a client without a limit.
            per_client: a limit of this client in place of the default, or None.

        Raises:
            Unavailable: TOO_MANY_LIVE_READERS.
            TooManyRequests: TOO_MANY_READERS_OF_STREAM or TOO_MANY_READERS_OF_CLIENT.
        """
        if self.used >= self.limit:
            self.refused += 1
            raise Unavailable(
                "the server has as many live readers as it takes",
                "TOO_MANY_LIVE_READERS",
                retry_after=RETRY_SOON,
            )
        if self._of_streams.get(path, 0) >= self.per_stream:
            self.refused += 1
            raise TooManyRequests(
                "the stream has as many live readers as it takes",
                "TOO_MANY_READERS_OF_STREAM",
                retry_after=RETRY_SOON,
            )
        if client is not None and self._of_clients.get(client, 0) >= (
            per_client or self.per_client
        ):
            self.refused += 1
            raise TooManyRequests(
                "this client has as many live reads as it may",
                "TOO_MANY_READERS_OF_CLIENT",
                retry_after=RETRY_SOON,
            )
        self.count(path, client, 1)
        return Place(self, path, client)

    def count(self, path: str, client: str | None, change: int) -> None:
        """Adds 1 or -1 to the live reads that run now. Only a `Place` calls this method with -1."""
        self.used += change
        _add(self._of_streams, path, change)
        if client is not None:
            _add(self._of_clients, client, change)


def _add(counts: dict[str, int], key: str, change: int) -> None:
    """Adds to a count, and removes it when it is zero."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]
