"""`OriginCheck`: pages of foreign origins change nothing. `LocalOrigins`: which pages come from this machine."""

import pytest

from durable_streams_server import AccessControl, StreamStore, create_app
from durable_streams_server.errors import Forbidden
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.gate.hosts import HostNames
from durable_streams_server.http.gate.origins import LocalOrigins, OriginCheck
from durable_streams_server.http.request import Request
from tests.http.lanes import Caller

A = "/v1/stream/a"
STRANGER = "https://evil.example"
LOCAL = "http://localhost:3000"
WRITES = ["PUT", "POST", "DELETE", "PATCH"]


def for_machine(*cors: str) -> DurableStreamsApp:
    """Returns the application that `serve` runs on loopback without access control, with a stream of text."""
    store = StreamStore()
    access = AccessControl(allowed_hosts=["h"], refuse_foreign_writes=True)
    app = create_app(store=store, cors=cors, access=access)
    app.begin()
    store.create(A, "text/plain")
    return app


@pytest.fixture(params=["asgi", "native"])
def native(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "native")


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1",
        "http://127.0.0.1:3000",
        "https://127.9.9.9",
        "http://[::1]:3000",
        "http://localhost",
        "https://localhost:8443",
        "http://app.localhost:5173",
        "https://streams.example",
        "http://box:80",
    ],
)
def test_pages_of_this_machine_are_local(origin: str) -> None:
    names = HostNames(["streams.example"])
    local = LocalOrigins(names)
    names.add("BOX")
    for _ in range(2):  # the second time from the origins that are known
        assert origin.encode() in local


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "local",
        "localhost",
        "http://",
        "https://evil.example",
        "http://192.0.2.7",
        "http://0.0.0.0:80",
        "http://[2001:db8::1]",
        "http://localhost.evil.example",
        "http://notlocalhost",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "http://localhost/",
        "http://localhost:80:80",
        "http://localhost, http://evil.example",
        "http://[::1]evil.example",
        "file://localhost",
        "chrome-extension://localhost",
        "http://é",
    ],
)
def test_other_origins_are_foreign(origin: str) -> None:
    local = LocalOrigins(HostNames(["streams.example"]))
    for _ in range(2):
        assert origin.encode("latin-1") not in local


def test_name_that_is_added_later_is_local() -> None:
    names = HostNames()
    local = LocalOrigins(names)
    assert b"http://box" not in local
    names.add("box")
    assert b"http://box" in local


