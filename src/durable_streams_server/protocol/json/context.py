"""Completes a piece of JSON that was cut out of nested containers, so that it can be checked by itself.

A piece begins after a separator, a key or a value, and ends after a separator, which is a comma, a colon or an opening bracket.
The piece is valid in its place if and only if it is valid between the results of `opening` and `closing`. A stack holds the
brackets that are open, outermost first.
"""

from enum import Enum
from typing import Final

_CLOSING: Final = bytes.maketrans(b"[{", b"]}")


class After(Enum):
    """The token before the present position."""

    OPENING = "an opening bracket"
    COMMA = "a comma"
    KEY = "a key"
    COLON = "a colon"
    VALUE = "a value"


SEPARATORS: Final = {
    b"[": After.OPENING,
    b"{": After.OPENING,
    b",": After.COMMA,
    b":": After.COLON,
}
#: JSON that reopens the innermost container up to the position after a token.
_REOPEN: Final = {
    (b"[", After.OPENING): b"[",
    (b"[", After.COMMA): b"[0,",
    (b"[", After.VALUE): b"[0",
    (b"{", After.OPENING): b"{",
    (b"{", After.COMMA): b'{"":0,',
    (b"{", After.KEY): b'{""',
    (b"{", After.COLON): b'{"":',
    (b"{", After.VALUE): b'{"":0',
}
#: JSON that closes the innermost container after a separator.
_CLOSE: Final = {
    (b"[", After.OPENING): b"]",
    (b"[", After.COMMA): b"0]",
    (b"[", After.COLON): b"0]",  # deliberately invalid, because an array has no colons
    (b"{", After.OPENING): b"}",
    (b"{", After.COMMA): b'"":0}',
    (b"{", After.COLON): b"0}",
}


def opening(stack: bytes, after: After) -> bytes:
    """Returns JSON that reopens all containers of a stack, up to the position after a token in the innermost one."""
    return stack[:-1].replace(b"{", b'{"":') + _REOPEN[stack[-1:], after]


def closing(stack: bytes, after: After) -> bytes:
    """Returns JSON that closes all containers of a stack, after a separator in the innermost one."""
    return _CLOSE[stack[-1:], after] + stack[-2::-1].translate(_CLOSING)


def closes(token: bytes, stack: bytes) -> bool:
    """Returns whether a closing bracket matches the innermost open bracket of a stack."""
    return stack[-1:].translate(_CLOSING) == token
