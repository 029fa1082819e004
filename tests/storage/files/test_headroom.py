"""Tests of head-room: deletes succeed on a full disk, free space, and let writes resume."""

import logging
import random

import pytest

from durable_streams_server.errors import StorageFull, StreamError
from durable_streams_server.protocol.commands import Command, Delete, Expire
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    SoftDeleted,
    Touched,
)
from durable_streams_server.protocol.subscriptions.changes import (
    Config,
    CursorsMoved,
    KeysKept,
    Missed,
    News,
    NewsTaken,
    Relinked,
    Subscribed,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from durable_streams_server.storage.files.directory import prepare
from durable_streams_server.storage.files.headroom import (
    BALLAST,
    Claim,
    Headroom,
    ballast_size,
    claim_of,
    give_way,
)
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, SECOND, append, create
from tests.storage.files.stores import content, new_disk, open_store, run

TEXT = "text/plain"
KIB = 1024
#: Options of a store with 96 KiB of write-ahead log, at most 48 KiB of unflushed bytes, and 72 KiB of ballast.
SMALL = {"segment_size": 16 * KIB, "max_unflushed": 48 * KIB, "checkpoint_bytes": 12 * KIB}
CAPACITY = 400 * KIB

CREATED = Created("/a", 1, parse_media_type(TEXT), FOREVER, NOW)
DATA = Appended("/a", 1, 0, b"x", False, NOW)
CLOSE = Appended("/a", 1, 1, b"", True, NOW)
CONFIG = Config("pull-wake", "*", (), None, "/w", 1000, None)
CLAIMS: list[tuple[tuple[Change, ...], Claim]] = [
    ((CREATED,), Claim.ORDINARY),
    ((CREATED, CLOSE), Claim.ORDINARY),
    ((Removed("/a", 1), CREATED), Claim.ORDINARY),
    ((DATA,), Claim.ORDINARY),
    ((Appended("/a", 1, 0, b"x", True, NOW),), Claim.ORDINARY),
    ((CLOSE, DATA), Claim.ORDINARY),
    ((Subscribed("s", 1, CONFIG, NOW),), Claim.ORDINARY),
    ((KeysKept((Key("k", b"s" * 32, b"t" * 32, NOW),)),), Claim.ORDINARY),
    ((Relinked("s", ("/a",), ()),), Claim.ORDINARY),
    ((Touched("/a", 1, NOW),), Claim.UPKEEP),
    ((CursorsMoved("s", (("/a", Offset(1, 1)),)), WakeChanged("s", 2, None)), Claim.UPKEEP),
    ((WakeChanged("s", 2, Wake("w")),), Claim.UPKEEP),
    ((CursorsMoved("s", (), ("/v1/stream", 3)), NewsTaken(3)), Claim.UPKEEP),
    ((Missed("s", 3, 0, ""),), Claim.UPKEEP),
    ((DATA, News("/a", 3, Offset(1, 1))), Claim.ORDINARY),
    ((Removed("/a", 1), News("/a", 3, None)), Claim.ENDING),
    ((Relinked("s", (), ("/a",)),), Claim.UPKEEP),
    ((CLOSE,), Claim.ENDING),
    ((Removed("/a", 1),), Claim.ENDING),
    ((SoftDeleted("/a", 1),), Claim.ENDING),
    ((Unsubscribed("s", 1),), Claim.ENDING),
    (
        (Removed("/a", 1), DATA, CursorsMoved("s", ())),
        Claim.ENDING,
    ),  # a delete, with its event in the registry
]


@pytest.mark.parametrize(("changes", "claim"), CLAIMS)
def test_kind_of_change_decides_how_much_reserve_record_may_use(
    changes: tuple[Change, ...], claim: Claim
) -> None:
    assert claim_of(changes) is claim
    assert [each.leaves(100) for each in (Claim.ORDINARY, Claim.UPKEEP, Claim.ENDING)] == [
        100,
        50,
        0,
    ]


def small_store(capacity: int = CAPACITY) -> tuple[SimulatedDisk, FileStore]:
    disk = SimulatedDisk(random.Random(0), capacity)
    prepare(disk, "data")
    return disk, open_store(disk, **SMALL)


def fill(store: FileStore, streams: int = 4) -> dict[str, int]:
    """Appends to streams until the store refuses writes, and returns the accepted bytes of each stream."""
    sizes = {f"/{number}": 0 for number in range(streams)}
    for path in sizes:
        run(store, create(path, TEXT))
    for number in range(10_000):
        path = f"/{number % streams}"
        if is_refused_for_room(store, append(path, b"x" * 2000, TEXT)):
            return sizes
        sizes[path] += 2000
    raise AssertionError("the disk never became full")


def is_refused_for_room(store: FileStore, command: Command) -> bool:
    """Executes a command, and returns whether the store refused it for lack of room."""
    try:
        run(store, command)
    except StorageFull:
        return True
    return False


def check(store: FileStore, sizes: dict[str, int]) -> None:
    for path, size in sizes.items():
        assert content(store, path) == b"x" * size


@pytest.mark.parametrize("restarted", [False, True])
def test_delete_on_a_full_disk_frees_space_and_writes_resume(restarted: bool) -> None:
    disk, store = small_store()
    sizes = fill(store)
    if restarted:
        disk.lose_power()
        store = open_store(disk, **SMALL)
        check(store, sizes)
        assert is_refused_for_room(store, append("/1", b"x" * 2000, TEXT))
    incarnation = store.states["/0"].incarnation
    assert disk.exists(path_of(incarnation))
    run(store, Delete("/0"))
    del sizes["/0"]
    run(store, Delete("/1"))
    del sizes["/1"]
    store.run_checkpoint()
    assert not disk.exists(path_of(incarnation))
    assert not store.ledger.found_disk_full
    assert disk.exists(BALLAST)
    run(store, append("/2", b"x" * 2000, TEXT))
    sizes["/2"] += 2000
    check(store, sizes)
    disk.lose_power()
    check(open_store(disk, **SMALL), sizes)


def test_ordinary_writes_on_a_full_disk_are_refused_and_change_nothing() -> None:
    _, store = small_store()
    sizes = fill(store)
    last = store.wal.last_lsn
    for command in (
        append("/0", b"x", TEXT),
        append("/0", b"x", TEXT, closes=True),
        create("/new", TEXT),
    ):
        assert is_refused_for_room(store, command)
    assert store.wal.last_lsn == last
    check(store, sizes)


def test_close_and_expiry_succeed_on_a_full_disk() -> None:
    disk, store = small_store()
    run(store, create("/mortal", TEXT, lifetime=Lifetime(ttl=10)))
    fill(store)
    later = NOW + 20 * SECOND
    run(store, append("/0", b"", TEXT, closes=True))
    ((path, incarnation),) = store.due(later)
    run(store, Expire(path, incarnation), now=later)
    assert store.states["/0"].closed
    assert "/mortal" not in set(store.paths())
    disk.lose_power()
    again = open_store(disk, **SMALL)
    assert again.states["/0"].closed
    assert "/mortal" not in set(again.paths())


def test_writes_resume_when_other_programs_free_disk_space() -> None:
    disk, store = small_store()
    fill(store)
    disk.capacity = 2 * CAPACITY
    assert store.ledger.checkpoint_is_due, "nobody would look again"
    store.run_checkpoint()
    run(store, append("/0", b"x", TEXT))


def test_store_checks_disk_space_again_after_refusing_synchronous_call() -> None:
    disk, store = small_store()
    fill(store)
    disk.capacity = 2 * CAPACITY
    assert is_refused_for_room(
        store, append("/0", b"x", TEXT)
    )  # the call makes the store check for room
    assert not is_refused_for_room(store, append("/0", b"x", TEXT))


def test_store_logs_start_and_end_of_full_disk_in_one_line_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    disk, store = small_store()
    fill(store)
    for _ in range(20):
        assert is_refused_for_room(store, append("/0", b"x", TEXT))
    assert [record.getMessage() for record in caplog.records] == [
        "the disk is full: until it has 1 MiB of room, writes are refused; reads, deletes and closes go on"
    ]
    caplog.clear()
    disk.capacity = 2 * CAPACITY
    store.run_checkpoint()
    store.run_checkpoint()
    assert [record.getMessage() for record in caplog.records] == [
        "the disk has room again: writes are accepted"
    ]


def test_every_stream_can_be_deleted_however_full_the_disk_is() -> None:
    for capacity in range(
        250 * KIB, 420 * KIB, 7 * KIB
    ):  # the disk becomes full at many different moments
        disk, store = small_store(capacity)
        sizes = fill(store, streams=7)
        for path in sizes:
            run(store, Delete(path))
        store.run_checkpoint()
        assert not store.ledger.found_disk_full, capacity
        run(store, create("/again", TEXT, b"y"))
        assert content(store, "/again") == b"y"
        assert disk.exists(BALLAST)


def test_delete_without_ballast_frees_its_log_before_other_bytes_are_flushed() -> None:
    disk, store = small_store()
    sizes = fill(store)
    disk.capacity = disk.used  # another program has taken the space of the ballast
    run(store, Delete("/0"))
    del sizes["/0"]
    assert disk.used < disk.capacity
    disk.lose_power()
    again = open_store(disk, **SMALL)
    assert "/0" not in set(again.paths())
    check(again, sizes)


def test_crash_between_deleting_log_and_committing_catalog_damages_no_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, store = small_store()
    sizes = fill(store)
    incarnation = store.states["/0"].incarnation
    disk.capacity = 0  # no write succeeds
    run(store, Delete("/0"))
    del sizes["/0"]
    store.run_checkpoint()
    assert store.meta.lsn < store.wal.last_lsn
    assert not disk.exists(path_of(incarnation))
    disk.capacity = CAPACITY  # the process is killed here
    for _ in range(2):
        store = open_store(disk, **SMALL)
        check(store, sizes)
        assert "/0" not in set(store.paths())
        store.run_checkpoint()
    assert not [record for record in caplog.records if "damaged" in record.getMessage()]


def test_reserve_of_the_log_has_room_for_many_deletes() -> None:
    disk, store = small_store()
    streams = 60
    for number in range(streams):
        run(store, create(f"/{number}", TEXT))
    disk.capacity = 0
    store.headroom.give_up_ballast()
    for number in range(streams):
        run(store, Delete(f"/{number}"))
    assert list(store.paths()) == []


def test_lifetime_records_leave_half_of_reserve_for_deletes() -> None:
    disk = new_disk()
    store = open_store(disk, segment_size=64 * KIB)
    run(store, create("/a", TEXT), create("/b", TEXT, lifetime=Lifetime(ttl=10)))
    while not is_refused_without_checkpoint(store, append("/a", b"x" * 3000, TEXT)):
        pass  # until the log is full, without a checkpoint
    state = store.states["/b"]
    for number in range(1, 3000):
        store.touch(state, NOW + number * SECOND)
        store.commit_once()
    before = store.wal.last_lsn
    store.touch(state, NOW + 5000 * SECOND)
    assert store.wal.last_lsn == before, "uses have no bound"
    assert not is_refused_without_checkpoint(store, Delete("/a"))


def is_refused_without_checkpoint(store: FileStore, command: Command) -> bool:
    """Executes a command without making a checkpoint, and returns whether the store refused it."""
    ticket = store.execute(command, NOW)
    store.commit_once()
    try:
        ticket.result()
    except StreamError:
        return True
    return False


def test_deleting_large_stream_makes_checkpoint_due() -> None:
    store = open_store(new_disk(), max_unflushed=40_000)  # 15,000 new bytes make a checkpoint due
    run(store, create("/a", TEXT, b"x" * 15_000), create("/b", TEXT, b"x"))
    store.run_checkpoint()
    for path, is_due in (("/b", False), ("/a", True)):
        assert not is_refused_without_checkpoint(store, Delete(path))
        assert store.ledger.checkpoint_is_due is is_due
    store.run_checkpoint()
    assert not store.ledger.checkpoint_is_due


def test_ballast_size_is_one_and_a_half_times_unflushed_limit() -> None:
    assert ballast_size(64 << 20, 480 << 20) == 96 << 20
    assert ballast_size(64 << 20, 6 << 20) == 9 << 20


def test_ballast_of_another_size_is_resized() -> None:
    disk = new_disk()
    for size in (3000, 5000, 2000):
        headroom = Headroom(disk, size)
        headroom.make_ballast()
        assert disk.size(BALLAST) == size
        assert not headroom.is_low


def test_ballast_is_deleted_before_a_directory_is_opened_on_a_full_disk() -> None:
    disk = new_disk()
    Headroom(disk, 1000).make_ballast()
    give_way(disk)
    assert disk.exists(BALLAST)
    disk.capacity = 1 << 30
    give_way(disk)
    assert disk.exists(BALLAST)
    disk.capacity = disk.used + 5000
    give_way(disk)
    assert not disk.exists(BALLAST)


def test_ballast_is_deleted_to_allocate_the_second_segment() -> None:
    disk, store = small_store()
    run(store, create("/a", TEXT, b"x"))
    store.close()
    disk.unlink("wal/001")  # a backup was restored without this file
    disk.capacity = disk.used
    store = open_store(disk, **SMALL)
    assert disk.names("wal") == ["000", "001"]
    assert not disk.exists(BALLAST)
    assert is_refused_for_room(store, append("/a", b"x", TEXT))
    run(store, Delete("/a"))
    disk.capacity = CAPACITY
    store.run_checkpoint()
    run(store, create("/b", TEXT, b"x"))
    assert disk.exists(BALLAST)


def test_store_refuses_writes_until_disk_has_room_for_two_segments() -> None:
    disk = SimulatedDisk(random.Random(0), 30 * KIB)
    prepare(disk, "data")
    store = open_store(disk, **SMALL)
    assert is_refused_for_room(store, create("/a", TEXT))
    disk.capacity = CAPACITY
    store.run_checkpoint()
    run(store, create("/a", TEXT))


def test_disk_with_room_for_ballast_and_two_segments_does_not_count_as_full() -> None:
    disk, store = small_store(32 * KIB + 72 * KIB + 60 * KIB)  # room for two of the six segments
    for number in range(40):
        run(store, create(f"/{number}", TEXT, b"x" * 3000))
        run(store, Delete(f"/{number}"))
    assert len(disk.names("wal")) < 6
    assert not store.headroom.is_low
