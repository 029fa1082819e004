"""The results that programs receive are made from states, outcomes and pages."""

from durable_streams_server import CreateOptions, ReadResult, StreamMessage, StreamStore
from durable_streams_server.streams.results import (
    append_result,
    head_result,
    messages_of,
    stream_of,
    stream_page,
)
from tests.requests import NOW, SECOND, append, create
from tests.streams.engines import Bench, read

JSON = "application/json"


def test_json_page_is_one_array_or_one_message_per_value() -> None:
    bench = Bench()
    bench.do(create("/a", JSON, b'[1.10, "x,y"]'))
    page = bench.engine.read(read()).result()
    shown = stream_page(page)
    assert (shown.data, shown.up_to_date, shown.closed) == (b'[1.10,"x,y"]', True, False)
    assert (shown.next_offset, shown.content_type) == (bench.state().name(11), JSON)
    assert list(messages_of(page)) == [
        StreamMessage(b"1.10", bench.state().name(5)),
        StreamMessage(b'"x,y"', bench.state().name(11)),
    ]


def test_binary_page_is_one_message_and_empty_page_has_no_message() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"abc"))
    whole = bench.engine.read(read()).result()
    assert list(messages_of(whole)) == [StreamMessage(b"abc", bench.state().name(3))]
    tail = bench.engine.read(read(offset="now")).result()
    assert list(messages_of(tail)) == []
    assert stream_page(tail).data == b""


def test_append_without_data_is_not_reported_as_duplicate() -> None:
    bench = Bench()
    bench.do(create("/a", JSON))
    written = bench.engine.append(append("/a", b"[1]", JSON)).result()
    assert not append_result(written, has_data=True).duplicate
    closed = bench.engine.append(append("/a", closes=True)).result()
    result = append_result(closed, has_data=False)
    assert (result.duplicate, result.closed) == (False, True)
    assert (result.producer_epoch, result.producer_seq) == (None, None)
    assert result.next_offset == bench.state().name(2)


def test_stream_and_head_show_tail_and_creation_time() -> None:
    bench = Bench()
    bench.do(create("/a", "text/plain", b"abc", closes=True))
    stream, head = stream_of(bench.state()), head_result(bench.state())
    assert (stream.path, stream.created_at) == ("/a", NOW / SECOND)
    assert (stream.forked_from, stream.fork_offset, stream.soft_deleted) == (None, None, False)
    for shown in (stream, head):
        assert (shown.content_type, shown.closed) == ("text/plain", True)
        assert (shown.ttl_seconds, shown.expires_at) == (None, None)
    assert stream.current_offset == head.next_offset == bench.state().name(3)


def test_data_of_read_result_joins_all_messages() -> None:
    store = StreamStore()
    store.create("/a", JSON, CreateOptions(initial_data=b"[1,2]"))
    result = store.read("/a")
    assert isinstance(result, ReadResult)
    assert result.data == b"12"
