"""What a checkpoint takes of streams' newest bytes: a run of appends at a time, for a stream may have 300,000 that no log has.

When a state is captured, only the position of its end is noted. Appends go on behind it, and what is before it stays in memory
until a log has it. So the bytes can be taken later, in steps, unless the stream is removed: then the rest is taken at once.

The index entries are encoded in the same steps. A thread that encodes them holds the interpreter against the loop, which asks for
it anew with each socket that it serves: each request then waited half a millisecond for each of the others.
"""

from array import array
from typing import Final

from ...protocol.state import StreamState
from ..recent import Pieces, Recent
from .flush import FlushWork
from .index import encode, label_of
from .log_layout import Extent

_RUN: Final = 500  # appends taken at once: 0.25 ms
#: Bytes of a run from which on the thread encodes its entries: checksums of so many take 0.1 ms, and there the interpreter is free.
_LARGE: Final = 512 * 1024


class _Rest:
    """The pieces of one stream that are yet to be taken.

    Args:
        recent: the stream's newest bytes.
        start: from where they are taken.
        end: up to where.
        pieces: gains them.
        entries: gains their index entries.
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
        """Whether all is taken."""
        return self._at == self._end

    def take(self, *, encodes: bool = True) -> int:
        """Takes the next run, with its entries if that is wanted; returns how many pieces it has."""
        run = self._recent.pieces(self._at, self._end, _RUN)
        self._pieces.extend(run)
        encodes = encodes and run.end - self._at < _LARGE
        self._entries.append((len(run), encode(run) if encodes else None))
        self._at = run.end
        return len(run)


class Gathering:
    """What one checkpoint brings to the logs.

    Attributes:
        flushes: for each log, what is added; complete when nothing is left.
    """

    def __init__(self) -> None:
        self.flushes: list[FlushWork] = []
        self._rests: dict[int, _Rest] = {}

    def add(self, state: StreamState, recent: Recent, extent: Extent) -> int:
        """Adds what a stream has after its log's extent, up to its tail now; returns how many pieces that is."""
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
        """Whether everything is taken."""
        return not self._rests

    def take_some(self, most: int) -> None:
        """Takes runs until they have so many pieces together, or nothing is left."""
        taken = 0
        while self._rests and taken < most:
            incarnation, rest = self._rests.popitem()
            taken += rest.take()
            if not rest.is_empty:
                self._rests[incarnation] = rest

    def take_rest(self, incarnation: int) -> None:
        """Takes all that is left of a stream, whose bytes are about to be forgotten."""
        rest = self._rests.pop(incarnation, None)
        while rest is not None and not rest.is_empty:
            rest.take(encodes=False)
