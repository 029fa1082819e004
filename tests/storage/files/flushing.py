"""Helpers that write pieces to logs as a checkpoint does."""

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.flush import FlushWork
from durable_streams_server.storage.files.log_layout import Extent
from durable_streams_server.storage.files.logs import Logs
from durable_streams_server.storage.recent import Piece, Pieces

#: The incarnation of the stream that most tests write.
ID = 1_750_000_000_000_000
#: The extent of a log that does not exist yet.
NEW = Extent(0, 0, 0)


def write(logs: Logs, item: FlushWork) -> None:
    """Writes pieces to one log durably.

    Raises:
        Damaged: the log is damaged.
    """
    flush = logs.begin_flush(1)
    flush.write([item])
    flush.sync()
    for damage in flush.damaged.values():
        raise Damaged(damage)


def append(logs: Logs, incarnation: int, extent: Extent, *parts: bytes) -> Extent:
    """Writes byte strings to a log durably, each as one append, and returns the new extent."""
    end, pieces = extent.tail, []
    for part in parts:
        end += len(part)
        pieces.append(Piece(end, part))
    write(logs, FlushWork(incarnation, extent, Pieces.of(pieces)))
    return Extent(extent.base, end, extent.entries + len(parts))
