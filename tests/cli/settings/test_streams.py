"""Settings of a data directory together with `--memory`."""

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, load_settings


@pytest.mark.parametrize(
    "flags", [["--data-dir", "x"], ["--no-create"], ["--create"], ["--wal-size", "480m"]]
)
def test_memory_excludes_settings_of_a_directory(flags: list[str]) -> None:
    assert load_settings(flags, {})
    with pytest.raises(BadSettings) as refused:
        load_settings(["--memory", *flags], {})
    assert refused.value.message == f"--memory and {flags[0]} exclude each other"
