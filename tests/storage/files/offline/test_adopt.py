"""Tests of adding streams to a lost or outdated catalog from their logs."""

import random

from durable_streams_server.storage.files.catalog import Drop, Put
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.offline.adopt import UNKNOWN, adopt_logs
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, append, create, fork_of
from tests.storage.files.stores import content, new_disk, open_store, run

TEXT = "text/plain"
LATER = NOW + 10**9


def disk_with_fork() -> SimulatedDisk:
    """Returns a disk with a stream, a fork of it, and an empty stream."""
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT, b"first", public=True))
    run(store, create("/fork", None, fork=fork_of("/a")))
    run(store, append("/fork", b" own", TEXT), create("/empty", TEXT))
    store.run_checkpoint()
    return disk


def forget(disk: SimulatedDisk, *paths: str) -> None:
    """Removes streams from the catalog without deleting their logs."""
    catalog = SimulatedCatalog(disk)
    drops: list[Put | Drop] = []
    for path in paths:
        entry = catalog.find(path)
        assert entry is not None
        drops.append(Drop(path, entry.incarnation))
    numbers = [drop.incarnation for drop in drops if isinstance(drop, Drop)]
    catalog.commit(catalog.meta(), drops, numbers)


def test_lost_streams_and_forks_are_rebuilt_from_their_logs() -> None:
    disk = disk_with_fork()
    before = {path: SimulatedCatalog(disk).find(path) for path in ("/a", "/fork")}
    forget(disk, "/fork", "/a", "/empty")
    said = "\n".join(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    assert UNKNOWN in said
    assert "/a: it is made again from its log" in said
    for path, old in before.items():
        new = SimulatedCatalog(disk).find(path)
        assert new is not None
        assert old is not None
        assert (new.incarnation, new.media, new.lifetime) == (
            old.incarnation,
            old.media,
            old.lifetime,
        )
        assert (new.extent, new.children, new.origin) == (old.extent, old.children, old.origin)
        assert new.public == old.public == (path == "/a")
    assert SimulatedCatalog(disk).find("/empty") is None
    store = open_store(disk)
    assert content(store, "/fork") == b"first own"


def test_second_run_of_adopt_logs_changes_nothing() -> None:
    disk = disk_with_fork()
    forget(disk, "/fork", "/a")
    list(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    commits = SimulatedCatalog(disk).meta().commits
    said = list(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    assert said == [f"catalog: {UNKNOWN}"]
    assert SimulatedCatalog(disk).meta().commits == commits


def test_outdated_catalog_entry_gets_tail_of_its_log() -> None:
    disk = disk_with_fork()
    catalog = SimulatedCatalog(disk)
    old = catalog.find("/a")
    assert old is not None
    store = open_store(disk)
    run(store, append("/a", b" and more", TEXT))
    store.run_checkpoint()
    catalog = SimulatedCatalog(disk)
    catalog.commit(catalog.meta(), [Put("/a", old, {})], [])
    said = list(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    assert "/a: its log goes on to position 14" in said
    assert content(open_store(disk), "/a") == b"first and more"


def test_fork_of_lost_source_is_reported_and_not_rebuilt() -> None:
    disk = disk_with_fork()
    entry = SimulatedCatalog(disk).find("/a")
    assert entry is not None
    forget(disk, "/fork", "/a")
    disk.unlink(path_of(entry.incarnation))
    said = list(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    assert "/fork: it cannot be made again, since its source /a is lost" in said
    assert SimulatedCatalog(disk).find("/fork") is None


def test_log_of_earlier_stream_at_same_path_is_ignored() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT, b"old"))
    store.run_checkpoint()
    old = SimulatedCatalog(disk).find("/a")
    assert old is not None
    kept = disk.content(path_of(old.incarnation)), disk.content(path_of(old.incarnation) + ".idx")
    run(store, create("/b", TEXT, b"b"))
    forget(disk, "/a")
    store = open_store(disk)
    run(store, create("/a", TEXT, b"new"), now=LATER)
    store.run_checkpoint()
    assert kept[0] == b"old"
    list(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    assert content(open_store(disk), "/a") == b"new"


def test_log_with_damaged_index_header_is_ignored() -> None:
    disk = disk_with_fork()
    entry = SimulatedCatalog(disk).find("/fork")
    assert entry is not None
    forget(disk, "/fork")
    disk.corrupt(path_of(entry.incarnation) + ".idx", random.Random(0).randrange(16, 60), 3)
    list(adopt_logs(disk, SimulatedCatalog(disk), LATER))
    assert SimulatedCatalog(disk).find("/fork") is None
