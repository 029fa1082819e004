"""Turns a large JSON body into its wire form in short steps, with little memory besides the body and the wire form.

msgspec checks and cuts whole elements of the top-level array, one window of the body at a time. An element larger than a window
is cut into pieces after any comma, colon or opening bracket outside strings. A piece is valid in its place if and only if it
is valid with its containers reopened before it and closed after it. A string or a number larger than a window is checked in
slices. So msgspec checks every byte, and the splitter only keeps the stack of open brackets between the pieces.

    splitter = Splitter(body)
    while splitter.step():
        ...  # other work
    splitter.wire, splitter.marks
"""

import re
from array import array
from collections.abc import Callable
from typing import Final

from ...errors import BadRequest
from ..limits import MAX_JSON_DEPTH, MAX_MESSAGES
from ..units import KIB
from . import scan
from .check import (
    Values,
    check_depth,
    check_text,
    check_value,
    elements,
    refuse_mark,
)
from .context import SEPARATORS, After, closes, closing, opening
from .refusals import empty_array, invalid, too_deep
from .wire import WireForm

#: Maximum bytes of one step, because the slowest kinds of JSON take 2 ms for this many.
WINDOW: Final = 32 * KIB
_COMMAS: Final = 4096  #: maximum number of commas in one step, roughly, because each may become an object for a moment
_SMALL: Final = 64  #: number of bytes at the end of a large element that are read token by token
_MISSES: Final = 16  #: maximum number of failed guesses of an element's end, after which the splitter stops guessing
_SPACE: Final = b" \t\n\r"
_BLANKS: Final = re.compile(rb"[ \t\n\r]*+")
_NUMBER_PART: Final = re.compile(rb"[-+.0-9eE]*+")
_LITERAL: Final = re.compile(rb"true|false|null")
#: Matches the digits after two other digits. A number is valid if and only if it is valid without them.
_DIGITS: Final = re.compile(rb"(?<=[0-9]{2})[0-9]++")

_NO_FORM: Final = WireForm(0)  #: replaces the wire form of a splitter that has ended


