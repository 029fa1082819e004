"""Finds the streams that full subscriptions have missed: by passes through all paths, in line with other long work.

A subscription that has no room for a cursor keeps only the time since when it has missed streams. Once half of its room is free, a
pass goes through all paths and has the store give a cursor to each stream that may have been missed. The pass waits whenever half
of the room is taken, and goes on from the same path once there is room again. After a restart it begins anew.
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

_SLICE: Final = 100  # paths looked at in one step
_AT_ONCE: Final = 24  # streams in one record, each of which may have to be loaded: a millisecond
_PASSES: Final = 32  # passes that have begun; each remembers where it is
_PATIENCE: Final = 60 * SECOND  # without room, until a pass gives its place to another
_AGAIN: Final = 1.0  # seconds until a store that had no room is asked again, or another pass begins
_SERVED: Final = 1_000  # subscriptions looked at in one go when there is a place
_DAMAGED: Final = 60.0  # seconds until a pass begins anew that could not read the list of paths


class Recalls:
    """All passes, one at most for each subscription.

    Args:
        store: whose subscriptions have missed streams.
        clock: steady time.
        turns: the line in which the passes stand.
    """

    def __init__(self, store: Store, clock: StoreClock, turns: Turns) -> None:
        self.store = store
        self.clock = clock
        self.turns = turns
        self.is_stopped = True
        self._passes: dict[str, _Pass] = {}
        self._waiting: dict[str, None] = {}  # subscriptions for whose passes there is no place
        self._is_planned = False  # somebody waits, and a timer looks for a place
        self._resting: set[str] = set()  # those that are looked at again after a while

    def start(self) -> None:
        """Begins the passes that a stop or a crash broke off. From now on `look` has an effect."""
        self.is_stopped = False
        for subscription in self.store.subscriptions:
            self.advance(subscription.id)

    def stop(self) -> None:
        """Goes no further. The next start begins the passes anew."""
        self.is_stopped = True
        self._passes.clear()
        self._waiting.clear()
        self._resting.clear()

    def advance(self, id_: str) -> None:
        """Begins a subscription's pass, or continues it, if the subscription has missed streams and has room for some."""
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
            known.go_on()
        elif known is not None or len(self._passes) < _PASSES or self._make_place():
            self._waiting.pop(id_, None)
            begun = self._passes[id_] = _Pass(self, subscription)
            begun.go_on()
        else:
            self._waiting[id_] = None
            self._plan()

    def runs(self, one: "_Pass") -> bool:
        """Whether a pass has its place still."""
        return self._passes.get(one.id) is one

    def end(self, one: "_Pass", rest: float | None) -> None:
        """Ends a pass. After `rest` seconds the subscription is looked at again; None for not by itself."""
        if not self.runs(one):
            return
        del self._passes[one.id]
        if rest is not None:
            self.rest(one.id, rest)
        self._serve()

    def rest(self, id_: str, seconds: float) -> None:
        """Leaves a subscription alone for a while, and then looks at it."""

        def look() -> None:
            self._resting.discard(id_)
            self.advance(id_)

        if not self.is_stopped:
            self._resting.add(id_)
            asyncio.get_running_loop().call_later(seconds, look)

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_later(_PATIENCE / SECOND, self._look_for_places)

    def _look_for_places(self) -> None:
        self._is_planned = False
        self._serve()
        if self._waiting:
            self._plan()

    def _serve(self) -> None:
        """Gives places to those that have waited longest, as far as there are any."""
        for id_ in tuple(islice(self._waiting, _SERVED)):
            if len(self._passes) >= _PASSES and not self._make_place():
                return
            self._waiting.pop(id_, None)
            self.advance(id_)

    def _make_place(self) -> bool:
        """Ends a pass that has had no room for long: its worker may be away for days, and others wait."""
        before = self.clock() - _PATIENCE
        for id_, one in self._passes.items():
            if one.is_idle and one.seen_at <= before:
                del self._passes[id_]
                return True
        return False


class _Pass:
    """One pass.

    Attributes:
        id: the subscription.
        incarnation: of the subscription.
        is_idle: whether it neither stands in line nor waits for the store.
        seen_at: microseconds of steady time of its last step.
    """

    def __init__(self, recalls: Recalls, subscription: Subscription) -> None:
        self._recalls = recalls
        self._store = recalls.store
        self.id = subscription.id
        self.incarnation = subscription.incarnation
        self.is_idle = True
        self.seen_at = recalls.clock()
        self._paths: Iterator[str] | None = None  # None until the store knows that the pass begins
        self._found: list[str] = []  # streams that may have been missed
        self._is_last = False  # whether the pass has looked at all paths

    def go_on(self) -> None:
        """Takes the next step, if none is under way."""
        if self.is_idle:
            self.is_idle = False
            self._recalls.turns.add(self._step)

    def _step(self) -> bool:
        """Looks at some paths, and asks the store about the streams found; returns whether to look at more first."""
        recalls = self._recalls
        if recalls.is_stopped or not recalls.runs(self):
            return False
        self.seen_at = recalls.clock()
        begins = self._paths is None
        if not begins:
            try:
                if self._look_for_more():
                    return True
            except Exception:
                _log.exception("the streams that %s has missed cannot be listed", self.id)
                recalls.end(self, _DAMAGED)
                return False
        paths = tuple(self._found[:_AT_ONCE])
        is_last = self._is_last and len(paths) == len(self._found)
        command = Recall(self.id, self.incarnation, paths, begins, is_last)
        asked: Ticket[Any] = self._store.execute(command, self.seen_at)
        asked.add_callback(lambda done: self._settle(done, command))
        return False

    def _look_for_more(self) -> bool:
        """Looks at a slice of the paths, unless enough streams are found; returns whether to go on with that."""
        subscription = self._store.subscriptions.get(self.id)
        if self._is_last or len(self._found) >= _AT_ONCE or subscription is None:
            return False
        assert self._paths is not None
        watch, count = self._store.subscriptions.watch, 0
        for path in islice(self._paths, _SLICE):
            count += 1
            if path not in subscription.due and self.id in watch(path):
                self._found.append(path)
        self._is_last = count < _SLICE
        return not self._is_last and len(self._found) < _AT_ONCE

    def _settle(self, asked: Ticket[Any], command: Recall) -> None:
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
            recalls.rest(self.id, _AGAIN)
            return
        del self._found[: outcome.count]
        if command.begins:
            self._paths = self._store.paths()
        if not outcome.missed:
            recalls.end(self, None)
        elif command.ends and outcome.count == len(command.paths):
            recalls.end(self, _AGAIN)  # streams were missed meanwhile
        elif recalls.runs(self):
            recalls.advance(self.id)
