"""Where values came from, and how messages name it."""

from pathlib import Path

import pytest
from click.core import ParameterSource

from durable_streams_server.cli.settings.loading import BadSettings, load_settings


def test_each_value_knows_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('page-size = "1m"\nport = 1\nhttp2 = false')
    sources = load_settings(
        ["--config", str(file), "--no-http2"],
        {"DURABLE_STREAMS_PORT": "2"},
    ).sources
    assert sources.text("page_size") == f"file {file}"
    assert sources.label("page_size") == f"'page-size' in {file}"
    assert sources.text("port") == "environment DURABLE_STREAMS_PORT"
    assert sources.label("port") == "DURABLE_STREAMS_PORT"
    assert sources.text("http2") == "flag --no-http2"
    assert sources.text("host") == "default"
    assert sources.label("host") == "--host"
    assert sources.kind("port") is ParameterSource.ENVIRONMENT
    assert [sources.is_given(name) for name in ("host", "port")] == [False, True]


def test_exclusion_names_both_sources(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('data-dir = "x"')
    with pytest.raises(BadSettings) as refused:
        load_settings(["--config", str(file)], {"DURABLE_STREAMS_MEMORY": "yes"})
    said = f"DURABLE_STREAMS_MEMORY and 'data-dir' in {file} exclude each other"
    assert refused.value.message == said
