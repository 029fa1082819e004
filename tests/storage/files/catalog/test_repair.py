"""A damaged catalog is repaired by the best way there is."""

import shutil
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec
import pytest

from durable_streams_server.storage.files.catalog import LmdbCatalog, repair_catalog, verify_catalog
from durable_streams_server.storage.files.catalog.entries import Entry, Put

from .values import META, entry_of_empty_stream, flip, make, put


def logged(entry: Entry) -> Entry:
    """Returns an entry that says that its stream has a log."""
    return msgspec.structs.replace(entry, index_entries=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make(tmp_path / "catalog")
    return tmp_path / "catalog"


def mend(path: Path, logs: AbstractSet[int] = frozenset()) -> list[str]:
    return repair_catalog(str(path), str(path.parent / "quarantine"), logs.__contains__)


def streams(path: Path) -> int:
    catalog = LmdbCatalog(str(path))
    found = len(list(catalog.paths()))
    catalog.close()
    assert not [finding for finding in verify_catalog(str(path)) if not finding.harmless]
    return found


def test_whole_catalog_is_left_alone(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert mend(path) == []
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_damaged_database_is_made_from_its_copy(path: Path) -> None:
    (path / "data.mdb").write_bytes(b"damaged")
    assert "from its second copy" in mend(path)[-1]
    assert streams(path) == 200


def test_damaged_copy_is_made_from_the_database(path: Path) -> None:
    flip(path / "copy", 3000)
    assert "written anew" in mend(path)[-1]
    assert streams(path) == 200


@pytest.mark.parametrize("has_sum", [True, False])
def test_what_is_left_of_both_is_put_together(path: Path, has_sum: bool) -> None:
    """The copy has lost its last commit, which looks as if a crash had cut it off."""
    flip(path / "copy", (path / "copy").stat().st_size - 3)
    if not has_sum:
        (path / "SUM").unlink()
    data = bytearray((path / "data.mdb").read_bytes())
    data[:4096] = bytes(4096)
    (path / "data.mdb").write_bytes(data)
    done = mend(path)
    assert any("cannot be read" in what for what in done)
    assert "made again from 200 streams' entries" in done[-1]
    assert streams(path) == 200


def test_database_that_is_older_than_its_copy_is_made_again(path: Path) -> None:
    old = (path / "data.mdb").read_bytes()
    catalog = LmdbCatalog(str(path))
    for number in range(3):
        catalog.commit(META, [put(f"/new/{number}", 9999 + number)], [])
    catalog.close()
    (path / "data.mdb").write_bytes(old)
    assert "from its second copy" in mend(path)[-1]
    assert streams(path) == 203


@pytest.mark.parametrize("name", ["data.mdb", "copy"])
@pytest.mark.parametrize("has_sum", [True, False])
def test_file_of_another_directory_never_wins(tmp_path: Path, name: str, has_sum: bool) -> None:
    logs = {number: set(range(number * 1000, number * 1000 + 50)) for number in (1, 2)}
    for number, incarnations in logs.items():
        catalog = LmdbCatalog(str(tmp_path / str(number)))
        changes = [Put(f"/{n}", logged(entry_of_empty_stream(n)), {}) for n in incarnations]
        catalog.commit(META, [*changes], [])
        catalog.close()
    shutil.copy(tmp_path / "2" / name, tmp_path / "1")
    if not has_sum:
        (tmp_path / "1" / "SUM").unlink()
    assert mend(tmp_path / "1", logs[1])
    catalog = LmdbCatalog(str(tmp_path / "1"))
    assert {entry.incarnation for _, entry in catalog.paths()} == logs[1]
    catalog.close()


def test_directory_without_a_catalog_needs_no_repair(tmp_path: Path) -> None:
    assert mend(tmp_path) == []
