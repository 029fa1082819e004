"""Contradictions between settings of several topics, and values that the server derives from settings."""

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, load_settings
from durable_streams_server.cli.settings.settings import ALL, Settings
from durable_streams_server.storage.files.wal_sizes import DEFAULT_SIZE


def test_every_setting_has_an_attribute() -> None:
    assert sorted(vars(Settings())) == sorted(option.name for option in ALL)


def test_write_ahead_log_grows_with_the_largest_body() -> None:
    assert Settings().wal_size_for_body() == DEFAULT_SIZE
    settings = load_settings(["--max-body", "100m"], {}).settings
    assert settings.wal_size_for_body() > 6 * settings.max_body


def test_write_ahead_log_that_is_too_small_for_a_body_is_refused() -> None:
    flags = ["--max-body", "2m", "--wal-size"]
    with pytest.raises(BadSettings) as refused:
        load_settings([*flags, "12m"], {})
    assert refused.value.message.startswith(
        "--wal-size 12582912 is too small for --max-body 2097152"
    )
    needed = int(refused.value.message.split()[-1])
    assert load_settings([*flags, str(needed)], {}).settings.wal_size_for_body() == needed
    with pytest.raises(BadSettings):
        load_settings([*flags, str(needed - 1)], {})
