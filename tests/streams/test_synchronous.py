"""The synchronous functions of the public stores, called without an event loop, from other threads than the loop's, and on the loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server import (
    BadRequest,
    Conflict,
    CreateOptions,
    Gone,
    NotFound,
    ReadResult,
    SequenceGap,
    Stream,
    StreamClosed,
    StreamMessage,
    StreamStore,
)
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams import synchronous
from tests.streams.engines import PublicStore


def test_create_and_get_return_properties_of_stream(store: PublicStore) -> None:
    made = store.create(
        "/a", "text/plain", CreateOptions(ttl_seconds=9, initial_data=b"abc", closed=True)
    )
    assert made == store.get("/a")
    assert isinstance(made, Stream)
    assert (made.path, made.content_type, made.closed, made.ttl_seconds) == (
        "/a",
        "text/plain",
        True,
        9,
    )
    assert made.current_offset.endswith("_0000000000000003")
    assert store.create("/a", "text/plain", CreateOptions(ttl_seconds=9, closed=True)) == made
    with pytest.raises(Conflict):
        store.create("/a", "application/json")


def test_deleted_stream_is_no_longer_found(store: PublicStore) -> None:
    assert not store.has("/a")
    assert store.get("/a") is None
    assert not store.delete("/a")
    store.create("/a")
    assert store.has("/a")
    assert store.delete("/a")
    assert not store.has("/a")


def test_read_returns_appended_bytes(store: PublicStore) -> None:
    store.create("/a")
    first = store.append("/a", b"abc")
    store.append("/a", b"def", close=True)
    result = store.read("/a", first.next_offset)
    assert isinstance(result, ReadResult)
    assert (result.data, result.up_to_date, result.closed) == (b"def", True, True)
    assert store.read("/a").data == b"abcdef"
    assert store.read("/a", "now").messages == []
    with pytest.raises(StreamClosed):
        store.append("/a", b"x")


def test_read_returns_json_values_one_by_one_with_offset_after_each(store: PublicStore) -> None:
    store.create("/a", "application/json")
    store.append("/a", b'[{"n":1.10}, 2]')
    first, second = store.read("/a").messages
    assert isinstance(first, StreamMessage)
    assert (first.data, second.data) == (b'{"n":1.10}', b"2")
    assert store.read("/a", first.offset).messages == [second]


def test_repeated_producer_append_is_written_once_and_seq_must_grow(store: PublicStore) -> None:
    store.create("/a")
    for _ in range(2):
        store.append("/a", b"x", producer_id="p", producer_epoch=0, producer_seq=0)
    assert store.read("/a").data == b"x"
    with pytest.raises(SequenceGap):
        store.append("/a", b"y", producer_id="p", producer_epoch=0, producer_seq=2)
    store.append("/a", b"z", seq="b")
    with pytest.raises(Conflict):
        store.append("/a", b"z", seq="a")


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": b""},
        {"data": b"x", "producer_id": "p"},
        {"data": b"x", "producer_id": "p", "producer_epoch": -1, "producer_seq": 0},
        {"data": b"x", "content_type": "nonsense"},
        {"data": b"x", "seq": ""},
    ],
)
def test_malformed_append_is_refused(store: PublicStore, arguments: dict[str, Any]) -> None:
    store.create("/a")
    with pytest.raises(BadRequest):
        store.append("/a", **arguments)
    assert store.read("/a").data == b""


@pytest.mark.parametrize("path", ["", "a", "/", "//a", "/a/../b", "/\x00", "/" + "x" * 500])
def test_create_refuses_path_that_cannot_name_stream(store: PublicStore, path: str) -> None:
    with pytest.raises(BadRequest):
        store.create(path)


def test_fork_reads_bytes_of_source_up_to_fork_offset(store: PublicStore) -> None:
    store.create("/a", "text/plain", CreateOptions(initial_data=b"abc"))
    tail = store.get("/a")
    assert tail is not None
    fork = store.create(
        "/b", options=CreateOptions(forked_from="/a", fork_offset=tail.current_offset)
    )
    assert (fork.forked_from, fork.fork_offset, fork.content_type) == (
        "/a",
        tail.current_offset,
        "text/plain",
    )
    begin = tail.current_offset[:-1] + "0"
    store.create(
        "/c", options=CreateOptions(forked_from="/a", fork_offset=begin, fork_sub_offset=2)
    )
    assert store.read("/c").data == b"ab"
    store.delete("/a")
    gone = store.get("/a")
    assert gone is not None
    assert gone.soft_deleted
    assert not store.has("/a")
    with pytest.raises(Gone):
        store.read("/a")
    with pytest.raises(NotFound):
        store.create("/d", options=CreateOptions(forked_from="/nowhere"))


async def test_calls_from_other_threads_run_on_loop_that_owns_store(
    store: PublicStore,
) -> None:
    store.attach(asyncio.get_running_loop(), lambda _: None)

    def work() -> bytes:
        store.create("/a")
        for number in range(10):
            store.append("/a", b"%d" % number)
        with pytest.raises(NotFound):
            store.read("/nowhere")
        return store.read("/a").data

    assert await asyncio.to_thread(work) == b"0123456789"
    assert store.read("/a").data == b"0123456789"
    store.detach()


class StuckStore(StreamStore):
    """A store whose `find` waits until the test resolves the ticket."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.ticket: Ticket[StreamState | None] = Ticket()

    def find(self, path: str) -> Ticket[StreamState | None]:
        self.asked.set()
        return self.ticket


