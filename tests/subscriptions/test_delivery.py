"""One delivery after another: what is sent, and what each kind of answer means."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from durable_streams_server.errors import StorageFull, Unavailable
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.decide import Outcome
from durable_streams_server.protocol.signing import parse_signature, signed_bytes
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Deliver,
    Delivered,
    Undelivered,
    Unsubscribe,
)
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.subscriptions import delivery, keys
from durable_streams_server.subscriptions.client import Reply
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.slots import MAX_PER_HOST, MAX_PER_SILENT_HOST
from tests.protocol.subscriptions.world import HOOK, A, B
from tests.requests import NOW, SECOND
from tests.storage.files.stores import new_disk, open_store
from tests.storage.files.test_store import Prompt
from tests.subscriptions.services import DONE, PUBLIC, TAKEN, Running


class Refusing(MemoryStore):
    """A store that has no room for some commands."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: tuple[type, ...] = ()
        self.error: Exception = Unavailable("there is no room")
        self.refused: list[Command] = []

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if isinstance(command, self.refuses):
            self.refused.append(command)
            return Ticket.failed(self.error)
        return super().execute(command, now)


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_AGAIN", 0.001)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running(Refusing()).start()
    await made.hooked()
    yield made
    await made.stop()


def refusing(running: Running) -> Refusing:
    return cast(Refusing, running.store)


# -- what is sent -----------------------------------------------------------


async def test_a_delivery_says_what_the_protocol_asks_for(running: Running) -> None:
    await running.news(A)
    post = await running.posted(1)
    view = await running.view()
    assert view.wake is not None
    document = post.document
    token = document.pop("callback_token")
    (stream,) = view.streams
    assert (post.url, post.patience._seconds) == (HOOK, 30.0)
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
    assert running.service.grant("s", token) == (view.grant, False)
    assert post.headers[b"content-type"] == b"application/json"


