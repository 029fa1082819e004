"""Pages: bounded reads, stitched across forks, cut where a message or a character ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..errors import BadRequest
from ..protocol import json_mode
from ..protocol.media import Kind
from ..protocol.names import MARK_SPACING
from ..protocol.render import Page
from ..protocol.state import StreamState
from ..storage.store import Marks, Store
from ..storage.ticket import Ticket, repeat
from .large import LARGE, LargeReads, Run

_LONGEST_CHARACTER: Final = 4  # bytes of one UTF-8 character


class Reader:
    """Reads pages of a store's streams.

    Args:
        store: the store.
        large: reads large pages in turn, shared and within a budget; without it they are read as small ones are.
    """

    def __init__(self, store: Store, large: LargeReads | None = None) -> None:
        self._store = store
        self._large = large

    def page(self, state: StreamState, start: int, cap: int) -> Ticket[Page]:
        """Reads from `start` at most `cap` bytes, but at least one value or character.

        `start` must be a position that can be read from; see `check`.
        """
        tail, closed = state.visible_tail, state.visible_closed
        if state.media.kind is Kind.TEXT:
            cap = max(cap, _LONGEST_CHARACTER)
        limit = start + cap
        if tail <= limit:
            if start == tail:
                return Ticket.of(Page(state, start, tail, b"", True, closed))
            if tail - start >= LARGE and self._large is not None:
                return self._large_page(self._large, state, start, tail, tail, closed)
            return self._bytes(state, start, tail).then(
                lambda data: Ticket.of(Page(state, start, tail, data, True, closed))
            )
        if state.media.kind is Kind.JSON:
            return self._json_cut(state, start, limit).then(
                lambda end: self._cut_page(state, start, end, tail, closed)
            )
        return self._cut_page(state, start, limit, tail, closed)

    def may_begin(self, state: StreamState, position: int) -> bool:
        """Whether a read can begin at `position`, as far as the state alone tells; `check` looks into the stream."""
        return state.media.kind is not Kind.JSON or position in (0, state.visible_tail)

    def check(self, state: StreamState, position: int) -> Ticket[int]:
        """Returns `position` if a read can begin there.

        Raises:
            BadRequest: INVALID_OFFSET for a position inside a JSON value.
        """
        if self.may_begin(state, position):
            return Ticket.of(position)
        owner, _, upper = state.owned(position)
        return self._store.marks(owner, position).then(
            lambda marks: self._check_inside(state, position, marks, upper)
        )

    def next_append_end(self, state: StreamState, position: int) -> Ticket[int]:
        """Returns where the append that holds the byte at `position` ends, as far as the stream has it."""
        owner, _, end = state.owned(position)
        return self._store.marks(owner, position).then(
            lambda marks: Ticket.of(min(marks.append_end, end))
        )

    def value_ends(self, state: StreamState, start: int, end: int) -> Ticket[list[int]]:
        """Returns where the first JSON values between two value ends end: all up to the next mark, at least one."""
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
        self, state: StreamState, start: int, end: int, tail: int, closed: bool
    ) -> Ticket[Page]:
        def cut(data: bytes) -> Ticket[Page]:
            if state.media.kind is Kind.TEXT:
                data = _whole_characters(data)
            stop = start + len(data)
            return Ticket.of(Page(state, start, stop, data, stop == tail, closed and stop == tail))

        if end - start >= LARGE and self._large is not None:
            return self._large_page(self._large, state, start, end, tail, closed)
        return self._bytes(state, start, end).then(cut)

    def _large_page(
        self, large: LargeReads, state: StreamState, start: int, end: int, tail: int, closed: bool
    ) -> Ticket[Page]:
        """Reads a page that counts against the budget of what is being sent."""
        is_cut = state.media.kind is Kind.TEXT and end < tail

        def read() -> Ticket[bytes]:
            found = self._bytes(state, start, end)
            return found.then(lambda data: Ticket.of(_whole_characters(data))) if is_cut else found

        def page(run: Run) -> Ticket[Page]:
            stop = start + len(run.data)
            at_tail = stop == tail
            return Ticket.of(Page(state, start, stop, run.data, at_tail, closed and at_tail, run))

        run = (state.incarnation, start, end)
        if start < state.ancestry.end:
            parts = list(state.extents(start, end))
            run = parts[0] if len(parts) == 1 else run
        return large.read((*run, is_cut), read).then(page)

    def _json_cut(self, state: StreamState, start: int, limit: int) -> Ticket[int]:
        """Returns the last value end in (start, limit], or the first past it when one value is larger than the page."""
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

    def _check_inside(
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
        """Reads the bytes between a value's end and the next mark, as far as a value but the last may end there."""
        return self._bytes(state, start, min(upper, start + MARK_SPACING))

    def _bytes(self, state: StreamState, start: int, end: int) -> Ticket[bytes]:
        if start >= state.ancestry.end:
            return self._store.read_bytes(state.incarnation, start, end)
        parts = list(state.extents(start, end))
        if len(parts) == 1:
            return self._store.read_bytes(*parts[0])
        return self._stitch(parts)

    def _stitch(self, parts: Iterable[tuple[int, int, int]]) -> Ticket[bytes]:
        """Reads runs of several incarnations, one after the other."""
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


def _whole_characters(data: bytes) -> bytes:
    """Drops an incomplete last character; octets that are no UTF-8 are left as they are."""
    for back in range(1, min(_LONGEST_CHARACTER, len(data))):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:  # a leading octet: does its character end here?
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
    return data
