"""A data directory with everything in it that a server can make, and what each of its streams held at every record."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from durable_streams_server import CreateOptions, FileBackedStreamStore
from durable_streams_server.protocol.subscriptions.commands import Claim
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.streams.reader import Reader
from tests.protocol.subscriptions.world import ROOT, subscribe
from tests.requests import NOW

SEGMENT = 64 * 1024
PAGE = 10_000  # bytes of a read
Held = dict[str, bytes]


class Truth(NamedTuple):
    """What a directory held.

    Attributes:
        moments: what each stream held after each record that only the log has; the first is what the catalog has.
        names: of each stream, the offsets that name its tail and the position after its first byte.
        incarnations: of each stream.
        ends: of each stream, the positions at which its appends end.
        deleted: paths of streams that are not there any more.
        closed: paths of streams that are closed.
    """

    moments: list[Held]
    names: dict[str, tuple[str, ...]]
    incarnations: dict[str, int]
    ends: dict[str, set[int]]
    deleted: set[str]
    closed: set[str]

    @property
    def last(self) -> Held:
        return self.moments[-1]


class Clock:
    """Microseconds of Unix time that pass with each look."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def opened(path: Path, clock: Clock | None = None) -> FileBackedStreamStore:
    """Opens a store as a server does."""
    return FileBackedStreamStore(
        path, segment_size=SEGMENT, clock=clock or Clock(NOW + 864_000_000_000)
    )


def die(store: FileBackedStreamStore) -> None:
    """Ends a store as a kill does: nothing more is written."""
    store.logs.close()
    store.wal.close()
    store._catalog.close()
    store._directory.release()


def held(store: FileBackedStreamStore, path: str) -> bytes:
    """Returns all bytes of a stream, read in pages as clients read it."""
    state = store.find(path).result()
    assert state is not None
    reader, at, parts = Reader(store), 0, []
    while at < state.visible_tail:
        page = reader.page(state, at, PAGE).result()
        assert page.end > at
        parts.append(page.data)
        at = page.end
    return b"".join(parts)


def everything(store: FileBackedStreamStore) -> Held:
    """Returns what each stream holds."""
    return {path: held(store, path) for path in sorted(store.paths())}


def _at(path: str) -> str:
    return ROOT + path


