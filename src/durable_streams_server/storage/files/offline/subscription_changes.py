"""Rebuilds the states of subscriptions from the catalog and the records of the write-ahead log, for a repair."""

from collections.abc import Mapping

from ....protocol.offsets import Offset
from ....protocol.state import StreamState
from ....protocol.subscriptions.changes import (
    CursorsMoved,
    KeysKept,
    News,
    NewsTaken,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    WakeChanged,
)
from ....protocol.subscriptions.documents import document_name
from ....protocol.subscriptions.state import Subscriptions


class SubscriptionChanges:
    """Applies recorded changes to subscriptions, and keeps track of the documents that must be written.

    Args:
        is_salvaged: whether the catalog was put together from single entries, so that the states which it holds may already
            include some of the recorded changes.

    Attributes:
        subscriptions: the newest states.
    """

    def __init__(self, *, is_salvaged: bool) -> None:
        self._is_salvaged = is_salvaged
        self._dirty: set[str] = set()
        self.subscriptions = Subscriptions()

    def apply(self, change: SubscriptionChange) -> str | None:
        """Applies one recorded change to its subscription. Returns None, or the reason why the change cannot be applied."""
        if self._is_salvaged and self._is_already_applied(change):
            return None
        try:
            self.subscriptions.apply(change)
        except KeyError:
            return "nothing is known of the subscription's beginning"
        self._dirty.add(document_name(change))
        return None

    def rename(self, states: Mapping[str, StreamState], names: Mapping[int, int]) -> None:
        """Changes the incarnations in all cursors and in the news feed. A cursor past the tail of its stream moves to the tail.

        Args:
            states: the newest stream states by path.
            names: new incarnations by old ones.
        """
        for subscription in self.subscriptions:
            for path, offset in list(subscription.cursors.items()):
                state = states.get(path)
                if state is not None and offset.incarnation not in names:
                    continue
                if state is None or offset.position >= state.tail:
                    subscription.set_cursor(path, None)
                else:
                    new = names[offset.incarnation]
                    subscription.set_cursor(path, Offset(new, offset.position))
                self._dirty.add(document_name(CursorsMoved(subscription.id, ())))
        if self.subscriptions.feed.rename(dict(names)):
            self._dirty.add("news")

    def dirty_documents(self) -> dict[str, bytes | None]:
        """Returns the catalog documents that have changed, by name. None stands for a document to delete."""
        return {name: self.subscriptions.document(name) for name in self._dirty}

    def _is_already_applied(self, change: SubscriptionChange) -> bool:
        """Returns whether a salvaged state is at least as new as a recorded change."""
        if isinstance(change, News):
            return change.number <= self.subscriptions.feed.newest
        if isinstance(change, KeysKept | NewsTaken):
            return False
        known = self.subscriptions.get(change.id)
        if known is None:
            return False
        if isinstance(change, Subscribed | Unsubscribed):
            return change.incarnation < known.incarnation + isinstance(change, Subscribed)
        return isinstance(change, WakeChanged) and change.generation < known.generation
