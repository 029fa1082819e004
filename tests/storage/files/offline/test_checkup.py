"""`check` and `check --repair` of whole directories: FORMAT, the catalog in both its copies, and a directory that cannot be written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server import CreateOptions, FileBackedStreamStore
from durable_streams_server.errors import Gone
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.directory import (
    DirectoryInUse,
    DirectoryRefused,
    UnknownFormat,
)
from durable_streams_server.storage.files.offline import checkup
from durable_streams_server.storage.files.offline.check import Finding
from durable_streams_server.storage.files.offline.checkup import Checkup, repair_directory
from tests.requests import NOW

SEGMENT = 1 << 20
LATER = NOW * 2


def opened(path: Path) -> FileBackedStreamStore:
    return FileBackedStreamStore(path, segment_size=SEGMENT)


def die(store: FileBackedStreamStore) -> None:
    """Ends a store without a checkpoint."""
    store.logs.close()
    store.wal.close()
    store._catalog.close()
    store._directory.release()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Streams of several kinds in two checkpoints, and records that only the log has."""
    path = tmp_path / "data"
    with opened(path) as store:
        store.create("/json", "application/json")
        store.create("/text", "text/plain", CreateOptions(ttl_seconds=100_000))
        store.create("/closed", "text/plain", CreateOptions(initial_data=b"all", closed=True))
        for number in range(10):
            store.append("/json", b'{"n":%d}' % number)
            store.append("/text", b"line %d\n" % number)
        store.create("/fork", options=CreateOptions(forked_from="/text"))
        store.append("/fork", b"own\n")
    store = opened(path)
    store.append("/text", b"late\n")
    die(store)
    return path


def found(path: Path) -> list[Finding]:
    return list(Checkup(str(path)).run())


def repaired(path: Path) -> str:
    assert any(not finding.harmless for finding in found(path))
    said = "\n".join(repair_directory(str(path), LATER))
    assert [finding for finding in found(path) if not finding.harmless] == []
    return said


TEXT = b"".join(b"line %d\n" % number for number in range(10))


def same_as_before(path: Path) -> None:
    with opened(path) as store:
        assert store.read("/text").data == TEXT + b"late\n"
        assert store.read("/fork").data == TEXT + b"own\n"
        assert len(store.read("/json").messages) == 10
        assert store.read("/closed").closed


def test_sound_directory_has_no_findings(directory: Path) -> None:
    assert found(directory) == []


@pytest.mark.parametrize("content", [None, b"", b"durable-streams-server d\x00ta, format 2\n"])
def test_lost_format_is_found_and_written_anew(directory: Path, content: bytes | None) -> None:
    file = directory / "FORMAT"
    whole = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DirectoryRefused):
        opened(directory)
    assert "FORMAT is written anew" in repaired(directory)
    assert file.read_bytes() == whole
    same_as_before(directory)


def test_format_of_a_later_version_is_left_alone(directory: Path) -> None:
    (directory / "FORMAT").write_bytes(b"durable-streams-server data, format 77\n")
    with pytest.raises(UnknownFormat):
        found(directory)
    with pytest.raises(UnknownFormat):
        list(repair_directory(str(directory), LATER))


def test_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectoryRefused, match="no store"):
        found(tmp_path)
    with pytest.raises(DirectoryRefused, match="no store"):
        list(repair_directory(str(tmp_path), LATER))
    assert list(tmp_path.iterdir()) == []


def test_directory_in_use_is_refused(directory: Path) -> None:
    with opened(directory), pytest.raises(DirectoryInUse):
        found(directory)


def test_check_changes_nothing(directory: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (directory, *directory.rglob("*"))}
    found(directory)
    (directory / "FORMAT").unlink()
    before.pop(directory / "FORMAT")
    before[directory] = directory.stat().st_mtime_ns
    found(directory)
    after = {path: path.stat().st_mtime_ns for path in (directory, *directory.rglob("*"))}
    assert after == before


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for at in range(0, len(content), 1000):
        content[at] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, Path.unlink])
@pytest.mark.parametrize("name", ["data.mdb", "copy"])
def test_one_damaged_copy_of_the_catalog_loses_nothing(
    directory: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(directory / "catalog" / name)
    if any(not finding.harmless for finding in found(directory)):
        repaired(directory)
    same_as_before(directory)


def test_catalog_is_made_again_from_what_is_left_when_both_copies_are_damaged(
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
    assert [finding for finding in found(directory) if not finding.harmless] == []


def test_store_does_not_open_over_logs_without_a_catalog(directory: Path) -> None:
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


def test_no_server_starts_before_a_cut_off_repair_has_finished(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data.mdb", "copy", "SUM"):
        damage(directory / "catalog" / name)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkup, "adopt", cut_off)
        with pytest.raises(KeyboardInterrupt):
            list(repair_directory(str(directory), LATER))
    with pytest.raises(DirectoryRefused):
        opened(directory)
    assert any("has not finished" in finding.what for finding in found(directory))
    repaired(directory)
    with opened(directory) as store:
        assert store.read("/text").data == TEXT + b"late\n"
