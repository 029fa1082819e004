"""The links of a subscription: those that the rules know, and the streams that its pattern matches.

A pattern's streams are found by going through all paths, in short steps that stand in line with other long work. As
many are listed as a client can use.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from ..errors import StreamError
from ..protocol.offsets import Offset
from ..protocol.state import StreamState
from ..protocol.subscriptions.changes import LinkedStream
from ..protocol.subscriptions.globs import matches
from ..protocol.subscriptions.views import MAX_LISTED, View
from ..storage.store import Store
from ..storage.ticket import Ticket
from ..streams.turns import Turns

# A step takes a millisecond at most.
_SLICE: Final = 100  # paths looked at in one step
_LOOKED_UP: Final = 10  # or so many streams looked up, each of which may be loaded


class Listing:
    """One listing.

    Args:
        store: where the streams are.
        view: the subscription.
        turns: the line in which the paths are gone through.

    Attributes:
        ticket: resolves with the links, and whether there are more.
    """

    def __init__(self, store: Store, view: View, turns: Turns) -> None:
        self._store = store
        self._view = view
        self._pattern = view.config.pattern or ""
        self._found = {stream.path: stream for stream in view.streams}
        self._loading = 1  # streams that are looked up, and the going through the paths
        self._truncated = view.truncated
        self.ticket: Ticket[tuple[list[LinkedStream], bool]] = Ticket()
        if self._pattern:
            self._paths = store.paths()
            turns.add(self._go)
        else:
            self._finish_one()

    def _go(self) -> bool:
        """Looks at some paths; returns whether there may be more to list."""
        if self.ticket.done:
            return False
        try:
            more = self._take_slice(self._paths)
        except Exception as error:
            self.ticket.fail(error)
            return False
        if not more:
            self._finish_one()
        return more

    def _take_slice(self, paths: Iterator[str]) -> bool:
        subscriptions = self._store.subscriptions
        root = subscriptions.root + "/"
        looked_at = looked_up = 0
        for path in islice(paths, _SLICE):
            looked_at += 1
            if path in self._found or not path.startswith(root) or subscriptions.announcing(path):
                continue
            if matches(self._pattern, subscriptions.relative(path)):
                if len(self._found) + self._loading > MAX_LISTED:
                    self._truncated = True
                    return False
                self._loading += 1
                self._store.find(path).add_callback(self._add)
                looked_up += 1
                if looked_up == _LOOKED_UP:
                    return True
        return looked_at == _SLICE

    def _add(self, found: Ticket[StreamState | None]) -> None:
        try:
            state = found.result()
        except StreamError:
            state = None  # a stream that cannot be looked at has requests of its own to say so
        except Exception as error:
            self.ticket.fail(error)
            return
        if state is not None:
            tail = state.name(state.visible_tail)
            acked = self._news().get(state.path)
            shown = tail if acked is None else str(acked)
            self._found[state.path] = LinkedStream(state.path, False, shown, tail)
        self._finish_one()

    def _news(self) -> dict[str, Offset]:
        """Returns the cursors as they are now: there may be news since the subscription was looked at."""
        subscription = self._store.subscriptions.get(self._view.id)
        return subscription.due if subscription is not None else {}

    def _finish_one(self) -> None:
        self._loading -= 1
        if not self._loading:
            self.ticket.resolve((sorted(self._found.values(), key=_path), self._truncated))


def _path(stream: LinkedStream) -> str:
    return stream.path
