"""Tests that docs/settings.md shows the present settings."""

import re
import tomllib
from pathlib import Path

from docs.settings import PAGE, page
from durable_streams_server.cli.settings.loading import load_settings
from durable_streams_server.cli.settings.settings import ALL, OPTIONS


def test_tables_match_the_definition_of_the_settings() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make settings`"


def test_tables_list_every_setting_below_its_topic() -> None:
    _, *topics = page().split("\n### ")
    assert [topic.partition("\n")[0] for topic in topics] == [*OPTIONS]
    assert re.findall(r"^\| `([\w-]+)` \|", page(), re.M) == [setting.key for setting in ALL]


def test_example_on_the_page_is_a_valid_settings_file(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", page(), re.S)
    file = tmp_path / "streams.toml"
    file.write_text(text)
    assert load_settings(["--config", str(file)], {}).settings.max_body == 16 << 20
    assert len(tomllib.loads(text)) == 6
