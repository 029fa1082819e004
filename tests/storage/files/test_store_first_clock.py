"""Tests that a new data directory soon records the state of steady time, so that steady time continues after a kill even if the clock is set."""

import asyncio
import shutil
from pathlib import Path

import pytest

from durable_streams_server.storage.files import store as file_store
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.storage.files.benches import WatchedThreads
from tests.streams.engines import SettableClock

HOUR = 3600  # seconds


async def test_steady_time_continues_after_a_kill_before_the_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = WatchedThreads(asyncio.get_running_loop())
    monkeypatch.setattr(file_store, "Threads", lambda _: threads)
    clock = SettableClock()
    store = FileBackedStreamStore(tmp_path / "data", clock=clock)
    engine = Engine(store, clock=clock)
    engine.start()
    await threads.until(lambda: store.meta.clock[1] == clock.boot)
    before = engine.clock()
    killed = shutil.copytree(tmp_path / "data", tmp_path / "killed")
    clock.set(HOUR)
    clock.forward(1)
    with FileBackedStreamStore(killed, clock=clock) as again:
        after = Engine(again, clock=clock).clock()
    await engine.stop()
    store.close()
    assert after - before == 1_000_000
