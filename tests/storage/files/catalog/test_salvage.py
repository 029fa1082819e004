"""Tests of salvaging entries when the database and its second copy are both damaged."""

import os
import random
from pathlib import Path

import msgspec
import pytest

from durable_streams_server.storage.files.catalog import (
    Drop,
    LmdbCatalog,
    Put,
    Salvage,
    rebuild_from_entries,
    salvage_entries,
    verify_catalog,
)
from durable_streams_server.storage.files.catalog.salvage import read_meta
from durable_streams_server.storage.files.catalog.tables import DOCUMENTS, PRODUCERS, STREAMS

from .values import META, content_of, flip, make, put

PAGE = 4096


def leaf_with(path: Path, needle: bytes) -> int:
    """Returns the page with the live entry of a key. Older versions of the entry may be on unused pages."""
    file = path / "data.mdb"
    whole, at = file.read_bytes(), -1
    while (at := whole.find(needle, at + 1)) >= 0:
        flip(file, at + len(needle) + 6)
        found = any(needle.decode() in finding.what for finding in verify_catalog(str(path)))
        file.write_bytes(whole)
        if found:
            return at // PAGE
    raise AssertionError("the entry is on no page")


def zero(file: Path, page: int) -> None:
    """Fills one page of a file with zeros."""
    data = bytearray(file.read_bytes())
    data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    file.write_bytes(data)


def content(path: Path) -> list[dict[bytes, bytes]]:
    catalog = LmdbCatalog(str(path), readonly=True)
    found = content_of(catalog._tables)
    catalog.close()
    return found


def test_intact_catalog_is_salvaged_completely(tmp_path: Path) -> None:
    make(tmp_path)
    salvage = salvage_entries(str(tmp_path))
    assert salvage.tables == content(tmp_path)
    assert salvage.notes == []
    assert salvage.doubtful == frozenset()
    assert salvage.meta.lsn == 7


def test_salvaged_metadata_has_the_numbers_of_salvaged_streams_and_bytes(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [sized_put(f"/{number:03d}", number) for number in range(1, 200)], [])
    catalog.close()
    page = leaf_with(tmp_path, b"/100")
    (tmp_path / "copy").unlink()
    zero(tmp_path / "data.mdb", page)
    salvage = salvage_entries(str(tmp_path))
    assert 0 < len(salvage.paths) < 199
    assert salvage.meta.streams == len(salvage.paths)
    assert salvage.meta.stored == sum(int(path[1:]) for path in salvage.paths)


def sized_put(name: str, size: int) -> Put:
    """Returns a catalog change that writes a stream with some bytes."""
    return Put(name, msgspec.structs.replace(put(name, size).entry, tail=size), {})


def test_all_entries_are_salvaged_from_database_alone(tmp_path: Path) -> None:
    make(tmp_path)
    before = content(tmp_path)
    for data in (b"x", None):
        if data is not None:
            (tmp_path / "copy").write_bytes(data)
        else:
            (tmp_path / "copy").unlink()
        salvage = salvage_entries(str(tmp_path))
        assert salvage.tables == before
        assert "second copy" in salvage.notes[0]


def test_all_entries_are_salvaged_from_second_copy_alone(tmp_path: Path) -> None:
    make(tmp_path)
    before = content(tmp_path)
    for data in (None, b"", b"rubbish", bytes(50_000)):
        (tmp_path / "data.mdb").unlink()
        if data is not None:
            (tmp_path / "data.mdb").write_bytes(data)
        else:
            assert "missing" in salvage_entries(str(tmp_path)).notes[0]
        salvage = salvage_entries(str(tmp_path))
        assert salvage.tables == before
        (tmp_path / "data.mdb").touch()


def test_fifo_in_place_of_database_is_ignored(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "data.mdb").unlink()
    os.mkfifo(tmp_path / "data.mdb")  # opening a FIFO would block
    assert read_meta(str(tmp_path)) == (None, False)
    assert salvage_entries(str(tmp_path)).meta is not None  # taken from the copy


def test_entries_of_lost_page_are_salvaged_from_damaged_second_copy(tmp_path: Path) -> None:
    catalog = make(tmp_path, commits=1)
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [put("/late", 5000)], [])
    catalog.close()
    before = content(tmp_path)
    zero(tmp_path / "data.mdb", leaf_with(tmp_path, b"/123"))
    flip(tmp_path / "copy", (tmp_path / "copy").stat().st_size - 5)  # in the second commit
    salvage = salvage_entries(str(tmp_path))
    assert set(salvage.tables[STREAMS]) == set(before[STREAMS])
    assert "/123" in salvage.doubtful  # the lost commit may have changed it
    assert "/late" not in salvage.doubtful
    assert len(salvage.notes) == 2


