"""Warns the operator of wake streams that accept no events.

Workers can claim a wake without an event, but the server does not notify them of it.
"""

from collections.abc import Sequence

from ..log import log as _log
from ..protocol.state import Appended
from ..protocol.subscriptions.changes import Unsubscribed, WakeChanged
from ..protocol.subscriptions.state import Subscriptions
from ..storage.store import Published


class WakeStreamMonitor:
    """Logs a warning when a wake begins without an event in its wake stream.

    After a warning, the monitor logs nothing more about the subscription until an event reaches its wake stream again.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._silent: set[str] = set()  # ids of subscriptions whose last wake has no event

    def observe(self, published: Sequence[Published]) -> None:
        """Checks which of the wakes that began in `published` have an event in the same batch."""
        appended: set[str] | None = None
        for item in published:
            change = item.change
            if isinstance(change, Unsubscribed):
                self._silent.discard(change.id)
            if not isinstance(change, WakeChanged) or not _begins_claimable_wake(change):
                continue
            subscription = self._subscriptions.get(change.id)
            wake_stream = None if subscription is None else subscription.wake_stream
            if wake_stream is None:
                continue
            if appended is None:
                appended = {
                    each.change.path for each in published if isinstance(each.change, Appended)
                }
            if wake_stream in appended:
                self._silent.discard(change.id)
            elif change.id not in self._silent:
                self._silent.add(change.id)
                _log.warning(
                    "the wakes of %s are not announced: its wake stream %s takes no events",
                    change.id,
                    wake_stream,
                )


def _begins_claimable_wake(change: WakeChanged) -> bool:
    """Returns whether a change begins a wake that no worker holds and that is not delayed."""
    wake = change.wake
    return wake is not None and wake.holder is None and wake.next_attempt is None
