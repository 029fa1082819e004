"""Tests of held bytes: a stream that reaches the system's limit of file size accepts no more bytes, and all other streams keep working."""

import errno
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams_server.errors import StorageFull, StreamError
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.decisions.quota import Usage
from durable_streams_server.storage.files import held
from durable_streams_server.storage.files.index import ROOM_FOR_HEADER
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.recent import Piece, Pieces
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run

TEXT = "text/plain"
LIMIT = 100_000
#: Options of a store whose segments and ballast are smaller than the file limit.
SMALL = {"segment_size": 32 * 1024, "max_unflushed": 12_000, "recent_limit": 0}


def refusal_code_of(store: FileStore, command: Command) -> str | None:
    """Executes a command, and returns the code of its refusal, or None if it succeeds."""
    try:
        run(store, command)
    except StreamError as refusal:
        return refusal.code
    return None


def limited(*, known: bool) -> tuple[SimulatedDisk, FileStore]:
    disk = new_disk()
    disk.largest, disk.tells_largest = LIMIT, known
    return disk, open_store(disk, **SMALL)


def test_encoded_document_of_unflushable_bytes_can_be_decoded() -> None:
    pieces = Pieces.of([Piece(5, b"one12"), Piece(8, b"two")])
    name = held.name_of(17)
    assert held.is_held(name)
    assert not held.is_held("subscription/held")
    assert held.incarnation_of(name) == 17
    found = held.decode(held.encode("/a", pieces))
    assert found == held.Held("/a", ((5, b"one12"), (8, b"two")))


def test_append_past_a_known_file_limit_is_refused_and_changes_nothing() -> None:
    disk, store = limited(known=True)
    run(store, create("/a", TEXT), create("/b", TEXT))
    size = 0
    while refusal_code_of(store, append("/a", b"x" * 1000, TEXT)) is None:
        size += 1000
    assert size == LIMIT
    last = store.wal.last_lsn
    assert refusal_code_of(store, append("/a", b"x", TEXT)) == "LARGEST_FILE"
    assert store.wal.last_lsn == last
    for _ in range(2):
        assert refusal_code_of(store, append("/b", b"y", TEXT)) is None
        store.run_checkpoint()
        assert content(store, "/a") == b"x" * LIMIT
        disk.lose_power()
        store = open_store(disk, **SMALL)
        assert refusal_code_of(store, append("/a", b"x", TEXT)) == "LARGEST_FILE"
    run(store, append("/a", b"", TEXT, closes=True))
    run(store, Delete("/a"))
    assert refusal_code_of(store, create("/a", TEXT, b"x")) is None


def test_file_limit_applies_to_the_index_too() -> None:
    _, store = limited(known=True)
    run(store, create("/a", TEXT))
    count = 0
    while refusal_code_of(store, append("/a", b"x", TEXT)) is None:
        count += 1
    assert LIMIT - ROOM_FOR_HEADER - 100 < 24 + 16 * count <= LIMIT
    assert store.failure is None


def fill_past_an_unknown_limit(store: FileStore) -> int:
    """Appends to a stream until a checkpoint has reached the file limit, and returns the number of accepted bytes."""
    run(store, create("/a", TEXT), create("/b", TEXT, b"y"))
    size = 0
    while refusal_code_of(store, append("/a", b"x" * 1500, TEXT)) is None:
        size += 1500
        if size > LIMIT - 3000:
            store.execute(
                append("/a", b"x" * 9000, TEXT), NOW
            )  # the next checkpoint reaches the limit
            store.commit_once()
            size += 9000
            store.run_checkpoint()
    return size


def test_usage_includes_held_bytes_after_a_restart() -> None:
    disk, store = limited(known=False)
    size = fill_past_an_unknown_limit(store)
    assert store.usage == Usage(2, size + 1)
    for _ in range(2):
        store.run_checkpoint()
        disk.lose_power()
        store = open_store(disk, **SMALL)
        assert store.ledger.held
        assert store.usage == Usage(2, size + 1)
    disk.largest = None  # now the log may grow
    store = open_store(disk, **SMALL)
    store.run_checkpoint()
    assert not store.ledger.held
    assert open_store(disk, **SMALL).usage == Usage(2, size + 1)
    run(store, Delete("/a"))
    assert store.usage == Usage(1, 1)


@pytest.mark.parametrize("restarted", [False, True])
def test_file_limit_found_by_checkpoint_blocks_only_one_stream(restarted: bool) -> None:
    disk, store = limited(known=False)
    size = fill_past_an_unknown_limit(store)
    assert size > LIMIT
    assert not store.ledger.found_disk_full
    assert store.failure is None
    for _ in range(3):
        assert content(store, "/a") == b"x" * size
        assert refusal_code_of(store, append("/a", b"x", TEXT)) == "LARGEST_FILE" or restarted
        for _ in range(40):  # long enough to reuse segments of the write-ahead log
            assert refusal_code_of(store, append("/b", b"y" * 500, TEXT)) is None
            store.run_checkpoint()
            run(store, Delete("/b"), create("/b", TEXT))
        assert store.meta.lsn == store.wal.last_lsn - 2
        if restarted:
            disk.lose_power()
            store = open_store(disk, **SMALL)
            assert content(store, "/a") == b"x" * size
            store.run_checkpoint()
    run(store, append("/a", b"", TEXT, closes=True))
    store.run_checkpoint()
    assert content(open_store(disk, **SMALL), "/a") == b"x" * size