class Splitter:
    """Validates one JSON body and builds its wire form, step by step.

    Args:
        body: the body.
        allow_empty: whether an empty array is allowed, as in a PUT, or an error, as in a POST (PROTOCOL 9.1.3).
        window: the maximum number of bytes that one step reads, 8 or more.
        max_messages: the maximum number of values in the body.

    Attributes:
        wire: the wire form, once `step` has returned False.
        marks: the ends of values in `wire` that are at least `MARK_SPACING` apart, without the end of the last value.
    """

    __slots__ = (
        "_after",
        "_allow_empty",
        "_at",
        "_base",
        "_body",
        "_end",
        "_ends_before",
        "_form",
        "_misses",
        "_mode",
        "_number",
        "_stack",
        "_string_after",
        "_window",
        "marks",
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
        self._body = body
        self._at = 0
        self._end = len(body)
        self._allow_empty = allow_empty
        self._window = window
        self._form = WireForm(max_messages)
        self._misses = 0
        self._base = 0  # the number of brackets that are open between two messages
        self._stack = b""  # the open brackets, outermost first
        self._after = After.COLON
        self._string_after = After.VALUE  # `KEY` or `VALUE`, depending on the role of a long string
        # A position past the end of the large value, or 0 while none is known.
        self._ends_before = 0
        self._number = b""  # a long number as far as it was read, without most of its digits
        # A plain function, because a bound method would make a reference cycle that keeps the body until a garbage collection.
        self._mode: Callable[[Splitter], None] | None = Splitter._begin

    @property
    def position(self) -> int:
        """The number of bytes of the body that have been processed."""
        return self._at

    def step(self) -> bool:
        """Does about a millisecond of work, and returns whether work is left.

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
        """Ends the work, and drops the references to the body and to the wire form."""
        self._mode = None
        self._body = b""
        self._form = _NO_FORM

    # -- the whole body -----------------------------------------------------

    def _begin(self) -> None:
        """Skips white space at the end of the body, one window in each step."""
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
        """Skips white space at the beginning of the body, and finds out whether the body is an array."""
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
        """Stores the wire form, and ends the work."""
        form = self._form
        self.wire, self.marks = form.finish(), form.marks
        self.release()
        if not form.messages and not self._allow_empty:
            raise empty_array()

    def _skip(self) -> bool:
        """Skips a bounded amount of white space, and returns whether that was enough work for one step."""
        blank = _BLANKS.match(self._body, self._at, min(self._at + 4 * self._window, self._end))
        assert blank is not None
        length = blank.end() - self._at
        self._at = blank.end()
        return length > self._window

    # -- elements of the array ----------------------------------------------

    def _elements(self) -> None:
        """Copies as many whole elements to the wire form as a window holds."""
        if self._skip():
            return
        body, at, end = self._body, self._at, self._end
        if at == end:
            if self._form.messages:
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
            stop = scan.last_end(body, at, limit)
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
        """Copies the elements before the last comma that probably ends an element, and returns whether they are valid.

        If the text before the comma is a list of valid elements, the guess was right, because it did not cut an element.
        """
        body, at = self._body, self._at
        comma = scan.likely_boundary(body, at, limit)
        if not comma:
            return False
        try:
            values = elements(b"[" + body[at:comma] + b"]")
        except BadRequest:
            return False
        self._take_elements(values, comma + 1)
        return True

    def _take_elements(self, values: Values, stop: int) -> None:
        """Copies checked elements, which end at `stop` in the body, and adds the marks among them."""
        text = self._body[self._at : stop]
        check_text(text)
        self._form.add_values(values)
        if text.count(b"[") + text.count(b"{") >= MAX_JSON_DEPTH:
            check_depth(values, MAX_JSON_DEPTH - 1)
        self._at = stop

    # -- inside a large value -----------------------------------------------

    def _inside(self) -> None:
        """Copies the next piece of a large value, or one token of it."""
        at = self._at
        more = self._skip()
        if len(self._stack) > self._base:
            self._form.write(self._body[at : self._at])
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
        """Copies a large value up to the last separator in the window, and returns whether that was possible.

        It is impossible if the window has no separator, or if the value ends within the next few bytes.
        """
        at = self._at
        limit = min(at + self._window, self._end)
        if self._ends_before:
            limit = at + (self._ends_before - at) // 2
        while limit - at > min(_SMALL, self._window - 1):
            text = self._body[at:limit]
            cut, plain = scan.last_separator(text)
            if not cut:
                return False
            run = scan.brackets(plain)
            rest, height = scan.unmatched(run)
            opened = rest.lstrip(b"]}")
            closed = len(rest) - len(opened)
            if len(self._stack) - closed > self._base:
                self._take_text(text[:cut], run, rest, len(opened) + height)
                return True
            # All the halves together are smaller than the window, so they take no longer than one more scan of it.
            self._ends_before = limit
            limit = at + (limit - at) // 2
        return False

    def _take_text(self, text: bytes, run: bytes, rest: bytes, height: int) -> None:
        """Checks a piece of a large value in its context, and copies it.

        Args:
            text: the piece.
            run: the brackets of the piece.
            rest: the brackets that have no partner in the piece.
            height: an upper bound of the depth that the piece reaches.
        """
        before = self._stack
        may_be_deep = len(before) + height > MAX_JSON_DEPTH
        if may_be_deep and len(before) + scan.deepest(run) > MAX_JSON_DEPTH:
            raise too_deep()
        stack, _ = scan.unmatched(before + rest)
        if b"]" in stack or b"}" in stack:
            raise invalid("the body is not valid JSON: a bracket is closed by another kind")
        prefix = opening(before, self._after)
        self._stack = stack
        self._after = SEPARATORS[text[-1:]]
        check_value(prefix + text + closing(stack, self._after), self._at - len(prefix))
        self._write(self._at + len(text))

    def _take_token(self) -> None:
        """Copies one bracket, comma or colon of a large value, or begins a string, a literal or a number."""
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
        """Copies a literal such as `true`, or begins to read a number."""
        literal = _LITERAL.match(self._body, self._at, self._end)
        if literal is not None:
            self._write(literal.end())
            self._after = After.VALUE
        else:
            self._number = b""
            self._mode = Splitter._digits

    def _string(self) -> None:
        """Checks and copies a slice of a long string."""
        body, at = self._body, self._at
        limit = min(at + self._window, self._end)
        stop = at + scan.string_end(body[at:limit])
        is_whole = stop < limit and body[stop] == 0x22
        if not is_whole:
            while at < stop < self._end and 0x80 <= body[stop] < 0xC0:  # inside a character
                stop -= 1
            if stop == at:
                raise invalid("the body is not valid JSON: a string has no end")
        check_value(b'"' + body[at:stop] + b'"', at - 1)
        self._write(stop + is_whole)
        if is_whole:
            self._after = self._string_after
            self._mode = Splitter._inside

    def _digits(self) -> None:
        """Copies a slice of a long number, and checks the number at its end."""
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
        self._form.write(text)
        self._at = stop

    def _end_message(self) -> None:
        self._form.end_value()
        self._ends_before = 0
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
    """Runs a `Splitter` over a body without pauses, and returns the finished splitter.

    Raises:
        BadRequest: INVALID_JSON, EMPTY_ARRAY.
        TooLarge: TOO_MANY_MESSAGES.
    """
    splitter = Splitter(body, allow_empty=allow_empty)
    while splitter.step():
        pass
    return splitter
