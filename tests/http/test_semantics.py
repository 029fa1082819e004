"""What HTTP itself requires of a server (RFC 9110, RFC 9112), on real sockets and both lanes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.serving.listening import listen
from durable_streams_server.http.serving.server import HttpLane, Server
from tests.http.asgi_driver import Answer
from tests.http.asgi_driver import request as ask
from tests.http.socket_driver import parse, post, request, until
from tests.process import serve as launched

A = "/v1/stream/a"
TEXT = "Content-Type: text/plain"
AnyStore = StreamStore | FileBackedStreamStore


class Site:
    """A server on a socket, and clients that send raw bytes to it."""

    def __init__(self, store: AnyStore, server: Server, port: int) -> None:
        self.store = store
        self.server = server
        self.port = port

    @property
    def connections(self) -> int:
        """Returns the number of the server's connections."""
        return len(self.server.server_state.connections)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send_and_half_close(self, octets: bytes) -> bytes:
        """Sends bytes, half-closes the connection, and returns all bytes until the server closes it."""
        reader, writer = await self.connect()
        writer.write(octets)
        writer.write_eof()
        received = await asyncio.wait_for(reader.read(-1), 5)
        writer.close()
        return received

    async def exchange(self, octets: bytes, *methods: str) -> list[Answer]:
        """Sends requests, the last of which closes the connection, and returns the responses."""
        reader, writer = await self.connect()
        writer.write(octets)
        received = await asyncio.wait_for(reader.read(-1), 5)
        writer.close()
        answers, rest = parse(received, methods)
        assert rest == b""
        return answers

    async def ask(self, octets: bytes, method: str = "GET") -> Answer:
        """Sends one request and returns the response."""
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
    store: AnyStore = StreamStore()
    if request.param == "files":
        store = FileBackedStreamStore(tmp_path, segment_size=1 << 20)
    async for each in serve(store, lane):
        yield each
    store.close()


async def serve(store: AnyStore, lane: HttpLane) -> AsyncIterator[Site]:
    """Runs a server with one stream."""
    server = Server(create_app(store=store, long_poll_timeout=5), http=lane)
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        site = Site(store, server, listening.getsockname()[1])
        made = await site.ask(request("PUT", A, TEXT, body=b""), "PUT")
        assert made.status == 201
        yield site
        server.should_exit = True
        await asyncio.wait_for(serving, 5)


# -- content codings ---------------------------------------------------------


async def test_large_body_with_a_content_coding_is_refused_before_it_is_received(
    site: Site,
) -> None:
    head = request("POST", A, TEXT, "Content-Encoding: gzip", "Content-Length: 1000000")
    answer = await site.ask(head, "POST")
    assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_CONTENT_ENCODING")
    assert answer.headers["accept-encoding"] == "identity"


async def test_connection_stays_open_after_a_small_body_with_a_content_coding(site: Site) -> None:
    coded = post(b"\x1f\x8b", "Content-Encoding: gzip")
    plain = post(b"plain", "Content-Encoding: identity", "Connection: close")
    answers = await site.exchange(coded + plain, "POST", "POST")
    assert [answer.status for answer in answers] == [415, 204]
    assert (await site.ask(request("GET"))).body == b"plain"


async def test_close_without_a_body_may_have_a_content_coding(site: Site) -> None:
    closing = request("POST", A, "Stream-Closed: true", "Content-Encoding: gzip")
    assert (await site.ask(closing, "POST")).status == 204


# -- preconditions of writes -------------------------------------------------


async def tag(site: Site) -> str:
    """Returns the entity tag of the stream."""
    return (await site.ask(request("HEAD"), "HEAD")).headers["etag"]


async def test_etag_of_head_equals_that_of_a_page_with_the_whole_stream(site: Site) -> None:
    for octets in (post(b"one"), post(b"two"), post(b"three", "Stream-Closed: true")):
        assert (await site.ask(octets, "POST")).status == 204
        assert await tag(site) == (await site.ask(request("GET"))).headers["etag"]
    same = await site.ask(request("HEAD", A, f"If-None-Match: {await tag(site)}"), "HEAD")
    assert (same.status, same.headers["etag"]) == (304, await tag(site))
    assert (await site.ask(request("HEAD", A, 'If-None-Match: "x"'), "HEAD")).status == 200


async def test_if_match_accepts_the_etag_of_a_page_up_to_the_tail(site: Site) -> None:
    first = await site.ask(post(b"one"), "POST")
    await site.ask(post(b"two"), "POST")
    page = await site.ask(request("GET", f"{A}?offset={first.headers['stream-next-offset']}"))
    assert page.body == b"two"
    condition = f"If-Match: {page.headers['etag']}"
    assert (await site.ask(post(b"three", condition), "POST")).status == 204
    assert (await site.ask(post(b"four", condition), "POST")).status == 412


