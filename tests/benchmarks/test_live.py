"""Tests of the writers and readers of numbered messages, with a real server."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from benchmarks import readers as module
from benchmarks.client import create
from benchmarks.live import check
from benchmarks.numbered import Faults
from benchmarks.readers import Readers
from benchmarks.writers import JSON, Order, Writers, write

from ..process import serve

ONE = "/v1/stream/one"
EACH = "/v1/stream/each-#"
PATHS = [EACH.replace("#", str(number)) for number in range(6)]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve("--memory") as server:
        found = urlsplit(server.url).port
        assert found is not None
        create(found, [ONE, *PATHS], JSON)
        yield found


def test_readers_of_one_stream_receive_every_message_of_every_writer(port: int) -> None:
    order = Order(ONE, 1, 3)
    with Readers(port, [ONE] * 4) as readers:
        written = write(port, order, 0.2)
        came = readers.follow_until(sum(written.sent) * 4, 5.0)
        found = readers.found()
    assert written.bad == 0
    assert min(written.sent) > 0
    assert came == sum(written.sent) * 4
    assert check(found, written.sent, order) == Faults()
    assert check([found[0], found[1][12:]], written.sent, order).lost == 1


def test_each_reader_receives_the_messages_of_its_stream(port: int) -> None:
    order = Order(EACH, 6, 2)
    with Readers(port, PATHS) as readers:
        written = write(port, order, 0.2)
        readers.follow_until(sum(written.sent), 5.0)
        found = readers.found()
    assert check(found, written.sent, order) == Faults()
    assert check(found[::-1], written.sent, order).garbled > 0


def test_reported_delays_are_ascending_and_shorter_than_the_run(port: int) -> None:
    written = write(port, Order(ONE, 1, 2), 0.1)
    median, late, longest = written.delays
    assert 0 < median <= late <= longest
    assert longest / 1000 <= written.ended - written.begun


def test_writers_with_a_rate_record_the_time_of_each_message(port: int) -> None:
    with Readers(port, PATHS) as readers:
        written = write(port, Order(EACH, 6, 3, rate=400), 0.25)
        readers.follow_until(100, 5.0)
        pieces = readers.pieces()
    assert written.bad == 0
    assert written.sent == [17, 17, 17, 17, 16, 16]
    assert len(written.times) == 100
    assert written.times == sorted(written.times)
    for reader, came, found in pieces:
        for number in found.split(b"~")[:-1]:
            sent = written.times[int(number[5:]) * 6 + reader]
            assert 0 < came - sent < 5.0


def test_writers_process_reports_every_message_that_it_sent(port: int) -> None:
    with Readers(port, [ONE]) as readers, Writers(port, Order(ONE, 1, 1)) as writers:
        assert not writers.is_done
        writers.begin(0.1)
        written = writers.finish()
        readers.follow_until(written.sent[0], 5.0)
        assert check(readers.found(), written.sent, Order(ONE, 1, 1)) == Faults()


def test_writer_counts_refused_appends_to_a_missing_stream(port: int) -> None:
    written = write(port, Order("/v1/stream/missing", 1, 1), 0.05)
    assert written.bad == written.sent[0] > 0


def test_readers_find_every_message_after_their_buffers_overflow(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 4096)
    monkeypatch.setattr(module, "_PIECE", 1024)
    monkeypatch.setattr(module, "_BLOCKS", 3)
    monkeypatch.setattr(module, "_spare", [])
    order = Order(ONE, 1, 2)
    with Readers(port, [ONE] * 2) as readers:
        written = write(port, order, 0.2)
        came = readers.follow_until(sum(written.sent) * 2, 5.0)
        found = readers.found()
    assert readers.overflowed
    assert came == sum(written.sent) * 2
    assert check(found, written.sent, order) == Faults()


def test_reader_of_a_missing_stream_raises_an_error(port: int) -> None:
    with pytest.raises(RuntimeError, match="refused"):
        Readers(port, ["/v1/stream/missing"])
