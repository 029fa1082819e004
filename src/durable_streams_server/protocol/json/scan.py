"""Where JSON may be cut: the ends of values, and the nesting at a place. This finds places only; msgspec judges every byte.

A regular expression walks over whole values without backtracking, because every repetition in it is possessive. It follows
brackets down to the depth limit, so it finds the commas of one level however deep the values between them are.
"""

import re
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Final

from ..limits import MAX_JSON_DEPTH

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
#: Turns an opening bracket into 1 and a closing one into -1, as signed bytes.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def prepare() -> None:
    """Builds the expression before it is needed. That takes 15 to 30 ms, too long once there are clients."""
    _value()


@cache
def _value() -> re.Pattern[bytes]:
    """Returns the expression for a whole value and the comma after it."""
    flat = rb"[^\"\[\]{}]++|" + _STRING
    nested = rb"[\[{](?:" + flat + rb")*+[\]}]"
    for _ in range(MAX_JSON_DEPTH - 1):
        nested = rb"[\[{](?:" + flat + rb"|" + nested + rb")*+[\]}]"
    value = rb"(?:[^\"\[\]{},]++|" + _STRING + rb"|" + nested + rb")*+,"
    return re.compile(value, re.DOTALL)


def ends(text: bytes, start: int = 0, limit: int | None = None) -> Iterator[int]:
    """Yields where each whole value after `start` ends, its comma included, up to `limit` and as long as one follows another."""
    stop = len(text) if limit is None else limit
    walk = _value().scanner(text, start, stop).match  # type: ignore[attr-defined]  # typeshed does not know `scanner`
    for match in iter(walk, None):
        yield match.end()


def last_end(text: bytes, start: int, limit: int) -> int:
    """Returns the last of `ends`, or `start` if there is none."""
    last = deque(ends(text, start, limit), maxlen=1)
    return last[0] if last else start


def outside(text: bytes) -> list[bytes]:
    """Returns the parts between quotation marks. Those with an even index are outside strings."""
    return _without_escapes(text).split(b'"')


def string_end(text: bytes) -> int:
    """Returns where a string ends that `text` is the inside of, or where it can be cut if it goes on: not in an escape."""
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
    """Overwrites escaped backslashes and quotation marks. Every length stays as it is."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    return text


def last_separator(text: bytes) -> tuple[int, bytes]:
    """Returns the place after the last comma, colon or opening bracket outside strings, and what stands outside strings
    before it. The place is 0 if there is none."""
    parts = outside(text)
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
    """Returns the brackets of text that has no strings."""
    return text.translate(None, _NOT_BRACKETS)


def reduce(stack: bytes) -> tuple[bytes, int]:
    """Removes matching pairs of brackets, and returns what is left and how deep the pairs can have been nested at most."""
    passes = 0
    while True:
        less = stack.replace(b"[]", b"").replace(b"{}", b"")
        if len(less) == len(stack):
            return stack, 2 * passes
        stack = less
        passes += 1
        if passes > MAX_JSON_DEPTH:  # each pass takes the innermost pairs away
            return stack, 2 * passes


def deepest(run: bytes) -> int:
    """Returns how deep a run of brackets goes, counted from the depth before it."""
    return max(accumulate(memoryview(run.translate(_STEPS)).cast("b")), default=0)


def depth(text: bytes) -> int:
    """Returns how deep valid JSON is nested."""
    return deepest(brackets(b"".join(outside(text)[::2])))
