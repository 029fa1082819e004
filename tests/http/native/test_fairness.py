"""What one client takes of the native lane is bounded, in bytes and in turns."""

from collections.abc import AsyncIterator
from itertools import count

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.limits.outgoing import GRACE, Outgoing
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import SMALL_BUFFER, Lane
from durable_streams_server.http.native.patrol import Patrol
from durable_streams_server.streams.turns import READS_AT_ONCE, WRITES_AT_ONCE
from tests.http.socket_driver import Client, post, quiet, request, turn, until

A = "/v1/stream/a"
BIG = "/v1/stream/big"
GET = request("GET", f"{A}?offset=-1")
SSE = request("GET", f"{BIG}?offset=-1&live=sse")
KIB = 1024
MIB = 1024 * 1024
IN_FLIGHT = 16 * MIB + 512 * KIB


@pytest.fixture
def store() -> StreamStore:
    store = StreamStore()
    store.create(A, "text/plain")
    store.create(BIG, "application/octet-stream")
    return store


@pytest.fixture
async def lane(store: StreamStore) -> AsyncIterator[Lane]:
    """A lane whose engine runs, so that large reads have their turns."""
    app = create_app(store=store, max_body=8 * MIB, max_in_flight=IN_FLIGHT, max_unsent=3 * MIB)
    app._start()
    yield Lane(app, Timeouts(send=30))
    await app.stop()


async def quiet_and_gone(lane: Lane, *clients: Client) -> None:
    for client in clients:
        client.reset()
    await until(lambda: not lane.connections)
    await quiet(lane)
    assert lane.budget.held == 0
    assert lane.budget.sharing == 0
    assert len(lane.outgoing) == 0
    assert lane.app.engine.large.kept_bytes == lane.app.engine.sending.held


# -- turns -------------------------------------------------------------------


async def test_pipelined_requests_are_answered_a_few_in_each_step(lane: Lane) -> None:
    client = Client(lane).send(GET * 100)
    assert client.take().count(b"HTTP/1.1 200") < 20
    assert client.wire.paused
    await quiet(lane)
    await turn()
    assert client.take().count(b"HTTP/1.1 200") > 80
    assert not client.wire.paused
    await quiet_and_gone(lane, client)


async def test_another_client_is_answered_between_pipelined_requests(lane: Lane) -> None:
    greedy = Client(lane).send(GET * 1000)
    other = Client(lane).send(GET)
    assert len(other.answers("GET")) == 1
    await turn(1)
    Client(lane).send(request("HEAD", A)).reset()
    await quiet_and_gone(lane, greedy, other)


