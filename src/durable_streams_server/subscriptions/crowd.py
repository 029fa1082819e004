"""Distributes the news of a stream to a crowd of subscriptions.

If many subscriptions watch a stream, the record of an append says only that there is news. This module then wakes the subscriptions
in slices. Each slice is one record, and the slices share the event loop with other long work.
"""

import asyncio
from typing import Any, Final

from ..errors import StreamError
from ..log import log as _log
from ..protocol.subscriptions.commands import TakeNews
from ..storage.store import Store
from ..storage.ticket import Abandoned, Ticket
from ..streams.clock import StoreClock
from ..streams.turns import Turns

#: Maximum subscriptions that take one piece of news in one record. Applying such a record takes about a millisecond.
_SLICE: Final = 24
#: Maximum pieces of news in one record, counted over all of its subscriptions.
_PIECES: Final = 200
#: Maximum records that are not durable yet. More records would only wait in the queue of the store.
_IN_FLIGHT: Final = 8
#: Seconds to pause after an error, for example when the store had no room.
_RETRY_SECONDS: Final = 1.0


class NewsDistributor:
    """Executes `TakeNews` commands until every subscription has taken all of its news.

    Args:
        store: holds the subscriptions and the news.
        clock: returns steady time.
        turns: runs the steps.
    """

    def __init__(self, store: Store, clock: StoreClock, turns: Turns) -> None:
        self._store = store
        self._clock = clock
        self._turns = turns
        self._is_queued = False  # True while a step waits for its turn
        self._in_flight = 0
        self._is_stopped = True
        self._pause: asyncio.TimerHandle | None = None  # set during the pause after an error

    def start(self) -> None:
        """Distributes the news that a crash or a stop left behind. Before `start`, the method `begin` has no effect."""
        self._is_stopped = False
        self.begin()

    def begin(self) -> None:
        """Begins to distribute news, unless there is none or the work is already running."""
        if self._is_queued or self._is_stopped or self._pause is not None:
            return
        if len(self._store.subscriptions.feed):
            self._is_queued = True
            self._turns.add(self._step)

    def stop(self) -> None:
        """Stops distributing news. The next start continues with the remaining subscriptions."""
        self._is_stopped = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _step(self) -> bool:
        """Executes one `TakeNews` command, and returns whether another step can follow immediately."""
        more = False
        try:
            more = not self._is_stopped and self._pause is None and self._take_slice()
        except Exception:
            _log.exception("subscriptions could not take their news")
            self._retry_after_pause()
        self._is_queued = more
        return more

    def _take_slice(self) -> bool:
        """Lets the next slice of subscriptions take their news, and returns whether more subscriptions are left."""
        if self._in_flight >= _IN_FLIGHT:
            return False  # `_settle` continues when a record is durable
        subscriptions = self._store.subscriptions
        if subscriptions.feed.oldest_below(subscriptions.root) is None:
            return False
        limit = max(1, min(_SLICE, _PIECES // len(subscriptions.feed)))
        ids, last = subscriptions.to_take(limit)
        if not ids and last is None:
            return True  # the subscriptions of this slice already have the news
        self._in_flight += 1
        taken: Ticket[Any] = self._store.execute(TakeNews(ids, last), self._clock())
        taken.add_callback(lambda done: self._settle(done, last))
        return last is None  # after the last slice, `_settle` decides whether to begin again

    def _settle(self, taken: Ticket[Any], last: int | None) -> None:
        """Continues after a `TakeNews` command. `last` is the number of the news that the command removes from the feed, if any."""
        self._in_flight -= 1
        try:
            taken.result()
        except Abandoned:
            self.stop()
        except StreamError:  # the store has no room now
            self._retry_after_pause()
        if last is not None:
            # If the feed still has the news, some subscriptions have not taken it, so another round asks all of them again.
            self._store.subscriptions.feed.begin_again()
        self.begin()

    def _retry_after_pause(self) -> None:
        """Begins again with all subscriptions after a pause."""
        self._store.subscriptions.feed.begin_again()
        if self._pause is None and not self._is_stopped:
            self._pause = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self.begin()
