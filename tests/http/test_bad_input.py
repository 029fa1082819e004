"""Bad input: each kind is refused with a 4xx, a short text and a stable code. It writes nothing and leaks nothing."""

import re
from typing import NamedTuple

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from tests.http.asgi_driver import HeaderList, request

S = "/v1/stream/"
JSON = ("content-type", "application/json")
TEXT = ("content-type", "text/plain")
ZERO = "0000000000000000_0000000000000000"
BIG = str(2**53)
CODED = "UNSUPPORTED_CONTENT_ENCODING"
STREAMS = ("json", "text", "closed", "old", "busy")


class Case(NamedTuple):
    """One bad request. In a URL or header, `{json}` stands for the incarnation of the stream `json`, and so on."""

    name: str
    method: str
    url: str | bytes
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int
    code: str


def get(name: str, query: str, code: str, status: int = 400, stream: str = "json") -> Case:
    """Returns a read that must be refused."""
    return Case(f"read-{name}", "GET", f"{S}{stream}?{query}", (), b"", status, code)


def put(
    name: str, headers: tuple[tuple[str, str], ...], code: str, status: int = 400, body: bytes = b""
) -> Case:
    """Returns a create that must be refused."""
    return Case(f"create-{name}", "PUT", f"{S}new", headers, body, status, code)


def post(
    name: str,
    headers: tuple[tuple[str, str], ...],
    code: str,
    status: int = 400,
    body: bytes = b"1",
    stream: str = "json",
) -> Case:
    """Returns an append that must be refused."""
    return Case(f"append-{name}", "POST", f"{S}{stream}", headers, body, status, code)


def stamp_case(
    name: str, stamp: dict[str, str], code: str = "INVALID_PRODUCER", status: int = 400
) -> Case:
    """Returns an append whose producer headers have the values in `stamp`."""
    headers = tuple((f"producer-{key}", value) for key, value in stamp.items())
    return post(f"producer-{name}", (JSON, *headers), code, status)


def producer(name: str, code: str = "INVALID_PRODUCER", status: int = 400, **stamp: str) -> Case:
    """Returns an append with producer headers."""
    return stamp_case(name, stamp, code, status)


def fork(name: str, code: str, status: int = 400, source: str = S + "text", **place: str) -> Case:
    """Returns a fork that must be refused, with the fork offset and sub-offset in `place`."""
    headers = tuple((f"stream-fork-{key.replace('_', '-')}", value) for key, value in place.items())
    return put(f"fork-{name}", (("stream-forked-from", source), *headers), code, status)


def path(name: str, raw: bytes) -> Case:
    """Returns a create whose path must be refused."""
    return Case(f"path-{name}", "PUT", raw, (TEXT,), b"", 400, "INVALID_PATH")


