"""Random conversations between a client and the native lane, and a check of their results.

The requests of a conversation are sent in random pieces, and may be cut off anywhere. The same requests are then sent to a second
server with the same clock, each whole and on a connection of its own. The responses and the streams of both servers must be the
same. `python -m tests.http.conversations SEED SEEDS` tries `SEEDS` seeds, beginning with `SEED`.
"""

import asyncio
import sys
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from durable_streams_server import create_app
from durable_streams_server.http.control.info import version
from durable_streams_server.http.native.lane import Lane
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import (
    Client,
    HeldStore,
    parse,
    post,
    request,
    run_turns,
    run_until_idle,
)
from tests.streams.engines import ManualClock

S = "/v1/stream/"
STREAMS = ("a", "b", "c")
MAX_BODY = 2000
DONE = "done"  # the name of a closed stream
Contents = dict[str, tuple[bytes, bool]]


#: Requests for documents of the server itself.
_OWN = (
    ("GET", "/healthz"),
    ("HEAD", "/readyz?x=1"),
    ("GET", f"{S}__ds/info"),
    ("GET", f"{S}__ds/streams?limit=2"),
    ("GET", f"{S}__ds/streams?limit=none"),
)


class Sent(NamedTuple):
    """One request, and whether the server closes the connection after its response."""

    method: str
    octets: bytes
    closes: bool = False


class World:
    """One server with a native lane on the running event loop."""

    def __init__(self, holds: bool = False) -> None:
        version()  # otherwise the first request would wait for a thread
        self.store = HeldStore()
        app = create_app(
            store=self.store, max_body=MAX_BODY, max_in_flight=10**6, clock=ManualClock()
        )
        self.lane = Lane(app)
        done = ("Content-Type: text/plain", "Stream-Closed: true")
        Client(self.lane).send(request("PUT", S + DONE, *done, body=b"all there is")).reset()
        self.store.holds = holds

    @property
    def contents(self) -> Contents:
        """The content of each stream by path, and whether the stream is closed."""
        found = {}
        for path in self.store.paths():
            stream = self.store.get(path)
            assert stream is not None
            found[path] = (self.store.read(path).data, stream.closed)
        return found

    async def run_until_idle(self) -> None:
        """Runs the event loop and releases held appends until the server has nothing to do."""
        await run_until_idle(self.lane)
        await run_turns()
        while self.store.held:
            self.store.release_append()
            await run_until_idle(self.lane)
            await run_turns()

    async def assert_everything_is_released(self) -> None:
        """Asserts that the server has no connections, no live reads, and no bytes in its receive budget."""
        await self.run_until_idle()
        assert not self.lane.connections
        assert len(self.lane.app.engine.tails) == 0
        assert self.lane.budget.held == 0


# -- requests ----------------------------------------------------------------


def conversation(chance: Random, length: int) -> list[Sent]:
    """Returns random requests to send one after the other on one connection."""
    sent = [_sent(chance) for _ in range(length)]
    if chance.random() < 0.3:
        sent.insert(chance.randrange(length), _last(chance))
    return sent


def _sent(chance: Random) -> Sent:
    """Returns a random request of any method."""
    target = S + chance.choice(STREAMS)
    kind = chance.random()
    if kind < 0.4:
        return _with_body(chance, "POST", target)
    if kind < 0.55:
        return _with_body(chance, "PUT", target)
    if kind < 0.6:
        return Sent("DELETE", request("DELETE", target))
    return _reading(chance, target)


def _reading(chance: Random, target: str) -> Sent:
    """Returns a random request without a body."""
    method, where = chance.choice(
        [
            ("GET", target),
            ("GET", f"{target}?offset=-1"),
            ("GET", f"http://h{target}?offset=now"),
            ("GET", f"{target}?offset=nonsense"),
            ("GET", f"{S}{DONE}?offset=-1&live=sse"),
            ("GET", f"{S}{DONE}?offset=now&live=long-poll"),
            ("GET", S + "../x"),
            ("HEAD", target),
            *_OWN,
            ("OPTIONS", "*"),
            ("PATCH", target),
        ]
    )
    headers = chance.choice([(), (), ("If-None-Match: *",), _UPGRADE, ("X: " + "y" * 3000,)])
    return Sent(method, request(method, where, *headers))


