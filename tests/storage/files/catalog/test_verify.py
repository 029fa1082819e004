"""Tests of how faults of a catalog are found and described."""

import random
from pathlib import Path

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import LmdbCatalog, verify_catalog
from durable_streams_server.storage.files.catalog.database import Database
from durable_streams_server.storage.files.catalog.tables import STREAMS, WriteTransaction, seal
from durable_streams_server.storage.files.catalog.verify import entry_faults

from .values import META, flip, make, put


def test_intact_or_missing_catalog_has_no_findings(tmp_path: Path) -> None:
    assert verify_catalog(str(tmp_path)) == []
    make(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert verify_catalog(str(tmp_path)) == []
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_damaged_stream_entry_is_reported_with_its_path(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "data.mdb"
    whole, at, found = file.read_bytes(), -1, []
    while (at := whole.find(b"/123", at + 1)) >= 0:
        flip(file, at + 9)
        found += verify_catalog(str(tmp_path))
        file.write_bytes(whole)
    assert any(f.what == "the entry of the stream /123 is damaged" for f in found)
    assert not any(finding.harmless for finding in found)


@pytest.mark.parametrize("page", range(8))
def test_catalog_with_zeroed_page_opens_only_if_page_is_unused(tmp_path: Path, page: int) -> None:
    make(tmp_path)
    file = tmp_path / "data.mdb"
    data = bytearray(file.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    file.write_bytes(data)
    found = verify_catalog(str(tmp_path))
    if page < 2:
        assert found
    if found:
        with pytest.raises(Damaged, match="catalog: "):
            LmdbCatalog(str(tmp_path))
    else:
        catalog = LmdbCatalog(str(tmp_path))
        assert len(list(catalog.paths())) == 200
        catalog.close()


def test_verify_lists_twenty_findings_and_counts_the_rest(tmp_path: Path) -> None:
    database = Database(str(tmp_path))

    def fill(transaction: WriteTransaction) -> None:
        for number in range(100):
            transaction.store(STREAMS, b"/%d" % number, b"bad!")

    database.write(fill, lambda _: None)
    database.close()
    found = verify_catalog(str(tmp_path))
    assert len(found) == 21
    assert found[-1].what == "and 80 more findings"


def test_damaged_entry_of_each_table_is_described(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    keys = (b"meta", b"/a\xff", bytes(7) + b"\x05p", bytes(16), bytes(8), b"subscription/s")

    def fill(transaction: WriteTransaction) -> None:
        for table, key in enumerate(keys):
            transaction.store(table, key, b"bad!!")

    database.write(fill, lambda _: None)
    assert list(entry_faults(database)) == [
        "an entry in its table of meta is damaged",
        "the entry of the stream /a\\xff is damaged",
        "a producer of the incarnation 0000000000000005 is damaged",
        "an entry in its table of deadlines is damaged",
        "an entry in its table of garbage is damaged",
        "the document subscription/s is damaged",
    ]
    database.close()


def test_verify_reports_entry_that_look_ups_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(str(tmp_path))
    database.write(
        lambda transaction: transaction.store(STREAMS, b"/a", seal(b"/a", b"")), lambda _: None
    )
    assert list(entry_faults(database)) == []
    real = database.can_find
    monkeypatch.setattr(database, "can_find", lambda *_: False)
    expected = "look-ups in its table of streams miss entries from b'/a' on"
    assert next(entry_faults(database)) == expected
    assert not real(STREAMS, [(b"/a", b"other")])
    assert not real(STREAMS, [(b"/b", b"other")])
    database.close()


def test_damage_to_any_byte_of_second_copy_is_found(tmp_path: Path) -> None:
    make(tmp_path, streams=5)
    size = (tmp_path / "copy").stat().st_size
    chance = random.Random(0)
    for at in (0, 19, 20, size - 1, *(chance.randrange(size) for _ in range(100))):
        flip(tmp_path / "copy", at)
        found = verify_catalog(str(tmp_path))
        assert any(finding.file == "copy" for finding in found)
        flip(tmp_path / "copy", at)
    assert verify_catalog(str(tmp_path)) == []


def test_torn_end_of_second_copy_is_harmless(tmp_path: Path) -> None:
    make(tmp_path)
    with (tmp_path / "copy").open("ab") as file:
        file.write(b"\xd5rec torn")
    (found,) = verify_catalog(str(tmp_path))
    assert found.harmless
    assert "no whole record" in found.what


def test_missing_or_outdated_second_copy_is_harmless(tmp_path: Path) -> None:
    make(tmp_path)
    copy = tmp_path / "copy"
    data = copy.read_bytes()
    copy.unlink()
    (found,) = verify_catalog(str(tmp_path))
    assert (found.file, found.harmless) == ("copy", True)
    copy.write_bytes(data[:-100])
    found = verify_catalog(str(tmp_path))[-1]
    assert "2 commits of 3" in found.what
    assert found.harmless


def test_torn_first_commit_is_harmless(tmp_path: Path) -> None:
    LmdbCatalog(str(tmp_path)).close()
    (tmp_path / "copy").write_bytes(b"DSCOPY")
    (found,) = verify_catalog(str(tmp_path))
    assert (found.file, found.harmless) == ("copy", True)


def test_damaged_checksum_file_is_harmless(tmp_path: Path) -> None:
    make(tmp_path)
    flip(tmp_path / "SUM", 9)
    (found,) = verify_catalog(str(tmp_path))
    assert (found.file, found.harmless) == ("SUM", True)


def test_wrong_number_of_streams_is_found(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [put("/a")], [])
    catalog._tables.write(
        lambda transaction: transaction.store(STREAMS, b"/b", seal(b"/b", b"")), lambda _: None
    )
    catalog.close()
    assert "it holds 2 streams and says 1" in [f.what for f in verify_catalog(str(tmp_path))]


def test_missing_or_outdated_database_is_found(tmp_path: Path) -> None:
    make(tmp_path)
    old = (tmp_path / "data.mdb").read_bytes()
    catalog = LmdbCatalog(str(tmp_path))
    for number in range(2):
        catalog.commit(META, [put("/a", 9999 + number)], [])
    catalog.close()
    (tmp_path / "data.mdb").write_bytes(old)
    assert "older than its second copy" in verify_catalog(str(tmp_path))[-1].what
    (tmp_path / "data.mdb").unlink()
    assert "missing" in verify_catalog(str(tmp_path))[-1].what
