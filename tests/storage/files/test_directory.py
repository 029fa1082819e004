"""Tests of opening a data directory: one process owns it, its format is known, and it has no foreign files."""

import contextlib
import errno
import os
import random
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.storage.files.directory import (
    DirectoryInUse,
    DirectoryRefused,
    UnknownFormat,
    prepare,
)
from durable_streams_server.storage.files.place import DirectoryLost
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.ticket import Abandoned
from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run

SEGMENT = 1 << 20


def test_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT),
        pytest.raises(DirectoryRefused, match="in use by another process"),
    ):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()


@pytest.mark.parametrize(
    "text", [b"", b"durable-streams-server data, format 3\n", b"something else\n"]
)
def test_unknown_format_is_refused(tmp_path: Path, text: bytes) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    (tmp_path / "FORMAT").write_bytes(text)
    for _ in range(2):  # a refusal releases the lock, so the second attempt meets the same error
        with pytest.raises(UnknownFormat, match="does not know"):
            FileBackedStreamStore(tmp_path, segment_size=SEGMENT)


def test_directory_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DirectoryRefused, match="not empty"):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_store_without_its_format_file_is_refused(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    (tmp_path / "FORMAT").unlink()
    with pytest.raises(DirectoryRefused, match="no FORMAT"):
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT)


@pytest.mark.parametrize("there", [True, False])
def test_open_without_create_requires_a_store(tmp_path: Path, there: bool) -> None:  # TRAPS 15
    path = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(DirectoryRefused, match="holds no store"):
        FileBackedStreamStore(path, create=False, segment_size=SEGMENT)
    assert list(tmp_path.iterdir()) == []


def test_start_without_file_handles_fails_and_loses_nothing() -> None:  # TRAPS 15
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


def test_start_makes_the_same_disk_calls_for_any_number_of_streams() -> None:  # TRAPS 18
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


def test_read_only_store_writes_no_checkpoint() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a"), *(append("/a", b"x" * 1000) for _ in range(10)))
    looking = open_store(disk, readonly=True, max_unflushed=2000)
    assert (looking.meta.lsn, content(looking, "/a")) == (store.meta.lsn, b"x" * 10_000)
    assert open_store(disk, max_unflushed=2000).meta.lsn > store.meta.lsn


def test_read_only_open_changes_nothing_in_the_directory(tmp_path: Path) -> None:
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


def test_read_only_open_of_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        FileBackedStreamStore(tmp_path, segment_size=SEGMENT),
        pytest.raises(DirectoryInUse, match="in use by another process"),
    ):
        prepare(SystemDisk(tmp_path, readonly=True), "data", readonly=True)


