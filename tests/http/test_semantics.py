"""What HTTP itself asks of a server (RFC 9110, RFC 9112), on real sockets, for both ways that `serve` answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.listening import listen
from durable_streams_server.http.server import HttpLane, Server
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import parse, post, request

A = "/v1/stream/a"
TEXT = "Content-Type: text/plain"
Kept = StreamStore | FileBackedStreamStore


class Site:
    """A server on a socket, and clients of it that write octets."""

    def __init__(self, store: Kept, port: int) -> None:
        self.store = store
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, octets: bytes, *methods: str) -> list[Answer]:
        """Sends requests, the last of which ends the connection, and returns their answers."""
        reader, writer = await self.connect()
        writer.write(octets)
        received = await asyncio.wait_for(reader.read(-1), 5)
        writer.close()
        answers, rest = parse(received, methods)
        assert rest == b""
        return answers

    async def ask(self, octets: bytes, method: str = "GET") -> Answer:
        """Sends one request, and returns its answer."""
        reader, writer = await self.connect()
        writer.write(octets)
        received = b""
        answers: list[Answer] = []
        async with asyncio.timeout(5):
            while not answers:
                part = await reader.read(65536)
                assert part, received
                received += part
                answers, _ = parse(received, [method])
        writer.close()
        return answers[0]


@pytest.fixture(params=["native", "asgi"])
def lane(request: pytest.FixtureRequest) -> HttpLane:
    chosen: HttpLane = request.param
    return chosen


@pytest.fixture(params=["memory", "files"])
async def site(
    request: pytest.FixtureRequest, lane: HttpLane, tmp_path: Path
) -> AsyncIterator[Site]:
    store: Kept = StreamStore()
    if request.param == "files":
        store = FileBackedStreamStore(tmp_path, segment_size=1 << 20)
    async for each in serve(store, lane):
        yield each
    store.close()


async def serve(store: Kept, lane: HttpLane) -> AsyncIterator[Site]:
    server = Server(create_app(store=store, long_poll_timeout=5), http=lane)
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        site = Site(store, listening.getsockname()[1])
        made = await site.ask(request("PUT", A, TEXT, body=b""), "PUT")
        assert made.status == 201
        yield site
        server.should_exit = True
        await asyncio.wait_for(serving, 5)


# -- content codings ---------------------------------------------------------


async def test_large_coded_body_is_refused_before_it_is_sent(site: Site) -> None:
    head = request("POST", A, TEXT, "Content-Encoding: gzip", "Content-Length: 1000000")
    answer = await site.ask(head, "POST")
    assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_CONTENT_ENCODING")
    assert answer.headers["accept-encoding"] == "identity"


async def test_connection_goes_on_after_a_small_coded_body(site: Site) -> None:
    coded = post(b"\x1f\x8b", "Content-Encoding: gzip")
    plain = post(b"plain", "Content-Encoding: identity", "Connection: close")
    answers = await site.exchange(coded + plain, "POST", "POST")
    assert [answer.status for answer in answers] == [415, 204]
    assert (await site.ask(request("GET"))).body == b"plain"


async def test_close_without_a_body_may_name_a_coding(site: Site) -> None:
    closing = request("POST", A, "Stream-Closed: true", "Content-Encoding: gzip")
    assert (await site.ask(closing, "POST")).status == 204


# -- preconditions of writes -------------------------------------------------


async def tag(site: Site) -> str:
    """Returns the stream's tag, by HEAD."""
    return (await site.ask(request("HEAD"), "HEAD")).headers["etag"]


async def test_tag_of_head_is_that_of_a_page_with_the_whole_stream(site: Site) -> None:
    for octets in (post(b"one"), post(b"two"), post(b"three", "Stream-Closed: true")):
        assert (await site.ask(octets, "POST")).status == 204
        assert await tag(site) == (await site.ask(request("GET"))).headers["etag"]
    same = await site.ask(request("HEAD", A, f"If-None-Match: {await tag(site)}"), "HEAD")
    assert (same.status, same.headers["etag"]) == (304, await tag(site))
    assert (await site.ask(request("HEAD", A, 'If-None-Match: "x"'), "HEAD")).status == 200


