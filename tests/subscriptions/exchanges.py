"""Posts webhooks to receivers that behave badly, for the tests of the webhook client."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.time_limit import TimeLimit
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.receivers import Answer, receiver
from tests.subscriptions.services import run_turns, wait_until

LOCAL = WebhookPolicy(allow_loopback=True)
BODY = b'{ "generation": 7,\n"x":"\xc3\xa9" }'
HEADERS = [(b"content-type", b"application/json"), (b"webhook-signature", b"t=1,kid=a")]
NAME = "hooks.example.com"


async def resolve_to_public_address(host: str, port: int) -> Sequence[str]:
    return ["8.8.8.8"]


async def exchange(answer: Answer | bytes, seconds: float = 10) -> Reply:
    """Posts one webhook to a receiver that answers with `answer`, and returns the reply."""
    async with receiver(answer) as it:
        client = WebhookClient(LOCAL)
        try:
            return await client.post(
                f"http://127.0.0.1:{it.port}/", BODY, HEADERS, TimeLimit(seconds)
            )
        finally:
            await client.aclose()


async def failure(answer: Answer | bytes, seconds: float = 10) -> DeliveryFailed:
    """Posts one webhook to a receiver that answers with `answer`, and returns the error."""
    with pytest.raises(DeliveryFailed) as caught:
        await exchange(answer, seconds)
    return caught.value


@asynccontextmanager
async def running_exchange(
    answer: Answer | bytes, time_limit: TimeLimit
) -> AsyncIterator[asyncio.Task[Reply]]:
    """Posts one webhook in a task, and yields the task once the receiver has read the request."""
    async with receiver(answer) as it:
        client = WebhookClient(LOCAL)
        url = f"http://127.0.0.1:{it.port}/"
        task = asyncio.create_task(client.post(url, BODY, HEADERS, time_limit))
        await wait_until(lambda: bool(it.requests))
        await run_turns()
        try:
            yield task
        finally:
            await client.aclose()


async def assert_times_out_after(
    seconds: float, task: asyncio.Task[Reply], clock: LoopClock
) -> None:
    """Asserts that an exchange fails with a timeout after `seconds`, give or take five."""
    await clock.forward(seconds - 5)
    assert not task.done()
    await clock.forward(10)
    await assert_timed_out(task)


async def assert_timed_out(task: asyncio.Task[Reply]) -> None:
    """Asserts that an exchange fails with a timeout."""
    with pytest.raises(DeliveryFailed) as caught:
        await task
    assert caught.value.code == "no_answer"
    assert caught.value.timed_out


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads until the connection ends."""
    await reader.read()


def endless(begin: bytes, more: bytes) -> Answer:
    """Returns an answer that begins with `begin` and repeats `more` without an end."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(more)
            await writer.drain()

    return answer
