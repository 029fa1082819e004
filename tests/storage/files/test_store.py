"""Runs the contract tests, which every store must pass, on the file store."""

import asyncio
from pathlib import Path

import pytest

from durable_streams_server.protocol.decisions.quota import Quota
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.synchronous import Synchronous
from durable_streams_server.storage.store import Store
from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.storage.contract import StoreContract
from tests.storage.contract_base import NO_QUOTA

SEGMENT = 1024 * 1024


class Prompt(Synchronous):
    """A shell that commits on the event loop itself, in the turn after a commit becomes due."""

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

    def make_store(self, max_producers: int = 100_000, quota: Quota = NO_QUOTA) -> Store:
        self._made += 1
        store = FileBackedStreamStore(
            self._path / str(self._made), segment_size=SEGMENT, max_producers=max_producers
        )
        store.limit(quota)
        store.shell = Prompt(store)
        return store
