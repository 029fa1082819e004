"""uvicorn's connection with our limits, driven without a socket."""

import asyncio
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from durable_streams_server import DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.asgi.http1 import AsgiConnection, protocol_of
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import Wire, parse, post, request, until

A = "/v1/stream/a"
SHORT = Timeouts(idle=0.05, head=0.05)
LONG = Timeouts()


class AsgiClient:
    """One client of the ASGI lane of `serve`."""

    def __init__(
        self,
        timeouts: Timeouts,
        most: int = 10,
        state: ServerState | None = None,
        app: DurableStreamsApp | None = None,
        admission: Admission | None = None,
        peer: tuple[str, int] = ("127.0.0.1", 1),
        root_path: str = "",
    ) -> None:
        if app is None:
            store = StreamStore()
            store.create(A, "text/plain")
            app = create_app(store=store, long_poll_timeout=0.3)
        self.app = app
        config = uvicorn.Config(self.app, lifespan="off", log_config=None, root_path=root_path)
        config.load()
        self.admission = admission or Admission(True, most, limit=1024)
        connect = protocol_of(self.app, timeouts, self.admission)
        self.state = state or ServerState()
        self.connection: AsgiConnection = connect(
            config=config, server_state=self.state, app_state={}
        )
        self.wire = Wire(peer, False)
        self.wire.connection = cast(Any, self.connection)
        self.connection.connection_made(self.wire)

    async def answers(self, *methods: str) -> list[Answer]:
        """Waits for the answers to requests of these methods."""
        await until(lambda: len(parse(bytes(self.wire.received), methods)[0]) == len(methods))
        found, rest = parse(bytes(self.wire.received), methods)
        assert rest == b""
        self.wire.received.clear()
        return found


async def test_head_that_pauses_is_408() -> None:
    client = AsgiClient(SHORT)
    client.wire.give(request("GET")[:5])
    (answer,) = await client.answers("GET")
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert client.wire.lost


async def test_head_after_a_request_has_its_time_as_well() -> None:
    client = AsgiClient(SHORT)
    client.wire.give(request("HEAD") + request("GET")[:5])
    head, late = await client.answers("HEAD", "GET")
    assert (head.status, late.status) == (200, 408)
    assert client.wire.lost


async def test_connection_that_says_nothing_is_closed_without_a_word() -> None:
    client = AsgiClient(SHORT)
    await until(lambda: client.wire.lost)
    assert client.wire.received == b""


async def test_live_read_outlives_the_time_of_heads() -> None:
    client = AsgiClient(SHORT)
    poll = request("GET", f"{A}?offset=now&live=long-poll")
    client.wire.give(poll[:5])
    client.wire.give(poll[5:])
    (answer,) = await client.answers("GET")
    assert answer.status == 204
    client.wire.give(poll + request("GET")[:5])  # the head behind it has its time afterwards
    poll_answer, late = await client.answers("GET", "GET")
    assert (poll_answer.status, late.status) == (204, 408)


async def test_what_is_not_http_is_refused_as_on_the_native_lane() -> None:
    client = AsgiClient(LONG)
    client.wire.give(b"nonsense\r\n\r\n")
    (answer,) = await client.answers("GET")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert client.wire.lost
    client.connection.data_received(post())  # which nobody reads
    assert client.wire.received == b""


async def test_what_is_not_http_corrupts_no_answer() -> None:
    client = AsgiClient(LONG)
    client.wire.give(request("GET", f"{A}?offset=now&live=long-poll") + b"nonsense\r\n\r\n")
    await until(lambda: client.wire.lost)
    assert client.wire.received == b""


async def test_connection_past_the_most_is_refused() -> None:
    first = AsgiClient(LONG, 1)
    second = AsgiClient(LONG, 1, first.state)
    (answer,) = await second.answers("GET")
    assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS")
    assert second.wire.lost
    await until(lambda: len(first.state.connections) == 1)
    first.wire.give(request("HEAD"))
    (answer,) = await first.answers("HEAD")
    assert answer.status == 200
    first.wire.lose()
    await asyncio.sleep(0)


async def test_address_past_its_share_is_refused_until_a_connection_is_lost() -> None:
    admission = Admission(True, 10, limit=1024, per_address=1)
    first = AsgiClient(LONG, admission=admission)
    second = AsgiClient(LONG, admission=admission)
    (answer,) = await second.answers("GET")
    assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS_FROM_ADDRESS")
    assert second.wire.lost
    first.wire.lose()
    await asyncio.sleep(0)
    third = AsgiClient(LONG, admission=admission)
    third.wire.give(request("HEAD"))
    (answer,) = await third.answers("HEAD")
    assert answer.status == 200
    third.wire.lose()
    await until(lambda: len(admission._shares) == 0)


