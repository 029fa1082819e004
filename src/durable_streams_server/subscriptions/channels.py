"""Tells the operator of wake streams that take no events. Such wakes can be claimed all the same, but nobody hears of them."""

from collections.abc import Sequence

from ..log import log as _log
from ..protocol.state import Appended
from ..protocol.subscriptions.changes import Unsubscribed, WakeChanged
from ..protocol.subscriptions.state import Subscriptions
from ..storage.store import Published


class Channels:
    """Sees each wake begin, with its event or without. Logs a wake stream once, until events reach it again.

    Args:
        subscriptions: whose wakes they are.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._silent: set[str] = set()  # subscriptions whose wakes could not be announced

    def see(self, published: Sequence[Published]) -> None:
        """Looks at what one or more records have changed."""
        appended: set[str] | None = None
        for item in published:
            change = item.change
            if isinstance(change, Unsubscribed):
                self._silent.discard(change.id)
            if not isinstance(change, WakeChanged) or not _is_announced_now(change):
                continue
            subscription = self._subscriptions.get(change.id)
            channel = None if subscription is None else subscription.wake_stream
            if channel is None:
                continue
            if appended is None:
                appended = {
                    each.change.path for each in published if isinstance(each.change, Appended)
                }
            if channel in appended:
                self._silent.discard(change.id)
            elif change.id not in self._silent:
                self._silent.add(change.id)
                _log.warning(
                    "the wakes of %s are not announced: its wake stream %s takes no events",
                    change.id,
                    channel,
                )


def _is_announced_now(change: WakeChanged) -> bool:
    """Whether a change begins a wake that nobody holds and that was not put off."""
    wake = change.wake
    return wake is not None and wake.holder is None and wake.next_attempt is None
