"""Tests of how a worker process of a host server, such as gunicorn, ends when another worker owns the data directory."""

import logging
import multiprocessing
import sys
import types

import pytest

from durable_streams_server.storage.files.directory import DirectoryInUse
from durable_streams_server.storage.files.workers import WorkerRefused, is_worker, refusal_of

REFUSAL = DirectoryInUse("data is in use by another process")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces `time.sleep`, so that pauses take no time. Returns a list to which the length of each pause is added."""
    lengths: list[float] = []
    monkeypatch.setattr("durable_streams_server.storage.files.workers.time.sleep", lengths.append)
    return lengths


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process look like one that another Python process has started."""
    monkeypatch.setattr(multiprocessing, "parent_process", object)


def test_ordinary_process_is_not_taken_for_worker() -> None:
    assert not is_worker()


@pytest.mark.usefixtures("worker")
def test_process_that_multiprocessing_started_is_a_worker() -> None:
    assert is_worker()


def test_process_under_gunicorn_is_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", types.ModuleType("gunicorn.arbiter"))
    assert is_worker()


def test_refusal_of_returns_error_unchanged_outside_worker(pauses: list[float]) -> None:
    assert refusal_of(REFUSAL) is REFUSAL
    assert pauses == []


@pytest.mark.usefixtures("worker")
def test_refused_worker_logs_one_line_and_exits_3_after_pause(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    refusal = refusal_of(REFUSAL)
    message = f"{REFUSAL}, and one process owns a data directory: run one worker"
    assert isinstance(refusal, WorkerRefused)
    assert (str(refusal), refusal.code) == (message, 3)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.CRITICAL, message)
    ]
    assert pauses == [1.0]


@pytest.mark.usefixtures("worker", "pauses")
def test_uncaught_worker_refusal_ends_the_process() -> None:
    with pytest.raises(SystemExit):
        raise refusal_of(REFUSAL)
    with pytest.raises(DirectoryInUse):
        raise refusal_of(REFUSAL)
