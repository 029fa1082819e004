"""Tests the requests that deliveries send, and how each answer of a receiver changes the wake."""

from collections.abc import AsyncIterator

import pytest

from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.signing import parse_signature, signed_bytes
from durable_streams_server.protocol.subscriptions.commands import Acknowledge
from durable_streams_server.subscriptions import keys
from durable_streams_server.subscriptions.client import Reply
from durable_streams_server.subscriptions.network import DeliveryFailed
from tests.protocol.subscriptions.world import HOOK, A, B
from tests.requests import NOW, SECOND
from tests.subscriptions.services import DONE, PUBLIC, Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.subscribe_webhook()
    yield made
    await made.stop()


# The request


async def test_delivery_has_the_headers_and_body_of_the_protocol(running: Running) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    view = await running.view()
    assert view.wake is not None
    document = post.document
    token = document.pop("callback_token")
    (stream,) = view.streams
    assert (post.url, post.time_limit._seconds) == (HOOK, 30.0)
    assert document == {
        "subscription_id": "s",
        "wake_id": view.wake.wake_id,
        "generation": 1,
        "streams": [
            {
                "path": "events/a",
                "link_type": "glob",
                "acked_offset": stream.acked,
                "tail_offset": stream.tail,
                "has_pending": True,
            }
        ],
        "callback_url": f"{PUBLIC}/v1/stream/__ds/subscriptions/s/callback",
    }
    assert running.service.credentials.read_token("s", token)[:2] == (view.grant, False)
    assert post.headers[b"content-type"] == b"application/json"


async def test_signature_covers_the_exact_body(running: Running) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    signature = parse_signature(post.headers[b"webhook-signature"].decode())
    key = running.service.credentials.active_key
    assert (signature.timestamp, signature.kid) == (NOW // SECOND, key.kid)
    public = keys._private(key.seed).public_key()
    public.verify(signature.signature, signed_bytes(signature.timestamp, post.body))


async def test_delivery_lists_every_stream_with_appends_made_before_it_was_sent(
    running: Running,
) -> None:
    await running.append_news(A, B, A)
    post = await running.wait_for_posts(1)
    assert [stream["path"] for stream in post.document["streams"]] == ["events/a", "events/b"]


# The answer


async def test_done_answer_acknowledges_all_streams_in_delivery(running: Running) -> None:
    await running.append_news(A)
    (await running.wait_for_posts(1)).answer(DONE)
    await running.settle()
    view = await running.view()
    assert (view.wake, view.streams, view.status) == (None, (), "active")
    await running.append_news(B)
    assert (await running.wait_for_posts(2)).generation == 2


async def test_append_during_delivery_begins_another_wake(running: Running) -> None:
    await running.append_news(A)
    first = await running.wait_for_posts(1)
    await running.append_news(A, B)
    first.answer(DONE)
    second = await running.wait_for_posts(2)
    assert second.generation == 2
    streams = {stream["path"]: stream for stream in second.document["streams"]}
    assert set(streams) == {"events/a", "events/b"}
    assert streams["events/a"]["acked_offset"] == first.document["streams"][0]["tail_offset"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b""),
        Reply(204, b""),
        Reply(200, b"{}"),
        Reply(200, b'{"done": false}'),
        Reply(200, b'{"done": 1}'),
        Reply(200, b'{"done": "true"}'),
        Reply(200, b"[true]"),
        Reply(200, b"done"),
        Reply(200, b'{"done": true'),
        Reply(200, b"\xff\xfe"),
        Reply(200, b'{"done": "\xff"}'),
        Reply(200, b'{"x": ' * 10_000),
        Reply(299, b"<html>"),
    ],
)
async def test_success_answer_without_done_begins_a_lease(running: Running, reply: Reply) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    running.clock.forward(1)
    post.answer(reply)
    await running.settle()
    view = await running.view()
    assert view.wake is not None
    assert (view.wake.next_attempt, view.wake.lease_until) == (None, NOW + 30 * SECOND)
    await running.pass_time(28.9)
    await running.wait_for_posts(1)
    await running.pass_time(0.1)
    assert (await running.wait_for_posts(2)).generation == 2