async def test_octets_are_parsed_some_in_each_step(lane: Lane) -> None:
    head = request("POST", A, "Content-Type: text/plain", "Transfer-Encoding: chunked")
    client = Client(lane).send(head + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert len(lane.turns) == 1
    assert 0 < client.connection._parser.body_size < 4 * KIB
    assert client.wire.paused
    await until(lambda: bool(client.wire.received))
    assert client.answers("POST")[0].status == 204
    assert lane.app.engine.store.read(A).data == b"x" * 100_000  # type: ignore[attr-defined]
    await quiet_and_gone(lane, client)


async def test_large_part_of_a_body_is_taken_whole(lane: Lane) -> None:
    client = Client(lane).send(post(b"x" * 5 * MIB))
    await until(lambda: bool(client.wire.received))
    assert client.answers("POST")[0].status == 204
    await quiet_and_gone(lane, client)


async def test_lone_body_of_1_mb_is_received_in_one_turn_of_the_loop(lane: Lane) -> None:
    """No octet of it is put aside to be parsed later, although the first part brings the head too."""
    lane.turns._clock = lambda: 0.0
    client = Client(lane).send(post(b"x" * 1_000_000))
    assert client.answers("POST")[0].status == 204
    await quiet_and_gone(lane, client)


@pytest.mark.parametrize("size", [100 * KIB, 300 * KIB, 1_000_000])
async def test_pipelined_large_bodies_are_kept_in_their_order(lane: Lane, size: int) -> None:
    bodies = [bytes([letter]) * size for letter in b"abcd"]
    client = Client(lane).send(b"".join(map(post, bodies)) + GET)
    await until(lambda: client.wire.received.count(b"HTTP/1.1 204") == 4)
    assert lane.app.engine.store.read(A).data == b"".join(bodies)  # type: ignore[attr-defined]
    await quiet_and_gone(lane, client)


async def test_lone_large_body_gives_way_after_a_few_parts(lane: Lane) -> None:
    lane.turns._clock = lambda: 0.0
    body = post(b"x" * 5 * MIB)
    client = Client(lane).send(body)
    assert client.wire.paused
    assert MIB < len(body) - client.wire.unread < 2 * MIB
    other = Client(lane).send(GET)
    assert len(other.answers("GET")) == 1
    await until(lambda: bool(client.wire.received))
    await quiet_and_gone(lane, client, other)


async def test_large_bodies_of_several_clients_come_a_part_at_a_time(lane: Lane) -> None:
    lane.turns._clock = lambda: 0.0
    body = post(b"x" * 3 * MIB)
    clients = [Client(lane).send(body) for _ in range(3)]
    received = [len(body) - client.wire.unread for client in clients]
    assert received[1:] == [len(lane.buffer)] * 2  # the first was alone when it began
    while max(received) < len(body):
        await turn(1)
        before, received = received, [len(body) - client.wire.unread for client in clients]
        parts = sorted(
            (now - then) / len(lane.buffer) for now, then in zip(received, before, strict=True)
        )
        assert parts[1] <= 1  # whoever comes last in line is alone then
        assert sum(parts) <= 8
    await until(lambda: all(client.wire.received for client in clients))
    await quiet_and_gone(lane, *clients)


async def test_writes_of_a_crowd_stand_in_line_and_reads_pass(lane: Lane) -> None:
    lane.turns._clock = lambda: 0.0
    writers = [Client(lane).send(post()) for _ in range(WRITES_AT_ONCE + 50)]
    answered = sum(bool(writer.answers("POST")) for writer in writers)
    assert answered == WRITES_AT_ONCE
    reader = Client(lane).send(GET)
    assert len(reader.answers("GET")) == 1
    await quiet(lane)
    answered += sum(bool(writer.answers("POST")) for writer in writers)
    assert answered == len(writers)
    await quiet_and_gone(lane, reader, *writers)


async def test_cheap_read_waits_for_reads_and_for_no_writes(lane: Lane) -> None:
    lane.turns._clock = lambda: 0.0
    writers = [Client(lane).send(post()) for _ in range(WRITES_AT_ONCE + 100)]
    readers = [Client(lane).send(GET) for _ in range(READS_AT_ONCE - WRITES_AT_ONCE)]
    late = Client(lane).send(GET)
    assert all(reader.wire.received for reader in readers)
    assert not late.wire.received  # as many reads as may be have begun
    lane.turns._clock = count(step=0.001).__next__  # each look at the clock takes a millisecond
    await turn(1)
    assert late.wire.received
    assert 90 < sum(not writer.wire.received for writer in writers) < 100
    await quiet_and_gone(lane, late, *readers, *writers)


async def test_little_is_received_from_each_of_a_crowd_until_its_turn_comes(lane: Lane) -> None:
    writers = [Client(lane).send(post()) for _ in range(WRITES_AT_ONCE)]
    large = Client(lane).send(post(b"x" * 100 * KIB))
    assert large.wire.unread == len(post(b"x" * 100 * KIB)) - SMALL_BUFFER
    assert large.wire.paused
    await until(lambda: not large.wire.unread)  # by now all the rest has room at once
    await until(lambda: bool(large.wire.received))
    assert large.answers("POST")[0].status == 204
    await quiet_and_gone(lane, large, *writers)


async def test_rest_of_a_request_has_room_once(lane: Lane) -> None:
    body = post(b"x" * 20 * KIB)
    writers = [Client(lane).send(post()) for _ in range(WRITES_AT_ONCE)]
    client = Client(lane).send(body)
    await until(lambda: bool(client.wire.received))
    more = [Client(lane).send(post()) for _ in range(WRITES_AT_ONCE)]
    client.send(body)
    assert client.wire.unread == len(body) - SMALL_BUFFER
    await quiet_and_gone(lane, client, *writers, *more)


async def test_clients_that_leave_together_are_seen_off_some_in_each_step(lane: Lane) -> None:
    crowd = [Client(lane).send(SSE) for _ in range(WRITES_AT_ONCE + 400)]
    await quiet(lane)
    lane.turns._clock = lambda: 0.0  # the steps take no time, but closing each socket counts
    for client in crowd:
        client.finish()
    assert sum(client.gone for client in crowd) == WRITES_AT_ONCE
    await turn(1)
    assert 150 < sum(client.gone for client in crowd) - WRITES_AT_ONCE < 250
    await quiet(lane)
    assert all(client.gone for client in crowd)
    await quiet_and_gone(lane)


async def test_event_stream_that_is_taken_at_once_sends_some_in_each_step(
    lane: Lane, store: StreamStore
) -> None:
    store.append(BIG, b"x" * MIB)
    client = Client(lane).send(SSE)
    first = len(client.wire.received)
    assert 0 < first < 512 * KIB
    assert len(lane.turns) == 1
    await quiet(lane)
    assert len(client.wire.received) > MIB
    await quiet_and_gone(lane, client)


async def test_crowd_of_waiters_is_woken_some_in_each_step(lane: Lane, store: StreamStore) -> None:
    poll = request("GET", f"{A}?offset=now&live=long-poll")
    pollers = [Client(lane).send(poll) for _ in range(200)]
    await quiet(lane)
    store.append(A, b"news")
    assert not any(poller.wire.received for poller in pollers)
    await quiet(lane)
    assert all(poller.answers("GET")[0].status == 200 for poller in pollers)
    await quiet_and_gone(lane, *pollers)


# -- bytes that come ---------------------------------------------------------


async def test_head_that_decides_is_refused_before_the_body_comes(lane: Lane) -> None:
    size = 5 * MIB
    for method, target, kind, status in (
        ("POST", "/v1/stream/none", "text/plain", 404),
        ("POST", A, "", 400),
        ("PUT", "/v1/stream/__ds/subscriptions/x", "application/json", 413),
        ("PATCH", A, "text/plain", 405),
        ("POST", "/v1/stream/%ff", "text/plain", 400),
    ):
        kinds = [f"Content-Type: {kind}"] if kind else []
        client = Client(lane).send(request(method, target, *kinds, f"Content-Length: {size}"))
        (answer,) = client.answers(method)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        await quiet_and_gone(lane, client)


async def test_chunked_body_is_refused_by_its_head_once_it_is_large(lane: Lane) -> None:
    head = ("Content-Type: text/plain", "Transfer-Encoding: chunked")
    client = Client(lane).send(request("POST", "/v1/stream/none", *head))
    client.send(b"%x\r\n%b\r\n" % (40 * KIB, b"x" * 40 * KIB))
    await quiet(lane)
    assert not client.wire.received
    client.send(b"%x\r\n%b\r\n" % (40 * KIB, b"x" * 40 * KIB))
    await quiet(lane)
    assert client.answers("POST")[0].status == 404
    await quiet_and_gone(lane, client)


async def test_create_in_flight_on_the_same_connection_is_waited_for(lane: Lane) -> None:
    path = "/v1/stream/new"
    client = Client(lane)
    create = request("PUT", path, "Content-Type: text/plain")
    body = b"x" * 100 * KIB
    client.send(create + post(body, target=path))
    await quiet(lane)
    assert [answer.status for answer in client.answers("PUT", "POST")] == [201, 204]
    await quiet_and_gone(lane, client)


async def test_address_leaves_room_for_one_largest_body_of_another(lane: Lane) -> None:
    sent = post(b"x" * 8 * MIB)
    greedy = [Client(lane), Client(lane)]
    greedy[0].send(sent[:-1], each=256 * KIB)
    await until(lambda: lane.budget.held == 8 * MIB - 1)
    greedy[1].send(sent[:-1], each=256 * KIB)
    await until(lambda: bool(greedy[1].wire.received))
    assert greedy[0].wire.received == b""
    (answer,) = greedy[1].answers("POST")
    assert (answer.status, answer.error["code"]) == (503, "BODIES_FROM_ADDRESS")
    assert answer.headers["retry-after"] == "1"
    other = Client(lane, ("10.0.0.1", 1)).send(sent, each=256 * KIB)
    await until(lambda: bool(other.wire.received))
    assert other.answers("POST")[0].status == 204
    await quiet_and_gone(lane, other, *greedy)


async def test_half_heads_and_pipelined_requests_count_as_what_has_come(lane: Lane) -> None:
    half = Client(lane).send(GET[:-2] + b"X: " + b"y" * 8 * KIB)
    assert 7 * KIB < lane.budget.held < 10 * KIB
    half.send(b"\r\n\r\n")
    assert half.answers("GET")[0].status == 200
    assert lane.budget.held == 0
    poll = Client(lane).send(request("GET", f"{A}?offset=now&live=long-poll") + GET * 5)
    assert lane.budget.held >= 5 * KIB
    await quiet_and_gone(lane, half, poll)


async def test_octets_that_wait_to_be_parsed_count_and_are_refused_past_the_limit(
    lane: Lane,
) -> None:
    get = request("GET", A, "X: " + "y" * 4 * KIB)
    lane.budget.take(IN_FLIGHT - 100 * KIB)
    fits = Client(lane).send(get * 10)
    assert lane.budget.held > IN_FLIGHT - 80 * KIB
    await quiet(lane)
    assert len(fits.answers(*["GET"] * 10)) == 10
    too_many = Client(lane).send(get * 50)
    await quiet(lane)
    assert b"BODIES_IN_FLIGHT" in too_many.take()
    assert too_many.gone
    lane.budget.give_back(IN_FLIGHT - 100 * KIB)
    await quiet_and_gone(lane, fits, too_many)


async def test_head_with_too_many_headers_is_refused_before_its_end(lane: Lane) -> None:
    client = Client(lane).send(request("GET")[:-2] + b"".join(b"h%d: \r\n" % n for n in range(200)))
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (431, "HEADERS_TOO_LARGE")
    await quiet_and_gone(lane, client)


# -- bytes that go -----------------------------------------------------------


async def test_large_page_is_held_once_for_all_until_its_last_octet_is_taken(
    lane: Lane, store: StreamStore
) -> None:
    store.append(BIG, b"x" * MIB)
    readers = [Client(lane) for _ in range(5)]
    for reader in readers:
        reader.stall()
        reader.send(request("GET", BIG))
    await quiet(lane)
    sending = lane.app.engine.sending
    assert sending.held == MIB
    assert len(lane.outgoing) == 5
    lane.app.engine.large._let_go(3 * MIB)
    assert sending.held == MIB
    for reader in readers:
        reader.go_on()
    assert len(lane.outgoing) == 0
    assert sending.held == 0
    assert all(reader.answers("GET")[0].body == b"x" * MIB for reader in readers)
    await quiet_and_gone(lane, *readers)


async def test_read_past_the_budget_waits_and_the_slowest_is_cut(
    lane: Lane, store: StreamStore
) -> None:
    now = 0.0
    lane.outgoing = lane.app.outgoing = Outgoing(lane.app.engine.sending, lane.turns, lambda: now)
    for name in "wxyz":
        store.create(f"{BIG}/{name}", "application/octet-stream")
        store.append(f"{BIG}/{name}", b"x" * MIB)
    stalled = [Client(lane) for _ in range(3)]
    for reader, name in zip(stalled, "wxy", strict=True):
        reader.stall()
        reader.send(request("GET", f"{BIG}/{name}"))
    await quiet(lane)
    late = Client(lane).send(request("GET", f"{BIG}/z"))
    await quiet(lane)
    assert late.wire.received == b""
    now = GRACE
    lane.outgoing.cut_slowest()
    await quiet(lane)
    assert [reader.wire.aborted for reader in stalled] == [True, False, False]
    await quiet(lane)
    assert late.answers("GET")[0].body == b"x" * MIB
    await quiet_and_gone(lane, late, *stalled)


async def test_value_that_an_event_stream_is_sending_counts_until_it_is_taken(
    lane: Lane, store: StreamStore
) -> None:
    store.create("/v1/stream/json", "application/json")
    store.append("/v1/stream/json", b'"%b"' % (b"x" * MIB))
    lane.app.engine.large._let_go(3 * MIB)
    reader = Client(lane)
    reader.stall()
    reader.send(request("GET", "/v1/stream/json?offset=-1&live=sse"))
    await quiet(lane)
    lane.app.engine.large._let_go(3 * MIB)
    assert lane.app.engine.sending.held > MIB
    assert len(lane.outgoing) == 1
    reader.go_on()
    await quiet(lane)
    assert len(lane.outgoing) == 0
    assert lane.app.engine.sending.held == 0
    assert b"x" * 10_000 in reader.take()
    await quiet_and_gone(lane, reader)


async def test_clients_that_take_least_are_cut_when_small_answers_are_too_much(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * 60 * KIB)
    readers = [Client(lane) for _ in range(60)]
    for reader in readers:
        reader.stall()
        reader.send(GET)
    lane.now += 1
    readers[0].connection._enter(readers[0].connection._phase)  # it has taken something since
    patrol = Patrol(lane.app.engine.sending, [reader.connection for reader in readers], lane.now)
    assert not patrol.check_some()
    cut = [reader.wire.aborted for reader in readers]
    assert not cut[0]
    assert 5 < sum(cut) < 20
    await quiet_and_gone(lane, *readers)