@pytest.mark.parametrize("end", ["reset", "answer"])
async def test_no_timer_is_left_behind(end: str) -> None:
    client = AsgiClient(LONG)
    assert client.connection._timer is not None
    if end == "answer":
        client.wire.give(request("GET", A, "Connection: close"))
        await client.answers("GET")
    else:
        client.wire.give(request("GET")[:5])
        client.wire.lose()
    await until(lambda: not client.state.connections)
    assert client.connection._timer is None


def app_with_a_page() -> DurableStreamsApp:
    store = StreamStore()
    store.create(A, "text/plain")
    store.append(A, bytes(200_000))
    return create_app(store=store)


async def test_client_that_takes_nothing_of_its_answer_is_cut() -> None:
    client = AsgiClient(Timeouts(send=0.05), app=app_with_a_page())
    client.wire.reads = False
    client.wire.give(request("GET", A))
    await until(lambda: client.wire.aborted)
    await until(lambda: not client.state.connections)


async def test_client_that_takes_its_answer_slowly_is_not_cut() -> None:
    client = AsgiClient(LONG, app=app_with_a_page())
    client.wire.reads = False
    client.wire.give(request("GET", A))
    await until(lambda: client.connection._unsent.is_running)
    for _ in range(4):
        del client.wire._unsent[:1000]
        client.connection._unsent.check()
        assert not client.wire.aborted
    client.wire.reads = True
    client.wire.flush()
    assert not client.connection._unsent.is_running
    client.wire.lose()
    await asyncio.sleep(0)


async def test_connection_that_is_lost_while_it_sends_leaves_no_timer() -> None:
    client = AsgiClient(LONG, app=app_with_a_page())
    client.wire.reads = False
    client.wire.give(request("GET", A))
    await until(lambda: client.connection._unsent.is_running)
    client.wire.lose()
    await until(lambda: not client.connection._unsent.is_running)


@pytest.mark.parametrize(
    ("peer", "lines", "scheme"),
    [
        ("127.0.0.1", ("X-Forwarded-Proto: https",), "https"),
        ("::1", ("X-Forwarded-Proto: https",), "https"),
        ("127.0.0.1", ("X-Forwarded-Proto: https, http",), "https"),
        ("127.0.0.1", ("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"), "https"),
        ("127.0.0.1", ("X-Forwarded-Proto: gopher",), "http"),
        ("127.0.0.1", ("Forwarded: for=a;proto=https;host=evil, for=b",), "https"),
        ("127.0.0.1", ("Forwarded: for=a", "Forwarded: proto=https"), "https"),
        ("127.0.0.1", ("Forwarded: proto=https", "X-Forwarded-Proto: http"), "http"),
        ("10.0.0.1", ("X-Forwarded-Proto: https",), "http"),
        ("10.0.0.1", ("X-Forwarded-Proto: https, http",), "http"),
        ("10.0.0.1", ("Forwarded: proto=https",), "http"),
    ],
)
async def test_scheme_is_believed_of_a_proxy_on_this_machine_alone(
    peer: str, lines: tuple[str, ...], scheme: str
) -> None:
    client = AsgiClient(LONG, peer=(peer, 1))
    client.wire.give(request("PUT", "/v1/stream/b", *lines, body=b""))
    (answer,) = await client.answers("PUT")
    assert answer.headers["location"] == f"{scheme}://h/v1/stream/b"


@pytest.mark.parametrize(
    ("root_path", "shown"),
    [
        ("", ""),
        ("/", ""),
        ("//", ""),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api//", "/api"),
        ("api", "/api"),
        ("api/", "/api"),
        ("//api", "/api"),
        ("/a//b/", "/a/b"),
    ],
)
async def test_root_path_of_uvicorn_works_however_its_slashes_are_written(
    root_path: str, shown: str
) -> None:
    client = AsgiClient(LONG, root_path=root_path)
    client.wire.give(request("PUT", "/v1/stream/b", "Content-Type: text/plain", body=b"x"))
    (made,) = await client.answers("PUT")
    assert (made.status, made.headers["location"]) == (201, f"http://h{shown}/v1/stream/b")
    source = f"Stream-Forked-From: {shown}/v1/stream/b"
    client.wire.give(request("PUT", "/v1/stream/c", source, body=b""))
    assert (await client.answers("PUT"))[0].status == 201
    client.wire.give(request("GET", "/v1/stream/c"))
    assert (await client.answers("GET"))[0].body == b"x"
    client.wire.give(request("PUT", "/v1//stream/d", body=b""))
    (refused,) = await client.answers("PUT")
    assert refused.error["code"] == "INVALID_PATH"
    client.wire.give(request("GET", "/v1/stream/__ds/jwks.json"))
    assert (await client.answers("GET"))[0].status == 200