CASES = [
    # offsets
    *(
        get(f"offset-{name}", f"offset={value}", "INVALID_OFFSET")
        for name, value in {
            "empty": "",
            "number": "1",
            "short": "0_0",
            "negative": "-2",
            "words": "latest",
            "capital": "NOW",
            "no-digits": "000000000000000x_0000000000000000",
            "other-digits": "%D9%A0" * 16 + "_" + "0" * 16,
            "space": "-1%20",
            "newline": ZERO + "%0A",
            "twice": "-1&offset=-1",
            "past-the-tail": "{json}_0000000000000099",
            "never-minted": "9999999999999999_0000000000000000",
            "inside-a-value": "{json}_0000000000000001",
            "inside-an-append": "{text}_0000000000000003",
        }.items()
    ),
    get(
        "offset-of-an-earlier-life",
        "offset={old-before}_0000000000000001",
        "OFFSET_GONE",
        410,
        "old",
    ),
    # live
    get("live-unknown", "offset=-1&live=true", "INVALID_LIVE"),
    get("live-empty", "offset=-1&live=", "INVALID_LIVE"),
    get("live-twice", "offset=-1&live=sse&live=sse", "INVALID_LIVE"),
    get("live-other-case", "offset=-1&live=SSE", "INVALID_LIVE"),
    get("sse-without-offset", "live=sse", "MISSING_OFFSET"),
    get("long-poll-without-offset", "live=long-poll", "MISSING_OFFSET"),
    get("long-poll-bad-offset", "offset=x&live=long-poll", "INVALID_OFFSET"),
    get("cursor-twice", "offset=-1&cursor=1&cursor=2", "INVALID_CURSOR"),
    get("cursor-too-long", "offset=-1&cursor=" + "1" * 257, "INVALID_CURSOR"),
    get("cursor-without-a-next", "offset=-1&cursor=" + "9" * 256, "INVALID_CURSOR"),
    get("query-undecodable", "offset=%ff", "INVALID_QUERY"),
    get("query-too-many", "&".join(["a=1"] * 65), "INVALID_QUERY"),
    # lifetimes
    *(
        put(f"ttl-{value or 'empty'}", (TEXT, ("stream-ttl", value)), "INVALID_TTL")
        for value in (
            "",
            "+5",
            "05",
            "-1",
            "1.5",
            "1e3",
            "0x1",
            "5 5",
            "5s",
            "18446744073709551615",
        )
    ),
    *(
        put(
            f"deadline-{value or 'empty'}",
            (TEXT, ("stream-expires-at", value)),
            "INVALID_EXPIRES_AT",
        )
        for value in (
            "",
            "tomorrow",
            "1767225600",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-02-30T00:00:00Z",
            "2030-01-01T25:00:00Z",
            "2030-01-01T00:00:00+99:00",
        )
    ),
    put(
        "ttl-and-deadline",
        (TEXT, ("stream-ttl", "5"), ("stream-expires-at", "2030-01-01T00:00:00Z")),
        "CONFLICTING_LIFETIME",
    ),
    # producers
    producer("without-epoch", id="p", seq="0"),
    producer("without-seq", id="p", epoch="0"),
    producer("without-id", epoch="0", seq="0"),
    producer("empty-id", id="", epoch="0", seq="0"),
    producer("long-id", id="p" * 257, epoch="0", seq="0"),
    *(
        stamp_case(f"{key}-{value or 'empty'}", {"id": "p", "epoch": "0", "seq": "0", key: value})
        for key in ("epoch", "seq")
        for value in ("", "-1", "+1", "1.5", "1e3", "x", BIG)
    ),
    producer("first-not-zero", "PRODUCER_SEQUENCE_GAP", 409, id="new", epoch="0", seq="1"),
    producer("gap", "PRODUCER_SEQUENCE_GAP", 409, id="known", epoch="1", seq="2"),
    producer("new-epoch-not-zero", id="known", epoch="2", seq="1"),
    producer("zombie", "PRODUCER_FENCED", 403, id="known", epoch="0", seq="0"),
    # forks
    fork("offset-malformed", "INVALID_OFFSET", offset="x"),
    fork("offset-empty", "INVALID_OFFSET", offset=""),
    fork("offset-past-the-tail", "INVALID_OFFSET", offset="{text}_0000000000000099"),
    fork("offset-never-minted", "INVALID_OFFSET", offset="9999999999999999_0000000000000000"),
    fork(
        "offset-of-an-earlier-life",
        "INVALID_OFFSET",
        source=S + "old",
        offset="{old-before}_0000000000000001",
    ),
    fork(
        "offset-inside-a-value",
        "INVALID_OFFSET",
        source=S + "json",
        offset="{json}_0000000000000001",
    ),
    *(
        fork(f"sub-offset-{value or 'empty'}", "INVALID_SUB_OFFSET", offset=ZERO, sub_offset=value)
        for value in ("", "-1", "+1", "01", "1.5", "1e3", "x", "9" * 20)
    ),
    fork("sub-offset-past-the-append", "INVALID_SUB_OFFSET", offset=ZERO, sub_offset="99"),
    fork("sub-offset-alone", "INVALID_SUB_OFFSET", sub_offset="1"),
    put("fork-offset-without-source", (("stream-fork-offset", ZERO),), "INVALID_FORK"),
    put("sub-offset-without-source", (("stream-fork-sub-offset", "0"),), "INVALID_FORK"),
    fork("source-malformed", "INVALID_PATH", source="//"),
    fork("source-empty", "INVALID_PATH", source=""),
    fork("source-missing", "SOURCE_NOT_FOUND", 404, source=S + "nowhere"),
    fork("source-reserved", "RESERVED_PATH", 404, source=S + "__ds/x"),
    put(
        "fork-of-another-type",
        (JSON, ("stream-forked-from", S + "text")),
        "CONTENT_TYPE_MISMATCH",
        409,
    ),
    # public
    *(
        put(f"public-{value or 'empty'}", (TEXT, ("stream-public", value)), "INVALID_PUBLIC")
        for value in ("", "false", "TRUE", "1")
    ),
    # sequence and expected offset
    post("seq-empty", (JSON, ("stream-seq", "")), "INVALID_SEQ"),
    post("seq-long", (JSON, ("stream-seq", "x" * 257)), "INVALID_SEQ"),
    post("seq-not-greater", (JSON, ("stream-seq", "5")), "SEQUENCE_REGRESSION", 409),
    post("expected-malformed", (JSON, ("stream-expected-offset", "now")), "INVALID_OFFSET"),
    post(
        "expected-elsewhere",
        (JSON, ("stream-expected-offset", ZERO)),
        "EXPECTED_OFFSET_MISMATCH",
        409,
    ),
    # paths
    path("nul", b"/a%00b"),
    path("raw-nul", b"/a\x00b"),
    path("undecodable", b"/a%ff"),
    path("cut-character", b"/a%C3"),
    path("bad-escape", b"/a%zz"),
    path("cut-escape", b"/a%2"),
    path("over-long", b"/" + b"x" * 500),
    path("over-long-decoded", b"/" + b"%C3%A9" * 250),
    path("dot", b"/a/./b"),
    path("dot-dot", b"/a/../b"),
    path("encoded-dot-dot", b"/a/%2e%2E/b"),
    path("empty-segment", b"/v1/stream//a"),
    path("root", b"/"),
    Case("path-reserved", "PUT", S + "__ds/anything", (TEXT,), b"", 404, "RESERVED_PATH"),
    Case("path-health", "PUT", "/healthz", (TEXT,), b"", 405, "METHOD_NOT_ALLOWED"),
    Case("path-metrics", "PUT", "/metrics", (TEXT,), b"", 405, "METHOD_NOT_ALLOWED"),
    # JSON
    *(
        post(f"json-{name}", (JSON,), "INVALID_JSON", body=body)
        for name, body in {
            "truncated": b'{"a":',
            "trailing": b"1 2",
            "blank": b"  ",
            "deep": b"[" * 129 + b"1" + b"]" * 129,
            "very-deep": b"[" * 100_000,
            "nan": b"NaN",
            "infinity": b"[-Infinity]",
            "byte-order-mark": b"\xef\xbb\xbf1",
            "not-utf-8": b'"\xff"',
            "single-quotes": b"{'a': 1}",
        }.items()
    ),
    post("json-empty-array", (JSON,), "EMPTY_ARRAY", body=b"[]"),
    put("json-truncated", (JSON,), "INVALID_JSON", body=b"[1,"),
    # types, bodies
    post("empty", (JSON,), "EMPTY_BODY", body=b""),
    post("type-missing", (), "MISSING_CONTENT_TYPE"),
    post("type-malformed", (("content-type", "json"),), "INVALID_CONTENT_TYPE"),
    put("type-malformed", (("content-type", "text/"),), "INVALID_CONTENT_TYPE"),
    put("type-long", (("content-type", "a/" + "b" * 300),), "INVALID_CONTENT_TYPE"),
    *(
        post(f"coded-{coding}", (JSON, ("content-encoding", coding)), CODED, 415)
        for coding in (
            "gzip",
            "x-gzip",
            "br",
            "deflate",
            "zstd",
            "GZIP",
            "identity, gzip",
            "x",
            "*",
        )
    ),
    post(
        "coded-twice", (JSON, *(("content-encoding", c) for c in ("identity", "gzip"))), CODED, 415
    ),
    post("coded-of-no-type", (("content-encoding", "gzip"),), CODED, 415),
    put("coded", (TEXT, ("content-encoding", "gzip")), CODED, 415, b"x"),
    *(
        Case(
            f"coded-{route}",
            "POST" if "/" in route else "PUT",
            f"{S}__ds/subscriptions/{route}",
            (JSON, ("content-encoding", "gzip")),
            b"{}",
            415,
            CODED,
        )
        for route in ("s", "s/streams", "s/claim")
    ),
    post("type-other", (TEXT,), "CONTENT_TYPE_MISMATCH", 409),
    post("closed", (JSON,), "STREAM_CLOSED", 409, stream="closed"),
    post("nowhere", (JSON,), "STREAM_NOT_FOUND", 404, stream="nowhere"),
    Case("create-other", "PUT", S + "json", (TEXT,), b"", 409, "STREAM_EXISTS"),
    # conflicting headers
    *(
        post(f"twice-{name}", (JSON, (name, value), (name, value)), "REPEATED_HEADER")
        for name, value in {
            "stream-seq": "6",
            "stream-closed": "true",
            "stream-expected-offset": ZERO,
            "producer-id": "p",
            "producer-epoch": "0",
            "producer-seq": "0",
            "content-length": "1",
        }.items()
    ),
    post("twice-content-type", (JSON, TEXT), "REPEATED_HEADER"),
    *(
        put(f"twice-{name}", (TEXT, (name, value), (name, value)), "REPEATED_HEADER")
        for name, value in {
            "stream-ttl": "5",
            "stream-expires-at": "2030-01-01T00:00:00Z",
            "stream-forked-from": S + "text",
            "stream-fork-offset": ZERO,
            "stream-fork-sub-offset": "0",
            "stream-public": "true",
        }.items()
    ),
    # methods
    *(
        Case(f"method-{method}", method, S + "json", (), b"", 405, "METHOD_NOT_ALLOWED")
        for method in ("PATCH", "TRACE", "CONNECT", "FOO", "get")
    ),
]


