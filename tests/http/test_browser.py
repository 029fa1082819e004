"""CORS, security headers and `Vary`: every response has each of them once."""

import json
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.browser import Browser
from tests.http.asgi_driver import Answer, request
from tests.http.lanes import Caller

A = "/v1/stream/a"
ORIGIN = "https://app.example"
BIG = json.dumps(list(range(3000))).encode()


@pytest.fixture
async def store() -> StreamStore:
    store = StreamStore()
    store.create(A, "application/json")
    store.append(A, BIG)
    return store


@pytest.fixture
async def app(store: StreamStore) -> DurableStreamsApp:
    return create_app(store=store, cors=True)


def listed(value: str) -> set[str]:
    """Returns the items of a header value that is a list, in lower case."""
    return {item.strip().lower() for item in value.split(",")}


async def test_preflight_allows_the_methods_and_headers_of_the_protocol(
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
        "stream-public",
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
async def test_every_response_exposes_the_headers_of_the_protocol_and_forbids_sniffing(
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


@pytest.fixture(params=["asgi", "native"])
def native(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "native")


async def test_only_a_listed_origin_is_allowed_and_responses_vary_by_origin(
    store: StreamStore, native: bool
) -> None:
    ask = Caller(create_app(store=store, cors=[ORIGIN]), native)
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        allowed = await ask(method, A, {"origin": ORIGIN})
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        for origin in ("https://evil.example", "https://app.example.evil", "null", None):
            other = await ask(method, A, {} if origin is None else {"origin": origin})
            assert not _cors(other)
            assert "Origin" in other.headers["vary"]


async def test_only_listed_origins_may_send_credentials(store: StreamStore, native: bool) -> None:
    ask = Caller(create_app(store=store, cors=["*", ORIGIN]), native)
    for method in ("GET", "OPTIONS"):
        listed_origin = await ask(method, A, {"origin": ORIGIN})
        assert listed_origin.headers["access-control-allow-credentials"] == "true"
        assert listed_origin.headers["access-control-allow-origin"] == ORIGIN
        assert listed_origin.headers["access-control-expose-headers"] != "*"
        other = await ask(method, A, {"origin": "https://other.example"})
        assert other.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in other.headers
    any_origin = await Caller(create_app(store=StreamStore(), cors=True), native)(
        "GET", A, {"origin": ORIGIN}
    )
    assert any_origin.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in any_origin.headers
    assert "vary" not in any_origin.headers


# -- preflight ----------------------------------------------------------------

ASKED = "traceparent,baggage,x-requested-with,X-My-App"


def preflight(asked: str, origin: str = ORIGIN) -> dict[str, str]:
    """Returns the headers of a preflight that asks for some request headers."""
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
    }


@pytest.mark.parametrize("cors", [True, [ORIGIN]], ids=["any", "listed"])
async def test_preflight_allows_the_requested_headers_once_each(
    store: StreamStore, native: bool, cors: Any
) -> None:
    ask = Caller(create_app(store=store, cors=cors), native)
    answer = await ask("OPTIONS", A, preflight(ASKED))
    allowed = [name.strip().lower() for name in _allowed(answer).split(",")]
    assert {"traceparent", "baggage", "x-requested-with", "x-my-app", "stream-seq"} <= {*allowed}
    assert len(allowed) == len(set(allowed))
    again = _allowed(await ask("OPTIONS", A, preflight("content-type , traceparent,Traceparent")))
    assert again.lower().count("traceparent") == again.lower().count("content-type") == 1


@pytest.mark.parametrize(
    "asked",
    [
        "",
        ",",
        "a b",
        "a;b",
        "a, (b)",
        "caf\xe9",
        '"quoted"',
        ",".join(f"x-{n}" for n in range(1000)),
    ],
)
async def test_preflight_ignores_an_invalid_or_long_list_of_headers(
    store: StreamStore, native: bool, asked: str
) -> None:
    ask = Caller(create_app(store=store, cors=[ORIGIN]), native)
    plain = await ask("OPTIONS", A, {"origin": ORIGIN})
    answer = await ask("OPTIONS", A, preflight(asked))
    assert (answer.status, _allowed(answer)) == (204, _allowed(plain))


async def test_preflight_from_an_unlisted_origin_has_no_cors_headers(
    store: StreamStore, native: bool
) -> None:
    ask = Caller(create_app(store=store, cors=[ORIGIN]), native)
    answer = await ask("OPTIONS", A, preflight(ASKED, "https://evil.example"))
    assert answer.status == 204
    assert not _cors(answer)


def _allowed(answer: Answer) -> str:
    """Returns the headers that a preflight allows."""
    return answer.headers["access-control-allow-headers"]


def _cors(answer: Answer) -> list[str]:
    """Returns the names of the CORS headers of a response."""
    return [name for name in answer.headers if name.startswith("access-control")]


# -- every response -----------------------------------------------------------


@pytest.mark.parametrize("cors", [False, True, [ORIGIN], ["*", ORIGIN]], ids=str)
@pytest.mark.parametrize("kind", ["memory", "files"])
async def test_every_response_has_each_common_header_once(
    kind: str, tmp_path: Path, native: bool, cors: Any
) -> None:
    """`Answer` refuses a repeated header, as browsers refuse a response that names its allowed origin twice."""
    store = StreamStore() if kind == "memory" else FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store, cors=cors, sse_max_age=0.01, long_poll_timeout=0.01)
    app.engine.start()
    ask = Caller(app, native)
    has_list = cors not in (False, True)
    seen = set()
    tag = '"none"'
    try:
        for method, target, body in (
            ("OPTIONS", A, b""),
            ("PUT", A, b""),
            *[("GET", A, b"")] * 4,  # the last two are answered from the cache of responses
            *[("HEAD", A, b"")] * 4,
            ("POST", A, b"1"),
            ("POST", A, b"no value"),
            ("POST", A, BIG),
            ("POST", A, b"[" + b"1," * 100_000 + b"1]"),
            ("GET", A, b""),  # compressed
            ("GET", A, b""),  # 304
            ("GET", A + "?offset=now", b""),
            ("GET", A + "?offset=-1&live=long-poll", b""),
            ("GET", A + "?offset=now&live=long-poll", b""),
            ("GET", A + "?offset=-1&live=sse", b""),
            ("GET", A + "?offset=x", b""),
            ("PATCH", A, b""),
            ("GET", "/v1/stream/__ds/jwks.json", b""),
            ("GET", "/v1/stream/__ds/nothing", b""),
            ("DELETE", A, b""),
            ("GET", A, b""),
        ):
            headers = {
                "origin": ORIGIN,
                "content-type": "application/json",
                "accept-encoding": "gzip",
                "if-none-match": tag,
            }
            answer = await ask(method, target, headers, body)
            tag = answer.headers.get("etag", tag)
            seen.add(answer.status)
            assert answer.headers["content-security-policy"] == "sandbox"
            assert answer.headers["x-content-type-options"] == "nosniff"
            vary = [name for name in ("Origin",) if has_list]
            if method == "GET" and "etag" in answer.headers:
                vary.append("Accept-Encoding")
            assert answer.headers.get("vary", "") == ", ".join(vary)
            if has_list:
                assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert seen >= {200, 201, 204, 304, 400, 404, 405}
    finally:
        await app.stop()
        store.close()


