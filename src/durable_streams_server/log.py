"""The loggers of the server. They write printable text only, whatever clients send.

Paths, headers and the messages of exceptions come from clients. Without escapes, they could forge log lines or control the terminal that
shows the log. A filter on each logger escapes them, so that callers need not. The filter of a logger does not see the records of child
loggers, so every module imports a logger from here and creates none of its own.

    from ..log import log as _log

The access log has a logger of its own, so that it can be switched on without the other messages of its level. A record may carry values
for programs in its attribute `fields`, which every format of the log shows:

    _log.warning("a request took long", extra={"fields": {"seconds": 2.5}})
"""

import logging
import traceback
from collections.abc import Iterator


def printable(text: str) -> str:
    """Returns `text` with unprintable characters, such as line breaks, replaced by Python escapes such as `\\x9b`."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")  # this also encodes lone surrogates
        for character in text
    )


class Escape(logging.Filter):
    """Escapes the text of each record and drops no record.

    A record with a printable message is not changed, because some handlers group records by their unformatted message.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Escapes a record's message, traceback and stack."""
        try:
            message = record.getMessage()
        except Exception:
            return True  # the handler will report the same error
        if not message.isprintable():
            record.msg, record.args = printable(message.rstrip("\n")), None
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            text = _traceback(record.exc_info[1])
            if "\\" in text:  # the text may contain escapes
                record.exc_text = text  # so that formatters use this text instead of the exception
        if record.stack_info:
            record.stack_info = _lines(record.stack_info)
        return True


def _traceback(error: BaseException) -> str:
    """Returns the traceback of an exception as text. Line breaks inside exception messages and notes are escaped."""
    text = "".join(traceback.format_exception(error)).removesuffix("\n")
    for shown in _multiline_texts(error):
        text = text.replace(shown, shown[0] + printable(shown[1:]))
    return _lines(text)


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _text(shown: object) -> str:
    try:
        return str(shown)
    except Exception:
        return ""  # the traceback reports that the text is not available


def _multiline_texts(error: BaseException) -> Iterator[str]:
    """Yields each message and note of several lines that a traceback shows, with the character before it in the traceback."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        message = _text(each)
        if "\n" in message:
            yield " " + message  # the name of the class comes before it
        for note in map(_text, getattr(each, "__notes__", ())):
            if "\n" in note:
                yield "\n" + note
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def errors_only(name: str) -> logging.Logger:
    """Returns the logger of a library, which logs only errors from now on.

    Some libraries log a warning about each wrong request. A client could fill the log with those.

    Args:
        name: the name of the logger.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.ERROR)
    return logger


log = logging.getLogger("durable_streams_server")
log.addFilter(Escape())
#: The access log. It writes nothing until its level is set.
access = logging.getLogger("durable_streams_server.access")
access.addFilter(Escape())