def test_deleted_stream_is_not_salvaged_or_is_marked_doubtful(tmp_path: Path) -> None:
    make(tmp_path, commits=1)
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Drop("/7", 8)], [])
    catalog.close()
    whole = (tmp_path / "data.mdb").read_bytes()
    page = leaf_with(tmp_path, b"/123")
    zero(tmp_path / "data.mdb", page)
    assert "/7" not in salvage_entries(str(tmp_path)).paths  # the copy has the deletion
    # Damage the record of the deletion in the copy.
    flip(tmp_path / "copy", (tmp_path / "copy").stat().st_size - 5)
    salvage = salvage_entries(str(tmp_path))
    assert "/7" not in salvage.paths or "/7" in salvage.doubtful
    (tmp_path / "data.mdb").write_bytes(whole)
    assert "/7" not in salvage_entries(str(tmp_path)).paths  # the database has the deletion


def test_entries_are_salvaged_without_meta_pages(tmp_path: Path) -> None:
    make(tmp_path, commits=1)
    before = content(tmp_path)
    (tmp_path / "copy").unlink()
    for page in (0, 1):
        zero(tmp_path / "data.mdb", page)
    salvage = salvage_entries(str(tmp_path))
    assert salvage.tables[STREAMS] == before[STREAMS]
    assert salvage.tables[PRODUCERS] == before[PRODUCERS]
    assert salvage.doubtful == frozenset(salvage.paths)
    assert salvage.meta.lsn == 0
    assert any("summary" in note for note in salvage.notes)


def test_commit_that_only_second_copy_has_is_salvaged(tmp_path: Path) -> None:
    make(tmp_path, commits=1)
    old = (tmp_path / "data.mdb").read_bytes()
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Drop("/7", 8), put("/new", 9999)], [], {"keys": None})
    catalog.close()
    after = content(tmp_path)
    (tmp_path / "data.mdb").write_bytes(old)
    salvage = salvage_entries(str(tmp_path))
    assert salvage.tables == after
    assert salvage.tables[DOCUMENTS] == {}


def test_second_copy_of_another_directory_is_ignored(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", streams=300)
    (tmp_path / "a" / "copy").write_bytes((tmp_path / "b" / "copy").read_bytes())
    zero(tmp_path / "a" / "data.mdb", leaf_with(tmp_path / "a", b"/123"))
    salvage = salvage_entries(str(tmp_path / "a"))
    assert "/250" not in salvage.paths
    assert any("another directory's" in note for note in salvage.notes)


@pytest.mark.parametrize("block", range(4))
def test_salvage_of_randomly_damaged_files_finds_no_false_entries(
    tmp_path: Path, block: int
) -> None:
    make(tmp_path / "whole", commits=2)
    before = content(tmp_path / "whole")
    files = {name: (tmp_path / "whole" / name).read_bytes() for name in ("data.mdb", "copy", "SUM")}
    for seed in range(block * 10, block * 10 + 10):
        path = tmp_path / str(seed)
        path.mkdir()
        chance = random.Random(seed)
        for name, data in files.items():
            broken = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(broken))
                broken[at : at + 100] = chance.randbytes(len(broken[at : at + 100]))
            (path / name).write_bytes(broken)
        salvage = salvage_entries(str(path))
        known = set(before[STREAMS])
        assert set(salvage.tables[STREAMS]) <= known
        certain = set(salvage.paths) - salvage.doubtful
        assert all(
            salvage.tables[STREAMS][name.encode()] == before[STREAMS][name.encode()]
            for name in certain
        )
        assert len(salvage.paths) > len(known) // 2
        assert salvage.notes
        assert_rebuilds(path, salvage)


def assert_rebuilds(path: Path, salvage: Salvage) -> None:
    """Rebuilds a database from salvaged entries, and requires that it has no faults."""
    rebuild_from_entries(str(path), str(path.parent / "quarantine"), salvage)
    catalog = LmdbCatalog(str(path))
    assert sorted(name for name, _ in catalog.paths()) == sorted(salvage.paths)
    catalog.commit(META, [put("/more", 1 << 50)], [])
    catalog.close()
    assert not [finding for finding in verify_catalog(str(path)) if not finding.harmless]