async def test_listed_origin_can_read_a_refusal_of_the_head(native: bool) -> None:
    ask = Caller(create_app(cors=[ORIGIN]), native)
    headers = {"origin": ORIGIN, **{f"x-{number}": "x" * 1000 for number in range(100)}}
    answer = await ask("GET", A, headers)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (431, ORIGIN)


@pytest.mark.parametrize(
    "media", ["text/html", "text/xml", "image/svg+xml", "application/xhtml+xml", "text/javascript"]
)
async def test_stream_with_an_active_content_type_is_sandboxed(native: bool, media: str) -> None:
    ask = Caller(create_app(), native)
    await ask("PUT", A, {"content-type": media}, b"<script>alert(1)</script>")
    page = await ask("GET", A)
    assert page.headers["content-type"] == media
    for answer in (
        page,
        await ask("HEAD", A),
        await ask("GET", A, {"if-none-match": page.headers["etag"]}),
    ):
        assert answer.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize("settings", [{}, {"cors": False}], ids=["default", "off"])
async def test_application_sends_no_cors_headers_by_default(
    store: StreamStore, native: bool, settings: dict[str, Any]
) -> None:
    ask = Caller(create_app(store=store, **settings), native)
    for method in ("GET", "OPTIONS"):
        answer = await ask(method, A, preflight(ASKED))
        assert answer.status == (200 if method == "GET" else 204)
        assert not _cors(answer)
        assert "Origin" not in answer.headers.get("vary", "")
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "origin", ["", "app.example", "https://", "https://a/b", "https://a b", "none", "Local"]
)
def test_invalid_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        Browser([origin])
