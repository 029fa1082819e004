"""The store's threads on a real directory: durable before answered, stopped for good by a failure, patient with a full disk."""

import asyncio
import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from durable_streams_server.errors import NotFound, StorageFull, StreamError, Unavailable
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files.catalog import LmdbCatalog
from durable_streams_server.storage.files.directory import CATALOG, prepare
from durable_streams_server.storage.files.disk import File
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.headroom import PER_LOG, SOON
from durable_streams_server.storage.files.limits import Limits
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.files.system_file import SystemFile
from durable_streams_server.storage.files.threads import Threads
from durable_streams_server.storage.ticket import Abandoned, Ticket
from tests.requests import NOW, append, create

SEGMENT = 1 << 20
T = TypeVar("T")


class MovedFile(SystemFile):
    """A file whose disk can be told to fail."""

    disk: "MovedDisk"

    def write(self, data: bytes | memoryview, position: int) -> None:
        self.disk.fail("write")
        super().write(data, position)

    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        self.disk.wait.wait()
        self.disk.fail("write_durably")
        super().write_durably(data, position)

    def allocate(self, size: int) -> None:
        self.disk.fail("allocate")
        super().allocate(size)


class MovedDisk(SystemDisk):
    """A directory whose calls can be made to wait, or to fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.wait = threading.Event()
        self.wait.set()
        self.errors: dict[str, int] = {}

    def fail(self, call: str) -> None:
        if call in self.errors:
            code = self.errors[call]
            raise OSError(code, os.strerror(code), call)

    def open(self, path: str, *, create: bool = False) -> File:
        file = MovedFile(self.root / path, create)
        file.disk = self
        return file


class Bench:
    """A store on its threads."""

    def __init__(self, path: Path, **limits: int) -> None:
        self.disk = MovedDisk(path)
        prepare(self.disk, "data")
        catalog = LmdbCatalog(str(path / CATALOG))
        self.store = FileStore(self.disk, catalog, segment_size=SEGMENT, limits=Limits(**limits))
        self.failures: list[BaseException] = []
        self.store.attach(asyncio.get_running_loop(), self.failures.append)

    async def run(self, command: Command) -> Outcome:
        return await settled(self.store.execute(command, NOW))

    def close(self) -> None:
        self.store.detach()
        self.store.close()
        self.disk.release()


async def settled(ticket: Ticket[T]) -> T:
    done = asyncio.Event()
    ticket.add_callback(lambda _: done.set())
    await asyncio.wait_for(done.wait(), 10)
    return ticket.result()


def was_acknowledged(ticket: Ticket[Outcome]) -> bool:
    try:
        ticket.result()
    except Abandoned:
        return False
    return True


async def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


async def checkpointed(bench: Bench) -> None:
    """Lets checkpoints run until the catalog has everything."""

    def is_done() -> bool:
        bench.store.shell.checkpoint_due()
        return bench.store.meta.lsn == bench.store.wal.last_lsn

    await until(is_done)


async def test_store_opened_on_a_full_disk_accepts_writes_when_there_is_room(
    tmp_path: Path,
) -> None:
    disk = MovedDisk(tmp_path)
    prepare(disk, "data")
    disk.errors["allocate"] = errno.ENOSPC
    store = FileStore(disk, LmdbCatalog(str(tmp_path / CATALOG)), segment_size=SEGMENT)
    assert store.headroom.is_low
    disk.errors.clear()
    store.attach(asyncio.get_running_loop(), lambda _: None)
    await until(lambda: not store.headroom.is_low)  # though nobody has asked for anything
    await settled(store.execute(create("/a"), NOW))
    store.detach()
    store.close()
    disk.release()


async def test_nothing_is_answered_or_shown_before_it_is_durable(
    tmp_path: Path,
) -> None:  # TRAPS 12, 19
    bench = Bench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.wait.clear()
    first = bench.store.execute(append("/a", b"x", closes=True), NOW)
    refused = bench.store.execute(append("/a", b"y"), NOW)
    closed_again = bench.store.execute(append("/a", closes=True), NOW)
    await asyncio.sleep(0.03)
    state = bench.store.find("/a").result()
    assert state is not None
    assert (state.visible_tail, state.visible_closed) == (0, False)
    assert [ticket.done for ticket in (first, refused, closed_again)] == [False] * 3
    bench.disk.wait.set()
    await settled(closed_again)
    assert first.done
    with pytest.raises(StreamError):
        refused.result()
    assert (state.visible_tail, state.visible_closed) == (1, True)
    bench.close()


async def test_store_says_while_it_writes_what_tickets_wait_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert not bench.store.is_busy
    bench.disk.wait.clear()
    ticket = bench.store.execute(create("/a"), NOW)
    await until(lambda: bench.store.is_busy)
    bench.disk.wait.set()
    await settled(ticket)
    assert not bench.store.is_busy
    bench.close()


async def test_many_appends_share_few_writes(tmp_path: Path) -> None:  # TRAPS 20
    bench = Bench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.wait.clear()
    tickets = [bench.store.execute(append("/a", b"%03d" % n), NOW) for n in range(500)]
    bench.disk.wait.set()
    for ticket in tickets:
        await settled(ticket)
    await settled(bench.store.execute(append("/a", b"end"), NOW))
    bench.close()
    again = Bench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    read = again.store.read_bytes(state.incarnation, 0, state.visible_tail)
    await settled(read)
    assert read.result() == b"".join(b"%03d" % n for n in range(500)) + b"end"
    again.close()


async def test_a_failed_write_stops_the_store_for_good(tmp_path: Path) -> None:  # TRAPS 6, 13
    bench = Bench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.errors["write_durably"] = errno.EIO
    lost = [bench.store.execute(append("/a", b"x"), NOW) for _ in range(3)]
    await until(lambda: bench.failures)
    (failure,) = bench.failures
    assert isinstance(failure, OSError)
    assert (failure.errno, failure.filename) == (errno.EIO, "write_durably")
    bench.disk.errors.clear()
    later = bench.store.execute(append("/a", b"y"), NOW)
    duplicate = bench.store.execute(create("/a"), NOW)
    for ticket in (*lost, later, duplicate):
        with pytest.raises(Abandoned, match="write_durably"):
            await settled(ticket)
    state = bench.store.find("/a").result()
    assert state is not None
    assert state.visible_tail == 0
    bench.close()
    again = Bench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    assert state.tail == 0
    again.close()


async def test_a_failed_log_write_stops_the_store_and_loses_no_acknowledged_byte(
    tmp_path: Path,
) -> None:  # TRAPS 7
    bench = Bench(tmp_path, checkpoint_bytes=1000)
    await bench.run(create("/a"))
    await bench.run(append("/a", b"x" * 500))
    bench.disk.errors["write"] = errno.EIO
    tickets = [bench.store.execute(append("/a", b"x" * 500), NOW) for _ in range(5)]
    await until(lambda: bench.failures)
    bench.disk.errors.clear()
    bench.close()
    acknowledged = 1 + sum(was_acknowledged(ticket) for ticket in tickets)
    again = Bench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    assert acknowledged * 500 <= state.tail <= 6 * 500
    assert state.tail % 500 == 0
    again.close()


async def test_nothing_in_flight_is_answered_when_the_store_stops(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.wait.clear()
    in_flight = [bench.store.execute(append("/a", b"x"), NOW)]
    await asyncio.sleep(0.03)  # the commit thread has it; the next one still waits
    in_flight.append(bench.store.execute(append("/a", b"y"), NOW))
    bench.store.commits.fail(OSError(errno.EIO, "a checkpoint failed"))
    assert not in_flight[0].done
    bench.disk.wait.set()
    for ticket in in_flight:
        with pytest.raises(Abandoned, match="a checkpoint failed"):
            await settled(ticket)
    bench.close()


async def test_a_full_disk_refuses_writes_serves_reads_and_resumes(
    tmp_path: Path,
) -> None:  # TRAPS 13
    bench = Bench(tmp_path, checkpoint_bytes=100_000)
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
            await asyncio.sleep(0.01)
    assert 0 < written <= SEGMENT // 50_000  # there is no room for a second segment
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
            await asyncio.sleep(0.01)
    assert not bench.failures
    bench.close()
    again = Bench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    assert state.tail == written * 50_000 + 1
    again.close()


async def test_space_of_deleted_streams_comes_back_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_streams_server.storage.files.ledger.SOON_SECONDS", 0.1)
    bench = Bench(tmp_path)
    paths = [f"/{number}" for number in range(SOON // PER_LOG)]
    for path in paths:
        bench.store.execute(create(path, "text/plain", b"x"), NOW)
    await bench.run(create("/kept", "text/plain", b"x"))
    bench.store.shell.checkpoint_due()
    logs = tmp_path / "logs"
    await until(lambda: len(list(logs.glob("*/*.idx"))) == len(paths) + 1)
    for path in paths:
        bench.store.execute(Delete(path), NOW)
    await until(lambda: len(list(logs.glob("*/*.idx"))) == 1)
    assert not bench.failures
    bench.close()


async def test_a_lone_writer_waits_for_the_disk_and_is_not_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_unflushed=40_000, checkpoint_bytes=1 << 30)
    await bench.run(create("/a"))
    for _ in range(200):
        await bench.run(append("/a", b"x" * 5_000))
    bench.close()


async def test_a_synchronous_caller_on_the_loop_does_not_wait_for_the_loop(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_unflushed=40_000, checkpoint_bytes=1 << 30)
    await bench.run(create("/a"))
    for _ in range(8):
        bench.store.shell.wait_for(bench.store.execute(append("/a", b"x" * 5_000), NOW))
    bench.close()


async def test_a_synchronous_cold_read_on_the_loop_is_answered_by_a_reader_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # TRAPS 21
    bench = Bench(tmp_path, recent_limit=0)
    await bench.run(create("/a"))
    await bench.run(append("/a", b"x" * 5_000))
    await checkpointed(bench)
    monkeypatch.setattr(SystemFile, "read_ready", lambda *_: None)  # the device would be waited for
    state = bench.store.find("/a").result()
    assert state is not None
    read = bench.store.read_bytes(state.incarnation, 0, 5_000)
    assert not read.done
    bench.store.shell.wait_for(read)
    assert read.result() == b"x" * 5_000
    bench.close()


async def cold(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> StreamState:
    """Returns a stream of which nothing is in memory, on a disk that would have to be waited for."""
    await bench.run(create("/a"))
    for _ in range(5):
        await bench.run(append("/a", b"x" * 1_000))
    await checkpointed(bench)
    bench.store.logs.close()
    monkeypatch.setattr(SystemFile, "read_ready", lambda *_: None)
    state = bench.store.find("/a").result()
    assert state is not None
    return state


async def test_nothing_of_a_cold_log_is_read_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # TRAPS 21
    bench = Bench(tmp_path, recent_limit=0)
    state = await cold(bench, monkeypatch)
    loops = threading.get_ident()
    calls: list[int] = []
    read = SystemFile.read

    def noted(file: SystemFile, size: int, position: int) -> bytes:
        calls.append(threading.get_ident())
        return read(file, size, position)

    monkeypatch.setattr(SystemFile, "read", noted)
    marks = bench.store.marks(state.incarnation, 2_500)
    content = bench.store.read_bytes(state.incarnation, 0, 5_000)
    assert not marks.done
    assert not content.done
    assert await settled(marks) == (2_000, 3_000, 3_000)
    assert await settled(content) == b"x" * 5_000
    assert calls
    assert loops not in calls
    bench.close()


async def test_damage_that_a_reader_thread_finds_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, recent_limit=0)
    state = await cold(bench, monkeypatch)
    log = tmp_path / path_of(state.incarnation)
    os.truncate(log, 4_000)
    os.truncate(f"{log}.idx", 24)
    with pytest.raises(StreamError) as caught:
        await settled(bench.store.read_bytes(state.incarnation, 0, 5_000))
    assert caught.value.code == "STREAM_DAMAGED"
    with pytest.raises(StreamError) as caught:
        await settled(bench.store.marks(state.incarnation, 2_500))
    assert caught.value.code == "STREAM_DAMAGED"
    bench.close()


async def test_a_stream_that_is_deleted_in_the_middle_of_a_read_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, recent_limit=0)
    state = await cold(bench, monkeypatch)
    await bench.run(Delete("/a"))
    await checkpointed(bench)
    await until(lambda: not (tmp_path / path_of(state.incarnation)).exists())
    with pytest.raises(NotFound):
        await settled(bench.store.read_bytes(state.incarnation, 0, 5_000))
    bench.close()


async def test_checkpoints_run_beside_appends_and_bound_the_log(tmp_path: Path) -> None:
    bench = Bench(tmp_path, checkpoint_bytes=100_000, recent_limit=0)
    for path in ("/a", "/b"):
        await bench.run(create(path, "application/json"))
    for number in range(400):
        await bench.run(
            append(
                "/a" if number % 2 else "/b", b'"%d%s"' % (number, b"x" * 5000), "application/json"
            )
        )
    assert len(list((tmp_path / "wal").iterdir())) <= 6
    await until(lambda: bench.store.meta.lsn > 100)
    state = bench.store.find("/b").result()
    assert state is not None
    read = bench.store.read_bytes(state.incarnation, 0, 5000)
    await settled(read)
    assert read.result().startswith(b'"0xxx')
    bench.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own elsewhere")
async def test_threads_that_read_go_behind_the_loop_and_commits_do_not() -> None:
    threads = Threads(asyncio.get_running_loop())
    found: dict[Lane, int] = {}

    def note(lane: Lane) -> Callable[[], None]:
        return lambda: found.update({lane: os.getpriority(os.PRIO_PROCESS, 0)})

    for lane in Lane:
        threads.submit(lane, note(lane), lambda _, error: None)
    threads.close()  # once all are done
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert found[Lane.COMMIT] == usual
    assert found[Lane.READ] == min(usual + 5, 19)


def test_what_comes_in_between_leaves_the_loop_time_to_wait() -> None:
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

        threads.in_between(lambda: done.set_result(None))
        turn()
        await done
        threads.close()
        return turns

    assert asyncio.run(count()) > 2
