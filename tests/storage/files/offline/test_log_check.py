"""Tests of the comparison of one log with its index and its catalog entry."""

import pytest

from durable_streams_server.storage.files.catalog import Entry
from durable_streams_server.storage.files.log_layout import KEPT, path_of
from durable_streams_server.storage.files.offline.log_check import harm_of_log, is_rest_kept
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import append, create
from tests.storage.files.catalog.values import entry_of_empty_stream
from tests.storage.files.stores import new_disk, open_store, run

TEXT = "text/plain"


@pytest.fixture
def disk() -> SimulatedDisk:
    """A disk with one stream, the log of which has two appends of five bytes."""
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT, b"first"), append("/a", b"other", TEXT))
    store.run_checkpoint()
    return disk


def entry_of(disk: SimulatedDisk) -> Entry:
    entry = SimulatedCatalog(disk).find("/a")
    assert entry is not None
    return entry


def test_no_harm_is_reported_for_intact_log(disk: SimulatedDisk) -> None:
    assert harm_of_log(disk, "/a", entry_of(disk)) is None


def test_stream_without_bytes_needs_no_log(disk: SimulatedDisk) -> None:
    assert harm_of_log(disk, "/empty", entry_of_empty_stream(77)) is None


def test_appends_before_flipped_bit_are_intact(disk: SimulatedDisk) -> None:
    entry = entry_of(disk)
    disk.corrupt(path_of(entry.incarnation), 7, 0)
    harm = harm_of_log(disk, "/a", entry)
    assert harm is not None
    assert (harm.end, harm.entries, harm.is_header) == (5, 1, False)


@pytest.mark.parametrize("suffix", ["", ".idx"])
def test_nothing_is_intact_if_log_or_index_is_missing(disk: SimulatedDisk, suffix: str) -> None:
    entry = entry_of(disk)
    disk.unlink(path_of(entry.incarnation) + suffix)
    harm = harm_of_log(disk, "/a", entry)
    assert harm is not None
    assert (harm.end, harm.entries) == (0, 0)
    assert "is missing" in harm.what


def test_damaged_index_header_harms_no_bytes(disk: SimulatedDisk) -> None:
    entry = entry_of(disk)
    disk.corrupt(path_of(entry.incarnation) + ".idx", 3, 0)
    harm = harm_of_log(disk, "/a", entry)
    assert harm is not None
    assert (harm.end, harm.entries, harm.is_header) == (10, 2, True)


def test_index_of_another_stream_is_reported(disk: SimulatedDisk) -> None:
    harm = harm_of_log(disk, "/b", entry_of(disk))
    assert harm is not None
    assert harm.what == "it is the index of /a"


def test_check_accepts_bytes_in_separate_file_only_if_intact(disk: SimulatedDisk) -> None:
    name = path_of(entry_of(disk).incarnation)
    run(open_store(disk), append("/a", b" more", TEXT))
    disk.corrupt(name + ".idx", 3, 0)
    open_store(disk).run_checkpoint()
    harm = harm_of_log(disk, "/a", entry_of(disk))
    assert harm is not None
    assert is_rest_kept(disk, harm)
    disk.corrupt(name + KEPT, 2, 0)
    assert not is_rest_kept(disk, harm)
    disk.unlink(name + KEPT)
    assert not is_rest_kept(disk, harm)
