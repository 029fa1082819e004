"""The links of a subscription: those that the rules know, and the streams that its pattern matches.

A pattern's streams are found by going through all paths, in slices, so that the loop has time for others between them. As
many are listed as a client can use.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final

from ..errors import StreamError
from ..protocol.state import StreamState
from ..protocol.subscriptions.decide import MAX_LISTED, LinkedStream, View
from ..protocol.subscriptions.globs import matches
from ..storage.store import Store
from ..storage.ticket import Ticket

_SLICE: Final = 500  # paths looked at in one turn of the loop


class Listing:
    """One listing.

    Args:
        store: where the streams are.
        view: the subscription.

    Attributes:
        ticket: resolves with the links, and whether there are more.
    """

    def __init__(self, store: Store, view: View) -> None:
        self._store = store
        self._pattern = view.config.pattern
        self._found = {stream.path: stream for stream in view.streams}
        self.ticket: Ticket[tuple[list[LinkedStream], bool]] = Ticket()
        if self._pattern is None:
            self._finish(False)
        else:
            self._go(store.paths())

    def _go(self, paths: Iterator[str]) -> None:
        if self.ticket.done:
            return
        subscriptions = self._store.subscriptions
        root = subscriptions.root + "/"
        batch = list(islice(paths, _SLICE))
        for path in batch:
            if path in self._found or not path.startswith(root) or subscriptions.announcing(path):
                continue
            if matches(self._pattern or "", subscriptions.relative(path)):
                if len(self._found) >= MAX_LISTED:
                    self._finish(True)
                    return
                self._store.find(path).add_callback(self._add)
        if len(batch) < _SLICE:
            self._finish(False)
        else:
            asyncio.get_running_loop().call_soon(self._go, paths)

    def _add(self, found: Ticket[StreamState | None]) -> None:
        try:
            state = found.result()
        except StreamError:
            return  # a stream that cannot be looked at has requests of its own to say so
        if state is not None:
            tail = state.name(state.visible_tail)
            self._found[state.path] = LinkedStream(state.path, False, tail, tail)

    def _finish(self, truncated: bool) -> None:
        self.ticket.resolve((sorted(self._found.values(), key=_path), truncated))


def _path(stream: LinkedStream) -> str:
    return stream.path