async def test_only_one_of_many_appends_with_the_same_if_match_succeeds(site: Site) -> None:
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


async def test_repeated_conditional_append_on_one_connection_is_stored_only_once(
    site: Site,
) -> None:
    """The server caches the parsed head of repeated requests, and must check the condition in it each time."""
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


async def test_create_with_if_none_match_fails_if_the_stream_exists(site: Site) -> None:
    once = request("PUT", A + "/new", TEXT, "If-None-Match: *", body=b"x")
    assert [(await site.ask(once, "PUT")).status for _ in range(2)] == [201, 412]
    other = request("PUT", A + "/new", "If-None-Match: *", body=b"")
    assert (await site.ask(other, "PUT")).status == 412
    never = request("PUT", A + "/other", TEXT, "If-Match: *", body=b"x")
    assert (await site.ask(never, "PUT")).status == 412
    assert (await site.ask(request("HEAD", A + "/other"), "HEAD")).status == 404


async def test_delete_with_if_match_fails_if_the_stream_has_changed(site: Site) -> None:
    before = await tag(site)
    assert (await site.ask(post(b"x"), "POST")).status == 204
    assert (await site.ask(request("DELETE", A, f"If-Match: {before}"), "DELETE")).status == 412
    assert (await site.ask(request("DELETE", A, "If-None-Match: *"), "DELETE")).status == 412
    after = await tag(site)
    assert (await site.ask(request("DELETE", A, f"If-Match: {after}"), "DELETE")).status == 204
    assert (await site.ask(request("DELETE", A, "If-Match: *"), "DELETE")).status == 404


async def test_repeated_if_match_headers_are_one_list(site: Site) -> None:
    lines = ('If-Match: "x"', f"If-Match: {await tag(site)}")
    assert (await site.ask(post(b"x", *lines), "POST")).status == 204
    assert (await site.ask(post(b"x", *lines), "POST")).status == 412


async def test_retry_of_a_producer_succeeds_despite_an_old_if_match(site: Site) -> None:
    stamp = ("Producer-Id: p", "Producer-Epoch: 0", "Producer-Seq: 0")
    octets = post(b"x", *stamp, f"If-Match: {await tag(site)}")
    assert [(await site.ask(octets, "POST")).status for _ in range(2)] == [200, 204]


async def test_if_match_accepts_the_etag_of_a_compressed_page(site: Site) -> None:
    await site.ask(post(b"x" * 10_000), "POST")
    page = await site.ask(request("GET", A, "Accept-Encoding: gzip"))
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["etag"] != await tag(site)
    assert (await site.ask(post(b"y", f"If-Match: {page.headers['etag']}"), "POST")).status == 204


