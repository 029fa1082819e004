"""Tests of the lock on a data directory, and of the paths that are watched while it is held."""

from pathlib import Path

import pytest

from durable_streams_server.storage.files.lock import LOCK, DirectoryLock
from durable_streams_server.storage.files.place import DirectoryLost


class ManualClock:
    """A clock in seconds that only a test advances."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> ManualClock:
    return ManualClock()


@pytest.fixture
def lock(tmp_path: Path, time: ManualClock) -> DirectoryLock:
    made = DirectoryLock(tmp_path, shared=False, steady=time)
    assert made.take()
    return made


def test_second_lock_fails_until_the_first_is_released(lock: DirectoryLock, tmp_path: Path) -> None:
    other = DirectoryLock(tmp_path, shared=False)
    assert not other.take()
    lock.check()
    lock.check_all()
    lock.release()
    assert other.take()
    other.release()
    other.release()


def test_check_examines_lock_file_at_most_once_per_second(
    lock: DirectoryLock, tmp_path: Path, time: ManualClock
) -> None:
    lock.check()
    (tmp_path / LOCK).unlink()
    time.now += 0.9
    lock.check()
    time.now += 0.1
    with pytest.raises(DirectoryLost, match="LOCK has been moved or removed"):
        lock.check()


def test_check_all_examines_lock_file_immediately(lock: DirectoryLock, tmp_path: Path) -> None:
    lock.check()
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).touch()
    with pytest.raises(DirectoryLost, match="LOCK has been replaced"):
        lock.check_all()


def test_check_all_raises_directory_lost_if_watched_path_is_replaced(
    lock: DirectoryLock, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    lock.watch(["logs"])
    lock.check_all()
    (tmp_path / "logs").rmdir()
    (tmp_path / "logs").mkdir()
    with pytest.raises(DirectoryLost, match="logs has been replaced"):
        lock.check_all()
    lock.release()


def test_lock_check_fails_after_lock_is_released(lock: DirectoryLock, tmp_path: Path) -> None:
    lock.release()
    with pytest.raises(DirectoryLost, match=f"{tmp_path} is not locked by this process"):
        lock.check()
