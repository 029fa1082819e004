"""The server's one logger. What it writes is printable, whatever clients send.

Paths, headers and the texts of exceptions come from clients. Written raw, they could forge lines of the log or drive the terminal
that shows it. A filter on the logger escapes them, so that no call has to remember it. A logger's filter does not see the records
of child loggers, so every module imports this one logger and makes none of its own.

    from ..log import log as _log
"""

import logging
import traceback
from collections.abc import Iterator


def printable(text: str) -> str:
    """Returns `text` with every character that is not printable as a Python escape, such as `\\x9b`. Line breaks are among them."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")  # also of lone surrogates
        for character in text
    )


class Escape(logging.Filter):
    """Lets every record through, with its text escaped.

    A record whose message is printable stays as it is, since some handlers group records by their unformatted message.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Escapes a record's message, traceback and stack."""
        try:
            message = record.getMessage()
        except Exception:
            return True  # the handler reports it, as it does without this filter
        if not message.isprintable():
            record.msg, record.args = printable(message.rstrip("\n")), None
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            text = _traceback(record.exc_info[1])
            if "\\" in text:  # perhaps an escape
                record.exc_text = text  # formatters take it instead
        if record.stack_info:
            record.stack_info = _lines(record.stack_info)
        return True


def _traceback(error: BaseException) -> str:
    """Returns the traceback of an exception, in which only the line breaks of the traceback itself are left."""
    text = "".join(traceback.format_exception(error)).removesuffix("\n")
    for words in _words(error):
        text = text.replace(words, words[0] + printable(words[1:]))
    return _lines(text)


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _text(shown: object) -> str:
    try:
        return str(shown)
    except Exception:
        return ""  # the traceback says that it has no text


def _words(error: BaseException) -> Iterator[str]:
    """Yields the texts of more than one line that a traceback shows, each after the character that stands before it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        message = _text(each)
        if "\n" in message:
            yield " " + message  # after the name of its class
        for note in map(_text, getattr(each, "__notes__", ())):
            if "\n" in note:
                yield "\n" + note
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


log = logging.getLogger("durable_streams_server")
log.addFilter(Escape())
