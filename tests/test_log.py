"""The log escapes unprintable text, so that clients can neither forge lines nor control a terminal."""

import ast
import io
import logging
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import durable_streams_server
from durable_streams_server.log import Escape, errors_only, log, printable

SOURCE = Path(durable_streams_server.__file__).parent
#: Line break, BEL, DEL, C1 control sequence introducer, next line, line separator, bidirectional override, and a byte that is not UTF-8.
NASTY = "a\nb\x07\x7f\x9b31m\x85\u2028\u202e\udc80\r\tz"
ESCAPED = r"a\nb\x07\x7f\x9b31m\x85\u2028\u202e\udc80\r\tz"


@pytest.fixture
def lines() -> Iterator[Callable[[], list[str]]]:
    """Returns a function that returns the lines that a handler of the root logger has written."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield lambda: written.getvalue().split("\n")[:-1]
    root.removeHandler(handler)


def test_printable_text_is_unchanged() -> None:
    for text in ("", "/v1/stream/a b", "naïve 数据 🙂", r"a\nb"):
        assert printable(text) is text


def test_unprintable_characters_are_escaped() -> None:
    assert printable(NASTY) == ESCAPED
    for code in range(0x110000):
        shown = printable(chr(code))
        assert shown.isprintable()
        assert (shown == chr(code)) == (
            unicodedata.category(chr(code))[0] not in "CZ" or shown == " "
        )


def test_message_is_escaped_with_its_arguments(lines: Callable[[], list[str]]) -> None:
    log.error("the stream %s is damaged: %d", NASTY, 7)
    assert lines() == [f"ERROR the stream {ESCAPED} is damaged: 7"]


def test_printable_log_record_has_unchanged_arguments(caplog: pytest.LogCaptureFixture) -> None:
    log.error("the stream %s is damaged", "/a")
    (record,) = caplog.records
    assert record.msg == "the stream %s is damaged"
    assert record.args == ("/a",)


def test_record_that_cannot_be_formatted_is_passed_to_handler() -> None:
    record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "%d of %d", ("x",), None)
    assert Escape().filter(record) is True
    assert record.args == ("x",)


def test_traceback_keeps_only_its_own_line_breaks(lines: Callable[[], list[str]]) -> None:
    try:
        try:
            raise KeyError(NASTY)
        except KeyError as error:
            raise ValueError("first\nERROR forged " + NASTY) from error
    except ValueError:
        log.exception("failed")
    written = lines()
    assert written[0] == "ERROR failed"
    assert written[1] == "Traceback (most recent call last):"
    assert written[-1] == r"ValueError: first\nERROR forged " + ESCAPED
    assert sum("KeyError" in line for line in written) >= 1
    assert all(line.isprintable() for line in written)
    assert not any(line.startswith("ERROR forged") for line in written)


def test_notes_and_exception_groups_are_escaped(lines: Callable[[], list[str]]) -> None:
    inner = ValueError(NASTY + "\nERROR forged")
    inner.add_note("x\nERROR forged " + NASTY)
    log.error("failed", exc_info=ExceptionGroup("many\nERROR forged", [inner]))
    written = lines()
    assert all(line.isprintable() for line in written)
    assert not any(line.startswith("ERROR forged") for line in written)
    assert any("\\x9b31m" in line for line in written)


def test_note_of_exception_forges_no_log_line(lines: Callable[[], list[str]]) -> None:
    error = ValueError("x")
    error.add_note("x\nERROR forged")
    log.error("failed", exc_info=error)
    assert lines()[-1] == r"x\nERROR forged"


@pytest.mark.parametrize("message", ["\n", "\n  ", ":\n", ""])
def test_traceback_is_intact_if_exception_message_is_only_line_breaks(
    message: str, lines: Callable[[], list[str]]
) -> None:
    try:
        raise ValueError(message)
    except ValueError:
        log.exception("failed")
    written = lines()
    assert written[1] == "Traceback (most recent call last):"
    assert written[-1] == f"ValueError: {printable(message)}".removesuffix(": ")
    assert len(written) >= 5


def test_exception_whose_str_fails_is_logged(
    lines: Callable[[], list[str]],
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    error = Mute()
    error.__context__ = error
    log.error("failed", exc_info=error)
    assert lines()[0] == "ERROR failed"


def test_stack_info_of_log_record_is_escaped(lines: Callable[[], list[str]]) -> None:
    record = logging.LogRecord(
        "a", logging.ERROR, "a.py", 1, "x", (), None, sinfo="Stack\n  File \x9b"
    )
    assert Escape().filter(record) is True
    assert record.stack_info == "Stack\n  File \\x9b"


def test_logger_of_a_library_logs_only_errors(caplog: pytest.LogCaptureFixture) -> None:
    logger = errors_only("tests.a_library")
    logger.warning("a client has sent nonsense")
    logger.error("the disk is gone")
    assert caplog.messages == ["the disk is gone"]


def test_no_module_creates_another_logger() -> None:
    """The filter of the logger does not see the records of child loggers, so no module may create one."""
    for path in SOURCE.rglob("*.py"):
        if path == SOURCE / "log.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            assert name not in ("getLogger", "getChild", "makeRecord"), path
