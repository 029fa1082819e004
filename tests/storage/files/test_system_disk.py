"""Tests of a disk that is a directory of the operating system."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server.storage.files.system_disk import SystemDisk


def unlocked_disk(root: Path) -> SystemDisk:
    """Returns a disk with one file in it. The lock of the disk has been acquired and released."""
    disk = SystemDisk(root)
    file = disk.open("a", create=True)
    file.write(b"hello", 0)
    file.close()
    assert disk.lock()
    disk.release()
    return disk


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (root, *root.rglob("*"))
    }


def test_read_only_disk_refuses_every_change(tmp_path: Path) -> None:
    unlocked_disk(tmp_path)
    before = snapshot(tmp_path)
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
    assert snapshot(tmp_path) == before


def test_lock_of_a_read_only_disk_excludes_writers_but_no_readers(tmp_path: Path) -> None:
    owner = unlocked_disk(tmp_path)
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


def test_read_only_disk_creates_no_lock_file(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path, readonly=True)
    assert disk.lock()
    disk.release()
    assert list(tmp_path.iterdir()) == []


def test_read_only_disk_opens_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = unlocked_disk(tmp_path)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    looking = SystemDisk(tmp_path, readonly=True)
    assert looking.lock()
    looking.release()
    with pytest.raises(OSError, match="LOCK"):
        owner.lock()


@pytest.mark.parametrize("readonly", [True, False])
def test_no_call_follows_a_symbolic_link(tmp_path: Path, readonly: bool) -> None:
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


def test_make_directory_requires_the_parent_directory(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path / "x" / "y")
    disk.make_directory("")
    with pytest.raises(FileNotFoundError):
        disk.make_directory("logs/00")
    disk.make_directory("logs")
    disk.make_directory("logs/00")
