"""`LogWriter`: writes the log on a thread of its own, so that a slow or paused reader of the log cannot stop the server.

A full pipe or a terminal that is paused (Ctrl-S) blocks whoever writes to it. So the server only adds lines to a queue. The queue is
bounded, and further lines are dropped and counted. As soon as lines can be written again, a line tells how many were dropped.
"""

import io
import logging
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from ..protocol.units import MIB

#: Maximum bytes of lines that wait to be written.
LOG_BYTES: Final = 4 * MIB
#: Seconds between two writes, so that a busy access log does not switch threads for each line.
_GATHERING: Final = 0.01
#: Seconds that a stop waits for the reader of the log.
_PATIENCE: Final = 1.0


class LogWriter(logging.Handler):
    """Formats records where they are logged, and writes their lines on a thread.

    Args:
        write: Writes some bytes, and returns how many it wrote. May block. None means standard error.
        limit: Maximum bytes of lines that wait.

    Attributes:
        dropped: Number of lines that were dropped and are not reported yet.
        is_stuck: Whether the last flush ended before all lines were written, and the thread has written nothing since.
    """

    def __init__(self, write: Callable[[bytes], int] | None = None, limit: int = LOG_BYTES) -> None:
        super().__init__()
        self._write = write or _writer_of(sys.stderr)
        self._limit = limit
        self._lines: list[bytes] = []
        self._size = 0  # bytes that wait, and those that are being written
        self.dropped = 0
        self.is_stuck = False
        self._changed = threading.Condition()
        self._is_closed = False
        self._flushing = 0  # calls of `flush` that wait
        self._gathering = False  # whether the thread waits a moment for more lines
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queues the line of a record, or drops it if too much waits already. Never blocks."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        self.add(line)

    def add(self, line: bytes) -> None:
        """Queues a line, or drops it."""
        with self._changed:
            if self._is_closed or self._size + len(line) > self._limit:
                self.dropped += 1
                return
            self._size += len(line)
            self._lines.append(line)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="durable-streams-log", daemon=True
                )
                self._thread.start()
            elif len(self._lines) == 1 and not self._gathering:
                self._changed.notify_all()

    def flush(self) -> None:
        """Waits until all lines are written, for at most a second. Does not wait again for a reader who reads nothing."""
        until = time.monotonic() + (0 if self.is_stuck else _PATIENCE)
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            while self._size and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._flushing -= 1
            self.is_stuck = self._size > 0

    def close(self) -> None:
        """Writes what waits, and ends the thread unless it is blocked. Later records are dropped."""
        self.flush()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        """Writes lines until the writer is closed."""
        while True:
            with self._changed:
                while not (self._lines or self.dropped or self._is_closed):
                    self._changed.wait()
                if not (self._lines or self.dropped):
                    return
                lines, self._lines = self._lines, []
                dropped, self.dropped = self.dropped, 0
            data = b"".join(lines)
            self._write_all(data + self._report(dropped) if dropped else data)
            with self._changed:
                self._size -= len(data)
                self.is_stuck = False
                self._changed.notify_all()
                if not (self._flushing or self._is_closed):
                    self._gathering = True
                    self._changed.wait(_GATHERING)
                    self._gathering = False

    def _write_all(self, data: bytes) -> None:
        """Writes bytes in as many steps as necessary. Bytes that cannot be written are dropped, because there is nowhere to report that."""
        view = memoryview(data)
        while view:
            try:
                written = self._write(bytes(view[:65536]))
            except (OSError, ValueError):
                return
            view = view[written:]

    def _report(self, dropped: int) -> bytes:
        """Returns the line about dropped lines."""
        record = logging.makeLogRecord(
            {
                "name": "durable_streams_server",
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "msg": "lines of the log were dropped, because nobody read them in time",
                "fields": {"dropped": dropped},
            }
        )
        return self.format(record).encode() + b"\n"


def _writer_of(stream: TextIO) -> Callable[[bytes], int]:
    """Returns a function that writes bytes to a text stream.

    It bypasses the buffer of the stream. Otherwise a blocked thread would hold the lock of the buffer, which Python needs to exit.
    """
    raw: Any = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, io.RawIOBase):
        return lambda data: _write_some(raw, data)

    def write(data: bytes) -> int:
        stream.write(data.decode("utf-8", "replace"))
        stream.flush()
        return len(data)

    return write


def _write_some(raw: io.RawIOBase, data: bytes) -> int:
    """Writes bytes and returns how many were written. If a non-blocking output is full, waits until it has room again."""
    written = raw.write(data)
    if written is None:
        select.select((), (raw,), (), _PATIENCE)
        return 0
    return written
