"""Collects the wire form of a large JSON body while it is validated, and the marks at which pages may be cut."""

from array import array
from io import BytesIO

from ..limits import MARK_SPACING
from .check import Values
from .refusals import too_many


class WireForm:
    """The wire form of one body, as far as the body has been validated.

    Args:
        max_messages: the maximum number of values.

    Attributes:
        write: a function that appends bytes of a value.
        messages: the number of values so far.
        marks: the ends of values that are at least `MARK_SPACING` apart.
    """

    __slots__ = ("_last_mark", "_max_messages", "_out", "marks", "messages", "write")

    def __init__(self, max_messages: int) -> None:
        self.messages = 0
        self.marks = array("Q")
        self._max_messages = max_messages
        self._last_mark = 0
        self._out = BytesIO()
        self.write = self._out.write

    def add_values(self, values: Values) -> None:
        """Appends whole values.

        Raises:
            TooLarge: TOO_MANY_MESSAGES.
        """
        self._count(len(values))
        out = self._out
        begin = out.tell()
        end = begin + out.write(b",".join(values)) + out.write(b",")
        if end - self._last_mark >= MARK_SPACING:
            position = begin
            for value in values:
                position += len(value) + 1
                if position - self._last_mark >= MARK_SPACING:
                    self._mark(position)

    def end_value(self) -> None:
        """Ends a value whose bytes were appended by `write`.

        Raises:
            TooLarge: TOO_MANY_MESSAGES.
        """
        self._out.write(b",")
        self._count(1)
        if self._out.tell() - self._last_mark >= MARK_SPACING:
            self._mark(self._out.tell())

    def finish(self) -> bytes:
        """Returns the wire form without copying it, and drops the mark at its end, if there is one."""
        wire = self._out.getvalue()
        if self.marks and self.marks[-1] == len(wire):
            self.marks.pop()
        return wire

    def _count(self, more: int) -> None:
        self.messages += more
        if self.messages > self._max_messages:
            raise too_many(self._max_messages)

    def _mark(self, position: int) -> None:
        self.marks.append(position)
        self._last_mark = position