@pytest.mark.parametrize("there", [True, False])
def test_read_only_open_creates_no_store(tmp_path: Path, there: bool) -> None:
    path = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(DirectoryRefused, match="holds no store"):
        prepare(SystemDisk(path, readonly=True), "data", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_store_opens_from_backup_without_empty_directories(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    (tmp_path / "logs").rmdir()
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        store.create("/a", "text/plain")
        store.append("/a", b"x")
        store.run_checkpoint()
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        assert store.read("/a").data == b"x"


def test_open_creates_missing_parent_directories(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path / "a" / "b", segment_size=SEGMENT) as store:
        store.create("/x")
    assert SystemDisk(tmp_path / "a" / "b").exists("FORMAT")


OLD = b"durable-streams-server data, format 1\n"
NEW = b"durable-streams-server data, format 2\n"


def directory_of_format_1(seed: int = 0) -> SimulatedDisk:
    """Returns a disk with a store of the first format, and one stream in it."""
    disk = new_disk(seed)
    run(open_store(disk), create("/a", "text/plain"), append("/a", b"x", "text/plain"))
    file = disk.open("FORMAT")
    file.write(OLD, 0)
    file.sync()
    return disk


def test_directory_of_format_1_is_upgraded_to_format_2() -> None:
    disk = directory_of_format_1()
    prepare(disk, "data")
    assert disk.content("FORMAT") == NEW
    assert not disk.exists("FORMAT.new")
    disk.lose_power()
    assert disk.content("FORMAT") == NEW
    assert content(open_store(disk), "/a") == b"x"


def test_read_only_open_accepts_both_formats_and_changes_neither(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    for text in (OLD, NEW):
        (tmp_path / "FORMAT").write_bytes(text)
        disk = SystemDisk(tmp_path, readonly=True)
        prepare(disk, "data", readonly=True)
        disk.release()
        assert (tmp_path / "FORMAT").read_bytes() == text
    (tmp_path / "FORMAT").write_bytes(b"what is this\n")
    with pytest.raises(UnknownFormat, match="does not know"):
        prepare(SystemDisk(tmp_path, readonly=True), "data", readonly=True)


@pytest.mark.parametrize("call", range(1, 12))
def test_power_loss_during_an_upgrade_leaves_the_old_or_the_new_format(call: int) -> None:
    for seed in range(10):
        disk = directory_of_format_1(seed)
        last = disk.calls + call

        def crash(_: str, disk: SimulatedDisk = disk, last: int = last) -> None:
            if disk.calls == last:
                raise PowerLoss

        disk.before = crash
        with contextlib.suppress(PowerLoss):
            prepare(disk, "data")
        disk.before = lambda _: None
        disk.lose_power()
        assert disk.content("FORMAT") in (OLD, NEW)
        prepare(disk, "data")
        assert disk.content("FORMAT") == NEW


@pytest.mark.parametrize("call", ["write", "sync"])
def test_upgrade_on_a_full_disk_overwrites_format_file_in_place(call: str) -> None:
    disk = directory_of_format_1()
    full = iter([OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "FORMAT.new")])

    def fill(name: str) -> None:
        if name == call and (error := next(full, None)):
            raise error

    disk.before = fill
    prepare(disk, "data")
    assert disk.content("FORMAT") == NEW
    assert not disk.exists("FORMAT.new")


def test_new_store_on_a_full_disk_is_refused() -> None:
    disk = SimulatedDisk(random.Random(1))

    def fill(name: str) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "FORMAT.new")

    disk.before = fill
    with pytest.raises(OSError, match="No space left"):
        prepare(disk, "data")
    assert not disk.exists("FORMAT")


@pytest.mark.parametrize(
    "name",
    ["FORMAT.new", "FORMAT", "LOCK", "wal/000", "catalog/data.mdb", "catalog/lock.mdb"],
)
@pytest.mark.parametrize("new", [True, False])
def test_open_follows_no_link_out_of_the_directory(tmp_path: Path, name: str, new: bool) -> None:
    path, target = tmp_path / "data", tmp_path / "precious"
    if new:
        (path / name).parent.mkdir(parents=True)
    else:
        FileBackedStreamStore(path, segment_size=SEGMENT).close()
        (path / "FORMAT").write_bytes(OLD)
        (path / name).unlink(missing_ok=True)
    target.write_bytes(b"precious")
    (path / name).symlink_to(target)
    if name == "FORMAT.new":
        FileBackedStreamStore(path, segment_size=SEGMENT).close()
        assert (path / "FORMAT").read_bytes() == NEW
        assert not (path / "FORMAT").is_symlink()
    else:
        with pytest.raises((OSError, DirectoryRefused), match=f"symbolic link: .*{name}|FORMAT"):
            FileBackedStreamStore(path, segment_size=SEGMENT)
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("mode", "who"),
    [
        (0o700, None),
        (0o755, None),
        (0o770, "its group may write it (mode 770)"),
        (0o702, "others may write it (mode 702)"),
        (0o777, "its group and others may write it (mode 777)"),
    ],
)
def test_log_warns_of_a_directory_that_others_may_write(
    tmp_path: Path, mode: int, who: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(mode)
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    said = [record.getMessage() for record in caplog.records]
    assert said == (
        [f"the data directory {tmp_path} is not this process's alone: {who}"] if who else []
    )


def test_log_warns_of_a_directory_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    FileBackedStreamStore(tmp_path, segment_size=SEGMENT).close()
    assert f"it belongs to user {owner}, and this process is user 12345" in caplog.text


@pytest.mark.parametrize("call", range(1, 16))
def test_directory_can_be_prepared_after_crash_at_any_disk_call(call: int) -> None:  # TRAPS 16
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


def test_store_acknowledges_nothing_after_its_directory_is_lost() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", "text/plain"), append("/a", b"x", "text/plain"))
    disk.lost = True
    ticket = store.execute(append("/a", b"y", "text/plain"), NOW)
    with pytest.raises(DirectoryLost):
        store.shell.wait_for(ticket)
    with pytest.raises(Abandoned):
        ticket.result()
    assert isinstance(store.failure, DirectoryLost)
    assert content(store, "/a") == b"x"


def test_loss_of_directory_during_checkpoint_stops_store_and_frees_no_segment() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", "text/plain"), append("/a", b"x", "text/plain"))
    proven = store.meta

    def lose(_: str) -> None:
        disk.lost = True

    disk.before = lose
    with pytest.raises(DirectoryLost):
        store.run_checkpoint()
    assert store.meta == proven
    assert isinstance(store.failure, DirectoryLost)