async def test_done_answer_may_have_other_json_members(running: Running) -> None:
    await running.append_news(A)
    (await running.wait_for_posts(1)).answer(Reply(201, b' {"x": [1], "done": true} '))
    await running.settle()
    assert (await running.view()).wake is None


@pytest.mark.parametrize(
    "answer",
    [
        Reply(400, b'{"done": true}'),
        Reply(404, b""),
        Reply(410, b""),
        Reply(429, b""),
        Reply(500, b'{"done": true}'),
        Reply(503, b""),
        DeliveryFailed("the receiver redirects, and webhooks do not follow", "redirect"),
        DeliveryFailed("the connection to the receiver failed", "unreachable"),
    ],
)
async def test_failed_delivery_is_retried_with_the_same_wake_id(
    running: Running, answer: Reply | Exception
) -> None:
    await running.append_news(A)
    first = await running.wait_for_posts(1)
    first.answer(answer)
    await running.settle()
    view = await running.view()
    assert (view.status, view.generation) == ("failed", 1)
    await running.pass_time(0.79)
    await running.wait_for_posts(1)
    await running.pass_time(0.42)
    second = await running.wait_for_posts(2)
    assert second.document["wake_id"] == first.document["wake_id"]
    second.answer(DONE)
    await running.settle()
    assert (await running.view()).status == "active"


async def test_delivery_that_timed_out_is_retried_only_after_its_lease(
    running: Running,
) -> None:
    await running.append_news(A)
    first = await running.wait_for_posts(1)
    await running.pass_time(5)
    first.answer(DeliveryFailed("too long", "no_answer", timed_out=True))
    await running.settle()
    view = await running.view()
    assert (view.status, view.reason) == ("failed", "no_answer")
    await running.pass_time(24.9)
    await running.wait_for_posts(1)
    await running.pass_time(0.2)
    second = await running.wait_for_posts(2)
    assert (first.generation, second.generation) == (1, 2)
    assert second.document["wake_id"] != first.document["wake_id"]


async def test_repeated_failures_are_retried_with_exponential_backoff(running: Running) -> None:
    await running.append_news(A)
    for attempt in range(9):
        post = await running.wait_for_posts(attempt + 1)
        before = running.clock()
        post.answer(Reply(500, b""))
        await running.settle()
        view = await running.view()
        assert view.wake is not None
        assert view.wake.attempts == attempt + 1
        assert view.wake.next_attempt is not None
        delay = (view.wake.next_attempt - before) / SECOND
        expected = min(60.0, 2.0**attempt)
        assert expected * 0.8 <= delay <= expected * 1.2
        await running.pass_time(delay)


async def test_callback_before_the_answer_ends_the_wake(running: Running) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    grant = running.service.credentials.read_token("s", post.document["callback_token"]).grant
    offset = (await running.view()).streams[0].tail
    command = Acknowledge(grant, 1, post.document["wake_id"], ((A, parse(offset)),), True)
    await running.run(command)
    assert (await running.view()).wake is None
    post.answer(Reply(500, b""))
    await running.settle()
    view = await running.view()
    assert (view.wake, view.status) == (None, "active")


# Counts


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (DONE, "acknowledged"),
        (Reply(200, b"{}"), "accepted"),
        (Reply(500, b""), "refused"),
        (DeliveryFailed("the connection failed", "unreachable"), "unreachable"),
        (DeliveryFailed("no answer came", timed_out=True), "no_answer"),
        (RuntimeError("a bug"), "internal_error"),
    ],
)
async def test_delivery_is_counted_with_its_outcome_and_duration(
    running: Running, answer: Reply | Exception, outcome: str
) -> None:
    counts = running.service.counts
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    assert running.service.deliveries_running == 1
    running.clock.forward(3)
    post.answer(answer)
    await running.settle()
    assert {name: count for name, count in counts.outcomes.items() if count} == {outcome: 1}
    assert (sum(counts.seconds.counts), counts.seconds.total) == (1, 3)
    assert (running.service.deliveries_running, running.service.deliveries_waiting) == (0, 0)


async def test_delivery_without_public_url_is_counted(running: Running) -> None:
    running.service.public_url = None
    await running.append_news(A)
    await running.settle()
    assert running.service.counts.outcomes["no_public_url"] == 1
