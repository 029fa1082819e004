"""Tests that the server logs only one warning while a wake stream accepts no events."""

import logging

import pytest

from durable_streams_server.protocol.commands import Delete
from tests.protocol.subscriptions.world import JSON, POOL, A, B
from tests.requests import append, create
from tests.subscriptions.services import Running


@pytest.mark.parametrize("end", ["closed", "deleted"])
async def test_server_logs_once_that_wake_stream_accepts_no_events(
    caplog: pytest.LogCaptureFixture, end: str
) -> None:
    running = Running().start()
    await running.create_streams(A, B, POOL)
    await running.subscribe(type="pull-wake")
    await running.run(append(POOL, b"", JSON, closes=True) if end == "closed" else Delete(POOL))
    with caplog.at_level(logging.WARNING):
        await running.append_news(A, A)
        assert caplog.text.count("takes no events") == 1
        assert (await running.view()).reason is not None
        if end == "closed":
            await running.run(Delete(POOL))
        await running.run(create(POOL, JSON))  # the new stream gets the event of the wake in flight
        assert (await running.view()).reason is None
        assert caplog.text.count("takes no events") == 1
    await running.stop()


async def test_webhook_without_a_wake_stream_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    running = Running().start()
    await running.subscribe_webhook()
    with caplog.at_level(logging.WARNING):
        await running.append_news(A)
        await running.wait_for_posts(1)
    assert caplog.text == ""
    await running.stop()
