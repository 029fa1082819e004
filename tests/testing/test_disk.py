"""Tests of the simulated disk: what survives a power loss, and how it fails on request."""

import random

import pytest

from durable_streams_server.storage.files.place import DirectoryLost
from durable_streams_server.testing.disk import SimulatedDisk


def test_every_check_notices_that_the_directory_is_lost() -> None:
    disk = SimulatedDisk(random.Random(1))
    file = disk.open("a", create=True)
    for check in (file.check_place, disk.check_lock, disk.check_place):
        check()
    disk.lost = True
    for check in (file.check_place, disk.check_lock, disk.check_place):
        with pytest.raises(DirectoryLost):
            check()
