"""Tests deliveries whose subscription, stream, store or server changes while they run."""

import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from durable_streams_server.errors import StorageFull, Unavailable
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Deliver,
    Delivered,
    Undelivered,
    Unsubscribe,
)
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.subscriptions import delivery, keys
from durable_streams_server.subscriptions.client import Reply
from durable_streams_server.subscriptions.slots import MAX_PER_HOST, MAX_PER_SILENT_HOST
from tests.protocol.subscriptions.world import HOOK, A, B
from tests.requests import NOW
from tests.storage.files.stores import new_disk, open_store
from tests.storage.files.test_store import Prompt
from tests.subscriptions.services import DONE, PUBLIC, TAKEN, RefusingStore, Running, run_turns


@pytest.fixture(autouse=True)
def _retry_in_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_RETRY_SECONDS", 0)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running(RefusingStore()).start()
    await made.subscribe_webhook()
    yield made
    await made.stop()


def refusing_store(running: Running) -> RefusingStore:
    return cast(RefusingStore, running.store)


# Changes while a delivery runs


@pytest.mark.parametrize("answer", [DONE, TAKEN, Reply(500, b"")])
async def test_answer_for_deleted_subscription_does_not_affect_recreated_subscription(
    running: Running, answer: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    await running.run(Unsubscribe("s"))
    await running.subscribe()
    await running.append_news(B)
    second = await running.wait_for_posts(2)
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


async def test_done_answer_ignores_a_stream_deleted_during_the_delivery(running: Running) -> None:
    await running.append_news(A, B)
    post = await running.wait_for_posts(1)
    await running.run(Delete(A))
    post.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


async def test_running_delivery_is_not_begun_a_second_time(running: Running) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    for _ in range(3):
        running.service._run_next_step("s")
        await running.settle()
    await running.wait_for_posts(1)
    post.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


@pytest.mark.parametrize("error", [Unavailable("no room"), StorageFull("no room")])
@pytest.mark.parametrize("answer", [DONE, TAKEN, Reply(500, b"")])
async def test_recording_of_delivery_result_is_retried_until_store_has_room(
    running: Running, answer: Reply, error: Exception
) -> None:
    store = refusing_store(running)
    store.error = error
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    store.refuses = (Acknowledge, Delivered, Undelivered)
    post.answer(answer)
    await running.until(lambda: len(store.refused) >= 3)
    await running.wait_for_posts(1)
    store.refuses = ()
    view = await running.view()
    while view.wake is not None and view.wake.next_attempt == NOW:
        await running.settle()
        view = await running.view()
    assert (view.wake is None) == (answer is DONE)
    assert view.status == ("failed" if answer.status == 500 else "active")


async def test_delivery_is_retried_while_store_refuses_its_record(running: Running) -> None:
    store = refusing_store(running)
    store.refuses = (Deliver,)
    await running.append_news(A)
    await running.until(lambda: len(store.refused) >= 3)
    assert running.client.posts == []
    store.refuses = ()
    await running.wait_for_posts(1)


async def test_exception_in_a_delivery_is_logged_and_the_delivery_retried(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "sign", broken)
        await running.append_news(A)
        await running.until(lambda: "a fault" in caplog.text)
    await running.settle()
    assert running.client.posts == []
    view = await running.view()
    assert (view.reason, view.wake and view.wake.attempts) == ("internal_error", 1)
    await running.pass_time(1.3)
    post = await running.wait_for_posts(1)
    assert post.document["callback_token"] not in caplog.text


async def test_retry_that_is_due_before_its_delivery_has_ended_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the store has lacked room to record the failure for a long time, the retry is due as soon as the failure is recorded."""
    store = open_store(new_disk())
    store.shell = Prompt(store)
    running = Running(store)
    running.service.start()
    await running.subscribe_webhook()
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    real, refusals = store.execute, 3

    def execute(command: Command, now: int) -> Ticket[Any]:
        nonlocal refusals
        if isinstance(command, Undelivered) and refusals:
            refusals -= 1
            running.clock.forward(1)
            return Ticket.failed(Unavailable("no room"))
        return real(command, now)

    monkeypatch.setattr(store, "execute", execute)
    post.answer(Reply(500, b""))
    await running.until(lambda: not refusals)
    for _ in range(20):
        running.service.schedule.run()
        await run_turns(1)
    await running.pass_time(1.1)
    await running.wait_for_posts(2)
    await running.service.stop()


async def test_delivery_waits_until_the_public_url_is_set(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.service.public_url = None
    await running.append_news(A)
    await running.settle()
    assert running.client.posts == []
    assert (await running.view()).status == "failed"
    assert "public URL" in caplog.text
    running.service.public_url = PUBLIC
    await running.pass_time(1.3)
    assert (await running.wait_for_posts(1)).document["callback_url"].startswith(PUBLIC)


async def test_log_contains_no_token_and_no_url(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await running.append_news(A)
        post = await running.wait_for_posts(1)
        post.answer(Reply(500, b"secret"))
        await running.settle()
    assert "answered with 500" in caplog.text
    for secret in (post.document["callback_token"], HOOK, "secret"):
        assert secret not in caplog.text


# Shutdown


async def test_shutdown_cancels_a_delivery_and_the_next_start_repeats_it() -> None:
    first = Running().start()
    await first.subscribe_webhook()
    await first.append_news(A)
    post = await first.wait_for_posts(1)
    await first.stop()
    assert post.cancelled
    assert first.client.closed
    second = Running(first.store, first.clock).start()
    again = await second.wait_for_posts(1)
    assert again.generation == 2
    assert again.document["wake_id"] != post.document["wake_id"]  # it may list more streams by now
    await second.stop()


async def test_unrecorded_delivery_result_leaves_wake_due_after_shutdown() -> None:
    running = Running(RefusingStore()).start()
    await running.subscribe_webhook()
    store = refusing_store(running)
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    store.refuses = (Acknowledge,)
    post.answer(DONE)
    await running.until(lambda: bool(store.refused))
    await running.stop()
    subscription = store.subscriptions.get("s")
    assert subscription is not None
    assert subscription.wake is not None
    assert subscription.wake.next_attempt == NOW


async def test_shutdown_drops_deliveries_that_wait_for_a_slot() -> None:
    running = Running().start()
    await running.create_streams(A)
    for number in range(12):
        await running.subscribe(f"s{number}")
    await running.append_news(A)
    await running.wait_for_posts(MAX_PER_SILENT_HOST)
    deliveries = running.service._deliveries
    assert deliveries is not None
    assert len(deliveries) == MAX_PER_SILENT_HOST  # waiting deliveries have no task
    running.client.posts[0].answer(DONE)
    await running.wait_for_posts(MAX_PER_HOST + 1)
    await running.stop()
    await running.settle()
    assert len(deliveries) == 0
    assert deliveries._slots.taken == 0


async def test_subscription_waits_at_most_once_in_delivery_queue(
    running: Running,
) -> None:
    for number in range(MAX_PER_SILENT_HOST):
        await running.subscribe(f"stuck{number}", streams=["else/stuck"])
    await running.create_streams("/v1/stream/else/stuck")
    await running.append_news("/v1/stream/else/stuck")
    await running.wait_for_posts(MAX_PER_SILENT_HOST)
    deliveries = running.service._deliveries
    assert deliveries is not None
    for _ in range(50):
        await running.append_news(A)
        await running.settle()
        await running.run(Delete(A))
        await running.create_streams(A)
    assert (len(deliveries._waiting), deliveries._slots.waiting) == (1, 1)
    await running.append_news(A)
    await running.settle()
    running.client.posts[0].answer(DONE)
    post = await running.wait_for_posts(MAX_PER_SILENT_HOST + 1)
    assert post.document["subscription_id"] == "s"