def test_known_origins_are_bounded() -> None:
    local = LocalOrigins(HostNames())
    assert all(b"http://localhost:%d" % port in local for port in range(1, 1000))
    assert len(local._known) <= 256


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),
        ({b"origin": b"https://app.example"}, False),
        ({b"origin": b"https://evil.example"}, True),
        ({b"origin": b"null"}, True),
        ({b"origin": b"http://localhost:3000"}, True),  # because this check has no `LocalOrigins`
        ({b"origin": b""}, True),
        # a page of the server's own origin, or of a proxy in front of it
        ({b"origin": b"http://192.0.2.7:80", b"host": b"192.0.2.7:80"}, False),
        ({b"origin": b"https://Streams.example", b"host": b"streams.example"}, False),
        ({b"origin": b"http://192.0.2.7:80", b"host": b"192.0.2.7:81"}, True),
        ({b"origin": b"null", b"host": b"null"}, True),
        # no page of a server has these
        ({b"origin": b"app://localhost", b"host": b"localhost"}, True),
        ({b"origin": b"HTTP://localhost", b"host": b"localhost"}, True),
        ({b"origin": b"local"}, True),
        ({b"origin": b"null", b"host": b""}, True),
        ({b"origin": b"https://a.example", b"sec-fetch-site": b"same-origin"}, False),
        ({b"origin": b"https://a.example", b"sec-fetch-site": b"same-site"}, True),
        (
            {b"origin": b"http://a.example", b"host": b"a.example", b"sec-fetch-site": b"none"},
            True,
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_foreign_pages_may_only_read(
    method: str, headers: dict[bytes, bytes], is_refused: bool
) -> None:
    check = OriginCheck(["local", "https://app.example"], None)
    asking = Request(method, A.encode(), b"", headers)
    if method == "GET" or not is_refused:
        check(asking)
        return
    with pytest.raises(Forbidden) as caught:
        check(asking)
    assert (caught.value.status, caught.value.code) == (403, "FOREIGN_ORIGIN")


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("cors", [("local",), ()], ids=["local", "none"])
@pytest.mark.parametrize("origin", [STRANGER, "null"])
async def test_write_of_a_stranger_is_refused_before_anything_is_done(
    native: bool, method: str, cors: tuple[str, ...], origin: str
) -> None:
    app = for_machine(*cors)
    ask = Caller(app, native)
    headers = {"origin": origin, "content-type": "text/plain"}
    body = b"x" if method in ("PUT", "POST") else b""
    for path in (A, "/v1/stream/new", "/v1/stream/__ds/subscriptions/s"):
        for _ in range(3):  # the last request has a head that is known
            refused = await ask(method, path, headers, body)
            assert (refused.status, b"FOREIGN_ORIGIN" in refused.body) == (403, True)
            assert not any(name.startswith("access-control") for name in refused.headers)
    assert (await ask("GET", A)).body == b""
    assert (await ask("GET", "/v1/stream/new")).status == 404


async def test_pages_of_this_machine_and_programs_may_do_everything(native: bool) -> None:
    ask = Caller(for_machine("local"), native)
    for origin in (LOCAL, None):
        headers = {"content-type": "text/plain"} | ({} if origin is None else {"origin": origin})
        answers = [
            await ask(method, path, headers, body)
            for method, path, body in (
                ("PUT", "/v1/stream/new", b""),
                *[("POST", "/v1/stream/new", b"x")] * 3,
                *[("GET", "/v1/stream/new?offset=now", b"")] * 3,
                *[("HEAD", "/v1/stream/new", b"")] * 3,
                ("GET", "/v1/stream/new", b""),
                ("OPTIONS", "/v1/stream/new", b""),
                ("DELETE", "/v1/stream/new", b""),
            )
        ]
        assert {answer.status for answer in answers} == {200, 201, 204}
        assert {answer.headers.get("access-control-allow-origin") for answer in answers} == {origin}
        assert {answer.headers["vary"].partition(",")[0] for answer in answers} == {"Origin"}
        embedding = "same-site" if origin is None else "cross-origin"
        assert {answer.headers["cross-origin-resource-policy"] for answer in answers} == {embedding}
        assert all("access-control-allow-credentials" not in answer.headers for answer in answers)


async def test_stranger_reads_without_the_header_that_allows_its_origin(native: bool) -> None:
    ask = Caller(for_machine("local"), native)
    for origin in (STRANGER, "null"):
        for method, path in (("GET", A), ("HEAD", A), ("OPTIONS", A), ("GET", A + "?offset=now")):
            for asking in (LOCAL, origin, origin, origin):  # no kept response is shared
                answer = await ask(method, path, {"origin": asking})
                assert answer.status in (200, 204)
            allowed = {name for name in answer.headers if name.startswith("access-control")}
            lists = {
                f"access-control-{each}" for each in ("allow-methods", "allow-headers", "max-age")
            }
            assert allowed == (lists if method == "OPTIONS" else set())
            assert answer.headers["vary"].partition(",")[0] == "Origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-site"


async def test_listed_origin_beside_local_ones_writes_with_credentials(native: bool) -> None:
    ask = Caller(for_machine("local", "https://app.example"), native)
    text = {"content-type": "text/plain"}
    for origin in ("https://app.example", LOCAL):
        answer = await ask("POST", A, {**text, "origin": origin}, b"x")
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == origin
        has_credentials = "access-control-allow-credentials" in answer.headers
        assert has_credentials == (origin != LOCAL)


async def test_every_page_writes_if_every_origin_is_allowed(native: bool) -> None:
    ask = Caller(for_machine("*"), native)
    for origin in (STRANGER, "null"):
        answer = await ask("POST", A, {"origin": origin, "content-type": "text/plain"}, b"x")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")


async def test_large_body_of_a_stranger_is_not_received(native: bool) -> None:
    ask = Caller(for_machine("local"), native)
    refused = await ask.without_body("PUT", "/v1/stream/new", {"origin": STRANGER}, 1_000_000)
    assert refused.status == 403


async def test_mounted_application_leaves_writes_to_its_host(native: bool) -> None:
    ask = Caller(create_app(), native)
    made = await ask("PUT", A, {"origin": STRANGER, "content-type": "text/plain"})
    assert made.status == 201