async def test_if_match_is_checked_for_a_large_json_body(
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
    """Returns a create with these header lines and Content-Length alone."""
    return b"\r\n".join(
        [b"PUT %b HTTP/%b" % (target, version), *lines, b"Content-Length: 0", b"", b""]
    )


async def was_not_created(site: Site) -> bool:
    """Returns whether the stream of `put` does not exist."""
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
async def test_request_without_a_valid_host_returns_400(
    site: Site, lines: tuple[bytes, ...]
) -> None:
    answer = await site.ask(put(*lines), "PUT")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HOST")
    assert "location" not in answer.headers
    assert await was_not_created(site)


async def test_repeated_host_returns_400_even_with_the_same_value(site: Site) -> None:
    answer = await site.ask(put(b"Host: h", b"Host: h"), "PUT")
    assert (answer.status, answer.error["code"]) == (400, "REPEATED_HEADER")
    assert await was_not_created(site)


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
async def test_location_has_the_host_of_the_request(
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
async def test_absolute_url_as_target_needs_a_valid_host(
    site: Site, lines: tuple[bytes, ...], target: bytes
) -> None:
    answer = await site.ask(put(*lines, target=target), "PUT")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HOST")
    assert await was_not_created(site)


async def test_http_1_0_request_may_omit_the_host_but_not_send_an_invalid_one(site: Site) -> None:
    made = await site.ask(put(version=b"1.0"), "PUT")
    assert (made.status, made.headers["location"]) == (201, "/v1/stream/b")
    refused = await site.ask(put(b"Host: a b", version=b"1.0"), "PUT")
    assert (refused.status, refused.error["code"]) == (400, "INVALID_HOST")


# -- half-closed connections -------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "HEAD", "DELETE", "OPTIONS"])
async def test_half_closed_request_is_answered(site: Site, method: str) -> None:
    octets = post(b"hello") if method == "POST" else request(method, A, TEXT)
    answers, rest = parse(await site.send_and_half_close(octets), [method])
    assert [answer.status for answer in answers] == [
        200 if method in ("GET", "HEAD", "PUT") else 204
    ]
    assert rest == b""
    await until(lambda: site.connections == 0)


async def test_every_complete_request_of_a_half_closed_client_is_answered(site: Site) -> None:
    octets = b"".join(post(b"%02d" % number) for number in range(30)) + request("GET")
    answers, rest = parse(await site.send_and_half_close(octets), ["POST"] * 30 + ["GET"])
    assert [answer.status for answer in answers] == [204] * 30 + [200]
    assert answers[-1].body == b"".join(b"%02d" % number for number in range(30))
    assert rest == b""


async def test_complete_requests_before_an_incomplete_one_are_answered(site: Site) -> None:
    octets = post(b"one") + post(b"two") + post(b"three")[:-1]
    answers, rest = parse(await site.send_and_half_close(octets), ["POST"] * 2)
    assert [answer.status for answer in answers] == [204] * 2
    assert rest == b""
    assert (await site.ask(request("GET"))).body == b"onetwo"


async def test_incomplete_request_is_not_executed(site: Site) -> None:
    for octets in (b"", b"\r\n", post(b"hello")[:-1], post(b"hello")[:20]):
        assert await site.send_and_half_close(octets) == b""
    assert (await site.ask(request("GET"))).body == b""
    await until(lambda: site.connections == 0)


async def test_half_closed_clients_send_large_bodies_and_get_large_pages(site: Site) -> None:
    body = b"x" * 150_000  # its record fits a segment of 1 MiB
    (made,) = parse(await site.send_and_half_close(post(body)), ["POST"])[0]
    assert made.status == 204
    (page,) = parse(await site.send_and_half_close(request("GET")), ["GET"])[0]
    assert page.body == body


async def test_many_half_closed_clients_are_answered_at_once(site: Site) -> None:
    received = await asyncio.gather(*(site.send_and_half_close(post(b"x")) for _ in range(200)))
    assert [parse(each, ["POST"])[0][0].status for each in received] == [204] * 200
    assert len((await site.ask(request("GET"))).body) == 200
    await until(lambda: site.connections == 0)


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_live_read_of_a_half_closed_client_ends(site: Site, kind: str) -> None:
    """The server can hardly distinguish a half-closed client from one that has left."""
    poll = request("GET", f"{A}?offset=now&live={kind}")
    assert b"\r\ndata:x" not in await site.send_and_half_close(post(b"x") + poll)
    await until(lambda: site.connections == 0)
    assert len(site.server._app.engine.tails) == 0


async def test_append_is_executed_although_its_client_has_left(site: Site) -> None:
    _, writer = await site.connect()
    writer.write(post(b"x"))
    writer.close()
    await until(lambda: site.connections == 0)
    assert (await site.ask(request("GET"))).body == b"x"


@pytest.mark.parametrize("flags", [("--memory",), ()], ids=["memory", "files"])
def test_serve_command_answers_half_closed_clients(
    lane: HttpLane, flags: tuple[str, ...], tmp_path: Path
) -> None:
    place = flags or ("--data-dir", str(tmp_path / "d"))
    with launched("--allowed-host", "h", "--http", lane, *place) as server:
        port = int(server.url.rpartition(":")[2])
        for octets, method, status in (
            (request("PUT", A, TEXT, body=b""), "PUT", 201),
            (post(b"x") * 10, "POST", 204),
            (request("GET"), "GET", 200),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(octets)
                client.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: client.recv(65536), b""))
            answers, rest = parse(received, [method] * 10)
            assert {answer.status for answer in answers} == {status}
            assert (len(answers), rest) == (10 if method == "POST" else 1, b"")
        assert answers[0].body == b"x" * 10


# -- cursors -----------------------------------------------------------------


@pytest.mark.parametrize("cursor", [str(2**53 + 1), str(10**100), "99999999"])
async def test_cursor_of_a_live_response_exceeds_that_of_the_request(
    site: Site, cursor: str
) -> None:
    assert (await site.ask(post(b"x"), "POST")).status == 204
    query = f"{A}?offset=-1&live=long-poll&cursor="
    for _ in range(3):
        answer = await site.ask(request("GET", query + cursor))
        assert int(answer.headers["stream-cursor"]) > int(cursor)
        cursor = answer.headers["stream-cursor"]


async def test_cursors_advance_while_the_clock_stands_still() -> None:
    app = create_app(clock=lambda: 0)
    assert (await ask(app, "PUT", A, {"content-type": "text/plain"}, b"x")).status == 201
    cursor = ""
    for _ in range(3):
        answer = await ask(app, "GET", f"{A}?offset=-1&live=long-poll&cursor={cursor}")
        later = answer.headers["stream-cursor"]
        assert not cursor or int(later) > int(cursor)
        cursor = later
