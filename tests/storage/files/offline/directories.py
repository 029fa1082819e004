"""A data directory with streams of several kinds, and helpers that check and repair it."""

from pathlib import Path

from durable_streams_server import CreateOptions, FileBackedStreamStore
from durable_streams_server.storage.files.offline.directory_check import DirectoryCheck
from durable_streams_server.storage.files.offline.directory_repair import repair_directory
from durable_streams_server.storage.files.offline.findings import Finding
from tests.requests import NOW

SEGMENT = 1 << 20
LATER = NOW * 2
TEXT = b"".join(b"line %d\n" % number for number in range(10))


def opened(path: Path) -> FileBackedStreamStore:
    return FileBackedStreamStore(path, segment_size=SEGMENT)


def die(store: FileBackedStreamStore) -> None:
    """Ends a store without a checkpoint, as a kill does."""
    store.logs.close()
    store.wal.close()
    store._catalog.close()
    store._directory.release()


def make_directory(path: Path) -> None:
    """Makes a directory with streams of several kinds in two checkpoints, and one record that only the write-ahead log has."""
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


def findings_in(path: Path) -> list[Finding]:
    """Returns the findings of a check of a directory."""
    return list(DirectoryCheck(str(path)).run())


def repaired(path: Path) -> str:
    """Repairs a damaged directory, and asserts that nothing is left to repair. Returns the messages of the repair."""
    assert any(not finding.harmless for finding in findings_in(path))
    said = "\n".join(repair_directory(str(path), LATER))
    assert [finding for finding in findings_in(path) if not finding.harmless] == []
    return said


def assert_nothing_is_lost(path: Path) -> None:
    with opened(path) as store:
        assert store.read("/text").data == TEXT + b"late\n"
        assert store.read("/fork").data == TEXT + b"own\n"
        assert len(store.read("/json").messages) == 10
        assert store.read("/closed").closed


def damage(file: Path) -> None:
    """Inverts one byte in every thousand of a file."""
    content = bytearray(file.read_bytes())
    for at in range(0, len(content), 1000):
        content[at] ^= 0xFF
    file.write_bytes(content)
