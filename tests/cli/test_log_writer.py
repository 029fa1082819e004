"""Tests that the log is written on a thread, and that a log that nobody reads blocks nobody."""

import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from durable_streams_server.cli import log_writer
from durable_streams_server.cli.log_writer import LogWriter


class Reader:
    """Stands for the program that reads the log. It can pause, fail, and take only some bytes at a time."""

    def __init__(self) -> None:
        self.data = b""
        self.most = 1 << 20
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.is_waited_for = threading.Event()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        self.is_waited_for.set()
        assert self.goes_on.wait(20)
        if self.failure is not None:
            raise self.failure
        self.data += data[: self.most]
        return min(len(data), self.most)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.goes_on.set()


def block(reader: Reader, writer: LogWriter) -> None:
    """Lets the thread of a writer block in a write of the line `0`."""
    reader.goes_on.clear()
    writer.add(b"0\n")
    assert reader.is_waited_for.wait(20)


def test_lines_are_written_in_order(reader: Reader) -> None:
    writer = LogWriter(reader.write)
    for number in range(1000):
        writer.add(b"%d\n" % number)
    writer.flush()
    assert reader.data.split() == [b"%d" % number for number in range(1000)]
    writer.close()


def test_record_is_formatted_when_it_is_logged(reader: Reader) -> None:
    writer = LogWriter(reader.write)
    block(reader, writer)
    given = [1]
    writer.handle(logging.makeLogRecord({"msg": "%s", "args": (given,)}))
    given.append(2)
    reader.goes_on.set()
    writer.close()
    assert reader.data == b"0\n[1]\n"


def test_writer_continues_after_a_partial_write(reader: Reader) -> None:
    reader.most = 3
    writer = LogWriter(reader.write)
    writer.add(b"0123456789\n")
    writer.close()
    assert reader.data == b"0123456789\n"


def test_lines_beyond_the_limit_are_dropped_and_counted(reader: Reader) -> None:
    writer = LogWriter(reader.write, limit=10)
    block(reader, writer)
    writer.add(b"1234567\n")
    assert writer.dropped == 0  # 10 bytes wait: exactly the limit
    for _ in range(3):
        writer.add(b"\n")
    assert writer.dropped == 3
    reader.goes_on.set()
    writer.flush()
    writer.add(b"later\n")
    writer.close()
    assert writer.dropped == 0
    first, second, report, last = reader.data.decode().splitlines()
    assert (first, second, last) == ("0", "1234567", "later")
    assert report == "lines of the log were dropped, because nobody read them in time"


def test_lines_dropped_during_the_last_write_are_reported(reader: Reader) -> None:
    writer = LogWriter(reader.write, limit=2)
    block(reader, writer)
    writer.add(b"1\n")
    reader.goes_on.set()
    writer.close()
    assert reader.data.startswith(b"0\nlines of the log were dropped")


def test_blocked_reader_delays_neither_logging_nor_more_than_one_flush(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LogWriter(reader.write)
    block(reader, writer)
    before = time.monotonic()
    for _ in range(100):
        writer.add(b"x\n")
    writer.flush()
    waited = time.monotonic() - before
    assert writer.is_stuck
    assert 0.9 < waited < 10
    monkeypatch.setattr(log_writer, "_PATIENCE", 60.0)  # which must not matter any more
    before = time.monotonic()
    writer.flush()
    writer.close()
    assert time.monotonic() - before < 10
    reader.goes_on.set()


def test_flush_waits_again_once_the_reader_has_continued(reader: Reader) -> None:
    writer = LogWriter(reader.write)
    block(reader, writer)
    writer.flush()
    assert writer.is_stuck
    reader.goes_on.set()
    writer.flush()
    deadline = time.monotonic() + 20
    while writer.is_stuck:
        assert time.monotonic() < deadline
        time.sleep(0.001)  # the thread writes now
    writer.add(b"1\n")
    writer.close()
    assert reader.data == b"0\n1\n"


@pytest.mark.parametrize("failure", [OSError("gone"), BrokenPipeError()])
def test_failing_write_drops_its_bytes_and_keeps_the_thread(
    reader: Reader, failure: OSError
) -> None:
    writer = LogWriter(reader.write)
    reader.failure = failure
    writer.add(b"lost\n")
    writer.flush()
    reader.failure = None
    writer.add(b"kept\n")
    writer.close()
    assert reader.data == b"kept\n"


def test_closed_writer_drops_lines(reader: Reader) -> None:
    writer = LogWriter(reader.write)
    writer.close()
    writer.add(b"late\n")
    assert (writer.dropped, reader.data) == (1, b"")


def test_record_that_cannot_be_formatted_is_reported_as_logging_does(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = LogWriter(reader.write)
    writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    writer.close()
    assert reader.data == b""
    assert "--- Logging error ---" in capsys.readouterr().err


def test_writer_bypasses_the_buffer_of_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raw(io.RawIOBase):
        got = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            assert isinstance(data, bytes)
            self.got += data
            return len(data)

    raw = Raw()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw)))
    writer = LogWriter()
    writer.add(b"x\n")
    writer.close()
    assert raw.got == b"x\n"


def test_writer_waits_until_a_full_output_that_does_not_block_has_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    waits: list[float] = []

    def make_room(*arguments: Any) -> None:
        waits.append(arguments[3])
        os.read(reading, 65536)

    monkeypatch.setattr(select, "select", make_room)
    with open(reading, "rb"), open(writing, "w") as output:
        monkeypatch.setattr(sys, "stderr", output)
        writer = LogWriter()
        writer.add(b"x\n")
        writer.close()
    assert not writer.is_stuck
    assert len(waits) == 1
    assert waits[0] > 0


def test_writer_uses_a_replaced_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stderr", text)
    writer = LogWriter()
    writer.add(b"x\n")
    writer.close()
    assert text.getvalue() == "x\n"
