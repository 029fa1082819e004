"""What stands around a piece of JSON that is cut out of nested containers, so that it can be checked by itself.

A piece begins after a separator, a key or a value, and ends after a separator: a comma, a colon or an opening bracket. It is
valid in its place exactly if it is valid between `opening` and `closing`. A stack is the brackets that are open, outermost
first.
"""

from enum import Enum
from typing import Final

_CLOSING: Final = bytes.maketrans(b"[{", b"]}")


class After(Enum):
    """What stands before the place that is reached."""

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
#: What opens the innermost container anew, so that JSON may go on from a place in it.
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
#: What closes the innermost container after a separator.
_CLOSE: Final = {
    (b"[", After.OPENING): b"]",
    (b"[", After.COMMA): b"0]",
    (b"[", After.COLON): b"0]",  # which is not valid, as it should be
    (b"{", After.OPENING): b"}",
    (b"{", After.COMMA): b'"":0}',
    (b"{", After.COLON): b"0}",
}


def opening(stack: bytes, after: After) -> bytes:
    """Returns what opens the containers anew, up to a place in the innermost."""
    return stack[:-1].replace(b"{", b'{"":') + _REOPEN[stack[-1:], after]


def closing(stack: bytes, after: After) -> bytes:
    """Returns what closes the containers after a separator in the innermost."""
    return _CLOSE[stack[-1:], after] + stack[-2::-1].translate(_CLOSING)


def closes(token: bytes, stack: bytes) -> bool:
    """Whether a closing bracket is of the innermost container's kind."""
    return stack[-1:].translate(_CLOSING) == token
