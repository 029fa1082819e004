"""A new directory soon says how its boot's ticks count, so that steady time goes on over a kill whatever the clock is set to."""

import asyncio
import shutil
from pathlib import Path

from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.streams.engines import SettableClock

HOUR = 3600  # seconds


async def test_steady_time_goes_on_over_a_kill_before_the_first_checkpoint(tmp_path: Path) -> None:
    clock = SettableClock()
    store = FileBackedStreamStore(tmp_path / "data", clock=clock)
    engine = Engine(store, clock=clock)
    engine.start()
    async with asyncio.timeout(5):
        while store.meta.clock[1] != clock.boot:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    before = engine.clock()
    killed = shutil.copytree(tmp_path / "data", tmp_path / "killed")
    clock.set(HOUR)
    clock.forward(1)
    with FileBackedStreamStore(killed, clock=clock) as again:
        after = Engine(again, clock=clock).clock()
    await engine.stop()
    store.close()
    assert after - before == 1_000_000