def test_start_after_raising_file_limit_writes_held_back_bytes_to_log() -> None:
    disk, store = limited(known=False)
    size = fill_past_an_unknown_limit(store)
    assert any(map(held.is_held, dict(SimulatedCatalog(disk).documents())))
    store.close()
    disk.largest = None
    store = open_store(disk, **SMALL)
    assert content(store, "/a") == b"x" * size
    store.run_checkpoint()
    assert not any(map(held.is_held, dict(SimulatedCatalog(disk).documents())))
    run(store, append("/a", b"more", TEXT))
    store.run_checkpoint()
    store = open_store(disk, **SMALL)
    assert content(store, "/a") == b"x" * size + b"more"
    assert store.ledger.unflushed == 0


def test_stream_with_bytes_past_file_limit_can_be_deleted() -> None:
    disk, store = limited(known=False)
    fill_past_an_unknown_limit(store)
    run(store, Delete("/a"))
    store.run_checkpoint()
    assert not any(map(held.is_held, dict(SimulatedCatalog(disk).documents())))
    assert store.ledger.unflushed == 0
    assert store.ledger.held == {}
    store = open_store(disk, **SMALL)
    assert refusal_code_of(store, create("/a", TEXT, b"again")) is None
    assert content(store, "/a") == b"again"


def test_stream_with_bytes_past_file_limit_is_not_evicted() -> None:
    disk, store = limited(known=False)
    size = fill_past_an_unknown_limit(store)
    store.close()
    store = open_store(disk, **SMALL, max_loaded=1)
    for number in range(20):
        run(store, create(f"/{number}", TEXT, b"z"))
        store.run_checkpoint()
        store.states.evict_idle()
    assert content(store, "/a") == b"x" * size


def test_power_loss_loses_no_bytes_past_file_limit() -> None:
    for seed in range(60):
        disk, store = limited(known=False)
        disk.chance = random.Random(seed)
        run(store, create("/a", TEXT), create("/b", TEXT, b"y"))
        run(store, *(append("/a", b"x" * 10_000, TEXT) for _ in range(9)))
        store.run_checkpoint()
        tickets = [store.execute(append("/a", b"x" * size, TEXT), NOW) for size in (9_000, 2_500)]
        store.commit_once()
        for ticket in tickets:
            ticket.result()
        at = disk.calls + seed // 3

        def fail(_: str, disk: SimulatedDisk = disk, at: int = at) -> None:
            if disk.calls == at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        disk.before = fail
        try:
            store.run_checkpoint()
        except OSError:
            assert store.failure is not None
        disk.before = lambda _: None
        disk.lose_power()
        store = open_store(disk, **SMALL)
        assert content(store, "/a") == b"x" * 101_500
        store.run_checkpoint()
        assert content(open_store(disk, **SMALL), "/a") == b"x" * 101_500


def test_copy_of_catalog_never_exceeds_file_limit() -> None:
    disk, store = limited(known=True)
    for number in range(4 * LIMIT // 300):
        run(store, create(f"/{number % 7}", TEXT))
        run(store, Delete(f"/{number % 7}"))
        store.run_checkpoint()
        assert store.failure is None
    store.run_checkpoint()
    assert store.ledger.obstacle is None
    assert store.meta.lsn == store.wal.last_lsn
    assert (disk.size("catalog/copy") or 0) <= LIMIT


LIMITED = """
import resource, sys
from durable_streams_server import FileBackedStreamStore
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
store = FileBackedStreamStore(sys.argv[1], wal_size=int(sys.argv[3]))
"""


def run_limited(path: Path, limit: int, wal_size: int, script: str) -> str:
    """Runs a script in another process with a real file limit and a store, and returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + script, str(path), str(limit), str(wal_size)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_file_limit_of_process_blocks_only_one_stream(tmp_path: Path) -> None:
    script = """
store.create("/a", "text/plain")
store.create("/b", "text/plain")
size = 0
try:
    while True:
        store.append("/a", b"x" * 300_000)
        size += 300_000
except Exception as error:
    print(size, error.code)
store.append("/b", b"y")
store.close()
store = FileBackedStreamStore(sys.argv[1], wal_size=int(sys.argv[3]))
try:
    store.append("/a", b"x" * 300_000)
except Exception as error:
    print(error.code)
store.append("/b", b"y")
store.close()
print("closed")
"""
    said = run_limited(tmp_path, 10 << 20, 12 << 20, script)
    assert said == "10200000 LARGEST_FILE\nLARGEST_FILE\nclosed\n"


def test_segment_larger_than_the_file_limit_is_refused_in_one_line(tmp_path: Path) -> None:
    said = run_limited(tmp_path, 1 << 20, 12 << 20, "")
    assert said.splitlines()[-1].endswith(
        "a segment of the write-ahead log has 2097152 bytes, but the system allows no file over 1048576 (see ulimit -f): "
        "raise that limit, or set a smaller log"
    )
    assert not (tmp_path / "wal" / "000").exists()


def test_disk_returns_the_file_limit_of_the_system() -> None:
    largest = SystemDisk(Path(__file__).parent).largest_file()
    assert largest is None or largest >= 1 << 31
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (123_456_789, hard))
        assert SystemDisk(Path(__file__).parent).largest_file() == 123_456_789
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_log_is_refused_with_507() -> None:
    refusal = held.log_full()
    assert isinstance(refusal, StorageFull)
    assert (refusal.status, refusal.code) == (507, "LARGEST_FILE")
