"""Tests that a restarted service continues with the subscriptions in its store."""

from collections.abc import AsyncIterator

import pytest

from durable_streams_server.protocol.subscriptions.commands import Acknowledge, Claim
from durable_streams_server.subscriptions.client import Reply
from tests.protocol.subscriptions.world import POOL, A, B
from tests.requests import SECOND
from tests.subscriptions.services import DONE, TAKEN, Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.create_streams(A, B, POOL)
    yield made
    await made.stop()


async def claim(running: Running) -> None:
    await running.run(Claim("s", "w"))


async def restart(running: Running) -> Running:
    """Stops a service, and starts another one on the same store."""
    await running.stop()
    return Running(running.store, running.clock).start()


async def test_restart_delivers_a_wake_that_was_due(running: Running) -> None:
    await running.subscribe()
    running.service.begin_shutdown()
    await running.append_news(A)
    await running.settle()
    assert running.client.posts == []
    again = await restart(running)
    assert (
        await again.wait_for_posts(1)
    ).generation == 2  # the server cannot know whether the first one was delivered
    assert again.service.credentials.active_key == running.service.credentials.active_key
    await again.stop()


async def test_restart_keeps_the_backoff_of_a_failed_delivery(running: Running) -> None:
    await running.subscribe()
    await running.append_news(A)
    for attempt in range(5):
        (await running.wait_for_posts(attempt + 1)).answer(Reply(500, b""))
        await running.settle()
        wake = (await running.view()).wake
        wait = ((wake.next_attempt if wake else None) or 0) - running.clock()
        assert wait > 0
        if attempt < 4:
            await running.pass_time(wait / SECOND)
    again = await restart(running)
    assert (await again.view()).status == "failed"
    await again.pass_time(wait / SECOND - 0.5)
    await again.expect_no_posts()
    await again.pass_time(0.5)
    post = await again.wait_for_posts(1)
    post.answer(DONE)
    await again.settle()
    assert (await again.view()).status == "active"
    await again.stop()


async def test_restart_does_not_deliver_a_leased_wake_again(running: Running) -> None:
    await running.subscribe()
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    post.answer(TAKEN)
    await running.settle()
    again = await restart(running)
    await again.pass_time(29)
    await again.expect_no_posts()
    grant = again.service.credentials.read_token("s", post.document["callback_token"]).grant
    await again.run(Acknowledge(grant, 1, post.document["wake_id"]))  # a heartbeat renews the lease
    await again.pass_time(29)
    await again.expect_no_posts()
    await again.pass_time(1)
    assert (await again.wait_for_posts(1)).generation == 2
    await again.stop()


async def test_restart_ends_leases_that_expired_while_the_server_was_down(running: Running) -> None:
    await running.subscribe(type="pull-wake")
    await running.append_news(A)
    await claim(running)
    await running.stop()
    running.clock.forward(3600)
    again = Running(running.store, running.clock).start()
    await again.until(lambda: again.store.subscriptions.by_id["s"].generation == 2)
    await again.stop()


async def test_no_delivery_begins_after_shutdown_has_begun(running: Running) -> None:
    await running.subscribe()
    running.engine.begin_shutdown()
    running.service.begin_shutdown()
    await running.append_news(A)
    running.service._run_next_step("s")
    await running.settle()
    assert running.client.posts == []
