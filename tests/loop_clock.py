"""A clock for the running event loop that moves only when a test moves it."""

import asyncio
from typing import Final

import pytest

_STEP: Final = 0.01  # seconds


class LoopClock:
    """Replaces the clock of the running event loop. A call returns the time.

    Args:
        monkeypatch: restores the real clock after the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        monkeypatch.setattr(loop, "time", self)

    def __call__(self) -> float:
        return self.now

    async def forward(self, seconds: float) -> None:
        """Moves the clock in small steps, and lets the timers run that are due."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + _STEP)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