_UPGRADE = ("Connection: Upgrade", "Upgrade: h2c")


def _with_body(chance: Random, method: str, target: str) -> Sent:
    """Returns a POST or PUT request with a random body and random headers."""
    body = chance.randbytes(chance.choice([0, 1, 10, 300, MAX_BODY])).hex().encode()[:MAX_BODY]
    headers = [f"Content-Type: {chance.choice(['text/plain', 'application/json'])}"]
    if "json" in headers[0] and chance.random() < 0.9:
        body = b"[" + b",".join(b"%d" % chance.randrange(1000) for _ in body[:50]) + b"]"
    if chance.random() < 0.05:
        headers.append("Stream-Closed: true")
    if chance.random() < 0.1:
        headers.append("Expect: 100-continue")
    if chance.random() < 0.1:
        headers += _UPGRADE
    if chance.random() < 0.6:
        return Sent(method, request(method, target, *headers, body=body))
    head = request(method, target, *headers, "Transfer-Encoding: chunked")
    return Sent(method, head + in_chunks(chance, body))


def in_chunks(chance: Random, body: bytes) -> bytes:
    """Returns a body in chunks of random sizes, with random extensions and trailers."""
    parts = []
    while body:
        size = chance.randint(1, len(body))
        extension = chance.choice([b"", b"", b";x", b";x=y"])
        parts.append(b"%x%b\r\n%b\r\n" % (size, extension, body[:size]))
        body = body[size:]
    trailer = chance.choice([b"", b"", b"Stream-Closed: true\r\n", b"X: y\r\nHost: other\r\n"])
    return b"".join([*parts, b"0\r\n", trailer, b"\r\n"])


