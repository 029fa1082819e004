"""Tests of the directories of logs."""

import random
from pathlib import Path

import pytest

from durable_streams_server.storage.files.log_directories import LogDirectories
from durable_streams_server.storage.files.log_layout import DIRECTORY, directory_of
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.flushing import ID


def test_log_directory_is_created_and_synced_once() -> None:
    disk = SimulatedDisk(random.Random(0))
    calls: list[str] = []
    disk.before = calls.append
    directories = LogDirectories(disk)
    assert not directories.knows(ID)
    for _ in range(2):
        directories.make(ID)
    assert directories.knows(ID)
    assert calls == [f"make_directory {directory_of(ID)}", "sync_directory"]


def test_removed_log_directory_is_created_again_only_after_forget(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path)
    disk.make_directory(DIRECTORY)
    directories = LogDirectories(disk)
    directories.make(ID)
    path = tmp_path / directory_of(ID)
    path.rmdir()
    directories.make(ID)
    assert not path.exists()
    directories.forget(ID)
    directories.make(ID)
    assert path.is_dir()


def test_log_directory_requires_its_parent_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogDirectories(SystemDisk(tmp_path)).make(ID)