class _Builder:
    """Fills a data directory with streams of every kind, and remembers the bytes of each."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.path = path
        self.store = opened(path, self.clock)
        self.moments: list[Held] = []
        self.ends: dict[str, set[int]] = {}
        self.seqs: dict[tuple[str, str], int] = {}

    def create(self, path: str, media: str | None = None, **options: object) -> None:
        self.store.create(path, media, CreateOptions(**options))  # type: ignore[arg-type]
        self.note(path)

    def append(
        self, path: str, data: bytes, producer: str | None = None, closes: bool = False
    ) -> None:
        stamp: dict[str, object] = {}
        if producer is not None:
            seq = self.seqs[path, producer] = self.seqs.get((path, producer), -1) + 1
            stamp = {"producer_id": producer, "producer_epoch": 0, "producer_seq": seq}
        self.store.append(path, data, close=closes, **stamp)  # type: ignore[arg-type]
        self.note(path)

    def note(self, path: str) -> None:
        self.store.states.get(path)
        for each in self.store.states.newest.values():  # wakes are appended by the way
            self.ends.setdefault(each.path, set()).add(each.tail)
        if self.moments:
            self.moments.append(everything(self.store))

    def some(self, path: str, count: int) -> None:
        """Appends of every size to a stream of a kind."""
        for _ in range(count):
            size = self.chance.choice((1, 20, 100, 400, 1500))
            if path.endswith("/json"):
                text = b'{"v":"%s"}' % (b"x" * size)
                many = b"[" + b",".join([text] * self.chance.randint(1, 3)) + b"]"
                self.append(path, many, self.chance.choice((None, "p", "q")))
            elif path.endswith("/text"):
                self.append(path, f"zeile {size} ä\n".encode() * (size // 10 + 1))
            else:
                self.append(path, self.chance.randbytes(size), self.chance.choice((None, "p")))


def build(path: Path, seed: int = 0) -> Truth:
    """Makes a directory whose store died with records that only the log has.

    Args:
        path: where to make it.
        seed: what decides sizes and contents, and all random numbers on the disk.
    """
    numbers = random.Random(seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemDisk, "random_number", lambda _: numbers.getrandbits(64))
        return _build(_Builder(path, seed))


def _build(builder: _Builder) -> Truth:
    store = builder.store
    builder.create(_at("/json"), "application/json")
    builder.create(_at("/text"), "text/plain")
    builder.create(_at("/binary"), "application/octet-stream", initial_data=b"\x00\xff" * 50)
    builder.create(_at("/closed"), "text/plain", initial_data=b"all of it", closed=True)
    builder.create(_at("/ttl"), "text/plain", ttl_seconds=10**9, initial_data=b"for long")
    builder.create(_at("/empty"), "application/json")
    builder.create(_at("/gone"), "text/plain", initial_data=b"soon gone")
    builder.create(_at("/wake/pool"), "application/json")
    for command in (subscribe("s", pattern="**"), subscribe("t", streams=["text"])):
        store.shell.wait_for(store.execute(command, builder.clock()))
    for number in range(4):
        for name in (_at("/json"), _at("/text"), _at("/binary")):
            builder.some(name, 5)
        if number == 1:
            builder.append(
                _at("/json"), b"[" + b",".join([b'{"w":%d}' % n for n in range(4400)]) + b"]"
            )
            builder.create(_at("/fork"), forked_from=_at("/text"))
            builder.create(_at("/fork/fork"), forked_from=_at("/fork"))
            builder.append(_at("/fork"), b"own of the fork\n")
            builder.append(_at("/fork/fork"), b"own of its fork\n")
            builder.create(
                _at("/kept"), "text/plain", initial_data=b"deleted, and kept for its fork"
            )
            builder.create(_at("/of-kept"), forked_from=_at("/kept"))
            store.delete(_at("/kept"))
            store.delete(_at("/gone"))
        if number == 2:
            store.shell.wait_for(store.execute(Claim("s", "worker"), builder.clock()))
        store.run_checkpoint()
    store.close()
    store = builder.store = opened(builder.path, builder.clock)
    builder.moments.append(everything(store))
    for name in (_at("/json"), _at("/text"), _at("/binary"), _at("/fork"), _at("/ttl")):
        builder.some(name, 2)
    builder.create(_at("/late"), "text/plain", initial_data=b"late, ")
    builder.append(_at("/late"), b"and later")
    builder.create(_at("/late/fork"), forked_from=_at("/binary"))
    store.delete(_at("/empty"))
    builder.note(_at("/empty"))
    builder.append(_at("/binary"), b"the end", closes=True)
    builder.some(_at("/json"), 3)
    truth = _truth(builder)
    die(store)
    return truth


def _truth(builder: _Builder) -> Truth:
    store = builder.store
    states = {path: store.states[path] for path in builder.moments[-1]}
    return Truth(
        builder.moments,
        {
            path: tuple(state.name(at) for at in (state.base + 1, state.tail) if at > state.base)
            for path, state in states.items()
            if state.tail > state.base
        },
        {path: state.incarnation for path, state in states.items()},
        builder.ends,
        {_at("/gone"), _at("/kept"), _at("/empty")},
        {path for path, state in states.items() if state.closed},
    )


def files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yields every file of a directory with its kind."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            name = file.relative_to(path)
            kind = name.parts[0]
            if kind == "logs":
                kind = "index" if file.suffix == ".idx" else "log"
            elif kind == "catalog":
                kind = name.name
            yield kind, file