async def test_the_very_bytes_are_signed(running: Running) -> None:
    await running.news(A)
    post = await running.posted(1)
    signature = parse_signature(post.headers[b"webhook-signature"].decode())
    key = running.service.active_key
    assert (signature.timestamp, signature.kid) == (NOW // SECOND, key.kid)
    public = keys._private(key.seed).public_key()
    public.verify(signature.signature, signed_bytes(signature.timestamp, post.body))


async def test_a_delivery_tells_of_what_came_while_it_waited(running: Running) -> None:
    await running.news(A, B, A)
    post = await running.posted(1)
    assert [stream["path"] for stream in post.document["streams"]] == ["events/a", "events/b"]


# -- what answers mean ------------------------------------------------------


async def test_done_acknowledges_the_snapshot(running: Running) -> None:
    await running.news(A)
    (await running.posted(1)).answer(DONE)
    await running.settle()
    view = await running.view()
    assert (view.wake, view.streams, view.status) == (None, (), "active")
    await running.news(B)
    assert (await running.posted(2)).generation == 2


async def test_news_after_the_snapshot_is_another_wake(running: Running) -> None:
    await running.news(A)
    first = await running.posted(1)
    await running.news(A, B)
    first.answer(DONE)
    second = await running.posted(2)
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
async def test_any_other_success_begins_a_lease(running: Running, reply: Reply) -> None:
    await running.news(A)
    post = await running.posted(1)
    running.clock.forward(1)
    post.answer(reply)
    await running.settle()
    view = await running.view()
    assert view.wake is not None
    assert (view.wake.next_attempt, view.wake.lease_until) == (None, NOW + 30 * SECOND)
    await running.pass_time(28.9)
    await running.posted(1)
    await running.pass_time(0.1)
    assert (await running.posted(2)).generation == 2


async def test_done_may_be_said_beside_other_things(running: Running) -> None:
    await running.news(A)
    (await running.posted(1)).answer(Reply(201, b' {"x": [1], "done": true} '))
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
async def test_a_failure_is_tried_again_as_the_same_wake(
    running: Running, answer: Reply | Exception
) -> None:
    await running.news(A)
    first = await running.posted(1)
    first.answer(answer)
    await running.settle()
    view = await running.view()
    assert (view.status, view.generation) == ("failed", 1)
    await running.pass_time(0.79)
    await running.posted(1)
    await running.pass_time(0.42)
    second = await running.posted(2)
    assert second.document["wake_id"] == first.document["wake_id"]
    second.answer(DONE)
    await running.settle()
    assert (await running.view()).status == "active"


async def test_receiver_that_took_too_long_is_left_alone_until_its_lease_ends(
    running: Running,
) -> None:
    await running.news(A)
    first = await running.posted(1)
    await running.pass_time(5)
    first.answer(DeliveryFailed("too long", "no_answer", timed_out=True))
    await running.settle()
    view = await running.view()
    assert (view.status, view.reason) == ("failed", "no_answer")
    await running.pass_time(24.9)
    await running.posted(1)
    await running.pass_time(0.2)
    second = await running.posted(2)
    assert (first.generation, second.generation) == (1, 2)
    assert second.document["wake_id"] != first.document["wake_id"]


async def test_failures_are_tried_again_ever_later(running: Running) -> None:
    await running.news(A)
    for attempt in range(9):
        post = await running.posted(attempt + 1)
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


async def test_a_callback_that_overtakes_the_answer_counts(running: Running) -> None:
    await running.news(A)
    post = await running.posted(1)
    grant, _ = running.service.grant("s", post.document["callback_token"])
    offset = (await running.view()).streams[0].tail
    from durable_streams_server.protocol.offsets import parse

    command = Acknowledge(grant, 1, post.document["wake_id"], ((A, parse(offset)),), True)
    await running.run(command)
    assert (await running.view()).wake is None
    post.answer(Reply(500, b""))
    await running.settle()
    view = await running.view()
    assert (view.wake, view.status) == (None, "active")


# -- what happens meanwhile -------------------------------------------------


@pytest.mark.parametrize("answer", [DONE, TAKEN, Reply(500, b"")])
async def test_a_subscription_that_is_deleted_meanwhile_stays_deleted(
    running: Running, answer: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    await running.news(A)
    post = await running.posted(1)
    await running.run(Unsubscribe("s"))
    await running.subscribe()
    await running.news(B)
    second = await running.posted(2)
    with caplog.at_level(logging.WARNING):
        post.answer(answer)
        await running.settle()
    assert caplog.text == ""
    view = await running.view()
    assert view.wake is not None
    assert (view.generation, view.wake.next_attempt, view.wake.attempts) == (1, NOW, 0)
    second.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


async def test_a_stream_that_is_deleted_meanwhile_is_passed_over(running: Running) -> None:
    await running.news(A, B)
    post = await running.posted(1)
    await running.run(Delete(A))
    post.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


async def test_a_wake_is_delivered_once_at_a_time(running: Running) -> None:
    await running.news(A)
    post = await running.posted(1)
    for _ in range(3):
        running.service._act("s")
        await running.settle()
    await running.posted(1)
    post.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


@pytest.mark.parametrize("error", [Unavailable("no room"), StorageFull("no room")])
@pytest.mark.parametrize("answer", [DONE, TAKEN, Reply(500, b"")])
async def test_a_result_that_the_store_has_no_room_for_is_kept_later(
    running: Running, answer: Reply, error: Exception
) -> None:
    store = refusing(running)
    store.error = error
    await running.news(A)
    post = await running.posted(1)
    store.refuses = (Acknowledge, Delivered, Undelivered)
    post.answer(answer)
    await running.until(lambda: len(store.refused) >= 3)
    await running.posted(1)
    store.refuses = ()
    view = await running.view()
    while view.wake is not None and view.wake.next_attempt == NOW:
        await asyncio.sleep(0.001)
        view = await running.view()
    assert (view.wake is None) == (answer is DONE)
    assert view.status == ("failed" if answer.status == 500 else "active")


async def test_a_delivery_that_the_store_cannot_prepare_is_begun_later(running: Running) -> None:
    store = refusing(running)
    store.refuses = (Deliver,)
    await running.news(A)
    await running.until(lambda: len(store.refused) >= 3)
    assert running.client.posts == []
    store.refuses = ()
    await running.posted(1)


async def test_a_fault_is_logged_and_the_delivery_begun_again(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "sign", broken)
        await running.news(A)
        await running.until(lambda: "a fault" in caplog.text)
    await running.settle()
    assert running.client.posts == []
    view = await running.view()
    assert (view.reason, view.wake and view.wake.attempts) == ("internal_error", 1)
    await running.pass_time(1.3)
    post = await running.posted(1)
    assert post.document["callback_token"] not in caplog.text


async def test_a_retry_that_is_due_at_once_is_not_lost() -> None:
    """Its time may have passed before the store had room for the failure, and it comes up before the delivery has ended."""
    store = open_store(new_disk())
    store.shell = Prompt(store)
    running = Running(store)
    running.service.start()
    await running.hooked()
    await running.news(A)
    post = await running.posted(1)
    real, refusals = store.execute, 3

    def execute(command: Command, now: int) -> Ticket[Any]:
        nonlocal refusals
        if isinstance(command, Undelivered) and refusals:
            refusals -= 1
            running.clock.forward(1)
            return Ticket.failed(Unavailable("no room"))
        return real(command, now)

    store.execute = execute  # type: ignore[method-assign]
    post.answer(Reply(500, b""))
    await running.until(lambda: not refusals)
    for _ in range(20):
        running.service.schedule.run()
        await asyncio.sleep(0)
    await running.pass_time(1.1)
    await running.posted(2)
    await running.service.stop()


async def test_without_a_public_url_nothing_is_sent_and_it_is_tried_again(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.service.public_url = None
    await running.news(A)
    await running.settle()
    assert running.client.posts == []
    assert (await running.view()).status == "failed"
    assert "public URL" in caplog.text
    running.service.public_url = PUBLIC
    await running.pass_time(1.3)
    assert (await running.posted(1)).document["callback_url"].startswith(PUBLIC)


async def test_no_log_holds_a_token_or_a_url(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await running.news(A)
        post = await running.posted(1)
        post.answer(Reply(500, b"secret"))
        await running.settle()
    assert "answered with 500" in caplog.text
    for secret in (post.document["callback_token"], HOOK, "secret"):
        assert secret not in caplog.text


# -- the end ----------------------------------------------------------------


async def test_a_shutdown_breaks_off_and_the_next_start_delivers_again() -> None:
    first = Running().start()
    await first.hooked()
    await first.news(A)
    post = await first.posted(1)
    await first.stop()
    assert post.cancelled
    assert first.client.closed
    second = Running(first.store, first.clock).start()
    again = await second.posted(1)
    assert again.generation == 2
    assert again.document["wake_id"] != post.document["wake_id"]  # it may tell of more by now
    await second.stop()


async def test_a_shutdown_while_the_store_has_no_room_leaves_the_wake_as_it_was() -> None:
    running = Running(Refusing()).start()
    await running.hooked()
    store = refusing(running)
    await running.news(A)
    post = await running.posted(1)
    store.refuses = (Acknowledge,)
    post.answer(DONE)
    await running.until(lambda: bool(store.refused))
    await running.stop()
    subscription = store.subscriptions.get("s")
    assert subscription is not None
    assert subscription.wake is not None
    assert subscription.wake.next_attempt == NOW


async def test_deliveries_that_wait_for_a_place_end_with_the_rest() -> None:
    running = Running().start()
    await running.streams(A)
    for number in range(12):
        await running.subscribe(f"s{number}")
    await running.news(A)
    await running.posted(MAX_PER_SILENT_HOST)
    deliveries = running.service._deliveries
    assert deliveries is not None
    assert len(deliveries) == MAX_PER_SILENT_HOST  # those that wait are no tasks
    running.client.posts[0].answer(DONE)
    await running.posted(MAX_PER_HOST + 1)
    await running.stop()
    await running.settle()
    assert len(deliveries) == 0
    assert deliveries._slots.taken == 0


async def test_wakes_that_come_and_go_while_one_waits_are_one_entry(running: Running) -> None:
    for number in range(MAX_PER_SILENT_HOST):
        await running.subscribe(f"stuck{number}", streams=["else/stuck"])
    await running.streams("/v1/stream/else/stuck")
    await running.news("/v1/stream/else/stuck")
    await running.posted(MAX_PER_SILENT_HOST)
    deliveries = running.service._deliveries
    assert deliveries is not None
    for _ in range(50):
        await running.news(A)
        await running.settle()
        await running.run(Delete(A))
        await running.streams(A)
    assert (len(deliveries._waiting), deliveries._slots.waiting) == (1, 1)
    await running.news(A)
    await running.settle()
    running.client.posts[0].answer(DONE)
    post = await running.posted(MAX_PER_SILENT_HOST + 1)
    assert post.document["subscription_id"] == "s"
