"""Tests of the two formats of the log."""

import json
import logging
from typing import Any

import pytest

from durable_streams_server.cli.log_lines import ConsoleLines, JsonLines, formatter_of
from durable_streams_server.log import Escape

NASTY = 'a\nb\x1b[31m\x9b"\u202e\udce9'


def record(message: str = "hello", **more: Any) -> logging.LogRecord:
    """Returns a record as a handler with the filter of the server gets it."""
    made = logging.makeLogRecord(
        {
            "name": "durable_streams_server",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": message,
            "created": 1_764_320_402.1239,
            **more,
        }
    )
    Escape().filter(made)
    return made


def raised() -> Any:
    """Returns the `exc_info` of an exception whose message has several lines."""
    try:
        raise ValueError("first\nforged")
    except ValueError as error:
        return (type(error), error, error.__traceback__)


def test_json_line_has_time_level_logger_and_message() -> None:
    line = json.loads(JsonLines().format(record()))
    assert line == {
        "time": "2025-11-28T09:00:02.123Z",
        "level": "warning",
        "logger": "durable_streams_server",
        "message": "hello",
    }
    assert [*line] == ["time", "level", "logger", "message"]


def test_json_line_of_the_next_second_has_its_own_time() -> None:
    lines = JsonLines()
    texts = [lines.format(record(created=second)) for second in (59.0, 59.5, 60.25)]
    times = [json.loads(text)["time"] for text in texts]
    assert times == [
        "1970-01-01T00:00:59.000Z",
        "1970-01-01T00:00:59.500Z",
        "1970-01-01T00:01:00.250Z",
    ]


def test_json_line_contains_the_fields_of_the_record() -> None:
    line = json.loads(JsonLines().format(record(fields={"seconds": 1.5, "request_id": "abc"})))
    assert (line["seconds"], line["request_id"]) == (1.5, "abc")


@pytest.mark.parametrize("formatter", [JsonLines(), ConsoleLines()])
def test_message_and_fields_are_escaped(formatter: logging.Formatter) -> None:
    text = formatter.format(record(NASTY, fields={"agent": NASTY}))
    assert text.isprintable()
    assert text.count("b\\x1b[31m" if isinstance(formatter, ConsoleLines) else "\\\\x1b") >= 1


@pytest.mark.parametrize("more", [{"exc_info": raised()}, {"stack_info": "Stack\n  line\x1b"}])
def test_json_record_with_traceback_is_one_line(more: Any) -> None:
    text = JsonLines().format(record(**more))
    assert text.isprintable()
    line = json.loads(text)
    shown = line.get("exception") or line["stack"]
    assert "\n" in shown
    assert "\x1b" not in shown
    assert "first\nforged" not in shown


def test_json_line_shows_a_message_with_arguments() -> None:
    assert json.loads(JsonLines().format(record("%d of %s", args=(1, "x"))))["message"] == "1 of x"


def test_json_line_shows_values_that_json_lacks_as_text() -> None:
    line = json.loads(JsonLines().format(record(fields={"given": {1, 2}, "huge": object})))
    assert line["given"] == [1, 2]
    assert line["huge"] == "<class 'object'>"


def test_fields_that_are_no_dictionary_are_ignored() -> None:
    assert len(json.loads(JsonLines().format(record(fields="text")))) == 4


def test_console_line_has_date_time_level_and_message_and_then_the_fields() -> None:
    made = record("hello", fields={"status": 204, "path": "/a b", "agent": ""})
    text = ConsoleLines().format(made)
    date, clock, rest = text.split(" ", 2)
    assert (len(date), len(clock)) == (10, 12)
    assert rest == 'WARNING hello status=204 path="/a b" agent=""'
    assert ConsoleLines().format(record()).endswith(" WARNING hello")


def test_console_traceback_follows_its_message() -> None:
    first, *rest = ConsoleLines().format(record(exc_info=raised(), fields={"a": 1})).split("\n")
    assert first.endswith("WARNING hello a=1")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: first\\nforged"


def test_formatter_of_returns_the_formatter_of_a_name() -> None:
    assert isinstance(formatter_of("json"), JsonLines)
    assert isinstance(formatter_of("console"), ConsoleLines)
