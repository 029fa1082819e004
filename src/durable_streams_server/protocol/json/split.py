"""Turns a large JSON body into its wire form in short steps, with little memory besides the body and the wire form.

Whole elements of the top-level array are checked and cut by msgspec, a window of the body at a time. An element larger than a
window is cut after any comma, colon or opening bracket outside strings. Such a piece is valid in its place exactly if it is
valid with its containers opened anew before it and closed after it. A string or a number larger than a window is checked
in slices. So msgspec judges every byte, and this only keeps the stack of open brackets between the pieces.

    splitter = Splitter(body)
    while splitter.step():
        ...  # other work
    splitter.wire, splitter.marks
"""

import re
from array import array
from collections.abc import Callable
from io import BytesIO
from typing import Final

from ...errors import BadRequest
from ..limits import MARK_SPACING, MAX_JSON_DEPTH, MAX_MESSAGES
from ..units import KIB
from . import scan as json_scan
from .check import (
    Values,
    check_depth,
    check_text,
    check_value,
    elements,
    empty_array,
    invalid,
    refuse_mark,
    too_deep,
    too_many,
)
from .context import SEPARATORS, After, closes, closing, opening

WINDOW: Final = 32 * KIB  # bytes of one step; the slowest kinds of JSON take 2 ms for it
_COMMAS: Final = 4096  # in one step, about; each may be an object of its own for a moment
_SMALL: Final = 64  # bytes of the end of a large element that are read token by token
_MISSES: Final = 16  # guesses of a comma's place that may fail before there are no more
_SPACE: Final = b" \t\n\r"
_BLANKS: Final = re.compile(rb"[ \t\n\r]*+")
_NUMBER_PART: Final = re.compile(rb"[-+.0-9eE]*+")
_LITERAL: Final = re.compile(rb"true|false|null")
#: Digits after two others. A number is valid exactly if it is valid without them.
_DIGITS: Final = re.compile(rb"(?<=[0-9]{2})[0-9]++")


