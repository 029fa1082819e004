"""One client of the native lane gets only a bounded part of the memory and of each turn of the event loop."""

from itertools import count

import pytest

from durable_streams_server import StreamStore
from durable_streams_server.http.native.lane import SMALL_BUFFER, Lane
from durable_streams_server.streams.turns import READS_AT_ONCE, WRITES_AT_ONCE
from tests.http.native.budgets import BIG, GET, IN_FLIGHT, KIB, MIB, SSE, A, disconnect
from tests.http.socket_driver import Client, post, request, run_turns, run_until_idle, until


async def test_only_a_few_pipelined_requests_are_answered_at_once(running_lane: Lane) -> None:
    client = Client(running_lane).send(GET * 100)
    assert client.read().count(b"HTTP/1.1 200") < 20
    assert client.wire.paused
    await run_until_idle(running_lane)
    await run_turns()
    assert client.read().count(b"HTTP/1.1 200") > 80
    assert not client.wire.paused
    await disconnect(running_lane, client)


async def test_other_client_is_answered_between_pipelined_requests(running_lane: Lane) -> None:
    greedy = Client(running_lane).send(GET * 1000)
    other = Client(running_lane).send(GET)
    assert len(other.answers("GET")) == 1
    await run_turns(1)
    Client(running_lane).send(request("HEAD", A)).reset()
    await disconnect(running_lane, greedy, other)


