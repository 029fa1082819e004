"""Changes with extreme fields are encoded, applied, replayed after a kill, written to the catalog, and read back."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.limits import (
    MAX_CLOCK_INCARNATION,
    MAX_POSITION,
    MAX_SAFE_INTEGER,
    MAX_TIME,
    MAX_TTL_SECONDS,
)
from durable_streams_server.protocol.media import MediaType, parse_media_type
from durable_streams_server.protocol.offsets import Offset, Span
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Origin,
    Removed,
    SoftDeleted,
    StreamState,
    Touched,
    apply,
)
from durable_streams_server.protocol.subscriptions.changes import (
    Config,
    CursorsMoved,
    KeysKept,
    LinkedStream,
    Missed,
    News,
    NewsTaken,
    Relinked,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    Wake,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.commands import MAX_LEASE_TTL, MAX_LINKS
from durable_streams_server.protocol.subscriptions.documents import document_name
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.storage.files.store import FileStore
from tests.extremes.worlds import examine, open_store

TIMES = (0, 1, MAX_TIME)
COUNTS = (0, 1, MAX_SAFE_INTEGER)
TEXT = parse_media_type("text/plain")
LONG = parse_media_type("a/" + "b" * 254)
COMPARED = (
    "ancestry",
    "children",
    "closed",
    "closed_by",
    "created_at",
    "incarnation",
    "last_seq",
    "lifetime",
    "lineage",
    "media",
    "origin",
    "producers",
    "soft_deleted",
    "tail",
    "touched_at",
)
Records = list[tuple[Change, ...]]


def path_of(name: str, number: int) -> str:
    """Returns an extreme path: a short one, one of 500 ASCII bytes, or one of about 500 bytes of other characters."""
    form = (f"/{name}", f"/{name}/".ljust(500, "x"), f"/{name}/" + "é" * 240)
    return form[number % len(form)]


class Sweep:
    """Collects records for one store. Each stream gets a new incarnation."""

    def __init__(self) -> None:
        self.records: Records = []
        self.number = 100

    def add(self, *changes: Change) -> None:
        """Adds one record of these changes."""
        self.records.append(changes)

    def stream(self, **fields: Any) -> Created:
        """Creates a stream with some extreme fields."""
        self.number += 1
        known = {
            "path": path_of(str(self.number), self.number),
            "incarnation": self.number,
            "media": TEXT,
            "lifetime": FOREVER,
            "at": 1,
        }
        made = Created(**{**known, **fields})
        self.add(made)
        return made

    def append(self, stream: Created, start: int = 0, data: bytes = b"x", **fields: Any) -> None:
        """Appends to a stream, with some extreme fields."""
        known = {"closes": False, "at": 1}
        self.add(Appended(stream.path, stream.incarnation, start, data, **{**known, **fields}))

    def fork(self, source: Created, position: int, sub_offset: int, anchor: str) -> Created:
        """Creates a fork of a stream at a position."""
        origin = Origin(source.path, source.incarnation, anchor, sub_offset, position)
        return self.stream(origin=origin, lineage=(Span(source.incarnation, position),))


def add_streams(sweep: Sweep) -> None:
    """Adds streams and appends with extreme fields."""
    for incarnation in (1, MAX_CLOCK_INCARNATION, 10**16 - 1, 10**16, 10**18):
        sweep.append(sweep.stream(incarnation=incarnation))
    for media in (LONG, MediaType("A/B;" + "x" * 252, "a/b", TEXT.kind)):
        sweep.append(sweep.stream(media=media))
    for lifetime in lifetimes():
        for at in TIMES:
            stream = sweep.stream(lifetime=lifetime, at=at)
            sweep.append(stream, at=at)
            sweep.add(Touched(stream.path, stream.incarnation, MAX_TIME))
    for at in TIMES:
        sweep.append(sweep.stream(at=at), at=at)
    for epoch in COUNTS:
        for seq in COUNTS:
            for producer in (b"\0", b"\xff" * 256):
                stamp = Stamp(producer, epoch, seq)
                sweep.append(sweep.stream(), stamp=stamp, closes=seq == 0)
    for last_seq in (b"\0", b"\xff" * 256):
        sweep.append(sweep.stream(), seq=last_seq)
    for data in (b"", b"\0", b"x" * 300_000):
        sweep.append(sweep.stream(), data=data, closes=True)


def lifetimes() -> Iterator[Lifetime]:
    """Yields lifetimes with an extreme deadline or TTL."""
    for deadline in (0, 1, MAX_TIME, -(2**63), MAX_TIME + 86_400 * 10**6, 2**64 - 1):
        yield Lifetime(expires_at=deadline, expires_text="x" * 45)
    for ttl in (0, 1, MAX_TTL_SECONDS, 2**63):
        yield Lifetime(ttl=ttl)


def add_forks(sweep: Sweep) -> None:
    """Adds forks at extreme positions."""
    source = sweep.stream()
    for position in (0, 1, MAX_POSITION - 3, MAX_POSITION):
        for sub_offset in (0, MAX_POSITION):
            fork = sweep.fork(source, position, sub_offset, "9" * 33)
            sweep.append(fork, position, b"x" * min(3, MAX_POSITION - position), closes=True)
            again = sweep.fork(fork, position, 0, "0" * 33)
            sweep.add(SoftDeleted(fork.path, fork.incarnation))
            if sub_offset:
                sweep.add(
                    Removed(again.path, again.incarnation), Removed(fork.path, fork.incarnation)
                )
    sweep.add(SoftDeleted(source.path, source.incarnation))


def add_subscriptions(sweep: Sweep) -> None:
    """Adds subscriptions and keys with extreme fields."""
    ids = ("s", "x" * 256, "é" * 128)
    links = tuple(f"/{number:05d}/".ljust(60, "x") for number in range(MAX_LINKS))
    for number, id_ in enumerate(ids):
        for lease in (1_000, MAX_LEASE_TTL):
            url = "https://x/" + "y" * 2038
            config = Config("webhook", "**", (), url, None, lease, "\0" * 1_000)
            owner = "jwt:" + "\U0010ffff" * 256
            sweep.add(Subscribed(id_, 10**16 - 1 - number, config, MAX_TIME, owner))
            sweep.add(Unsubscribed(id_, 10**16 - 1 - number))
        config = Config(
            "pull-wake", "*/" * 200 + "*", links[:2], None, path_of("w", 1), 1_000, None
        )
        sweep.add(Subscribed(id_, number + 1, config, 0))
    sweep.add(Relinked("s", links, ()))
    sweep.add(Relinked("s", (), links[:5_000]))
    first, last = Offset(0, 0), Offset(10**16 - 1, MAX_POSITION)
    cursors = tuple((link, last if number % 2 else first) for number, link in enumerate(links))
    sweep.add(CursorsMoved("s", cursors))
    sweep.add(CursorsMoved("s", tuple((link, None) for link in links[:3_000])))
    for id_, count, time in zip(ids, COUNTS, TIMES, strict=True):
        stream = LinkedStream(path_of("t", 1), True, str(last), str(last))
        numbers = (time, time, count, time, count, count)
        wake = Wake(f"w_{count:x}_{count:x}", "h" * 256, *numbers, True, (stream,) * 64, "r" * 64)
        sweep.add(WakeChanged(id_, count, wake, min(count, 1_000)))
        sweep.add(News(path_of("n", count), count, last, time))
        sweep.add(Missed(id_, time, time, path_of("r", 1)), Missed(id_, time, 0, ""))
        sweep.add(News(path_of("n", count), count + 1, None), NewsTaken(count))
    sweep.add(
        KeysKept((Key("k" * 128, b"\0" * 32, b"\xff" * 32, MAX_TIME, 0), Key("", b"", b"", 0)))
    )


class Model:
    """The state that the records describe, computed with the rules of `protocol/` alone."""

    def __init__(self, records: Records) -> None:
        self.states: dict[str, StreamState] = {}
        self.subscriptions = Subscriptions()
        self.names: dict[str, None] = {}
        self.wire: dict[int, bytes] = {}
        for change in (change for changes in records for change in changes):
            if isinstance(change, SubscriptionChange):
                self.subscriptions.apply(change)
                self.names[document_name(change)] = None
                continue
            apply(self.states, change)
            if isinstance(change, Appended):
                self.wire[change.incarnation] = change.data

    def compare(self, store: FileStore) -> None:
        """Fails if a store has another state."""
        assert store.failure is None
        for path, state in self.states.items():
            found = store.states.get(path)
            assert found is not None, path
            for name in COMPARED:
                assert getattr(found, name) == getattr(state, name), f"{name} of {path}"
            data = self.wire.get(state.incarnation, b"")
            read = store.read_bytes(state.incarnation, state.base, state.tail).result()
            assert read == data
        there = {path for path, state in self.states.items() if not state.soft_deleted}
        assert set(store.states.paths()) == there
        for name in self.names:
            assert store.subscriptions.document(name) == self.subscriptions.document(name)


@pytest.mark.parametrize("fill", [add_streams, add_forks, add_subscriptions])
def test_extreme_values_survive_kill_checkpoint_and_restart(tmp_path: Path, fill: Any) -> None:
    sweep = Sweep()
    fill(sweep)
    model = Model(sweep.records)
    directory, copy = tmp_path / "data", tmp_path / "killed"
    store = open_store(directory)
    for number, changes in enumerate(sweep.records):
        store.commits.record(changes, None)
        if number % 20 == 0 or store.ledger.checkpoint_is_due:
            store.commit_once()
        if store.ledger.checkpoint_is_due:
            store.run_checkpoint()
    store.commit_once()
    model.compare(store)
    shutil.copytree(directory, copy)
    for at in (copy, directory):
        if at is directory:
            store.run_checkpoint()
            model.compare(store)
            store.close()
        for _ in range(2):
            with open_store(at) as again:
                model.compare(again)
                again.due(MAX_TIME)
        examine(at)


def test_sweep_contains_every_kind_of_change() -> None:
    sweep = Sweep()
    for fill in (add_streams, add_forks, add_subscriptions):
        fill(sweep)
    kinds = {type(change) for changes in sweep.records for change in changes}
    assert kinds == set(Change.__args__)
