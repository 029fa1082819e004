"""What browsers and caches need around every response."""

import json
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.asgi import DurableStreamsApp
from durable_streams_server.http.browser import Browser
from tests.http.asgi_driver import request

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


@pytest.mark.parametrize("kind", ["memory", "files"])
async def test_answer_has_no_header_twice_but_vary_for_each_reason(
    kind: str, tmp_path: Path
) -> None:
    """Browsers refuse a response that names its allowed origin twice."""
    store = StreamStore() if kind == "memory" else FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store, cors=["https://app.example"])
    app.engine.start()
    json_headers = {"origin": "https://app.example", "content-type": "application/json"}
    try:
        for method, body in (
            ("OPTIONS", b""),
            ("PUT", b""),
            ("POST", b"1"),
            ("POST", b"no value"),
            ("POST", BIG),
            ("POST", b"[" + b"1," * 100_000 + b"1]"),
            ("HEAD", b""),
            ("GET", b""),
            ("DELETE", b""),
            ("GET", b""),
        ):
            answer = await request(app, method, A, json_headers, body)
            names = [value if name == b"vary" else name for name, value in answer.pairs]
            assert (b"access-control-allow-origin", b"https://app.example") in answer.pairs
            assert len(names) == len(set(names)), (method, answer.status, names)
    finally:
        await app.stop()
        store.close()


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
