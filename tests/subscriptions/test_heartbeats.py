"""A receiver that calls back while it works on its answer: its lease and the wait for its answer are prolonged together."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.subscriptions.commands import Acknowledge
from durable_streams_server.streams.clock import system_clock
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from tests.protocol.subscriptions.world import A
from tests.subscriptions.receivers import receiver
from tests.subscriptions.services import DONE, TAKEN, Post, Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.subscribe_webhook()
    yield made
    await made.stop()


async def heartbeat(running: Running, post: Post, **acks: Any) -> None:
    grant, _ = running.service.credentials.read_token("s", post.document["callback_token"])
    await running.run(Acknowledge(grant, grant.generation, post.document["wake_id"], **acks))


async def test_heartbeat_prolongs_the_wait_for_the_answer(running: Running) -> None:
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    extended: list[float] = []
    post.patience.extend = extended.append  # type: ignore[assignment, method-assign]
    await running.pass_time(20)
    await heartbeat(running, post)
    assert extended == [30.0]
    await running.pass_time(20)  # 40 s after the delivery began: past the first lease
    await running.wait_for_posts(1)
    post.answer(DONE)
    await running.settle()
    assert (await running.view()).wake is None


async def test_failure_after_a_heartbeat_is_retried_with_back_off(running: Running) -> None:
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


async def test_answer_without_done_after_a_heartbeat_leaves_the_longer_lease(
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


async def test_receiver_that_acknowledges_all_and_fails_is_left_in_peace(running: Running) -> None:
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


async def test_slow_handler_with_heartbeats_is_heard_over_real_sockets() -> None:
    """With a lease of a second, it answers after two and a half."""
    running = Running(clock=system_clock)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _beat in range(5):
            await asyncio.sleep(0.5)
            grant = (await running.view()).grant
            await running.run(Acknowledge(grant, grant.generation, grant.wake_id))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"done":true}')

    async with receiver(answer) as hook:
        policy = WebhookPolicy(allow_loopback=True)
        running.service._client = WebhookClient(policy)
        running.start()
        await running.create_streams(A)
        url = f"http://127.0.0.1:{hook.port}/"
        await running.subscribe(webhook={"url": url}, lease_ttl_ms=1000)
        await running.append_news(A)
        async with asyncio.timeout(8):
            while (await running.view()).wake is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(hook.requests) == 1
        await running.stop()
