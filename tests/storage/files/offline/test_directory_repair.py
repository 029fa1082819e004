"""Tests of the repair of a whole data directory, above all of its catalog."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server.errors import Gone
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.directory import DirectoryRefused
from durable_streams_server.storage.files.offline import directory_repair
from durable_streams_server.storage.files.offline.directory_repair import repair_directory
from tests.storage.files.offline.directories import (
    LATER,
    TEXT,
    assert_nothing_is_lost,
    damage,
    findings_in,
    opened,
    repaired,
)


def test_repair_of_directory_without_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectoryRefused, match="no store"):
        list(repair_directory(str(tmp_path), LATER))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", [damage, Path.unlink])
@pytest.mark.parametrize("name", ["data.mdb", "copy"])
def test_damage_to_one_copy_of_catalog_loses_nothing(
    directory: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(directory / "catalog" / name)
    if any(not finding.harmless for finding in findings_in(directory)):
        repaired(directory)
    assert_nothing_is_lost(directory)


def test_repair_rebuilds_catalog_from_entries_when_both_copies_are_damaged(
    directory: Path,
) -> None:
    with opened(directory) as store:
        old = store.read("/text").next_offset
    for name in ("data.mdb", "copy", "SUM"):
        damage(directory / "catalog" / name)
    with pytest.raises(Damaged):
        opened(directory)
    repaired(directory)
    with opened(directory) as store:
        assert store.read("/text").data == TEXT + b"late\n"
        assert store.read("/fork").data == TEXT + b"own\n"
        assert [message.data for message in store.read("/json").messages] == [
            b'{"n":%d}' % number for number in range(10)
        ]
        stream = store.get("/text")
        assert stream is not None
        assert (stream.content_type, stream.ttl_seconds) == ("text/plain", 100_000)
        with pytest.raises(Gone):
            store.read("/text", old)
        store.append("/text", b"on\n")
    with opened(directory) as store:
        assert store.read("/text").data == TEXT + b"late\non\n"
    assert [finding for finding in findings_in(directory) if not finding.harmless] == []


def test_store_does_not_open_without_catalog_until_repair_rebuilds_it(directory: Path) -> None:
    shutil.rmtree(directory / "catalog")
    shutil.rmtree(directory / "wal")
    (directory / "catalog").mkdir()
    (directory / "wal").mkdir()
    with pytest.raises(Damaged, match="catalog"):
        opened(directory)
    said = repaired(directory)
    for path in ("/json", "/text", "/fork", "/closed"):
        assert f"{path}: it is made again from its log" in said
    with opened(directory) as store:
        assert len(store.read("/json").messages) == 10
        assert store.read("/fork").data == TEXT + b"own\n"
        assert store.read("/closed").data == b"all"
        stream = store.get("/text")
        assert stream is not None
        assert (stream.content_type, stream.ttl_seconds) == ("text/plain", 100_000)


def test_server_does_not_start_before_killed_repair_has_finished(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data.mdb", "copy", "SUM"):
        damage(directory / "catalog" / name)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(directory_repair, "adopt_logs", kill)
        with pytest.raises(KeyboardInterrupt):
            list(repair_directory(str(directory), LATER))
    with pytest.raises(DirectoryRefused):
        opened(directory)
    assert any("has not finished" in finding.what for finding in findings_in(directory))
    repaired(directory)
    with opened(directory) as store:
        assert store.read("/text").data == TEXT + b"late\n"
