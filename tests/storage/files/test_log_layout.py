"""Tests of the paths of logs."""

from durable_streams_server.storage.files.log_layout import directory_of, path_of
from tests.storage.files.flushing import ID


def test_log_paths_spread_over_many_directories() -> None:
    assert len({directory_of(ID + n) for n in range(2000)}) > 100


def test_path_of_a_log_is_its_directory_and_16_digits() -> None:
    directory, _, name = path_of(7).rpartition("/")
    assert directory == directory_of(7)
    assert name == "0000000000000007"
