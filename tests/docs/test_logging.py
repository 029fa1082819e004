"""Tests that check docs/logging.md against the code."""

import json
import re
from pathlib import Path

import pytest

from durable_streams_server.cli.log_writer import _PATIENCE, LOG_BYTES
from durable_streams_server.http.observing import access_log, slow_log
from durable_streams_server.http.observing.described import SHOWN
from durable_streams_server.http.observing.routes import ROUTES
from durable_streams_server.http.observing.trace_export import _PATIENCE as TRACE_PATIENCE
from durable_streams_server.storage.slow_work import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "logging.md").read_text("utf-8")


def rows(section: str, table: int = 0) -> list[str]:
    """Returns the first cells of a table of a section, without their marks.

    Args:
        section: the heading of the section.
        table: the number of the table in the section.
    """
    text = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return re.findall(r"^\| `(\w+)` \|", tables[table], re.M)


def test_table_lists_the_fields_of_the_access_log() -> None:
    assert rows("Access log") == [*access_log.FIELDS]


def test_tables_list_the_fields_of_slow_requests_and_the_kinds_of_work() -> None:
    assert rows("Slow operations") == [*slow_log.FIELDS]
    assert rows("Slow operations", 1) == [*KINDS]


def test_page_names_every_route_and_every_parameter_that_is_shown() -> None:
    shown = set(re.findall(r"`(\w+)`", TEXT))
    assert {route for route in ROUTES if route} <= shown
    assert set(SHOWN) <= shown
    assert {"exception", "stack"} <= shown


def test_example_line_has_the_fields_of_every_line() -> None:
    (text,) = re.findall(r"```json\n(.*?)\n```", TEXT, re.S)
    assert [*json.loads(text)][:4] == ["time", "level", "logger", "message"]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("4 MiB of lines wait", LOG_BYTES == 4 << 20),
        ("at most a second for the reader", _PATIENCE == 1),
        ("at most two seconds for the collector", TRACE_PATIENCE == 2),
        ("At most 20 requests are logged in a minute", slow_log._MOST == 20),
    ],
)
def test_numbers_on_the_page_are_those_of_the_code(words: str, value: bool) -> None:
    assert words in TEXT
    assert value
