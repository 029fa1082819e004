"""Tests that a heartbeat of a receiver extends both its lease and the time for its answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.subscriptions.commands import Acknowledge
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from tests.protocol.subscriptions.world import A
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.receivers import receiver
from tests.subscriptions.services import DONE, TAKEN, Post, Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.subscribe_webhook()
    yield made
    await made.stop()


async def heartbeat(running: Running, post: Post, **acks: Any) -> None:
    """Acknowledges as the receiver of `post`, which renews the lease."""
    grant = running.service.credentials.read_token("s", post.document["callback_token"]).grant
    await running.run(Acknowledge(grant, grant.generation, post.document["wake_id"], **acks))


async def test_heartbeat_extends_the_wait_for_the_answer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    extended: list[float] = []
    monkeypatch.setattr(post.time_limit, "extend", extended.append)
    await running.pass_time(20)
    await heartbeat(running, post)
    assert extended == [30.0]
    # That is 40 s after the start of the delivery. Without the heartbeat, its lease would have expired.
    await running.pass_time(20)
    await running.wait_for_posts(1)
    post.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


async def test_failure_after_a_heartbeat_is_retried_with_backoff(running: Running) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    await heartbeat(running, post)
    post.answer(Reply(500, b""))
    await running.settle()
    assert (await running.view()).reason == "refused"
    await running.pass_time(0.79)
    await running.wait_for_posts(1)
    await running.pass_time(0.42)
    second = await running.wait_for_posts(2)
    assert second.document["wake_id"] == post.document["wake_id"]


async def test_answer_without_done_after_heartbeat_does_not_shorten_extended_lease(
    running: Running,
) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    await running.pass_time(10)
    await heartbeat(running, post)
    post.answer(TAKEN)
    await running.pass_time(29)
    await running.wait_for_posts(1)
    await running.pass_time(1)
    assert (await running.wait_for_posts(2)).generation == 2


async def test_failed_delivery_is_not_retried_if_all_streams_are_acknowledged(
    running: Running,
) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    tail = parse(post.document["streams"][0]["tail_offset"])
    await heartbeat(running, post, acks=((A, tail),))
    post.answer(Reply(500, b""))
    await running.settle()
    view = await running.view()
    assert (view.wake, view.status) == (None, "active")
    await running.pass_time(100)
    await running.wait_for_posts(1)


async def test_receiver_that_sends_heartbeats_may_answer_after_first_lease(
    loop_clock: LoopClock,
) -> None:
    """The receiver answers after 100 seconds, and its lease is 30 seconds long."""
    running = Running()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _beat in range(5):
            await running.pass_time(20)
            await loop_clock.forward(20)
            grant = (await running.view()).grant
            await running.run(Acknowledge(grant, grant.generation, grant.wake_id))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"done":true}')

    async with receiver(answer) as hook:
        policy = WebhookPolicy(allow_loopback=True)
        running.service._client = WebhookClient(policy)
        running.start()
        await running.create_streams(A)
        url = f"http://127.0.0.1:{hook.port}/"
        await running.subscribe(webhook={"url": url}, lease_ttl_ms=30_000)
        await running.append_news(A)
        subscription = running.store.subscriptions.by_id["s"]
        await running.until(lambda: subscription.wake is None)
        assert len(hook.requests) == 1
        await running.stop()
