"""What a disk promises, on the operating system's and on the simulated one."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server.protocol.units import MIB
from durable_streams_server.storage.files import disk as real_disk
from durable_streams_server.storage.files.disk import Disk, SystemDisk, SystemFile
from durable_streams_server.storage.files.place import DirectoryLost
from durable_streams_server.testing.disk import SimulatedDisk


@pytest.fixture(params=["system", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    made = (
        SystemDisk(tmp_path / "d") if request.param == "system" else SimulatedDisk(random.Random(1))
    )
    made.make_directory("")
    return made


def test_a_file_is_written_and_read_by_position(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(b"hello", 3)
    assert (file.size(), file.read(100, 0), file.read(2, 4)) == (8, b"\0\0\0hello", b"el")
    file.truncate(5)
    assert file.read(9, 0) == b"\0\0\0he"
    file.sync()
    file.close()
    file.close()


def test_what_is_allocated_reads_as_zeros_and_takes_durable_writes(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.allocate(10_000)
    assert (file.size(), file.read(4, 9_998)) == (10_000, b"\0\0")
    file.write_durably(b"abc", 9_000)
    assert file.read_ready(3, 9_000) in (b"abc", None)
    file.close()


def test_a_file_that_is_not_there_is_told_from_an_empty_one(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("a")
    assert (disk.exists("a"), disk.size("a")) == (False, None)
    disk.open("a", create=True).close()
    assert (disk.exists("a"), disk.size("a")) == (True, 0)


def test_names_are_listed_moved_and_removed(disk: Disk) -> None:
    disk.make_directory("d")
    disk.make_directory("d")
    for name in ("d/b", "d/a", "d/c"):
        disk.open(name, create=True).close()
    disk.rename("d/c", "d/a")
    disk.unlink("d/b")
    disk.unlink("d/b")
    disk.sync_directory("d")
    disk.sync_all()
    assert (disk.names("d"), disk.names("nowhere")) == (["a"], [])


def test_random_numbers_have_64_bits_and_differ(disk: Disk) -> None:
    numbers = {disk.random_number() for _ in range(50)}
    assert len(numbers) == 50
    assert 1 << 56 < max(numbers) < 1 << 64


def test_one_process_has_a_directory(disk: Disk, tmp_path: Path) -> None:
    assert disk.lock()
    if isinstance(disk, SystemDisk):
        assert not SystemDisk(tmp_path / "d").lock()
    disk.release()
    assert disk.lock()
    disk.release()
    disk.release()


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def short(descriptor: int, buffers: list[memoryview], position: int, flags: int) -> int:
        return whole(descriptor, [buffers[0][:3]], position, flags)

    monkeypatch.setattr(os, "pwritev", short)
    file = SystemDisk(tmp_path).open("a", create=True)
    file.write_durably(b"0123456789", 1)
    assert file.read(20, 0) == b"\x000123456789"
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(OSError, match="a") as raised:
        file.write(b"x", 0)
    assert raised.value.errno == errno.EIO
    file.close()


def test_much_is_read_in_pieces_up_to_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], position: int) -> int:
        asked.append(len(buffers[0]))
        return whole(descriptor, buffers, position)

    data = os.urandom(5 * MIB // 2)
    file = SystemDisk(tmp_path).open("a", create=True)
    file.write(data, 0)
    monkeypatch.setattr(real_disk, "_PIECE", MIB)
    monkeypatch.setattr(os, "preadv", counted)
    assert file.read(len(data) - 3, 1) == data[1:-2]
    assert asked == [MIB, MIB, MIB // 2 - 3]
    assert file.read(3 * MIB, 1) == data[1:]
    assert file.read(10, len(data) - 4) == data[-4:]
    assert file.read(2 * MIB, len(data)) == b""
    file.close()


def test_an_error_names_its_file(tmp_path: Path) -> None:
    file = SystemDisk(tmp_path).open("a", create=True)
    assert isinstance(file, SystemFile)
    os.close(file._descriptor)
    calls: list[Callable[[], object]] = [
        lambda: file.write(b"x", 0),
        lambda: file.allocate(9),
        lambda: file.truncate(9),
        file.sync,
        lambda: file.read_ready(1, 0),
    ]
    for call in calls:
        with pytest.raises(OSError, match=f"{tmp_path}/a"):
            call()


def test_where_ready_reads_are_not_known_a_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no")

    file = SystemDisk(tmp_path).open("a", create=True)
    file.write(b"x", 0)
    monkeypatch.setattr(os, "preadv", unsupported)
    assert file.read_ready(1, 0) is None
    assert file.read(1, 0) == b"x"
    file.close()


def held(root: Path) -> SystemDisk:
    """Returns a disk with one file in it, whose lock has been taken and given back."""
    disk = SystemDisk(root)
    file = disk.open("a", create=True)
    file.write(b"hello", 0)
    file.close()
    assert disk.lock()
    disk.release()
    return disk


def names_and_modes(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (root, *root.rglob("*"))
    }


def test_read_only_disk_reads_and_refuses_every_change(tmp_path: Path) -> None:
    held(tmp_path)
    before = names_and_modes(tmp_path)
    disk = SystemDisk(tmp_path, readonly=True)
    file = disk.open("a")
    assert (file.read(9, 0), file.size(), disk.names("")) == (b"hello", 5, ["LOCK", "a"])
    changes: list[Callable[[], object]] = [
        lambda: file.write(b"x", 0),
        lambda: file.write_durably(b"x", 0),
        lambda: file.allocate(9),
        lambda: file.truncate(1),
        lambda: disk.open("b", create=True),
        lambda: disk.open("a", create=True),
        lambda: disk.make_directory("d"),
        lambda: disk.rename("a", "b"),
        lambda: disk.unlink("a"),
    ]
    for change in changes:
        with pytest.raises(OSError, match="opened only to look at") as raised:
            change()
        assert raised.value.errno == errno.EROFS
    file.sync()
    disk.sync_directory("")
    disk.sync_all()
    file.close()
    assert names_and_modes(tmp_path) == before


def test_read_only_disk_notices_an_owner_and_keeps_one_out(tmp_path: Path) -> None:
    owner = held(tmp_path)
    assert owner.lock()
    looking, other = SystemDisk(tmp_path, readonly=True), SystemDisk(tmp_path, readonly=True)
    assert not looking.lock()
    owner.release()
    assert looking.lock()
    assert other.lock(), "two may look at the same time"
    assert not owner.lock()
    looking.release()
    other.release()
    assert owner.lock()
    owner.release()


def test_read_only_disk_needs_no_lock_file_and_makes_none(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path, readonly=True)
    assert disk.lock()
    disk.release()
    assert list(tmp_path.iterdir()) == []


def test_read_only_disk_goes_without_locks_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = held(tmp_path)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    looking = SystemDisk(tmp_path, readonly=True)
    assert looking.lock()
    looking.release()
    with pytest.raises(OSError, match="LOCK"):
        owner.lock()


@pytest.mark.parametrize("readonly", [True, False])
def test_no_link_is_followed_by_any_call_that_opens(tmp_path: Path, readonly: bool) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    for name in ("a", "LOCK"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    disk = SystemDisk(tmp_path, readonly=readonly)
    opens: list[Callable[[], object]] = [lambda: disk.open("a"), disk.lock]
    if not readonly:
        opens += [lambda: disk.open("a", create=True), lambda: disk.create("a")]
    for call in opens:
        with pytest.raises(OSError, match=f"{tmp_path}/(a|LOCK)"):
            call()
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_file_that_is_there_is_not_made_anew(disk: Disk) -> None:
    disk.create("a").close()
    with pytest.raises(FileExistsError):
        disk.create("a")


def test_directory_above_is_not_made_anew_within_the_disk(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path / "x" / "y")
    disk.make_directory("")
    with pytest.raises(FileNotFoundError):
        disk.make_directory("logs/00")
    disk.make_directory("logs")
    disk.make_directory("logs/00")


def test_simulated_directory_that_is_lost_is_noticed_by_every_check() -> None:
    disk = SimulatedDisk(random.Random(1))
    file = disk.open("a", create=True)
    for check in (file.check_place, disk.check_lock, disk.check_place):
        check()
    disk.lost = True
    for check in (file.check_place, disk.check_lock, disk.check_place):
        with pytest.raises(DirectoryLost):
            check()


def test_parts_are_written_whole_however_few_bytes_a_call_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = os.pwritev, []

    def short(descriptor: int, views: list[memoryview], position: int, flags: int = 0) -> int:
        calls.append(len(views))
        joined = b"".join(views)[:5]
        return whole(descriptor, [joined], position, flags)

    monkeypatch.setattr(os, "pwritev", short)
    file = SystemDisk(tmp_path).open("file", create=True)
    file.write_durably((b"", b"abc", b"defghij", b"k", b"", b"lmn"), 2)
    assert file.read(100, 0) == b"\0\0abcdefghijklmn"
    assert len(calls) == 3
    file.close()
