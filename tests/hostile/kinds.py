"""The kinds of hostile clients. Each kind is a function that attacks until its time is over, and its docstring describes the attack.

The siege creates the streams of `PREPARED` before it starts, for the kinds that need one.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

from .wire import MIB, ROOT, Attacker, request

JSON = "application/json"
OCTETS = "application/octet-stream"
TEXT = "text/plain"

#: The streams that exist before the siege: path, content type, and the bodies that are appended.
PREPARED: list[tuple[str, str, list[bytes]]] = [
    (f"{ROOT}/pages", OCTETS, [b"x" * MIB] * 8),
    (f"{ROOT}/value", JSON, [b'"' + b"x" * (60 * MIB) + b'"']),
    (
        f"{ROOT}/events",
        JSON,
        [b"[" + b",".join([b'{"text":"%b"}' % (b"x" * 88)] * 40_000) + b"]"] * 4,
    ),
    (f"{ROOT}/text", TEXT, [b"some words that are easy to compress, and more " * 22_000] * 4),
    (f"{ROOT}/live", TEXT, []),
    (f"{ROOT}/json", JSON, []),
    (f"{ROOT}/source", OCTETS, [b"x" * 1000]),
    (f"{ROOT}/producers", OCTETS, []),
]


async def announce(attacker: Attacker) -> None:
    """Announces bodies of 64 MiB on eight connections, and sends one byte of each body per second."""
    head = request("POST", f"{ROOT}/pages", media=OCTETS, announced=64 * MIB)
    opened = await attacker.crowd(8)
    try:
        for each in opened:
            await attacker.send(each, head)
        while attacker.goes_on:
            attacker.rounds += 1
            await attacker.wait(1.0)
            for number, each in enumerate(opened):
                if not await attacker.send(each, b"x"):
                    attacker.seen["closed"] += 1
                    each.close()
                    opened[number : number + 1] = await attacker.crowd(1)
                    if number < len(opened):
                        await attacker.send(opened[number], head)
    finally:
        _close(opened)


async def refused_bodies(attacker: Attacker) -> None:
    """Sends bodies of 60 MiB to a stream that does not exist."""
    octets = request("POST", f"{ROOT}/not-there", b"x" * (60 * MIB), OCTETS)
    while attacker.goes_on:
        attacker.rounds += 1
        await attacker.ask(octets)


async def half_heads(attacker: Attacker) -> None:
    """Begins request heads on 100 connections and never completes them."""
    opened = await attacker.crowd(100)
    for each in opened:
        await attacker.send(each, b"GET /v1/stream/pages HTTP/1.1\r\nHost: localhost\r\n")
    number = 0
    while attacker.goes_on:
        attacker.rounds += 1
        for each in opened:
            await attacker.send(each, b"x-%d: y\r\n" % number)
        number += 1
        await attacker.wait(1.0)
    _close(opened)


async def huge_heads(attacker: Attacker) -> None:
    """Sends request heads of 200 KB."""
    lines = "".join(f"x-{number}: {'y' * 1000}\r\n" for number in range(200))
    octets = f"GET {ROOT}/pages HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
    while attacker.goes_on:
        attacker.rounds += 1
        await attacker.ask(octets)


async def pipeline(attacker: Attacker) -> None:
    """Pipelines a thousand reads of 4 MiB on each of ten connections, and reads no response."""
    octets = request("GET", f"{ROOT}/pages?offset=-1") * 1000
    while attacker.goes_on:
        attacker.rounds += 1
        opened = await attacker.crowd(10, 4096)
        for each in opened:
            await attacker.send(each, octets)
        await attacker.wait(3.0)
        _close(opened)


async def small_pipeline(attacker: Attacker) -> None:
    """Pipelines 5,000 small appends on one connection, and reads few of the responses."""
    octets = request("POST", f"{ROOT}/live", b"x", TEXT) * 5000
    while attacker.goes_on:
        attacker.rounds += 1
        async with attacker.connection() as opened:
            await attacker.send(opened, octets)
            await attacker.status(opened)


async def stall(attacker: Attacker, path: str, count: int) -> None:
    """Sends a read on many connections, reads no response, disconnects after five seconds, and starts again."""
    while attacker.goes_on:
        attacker.rounds += 1
        opened = await attacker.crowd(count, 4096)
        for each in opened:
            await attacker.send(each, request("GET", path))
        await attacker.wait(5.0)
        _close(opened)


async def stall_on_pages(attacker: Attacker) -> None:
    """Requests pages of 4 MiB on 200 connections, and reads no response."""
    await stall(attacker, f"{ROOT}/pages?offset=-1", 200)


async def stall_on_values(attacker: Attacker) -> None:
    """Requests a JSON value of 60 MiB on 40 connections, and reads no response."""
    await stall(attacker, f"{ROOT}/value?offset=-1", 40)


async def stall_on_events(attacker: Attacker) -> None:
    """Opens 300 event streams with 16 MB to send each, and reads nothing."""
    await stall(attacker, f"{ROOT}/events?offset=-1&live=sse", 300)


async def one_byte_chunks(attacker: Attacker) -> None:
    """Sends bodies of a million chunks, one byte each."""
    head = f"POST {ROOT}/pages HTTP/1.1\r\nHost: localhost\r\nContent-Type: {OCTETS}\r\n"
    octets = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"1\r\nx\r\n" * 1_000_000
    while attacker.goes_on:
        attacker.rounds += 1
        await attacker.ask(octets + b"0\r\n\r\n")


async def gzip_and_leave(attacker: Attacker) -> None:
    """Requests compressed pages on 50 connections at once, and disconnects after 0.2 seconds."""
    octets = request("GET", f"{ROOT}/text?offset=-1", Accept_Encoding="gzip")
    while attacker.goes_on:
        attacker.rounds += 1
        opened = await attacker.crowd(50)
        for each in opened:
            await attacker.send(each, octets)
        await attacker.wait(0.2)
        _close(opened)


async def _append_json(attacker: Attacker, body: bytes) -> None:
    octets = request("POST", f"{ROOT}/json", body, JSON)
    while attacker.goes_on:
        attacker.rounds += 1
        await attacker.ask(octets)


async def deep_json(attacker: Attacker) -> None:
    """Appends JSON of eight million nested arrays."""
    await _append_json(attacker, b"[" * (8 * MIB) + b"]" * (8 * MIB))


async def many_numbers(attacker: Attacker) -> None:
    """Appends arrays of 30 million numbers."""
    await _append_json(attacker, b"[1" + b",1" * 30_000_000 + b"]")


async def brackets_in_a_string(attacker: Attacker) -> None:
    """Appends a string of 30 million opening brackets."""
    await _append_json(attacker, b'"' + b"[" * 30_000_000 + b'"')


async def lone_surrogates(attacker: Attacker) -> None:
    """Appends JSON arrays of a lone surrogate and four million numbers."""
    await _append_json(attacker, b'["\\ud83d"' + b",1" * 4_000_000 + b"]")


async def hoard_connections(attacker: Attacker) -> None:
    """Opens connections from one address until the server refuses more, and keeps them open."""
    opened: list[socket.socket] = []
    while attacker.goes_on:
        attacker.rounds += 1
        if len(opened) < 10_500:
            opened += await attacker.crowd(500)
        await attacker.wait(1.0)
    _close(opened)


async def reset(attacker: Attacker) -> None:
    """Sends a read and resets the connection."""
    octets = request("GET", f"{ROOT}/pages?offset=-1")
    while attacker.goes_on:
        attacker.rounds += 1
        for each in await attacker.crowd(20):
            await attacker.send(each, octets)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()


async def poll_crowds(attacker: Attacker) -> None:
    """Opens 500 long-polls, wakes them with an append, and disconnects during the responses."""
    octets = request("GET", f"{ROOT}/live?offset=now&live=long-poll")
    while attacker.goes_on:
        attacker.rounds += 1
        opened = await attacker.crowd(500)
        for each in opened:
            await attacker.send(each, octets)
        await attacker.ask(request("POST", f"{ROOT}/live", b"wake", TEXT))
        _close(opened)


async def create_without_end(attacker: Attacker) -> None:
    """Creates streams all the time, with 200 pipelined requests at once, and appends to none."""
    number = 0
    while attacker.goes_on:
        attacker.rounds += 1
        paths = [f"{ROOT}/{attacker.address}/{number + each}" for each in range(200)]
        number += len(paths)
        async with attacker.connection() as opened:
            await attacker.send(
                opened, b"".join(request("PUT", path, media=OCTETS) for path in paths)
            )
            await attacker.status(opened)
            await attacker.wait(0.05)


async def many_producers(attacker: Attacker) -> None:
    """Appends with a new producer each time, with 200 pipelined requests at once."""
    while attacker.goes_on:
        attacker.rounds += 1
        octets = b"".join(
            request(
                "POST",
                f"{ROOT}/producers",
                b"x",
                OCTETS,
                Producer_Id=f"p{attacker.random.getrandbits(64)}",
                Producer_Epoch="0",
                Producer_Seq="0",
            )
            for _ in range(200)
        )
        async with attacker.connection() as opened:
            await attacker.send(opened, octets)
            await attacker.status(opened)
            await attacker.wait(0.05)


async def fork_crowds(attacker: Attacker) -> None:
    """Repeatedly forks one stream and its forks, and deletes half of the forks."""
    number = 0
    while attacker.goes_on:
        attacker.rounds += 1
        octets = []
        source = f"{ROOT}/source"
        for _ in range(100):
            number += 1
            path = f"{ROOT}/fork/{number}"
            octets.append(request("PUT", path, Stream_Forked_From=source))
            source = path
            if number % 2:
                octets.append(request("DELETE", path))
                source = f"{ROOT}/source"
        async with attacker.connection() as opened:
            await attacker.send(opened, b"".join(octets))
            await attacker.status(opened)
            await attacker.wait(0.05)


async def random_octets(attacker: Attacker) -> None:
    """Sends random bytes, some of them after the beginning of a request."""
    begins = (
        b"",
        b"GET ",
        b"POST /v1/stream/live HTTP/1.1\r\n",
        b"PUT /v1/stream/x HTTP/1.1\r\nHost: localhost\r\n\x00",
    )
    while attacker.goes_on:
        attacker.rounds += 1
        await attacker.ask(
            attacker.random.choice(begins) + attacker.random.randbytes(2000) + b"\r\n\r\n"
        )


async def control_characters(attacker: Attacker) -> None:
    """Requests paths with raw and escaped control characters and with terminal sequences."""
    names = (
        "%1b%5b2J",
        "%c2%9b2J",
        "%00",
        "%c2%85",
        "%e2%80%ae",
        "%7f",
        "%c2%9d0;t%c2%9c",
        "\x9b2J",
    )
    while attacker.goes_on:
        attacker.rounds += 1
        name = attacker.random.choice(names)
        await attacker.ask(request("PUT", f"{ROOT}/c{name}", media=OCTETS))
        await attacker.ask(request("PUT", f"{ROOT}/c{name}", Stream_Forked_From=f"{ROOT}/{name}"))


async def glob_crowds(attacker: Attacker) -> None:
    """Lists the streams that a glob pattern matches, with 30 requests at once."""
    there = f"{ROOT}/__ds/subscriptions/hostile"
    body = b'{"type":"pull-wake","pattern":"**/*9/**","wake_stream":"wake/pool"}'
    await attacker.ask(request("PUT", there, body, JSON))
    while attacker.goes_on:
        attacker.rounds += 1
        opened = await attacker.crowd(30)
        for each in opened:
            await attacker.send(each, request("GET", there))
        for each in opened:
            await attacker.status(each)
        _close(opened)


async def sip(attacker: Attacker) -> None:
    """Reads pages of 4 MiB on 50 connections at one byte per second."""
    loop = asyncio.get_running_loop()
    opened = await attacker.crowd(50, 4096)
    for each in opened:
        await attacker.send(each, request("GET", f"{ROOT}/pages?offset=-1"))
    while attacker.goes_on:
        attacker.rounds += 1
        for each in opened:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.1):
                    await loop.sock_recv(each, 1)
        await attacker.wait(1.0)
    _close(opened)


async def expect_and_wait(attacker: Attacker) -> None:
    """Sends `Expect: 100-continue` on 100 connections, and never sends a body."""
    octets = request(
        "POST", f"{ROOT}/pages", media=OCTETS, announced=60 * MIB, Expect="100-continue"
    )
    while attacker.goes_on:
        attacker.rounds += 1
        opened = await attacker.crowd(100)
        for each in opened:
            await attacker.send(each, octets)
            await attacker.status(each)
        await attacker.wait(5.0)
        _close(opened)


Kind = Callable[[Attacker], Awaitable[None]]

KINDS: tuple[Kind, ...] = (
    announce,
    refused_bodies,
    half_heads,
    huge_heads,
    pipeline,
    small_pipeline,
    stall_on_pages,
    stall_on_values,
    stall_on_events,
    one_byte_chunks,
    gzip_and_leave,
    deep_json,
    many_numbers,
    brackets_in_a_string,
    lone_surrogates,
    hoard_connections,
    reset,
    poll_crowds,
    create_without_end,
    many_producers,
    fork_crowds,
    random_octets,
    control_characters,
    glob_crowds,
    sip,
    expect_and_wait,
)


def _close(opened: list[socket.socket]) -> None:
    for each in opened:
        each.close()
    opened.clear()