async def test_tag_of_a_page_at_the_tail_names_the_state(site: Site) -> None:
    first = await site.ask(post(b"one"), "POST")
    await site.ask(post(b"two"), "POST")
    page = await site.ask(request("GET", f"{A}?offset={first.headers['stream-next-offset']}"))
    assert page.body == b"two"
    condition = f"If-Match: {page.headers['etag']}"
    assert (await site.ask(post(b"three", condition), "POST")).status == 204
    assert (await site.ask(post(b"four", condition), "POST")).status == 412


async def test_of_many_writers_with_one_tag_one_wins(site: Site) -> None:
    octets = [post(b"x%d" % number, f"If-Match: {await tag(site)}") for number in range(20)]
    answers = await asyncio.gather(*(site.ask(each, "POST") for each in octets))
    assert sorted(answer.status for answer in answers) == [204] + [412] * 19
    now = await tag(site)
    for answer in answers:
        if answer.status == 412:
            assert answer.error["code"] == "PRECONDITION_FAILED"
            assert answer.headers["etag"] == now
            assert "stream-next-offset" in answer.headers
    assert len((await site.ask(request("GET"))).body) in (2, 3)


async def test_same_conditional_append_on_one_connection_is_made_once(site: Site) -> None:
    """The server knows the second and third head by its octets, and must not forget its condition."""
    octets = post(b"x", f"If-Match: {await tag(site)}")
    reader, writer = await site.connect()
    statuses = []
    for _ in range(4):
        writer.write(octets)
        received = b""
        while not (answers := parse(received, ["POST"])[0]):
            received += await asyncio.wait_for(reader.read(65536), 5)
        statuses.append(answers[0].status)
    writer.close()
    assert statuses == [204, 412, 412, 412]
    always = post(b"y", "If-Match: *")
    assert [(await site.ask(always, "POST")).status for _ in range(3)] == [204] * 3
    assert (await site.ask(request("GET"))).body == b"xyyy"


async def test_create_only_if_nothing_is_there(site: Site) -> None:
    once = request("PUT", A + "/new", TEXT, "If-None-Match: *", body=b"x")
    assert [(await site.ask(once, "PUT")).status for _ in range(2)] == [201, 412]
    other = request("PUT", A + "/new", "If-None-Match: *", body=b"")
    assert (await site.ask(other, "PUT")).status == 412
    never = request("PUT", A + "/other", TEXT, "If-Match: *", body=b"x")
    assert (await site.ask(never, "PUT")).status == 412
    assert (await site.ask(request("HEAD", A + "/other"), "HEAD")).status == 404


async def test_delete_spares_a_stream_that_has_changed(site: Site) -> None:
    before = await tag(site)
    assert (await site.ask(post(b"x"), "POST")).status == 204
    assert (await site.ask(request("DELETE", A, f"If-Match: {before}"), "DELETE")).status == 412
    assert (await site.ask(request("DELETE", A, "If-None-Match: *"), "DELETE")).status == 412
    after = await tag(site)
    assert (await site.ask(request("DELETE", A, f"If-Match: {after}"), "DELETE")).status == 204
    assert (await site.ask(request("DELETE", A, "If-Match: *"), "DELETE")).status == 404


async def test_conditions_in_several_lines_are_one_list(site: Site) -> None:
    lines = ('If-Match: "x"', f"If-Match: {await tag(site)}")
    assert (await site.ask(post(b"x", *lines), "POST")).status == 204
    assert (await site.ask(post(b"x", *lines), "POST")).status == 412


async def test_retry_of_a_producer_is_confirmed_although_its_tag_is_old(site: Site) -> None:
    stamp = ("Producer-Id: p", "Producer-Epoch: 0", "Producer-Seq: 0")
    octets = post(b"x", *stamp, f"If-Match: {await tag(site)}")
    assert [(await site.ask(octets, "POST")).status for _ in range(2)] == [200, 204]


async def test_compressed_page_has_a_tag_that_names_the_state(site: Site) -> None:
    await site.ask(post(b"x" * 10_000), "POST")
    page = await site.ask(request("GET", A, "Accept-Encoding: gzip"))
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["etag"] != await tag(site)
    assert (await site.ask(post(b"y", f"If-Match: {page.headers['etag']}"), "POST")).status == 204


