"""The sweep: streams whose time has run out are ended when it does, not when somebody touches them."""

import asyncio
from typing import TYPE_CHECKING, Final

from ..protocol.commands import Expire
from ..protocol.lifetime import MICROSECONDS

if TYPE_CHECKING:
    from .engine import Engine

_SOONEST: Final = (
    0.01  # seconds; a crowd of deadlines is swept in batches, with room for other work between
)


class Sweep:
    """One timer, set for the store's next deadline."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._timer: asyncio.TimerHandle | None = None
        self._set_for: int | None = None

    def schedule(self) -> None:
        """Sets the timer for the next deadline, if there is one and it is not set for an earlier one."""
        deadline = self._engine.store.next_deadline()
        if deadline is None or (self._set_for is not None and self._set_for <= deadline):
            return
        self.stop()
        self._set_for = deadline
        delay = max(_SOONEST, (deadline - self._engine.clock()) / MICROSECONDS)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(delay, 3600.0), self._run)

    def stop(self) -> None:
        """Takes the timer back."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._set_for = None

    def run(self) -> None:
        """Ends what is due now."""
        engine = self._engine
        now = engine.clock()
        for path, incarnation in engine.store.due(now):
            engine.store.execute(Expire(path, incarnation), now)

    def _run(self) -> None:
        self._timer = self._set_for = None
        self.run()
        self.schedule()
