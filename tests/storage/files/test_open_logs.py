"""Tests of the cache of open logs."""

import errno
import os
import random

import pytest

from durable_streams_server.storage.files.logs import Logs
from durable_streams_server.testing.disk import SimulatedDisk, SimulatedFile
from tests.storage.files.flushing import ID, NEW, append


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0))


def test_open_logs_never_exceed_the_maximum(disk: SimulatedDisk) -> None:  # TRAPS 17
    logs = Logs(disk, max_open=4)
    for number in range(ID, ID + 50):
        append(logs, number, NEW, b"%d" % number)
    assert len(logs._open) == 4
    for number in range(ID, ID + 50):
        assert logs.read(number, 0, 16) == b"%d" % number


def test_error_that_does_not_concern_the_file_is_raised_unchanged(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(Logs(disk), ID, NEW, b"abc")

    def open_file(*_: object, **__: object) -> SimulatedFile:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(SimulatedDisk, "open", open_file)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        Logs(disk).read(ID, 0, 3)
