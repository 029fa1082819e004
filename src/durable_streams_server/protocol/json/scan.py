"""Finds the positions at which JSON may be cut, and the depth of nesting there. It validates nothing.

A regular expression walks over whole values without backtracking, because every repetition in it is possessive. It follows
brackets down to the depth limit, so it finds the commas of one level however deep the values between them are nested.
"""

import re
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Final

from ..limits import MAX_JSON_DEPTH

_SPACE: Final = b" \t\n\r"
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
#: Translates an opening bracket into 1 and a closing bracket into -1, as signed bytes.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def prepare() -> None:
    """Compiles the regular expression in advance. That takes 15 to 30 ms, which is too long once clients are connected."""
    _value()


@cache
def _value() -> re.Pattern[bytes]:
    """Returns the regular expression for a whole value and the comma after it."""
    flat = rb"[^\"\[\]{}]++|" + _STRING
    nested = rb"[\[{](?:" + flat + rb")*+[\]}]"
    for _ in range(MAX_JSON_DEPTH - 1):
        nested = rb"[\[{](?:" + flat + rb"|" + nested + rb")*+[\]}]"
    value = rb"(?:[^\"\[\]{},]++|" + _STRING + rb"|" + nested + rb")*+,"
    return re.compile(value, re.DOTALL)


def ends(text: bytes, start: int = 0, limit: int | None = None) -> Iterator[int]:
    """Yields the end of each whole value from `start` to `limit`, including its comma.

    The first value must begin at `start`. The ends are positions in `text`.
    """
    stop = len(text) if limit is None else limit
    walk = _value().scanner(text, start, stop).match  # type: ignore[attr-defined]  # typeshed lacks `scanner`
    for match in iter(walk, None):
        yield match.end()


def last_end(text: bytes, start: int, limit: int) -> int:
    """Returns the end of the last whole value from `start` to `limit`, or `start` if no value ends there."""
    last = deque(ends(text, start, limit), maxlen=1)
    return last[0] if last else start


def split_at_quotes(text: bytes) -> list[bytes]:
    """Returns the parts of JSON between its quotation marks. The parts with an even index are outside strings."""
    return _without_escapes(text).split(b'"')


def string_end(text: bytes) -> int:
    """Returns the position of the quotation mark that ends a string. `text` begins inside the string.

    If the end is not in `text`, returns the last position at which the string can be cut without splitting an escape.
    """
    plain = _without_escapes(text)
    end = plain.find(b'"')
    if end >= 0:
        return end
    end = len(text)
    last = plain.rfind(b"\\")
    if last >= 0 and last + (6 if plain.startswith(b"u", last + 1) else 2) > end:
        return last
    return end


def _without_escapes(text: bytes) -> bytes:
    """Returns the text with escaped backslashes and quotation marks overwritten by characters of the same length."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    return text


def last_separator(text: bytes) -> tuple[int, bytes]:
    """Returns the position after the last separator outside strings, and the text outside strings before that position.

    Separators are commas, colons and opening brackets. The position is 0 if there is none.
    """
    parts = split_at_quotes(text)
    end = len(text)
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        end -= len(part)
        if index % 2 == 0:
            at = max(map(part.rfind, (b",", b":", b"[", b"{"))) + 1
            if at:
                return end + at, b"".join(parts[:index:2]) + part[:at]
        end -= 1  # the quotation mark before the part
    return 0, b""


def brackets(text: bytes) -> bytes:
    """Returns the brackets of JSON text without strings."""
    return text.translate(None, _NOT_BRACKETS)


def unmatched(stack: bytes) -> tuple[bytes, int]:
    """Returns the brackets without a partner, and an upper bound of the depth to which the matched ones are nested."""
    passes = 0
    while True:
        less = stack.replace(b"[]", b"").replace(b"{}", b"")
        if len(less) == len(stack):
            return stack, 2 * passes
        stack = less
        passes += 1
        if passes > MAX_JSON_DEPTH:  # each pass removes the innermost pairs
            return stack, 2 * passes


def deepest(run: bytes) -> int:
    """Returns the greatest depth that a sequence of brackets reaches, relative to the depth before it."""
    return max(accumulate(memoryview(run.translate(_STEPS)).cast("b")), default=0)


def depth(text: bytes) -> int:
    """Returns the depth to which valid JSON is nested."""
    return deepest(brackets(b"".join(split_at_quotes(text)[::2])))


def likely_boundary(body: bytes, at: int, limit: int) -> int:
    """Returns the position of the last comma before `limit` that probably ends an element of an array, or 0 if there is none.

    The element at `at` shows how elements begin. An object, for example, probably begins with the same key as the one before it.
    """
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
    return comma if comma > at and body[comma] == 0x2C else 0