async def test_failure_of_store_reaches_waiting_thread() -> None:
    stuck = StuckStore()
    loop = asyncio.get_running_loop()
    stuck.attach(loop, lambda _: None)
    call = asyncio.create_task(asyncio.to_thread(stuck.get, "/a"))
    await stuck.asked.wait()
    stuck.ticket.fail(Abandoned(OSError("no disk")))
    with pytest.raises(OSError, match="no disk"):
        await call


def test_read_returns_all_pages_in_one_result(
    store: PublicStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synchronous, "DEFAULT_PAGE_SIZE", 1)
    data = bytes(range(256)) * 20
    store.create("/a")
    for octet in data:
        store.append("/a", bytes([octet]))
    found = store.read("/a")
    assert len(found.messages) == len(data)
    assert (found.data, found.up_to_date) == (data, True)


INTEGERS = [-(10**5000), -1, 2**53, 2**64, 10**5000]


@pytest.mark.parametrize("number", INTEGERS, ids=["vast-", "-1", "2^53", "2^64", "vast"])
def test_huge_or_negative_number_is_refused(store: PublicStore, number: int) -> None:
    store.create("/a")
    start = "0000000000000000_0000000000000000"
    for options in (
        CreateOptions(ttl_seconds=number),
        CreateOptions(forked_from="/a", fork_offset=start, fork_sub_offset=number),
    ):
        with pytest.raises(BadRequest):
            store.create("/b", options=options)
    with pytest.raises(BadRequest):
        store.append("/a", b"x", producer_id="p", producer_epoch=number, producer_seq=0)
    with pytest.raises(BadRequest):
        store.append("/a", b"x", producer_id="p", producer_epoch=0, producer_seq=number)
    assert not store.has("/b")
    assert store.read("/a").data == b""


@pytest.mark.parametrize("path", ["/", "/a/", "/\ud800", "/\0", "/" + "x" * 500])
def test_path_that_cannot_name_stream_is_not_found(store: PublicStore, path: str) -> None:
    assert store.get(path) is None
    assert not store.delete(path)
    with pytest.raises(NotFound):
        store.append(path, b"x")
    with pytest.raises(NotFound):
        store.read(path)


def test_text_that_is_not_utf8_is_refused(store: PublicStore) -> None:
    store.create("/a")
    with pytest.raises(BadRequest) as caught:
        store.append("/a", b"x", seq="\ud800")
    assert caught.value.code == "INVALID_SEQ"
    with pytest.raises(BadRequest) as caught:
        store.append("/a", b"x", producer_id="\ud800", producer_epoch=0, producer_seq=0)
    assert caught.value.code == "INVALID_PRODUCER"


@pytest.mark.parametrize("path", ["chat", "", "v1/stream/chat", " /chat"])
@pytest.mark.parametrize(
    "call",
    [
        lambda store, path: store.create(path),
        lambda store, path: store.create("/fork", None, CreateOptions(forked_from=path)),
        lambda store, path: store.get(path),
        lambda store, path: store.has(path),
        lambda store, path: store.append(path, b"x"),
        lambda store, path: store.read(path),
        lambda store, path: store.delete(path),
    ],
    ids=["create", "fork", "get", "has", "append", "read", "delete"],
)
def test_relative_path_is_refused_with_clear_message(
    store: PublicStore, call: Callable[[PublicStore, str], object], path: str
) -> None:
    with pytest.raises(BadRequest, match="must begin with a slash") as refused:
        call(store, path)
    assert refused.value.code == "INVALID_PATH"
