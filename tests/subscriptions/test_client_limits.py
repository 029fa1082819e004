"""Tests the limits on the time and the size of an exchange with a receiver."""

import asyncio

import pytest

from durable_streams_server.subscriptions import pools as pools_module
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.time_limit import FIRST_BYTE_SECONDS, TimeLimit
from tests.subscriptions.exchanges import (
    BODY,
    HEADERS,
    LOCAL,
    assert_timed_out,
    assert_times_out_after,
    endless,
    failure,
    never_answer,
    running_exchange,
)
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.receivers import OK, Answer, receiver
from tests.subscriptions.services import run_turns

DONE = Reply(200, b'{"done":true}')


async def drip_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a head without an end, one byte in each turn of the event loop."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await run_turns(1)


async def drip_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a body one byte in each turn of the event loop."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        writer.write(b"x")
        await run_turns(1)


async def send_interim_answers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await run_turns(1)


class HeadFirst:
    """A receiver that sends the head of its answer at once, and the body when the test sets `ready`."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-13])
        await self.ready.wait()
        writer.write(OK[-13:])


@pytest.mark.parametrize("answer", [never_answer, drip_head, drip_body])
async def test_exchange_times_out_after_its_time_limit(
    answer: Answer, loop_clock: LoopClock
) -> None:
    async with running_exchange(answer, TimeLimit(20)) as task:
        await assert_times_out_after(20, task, loop_clock)


@pytest.mark.parametrize("answer", [never_answer, drip_head, send_interim_answers])
async def test_exchange_without_response_headers_times_out_before_long_lease_ends(
    answer: Answer, loop_clock: LoopClock
) -> None:
    async with running_exchange(answer, TimeLimit(600)) as task:
        await assert_times_out_after(FIRST_BYTE_SECONDS, task, loop_clock)


async def test_response_body_may_arrive_until_lease_ends(loop_clock: LoopClock) -> None:
    answer = HeadFirst()
    async with running_exchange(answer, TimeLimit(600)) as task:
        await loop_clock.forward(590)
        assert not task.done()
        answer.ready.set()
        assert await task == DONE
    async with running_exchange(HeadFirst(), TimeLimit(600)) as task:
        await assert_times_out_after(600, task, loop_clock)


async def test_heartbeats_extend_an_exchange(loop_clock: LoopClock) -> None:
    ready = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ready.wait()
        writer.write(OK)

    time_limit = TimeLimit(20)
    async with running_exchange(answer, time_limit) as task:
        for _ in range(3):
            await loop_clock.forward(15)
            time_limit.extend(20)
        await loop_clock.forward(15)
        assert not task.done()
        ready.set()
        assert await task == DONE


async def test_exchange_times_out_after_extension_by_last_heartbeat(loop_clock: LoopClock) -> None:
    time_limit = TimeLimit(10)
    time_limit.extend(50)
    async with running_exchange(never_answer, time_limit) as task:
        await assert_times_out_after(50, task, loop_clock)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3e8\r\n" + b"x" * 1000 + b"\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 100),
    ],
)
async def test_endless_answer_fails_before_time_limit(begin: bytes, more: bytes) -> None:
    error = await failure(endless(begin, more), 60)
    assert error.code == "invalid_answer"
    assert not error.timed_out


async def test_client_can_send_requests_after_failed_exchanges() -> None:
    async with receiver(never_answer) as bad, receiver() as good:
        client = WebhookClient(LOCAL)
        for _ in range(3):
            with pytest.raises(DeliveryFailed):
                await client.post(f"http://127.0.0.1:{bad.port}/", BODY, HEADERS, TimeLimit(0.05))
        reply = await client.post(f"http://127.0.0.1:{good.port}/", BODY, HEADERS, TimeLimit(10))
        assert reply.status == 200
        await client.aclose()


async def test_time_limit_of_exchange_includes_wait_for_a_connection(
    monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> None:
    monkeypatch.setattr(pools_module, "MAX_CONNECTIONS", 1)
    asked = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await never_answer(reader, writer)

    async with receiver(answer) as it:
        client = WebhookClient(LOCAL)
        url = f"http://127.0.0.1:{it.port}/"
        first = asyncio.create_task(client.post(url, BODY, HEADERS, TimeLimit(600)))
        await asked.wait()
        posts = [
            asyncio.create_task(client.post(url, BODY, HEADERS, TimeLimit(20))) for _ in range(2)
        ]
        await run_turns()
        await loop_clock.forward(15)
        assert not any(post.done() for post in posts)
        await loop_clock.forward(10)
        for post in posts:
            await assert_timed_out(post)
        assert it.connections == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await client.aclose()


async def test_cancelled_exchange_closes_its_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        assert await reader.read() == b""
        gone.set()

    async with receiver(answer) as it:
        client = WebhookClient(LOCAL)
        url = f"http://127.0.0.1:{it.port}/"
        post = asyncio.create_task(client.post(url, BODY, HEADERS, TimeLimit(60)))
        await asked.wait()
        post.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post
        async with asyncio.timeout(5):
            await gone.wait()
        await client.aclose()
