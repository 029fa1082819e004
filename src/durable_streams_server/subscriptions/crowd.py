"""Has a crowd take the news of a stream that it watches: in slices, each one record, in line with other long work."""

import asyncio
from typing import Any, Final

from ..errors import StreamError
from ..log import log as _log
from ..protocol.subscriptions.commands import TakeNews
from ..storage.store import Store
from ..storage.ticket import Abandoned, Ticket
from ..streams.clock import StoreClock
from ..streams.turns import Turns

_SLICE: Final = 24  # subscriptions in one record that take one piece of news: about a millisecond
_PIECES: Final = 200  # of news that one record may have taken, by all of its subscriptions together
_IN_FLIGHT: Final = 8  # records that are not durable yet; more would only wait
_AGAIN: Final = 1.0  # seconds until a store that had no room is asked again


class Crowd:
    """The one who goes round.

    Args:
        store: whose subscriptions take their news.
        clock: steady time.
        turns: the line in which they do.
    """

    def __init__(self, store: Store, clock: StoreClock, turns: Turns) -> None:
        self._store = store
        self._clock = clock
        self._turns = turns
        self._stands_in_line = False
        self._flying = 0
        self._is_stopped = True
        self._pause: asyncio.TimerHandle | None = None  # after a refusal or a fault

    def start(self) -> None:
        """Goes on with what a crash or a stop broke off. From now on `begin` has an effect."""
        self._is_stopped = False
        self.begin()

    def begin(self) -> None:
        """Goes on until all have taken all news, if it is not on its way already."""
        if self._stands_in_line or self._is_stopped or self._pause is not None:
            return
        if len(self._store.subscriptions.feed):
            self._stands_in_line = True
            self._turns.add(self._step)

    def stop(self) -> None:
        """Goes no further. After the next start the rest takes its news."""
        self._is_stopped = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _step(self) -> bool:
        """Has one slice take its news; returns whether another step is to follow."""
        more = False
        try:
            more = not self._is_stopped and self._pause is None and self._take()
        except Exception:
            _log.exception("subscriptions could not take their news")
            self._begin_again_later()
        self._stands_in_line = more
        return more

    def _take(self) -> bool:
        if self._flying >= _IN_FLIGHT:
            return False  # the end of a record begins again
        subscriptions = self._store.subscriptions
        if subscriptions.feed.oldest_below(subscriptions.root) is None:
            return False
        limit = max(1, min(_SLICE, _PIECES // len(subscriptions.feed)))
        ids, last = subscriptions.to_take(limit)
        if not ids and last is None:
            return True  # those who were looked at have taken it
        self._flying += 1
        taken: Ticket[Any] = self._store.execute(TakeNews(ids, last), self._clock())
        taken.add_callback(lambda done: self._settle(done, last))
        return last is None  # once everybody was asked, the answers tell how to go on

    def _settle(self, taken: Ticket[Any], last: int | None) -> None:
        self._flying -= 1
        try:
            taken.result()
        except Abandoned:
            self.stop()
        except StreamError:  # the store has no room now
            self._begin_again_later()
        if last is not None:
            self._store.subscriptions.feed.begin_again()  # unless it is forgotten now, some have not taken it
        self.begin()

    def _begin_again_later(self) -> None:
        """Asks everybody once more after a pause."""
        self._store.subscriptions.feed.begin_again()
        if self._pause is None and not self._is_stopped:
            self._pause = asyncio.get_running_loop().call_later(_AGAIN, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self.begin()
