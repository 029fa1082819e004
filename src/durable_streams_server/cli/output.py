"""What a command prints, to whoever still reads it.

A reader that goes away (`serve | head -1`), a full disk under a redirected output, or a command started without outputs at all
(`>&-`) is no reason to end a server, or to leave a repair half done. So standard output and error never fail: what cannot be
written is dropped, and `lost_output` says so at the end. Names that are not UTF-8 come out as the octets that they are. Texts from
clients, such as the paths of streams, pass through `shown`, so that they cannot drive the terminal.
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

_STANDARD: Final = 3  # descriptors: input, output, error
_ERRORS: Final = "durable_streams_server.octets"


class _Patient(io.RawIOBase):
    """A descriptor to write to that takes everything.

    Attributes:
        failure: why something was dropped.
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
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
                return len(data)


def hold_outputs() -> None:
    """Makes standard output and error such that nothing printed there can fail. A program calls it once, first of all."""
    _open_missing()
    codecs.register_error(_ERRORS, _as_octets)
    sys.stdout = _held(sys.stdout, 1)
    sys.stderr = _held(sys.stderr, 2)


def lost_output() -> OSError | None:
    """Returns why something of standard output was dropped, if it was by other than its reader's leave; flushes it first."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Patient):
        return None
    sys.stdout.flush()
    gone = raw.failure is None or raw.failure.errno == errno.EPIPE
    return None if gone else raw.failure


def begin_log(level: str) -> None:
    """Writes the log to standard error. The filter escapes what every logger says, also uvicorn's and asyncio's."""
    handler = logging.StreamHandler()
    handler.addFilter(Escape())
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        handlers=[handler],
    )


def shown(text: str) -> str:
    """Returns `text` with characters that are not printable as escapes. Octets of a name that is not UTF-8 stay as they are."""
    if text.isprintable():
        return text
    return "".join(each if _is_octet(each) else printable(each) for each in text)


def reason(error: BaseException) -> str:
    """Returns what is wrong in one line, without the number that Python begins the text of an OSError with."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown(" ".join(str(error).split())) or type(error).__name__


def _open_missing() -> None:
    """Opens what a program that was started without standard input, output or error lacks: else the next file that it opens
    would get the number, and be written to by whoever complains on standard error."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < _STANDARD:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _held(stream: TextIO | None, descriptor: int) -> TextIO:
    """Returns what takes the place of a standard stream, unless somebody has put something else there."""
    if isinstance(stream, io.TextIOWrapper):
        try:
            if stream.fileno() != descriptor:
                return stream
        except OSError:
            return stream
        if isinstance(getattr(stream.buffer, "raw", None), _Patient):
            return stream
        stream.flush()
    elif stream is not None:
        return stream
    raw = _Patient(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stream is None else stream.encoding,
        errors=_ERRORS,
        line_buffering=True,
        write_through=descriptor == _STANDARD - 1,
    )


def _as_octets(error: UnicodeError) -> tuple[bytes, int]:
    """Encodes what a stream's encoding cannot: octets of a name as they are, and other characters by their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = [
        bytes([ord(each) - 0xDC00]) if _is_octet(each) else each.encode("ascii", "backslashreplace")
        for each in error.object[error.start : error.end]
    ]
    return b"".join(parts), error.end


def _is_octet(character: str) -> bool:
    """Whether a character stands for an octet of a name that is not UTF-8 (PEP 383)."""
    return "\udc80" <= character <= "\udcff"
