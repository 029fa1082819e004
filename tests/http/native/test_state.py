"""The phases of a native connection, which say what its deadline is."""

import math
from collections.abc import Callable

import pytest

from durable_streams_server.http.native.lane import Lane
from tests.http.native.connections import BIG, GET, POLL, SSE, TIMES, A, advance, assert_timed_out
from tests.http.socket_driver import (
    KERNEL,
    Client,
    HeldStore,
    post,
    request,
    run_turns,
)


def in_two_pieces(octets: bytes, pause: Callable[[], None]) -> Callable[[Client], None]:
    """Returns a function that sends `octets` in two pieces and calls `pause` between them."""
    cut = octets.index(b"\r\n") + 5

    def send(client: Client) -> None:
        client.send(octets[:cut])
        pause()
        client.send(octets[cut:])

    return send


Enter = Callable[[Client, HeldStore], None]


def in_idle(client: Client, held_store: HeldStore) -> None:
    client.send(post(b"1"))
    held_store.release_append()


def in_head(client: Client, held_store: HeldStore) -> None:
    client.send(GET[:5])


def in_body(client: Client, held_store: HeldStore) -> None:
    client.send(post(b"abc")[:-3])


def in_append(client: Client, held_store: HeldStore) -> None:
    client.send(post(b"1"))


def in_poll(client: Client, held_store: HeldStore) -> None:
    client.send(POLL)


def in_events(client: Client, held_store: HeldStore) -> None:
    client.send(SSE)


def in_sending(client: Client, held_store: HeldStore) -> None:
    client.stop_reading()
    client.send(request("GET", BIG))


def in_lingering(client: Client, held_store: HeldStore) -> None:
    client.send(request("GET", A, "Connection: close"))


#: For each phase: a function that brings a connection into it, the phase's duration, and a function that ends it in time.
PHASES: dict[str, tuple[Enter, float, Enter]] = {
    "idle": (in_idle, TIMES.idle, lambda client, held_store: None),
    "head": (in_head, TIMES.head, lambda client, held_store: ignore(client.send(GET[5:]))),
    "body": (in_body, TIMES.body, lambda client, held_store: finish_body(client, held_store)),
    "append": (in_append, math.inf, lambda client, held_store: held_store.release_append()),
    "long-poll": (in_poll, math.inf, lambda client, held_store: wake(held_store)),
    "event stream": (
        in_events,
        math.inf,
        lambda client, held_store: end_events(client, held_store),
    ),
    "sending": (in_sending, TIMES.send, lambda client, held_store: client.resume_reading()),
    "lingering": (in_lingering, TIMES.linger, lambda client, held_store: None),
}


def ignore(_: object) -> None:
    """Discards a value, so that a lambda returns None."""


def finish_body(client: Client, held_store: HeldStore) -> None:
    client.send(b"abc")
    held_store.release_append()


def wake(held_store: HeldStore) -> None:
    held_store.holds = False
    held_store.append(A, b"news")
    held_store.holds = True


def end_events(client: Client, held_store: HeldStore) -> None:
    held_store.delete(A)
    held_store.create(A, "text/plain")


def create_big_stream(held_store: HeldStore) -> None:
    """Creates a stream that is larger than the buffers of a socket."""
    held_store.holds = False
    held_store.create(BIG, "text/plain")
    held_store.append(BIG, b"x" * 4 * KERNEL)
    held_store.holds = True


async def test_long_poll_is_not_limited_by_the_head_timeout(lane: Lane) -> None:
    client = Client(lane)
    in_two_pieces(POLL, lambda: advance(lane, 9))(client)
    advance(lane, 3600)
    assert not client.wire.lost
    assert len(lane.app.engine.tails) == 1


async def test_long_poll_is_not_limited_by_the_idle_timeout(lane: Lane) -> None:
    client = Client(lane)
    advance(lane, 50)
    client.send(POLL)
    advance(lane, 3600)
    assert not client.wire.lost
    assert len(lane.app.engine.tails) == 1


async def test_append_that_waits_for_store_has_no_deadline(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane)
    advance(held_lane, 74)
    in_two_pieces(post(b"1"), lambda: advance(held_lane, 9))(client)
    advance(held_lane, 3600)
    assert client.read() == b""
    held_store.release_append()
    assert [answer.status for answer in client.answers("POST")] == [204]
    advance(held_lane, 74)
    assert not client.wire.lost
    advance(held_lane, 1)
    assert client.wire.lost


async def test_queued_requests_have_no_deadline(held_lane: Lane, held_store: HeldStore) -> None:
    client = Client(held_lane).send(post(b"1") + post(b"2") + post(b"3")[:-1])
    for _ in range(2):
        advance(held_lane, 3600)
        held_store.release_append()
    advance(held_lane, 19)
    assert len(client.answers("POST", "POST")) == 2
    client.send(b"3")
    advance(held_lane, 3600)
    held_store.release_append()
    assert len(client.answers("POST")) == 1


async def test_head_timeout_restarts_for_pipelined_request(lane: Lane) -> None:
    client = Client(lane).send(GET[:5])
    advance(lane, 9)
    client.send(GET[5:] + GET[:5])
    advance(lane, 9)
    assert len(client.answers("GET")) == 1
    advance(lane, 1)
    assert_timed_out(lane, client)


async def test_empty_lines_between_requests_do_not_extend_the_idle_timeout(lane: Lane) -> None:
    client = Client(lane).send(post()).send(b"\r\n")
    advance(lane, 74)
    assert len(client.answers("POST")) == 1
    client.send(b"\r\n")
    advance(lane, 1)
    assert client.wire.lost
    assert client.read() == b""  # an idle connection is closed without a response


@pytest.mark.parametrize(
    ("after", "tls"),
    [(name, False) for name in PHASES]
    + [(name, True) for name in PHASES if name != "lingering"],  # TLS cannot be half closed
)
@pytest.mark.parametrize("before", PHASES)
async def test_timeout_of_a_connection_phase_ignores_the_phase_before_it(
    held_lane: Lane, held_store: HeldStore, before: str, after: str, tls: bool
) -> None:
    """Stays in `before` for one second less than its duration, and then in `after` until the connection ends."""
    create_big_stream(held_store)
    client = Client(held_lane, tls=tls)
    if before != "lingering":  # no phase follows lingering
        enter, seconds, leave = PHASES[before]
        enter(client, held_store)
        advance(held_lane, min(seconds, 3600) - 1)
        leave(client, held_store)
        await run_turns()
        client.read()
    enter, seconds, _ = PHASES[after]
    enter(client, held_store)
    client.read()
    for _ in range(int(min(seconds, 200)) - 1):
        advance(held_lane, 1)
    assert not client.wire.lost
    assert client.read() == b""
    advance(held_lane, 1)
    ends = seconds < math.inf
    refused = after in ("head", "body")
    assert client.wire.lost is (ends and (tls or not refused))
    assert client.read().startswith(b"HTTP/1.1 408 ") is refused
    advance(held_lane, TIMES.linger)
    assert client.wire.lost is ends
    while held_store.held:
        held_store.release_append()