class Splitter:
    """Splits one body.

    Args:
        body: the body.
        allow_empty: whether an empty array is a body without values (PUT) or an error (POST), PROTOCOL 9.1.3.
        window: bytes that one step looks at, 8 or more.
        max_messages: the most values that the body may have.

    Attributes:
        wire: the wire form, once `step` has returned False.
        marks: the ends of values in `wire` that are at least MARK_SPACING apart, without the last.
        messages: how many values there are so far.
    """

    __slots__ = (
        "_after",
        "_allow_empty",
        "_at",
        "_base",
        "_body",
        "_end",
        "_ends_before",
        "_last_mark",
        "_max_messages",
        "_misses",
        "_mode",
        "_number",
        "_out",
        "_stack",
        "_string_after",
        "_window",
        "marks",
        "messages",
        "wire",
    )

    def __init__(
        self,
        body: bytes,
        *,
        allow_empty: bool = False,
        window: int = WINDOW,
        max_messages: int = MAX_MESSAGES,
    ) -> None:
        self.wire = b""
        self.marks = array("Q")
        self.messages = 0
        self._body = body
        self._at = 0
        self._end = len(body)
        self._allow_empty = allow_empty
        self._window = window
        self._max_messages = max_messages
        self._out: BytesIO | None = BytesIO()
        self._last_mark = 0
        self._misses = 0
        self._base = 0  # brackets that are open between two messages
        self._stack = b""  # brackets that are open
        self._after = After.COLON
        self._string_after = After.VALUE  # what a long string leaves behind
        self._ends_before = 0  # a place that is past the end of the large value, once one is known
        self._number = b""  # a long number, without most of its digits
        # A function and not a bound method, which would make a cycle that keeps the body until a collection.
        self._mode: Callable[[Splitter], None] | None = Splitter._begin

    @property
    def position(self) -> int:
        """How many bytes from the body's beginning are done with."""
        return self._at

    def step(self) -> bool:
        """Does a millisecond or so of the work, and returns whether there is more.

        Raises:
            BadRequest: INVALID_JSON, EMPTY_ARRAY.
            TooLarge: TOO_MANY_MESSAGES.
        """
        mode = self._mode
        if mode is not None:
            try:
                mode(self)
            except BaseException:
                self.release()
                raise
        return self._mode is not None

    def release(self) -> None:
        """Ends the work and lets the body go."""
        self._mode = None
        self._body = b""
        self._out = None

    # -- the whole body -----------------------------------------------------

    def _begin(self) -> None:
        """Finds where the text ends, then where it begins."""
        if self._at == 0 and self._end == len(self._body):
            refuse_mark(self._body)
        tail = self._body[max(0, self._end - self._window) : self._end]
        self._end -= len(tail) - len(tail.rstrip(_SPACE))
        if self._end == 0:
            raise invalid("the body is not valid JSON: it has no value")
        if self._body[self._end - 1] in _SPACE:
            return
        self._mode = Splitter._first

    def _first(self) -> None:
        if self._skip():
            return
        if self._body.startswith(b"[", self._at):
            if self._body[self._end - 1 : self._end] != b"]" or self._end - self._at < 2:
                raise invalid("the body is not valid JSON: its array has no end")
            self._at += 1
            self._end -= 1
            self._base = 1
            self._stack = b"["
            self._mode = Splitter._elements
        else:
            self._mode = Splitter._inside

    def _finish(self) -> None:
        out = self._out
        assert out is not None
        self.wire = out.getvalue()  # no copy
        if self.marks and self.marks[-1] == len(self.wire):
            self.marks.pop()
        self.release()
        if not self.messages and not self._allow_empty:
            raise empty_array()

    def _skip(self) -> bool:
        """Skips white space, some of it; returns whether that took the whole step."""
        blank = _BLANKS.match(self._body, self._at, min(self._at + 4 * self._window, self._end))
        assert blank is not None
        length = blank.end() - self._at
        self._at = blank.end()
        return length > self._window

    # -- elements of the array ----------------------------------------------

    def _elements(self) -> None:
        """Takes as many whole elements as a window holds."""
        if self._skip():
            return
        body, at, end = self._body, self._at, self._end
        if at == end:
            if self.messages:
                raise invalid("the body is not valid JSON: its array ends with a comma")
            self._finish()
            return
        limit = furthest = min(at + self._window, end)
        commas = body.count(b",", at, limit)
        if commas > _COMMAS:
            limit = at + (limit - at) * _COMMAS // commas
        if limit == end:
            self._take_elements(elements(b"[" + body[at:end] + b"]", at - 1), end)
            self._finish()
            return
        if self._misses < _MISSES:
            if self._take_guess(limit):
                return
            self._misses += 1
        while True:
            stop = json_scan.last_end(body, at, limit)
            if stop > at:
                values = elements(b"[" + body[at : stop - 1] + b"]", at - 1)
                if not values:
                    raise self._unexpected()  # a comma without a value before it
                self._take_elements(values, stop)
                return
            if limit == furthest:
                self._after = After.COMMA
                self._mode = Splitter._inside
                return
            limit = min(at + 2 * (limit - at), furthest)

    def _take_guess(self, limit: int) -> bool:
        """Takes the elements up to the last place that looks like an element's beginning, if these are valid.

        A window of valid elements can only end where an element ends, so nothing else needs to be known.
        """
        body, at = self._body, self._at
        look = body[at : at + 24]
        if look[:1] == b"{":
            look = look[: look.find(b":") + 1] or b"{"
            begin = body.rfind(look, at + 1, limit)
        elif look[:1] in (b"[", b'"'):
            begin = body.rfind(b"," + look[:1], at + 1, limit) + 1
        else:
            begin = body.rfind(b",", at + 1, limit) + 1
        comma = begin - 1
        while comma > at and body[comma] in _SPACE:
            comma -= 1
        if comma <= at or body[comma] != 0x2C:
            return False
        try:
            values = elements(b"[" + body[at:comma] + b"]")
        except BadRequest:
            return False
        self._take_elements(values, comma + 1)
        return True

    def _take_elements(self, values: Values, stop: int) -> None:
        text = self._body[self._at : stop]
        check_text(text)
        self._count(len(values))
        if text.count(b"[") + text.count(b"{") >= MAX_JSON_DEPTH:
            check_depth(values, MAX_JSON_DEPTH - 1)
        out = self._out
        assert out is not None
        begin = out.tell()
        end = begin + out.write(b",".join(values)) + out.write(b",")
        if end - self._last_mark >= MARK_SPACING:
            position = begin
            for value in values:
                position += len(value) + 1
                if position - self._last_mark >= MARK_SPACING:
                    self._mark(position)
        self._at = stop

    def _count(self, more: int) -> None:
        self.messages += more
        if self.messages > self._max_messages:
            raise too_many(self._max_messages)

    def _mark(self, position: int) -> None:
        self.marks.append(position)
        self._last_mark = position

    # -- inside a large value -----------------------------------------------

    def _inside(self) -> None:
        """Takes the next piece of a large value, or a token of it."""
        at = self._at
        more = self._skip()
        if len(self._stack) > self._base:
            assert self._out is not None
            self._out.write(self._body[at : self._at])
        if more:
            return
        if self._after is After.VALUE and len(self._stack) == self._base:
            self._end_message()
        elif self._at == self._end:
            raise invalid("the body is not valid JSON: it ends inside a value")
        elif len(self._stack) == self._base or self._token_is_due() or not self._take_piece():
            self._take_token()

    def _token_is_due(self) -> bool:
        return self._after is After.VALUE and self._body[self._at] in b"]}"

    def _take_piece(self) -> bool:
        """Takes the value's text up to the last separator in the window; returns False if there is none, or if the value ends
        before it and few bytes are left."""
        at = self._at
        limit = min(at + self._window, self._end)
        if self._ends_before:
            limit = at + (self._ends_before - at) // 2
        while limit - at > min(_SMALL, self._window - 1):
            text = self._body[at:limit]
            cut, plain = json_scan.last_separator(text)
            if not cut:
                return False
            run = json_scan.brackets(plain)
            rest, height = json_scan.reduce(run)
            opened = rest.lstrip(b"]}")
            closed = len(rest) - len(opened)
            if len(self._stack) - closed > self._base:
                self._take_text(text[:cut], run, rest, len(opened) + height)
                return True
            # Halves, and halves of what is left then, cost no more than the window again.
            self._ends_before = limit
            limit = at + (limit - at) // 2
        return False

    def _take_text(self, text: bytes, run: bytes, rest: bytes, height: int) -> None:
        """Checks a piece in its context and takes it.

        Args:
            text: the piece.
            run: its brackets.
            rest: those of them that have no partner in it.
            height: how far it goes down at most.
        """
        before = self._stack
        may_be_deep = len(before) + height > MAX_JSON_DEPTH
        if may_be_deep and len(before) + json_scan.deepest(run) > MAX_JSON_DEPTH:
            raise too_deep()
        stack, _ = json_scan.reduce(before + rest)
        if b"]" in stack or b"}" in stack:
            raise invalid("the body is not valid JSON: a bracket is closed by another kind")
        prefix = opening(before, self._after)
        self._stack = stack
        self._after = SEPARATORS[text[-1:]]
        check_value(prefix + text + closing(stack, self._after), self._at - len(prefix))
        self._write(self._at + len(text))

    def _take_token(self) -> None:
        token = self._body[self._at : self._at + 1]
        stack, after = self._stack, self._after
        in_object = stack[-1:] == b"{"
        wants_key = in_object and after in (After.OPENING, After.COMMA)
        wants_value = after is After.COLON or (
            not in_object and after in (After.OPENING, After.COMMA)
        )
        if token == b'"' and (wants_key or wants_value):
            self._string_after = After.KEY if wants_key else After.VALUE
            self._mode = Splitter._string
        elif token in (b"[", b"{") and wants_value:
            if len(stack) == MAX_JSON_DEPTH:
                raise too_deep()
            self._stack += token
            self._after = After.OPENING
        elif token in (b"]", b"}") and after in (After.OPENING, After.VALUE):
            if len(stack) == self._base or not closes(token, stack):
                raise self._unexpected()
            self._stack = stack[:-1]
            self._after = After.VALUE
        elif token == b"," and after is After.VALUE:
            self._after = After.COMMA
        elif token == b":" and after is After.KEY:
            self._after = After.COLON
        elif wants_value:
            self._begin_atom()
            return
        else:
            raise self._unexpected()
        self._write(self._at + 1)

    def _begin_atom(self) -> None:
        literal = _LITERAL.match(self._body, self._at, self._end)
        if literal is not None:
            self._write(literal.end())
            self._after = After.VALUE
        else:
            self._number = b""
            self._mode = Splitter._digits

    def _string(self) -> None:
        """Takes a slice of a long string."""
        body, at = self._body, self._at
        limit = min(at + self._window, self._end)
        stop = at + json_scan.string_end(body[at:limit])
        is_whole = stop < limit and body[stop] == 0x22
        if not is_whole:
            while at < stop < self._end and 0x80 <= body[stop] < 0xC0:  # within a character
                stop -= 1
            if stop == at:
                raise invalid("the body is not valid JSON: a string has no end")
        check_value(b'"' + body[at:stop] + b'"', at - 1)
        self._write(stop + is_whole)
        if is_whole:
            self._after = self._string_after
            self._mode = Splitter._inside

    def _digits(self) -> None:
        """Takes a slice of a long number."""
        body, at = self._body, self._at
        limit = min(at + self._window, self._end)
        match = _NUMBER_PART.match(body, at, limit)
        assert match is not None
        self._number = _DIGITS.sub(b"", self._number + body[at : match.end()])
        if not self._number or len(self._number) > _SMALL:
            raise self._unexpected()
        self._write(match.end())
        if match.end() < limit or limit == self._end:
            check_value(self._number, at)
            self._after = After.VALUE
            self._mode = Splitter._inside

    def _write(self, stop: int) -> None:
        text = self._body[self._at : stop]
        check_text(text)
        assert self._out is not None
        self._out.write(text)
        self._at = stop

    def _end_message(self) -> None:
        assert self._out is not None
        self._out.write(b",")
        self._ends_before = 0
        self._count(1)
        if self._out.tell() - self._last_mark >= MARK_SPACING:
            self._mark(self._out.tell())
        if self._at == self._end:
            self._finish()
        elif self._base and self._body.startswith(b",", self._at):
            self._at += 1
            self._mode = Splitter._elements
        else:
            raise self._unexpected()

    def _unexpected(self) -> BadRequest:
        return invalid(f"the body is not valid JSON: unexpected character (byte {self._at})")


def split_all(body: bytes, *, allow_empty: bool = False) -> Splitter:
    """Splits a body in one go.

    Raises:
        BadRequest, TooLarge: as `Splitter.step` says.
    """
    splitter = Splitter(body, allow_empty=allow_empty)
    while splitter.step():
        pass
    return splitter
