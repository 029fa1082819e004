"""`Http1Connection` without a socket: slow clients, invalid HTTP, limits, proxies and mounts."""

import pytest

from durable_streams_server import DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from tests.http.asgi.http1_client import AsgiClient
from tests.http.socket_driver import post, request, run_turns, until

A = "/v1/stream/a"
SHORT = Timeouts(idle=0.05, head=0.05)
LONG = Timeouts()


@pytest.mark.parametrize(
    "octets",
    [b"\x16\x03\x01\r\n\r\n", request("GET", A, "Upgrade: h2c", "Connection: Upgrade")],
    ids=["no HTTP", "upgrade"],
)
async def test_odd_requests_are_not_logged(octets: bytes, caplog: pytest.LogCaptureFixture) -> None:
    client = AsgiClient(LONG)
    client.wire.give(octets)
    await client.answers("GET")
    assert caplog.records == []


async def test_paused_request_head_returns_408() -> None:
    client = AsgiClient(SHORT)
    client.wire.give(request("GET")[:5])
    (answer,) = await client.answers("GET")
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert client.wire.lost


async def test_paused_head_of_second_request_returns_408() -> None:
    client = AsgiClient(SHORT)
    client.wire.give(request("HEAD") + request("GET")[:5])
    head, late = await client.answers("HEAD", "GET")
    assert (head.status, late.status) == (200, 408)
    assert client.wire.lost


async def test_connection_without_a_request_is_closed_without_a_response() -> None:
    client = AsgiClient(SHORT)
    await until(lambda: client.wire.lost)
    assert client.wire.received == b""


async def test_retired_connection_closes_after_its_next_response() -> None:
    client = AsgiClient(LONG)
    client.wire.give(request("HEAD"))
    (first,) = await client.answers("HEAD")
    assert "connection" not in first.headers
    client.connection.retire()
    client.wire.give(request("HEAD"))
    (second,) = await client.answers("HEAD")
    assert second.headers["connection"] == "close"
    assert client.wire.lost


async def test_event_stream_ends_its_retired_connection() -> None:
    client = AsgiClient(LONG)
    assert not client.connection.has_events
    client.wire.give(request("GET", f"{A}?offset=-1&live=sse"))
    await until(lambda: b"event: control" in client.wire.received)
    assert client.connection.has_events
    client.connection.retire()
    client.app.begin_drain(0.01)
    await until(lambda: client.wire.lost)
    (answer,) = await client.answers("GET")
    assert answer.body.count(b"event: control") == 2


async def test_keys_of_connections_depend_on_address_and_port() -> None:
    keys = {AsgiClient(LONG, peer=("127.0.0.1", port)).connection.key for port in (1, 1, 2)}
    assert len(keys) == 2


async def test_only_a_complete_write_without_response_is_writing() -> None:
    client = AsgiClient(LONG)
    assert not client.connection.is_writing
    client.wire.give(post(b"x")[:-1])
    assert not client.connection.is_writing
    client.wire.give(b"x")
    assert client.connection.is_writing
    await client.answers("POST")
    assert not client.connection.is_writing
    client.wire.give(request("GET", f"{A}?offset=now&live=long-poll"))
    assert not client.connection.is_writing
    client.connection.transport.abort()


async def test_live_read_may_last_longer_than_the_head_timeout() -> None:
    client = AsgiClient(SHORT)
    poll = request("GET", f"{A}?offset=now&live=long-poll")
    client.wire.give(poll[:5])
    client.wire.give(poll[5:])
    (answer,) = await client.answers("GET")
    assert answer.status == 204
    # The head timeout of the second request starts once the poll is answered.
    client.wire.give(poll + request("GET")[:5])
    poll_answer, late = await client.answers("GET", "GET")
    assert (poll_answer.status, late.status) == (204, 408)


async def test_invalid_http_returns_400_and_closes_the_connection() -> None:
    client = AsgiClient(LONG)
    client.wire.give(b"nonsense\r\n\r\n")
    (answer,) = await client.answers("GET")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert client.wire.lost
    client.connection.data_received(post())  # too late: the connection is closing
    assert client.wire.received == b""


async def test_invalid_http_after_a_request_closes_the_connection_without_a_response() -> None:
    client = AsgiClient(LONG)
    client.wire.give(request("GET", f"{A}?offset=now&live=long-poll") + b"nonsense\r\n\r\n")
    await until(lambda: client.wire.lost)
    assert client.wire.received == b""


async def test_connection_beyond_the_maximum_number_gets_503() -> None:
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
    await run_turns(1)


async def test_address_at_its_connection_limit_gets_503_until_one_ends() -> None:
    admission = Admission(True, 10, limit=1024, per_address=1)
    first = AsgiClient(LONG, admission=admission)
    second = AsgiClient(LONG, admission=admission)
    (answer,) = await second.answers("GET")
    assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS_FROM_ADDRESS")
    assert second.wire.lost
    first.wire.lose()
    await run_turns(1)
    third = AsgiClient(LONG, admission=admission)
    third.wire.give(request("HEAD"))
    (answer,) = await third.answers("HEAD")
    assert answer.status == 200
    third.wire.lose()
    await until(lambda: len(admission._shares) == 0)


@pytest.mark.parametrize("end", ["reset", "answer"])
async def test_connection_cancels_its_timer_when_it_ends(end: str) -> None:
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
    """Returns an application whose stream holds 200 kB."""
    store = StreamStore()
    store.create(A, "text/plain")
    store.append(A, bytes(200_000))
    return create_app(store=store)


async def test_client_that_reads_nothing_is_cut() -> None:
    client = AsgiClient(Timeouts(send=0.05), app=app_with_a_page())
    client.wire.reads = False
    client.wire.give(request("GET", A))
    await until(lambda: client.wire.aborted)
    await until(lambda: not client.state.connections)


async def test_client_that_reads_slowly_is_not_cut() -> None:
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
    await run_turns(1)


async def test_connection_cancels_its_send_timer_when_it_is_lost() -> None:
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
async def test_forwarded_scheme_is_used_only_from_a_local_proxy(
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
async def test_root_path_works_with_any_number_of_slashes(root_path: str, shown: str) -> None:
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
