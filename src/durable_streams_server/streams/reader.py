"""Reads pages of streams, across forks and their sources. A page has a bounded size, and ends at the end of an append or of a JSON value.

Clients of binary streams often write one complete frame per append. So no page holds a part of an append, and an append that is larger than
the page size is a page of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..errors import BadRequest
from ..protocol.existing import visible_position
from ..protocol.json import mode as json_mode
from ..protocol.limits import MARK_SPACING
from ..protocol.media import Kind, is_utf8
from ..protocol.offsets import Offset, Sentinel
from ..protocol.page import Page
from ..protocol.sse import complete_text
from ..protocol.state import StreamState
from ..storage.store import Marks, Store
from ..storage.ticket import Ticket, repeat
from .large import LARGE, LargeReads

#: Maximum bytes of an incomplete UTF-8 character at the end of an append.
_INCOMPLETE: Final = 3


def position_at(state: StreamState, offset: Offset | Sentinel) -> int:
    """Returns the byte position in a stream for the offset of a read.

    Raises:
        Gone: the offset belongs to an earlier incarnation of the path.
        BadRequest: the offset belongs to no known incarnation, or is past the tail.
    """
    if offset is Sentinel.START:
        return 0
    if isinstance(offset, Sentinel):
        return state.visible_tail
    return visible_position(state, offset)


class Reader:
    """Reads pages of a store's streams.

    Args:
        store: the store.
        large: reads large pages within a shared budget. If it is None, large pages are read like small ones.
    """

    def __init__(self, store: Store, large: LargeReads | None = None) -> None:
        self._store = store
        self._large = large

    def page(self, state: StreamState, start: int, cap: int) -> Ticket[Page]:
        """Reads a page of whole appends, or of whole JSON values. An append or value that is larger than `cap` is a page of its own.

        A page of UTF-8 text has at least one whole character, unless the stream has no more bytes.

        Args:
            state: the stream.
            start: the position of the first byte. `check` must have accepted it.
            cap: maximum bytes of the page.
        """
        tail, closed = state.visible_tail, state.visible_closed
        limit = start + cap
        if tail <= limit:
            if start == tail:
                return Ticket.of(Page(state, start, tail, b"", True, closed))
            if tail - start >= LARGE and self._large is not None:
                return self._large_page(self._large, state, start, tail, True, closed)
            return self._bytes(state, start, tail).then(
                lambda data: Ticket.of(Page(state, start, tail, data, True, closed))
            )
        is_json = state.media.kind is Kind.JSON
        cut = self._json_cut if is_json else self._append_cut
        return cut(state, start, limit).then(
            lambda end: self._cut_page(state, start, end, tail, closed, cap)
        )

    def check(self, state: StreamState, position: int) -> Ticket[int]:
        """Returns the position at which a read of `position` starts, if a read may start there.

        Normally that is `position` itself. A position one byte after the start of an append counts as that start, because the official Yjs
        server adds 1 to an offset to ask for the data after it. A read of UTF-8 text may also start inside the last character of an append if
        that character is incomplete, because events end before such a character.

        Raises:
            BadRequest: INVALID_OFFSET, the position is inside an append or a JSON value.
        """
        if position in (0, state.visible_tail):
            return Ticket.of(position)
        owner, begin, end = state.owned(position)
        marks = self._store.marks(owner, position)
        if state.media.kind is Kind.JSON:
            return marks.then(lambda found: self._check_value(state, position, found, end))
        if (
            marks.done and marks.result().lower == position
        ):  # the usual case, which saves further calls
            return Ticket.of(position)
        return marks.then(
            lambda found: self._check_append(
                state, position, max(found.lower, begin), min(found.upper, end)
            )
        )

    def next_append_end(self, state: StreamState, position: int) -> Ticket[int]:
        """Returns the end of the append that holds the byte at `position`. In a fork, that is at most the fork point."""
        owner, _, end = state.owned(position)
        return self._store.marks(owner, position).then(
            lambda marks: Ticket.of(min(marks.append_end, end))
        )

    def value_ends(self, state: StreamState, start: int, end: int) -> Ticket[list[int]]:
        """Returns the ends of the JSON values between `start` and the next mark, at least one end. `start` and `end` must be value ends."""
        owner, _, _ = state.owned(start)

        def find(upper: int) -> Ticket[list[int]]:
            return self._beginning(state, start, upper).then(lambda wire: listed(wire, upper))

        def listed(wire: bytes, upper: int) -> Ticket[list[int]]:
            ends = [start + stop for stop in json_mode.value_ends(wire)]
            if not ends or ends[-1] != upper:
                ends.append(upper)
            return Ticket.of(ends)

        return self._store.marks(owner, start).then(lambda marks: find(min(marks.upper, end)))

    def _cut_page(
        self, state: StreamState, start: int, end: int, tail: int, closed: bool, cap: int
    ) -> Ticket[Page]:
        """Reads a page whose end is known. A page larger than `cap` counts against the send budget even if it is small, because the memory for
        other pages is calculated from `cap`."""
        at_tail = end == tail
        closed = closed and at_tail
        if self._large is not None and (end - start >= LARGE or end - start > cap):
            return self._large_page(self._large, state, start, end, at_tail, closed)
        return self._bytes(state, start, end).then(
            lambda data: Ticket.of(Page(state, start, end, data, at_tail, closed))
        )

    def _large_page(
        self,
        large: LargeReads,
        state: StreamState,
        start: int,
        end: int,
        at_tail: bool,
        closed: bool,
    ) -> Ticket[Page]:
        """Reads a page that counts against the send budget."""
        key = (state.incarnation, start, end)
        if start < state.ancestry.end:
            parts = list(state.extents(start, end))
            key = parts[0] if len(parts) == 1 else key
        return large.read(key, lambda: self._bytes(state, start, end)).then(
            lambda run: Ticket.of(Page(state, start, end, run.data, at_tail, closed, run))
        )

    def _append_cut(self, state: StreamState, start: int, limit: int) -> Ticket[int]:
        """Returns the end of the last append in (start, limit], or the end of the append at `start` if that is larger."""
        least = start
        if is_utf8(state.media):
            least += _INCOMPLETE
            limit = max(limit, least + 1)  # for a cap that is smaller than a character
            if limit >= state.visible_tail:
                return Ticket.of(state.visible_tail)
        owner, begin, end = state.owned(limit)

        def cut(marks: Marks) -> Ticket[int]:
            lower = max(marks.lower, begin)
            return Ticket.of(lower if lower > least else min(marks.upper, end))

        return self._store.marks(owner, limit).then(cut)

    def _check_append(self, state: StreamState, position: int, begin: int, end: int) -> Ticket[int]:
        """Does the work of `check` for a binary or text stream. `begin` and `end` are the limits of the append that holds the position."""
        if position == begin:
            return Ticket.of(position)

        def check(rest: bytes) -> Ticket[int]:
            if rest and complete_text(rest, at_end=False) == 0:
                return Ticket.of(position)
            if position == begin + 1:
                return Ticket.of(begin)
            raise BadRequest("the offset is inside an append", "INVALID_OFFSET")

        if is_utf8(state.media) and end - position <= _INCOMPLETE:
            return self._bytes(state, position, end).then(check)
        return check(b"")

    def _json_cut(self, state: StreamState, start: int, limit: int) -> Ticket[int]:
        """Returns the end of the last JSON value in (start, limit], or the end of the value at `start` if that is larger."""
        owner, begin, end = state.owned(limit)

        def cut(marks: Marks) -> Ticket[int]:
            lower = max(marks.lower, begin)
            if lower > start:
                return Ticket.of(lower)
            upper = min(marks.upper, end)
            return self._beginning(state, start, upper).then(lambda wire: within(wire, upper))

        def within(wire: bytes, upper: int) -> Ticket[int]:
            last = json_mode.last_end(wire, limit - start)
            if last == 0:
                last = next(json_mode.value_ends(wire), upper - start)
            return Ticket.of(start + last)

        return self._store.marks(owner, limit).then(cut)

    def _check_value(
        self, state: StreamState, position: int, marks: Marks, end: int
    ) -> Ticket[int]:
        if marks.lower == position:
            return Ticket.of(position)

        def check(wire: bytes) -> Ticket[int]:
            length = position - marks.lower
            if length > len(wire) or json_mode.last_end(wire, length) != length:
                raise BadRequest("the offset is inside a JSON value", "INVALID_OFFSET")
            return Ticket.of(position)

        return self._beginning(state, marks.lower, min(marks.upper, end)).then(check)

    def _beginning(self, state: StreamState, start: int, upper: int) -> Ticket[bytes]:
        """Reads the bytes from a value end to the next mark, at most `MARK_SPACING` bytes. All values but the last end within these bytes."""
        return self._bytes(state, start, min(upper, start + MARK_SPACING))

    def _bytes(self, state: StreamState, start: int, end: int) -> Ticket[bytes]:
        if start >= state.ancestry.end:
            return self._store.read_bytes(state.incarnation, start, end)
        parts = list(state.extents(start, end))
        if len(parts) == 1:
            return self._store.read_bytes(*parts[0])
        return self._stitch(parts)

    def _stitch(self, parts: Iterable[tuple[int, int, int]]) -> Ticket[bytes]:
        """Reads runs of bytes of several incarnations one after the other, and joins them."""
        waiting = iter(parts)
        read: list[bytes] = []

        def step() -> Ticket[bytes | None]:
            part = next(waiting, None)
            if part is None:
                return Ticket.of(b"".join(read))
            return self._store.read_bytes(*part).then(keep)

        def keep(data: bytes) -> Ticket[bytes | None]:
            read.append(data)
            return Ticket.of(None)

        return repeat(step)
