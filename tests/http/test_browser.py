"""What browsers and caches need around every response."""

import asyncio
import gzip
import json

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http import browser
from durable_streams_server.http.asgi import DurableStreamsApp
from durable_streams_server.http.browser import Browser
from tests.http.asgi_driver import request
from tests.http.socket_driver import complaints

A = "/v1/stream/a"
BIG = json.dumps(list(range(3000))).encode()


@pytest.fixture
async def store() -> StreamStore:
    store = StreamStore()
    store.create(A, "application/json")
    store.append(A, BIG)
    return store


@pytest.fixture
async def app(store: StreamStore) -> DurableStreamsApp:
    return create_app(store=store)


def listed(value: str) -> set[str]:
    return {item.strip().lower() for item in value.split(",")}


async def test_a_preflight_allows_all_that_the_protocol_sends(
    app: DurableStreamsApp,
) -> None:  # TRAPS 34, 44
    answer = await request(app, "OPTIONS", A, {"origin": "https://app.example"})
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert listed(answer.headers["access-control-allow-methods"]) >= {
        "get",
        "put",
        "post",
        "delete",
        "head",
    }
    assert listed(answer.headers["access-control-allow-headers"]) >= {
        "content-type",
        "authorization",
        "if-none-match",
        "last-event-id",
        "stream-seq",
        "stream-ttl",
        "stream-expires-at",
        "stream-closed",
        "stream-forked-from",
        "stream-fork-offset",
        "stream-fork-sub-offset",
        "stream-expected-offset",
        "producer-id",
        "producer-epoch",
        "producer-seq",
    }


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", A, 200),
        ("GET", "/v1/stream/nowhere", 404),
        ("PUT", "/v1/stream/b", 201),
        ("POST", A, 400),
        ("FOO", A, 405),
    ],
)
async def test_every_response_can_be_read_by_a_script_and_is_not_sniffed(
    app: DurableStreamsApp, method: str, url: str, status: int
) -> None:  # TRAPS 34
    answer = await request(app, method, url)
    assert answer.status == status
    assert listed(answer.headers["access-control-expose-headers"]) >= {
        "stream-next-offset",
        "stream-cursor",
        "stream-up-to-date",
        "stream-closed",
        "stream-ttl",
        "stream-expires-at",
        "stream-sse-data-encoding",
        "producer-epoch",
        "producer-seq",
        "producer-expected-seq",
        "producer-received-seq",
        "etag",
        "location",
        "retry-after",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


async def test_one_origin_is_allowed_and_caches_are_told(store: StreamStore) -> None:
    app = create_app(store=store, cors=["https://app.example"])
    allowed = await request(app, "GET", A, {"origin": "https://app.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    for origin in ("https://evil.example", "https://app.example.evil", "null"):
        other = await request(app, "GET", A, {"origin": origin})
        assert "access-control-allow-origin" not in other.headers
        assert (b"vary", b"Origin") in other.pairs


async def test_cors_can_be_off(store: StreamStore) -> None:
    app = create_app(store=store, cors=False)
    for method in ("GET", "OPTIONS"):
        answer = await request(app, method, A, {"origin": "https://app.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin", ["", "app.example", "https://", "https://a/b", "https://a b", "none"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        Browser([origin])


async def test_a_large_page_is_compressed_for_who_takes_it(app: DurableStreamsApp) -> None:
    plain = await request(app, "GET", A)
    packed = await request(app, "GET", A, {"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
    assert packed.headers["etag"] != plain.headers["etag"]
    for answer in (plain, packed):
        assert (b"vary", b"Accept-Encoding") in answer.pairs
        tag = {"if-none-match": answer.headers["etag"], "accept-encoding": "gzip"}
        same = await request(app, "GET", A, tag)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", answer.headers["etag"])


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip; q=0.0", "identity", "gzipped"])
async def test_nobody_gets_what_they_did_not_ask_for(app: DurableStreamsApp, accepted: str) -> None:
    answer = await request(app, "GET", A, {"accept-encoding": accepted})
    assert "content-encoding" not in answer.headers


async def test_small_pages_and_octets_are_not_compressed(store: StreamStore) -> None:
    app = create_app(store=store)
    store.create("/small", "text/plain")
    store.append("/small", b"x" * 100)
    store.create("/octets")
    store.append("/octets", b"x" * 100_000)
    for path in ("/small", "/octets"):
        answer = await request(app, "GET", path, {"accept-encoding": "gzip"})
        assert "content-encoding" not in answer.headers
    off = create_app(store=store, compression=False)
    answer = await request(off, "GET", A, {"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers


async def test_page_that_cannot_be_compressed_is_a_500_and_holds_nobody(
    app: DurableStreamsApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setattr(browser, "_gzip", fail)
    answer = await request(app, "GET", A, {"accept-encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")
    assert complaints(caplog) == ["a request failed"]


async def test_page_is_refused_when_its_compression_is_cancelled(
    app: DurableStreamsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()
    monkeypatch.setattr(loop, "run_in_executor", lambda *_: future)
    future.cancel()
    answer = await request(app, "GET", A, {"accept-encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (503, "SERVER_STOPPING")


async def test_page_is_a_500_when_there_is_no_thread_to_compress_it(
    app: DurableStreamsApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    answer = await request(app, "GET", A, {"accept-encoding": "gzip"})
    assert answer.status == 500
    assert complaints(caplog) == ["a request failed"]