async def prepare() -> tuple[DurableStreamsApp, StreamStore, dict[str, str]]:
    """Returns an application, its store with all streams, and the incarnations by stream."""
    store = StreamStore()
    store.create(S + "old")
    old = store.append(S + "old", b"abc").next_offset[:16]
    store.delete(S + "old")
    for name, media in zip(
        STREAMS, ["application/json", "text/plain", "application/json", "", ""], strict=True
    ):
        store.create(S + name, media or None)
    store.append(S + "json", b'["long", 2]', seq="5")
    store.append(S + "json", b"3", producer_id="known", producer_epoch=1, producer_seq=0)
    store.append(S + "text", b"hello")
    store.append(S + "old", b"abcdef")
    store.append(S + "closed", b"1", close=True)
    incarnations = {name: current_offset(store, name)[:16] for name in STREAMS}
    return create_app(store=store), store, {**incarnations, "old-before": old}


def current_offset(store: StreamStore, name: str) -> str:
    """Returns the tail of a stream."""
    stream = store.get(S + name)
    assert stream is not None
    return stream.current_offset


def fill(text: str, names: dict[str, str]) -> str:
    """Returns a text with incarnations in place of the names in braces."""
    return re.sub(r"\{([a-z-]+)\}", lambda match: names[match[1]], text)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_bad_input_is_refused_and_changes_nothing(case: Case) -> None:
    app, store, names = await prepare()
    before = {name: store.get(S + name) for name in STREAMS}
    contents = {name: store.read(S + name) for name in STREAMS}
    headers: HeaderList = [
        (name.encode(), fill(value, names).encode("latin-1")) for name, value in case.headers
    ]
    url = case.url if isinstance(case.url, bytes) else fill(case.url, names)

    answer = await request(app, case.method, url, headers, case.body)

    assert (answer.status, answer.error["code"]) == (case.status, case.code)
    assert 5 < len(answer.error["message"]) < 120
    assert not re.search(r"Traceback|\.py|Error\b|0x[0-9a-f]|b'|<|_", answer.error["message"])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("allow" in answer.headers) is (case.status == 405)
    assert {name: store.get(S + name) for name in STREAMS} == before
    assert {name: store.read(S + name) for name in STREAMS} == contents
    assert set(store.paths()) == {S + name for name in STREAMS}
