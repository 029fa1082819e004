"""Tests of the cache of open logs."""

import errno
import os
import random

import pytest

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.disk import File
from durable_streams_server.storage.files.index import Label
from durable_streams_server.storage.files.log_directories import LogDirectories
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.logs import Logs
from durable_streams_server.storage.files.open_logs import OpenLog, OpenLogs, as_damage
from durable_streams_server.testing.disk import SimulatedDisk, SimulatedFile
from tests.requests import NOW
from tests.storage.files.flushing import ID, NEW, append

TEXT = parse_media_type("text/plain")


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[SimulatedFile]:
    """Returns a list to which every closed file is added."""
    files: list[SimulatedFile] = []
    monkeypatch.setattr(SimulatedFile, "close", lambda file: files.append(file))
    return files


def cache_of(disk: SimulatedDisk, max_open: int) -> OpenLogs:
    return OpenLogs(disk, LogDirectories(disk), max_open)


def test_open_logs_never_exceed_the_maximum(disk: SimulatedDisk) -> None:  # TRAPS 17
    logs = cache_of(disk, max_open=4)
    for number in range(ID, ID + 50):
        logs.release(logs.acquire_new(number, 0, None))
        assert len(logs) <= 4
    for number in range(ID, ID + 50):
        log = logs.acquire(number)
        assert log.index.base == 0
        logs.release(log)


def test_least_recently_used_log_is_evicted_first(disk: SimulatedDisk) -> None:
    logs = cache_of(disk, max_open=2)
    for number in (ID, ID + 1):
        logs.release(logs.acquire_new(number, 0, None))
    logs.release(logs.acquire(ID))
    logs.release(logs.acquire_new(ID + 2, 0, None))
    assert logs.acquire_if_open(ID + 1) is None
    assert logs.acquire_if_open(ID) is not None


def test_evicted_log_stays_open_until_its_last_user_releases_it(
    disk: SimulatedDisk, closed: list[SimulatedFile]
) -> None:
    logs = cache_of(disk, max_open=2)
    log = logs.acquire_new(ID, 0, None)
    assert logs.acquire(ID) is log
    logs.evict(ID)
    assert logs.acquire_if_open(ID) is None
    logs.release(log)
    assert closed == []
    logs.release(log)
    assert closed == [log.data, log.index_file]


def test_evict_all_closes_logs_that_nobody_uses(
    disk: SimulatedDisk, closed: list[SimulatedFile]
) -> None:
    logs = cache_of(disk, max_open=9)
    used = logs.acquire_new(ID, 0, None)
    logs.release(logs.acquire_new(ID + 1, 0, None))
    logs.evict_all()
    assert len(logs) == 0
    assert len(closed) == 2
    logs.release(used)
    assert len(closed) == 4


def test_log_that_another_thread_opens_meanwhile_is_shared(
    disk: SimulatedDisk, closed: list[SimulatedFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = cache_of(disk, max_open=9)
    logs.release(logs.acquire_new(ID, 0, None))
    logs.evict_all()
    closed.clear()
    others: list[OpenLog] = []
    is_nested = False
    real = SimulatedDisk.open

    def open_twice(self: SimulatedDisk, path: str, *, create: bool = False) -> File:
        nonlocal is_nested
        if not is_nested:
            is_nested = True
            others.append(logs.acquire(ID))  # as a second thread would
        return real(self, path, create=create)

    monkeypatch.setattr(SimulatedDisk, "open", open_twice)
    log = logs.acquire(ID)
    assert [log] == others
    assert log.users == 2
    assert len(closed) == 2, "the files that were opened twice stay open"


def test_open_without_file_handles_closes_other_logs_and_retries(disk: SimulatedDisk) -> None:
    logs = cache_of(disk, max_open=9)
    for number in (ID, ID + 1):
        logs.release(logs.acquire_new(number, 0, None))
    logs.evict(ID)
    failures = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    def fail_once(name: str) -> None:
        if name == "open" and failures:
            raise failures.pop()

    disk.before = fail_once
    logs.release(logs.acquire(ID))
    assert logs.acquire_if_open(ID + 1) is None


def test_index_of_another_log_raises_damaged(disk: SimulatedDisk) -> None:
    labels = [
        Label(number, 0, path, TEXT, FOREVER, NOW, None, ())
        for number, path in ((ID, "/a"), (ID + 1, "/b"))
    ]
    logs = cache_of(disk, max_open=9)
    for label in labels:
        logs.release(logs.acquire_new(label.incarnation, 0, label))
    logs.evict_all()
    disk.rename(path_of(ID + 1) + ".idx", path_of(ID) + ".idx")
    with pytest.raises(Damaged, match=f"{path_of(ID)}.idx: it is the index of /b"):
        logs.acquire(ID)


def test_io_error_becomes_damage_but_memory_error_does_not() -> None:
    lost = OSError(errno.EIO, "Input/output error")
    assert str(as_damage(lost, "logs/00/1")) == "logs/00/1: Input/output error"
    short_of_memory = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert as_damage(short_of_memory, "logs/00/1") is short_of_memory


def test_error_unrelated_to_log_file_is_raised_unchanged(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(Logs(disk), ID, NEW, b"abc")

    def open_file(*_: object, **__: object) -> SimulatedFile:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(SimulatedDisk, "open", open_file)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        Logs(disk).read(ID, 0, 3)
