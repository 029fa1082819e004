"""Finds the streams that full subscriptions have missed, in passes through all paths.

A full subscription has no room for another cursor. It stores only the time since which it has missed streams. Once half of its
room is free, a pass goes through all paths, and gives a cursor to each stream that the subscription may have missed. The pass pauses
while half of the room is taken, and continues from the same path when there is room again. After a restart, passes begin again with
the first path. The steps of all passes share the event loop with other long work.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from ..errors import NotFound, StreamError
from ..log import log as _log
from ..protocol.subscriptions.commands import Recall
from ..protocol.subscriptions.subscription import Subscription
from ..protocol.units import SECOND
from ..storage.store import Store
from ..storage.ticket import Abandoned, Ticket
from ..streams.clock import StoreClock
from ..streams.turns import Turns

#: Paths that one step of a pass checks.
_SLICE: Final = 100
#: Maximum streams in one record. Loading all of them takes about a millisecond.
_STREAMS_PER_RECORD: Final = 24
#: Maximum passes that have begun and not ended, because each keeps an iterator over all paths.
_PASSES: Final = 32
#: Microseconds without progress after which a pass may be ended in favour of another one.
_MAX_IDLE: Final = 60 * SECOND
#: Seconds until a command is retried after the store had no room for it, and seconds between two passes of one subscription.
_RETRY_SECONDS: Final = 1.0
#: Maximum waiting subscriptions that are checked at once when a pass has ended.
_SERVED: Final = 1_000
#: Seconds until a pass begins again after the list of paths could not be read.
_DAMAGED_RETRY_SECONDS: Final = 60.0


class Recalls:
    """Runs the passes of all subscriptions, at most one for each subscription.

    Args:
        store: holds the subscriptions and the streams.
        clock: returns steady time.
        turns: runs the steps of the passes.
    """

    def __init__(self, store: Store, clock: StoreClock, turns: Turns) -> None:
        self.store = store
        self.clock = clock
        self.turns = turns
        self.is_stopped = True
        self._passes: dict[str, _Pass] = {}  # by subscription id, as are the next two
        self._waiting: dict[str, None] = {}  # subscriptions whose passes cannot begin yet
        self._resting: set[str] = set()  # subscriptions that a timer will advance
        self._has_timer = False  # True while a timer is set that begins waiting passes

    def start(self) -> None:
        """Begins the passes of all subscriptions that have missed streams. Before `start`, the method `advance` has no effect."""
        self.is_stopped = False
        for subscription in self.store.subscriptions:
            self.advance(subscription.id)

    def stop(self) -> None:
        """Ends all passes. The next start begins them again."""
        self.is_stopped = True
        self._passes.clear()
        self._waiting.clear()
        self._resting.clear()

    def advance(self, id_: str) -> None:
        """Begins or continues the pass of a subscription, if the subscription has missed streams and has room for cursors."""
        subscription = self.store.subscriptions.get(id_)
        if subscription is None:
            self._passes.pop(id_, None)
            return
        if self.is_stopped or not subscription.missed:
            return
        if id_ in self._resting or not self.store.subscriptions.may_recall(subscription):
            return
        known = self._passes.get(id_)
        if known is not None and known.incarnation == subscription.incarnation:
            known.resume()
        elif known is not None or len(self._passes) < _PASSES or self._end_idle_pass():
            self._waiting.pop(id_, None)
            begun = self._passes[id_] = _Pass(self, subscription)
            begun.resume()
        else:
            self._waiting[id_] = None
            self._set_timer()

    def runs(self, one: "_Pass") -> bool:
        """Returns whether a pass is still the current pass of its subscription."""
        return self._passes.get(one.id) is one

    def end(self, one: "_Pass", rest: float | None) -> None:
        """Ends a pass. Unless `rest` is None, advances its subscription again after `rest` seconds."""
        if not self.runs(one):
            return
        del self._passes[one.id]
        if rest is not None:
            self.rest(one.id, rest)
        self._begin_waiting()

    def rest(self, id_: str, seconds: float) -> None:
        """Ignores calls of `advance` for a subscription for some seconds, and then advances it."""

        def wake() -> None:
            self._resting.discard(id_)
            self.advance(id_)

        if not self.is_stopped:
            self._resting.add(id_)
            asyncio.get_running_loop().call_later(seconds, wake)

    def _set_timer(self) -> None:
        if not self._has_timer:
            self._has_timer = True
            asyncio.get_running_loop().call_later(_MAX_IDLE / SECOND, self._retry_waiting)

    def _retry_waiting(self) -> None:
        self._has_timer = False
        self._begin_waiting()
        if self._waiting:
            self._set_timer()

    def _begin_waiting(self) -> None:
        """Begins the passes that have waited longest, up to the maximum number of passes."""
        for id_ in tuple(islice(self._waiting, _SERVED)):
            if len(self._passes) >= _PASSES and not self._end_idle_pass():
                return
            self._waiting.pop(id_, None)
            self.advance(id_)

    def _end_idle_pass(self) -> bool:
        """Ends one pass that has been idle for `_MAX_IDLE`, and returns whether there was such a pass.

        A pass may be idle for days because no worker acknowledges anything, while other subscriptions wait for their passes.
        """
        before = self.clock() - _MAX_IDLE
        for id_, one in self._passes.items():
            if one.is_idle and one.last_step_at <= before:
                del self._passes[id_]
                return True
        return False


class _Pass:
    """One pass through all paths, for one subscription.

    Attributes:
        id: the id of the subscription.
        incarnation: the incarnation of the subscription.
        is_idle: True if the pass waits neither for its turn nor for the store.
        last_step_at: the time of its last step, in microseconds of steady time.
    """

    def __init__(self, recalls: Recalls, subscription: Subscription) -> None:
        self._recalls = recalls
        self._store = recalls.store
        self.id = subscription.id
        self.incarnation = subscription.incarnation
        self.is_idle = True
        self.last_step_at = recalls.clock()
        # None until the store has recorded that the pass begins. Streams that are missed after that belong to the next pass.
        self._paths: Iterator[str] | None = None
        self._found: list[str] = []  # streams that the subscription may have missed
        self._is_last = False  # True once all paths are checked

    def resume(self) -> None:
        """Queues the next step, unless a step is already running."""
        if self.is_idle:
            self.is_idle = False
            self._recalls.turns.add(self._step)

    def _step(self) -> bool:
        """Checks some paths, and returns whether to check more. Once enough streams are found, executes `Recall` for them."""
        recalls = self._recalls
        if recalls.is_stopped or not recalls.runs(self):
            return False
        self.last_step_at = recalls.clock()
        begins = self._paths is None
        if not begins:
            try:
                if self._check_slice():
                    return True
            except Exception:
                _log.exception("the streams that %s has missed cannot be listed", self.id)
                recalls.end(self, _DAMAGED_RETRY_SECONDS)
                return False
        paths = tuple(self._found[:_STREAMS_PER_RECORD])
        is_last = self._is_last and len(paths) == len(self._found)
        command = Recall(self.id, self.incarnation, paths, begins, is_last)
        asked: Ticket[Any] = self._store.execute(command, self.last_step_at)
        asked.add_callback(lambda done: self._settle(done, command))
        return False

    def _check_slice(self) -> bool:
        """Checks a slice of the paths, and returns whether to check the next slice. Does nothing if enough streams are found."""
        subscription = self._store.subscriptions.get(self.id)
        if self._is_last or len(self._found) >= _STREAMS_PER_RECORD or subscription is None:
            return False
        assert self._paths is not None
        watch, count = self._store.subscriptions.watch, 0
        for path in islice(self._paths, _SLICE):
            count += 1
            if path not in subscription.due and self.id in watch(path):
                self._found.append(path)
        self._is_last = count < _SLICE
        return not self._is_last and len(self._found) < _STREAMS_PER_RECORD

    def _settle(self, asked: Ticket[Any], command: Recall) -> None:
        """Continues, pauses or ends the pass after a `Recall` command."""
        recalls = self._recalls
        self.is_idle = True
        try:
            outcome = asked.result()
        except Abandoned:
            recalls.stop()
            return
        except NotFound:
            recalls.end(self, None)
            return
        except StreamError:  # the store has no room now
            recalls.rest(self.id, _RETRY_SECONDS)
            return
        del self._found[: outcome.count]
        if command.begins:
            self._paths = self._store.paths()
        if not outcome.missed:
            recalls.end(self, None)
        elif command.ends and outcome.count == len(command.paths):
            recalls.end(self, _RETRY_SECONDS)  # the subscription has missed streams during the pass
        elif recalls.runs(self):
            recalls.advance(self.id)