def _last(chance: Random) -> Sent:
    """Returns a request after whose response the server closes the connection."""
    return chance.choice(
        [
            Sent("POST", post(b"last", "Connection: close"), True),
            Sent("GET", request("GET").replace(b"HTTP/1.1", b"HTTP/1.0"), True),
            Sent("GET", b"GET /healthz HTTP/1.0\r\n\r\n", True),
            Sent("GET", b"GET /v1/stream/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
            Sent("GET", request("GET", f"{S}{DONE}?offset=-1&live=sse", "Connection: close"), True),
            Sent("POST", post(b"x" * (MAX_BODY + 1)), True),
            Sent("GET", request("GET", "/" + "x" * 9000), True),
            Sent("GET", request("GET", S + "a", "X: " + "y" * 40_000), True),
            Sent("GET", b"no request\r\n\r\n", True),
        ]
    )


# -- checks ------------------------------------------------------------------


class Alone(NamedTuple):
    """The responses to requests that were sent alone, and the streams before the first request and after each."""

    answers: list[Answer]
    contents: list[Contents]


async def alone(messages: Sequence[Sent]) -> Alone:
    """Sends each request whole and on a connection of its own, and stops after the first that closes its connection."""
    world = World()
    answers, contents = [], [world.contents]
    for message in messages:
        client = Client(world.lane).send(message.octets)
        await world.run_until_idle()
        answers += client.answers(message.method)
        contents.append(world.contents)
        client.reset()
        assert len(answers) == len(contents) - 1
        if message.closes:
            break
    await world.assert_everything_is_released()
    return Alone(answers, contents)


async def pipelined(chance: Random, messages: Sequence[Sent]) -> None:
    """Pipelines the requests in random pieces, with a client that pauses reading at random, and compares the results."""
    judge = await alone(messages)
    world = World(holds=chance.random() < 0.5)
    client = Client(world.lane)
    await _feed(chance, world, client, b"".join(message.octets for message in messages))
    received = await _rest(world, client)
    answers, rest = parse(received, [message.method for message in messages])
    assert rest == b""
    assert_same(answers, judge.answers)
    assert client.is_ended is messages[len(answers) - 1].closes
    assert world.contents == judge.contents[-1]
    client.reset()
    await world.assert_everything_is_released()


async def cut(chance: Random, messages: Sequence[Sent]) -> None:
    """Cuts a conversation off at a random octet, by FIN or RST.

    Every response must be correct, and every request must have been executed completely or not at all.
    """
    judge = await alone(messages)
    octets = b"".join(message.octets for message in messages)
    at = chance.randrange(len(octets) + 1)
    world = World(holds=chance.random() < 0.5)
    client = Client(world.lane)
    await _feed(chance, world, client, octets[:at])
    half = chance.random() < 0.5
    if half:
        client.half_close()
    else:
        client.reset()
    answers, _ = parse(await _rest(world, client), [message.method for message in messages])
    whole = min(_whole(messages, at), len(judge.answers))
    assert_same(answers, judge.answers[: len(answers)])
    early = (
        whole < len(judge.answers) and messages[whole].closes
    )  # the server refuses this request before it is whole
    assert len(answers) <= whole + early
    if half:
        assert len(answers) >= whole
        assert client.wire.lost
    assert world.contents in judge.contents[len(answers) : whole + early + 1]
    await world.assert_everything_is_released()


def _whole(messages: Sequence[Sent], octets: int) -> int:
    """Returns how many of the requests are whole in the first `octets` octets."""
    count = 0
    for message in messages:
        octets -= len(message.octets)
        if octets < 0:
            break
        count += 1
    return count


async def _feed(chance: Random, world: World, client: Client, octets: bytes) -> None:
    """Sends octets in random pieces, while the client pauses reading and the store holds appends at random."""
    pieces = chance.choice([1, 2, 10, 50])
    cuts = sorted(chance.randrange(len(octets) + 1) for _ in range(pieces - 1))
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        if start < end:
            client.send(octets[start:end], each=chance.choice([0, 0, 0, 1]))
        happens = chance.random()
        if happens < 0.1:
            client.stop_reading()
        elif happens < 0.3:
            client.resume_reading()
        elif happens < 0.5 and world.store.held:
            world.store.release_append()
        elif happens < 0.7:
            await run_turns()


async def _rest(world: World, client: Client) -> bytes:
    """Returns the octets that a client receives if it reads to the end."""
    while True:
        before = len(client.wire.received)
        if not client.wire.lost:
            client.resume_reading()
        await world.run_until_idle()
        if len(client.wire.received) == before:
            return client.read()


def assert_same(answers: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """Asserts that responses are the same, except for their Date, Connection and X-Request-Id headers."""
    assert [_essence(answer) for answer in answers] == [_essence(answer) for answer in expected]


def _essence(answer: Answer) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Returns the parts of a response that `assert_same` compares."""
    differing = (b"date", b"connection", b"x-request-id")  # every error has an id of its own
    headers = [pair for pair in answer.pairs if pair[0] not in differing]
    return answer.status, headers, answer.body


async def try_seed(seed: int) -> None:
    """Tries the conversation of one seed. A failure carries a note with the command that repeats it."""
    chance = Random(seed)
    messages = conversation(chance, chance.choice([1, 3, 8, 20]))
    try:
        await (pipelined if chance.random() < 0.5 else cut)(chance, messages)
    except BaseException as error:
        error.add_note(f"repeat with: python -m tests.http.conversations {seed} 1")
        raise


async def _hunt(first: int, count: int) -> None:
    """Tries `count` seeds from `first` on, and prints its progress."""
    for seed in range(first, first + count):
        await try_seed(seed)
        if seed % 1000 == 999:
            print(f"seeds up to {seed} hold", flush=True)
    print(f"{count} seeds from {first} on hold", flush=True)


if __name__ == "__main__":
    asyncio.run(_hunt(int(sys.argv[1]), int(sys.argv[2])))
