"""Damages files of a catalog at random: `python -m tests.storage.files.catalog.damage FIRST COUNT`.

Each trial damages one file of a catalog and opens the catalog as a server does. The catalog must give right answers or raise
`Damaged`. Then the trial repairs the catalog, which must have all its entries again. The number of each trial is printed before it
begins, so a trial that crashes the process is the last one printed.
"""

import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import (
    Drop,
    Entry,
    LmdbCatalog,
    Meta,
    Put,
    entry_of,
    repair_catalog,
    rewrite_copy,
    verify_catalog,
)
from tests.requests import NOW

PAGE = 4096
FILES = ["data.mdb", "data.mdb", "data.mdb", "copy", "copy", "SUM", "lock.mdb"]
STREAMS = 300
COMMITS = 3


class Made(NamedTuple):
    """A catalog, and the answers that it must give."""

    path: Path
    entries: dict[str, Entry]
    producers: dict[int, dict[bytes, ProducerState]]
    documents: dict[str, bytes]
    garbage: list[int]

    def has_log(self, incarnation: int) -> bool:
        """Returns whether an incarnation is one of this catalog's streams."""
        return any(entry.incarnation == incarnation for entry in self.entries.values())


def entry_of_empty_stream(incarnation: int, ttl: int | None = None) -> Entry:
    lifetime = FOREVER if ttl is None else Lifetime(ttl=ttl)
    return entry_of(
        StreamState("/x", incarnation, parse_media_type("text/plain"), lifetime, NOW), 0, 1
    )


