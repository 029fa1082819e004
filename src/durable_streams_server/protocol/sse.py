"""Server-sent events (PROTOCOL 5.8): data events and the control event that follows each.

Clients strip one space after `data:`, so none is written, except before a line that itself begins with one: the token
" world" must not lose its space. A payload's line ends, CR, LF or both, become new `data:` lines, so that no payload can
write an event of its own.
"""

import base64
import codecs
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from .limits import SSE_RETRY_MS
from .media import Kind, MediaType, is_utf8
from .units import KIB

CONTENT_TYPE: Final = b"text/event-stream"
KEEP_ALIVE: Final = b": keep-alive\n\n"
RETRY: Final = b"retry:%d\n" % SSE_RETRY_MS  #: a field of the first event, before its id
_PIECE: Final = 24 * KIB  # octets that are handed to a socket at once, or little more
_BINARY_STEP: Final = (
    _PIECE // 4 * 3
)  # bytes of which base64 makes a piece, without padding between two
_TEXT_STEP: Final = 16 * KIB
_DENSE_STEP: Final = (
    4 * KIB
)  # the same of text that grows: each line end becomes six octets, each octet that is no UTF-8 three
#: Bytes of a page that `whole_event` makes into one piece: also if they are all line ends.
WHOLE: Final = 4 * KIB


@lru_cache(256)
def encoding_of(media: MediaType) -> Kind:
    """Returns how a stream's events are encoded: as its kind says, but text that is not UTF-8 as binary, since an event is UTF-8."""
    is_other_text = media.kind is Kind.TEXT and not is_utf8(media)
    return Kind.BINARY if is_other_text else media.kind


def needs_base64(media: MediaType) -> bool:
    """Returns whether data events of a stream carry base64 (PROTOCOL 5.8)."""
    return encoding_of(media) is Kind.BINARY


def complete_text(data: bytes, at_end: bool) -> int:
    """Returns how many bytes of a text can be sent: an incomplete last character waits, unless no more can come."""
    if at_end or not data or data[-1] < 0x80:
        return len(data)
    for begin in range(len(data) - 1, max(-1, len(data) - 4), -1):
        if data[begin] >= 0xC0:  # the first octet of the last character
            return begin + codecs.utf_8_decode(data[begin:], "replace", False)[1]
    return len(data)


def data_event(kind: Kind, offset: str, data: bytes) -> Iterator[bytes]:
    """Yields one data event, in one piece, or in several when it is large. Each is made when it is asked for.

    Args:
        kind: how the stream's events are encoded.
        offset: the name of the position after `data`, written as the event's id.
        data: wire bytes. Of text, whole characters; octets that are no UTF-8 are sent as U+FFFD.
    """
    head = b"id:%s\nevent: data\n" % offset.encode()
    if kind is Kind.BINARY:
        pieces = _base64(data)
    elif len(data) <= _TEXT_STEP and len(data) + 5 * _line_ends(data) <= _PIECE:
        before, payload, after = _parts(kind, data)  # the usual case, in fewer calls
        pieces = iter((b"%b%b%b\n\n" % (before, _lines(payload), after),))
    else:
        pieces = _text(kind, data)
    yield head + next(pieces)
    yield from pieces


def whole_event(kind: Kind, offset: str, data: bytes, ending: bytes) -> bytes:
    """Returns one data event and the control event after it, as one piece.

    Args:
        kind: as `data_event` has it.
        offset: as `data_event` has it.
        data: wire bytes as `data_event` has them, `WHOLE` at most.
        ending: the rest of the control event, from `control_ending`.
    """
    name = offset.encode()
    before, payload, after = _parts(kind, data)
    return (
        b"id:%b\nevent: data\n%b%b%b\n\n"
        b'id:%b\nevent: control\ndata:{"streamNextOffset":"%b"%b'
        % (name, before, _lines(payload), after, name, name, ending)
    )


def _parts(kind: Kind, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns what stands before an event's payload, the payload, and what stands after it."""
    if kind is Kind.JSON:
        return b"data:[", data[:-1], b"]"
    if kind is Kind.BINARY:
        return b"data:", base64.b64encode(data), b""
    return b"data:" + _space(data[:1]), _valid(data), b""


def _base64(data: bytes) -> Iterator[bytes]:
    """Yields the data line of a binary event, and the blank line after it, in pieces."""
    view, prefix, size = memoryview(data), b"data:", len(data)
    for begin in range(0, size, _BINARY_STEP):
        stop = begin + _BINARY_STEP
        ending = b"\n\n" if stop >= size else b""
        yield prefix + base64.b64encode(view[begin:stop]) + ending
        prefix = b""


def _text(kind: Kind, data: bytes) -> Iterator[bytes]:
    """Yields the data lines of a text or JSON event, and the blank line after them, in pieces."""
    is_json = kind is Kind.JSON
    prefix, ending, end = b"data:", b"\n\n", len(data)
    if is_json:
        prefix, ending, end = b"data:[", b"]\n\n", end - 1
    begin, begins_line = 0, not is_json
    while True:
        stop = _text_cut(data, begin, end)
        part = data[begin:stop]
        if begins_line:
            prefix += _space(part[:1])
        lines = _lines(part if is_json else _valid(part))
        if stop == end:
            yield prefix + lines + ending
            return
        yield prefix + lines
        prefix, begin, begins_line = b"", stop, part[-1] in b"\r\n"


def _text_cut(data: bytes, begin: int, end: int) -> int:
    """Returns where the next piece of a text ends. It never splits a character or a CR LF, and is short where encoding makes the text longer."""
    stop = begin + _TEXT_STEP
    part = data[begin : min(stop, end)]
    grows = _line_ends(part) > len(part) // 16 or not _is_valid(part)
    if grows:
        stop = begin + _DENSE_STEP
    if stop >= end:
        return end
    part = part[: stop - begin]
    if data[stop] == 0x0A and part.endswith(b"\r"):
        return stop - 1
    return begin + complete_text(part, at_end=False)


def _line_ends(part: bytes) -> int:
    return part.count(b"\n") + part.count(b"\r")


def _is_valid(part: bytes) -> bool:
    """Whether octets are UTF-8, but for a character that may be cut at their end."""
    if part.isascii():
        return True
    try:
        codecs.utf_8_decode(part, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _valid(data: bytes) -> bytes:
    """Returns text as UTF-8."""
    return data if data.isascii() else data.decode("utf-8", "replace").encode("utf-8")


def control_event(offset: str, cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """Returns one control event. A closed one has no cursor: nobody reconnects (PROTOCOL 5.8)."""
    name = offset.encode()
    ending = control_ending(cursor, up_to_date, closed)
    return b'id:%s\nevent: control\ndata:{"streamNextOffset":"%s"%s' % (name, name, ending)


def control_ending(cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """Returns what follows the offset in a control event: the same for every stream at one moment."""
    if closed:
        return b',"upToDate":true,"streamClosed":true}\n\n'
    text = b',"streamCursor":"%s"' % (cursor or "").encode()
    return text + (b',"upToDate":true}\n\n' if up_to_date else b"}\n\n")


def _lines(data: bytes) -> bytes:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" not in data:
        return data
    return data.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")


def _space(first: bytes) -> bytes:
    return b" " if first == b" " else b""