async def test_large_json_body_is_appended_only_to_the_state_that_its_tag_names(
    site: Site,
) -> None:
    path = A + "/json"
    kind = "Content-Type: application/json"
    assert (await site.ask(request("PUT", path, kind, body=b""), "PUT")).status == 201
    etag = (await site.ask(request("HEAD", path), "HEAD")).headers["etag"]
    body = b"[" + b",".join(b"%d" % number for number in range(50_000)) + b"]"
    octets = request("POST", path, kind, f"If-Match: {etag}", body=body)
    statuses = [(await site.ask(octets, "POST")).status for _ in range(2)]
    assert statuses == [204, 412]


# -- the host (RFC 9112, 3.2) ------------------------------------------------


def put(*lines: bytes, target: bytes = b"/v1/stream/b", version: bytes = b"1.1") -> bytes:
    """Returns a create with these header lines and no others."""
    return b"\r\n".join(
        [b"PUT %b HTTP/%b" % (target, version), *lines, b"Content-Length: 0", b"", b""]
    )


async def none_is_made(site: Site) -> bool:
    return (await site.ask(request("HEAD", "/v1/stream/b"), "HEAD")).status == 404


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Host: a b",),
        (b"Host: h/x",),
        (b"Host: u@h",),
        (b'Host: "h"',),
        (b"Host: '",),
        (b"Host: h, i",),
        (b"Host: h:x",),
        (b"Host: h:65536",),
        (b"Host: [::1",),
        (b"Host: \xff",),
        (b"Host: a\\b",),
        (b"Host: //evil.example",),
        (b"Host: %",),
    ],
)
async def test_request_without_a_valid_host_is_refused(
    site: Site, lines: tuple[bytes, ...]
) -> None:
    answer = await site.ask(put(*lines), "PUT")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HOST")
    assert "location" not in answer.headers
    assert await none_is_made(site)


async def test_several_hosts_are_refused_even_if_they_are_the_same(site: Site) -> None:
    answer = await site.ask(put(b"Host: h", b"Host: h"), "PUT")
    assert (answer.status, answer.error["code"]) == (400, "REPEATED_HEADER")
    assert await none_is_made(site)


@pytest.mark.parametrize(
    ("lines", "target", "location"),
    [
        ((b"Host: h.example:81",), b"/v1/stream/b", "http://h.example:81/v1/stream/b"),
        ((b"Host: [::1]:81",), b"/v1/stream/b", "http://[::1]:81/v1/stream/b"),
        ((b"Host:",), b"/v1/stream/b", "/v1/stream/b"),
        ((b"Host:",), b"http://other/v1/stream/b", "http://other/v1/stream/b"),
        ((b"Host: h",), b"http://other:81/v1/stream/b", "http://other:81/v1/stream/b"),
        ((b"Host: h",), b"http://[::1]:81/v1/stream/b", "http://[::1]:81/v1/stream/b"),
        ((b"Host: h",), b"http://other/v1/stream/b?x=y", "http://other/v1/stream/b"),
    ],
)
async def test_location_names_the_host_that_the_request_names(
    site: Site, lines: tuple[bytes, ...], target: bytes, location: str
) -> None:
    answer = await site.ask(put(*lines, target=target), "PUT")
    assert (answer.status, answer.headers["location"]) == (201, location)


@pytest.mark.parametrize(
    ("lines", "target"),
    [
        ((), b"http://h/v1/stream/b"),
        ((b"Host: a b",), b"http://h/v1/stream/b"),
        ((b"Host: h",), b"http://u@h/v1/stream/b"),
        ((b"Host: h",), b"http://u:p@h:80/v1/stream/b"),
    ],
)
async def test_whole_url_as_target_needs_a_valid_host_too(
    site: Site, lines: tuple[bytes, ...], target: bytes
) -> None:
    answer = await site.ask(put(*lines, target=target), "PUT")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HOST")
    assert await none_is_made(site)


async def test_http_1_0_needs_no_host_but_names_a_valid_one(site: Site) -> None:
    made = await site.ask(put(version=b"1.0"), "PUT")
    assert (made.status, made.headers["location"]) == (201, "/v1/stream/b")
    refused = await site.ask(put(b"Host: a b", version=b"1.0"), "PUT")
    assert (refused.status, refused.error["code"]) == (400, "INVALID_HOST")
