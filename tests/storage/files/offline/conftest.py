"""Fixtures for tests of the offline tools."""

from pathlib import Path

import pytest

from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.offline.directories import make_directory
from tests.storage.files.offline.reconstructions import disk_with_streams


@pytest.fixture
def disk() -> SimulatedDisk:
    return disk_with_streams()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    make_directory(path)
    return path
