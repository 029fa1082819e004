"""Makes standard output and standard error safe to print to, and texts safe to print.

A reader that goes away (`serve | head -1`), a full disk behind a redirected output, or a missing output (`>&-`) must not end a server or
leave a repair half done. So writes to the standard streams never fail: bytes that cannot be written are dropped, and `lost_output`
reports it at the end. Names that are not UTF-8 are printed as their original bytes. `shown` escapes texts from clients, such as the
paths of streams, so that they cannot control the terminal.
"""

import codecs
import errno
import io
import logging
import os
import select
import sys
from typing import Any, Final, TextIO

from ..log import Escape, printable
from .log_lines import LogFormat, formatter_of
from .log_writer import LogWriter

_STANDARD: Final = 3  # number of standard streams: input, output, error
#: Name of the codec error handler that prints file names as their original bytes.
_ERRORS: Final = "durable_streams_server.octets"


class _SafeFile(io.RawIOBase):
    """A file whose writes never fail. Bytes that cannot be written are dropped.

    Args:
        descriptor: The file descriptor to write to.

    Attributes:
        failure: The latest error that caused bytes to be dropped, or None.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Writes bytes and returns how many were written or dropped. Waits while a pipe is full."""
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
                return len(data)


def protect_outputs() -> None:
    """Makes sure that printing to standard output and standard error never fails. Programs call this before anything else."""
    _open_missing()
    codecs.register_error(_ERRORS, _encode_rest)
    sys.stdout = _protected(sys.stdout, 1)
    sys.stderr = _protected(sys.stderr, 2)


def lost_output() -> OSError | None:
    """Flushes standard output. Returns the error that caused a part of it to be lost, or None.

    If the reader of a pipe has closed it (EPIPE), nothing counts as lost.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _SafeFile):
        return None
    sys.stdout.flush()
    is_wanted = raw.failure is not None and raw.failure.errno != errno.EPIPE
    return raw.failure if is_wanted else None


def begin_log(level: str, log_format: LogFormat = "console") -> None:
    """Writes log messages of `level` and above to standard error. Unprintable characters are escaped, whichever logger writes them.

    A thread writes them, so that a full pipe or a paused terminal cannot stop the server.
    """
    handler = LogWriter()
    handler.addFilter(Escape())
    handler.setFormatter(formatter_of(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def flush_log() -> bool:
    """Waits a short time until the log is written. Returns False if nobody reads it, so that printing would block.

    A message that is printed next then follows the log.
    """
    writers = [each for each in logging.root.handlers if isinstance(each, LogWriter)]
    for writer in writers:
        writer.flush()
    return not any(writer.is_stuck for writer in writers)


def shown(text: str) -> str:
    """Returns `text` with unprintable characters escaped, except for the bytes of names that are not UTF-8."""
    if text.isprintable():
        return text
    return "".join(each if _is_raw_byte(each) else printable(each) for each in text)


def reason(error: BaseException) -> str:
    """Returns the message of an error as one line, without the number that Python puts before the text of an OSError."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown(" ".join(str(error).split())) or type(error).__name__


def _open_missing() -> None:
    """Opens `/dev/null` in place of missing standard streams.

    Otherwise the next file that the program opens would get the number of a standard stream, and error messages would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < _STANDARD:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _protected(stream: TextIO | None, descriptor: int) -> TextIO:
    """Returns a text stream whose writes never fail, to replace a standard stream. If a test has replaced that stream, returns it as it is."""
    if isinstance(stream, io.TextIOWrapper):
        try:
            if stream.fileno() != descriptor:
                return stream
        except OSError:
            return stream
        if isinstance(getattr(stream.buffer, "raw", None), _SafeFile):
            return stream
        stream.flush()
    elif stream is not None:
        return stream
    raw = _SafeFile(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stream is None else stream.encoding,
        errors=_ERRORS,
        line_buffering=True,
        write_through=descriptor == _STANDARD - 1,
    )


def _encode_rest(error: UnicodeError) -> tuple[bytes, int]:
    """Encodes characters that the encoding of a stream lacks: bytes of file names as they are, and others as escapes.

    This is a codec error handler. It returns the encoded bytes and the position at which to continue encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = [
        bytes([ord(each) - 0xDC00])
        if _is_raw_byte(each)
        else each.encode("ascii", "backslashreplace")
        for each in error.object[error.start : error.end]
    ]
    return b"".join(parts), error.end


def _is_raw_byte(character: str) -> bool:
    """Returns whether a character stands for a byte of a name that is not UTF-8 (PEP 383)."""
    return "\udc80" <= character <= "\udcff"
