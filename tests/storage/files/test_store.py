"""The file store, held to the contract of every store."""

import asyncio
import shutil
from pathlib import Path

import pytest

from durable_streams_server import CreateOptions
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.offline.checkup import Checkup, repair_directory
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.synchronous import Synchronous
from durable_streams_server.storage.store import Store
from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.requests import NOW, SECOND, create
from tests.storage.contract import StoreContract
from tests.storage.files.stores import new_disk, open_store, run

SEGMENT = 1024 * 1024


class Prompt(Synchronous):
    """A shell that commits as soon as it is told to."""

    def __init__(self, store: FileStore) -> None:
        super().__init__(*store.parts)
        self._committing = False

    def commit_due(self) -> None:
        if not self._committing:
            self._committing = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        self._committing = False
        self._commits.commit_once()


class TestFileStore(StoreContract):
    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self._path = tmp_path
        self._made = 0

    def make_store(self, max_producers: int = 100_000) -> Store:
        self._made += 1
        store = FileBackedStreamStore(
            self._path / str(self._made), segment_size=SEGMENT, max_producers=max_producers
        )
        store.shell = Prompt(store)
        return store


def test_blank_header_before_acknowledged_records_prevents_a_start() -> None:
    disk = new_disk()
    store = open_store(disk)
    for number in range(4):  # no checkpoint has told the catalog of them
        run(store, create(f"/{number}"))
    disk.open("wal/000").write(b"\0" * 4096, 0)
    with pytest.raises(Damaged, match="wal/000: its header is lost"):
        open_store(disk)


def _life(folder: Path, begins: int, *, tail: bytes) -> None:
    """Has one stream get bytes that the catalog knows, and bytes that only the write-ahead log has."""
    folder.mkdir()
    store = FileBackedStreamStore(folder, segment_size=SEGMENT, clock=lambda: NOW + begins)
    store.create("/a", "text/plain")
    store.append("/a", tail)
    store.run_checkpoint()
    store.append("/a", b"later")
    store.logs.close()
    store.wal.close()
    store._catalog.close()
    store._directory.release()


@pytest.mark.parametrize("begins", [0, 5 * SECOND])
def test_write_ahead_log_of_another_directory_is_refused(tmp_path: Path, begins: int) -> None:
    _life(tmp_path / "own", 0, tail=b"own bytes")
    _life(tmp_path / "other", begins, tail=b"bytes of another stream")
    shutil.rmtree(tmp_path / "own" / "wal")
    shutil.copytree(tmp_path / "other" / "wal", tmp_path / "own" / "wal")
    with pytest.raises(Damaged, match="record 3 does not follow from the catalog"):
        FileBackedStreamStore(tmp_path / "own", segment_size=SEGMENT)
    found = [each.what for each in Checkup(str(tmp_path / "own")).run() if not each.harmless]
    assert found
    words = list(repair_directory(str(tmp_path / "own"), NOW + 60 * SECOND))
    assert any(line.startswith("/a: ") for line in words)
    assert not [each for each in Checkup(str(tmp_path / "own")).run() if not each.harmless]
    with FileBackedStreamStore(tmp_path / "own", segment_size=SEGMENT) as store:
        state = store.find("/a").result()
        assert state is not None
        assert state.incarnation > NOW + 5 * SECOND  # its old offsets may have named lost bytes
        assert store.read_bytes(state.incarnation, 0, state.tail).result() == b"own bytes"


def test_record_that_creates_a_stream_where_one_is_does_not_follow(tmp_path: Path) -> None:
    _life(tmp_path / "own", 0, tail=b"own bytes")
    other = FileBackedStreamStore(tmp_path / "other", segment_size=SEGMENT)
    other.create("/b", "text/plain")
    other.create("/c", "text/plain")
    other.run_checkpoint()
    other.create("/a", "text/plain")
    other.logs.close()
    other.wal.close()
    other._catalog.close()
    other._directory.release()
    shutil.rmtree(tmp_path / "own" / "wal")
    shutil.copytree(tmp_path / "other" / "wal", tmp_path / "own" / "wal")
    with pytest.raises(Damaged, match="record 3 does not follow from the catalog"):
        FileBackedStreamStore(tmp_path / "own", segment_size=SEGMENT)


def test_fork_reads_its_source_no_further_than_the_catalog_proves(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        store.create("/source", "text/plain")
        store.append("/source", b"of the source")
        store.create("/fork", options=CreateOptions(forked_from="/source"))
    (index,) = (tmp_path / "logs").glob("*/*.idx")
    with index.open("ab") as file:
        file.write(bytes(48))  # as an unfinished checkpoint leaves it
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        state = store.find("/fork").result()
        assert state is not None
        (part,) = state.extents(0, state.visible_tail)
        assert store.read_bytes(*part).result() == b"of the source"
