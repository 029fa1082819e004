"""Lists the streams that a subscription is linked to: its explicit links, and the streams that match its pattern.

To find the streams that match a pattern, a listing goes through all paths in short steps, which share the event loop with other long
work. A listing contains at most `MAX_LISTED` streams.
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

# A step ends when either of these limits is reached, so that it takes a millisecond at most.
_SLICE: Final = 100  # maximum paths that one step compares with the pattern
_LOOKED_UP: Final = 10  # maximum streams that one step looks up, because each may have to be loaded


class Listing:
    """Lists the streams of one subscription.

    Args:
        store: holds the streams.
        view: the subscription, with its explicit links and the streams that have news.
        turns: runs the steps.

    Attributes:
        ticket: resolves with the linked streams in the order of their paths, and with whether there are more.
    """

    def __init__(self, store: Store, view: View, turns: Turns) -> None:
        self._store = store
        self._view = view
        self._pattern = view.config.pattern or ""
        self._found = {stream.path: stream for stream in view.streams}
        self._pending = 1  # streams that are being looked up, plus one until all paths are compared
        self._truncated = view.truncated
        self.ticket: Ticket[tuple[list[LinkedStream], bool]] = Ticket()
        if self._pattern:
            self._paths = store.paths()
            turns.add(self._step)
        else:
            self._finish_one()

    def _step(self) -> bool:
        """Compares a slice of the paths with the pattern, and returns whether there are more paths."""
        if self.ticket.done:
            return False
        try:
            more = self._match_slice(self._paths)
        except Exception as error:
            self.ticket.fail(error)
            return False
        if not more:
            self._finish_one()
        return more

    def _match_slice(self, paths: Iterator[str]) -> bool:
        """Looks up the streams that match the pattern in the next slice, and returns whether there are more paths."""
        subscriptions = self._store.subscriptions
        root = subscriptions.root + "/"
        compared = looked_up = 0
        for path in islice(paths, _SLICE):
            compared += 1
            if path in self._found or not path.startswith(root) or subscriptions.announcing(path):
                continue
            if matches(self._pattern, subscriptions.relative(path)):
                if len(self._found) + self._pending > MAX_LISTED:
                    self._truncated = True
                    return False
                self._pending += 1
                self._store.find(path).add_callback(self._add)
                looked_up += 1
                if looked_up == _LOOKED_UP:
                    return True
        return compared == _SLICE

    def _add(self, found: Ticket[StreamState | None]) -> None:
        """Adds a stream that has been looked up to the listing."""
        try:
            state = found.result()
        except StreamError:
            state = None  # the stream is damaged, which requests to the stream itself will report
        except Exception as error:
            self.ticket.fail(error)
            return
        if state is not None:
            tail = state.name(state.visible_tail)
            acked = self._cursors().get(state.path)
            shown = tail if acked is None else str(acked)
            self._found[state.path] = LinkedStream(state.path, False, shown, tail)
        self._finish_one()

    def _cursors(self) -> dict[str, Offset]:
        """Returns the present cursors of the streams with news, because streams may have got news since the listing began."""
        subscription = self._store.subscriptions.get(self._view.id)
        return subscription.due if subscription is not None else {}

    def _finish_one(self) -> None:
        """Counts one part of the work as finished, and resolves the ticket after the last part."""
        self._pending -= 1
        if not self._pending:
            self.ticket.resolve((sorted(self._found.values(), key=_path), self._truncated))


def _path(stream: LinkedStream) -> str:
    return stream.path