async def test_many_small_chunks_are_parsed_over_several_loop_turns(
    running_lane: Lane, big_store: StreamStore
) -> None:
    head = request("POST", A, "Content-Type: text/plain", "Transfer-Encoding: chunked")
    client = Client(running_lane).send(head + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert len(running_lane.turns) == 1
    assert 0 < client.connection._parser.body_size < 4 * KIB
    assert client.wire.paused
    await until(lambda: bool(client.wire.received))
    assert client.answers("POST")[0].status == 204
    assert big_store.read(A).data == b"x" * 100_000
    await disconnect(running_lane, client)


async def test_body_of_5_mib_in_one_part_is_stored(running_lane: Lane) -> None:
    client = Client(running_lane).send(post(b"x" * 5 * MIB))
    await until(lambda: bool(client.wire.received))
    assert client.answers("POST")[0].status == 204
    await disconnect(running_lane, client)


async def test_single_body_of_1_mb_is_received_in_one_loop_turn(running_lane: Lane) -> None:
    """The whole body is parsed without waiting for another turn, although its first part also contains the head."""
    running_lane.turns._clock = lambda: 0.0
    client = Client(running_lane).send(post(b"x" * 1_000_000))
    assert client.answers("POST")[0].status == 204
    await disconnect(running_lane, client)


@pytest.mark.parametrize("size", [100 * KIB, 300 * KIB, 1_000_000])
async def test_pipelined_large_bodies_are_stored_in_order(
    running_lane: Lane, big_store: StreamStore, size: int
) -> None:
    bodies = [bytes([letter]) * size for letter in b"abcd"]
    client = Client(running_lane).send(b"".join(map(post, bodies)) + GET)
    await until(lambda: client.wire.received.count(b"HTTP/1.1 204") == 4)
    assert big_store.read(A).data == b"".join(bodies)
    await disconnect(running_lane, client)


async def test_server_pauses_reading_a_large_body_after_a_few_parts(running_lane: Lane) -> None:
    running_lane.turns._clock = lambda: 0.0
    body = post(b"x" * 5 * MIB)
    client = Client(running_lane).send(body)
    assert client.wire.paused
    assert MIB < len(body) - client.wire.unread < 2 * MIB
    other = Client(running_lane).send(GET)
    assert len(other.answers("GET")) == 1
    await until(lambda: bool(client.wire.received))
    await disconnect(running_lane, client, other)


async def test_large_bodies_of_several_clients_are_received_part_by_part(
    running_lane: Lane,
) -> None:
    running_lane.turns._clock = lambda: 0.0
    body = post(b"x" * 3 * MIB)
    clients = [Client(running_lane).send(body) for _ in range(3)]
    received = [len(body) - client.wire.unread for client in clients]
    assert (
        received[1:] == [len(running_lane.buffer)] * 2
    )  # the first client was alone when its body began
    while max(received) < len(body):
        await run_turns(1)
        before, received = received, [len(body) - client.wire.unread for client in clients]
        parts = sorted(
            (now - then) / len(running_lane.buffer)
            for now, then in zip(received, before, strict=True)
        )
        assert parts[1] <= 1  # the last client is alone and may send more
        assert sum(parts) <= 8
    await until(lambda: all(client.wire.received for client in clients))
    await disconnect(running_lane, *clients)


async def test_cheap_reads_are_answered_before_queued_writes(running_lane: Lane) -> None:
    running_lane.turns._clock = lambda: 0.0
    writers = [Client(running_lane).send(post()) for _ in range(WRITES_AT_ONCE + 50)]
    answered = sum(bool(writer.answers("POST")) for writer in writers)
    assert answered == WRITES_AT_ONCE
    reader = Client(running_lane).send(GET)
    assert len(reader.answers("GET")) == 1
    await run_until_idle(running_lane)
    answered += sum(bool(writer.answers("POST")) for writer in writers)
    assert answered == len(writers)
    await disconnect(running_lane, reader, *writers)


async def test_cheap_read_waits_for_earlier_reads_but_not_for_writes(running_lane: Lane) -> None:
    running_lane.turns._clock = lambda: 0.0
    writers = [Client(running_lane).send(post()) for _ in range(WRITES_AT_ONCE + 100)]
    readers = [Client(running_lane).send(GET) for _ in range(READS_AT_ONCE - WRITES_AT_ONCE)]
    late = Client(running_lane).send(GET)
    assert all(reader.wire.received for reader in readers)
    assert not late.wire.received  # this turn has already begun the maximum number of reads
    # Each reading of the clock adds a millisecond.
    running_lane.turns._clock = count(step=0.001).__next__
    await run_turns(1)
    assert late.wire.received
    assert 90 < sum(not writer.wire.received for writer in writers) < 100
    await disconnect(running_lane, late, *readers, *writers)


async def test_body_is_received_in_small_buffer_while_event_loop_is_busy(
    running_lane: Lane,
) -> None:
    writers = [Client(running_lane).send(post()) for _ in range(WRITES_AT_ONCE)]
    large = Client(running_lane).send(post(b"x" * 100 * KIB))
    assert large.wire.unread == len(post(b"x" * 100 * KIB)) - SMALL_BUFFER
    assert large.wire.paused
    await until(lambda: not large.wire.unread)  # the rest is received at once
    await until(lambda: bool(large.wire.received))
    assert large.answers("POST")[0].status == 204
    await disconnect(running_lane, large, *writers)


async def test_large_receive_buffer_is_used_only_until_its_request_ends(running_lane: Lane) -> None:
    body = post(b"x" * 20 * KIB)
    writers = [Client(running_lane).send(post()) for _ in range(WRITES_AT_ONCE)]
    client = Client(running_lane).send(body)
    await until(lambda: bool(client.wire.received))
    more = [Client(running_lane).send(post()) for _ in range(WRITES_AT_ONCE)]
    client.send(body)
    assert client.wire.unread == len(body) - SMALL_BUFFER
    await disconnect(running_lane, client, *writers, *more)


async def test_connections_lost_together_are_closed_over_several_loop_turns(
    running_lane: Lane,
) -> None:
    crowd = [Client(running_lane).send(SSE) for _ in range(WRITES_AT_ONCE + 400)]
    await run_until_idle(running_lane)
    running_lane.turns._clock = lambda: 0.0  # so that only the cost of closing sockets counts
    for client in crowd:
        client.half_close()
    assert sum(client.is_ended for client in crowd) == WRITES_AT_ONCE
    await run_turns(1)
    assert 150 < sum(client.is_ended for client in crowd) - WRITES_AT_ONCE < 250
    await run_until_idle(running_lane)
    assert all(client.is_ended for client in crowd)
    await disconnect(running_lane)


async def test_event_stream_sends_a_large_page_over_several_loop_turns(
    running_lane: Lane, big_store: StreamStore
) -> None:
    big_store.append(BIG, b"x" * MIB)
    client = Client(running_lane).send(SSE)
    first = len(client.wire.received)
    assert 0 < first < 512 * KIB
    assert len(running_lane.turns) == 1
    await run_until_idle(running_lane)
    assert len(client.wire.received) > MIB
    await disconnect(running_lane, client)


async def test_many_long_polls_are_not_answered_within_the_append_call(
    running_lane: Lane, big_store: StreamStore
) -> None:
    poll = request("GET", f"{A}?offset=now&live=long-poll")
    pollers = [Client(running_lane).send(poll) for _ in range(200)]
    await run_until_idle(running_lane)
    big_store.append(A, b"news")
    assert not any(poller.wire.received for poller in pollers)
    await run_until_idle(running_lane)
    assert all(poller.answers("GET")[0].status == 200 for poller in pollers)
    await disconnect(running_lane, *pollers)


async def test_request_with_large_body_is_refused_before_the_body_arrives(
    running_lane: Lane,
) -> None:
    size = 5 * MIB
    for method, target, kind, status in (
        ("POST", "/v1/stream/none", "text/plain", 404),
        ("POST", A, "", 400),
        ("PUT", "/v1/stream/__ds/subscriptions/x", "application/json", 413),
        ("PATCH", A, "text/plain", 405),
        ("POST", "/v1/stream/%ff", "text/plain", 400),
    ):
        kinds = [f"Content-Type: {kind}"] if kind else []
        client = Client(running_lane).send(
            request(method, target, *kinds, f"Content-Length: {size}")
        )
        (answer,) = client.answers(method)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        await disconnect(running_lane, client)


async def test_chunked_append_to_missing_stream_is_refused_once_its_body_is_large(
    running_lane: Lane,
) -> None:
    head = ("Content-Type: text/plain", "Transfer-Encoding: chunked")
    client = Client(running_lane).send(request("POST", "/v1/stream/none", *head))
    client.send(b"%x\r\n%b\r\n" % (40 * KIB, b"x" * 40 * KIB))
    await run_until_idle(running_lane)
    assert not client.wire.received
    client.send(b"%x\r\n%b\r\n" % (40 * KIB, b"x" * 40 * KIB))
    await run_until_idle(running_lane)
    assert client.answers("POST")[0].status == 404
    await disconnect(running_lane, client)


async def test_large_append_waits_for_create_on_same_connection(running_lane: Lane) -> None:
    path = "/v1/stream/new"
    client = Client(running_lane)
    create = request("PUT", path, "Content-Type: text/plain")
    body = b"x" * 100 * KIB
    client.send(create + post(body, target=path))
    await run_until_idle(running_lane)
    assert [answer.status for answer in client.answers("PUT", "POST")] == [201, 204]
    await disconnect(running_lane, client)


async def test_bodies_of_one_address_leave_memory_for_those_of_another(
    running_lane: Lane,
) -> None:
    sent = post(b"x" * 8 * MIB)
    greedy = [Client(running_lane), Client(running_lane)]
    greedy[0].send(sent[:-1], each=256 * KIB)
    await until(lambda: running_lane.budget.held == 8 * MIB - 1)
    greedy[1].send(sent[:-1], each=256 * KIB)
    await until(lambda: bool(greedy[1].wire.received))
    assert greedy[0].wire.received == b""
    (answer,) = greedy[1].answers("POST")
    assert (answer.status, answer.error["code"]) == (503, "BODIES_FROM_ADDRESS")
    assert answer.headers["retry-after"] == "1"
    other = Client(running_lane, ("10.0.0.1", 1)).send(sent, each=256 * KIB)
    await until(lambda: bool(other.wire.received))
    assert other.answers("POST")[0].status == 204
    await disconnect(running_lane, other, *greedy)


async def test_incomplete_heads_and_queued_requests_count_toward_the_memory_budget(
    running_lane: Lane,
) -> None:
    half = Client(running_lane).send(GET[:-2] + b"X: " + b"y" * 8 * KIB)
    assert 7 * KIB < running_lane.budget.held < 10 * KIB
    half.send(b"\r\n\r\n")
    assert half.answers("GET")[0].status == 200
    assert running_lane.budget.held == 0
    poll = Client(running_lane).send(request("GET", f"{A}?offset=now&live=long-poll") + GET * 5)
    assert running_lane.budget.held >= 5 * KIB
    await disconnect(running_lane, half, poll)


async def test_unparsed_octets_beyond_the_memory_budget_are_refused(
    running_lane: Lane,
) -> None:
    get = request("GET", A, "X: " + "y" * 4 * KIB)
    running_lane.budget.take(IN_FLIGHT - 100 * KIB)
    fits = Client(running_lane).send(get * 10)
    assert running_lane.budget.held > IN_FLIGHT - 80 * KIB
    await run_until_idle(running_lane)
    assert len(fits.answers(*["GET"] * 10)) == 10
    too_many = Client(running_lane).send(get * 50)
    await run_until_idle(running_lane)
    assert b"BODIES_IN_FLIGHT" in too_many.read()
    assert too_many.is_ended
    running_lane.budget.give_back(IN_FLIGHT - 100 * KIB)
    await disconnect(running_lane, fits, too_many)


async def test_head_with_too_many_headers_is_refused_before_its_end(running_lane: Lane) -> None:
    client = Client(running_lane).send(
        request("GET")[:-2] + b"".join(b"h%d: \r\n" % n for n in range(200))
    )
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (431, "HEADERS_TOO_LARGE")
    await disconnect(running_lane, client)
