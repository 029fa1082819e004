"""The bytes that a checkpoint writes to the logs, gathered in steps, because a stream may have 300,000 appends that are not in its log.

The capture of a state only notes the stream's tail. Later appends follow after that position, and the bytes before it stay in memory until
the log has them. So the bytes can be gathered later, in steps. If the stream is removed, the rest is gathered at once.

The index entries are encoded in the same steps on the event loop. A thread that encoded them would compete with the loop for the
GIL. The loop releases the GIL at each call of a socket and might wait 0.5 ms to get it back, so each request would delay the others by 0.5 ms.
"""

from array import array
from typing import Final

from ...protocol.state import StreamState
from ..recent import Pieces, Recent
from .flush import FlushWork
from .index import encode, label_of
from .log_layout import Extent

_RUN: Final = 500  # appends gathered at once, which takes 0.25 ms
#: Minimum bytes of a run whose entries the checkpoint's thread encodes. The checksums of such a run take 0.1 ms, and the thread computes them
#: without holding the GIL.
_LARGE: Final = 512 * 1024


class _Rest:
    """The bytes of one stream that are not gathered yet.

    Args:
        recent: the stream's recent bytes.
        start: the position of the first byte to gather.
        end: the position after the last byte to gather.
        pieces: receives the pieces.
        entries: receives their index entries, one item for each run.
    """

    __slots__ = ("_at", "_end", "_entries", "_pieces", "_recent")

    def __init__(
        self,
        recent: Recent,
        start: int,
        end: int,
        pieces: Pieces,
        entries: list[tuple[int, bytes | None]],
    ) -> None:
        self._recent = recent
        self._at = start
        self._end = end
        self._pieces = pieces
        self._entries = entries

    @property
    def is_empty(self) -> bool:
        """Whether everything is gathered."""
        return self._at == self._end

    def take(self, *, encodes: bool = True) -> int:
        """Gathers the next run, and returns the number of its pieces. Encodes the run's index entries unless `encodes` is false."""
        run = self._recent.pieces(self._at, self._end, _RUN)
        self._pieces.extend(run)
        encodes = encodes and run.end - self._at < _LARGE
        self._entries.append((len(run), encode(run) if encodes else None))
        self._at = run.end
        return len(run)


class Gathering:
    """Gathers the bytes that one checkpoint writes to the logs.

    Attributes:
        flushes: the bytes to add to each log, complete once `is_complete` is true.
    """

    def __init__(self) -> None:
        self.flushes: list[FlushWork] = []
        self._rests: dict[int, _Rest] = {}

    def add(self, state: StreamState, recent: Recent, extent: Extent) -> int:
        """Adds a stream's bytes between its log's end and its present tail, and returns the number of their pieces."""
        count = recent.count(extent.tail, state.tail)
        if count:
            words = None if extent.entries else label_of(state)
            pieces = Pieces(array("Q"), [])
            entries: list[tuple[int, bytes | None]] = []
            self.flushes.append(FlushWork(state.incarnation, extent, pieces, words, entries))
            rest = _Rest(recent, extent.tail, state.tail, pieces, entries)
            self._rests[state.incarnation] = rest
        return count

    @property
    def is_complete(self) -> bool:
        """Whether the bytes of every stream are gathered."""
        return not self._rests

    def take_some(self, most: int) -> None:
        """Gathers runs until they have `most` pieces together or nothing is left."""
        taken = 0
        while self._rests and taken < most:
            incarnation, rest = self._rests.popitem()
            taken += rest.take()
            if not rest.is_empty:
                self._rests[incarnation] = rest

    def take_rest(self, incarnation: int) -> None:
        """Gathers all that is left of a stream, because the store is about to forget the stream's bytes."""
        rest = self._rests.pop(incarnation, None)
        while rest is not None and not rest.is_empty:
            rest.take(encodes=False)
