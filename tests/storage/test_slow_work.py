"""Tests that a store remembers the work that took long."""

import logging
from typing import Any

import pytest

from durable_streams_server.storage.slow_work import (
    CHECKPOINT,
    COMMIT,
    DISK_READ,
    KINDS,
    SlowWork,
)


def test_short_work_is_not_remembered() -> None:
    work = SlowWork()
    work.add(COMMIT, 1.0, 1.049)
    work.add(COMMIT, 2.0, 2.051)
    assert work.between(0, 10) == {COMMIT: pytest.approx(0.051)}


def test_only_the_part_between_the_two_times_counts() -> None:
    work = SlowWork()
    work.add(COMMIT, 1.0, 3.0)
    assert work.between(2.5, 9) == {COMMIT: 0.5}
    assert work.between(0, 1.25) == {COMMIT: 0.25}
    assert work.between(1.5, 2) == {COMMIT: 0.5}
    assert work.between(3.0, 9) == {}
    assert work.between(0, 1.0) == {}


def test_time_that_two_pieces_share_counts_once() -> None:
    work = SlowWork()
    for begin, end in ((3.0, 4.0), (1.0, 2.0), (1.5, 2.5), (1.6, 1.8)):
        work.add(DISK_READ, begin, end)
    work.add(COMMIT, 1.0, 2.0)
    assert work.between(0, 10) == {DISK_READ: 2.5, COMMIT: 1.0}


def test_only_the_latest_pieces_are_remembered() -> None:
    work = SlowWork()
    work.add(CHECKPOINT, 0, 1)
    for number in range(256):
        work.add(COMMIT, number, number + 0.5)
    assert set(work.between(0, 1000)) == {COMMIT}


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    found = [(each.getMessage(), each.__dict__["fields"]) for each in caplog.records]
    assert all(each.levelno == logging.WARNING for each in caplog.records)
    caplog.clear()
    return found


def test_slow_commits_are_logged_once_a_minute_with_the_number_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = SlowWork()
    work.add(COMMIT, 0, 50)
    assert records(caplog) == []  # nothing is logged unless somebody asks for it
    work.log_above(1)
    work.add(COMMIT, 100, 101)
    assert records(caplog) == []
    work.add(COMMIT, 200, 202.5)
    ((message, fields),) = records(caplog)
    assert message == "a commit took 2.5 s, so the disk is slow or busy"
    assert fields == {"seconds": 2.5, "unlogged": 0}
    work.add(COMMIT, 203, 205)
    work.add(COMMIT, 205, 207)
    assert records(caplog) == []
    work.add(COMMIT, 261, 263)
    ((_, fields),) = records(caplog)
    assert fields == {"seconds": 2, "unlogged": 2}


def test_checkpoints_are_logged_above_a_limit_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = SlowWork()
    work.log_above(1)
    work.add(CHECKPOINT, 0, 100)
    assert records(caplog) == []
    work.add(COMMIT, 100, 102)
    work.add(CHECKPOINT, 102, 203)
    messages = [message for message, _ in records(caplog)]
    assert messages[1] == "a checkpoint took 101.0 s, so the disk is slow or busy"


def test_other_kinds_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    work = SlowWork()
    work.log_above(1)
    for kind in set(KINDS) - {COMMIT, CHECKPOINT}:
        work.add(kind, 0, 1000)
    assert records(caplog) == []
    assert set(work.between(0, 1)) == set(KINDS) - {COMMIT, CHECKPOINT}
