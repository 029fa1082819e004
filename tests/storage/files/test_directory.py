"""A data directory: one process, one known format, and nothing that is not ours."""

import errno
import os
import random
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.storage.files.directory import (
    DirectoryInUse,
    DirectoryRefused,
    prepare,
)
from durable_streams_server.storage.files.disk import SystemDisk
from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk
from tests.requests import append, create
from tests.storage.files.stores import content, new_disk, open_store, run

SEGMENT = 1 << 20


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with (
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT),
        pytest.raises(DirectoryRefused, match="in use by another process"),
    ):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()


@pytest.mark.parametrize(
    "text", [b"", b"durable-streams-server data, format 2\n", b"something else\n"]
)
def test_an_unknown_format_is_refused(tmp_path: Path, text: bytes) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    (tmp_path / "FORMAT").write_bytes(text)
    with pytest.raises(DirectoryRefused, match="does not know"):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)


def test_a_directory_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DirectoryRefused, match="not empty"):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)


def test_a_store_that_has_lost_its_format_file_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    (tmp_path / "FORMAT").unlink()
    with pytest.raises(DirectoryRefused, match="no FORMAT"):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)


@pytest.mark.parametrize("there", [True, False])
def test_a_directory_that_must_be_a_store_is_not_made_one(
    tmp_path: Path, there: bool
) -> None:  # TRAPS 15
    path = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(DirectoryRefused, match="holds no store"):
        FileBackedStreamStore(path, create=False, segment_size=SEGMENT)
    assert list(tmp_path.iterdir()) == []


def test_without_file_handles_a_start_fails_and_loses_nothing() -> None:  # TRAPS 15
    disk = new_disk()
    run(open_store(disk), create("/a", "text/plain"), append("/a", b"x", "text/plain"))

    def none_left(name: str) -> None:
        if name == "open":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

    disk.before = none_left
    with pytest.raises(OSError, match="Too many open files"):
        open_store(disk)
    disk.before = lambda _: None
    assert content(open_store(disk), "/a") == b"x"


def test_a_start_costs_the_same_for_any_number_of_streams() -> None:  # TRAPS 18
    calls = []
    for streams in (10, 2000):
        disk = new_disk()
        store = open_store(disk)
        run(store, *(create(f"/{number}", "text/plain", b"x") for number in range(streams)))
        store.close()
        before = disk.calls
        open_store(disk)
        calls.append(disk.calls - before)
    assert calls[0] == calls[1]


def test_who_only_looks_writes_no_checkpoint_however_much_the_log_has() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a"), *(append("/a", b"x" * 1000) for _ in range(10)))
    looking = open_store(disk, readonly=True, max_unflushed=2000)
    assert (looking.meta.lsn, content(looking, "/a")) == (store.meta.lsn, b"x" * 10_000)
    assert open_store(disk, max_unflushed=2000).meta.lsn > store.meta.lsn


def test_looking_at_a_directory_changes_nothing_in_it(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    disk = SystemDisk(tmp_path, readonly=True)
    prepare(disk, "data", readonly=True)
    disk.release()
    (tmp_path / "LOCK").unlink()
    before.pop(tmp_path / "LOCK")
    before[tmp_path] = tmp_path.stat().st_mtime_ns
    prepare(disk, "data", readonly=True)
    disk.release()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}


def test_looking_at_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT),
        pytest.raises(DirectoryInUse, match="in use by another process"),
    ):
        prepare(SystemDisk(tmp_path, readonly=True), "data", readonly=True)


@pytest.mark.parametrize("there", [True, False])
def test_looking_at_a_directory_without_a_store_makes_none(tmp_path: Path, there: bool) -> None:
    path = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(DirectoryRefused, match="holds no store"):
        prepare(SystemDisk(path, readonly=True), "data", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_directories_on_the_way_are_made(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path / "a" / "b", segment_size=SEGMENT) as store:
        store.create("/x")
    assert SystemDisk(tmp_path / "a" / "b").exists("FORMAT")


@pytest.mark.parametrize("call", range(1, 12))
def test_a_crash_while_it_is_laid_out_can_be_repeated(call: int) -> None:  # TRAPS 16
    disk = SimulatedDisk(random.Random(call))

    def crash(_: str) -> None:
        if disk.calls == call:
            raise PowerLoss

    disk.before = crash
    try:
        prepare(disk, "data")
    except PowerLoss:
        disk.lose_power()
        disk.before = lambda _: None
        prepare(disk, "data")
    disk.lose_power()
    assert disk.exists("FORMAT")
