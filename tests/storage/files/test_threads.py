"""Tests of a store on real threads: commits, checkpoints and a full disk."""

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server.errors import StorageFull, StreamError, Unavailable
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.storage.files import store as file_store
from durable_streams_server.storage.files.catalog import LmdbCatalog
from durable_streams_server.storage.files.directory import CATALOG, prepare
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.headroom import PER_LOG, SOON
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.threads import Threads
from durable_streams_server.storage.ticket import Abandoned, Ticket
from tests.requests import NOW, append, create
from tests.storage.files.benches import SEGMENT, GatedDisk, ThreadsBench, WatchedThreads, settled


def was_acknowledged(ticket: Ticket[Outcome]) -> bool:
    try:
        ticket.result()
    except Abandoned:
        return False
    return True


async def test_store_opened_on_a_full_disk_accepts_writes_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = WatchedThreads(asyncio.get_running_loop())
    monkeypatch.setattr(file_store, "Threads", lambda _: threads)
    disk = GatedDisk(tmp_path)
    prepare(disk, "data")
    disk.errors["allocate"] = errno.ENOSPC
    store = FileStore(disk, LmdbCatalog(str(tmp_path / CATALOG)), segment_size=SEGMENT)
    assert store.headroom.is_low
    disk.errors.clear()
    store.attach(asyncio.get_running_loop(), lambda _: None)
    await threads.until(lambda: not store.headroom.is_low)  # without another request
    await settled(store.execute(create("/a"), NOW))
    store.detach()
    store.close()
    disk.release()


async def test_store_is_busy_while_a_commit_is_being_written(tmp_path: Path) -> None:
    bench = ThreadsBench(tmp_path)
    assert not bench.store.is_busy
    bench.disk.close_gate()
    ticket = bench.store.execute(create("/a"), NOW)
    await bench.disk.held_write()
    assert bench.store.is_busy
    bench.disk.gate.set()
    await settled(ticket)
    assert not bench.store.is_busy
    bench.close()


async def test_failed_log_write_stops_the_store_and_loses_no_acknowledged_byte(
    tmp_path: Path,
) -> None:  # TRAPS 7
    bench = ThreadsBench(tmp_path, checkpoint_bytes=1000)
    await bench.run(create("/a"))
    await bench.run(append("/a", b"x" * 500))
    bench.disk.errors["write"] = errno.EIO
    tickets = [bench.store.execute(append("/a", b"x" * 500), NOW) for _ in range(5)]
    await bench.until(lambda: bench.failures)
    bench.disk.errors.clear()
    bench.close()
    acknowledged = 1 + sum(was_acknowledged(ticket) for ticket in tickets)
    again = ThreadsBench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    assert acknowledged * 500 <= state.tail <= 6 * 500
    assert state.tail % 500 == 0
    again.close()


async def test_store_on_a_full_disk_refuses_writes_serves_reads_and_resumes(
    tmp_path: Path,
) -> None:  # TRAPS 13
    bench = ThreadsBench(tmp_path, checkpoint_bytes=100_000)
    await bench.run(create("/a"))
    bench.disk.errors = {"allocate": errno.ENOSPC, "write": errno.ENOSPC}
    written, refused = 0, 0
    while refused < 3:
        try:
            await bench.run(append("/a", b"x" * 50_000))
            written += 1
        except StorageFull:
            refused += 1
        except Unavailable:
            await bench.threads.next_end()
    assert 0 < written <= SEGMENT // 50_000  # there is no room for another segment
    state = bench.store.find("/a").result()
    assert state is not None
    assert state.visible_tail == state.tail == written * 50_000
    assert bench.store.read_bytes(state.incarnation, 0, 10).result() == b"x" * 10
    bench.disk.errors.clear()
    for _ in range(2000):
        try:
            await bench.run(append("/a", b"y"))
            break
        except StreamError:
            await bench.threads.next_end()
    assert not bench.failures
    bench.close()
    again = ThreadsBench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    assert state.tail == written * 50_000 + 1
    again.close()


async def test_checkpoint_frees_space_of_deleted_streams_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_streams_server.storage.files.ledger.SOON_SECONDS", 0.1)
    bench = ThreadsBench(tmp_path)
    paths = [f"/{number}" for number in range(SOON // PER_LOG)]
    for path in paths:
        bench.store.execute(create(path, "text/plain", b"x"), NOW)
    await bench.run(create("/kept", "text/plain", b"x"))
    bench.store.shell.checkpoint_due()
    logs = tmp_path / "logs"
    await bench.until(lambda: len(list(logs.glob("*/*.idx"))) == len(paths) + 1)
    for path in paths:
        bench.store.execute(Delete(path), NOW)
    await bench.until(lambda: len(list(logs.glob("*/*.idx"))) == 1)
    assert not bench.failures
    bench.close()


async def test_single_writer_waits_for_the_disk_and_is_not_refused(tmp_path: Path) -> None:
    bench = ThreadsBench(tmp_path, max_unflushed=40_000, checkpoint_bytes=1 << 30)
    await bench.run(create("/a"))
    for _ in range(200):
        await bench.run(append("/a", b"x" * 5_000))
    bench.close()


async def test_synchronous_call_on_event_loop_needs_no_further_loop_turn(tmp_path: Path) -> None:
    bench = ThreadsBench(tmp_path, max_unflushed=40_000, checkpoint_bytes=1 << 30)
    await bench.run(create("/a"))
    for _ in range(8):
        bench.store.shell.wait_for(bench.store.execute(append("/a", b"x" * 5_000), NOW))
    bench.close()


async def test_checkpoints_during_appends_limit_the_write_ahead_log(tmp_path: Path) -> None:
    bench = ThreadsBench(tmp_path, checkpoint_bytes=100_000, recent_limit=0)
    for path in ("/a", "/b"):
        await bench.run(create(path, "application/json"))
    for number in range(400):
        await bench.run(
            append(
                "/a" if number % 2 else "/b", b'"%d%s"' % (number, b"x" * 5000), "application/json"
            )
        )
    assert len(list((tmp_path / "wal").iterdir())) <= 6
    await bench.until(lambda: bench.store.meta.lsn > 100)
    state = bench.store.find("/b").result()
    assert state is not None
    read = bench.store.read_bytes(state.incarnation, 0, 5000)
    await settled(read)
    assert read.result().startswith(b'"0xxx')
    bench.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own elsewhere")
async def test_reader_threads_have_a_lower_priority_than_the_commit_thread() -> None:
    threads = Threads(asyncio.get_running_loop())
    found: dict[Lane, int] = {}

    def note(lane: Lane) -> Callable[[], None]:
        return lambda: found.update({lane: os.getpriority(os.PRIO_PROCESS, 0)})

    for lane in Lane:
        threads.submit(lane, note(lane), lambda _, error: None)
    threads.close()  # waits for all jobs
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert found[Lane.COMMIT] == usual
    assert found[Lane.READ] == min(usual + 5, 19)


def test_call_after_pause_lets_event_loop_run_other_work_first() -> None:
    async def count() -> int:
        loop = asyncio.get_running_loop()
        threads = Threads(loop)
        done = loop.create_future()
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not done.done():
                loop.call_soon(turn)

        threads.call_after_pause(lambda: done.set_result(None))
        turn()
        await done
        threads.close()
        return turns

    assert asyncio.run(count()) > 2
