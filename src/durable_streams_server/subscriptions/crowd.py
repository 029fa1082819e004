"""Has a crowd take the news of a stream that it watches: in slices, each one record, in line with other long work."""

import asyncio
from typing import Any, Final

from ..errors import StreamError
from ..protocol.subscriptions.commands import TakeNews
from ..storage.store import Store
from ..storage.ticket import Abandoned, Ticket
from ..streams.clock import StoreClock
from ..streams.turns import Turns

_SLICE: Final = 24  # subscriptions in one record: about a millisecond
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

    def start(self) -> None:
        """Goes on with what a crash or a stop broke off. From now on `begin` has an effect."""
        self._is_stopped = False
        self.begin()

    def begin(self) -> None:
        """Goes on until all have taken all news, if it is not on its way already."""
        if (
            not self._stands_in_line
            and not self._is_stopped
            and len(self._store.subscriptions.feed)
        ):
            self._stands_in_line = True
            self._turns.add(self._step)

    def stop(self) -> None:
        """Goes no further. After the next start the rest takes its news."""
        self._is_stopped = True

    def _step(self) -> bool:
        """Has one slice take its news; returns whether another step is to follow."""
        self._stands_in_line = not self._is_stopped and self._take()
        return self._stands_in_line

    def _take(self) -> bool:
        if self._flying >= _IN_FLIGHT:
            return False  # the end of a record begins again
        ids, last = self._store.subscriptions.to_take(_SLICE)
        if not ids and last is None:
            return False
        self._flying += 1
        taken: Ticket[Any] = self._store.execute(TakeNews(ids, last), self._clock())
        taken.add_callback(self._settle)
        return True

    def _settle(self, taken: Ticket[Any]) -> None:
        self._flying -= 1
        try:
            taken.result()
        except Abandoned:
            self.stop()
        except StreamError:  # the store has no room now
            self._store.subscriptions.feed.begin_again()
            asyncio.get_running_loop().call_later(_AGAIN, self.begin)
        else:
            self.begin()
