"""Pages: bounded, cut where a value or a character ends, stitched across forks."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.commands import Fork
from durable_streams_server.protocol.names import KIB, MIB
from durable_streams_server.protocol.offsets import parse
from tests.requests import append, create
from tests.streams.engines import Bench

JSON, TEXT = "application/json", "text/plain"


def pages(bench: Bench, cap: int, path: str = "/a", start: int = 0) -> list[bytes]:
    state, found = bench.state(path), []
    while True:
        page = bench.engine.reader.page(state, start, cap).result()
        found.append(page.data)
        start = page.end
        if page.at_tail:
            return found


def test_octets_are_cut_anywhere() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"abcdefg"))
    assert pages(bench, 3) == [b"abc", b"def", b"g"]


def test_a_text_is_cut_between_characters() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT, "aé😀b€".encode()))
    assert [part.decode() for part in pages(bench, 4)] == ["aé", "😀", "b€"]
    assert [part.decode() for part in pages(bench, 1)] == ["aé", "😀", "b€"]


def test_octets_that_are_no_text_are_served_as_they_are() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT, b"\xff\xfe\x80\x80\x80\x80\x80\xc3"))
    assert b"".join(pages(bench, 4)) == b"\xff\xfe\x80\x80\x80\x80\x80\xc3"


def test_json_is_cut_between_values_and_a_large_value_comes_whole() -> None:
    bench = Bench()
    bench.do(create("/a", JSON), append("/a", b'[1,22,"%s",4]' % (b"x" * 50), JSON))
    assert pages(bench, 5) == [b"1,22,", b'"%s",' % (b"x" * 50), b"4,"]


def test_a_fork_of_a_fork_reads_as_one_stream() -> None:
    bench = Bench()
    store = bench.engine
    bench.do(create("/a", JSON, b"[1,2,3]"))
    fork(bench, "/b", "/a", 4)
    bench.do(append("/b", b"[40,50]", JSON))
    fork(bench, "/c", "/b", 7)
    bench.do(append("/c", b"[6]", JSON), append("/a", b"[7]", JSON), append("/b", b"[8]", JSON))
    assert b"".join(pages(bench, 3, "/c")) == b"1,2,40,6,"
    assert pages(bench, 4, "/c") == [b"1,2,", b"40,", b"6,"]
    assert store.reader.page(bench.state("/c"), 2, 100).result().data == b"2,40,6,"


def test_no_page_begins_inside_a_value() -> None:
    bench = Bench()
    bench.do(create("/a", JSON, b"[11,22]"), append("/a", b"[33]", JSON))
    state = bench.state()
    for position in range(10):
        ticket = bench.engine.reader.check(state, position)
        if position in (0, 3, 6, 9):
            assert ticket.result() == position
        else:
            with pytest.raises(BadRequest) as caught:
                ticket.result()
            assert caught.value.code == "INVALID_OFFSET"


def test_a_page_at_the_tail_is_empty_and_tells_of_closure() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"ab"), append("/a", closes=True))
    page = bench.engine.reader.page(bench.state(), 2, 10).result()
    assert (page.data, page.at_tail, page.closed) == (b"", True, True)
    first = bench.engine.reader.page(bench.state(), 0, 1).result()
    assert (first.at_tail, first.closed) == (False, False)


def fork(bench: Bench, path: str, source: str, position: int) -> None:
    name = parse(bench.state(source).name(position))
    bench.engine.create(create(path, None, fork=Fork(source, name, None))).result()


def test_a_large_run_that_was_read_lately_is_the_same_object_and_what_is_kept_is_bounded() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"a" * MIB), create("/small", body=b"s" * KIB))
    first = bench.engine.reader.page(bench.state("/a"), 0, MIB).result().data
    assert bench.engine.reader.page(bench.state("/a"), 0, MIB).result().data is first
    for start in range(0, MIB, 64 * KIB):  # of which 40 MiB are kept
        bench.engine.reader.page(bench.state("/a"), start, MIB).result()
    for number in range(45):
        bench.do(create(f"/{number}", body=b"b" * MIB))
        bench.engine.reader.page(bench.state(f"/{number}"), 0, MIB).result()
    assert bench.engine.large.kept_bytes <= 40 * MIB
    assert bench.engine.reader.page(bench.state("/a"), 0, MIB).result().data is not first
    kept = bench.engine.large.kept_bytes
    bench.engine.reader.page(bench.state("/small"), 0, MIB).result()
    assert bench.engine.large.kept_bytes == kept
