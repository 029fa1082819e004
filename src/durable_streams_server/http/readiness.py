"""`Readiness`: finds out whether the server can take writes, by making one.

A server whose disk has failed or hangs still answers reads from memory, so a check that only answers would call it healthy (TRAPS 50). A
probe of the store goes all the way to the disk. Requests share one probe, and its result is used for a second, so a flood of requests
costs no more than one.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from ..errors import StorageFull, StreamError, Unavailable
from ..protocol.limits import RETRY_SOON
from ..storage.ticket import Abandoned, Ticket
from ..streams.engine import Engine
from .facts import ServerFacts

#: Seconds for which the result of a probe is used.
REUSE: Final = 1.0
#: Seconds after which a probe that has not ended counts as failed.
PATIENCE: Final = 5.0
#: Seconds until the next attempt if a probe was refused because writes are ahead of the disk.
_RETRY: Final = 0.1


class Obstacle(NamedTuple):
    """Why the server is not ready.

    Attributes:
        reason: a stable name, for programs.
        message: a sentence, for people.
    """

    reason: str
    message: str

    def error(self) -> Unavailable:
        """Returns the error that reports the obstacle."""
        details = {"reason": self.reason}
        return Unavailable(self.message, "NOT_READY", details=details, retry_after=RETRY_SOON)


_STARTING: Final = Obstacle("starting", "the server is starting")
_DRAINING: Final = Obstacle("draining", "the server is stopping")
_FAILED: Final = Obstacle("store_failed", "the store has stopped after an error")
_FULL: Final = Obstacle("disk_full", "the disk is full")
_BLOCKED: Final = Obstacle("writes_blocked", f"no write became durable within {PATIENCE:.0f} s")


class Readiness:
    """Finds out whether an application is ready. It belongs to one event loop.

    Args:
        engine: Runs the streams.
        facts: Says whether the server is draining.
    """

    def __init__(self, engine: Engine, facts: ServerFacts) -> None:
        self._engine = engine
        self._facts = facts
        self._waiting: dict[Ticket[None], None] = {}
        self._obstacle: Obstacle | None = None  # the result of the last probe
        self._valid_until = 0.0
        self._is_probing = False
        self._is_late = False  # whether the running probe has taken too long
        self._timer: asyncio.TimerHandle | None = None

    def check(self) -> Ticket[None]:
        """Returns a ticket that resolves if the server is ready, and otherwise fails.

        The ticket fails with Unavailable (NOT_READY), whose details have the reason.
        """
        obstacle = self._known_obstacle()
        if obstacle is not None:
            return Ticket.failed(obstacle.error())
        if not self._is_probing and self._loop.time() >= self._valid_until:
            self._is_probing = True
            self._timer = self._loop.call_later(PATIENCE, self._give_up)
            self._probe()
        if not self._is_probing:
            return _outcome(self._obstacle)
        if self._is_late:
            return _outcome(_BLOCKED)
        waiter: Ticket[None] = Ticket()
        self._waiting[waiter] = None
        waiter.on_cancel(lambda: self._waiting.pop(waiter, None))
        return waiter

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the engine, which has started."""
        assert self._engine.loop is not None
        return self._engine.loop

    def _known_obstacle(self) -> Obstacle | None:
        """Returns why the server is not ready if that is known without a probe."""
        engine = self._engine
        if engine.failure is not None or engine.store.failure is not None:
            return _FAILED
        if engine.stopping or self._facts.is_draining:
            return _DRAINING
        return _STARTING if engine.loop is None else None

    def _probe(self) -> None:
        """Begins a probe of the store, unless the server has become unready in another way."""
        obstacle = self._known_obstacle()
        if obstacle is not None:
            self._end(obstacle)
        else:
            self._engine.store.probe().add_callback(self._probed)

    def _probed(self, probe: Ticket[None]) -> None:
        """Ends the check, or schedules the next attempt if writes are ahead of the disk, which usually passes at once."""
        try:
            probe.result()
        except StorageFull:
            self._end(_FULL)
        except Unavailable:
            self._loop.call_later(_RETRY, self._probe)
        except (Abandoned, StreamError):
            self._end(_FAILED)
        else:
            self._end(self._known_obstacle())

    def _end(self, obstacle: Obstacle | None) -> None:
        """Gives the result of a probe to all requests that wait for it, and keeps it for a while."""
        self._is_probing = self._is_late = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._obstacle = obstacle
        self._valid_until = self._loop.time() + REUSE
        self._tell(obstacle)

    def _give_up(self) -> None:
        """Fails the requests that wait for the running probe, and those that come until the probe ends."""
        self._is_late = True
        self._tell(_BLOCKED)

    def _tell(self, obstacle: Obstacle | None) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if obstacle is None:
                waiter.resolve(None)
            else:
                waiter.fail(obstacle.error())


def _outcome(obstacle: Obstacle | None) -> Ticket[None]:
    """Returns a done ticket for the result of a check."""
    return Ticket.of(None) if obstacle is None else Ticket.failed(obstacle.error())
