"""Tests of where logs stand."""

from durable_streams_server.storage.files.log_layout import directory_of
from tests.storage.files.flushing import ID


def test_log_paths_spread_over_many_directories() -> None:
    assert len({directory_of(ID + n) for n in range(2000)}) > 100
