"""The file store, held to the contract of every store."""

import asyncio
from pathlib import Path

import pytest

from durable_streams_server.storage.files.shell import Shell
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.wal import Damaged
from durable_streams_server.storage.store import Store
from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.requests import create
from tests.storage.contract import StoreContract
from tests.storage.files.stores import new_disk, open_store, run

SEGMENT = 1024 * 1024


class Prompt(Shell):
    """A shell that commits as soon as it is told to."""

    def __init__(self, store: FileStore) -> None:
        super().__init__(store)
        self._committing = False

    def commit_due(self) -> None:
        if not self._committing:
            self._committing = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        self._committing = False
        self._store.commit_once()


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
