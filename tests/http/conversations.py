"""Conversations by chance: what a client may send, in any pieces, ended anywhere, and what must come of it.

The judge is the same requests sent alone, each whole and on a connection of its own, to a second server that is told the same
time: answers and streams must be the same, however the octets came. `python -m tests.http.conversations SEED0 SEEDS` tries many.
"""

import asyncio
import sys
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from durable_streams_server import create_app
from durable_streams_server.http.native.lane import Lane
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import Client, HeldStore, parse, post, quiet, request, turn
from tests.streams.engines import ManualClock

S = "/v1/stream/"
STREAMS = ("a", "b", "c")
MAX_BODY = 2000
DONE = "done"  # a stream that is complete
Contents = dict[str, tuple[bytes, bool]]


class Sent(NamedTuple):
    """One request, and whether its answer is the connection's last."""

    method: str
    octets: bytes
    closes: bool = False


class World:
    """One server, on the running loop."""

    def __init__(self, holds: bool = False) -> None:
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
        """Every stream's octets, and whether it is closed."""
        found = {}
        for path in self.store.paths():
            stream = self.store.get(path)
            assert stream is not None
            found[path] = (self.store.read(path).data, stream.closed)
        return found

    async def quiet(self) -> None:
        """Lets everything happen that is due."""
        await quiet(self.lane)
        await turn()
        while self.store.held:
            self.store.let_go()
            await quiet(self.lane)
            await turn()

    async def assert_nothing_is_left(self) -> None:
        """When every client has gone, no place and no room is held for any."""
        await self.quiet()
        assert not self.lane.connections
        assert len(self.lane.app.engine.tails) == 0
        assert self.lane.budget.held == 0


# -- what is sent ------------------------------------------------------------


def conversation(chance: Random, length: int) -> list[Sent]:
    """Returns requests to be sent one after the other on one connection."""
    sent = [_sent(chance) for _ in range(length)]
    if chance.random() < 0.3:
        sent.insert(chance.randrange(length), _last(chance))
    return sent


def _sent(chance: Random) -> Sent:
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
            ("OPTIONS", "*"),
            ("PATCH", target),
        ]
    )
    headers = chance.choice([(), (), ("If-None-Match: *",), _UPGRADE, ("X: " + "y" * 3000,)])
    return Sent(method, request(method, where, *headers))


_UPGRADE = ("Connection: Upgrade", "Upgrade: h2c")


def _with_body(chance: Random, method: str, target: str) -> Sent:
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
    """Returns a body in chunks of any size, with whatever may stand around them."""
    parts = []
    while body:
        size = chance.randint(1, len(body))
        extension = chance.choice([b"", b"", b";x", b";x=y"])
        parts.append(b"%x%b\r\n%b\r\n" % (size, extension, body[:size]))
        body = body[size:]
    trailer = chance.choice([b"", b"", b"Stream-Closed: true\r\n", b"X: y\r\nHost: other\r\n"])
    return b"".join([*parts, b"0\r\n", trailer, b"\r\n"])


