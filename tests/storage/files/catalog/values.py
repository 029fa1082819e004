"""Catalogs and entries for tests of the catalog."""

import random
from pathlib import Path

import msgspec

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files.catalog import (
    Catalog,
    Drop,
    Entry,
    LmdbCatalog,
    Meta,
    Put,
    entry_of,
)
from durable_streams_server.storage.files.catalog.copy import Copy, committed_payloads
from durable_streams_server.storage.files.catalog.entries import UNCOUNTED
from durable_streams_server.storage.files.catalog.tables import NAMES, Tables, operations, scan_all
from durable_streams_server.storage.files.disk import Disk
from tests.requests import NOW

META = Meta(7, 1 << 52, 1)
Content = list[dict[bytes, bytes]]


def entry_of_empty_stream(incarnation: int, ttl: int | None = None) -> Entry:
    """Returns the catalog entry of a stream without bytes."""
    lifetime = FOREVER if ttl is None else Lifetime(ttl=ttl)
    state = StreamState("/x", incarnation, parse_media_type("text/plain"), lifetime, NOW)
    return msgspec.structs.replace(entry_of(state, 0, 1), producers=UNCOUNTED)


def put(name: str, incarnation: int = 5, ttl: int | None = None) -> Put:
    """Returns a catalog change that writes a stream with one producer."""
    return Put(name, entry_of_empty_stream(incarnation, ttl), {b"p": ProducerState(0, incarnation)})


def commit_at_random(catalog: Catalog, chance: random.Random, known: dict[str, int]) -> None:
    """Commits a few random creates, changes and deletes, and updates `known`, which maps paths to incarnations."""
    changes: list[Put | Drop] = []
    for _ in range(chance.randint(1, 30)):
        name = f"/{chance.randrange(40)}"
        if name in known and chance.random() < 0.4:
            changes.append(Drop(name, known.pop(name)))
        else:
            known.setdefault(name, chance.getrandbits(40))
            changes.append(put(name, known[name], chance.choice((None, 10))))
    document = chance.choice((None, b"document", b"d" * 9000))
    catalog.commit(META, changes, catalog.garbage()[:3], {"subscription/s": document})


def make(path: Path, commits: int = 3, streams: int = 200) -> LmdbCatalog:
    """Makes a catalog with some commits, closes it, and returns it."""
    catalog = LmdbCatalog(str(path))
    for number in range(commits):
        changes = [put(f"/{n}", 1 + n + number * streams, 10) for n in range(number, streams)]
        drops = [Drop(f"/{n}", 1 + n + (number - 1) * streams) for n in range(number, streams)]
        catalog.commit(META, [*drops, *changes] if number else [*changes], [], {"keys": b"secret"})
    catalog.tidy()
    catalog.close()
    return catalog


def content_of(tables: Tables) -> Content:
    """Returns the entries of each table."""
    return [dict(scan_all(tables, table)) for table in range(len(NAMES))]


def copied(disk: Disk, directory: str = "") -> Content:
    """Returns the entries of each table according to a second copy."""
    copy = Copy(disk, directory)
    copy.load()
    content: Content = [{} for _ in NAMES]
    for payload in committed_payloads(copy):
        for table, key, sealed in operations(payload):
            if sealed is None:
                content[table].pop(key, None)
            else:
                content[table][key] = sealed
    copy.close()
    return content


def flip(file: Path, at: int) -> None:
    """Flips a bit of the byte at a position of a file."""
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)
