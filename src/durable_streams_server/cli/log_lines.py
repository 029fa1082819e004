"""The two formats of the log: text for people, and lines of JSON for programs.

Both escape unprintable characters, in the message as well as in the fields, so that no client can forge a line or control a terminal.
"""

import logging
import time
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ..log import printable

LogFormat: TypeAlias = Literal["console", "json"]

_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


class ConsoleLines(logging.Formatter):
    """Formats a record as `time level message`, then its fields as `name=value`. The lines of a traceback follow."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name of the base class)
        """Returns the first line of a record."""
        line = super().formatMessage(record)
        fields = fields_of(record)
        return line + "".join(f" {name}={_word(value)}" for name, value in fields.items())


class JsonLines(logging.Formatter):
    """Formats a record as one line with a JSON object. A traceback is a field, so it takes no further line."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._begin = ""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a record as one line, without a line end."""
        line: dict[str, Any] = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        for name, value in fields_of(record).items():
            line[name] = printable(value) if isinstance(value, str) else value
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = _lines(record.exc_text)
        if record.stack_info:
            line["stack"] = _lines(record.stack_info)
        return _encode(line).decode()

    def _time(self, seconds: float) -> str:
        """Returns a time in UTC with milliseconds (RFC 3339). The text of the second is kept, because many records share it."""
        second = int(seconds)
        if second != self._second:
            self._begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._begin}.{int((seconds - second) * 1000):03d}Z"


def formatter_of(name: LogFormat) -> logging.Formatter:
    """Returns the formatter of a format."""
    return JsonLines() if name == "json" else ConsoleLines()


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Returns the fields of a record. Most records have none."""
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _word(value: object) -> str:
    """Returns a value for a console. A text is quoted if it is empty or has a space, a quote or an equals sign."""
    text = printable(str(value))
    if text and not any(character in text for character in ' "='):
        return text
    return _encode(text).decode()


def _lines(text: str) -> str:
    """Escapes each line of a traceback."""
    return "\n".join(map(printable, text.split("\n")))