def make(path: Path, seed: int) -> Made:
    """Makes a catalog with a few commits of random creates, changes and deletes."""
    chance = random.Random(seed)
    made = Made(path, {}, {}, {}, [])
    catalog = LmdbCatalog(str(path))
    for number in range(COMMITS):
        changes: list[Put | Drop] = []
        for _ in range(STREAMS // COMMITS):
            name, incarnation = f"/stream/{chance.randrange(STREAMS)}", chance.getrandbits(50)
            old = made.entries.pop(name, None)
            if old is not None:
                changes.append(Drop(name, old.incarnation))
                made.producers.pop(old.incarnation, None)
                made.garbage.append(old.incarnation)
                if chance.random() < 0.5:
                    continue
            entry = entry_of_empty_stream(incarnation, chance.choice((None, 10, 500)))
            made.entries[name] = entry
            made.producers[incarnation] = {b"p%d" % i: ProducerState(0, i) for i in range(3)}
            changes.append(Put(name, entry, made.producers[incarnation]))
        made.documents[f"subscription/{number}"] = chance.randbytes(chance.choice((50, 9000)))
        catalog.commit(Meta(number + 1, 1, 1), changes, [], made.documents)
        catalog.tidy()
    catalog.close()
    made.garbage.sort()
    return made


def assert_answers(catalog: LmdbCatalog, made: Made) -> None:
    """Requires that a catalog returns all its entries, and none for streams that never existed."""
    for name in (f"/stream/{number}" for number in range(STREAMS)):
        assert catalog.find(name) == made.entries.get(name), name
    for incarnation, producers in made.producers.items():
        assert catalog.producers(incarnation) == producers
    assert catalog.find("/never") is None
    assert dict(catalog.paths()) == made.entries
    assert dict(catalog.documents()) == made.documents
    assert catalog.garbage() == made.garbage
    deadlines = {(entry.deadline, name) for name, entry in made.entries.items() if entry.deadline}
    assert {(at, name) for at, _, name in catalog.deadlines((0, 0), 1 << 62, 999)} == deadlines
    assert catalog.meta().streams == len(made.entries)


def flip(data: bytearray, chance: random.Random, _: bytes) -> None:
    for _bit in range(chance.choice((1, 1, 1, 8))):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def zero_page(data: bytearray, chance: random.Random, _: bytes) -> None:
    at = random_page(data, chance)
    data[at : at + PAGE] = bytes(len(data[at : at + PAGE]))


def tear_page(data: bytearray, chance: random.Random, _: bytes) -> None:
    """Replaces some sectors of a page by those of another page."""
    at, other = random_page(data, chance), random_page(data, chance)
    for sector in range(0, PAGE, 512):
        if chance.random() < 0.5 and max(at, other) + sector + 512 <= len(data):
            data[at + sector : at + sector + 512] = data[other + sector : other + sector + 512]


def truncate(data: bytearray, chance: random.Random, _: bytes) -> None:
    size = chance.choice((0, chance.randrange(len(data) + 1), random_page(data, chance)))
    del data[size:]


def swap_pages(data: bytearray, chance: random.Random, _: bytes) -> None:
    at, other = random_page(data, chance), random_page(data, chance)
    if max(at, other) + PAGE <= len(data):
        data[at : at + PAGE], data[other : other + PAGE] = (
            data[other : other + PAGE],
            data[at : at + PAGE],
        )


def another_file(data: bytearray, _: random.Random, other: bytes) -> None:
    data[:] = other


def lengthen(data: bytearray, chance: random.Random, _: bytes) -> None:
    data += chance.randbytes(chance.choice((1, 30, PAGE)))


def random_page(data: bytearray, chance: random.Random) -> int:
    """Returns the position of a random page."""
    return chance.randrange(max(1, len(data) // PAGE)) * PAGE


DAMAGES: list[Callable[[bytearray, random.Random, bytes], None]] = [
    flip,
    flip,
    zero_page,
    tear_page,
    truncate,
    swap_pages,
    another_file,
    lengthen,
]


def damage(path: Path, chance: random.Random, other: Path) -> tuple[str, str]:
    """Damages or removes one file. Returns the file and the kind of damage."""
    file = chance.choice(FILES)
    if chance.random() < 0.05:
        (path / file).unlink()
        return file, "delete"
    how = chance.choice(DAMAGES)
    data = bytearray((path / file).read_bytes())
    how(data, chance, (other / file).read_bytes())
    (path / file).write_bytes(data)
    return file, how.__name__


def trial(seed: int, made: Made, other: Made) -> str:
    """Damages, opens and repairs a copy of a catalog. Returns a summary of what happened."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path, quarantine = Path(folder) / "catalog", Path(folder) / "quarantine"
        shutil.copytree(made.path, path)
        before = {file.name: file.read_bytes() for file in path.iterdir()}
        which = damage(path, chance, other.path)
        after = {file.name: file.read_bytes() for file in path.iterdir()}
        found = verify_catalog(str(path))
        assert {file.name: file.read_bytes() for file in path.iterdir()} == after, "it was changed"
        harmful = [finding for finding in found if not finding.harmless]
        refused = refusal(path, made)
        if refused:
            assert harmful, f"nothing was found: {refused}"
            repair_catalog(str(path), str(quarantine), made.has_log)
            assert refusal(path, made) == ""
        elif any(finding.file == "copy" for finding in harmful):
            # The server does not read the whole copy when it starts.
            rewrite_copy(str(path), str(quarantine))
            assert refusal(path, made) == ""
        again = [finding for finding in verify_catalog(str(path)) if not finding.harmless]
        assert not again, f"after a repair: {again}"
        if before == after:
            return "nothing changed"
        return f"{' '.join(which)}: {'refused' if refused else 'found' if found else 'served'}"


def refusal(path: Path, made: Made) -> str:
    """Opens the catalog as a server does. Returns the reason why it cannot be opened, or an empty text."""
    try:
        catalog = LmdbCatalog(str(path))
    except Damaged as damage:
        return str(damage)
    try:
        assert_answers(catalog, made)
        catalog.commit(catalog.meta(), [], [])
        catalog.tidy()
    finally:
        catalog.close()
    return ""


def main(first: int, count: int) -> None:
    """Runs trials, and prints the number of each before it begins."""
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        made, other = make(Path(folder) / "one", 1), make(Path(folder) / "two", 2)
        for seed in range(first, first + count):
            sys.stdout.write(f"trial {seed}\n")
            sys.stdout.flush()
            try:
                results[trial(seed, made, other)] += 1
            except BaseException as error:
                command = f"{sys.executable} -m tests.storage.files.catalog.damage {seed} 1"
                raise AssertionError(f"trial {seed} fails; repeat it with: {command}") from error
    for what, number in sorted(results.items()):
        sys.stdout.write(f"{number:6} {what}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
