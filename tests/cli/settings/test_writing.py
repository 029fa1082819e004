"""Settings written as TOML."""

import re
import tomllib
from pathlib import Path

import pytest

from durable_streams_server.cli.settings.definition import Setting
from durable_streams_server.cli.settings.loading import load_settings
from durable_streams_server.cli.settings.settings import ALL, Settings
from durable_streams_server.cli.settings.writing import example, line, range_text
from tests.cli.settings.samples import good, parsed


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.key)
def test_written_value_is_read_back(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    value = good(setting)
    if setting.multiple:
        value = value[:1]
    file.write_text(line(setting, value))
    assert parsed(["--config", str(file)])[0][setting.name] == value


@pytest.mark.parametrize("text", ['"', "\\", "\x7f", "\n", "é", "🙂", "'"])
def test_any_text_is_written_as_toml(text: str) -> None:
    (data_dir,) = (setting for setting in ALL if setting.name == "data_dir")
    assert tomllib.loads(line(data_dir, text)) == {"data-dir": text}


def test_example_with_every_default_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=\S)", "", example(), flags=re.M)
    values = tomllib.loads(text)
    assert set(values) == {setting.key for setting in ALL if setting.default is not None}
    for each in (text, example()):
        file = tmp_path / "a.toml"
        file.write_text(each)
        assert load_settings(["--config", str(file)], {}).settings == Settings()


def test_example_has_a_valid_value_for_every_setting_without_default(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    examples = re.findall(r"^# Example: (.*)$", example(), flags=re.M)
    assert len(examples) == sum(setting.default is None for setting in ALL)
    file.write_text("\n".join(examples))
    assert parsed(["--config", str(file)])


def test_example_has_short_lines() -> None:
    assert max(map(len, example().splitlines())) <= 100


def test_ranges_are_told_in_words() -> None:
    told = {setting.key: range_text(setting) for setting in ALL}
    assert told["port"] == "from 0 to 65535"
    assert told["max-connections"] == "at least 1"
    assert told["sse-max-age"] == "above 0 to 86400"
    assert told["page-size"] == "1k to 1g"
    assert told["http"] == "native, asgi"
    assert told["host"] == told["memory"] == ""
