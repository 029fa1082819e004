"""Draws the commands that the simulator's clients send: creates, forks, appends and deletes."""

from durable_streams_server.protocol.commands import Command, Delete, Fork
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.limits import MAX_JSON_DEPTH
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.producers import Stamp
from tests.crash.world import PATHS, World
from tests.requests import NOW, SECOND, append, create

TYPES = ["application/json", "text/plain", "application/octet-stream"]
#: A lifetime that ends at a fixed date, not after an idle time.
DATE = Lifetime(expires_at=NOW + 1800 * SECOND)
#: The paths whose streams are public.
PUBLIC = PATHS[::2]
LIFETIMES = [FOREVER, FOREVER, Lifetime(ttl=10), Lifetime(ttl=3), DATE]


class Commands:
    """Draws commands, and keeps the sequence number of each producer.

    Args:
        world: the simulation that the commands are for.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._next_seq: dict[tuple[str, bytes], int] = {}

    def draw(self) -> Command:
        """Returns a random command."""
        path = self._world.chance.choice(PATHS)
        kind = self._world.chance.random()
        if kind < 0.25:
            return self._create(path)
        if kind < 0.35:
            return Delete(path)
        return self._append(path)

    def _create(self, path: str) -> Command:
        chance = self._world.chance
        lifetime = chance.choice(LIFETIMES)
        closes = chance.random() < 0.1
        public = path in PUBLIC
        if chance.random() < 0.4:
            fork = self._fork(chance.choice(PATHS))
            return create(path, None, lifetime=lifetime, closes=closes, fork=fork, public=public)
        media = chance.choice(TYPES)
        body = self._body(media) if chance.random() < 0.5 else b""
        return create(path, media, body, lifetime=lifetime, closes=closes, public=public)

    def _fork(self, source: str) -> Fork:
        world = self._world
        state = world.wait(world.store.find(source))
        if state is None or world.chance.random() < 0.5:
            return Fork(source, None, None)
        name = state.name(world.chance.choice((0, state.visible_tail)))
        return Fork(source, parse(name), world.chance.choice((None, 0, 1)))

    def _append(self, path: str) -> Command:
        world, chance = self._world, self._world.chance
        state = world.store.states.get(path)
        media = state.media.text if state is not None and chance.random() < 0.95 else TYPES[0]
        closes = chance.random() < 0.08
        body = b"" if closes and chance.random() < 0.5 else self._body(media)
        stamp = None
        if chance.random() < 0.5:
            producer = chance.choice((b"p", b"q"))
            seq = max(0, self._next_seq.get((path, producer), 0) + chance.choice((0, 0, 0, -1, 1)))
            self._next_seq[path, producer] = seq + 1
            stamp = Stamp(producer, chance.choice((0, 0, 0, 1)), seq)
        stream_seq = b"%08d" % world.disk.calls if chance.random() < 0.1 else None
        return append(path, body, media, closes=closes, stamp=stamp, seq=stream_seq)

    def _body(self, media: str) -> bytes:
        chance = self._world.chance
        size = chance.choice((1, 5, 40, 40, 600, 700, 5_000))
        if media == TYPES[0]:
            if size == 1:  # nested as deeply as the server allows
                return b'{"v":' * MAX_JSON_DEPTH + b"1" + b"}" * MAX_JSON_DEPTH
            value = b'{"v":"%s"}' % (b"x" * size)
            return b"[" + b",".join([value] * chance.randint(1, 3)) + b"]"
        return chance.randbytes(size) if media == TYPES[2] else b"t" * size
