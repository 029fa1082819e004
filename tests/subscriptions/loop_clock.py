"""Moves the time of an event loop, so that tests of timeouts do not wait."""

import asyncio

import pytest

from tests.subscriptions.services import run_turns


class LoopClock:
    """Adds seconds to the time of the running event loop. Real time passes as well.

    Timers and timeouts of the loop follow this time. `time.monotonic` does not.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._added = 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self._added)

    async def forward(self, seconds: float) -> None:
        """Moves the time forward by `seconds`, and lets the timers run that are due."""
        self._added += seconds
        await run_turns()