def _last(chance: Random) -> Sent:
    """Returns a request after whose answer nothing else is answered."""
    return chance.choice(
        [
            Sent("POST", post(b"last", "Connection: close"), True),
            Sent("GET", request("GET").replace(b"HTTP/1.1", b"HTTP/1.0"), True),
            Sent("GET", b"GET /v1/stream/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
            Sent("GET", request("GET", f"{S}{DONE}?offset=-1&live=sse", "Connection: close"), True),
            Sent("POST", post(b"x" * (MAX_BODY + 1)), True),
            Sent("GET", request("GET", "/" + "x" * 9000), True),
            Sent("GET", request("GET", S + "a", "X: " + "y" * 40_000), True),
            Sent("GET", b"no request\r\n\r\n", True),
        ]
    )


# -- what must come of it ----------------------------------------------------


class Alone(NamedTuple):
    """What comes of requests that are sent alone: each answer, and the streams before and after each."""

    answers: list[Answer]
    contents: list[Contents]


async def alone(messages: Sequence[Sent]) -> Alone:
    """Sends every request whole, on a connection of its own, up to the first that ends its connection."""
    world = World()
    answers, contents = [], [world.contents]
    for message in messages:
        client = Client(world.lane).send(message.octets)
        await world.quiet()
        answers += client.answers(message.method)
        contents.append(world.contents)
        client.reset()
        assert len(answers) == len(contents) - 1
        if message.closes:
            break
    await world.assert_nothing_is_left()
    return Alone(answers, contents)


async def pipelined(chance: Random, messages: Sequence[Sent]) -> None:
    """Sends every request at once, in any pieces, by a client that reads when it likes, and compares."""
    judge = await alone(messages)
    world = World(holds=chance.random() < 0.5)
    client = Client(world.lane)
    await _feed(chance, world, client, b"".join(message.octets for message in messages))
    received = await _rest(world, client)
    answers, rest = parse(received, [message.method for message in messages])
    assert rest == b""
    assert_same(answers, judge.answers)
    assert client.gone is messages[len(answers) - 1].closes
    assert world.contents == judge.contents[-1]
    client.reset()
    await world.assert_nothing_is_left()


async def cut(chance: Random, messages: Sequence[Sent]) -> None:
    """Ends a conversation anywhere, by FIN or RST: what was answered is right, and nothing was done by halves."""
    judge = await alone(messages)
    octets = b"".join(message.octets for message in messages)
    at = chance.randrange(len(octets) + 1)
    world = World(holds=chance.random() < 0.5)
    client = Client(world.lane)
    await _feed(chance, world, client, octets[:at])
    half = chance.random() < 0.5
    if half:
        client.finish()
    else:
        client.reset()
    answers, _ = parse(await _rest(world, client), [message.method for message in messages])
    whole = min(_whole(messages, at), len(judge.answers))
    assert_same(answers, judge.answers[: len(answers)])
    early = whole < len(judge.answers) and messages[whole].closes  # refused before it was whole
    assert len(answers) <= whole + early
    if half:
        assert len(answers) >= whole
        assert client.wire.lost
    assert world.contents in judge.contents[len(answers) : whole + early + 1]
    await world.assert_nothing_is_left()


def _whole(messages: Sequence[Sent], octets: int) -> int:
    """Returns how many requests the first octets hold whole."""
    count = 0
    for message in messages:
        octets -= len(message.octets)
        if octets < 0:
            break
        count += 1
    return count


async def _feed(chance: Random, world: World, client: Client, octets: bytes) -> None:
    """Sends octets in pieces, while the store and the client take their time."""
    pieces = chance.choice([1, 2, 10, 50])
    cuts = sorted(chance.randrange(len(octets) + 1) for _ in range(pieces - 1))
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        if start < end:
            client.send(octets[start:end], each=chance.choice([0, 0, 0, 1]))
        happens = chance.random()
        if happens < 0.1:
            client.stall()
        elif happens < 0.3:
            client.go_on()
        elif happens < 0.5 and world.store.held:
            world.store.let_go()
        elif happens < 0.7:
            await turn()


async def _rest(world: World, client: Client) -> bytes:
    """Returns all that a client gets that reads to the end."""
    while True:
        before = len(client.wire.received)
        if not client.wire.lost:
            client.go_on()
        await world.quiet()
        if len(client.wire.received) == before:
            return client.take()


def assert_same(answers: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """Answers are the same but for the time, and what becomes of the connection."""
    assert [_essence(answer) for answer in answers] == [_essence(answer) for answer in expected]


def _essence(answer: Answer) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [pair for pair in answer.pairs if pair[0] not in (b"date", b"connection")]
    return answer.status, headers, answer.body


async def try_seed(seed: int) -> None:
    """Tries what one seed makes."""
    chance = Random(seed)
    messages = conversation(chance, chance.choice([1, 3, 8, 20]))
    await (pipelined if chance.random() < 0.5 else cut)(chance, messages)


async def _hunt(first: int, count: int) -> None:
    for seed in range(first, first + count):
        try:
            await try_seed(seed)
        except BaseException:
            print(f"seed {seed} fails", file=sys.stderr)
            raise
        if seed % 1000 == 999:
            print(f"seeds up to {seed} hold", flush=True)
    print(f"{count} seeds from {first} on hold", flush=True)


if __name__ == "__main__":
    asyncio.run(_hunt(int(sys.argv[1]), int(sys.argv[2])))
