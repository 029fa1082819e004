"""Makes a data directory with streams and subscriptions of every kind, and records the bytes of each stream after every record."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from durable_streams_server import CreateOptions, FileBackedStreamStore
from durable_streams_server.protocol.subscriptions.commands import Claim
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.streams.reader import Reader
from tests.protocol.subscriptions.world import ROOT, subscribe
from tests.requests import NOW

SEGMENT = 64 * 1024
PAGE = 10_000  # maximum bytes of one read
Contents = dict[str, bytes]


class Truth(NamedTuple):
    """The contents of a data directory.

    Attributes:
        moments: contents after each record that only the write-ahead log has. The first moment is that of the catalog.
        names: for each stream, the offsets of its tail and of the position after its first byte.
        incarnations: the incarnation of each stream.
        ends: for each stream, the positions at which its appends end.
        deleted: paths of streams that were deleted.
        closed: paths of streams that are closed.
    """

    moments: list[Contents]
    names: dict[str, tuple[str, ...]]
    incarnations: dict[str, int]
    ends: dict[str, set[int]]
    deleted: set[str]
    closed: set[str]

    @property
    def last(self) -> Contents:
        """Contents after the last record."""
        return self.moments[-1]


class Clock:
    """A clock that advances by one millisecond each time it is read. It counts microseconds of Unix time."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def opened(path: Path, clock: Clock | None = None) -> FileBackedStreamStore:
    """Opens a store on a directory."""
    return FileBackedStreamStore(
        path, segment_size=SEGMENT, clock=clock or Clock(NOW + 864_000_000_000)
    )


def die(store: FileBackedStreamStore) -> None:
    """Ends a store without writing anything more, as a kill does."""
    store.logs.close()
    store.wal.close()
    store._catalog.close()
    store._directory.release()


def content_of(store: FileBackedStreamStore, path: str) -> bytes:
    """Returns all bytes of a stream, read page by page."""
    state = store.find(path).result()
    assert state is not None
    reader, at, parts = Reader(store), 0, []
    while at < state.visible_tail:
        page = reader.page(state, at, PAGE).result()
        assert page.end > at
        parts.append(page.data)
        at = page.end
    return b"".join(parts)


def contents(store: FileBackedStreamStore) -> Contents:
    """Returns the bytes of each stream by path."""
    return {path: content_of(store, path) for path in sorted(store.paths())}


def _at(path: str) -> str:
    """Returns the full path of a stream below the stream root."""
    return ROOT + path


class _Builder:
    """Fills a data directory with streams of every kind, and records the bytes of each after every change."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.path = path
        self.store = opened(path, self.clock)
        self.moments: list[Contents] = []
        self.ends: dict[str, set[int]] = {}
        self.seqs: dict[tuple[str, str], int] = {}

    def create(self, path: str, media: str | None = None, **options: Any) -> None:
        self.store.create(path, media, CreateOptions(**options))
        self.record_contents(path)

    def append(
        self, path: str, data: bytes, producer: str | None = None, closes: bool = False
    ) -> None:
        stamp: dict[str, Any] = {}
        if producer is not None:
            seq = self.seqs[path, producer] = self.seqs.get((path, producer), -1) + 1
            stamp = {"producer_id": producer, "producer_epoch": 0, "producer_seq": seq}
        self.store.append(path, data, close=closes, **stamp)
        self.record_contents(path)

    def record_contents(self, path: str) -> None:
        """Records the ends of all appends, and after the first checkpoint also the contents of all streams."""
        self.store.states.get(path)
        for each in self.store.states.newest.values():  # a wake stream may have grown too
            self.ends.setdefault(each.path, set()).add(each.tail)
        if self.moments:
            self.moments.append(contents(self.store))

    def append_several(self, path: str, count: int) -> None:
        """Makes `count` appends of random sizes that suit the stream's content type."""
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
    """Makes a directory whose store died while the write-ahead log had records that no checkpoint had moved yet.

    Args:
        path: where to make the directory.
        seed: decides sizes and contents, and all random numbers on the disk.
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
            builder.append_several(name, 5)
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
    builder.moments.append(contents(store))
    for name in (_at("/json"), _at("/text"), _at("/binary"), _at("/fork"), _at("/ttl")):
        builder.append_several(name, 2)
    builder.create(_at("/late"), "text/plain", initial_data=b"late, ")
    builder.append(_at("/late"), b"and later")
    builder.create(_at("/late/fork"), forked_from=_at("/binary"))
    store.delete(_at("/empty"))
    builder.record_contents(_at("/empty"))
    builder.append(_at("/binary"), b"the end", closes=True)
    builder.append_several(_at("/json"), 3)
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
    """Yields the kind and the path of every file in a directory."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            name = file.relative_to(path)
            kind = name.parts[0]
            if kind == "logs":
                kind = "index" if file.suffix == ".idx" else "log"
            elif kind == "catalog":
                kind = name.name
            yield kind, file
