"""Tests of rebuilding one copy of the catalog from the other. Replaced files stay in the quarantine."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import (
    LmdbCatalog,
    rebuild,
    rebuild_from_copy,
    rebuild_from_entries,
    rewrite_copy,
    salvage_entries,
    verify_catalog,
)
from durable_streams_server.storage.files.system_disk import SystemDisk

from .values import META, Content, commit_at_random, content_of, copied, make


class Killed(BaseException):
    """Ends a rebuild as a kill would."""


def content(path: Path) -> Content:
    catalog = LmdbCatalog(str(path), readonly=True)
    found = content_of(catalog._tables)
    catalog.close()
    return found


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A catalog with twenty commits."""
    chance, known = random.Random(5), dict[str, int]()
    catalog = LmdbCatalog(str(tmp_path / "catalog"))
    for _ in range(20):
        commit_at_random(catalog, chance, known)
    catalog.tidy()
    catalog.close()
    return tmp_path / "catalog"


def test_damaged_database_is_rebuilt_from_second_copy(made: Path) -> None:
    before, quarantine = content(made), made.parent / "quarantine"
    (made / "data.mdb").write_bytes(b"damaged")
    done = rebuild_from_copy(str(made), str(quarantine))
    assert done == [
        "catalog/data.mdb is now quarantine/catalog-data.mdb",
        "catalog/data.mdb is made again from its second copy, as of commit 20",
    ]
    assert (quarantine / "catalog-data.mdb").read_bytes() == b"damaged"
    assert content(made) == before
    assert sorted(os.listdir(made)) == ["copy", "data.mdb"]
    catalog = LmdbCatalog(str(made))
    catalog.commit(META, [], [])
    catalog.close()
    assert verify_catalog(str(made)) == []


def test_rebuild_overwrites_no_file_in_quarantine(made: Path) -> None:
    before, quarantine = content(made), made.parent / "quarantine"
    quarantine.mkdir()
    (quarantine / "catalog-data.mdb").write_bytes(b"earlier")
    (made / "data.mdb").unlink()
    rebuild_from_copy(str(made), str(quarantine))
    assert content(made) == before
    rebuild_from_copy(str(made), str(quarantine))
    assert content(made) == before
    assert sorted(os.listdir(quarantine)) == ["catalog-data.mdb", "catalog-data.mdb.2"]
    assert (quarantine / "catalog-data.mdb").read_bytes() == b"earlier"


def test_rebuild_from_damaged_second_copy_raises_damaged(made: Path) -> None:
    before = (made / "data.mdb").read_bytes()
    copy = bytearray((made / "copy").read_bytes())
    copy[len(copy) // 2] ^= 1
    (made / "copy").write_bytes(copy)
    with pytest.raises(Damaged, match="missing or damaged"):
        rebuild_from_copy(str(made), str(made.parent / "quarantine"))
    (made / "copy").unlink()
    with pytest.raises(Damaged, match="missing or damaged"):
        rebuild_from_copy(str(made), str(made.parent / "quarantine"))
    assert (made / "data.mdb").read_bytes() == before
    assert not (made.parent / "quarantine").exists()


def test_damaged_second_copy_is_rewritten_from_database(made: Path) -> None:
    before = content(made)
    (made / "copy").write_bytes(b"damaged")
    done = rewrite_copy(str(made), str(made.parent / "quarantine"))
    assert done[0] == "catalog/copy is now quarantine/catalog-copy"
    assert copied(SystemDisk(made)) == content(made) == before
    assert verify_catalog(str(made)) == []


def test_rewrite_from_damaged_database_raises_damaged(made: Path) -> None:
    (made / "data.mdb").write_bytes(b"damaged")
    before = (made / "copy").read_bytes()
    with pytest.raises(Damaged, match=r"data\.mdb"):
        rewrite_copy(str(made), str(made.parent / "quarantine"))
    assert (made / "copy").read_bytes() == before


def test_database_is_rebuilt_from_entries(made: Path) -> None:
    before = content(made)
    salvage = salvage_entries(str(made))
    done = rebuild_from_entries(str(made), str(made.parent / "quarantine"), salvage)
    assert len(done) == 3
    assert sorted(os.listdir(made.parent / "quarantine")) == ["catalog-copy", "catalog-data.mdb"]
    assert content(made) == before
    LmdbCatalog(str(made)).close()
    assert copied(SystemDisk(made)) == content(made) == before


@pytest.mark.parametrize("step", range(7))
def test_killed_rebuild_can_be_run_again(
    made: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(made)
    (made / "data.mdb").write_bytes(b"damaged")
    steps: list[object] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            steps.append(function)
            if len(steps) == step + 1:
                raise Killed
            return function(*arguments, **named)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", counted(os.replace))
        for name in ("unlink", "rename", "sync_directory"):
            patched.setattr(SystemDisk, name, counted(getattr(SystemDisk, name)))
        patched.setattr(shutil, "rmtree", counted(shutil.rmtree))
        with pytest.raises(Killed):
            rebuild_from_copy(str(made), str(made.parent / "quarantine"))
    rebuild_from_copy(str(made), str(made.parent / "quarantine"))
    assert content(made) == before
    kept = [file.read_bytes() for file in (made.parent / "quarantine").iterdir()]
    assert b"damaged" in kept


def test_rebuild_in_several_transactions_keeps_all_entries(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(made)
    monkeypatch.setattr(rebuild, "_BATCH", 7)
    rebuild_from_copy(str(made), str(made.parent / "quarantine"))
    assert content(made) == before


def test_rebuilt_database_has_all_streams(tmp_path: Path) -> None:
    make(tmp_path / "catalog")
    rebuild_from_copy(str(tmp_path / "catalog"), str(tmp_path / "quarantine"))
    catalog = LmdbCatalog(str(tmp_path / "catalog"))
    assert len(list(catalog.paths())) == 200
    assert catalog.meta().streams == 200
    catalog.close()
