"""Tests of reading a damaged LMDB file page by page."""

import random
from pathlib import Path

import lmdb
import pytest

from durable_streams_server.storage.files.catalog.pages import Pages
from durable_streams_server.storage.files.catalog.tables import DOCUMENTS, NAMES, STREAMS

from .values import make


def database_bytes(path: Path, page_size: int | None = None) -> bytes:
    make(path)
    return (path / "data.mdb").read_bytes()


def test_all_entries_of_intact_file_are_read(tmp_path: Path) -> None:
    data = database_bytes(tmp_path)
    found: list[dict[bytes, bytes]] = [{} for _ in NAMES]
    pages = Pages(data)
    for table, key, value in pages.entries():
        found[table][key] = value
    environment = lmdb.open(str(tmp_path), max_dbs=6)
    for table, name in enumerate(NAMES):
        with environment.begin(environment.open_db(name.encode())) as transaction:
            assert dict(transaction.cursor()) == found[table]
    environment.close()
    assert pages.unread == 0
    assert not pages.lost_summary


def test_value_on_overflow_pages_is_read(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path), max_dbs=6)
    documents = environment.open_db(b"documents")
    with environment.begin(documents, write=True) as transaction:
        transaction.put(b"big", bytes(range(256)) * 100)
    environment.close()
    pages = Pages((tmp_path / "data.mdb").read_bytes())
    assert list(pages.entries()) == [(DOCUMENTS, b"big", bytes(range(256)) * 100)]
    assert pages.unread == 1  # the other tables do not exist


@pytest.mark.parametrize("data", [b"", b"x", bytes(4096), bytes(50_000), b"\xff" * 50_000])
def test_file_of_another_format_yields_no_entries(data: bytes) -> None:
    pages = Pages(data)
    assert list(pages.entries()) == []
    assert list(pages.stray_entries()) == []
    assert pages.unread
    assert pages.lost_summary


@pytest.mark.parametrize("block", range(4))
def test_reading_damaged_file_raises_no_error(tmp_path: Path, block: int) -> None:
    data = database_bytes(tmp_path)
    for seed in range(block * 100, block * 100 + 100):
        chance = random.Random(seed)
        broken = bytearray(data)
        for _ in range(chance.choice((1, 10, 200))):
            size = chance.choice((1, 2, 8, 512, 4096))
            at = chance.randrange(0, len(broken), size)
            broken[at : at + size] = chance.randbytes(len(broken[at : at + size]))
        if chance.random() < 0.2:
            del broken[chance.randrange(len(broken)) :]
        pages = Pages(bytes(broken))
        found = list(pages.entries())
        assert len(found) + len(list(pages.stray_entries())) < 100_000


def test_page_that_points_to_itself_is_visited_once(tmp_path: Path) -> None:
    data = bytearray(database_bytes(tmp_path))
    for page in range(2, len(data) // 4096):  # each branch page points to itself
        start = page * 4096
        if data[start + 10] == 1:
            first = int.from_bytes(data[start + 16 : start + 18], "little")
            data[start + first : start + first + 2] = page.to_bytes(2, "little")
    pages = Pages(bytes(data))
    assert sum(table == STREAMS for table, _, _ in pages.entries()) < 200
    assert pages.unread
