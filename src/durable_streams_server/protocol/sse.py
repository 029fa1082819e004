"""Encodes server-sent events (PROTOCOL 5.8): data events, and the control event after each of them.

Clients strip one space after `data:`. So the encoder writes a space only before a line that begins with one, because the token
" world" must keep its space. Line ends in a payload (CR, LF or both) become new `data:` lines, so a payload cannot forge an event.
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
RETRY: Final = b"retry:%d\n" % SSE_RETRY_MS  #: the field that begins the first event
#: Approximate maximum bytes of an event that are given to a socket at once.
_PIECE: Final = 24 * KIB
#: Bytes that base64 encodes as one piece, without padding inside the event.
_BINARY_STEP: Final = _PIECE // 4 * 3
_TEXT_STEP: Final = 16 * KIB  #: bytes of text that are encoded as one piece
#: Bytes of text that are encoded as one piece if the encoding makes the text longer. A line end becomes six bytes, and an invalid
#: byte becomes three.
_DENSE_STEP: Final = 4 * KIB
#: Maximum bytes of a page that `whole_event` encodes as one piece. The piece stays small even if all bytes are line ends.
WHOLE: Final = 4 * KIB


@lru_cache(256)
def encoding_of(media: MediaType) -> Kind:
    """Returns the encoding of a stream's events: the kind of the stream, but `BINARY` for text in a charset other than UTF-8.

    Events are UTF-8 by definition.
    """
    is_other_text = media.kind is Kind.TEXT and not is_utf8(media)
    return Kind.BINARY if is_other_text else media.kind


def needs_base64(media: MediaType) -> bool:
    """Returns whether the data events of a stream are encoded in base64 (PROTOCOL 5.8)."""
    return encoding_of(media) is Kind.BINARY


def complete_text(data: bytes, at_end: bool) -> int:
    """Returns how many bytes of a text can be sent now.

    An incomplete last character must wait for its other bytes, unless the text is at its end.
    """
    if at_end or not data or data[-1] < 0x80:
        return len(data)
    for begin in range(len(data) - 1, max(-1, len(data) - 4), -1):
        if data[begin] >= 0xC0:  # the first byte of the last character
            return begin + codecs.utf_8_decode(data[begin:], "replace", False)[1]
    return len(data)


def data_event(kind: Kind, offset: str, data: bytes) -> Iterator[bytes]:
    """Yields one data event, in one piece or, if it is large, in several. Each piece is encoded when the caller asks for it.

    Args:
        kind: the encoding of the stream's events, from `encoding_of`.
        offset: the offset after `data`, which becomes the id of the event.
        data: wire bytes. Text must end at the end of a character. Bytes that are not UTF-8 are sent as U+FFFD.
    """
    head = b"id:%s\nevent: data\n" % offset.encode()
    if kind is Kind.BINARY:
        pieces = _base64(data)
    elif len(data) <= _TEXT_STEP and len(data) + 5 * _line_ends(data) <= _PIECE:
        before, payload, after = _parts(kind, data)  # the usual case takes fewer calls
        pieces = iter((b"%b%b%b\n\n" % (before, _lines(payload), after),))
    else:
        pieces = _text(kind, data)
    yield head + next(pieces)
    yield from pieces


def whole_event(kind: Kind, offset: str, data: bytes, ending: bytes) -> bytes:
    """Returns one data event and the control event after it, as one piece.

    Args:
        kind: the encoding of the stream's events, from `encoding_of`.
        offset: the offset after `data`, which becomes the id of both events.
        data: at most `WHOLE` wire bytes. Text must end at the end of a character.
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
    """Returns the bytes before the payload of an event, the payload, and the bytes after it."""
    if kind is Kind.JSON:
        return b"data:[", data[:-1], b"]"
    if kind is Kind.BINARY:
        return b"data:", base64.b64encode(data), b""
    return b"data:" + _space(data[:1]), _valid(data), b""


def _base64(data: bytes) -> Iterator[bytes]:
    """Yields the data line of a binary event and the blank line after it, in pieces."""
    view, prefix, size = memoryview(data), b"data:", len(data)
    for begin in range(0, size, _BINARY_STEP):
        stop = begin + _BINARY_STEP
        ending = b"\n\n" if stop >= size else b""
        yield prefix + base64.b64encode(view[begin:stop]) + ending
        prefix = b""


def _text(kind: Kind, data: bytes) -> Iterator[bytes]:
    """Yields the data lines of a text or JSON event and the blank line after them, in pieces."""
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
    """Returns the end of the next piece of a text.

    A piece never splits a character or a CR LF. It is shorter where the encoding makes the text longer.
    """
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
    """Returns the number of CR and LF characters."""
    return part.count(b"\n") + part.count(b"\r")


def _is_valid(part: bytes) -> bool:
    """Returns whether bytes are UTF-8, ignoring an incomplete character at their end."""
    if part.isascii():
        return True
    try:
        codecs.utf_8_decode(part, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _valid(data: bytes) -> bytes:
    """Returns a text with invalid UTF-8 replaced by U+FFFD."""
    return data if data.isascii() else data.decode("utf-8", "replace").encode("utf-8")


def control_event(offset: str, cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """Returns one control event. The last event of a closed stream has no cursor, because no client reconnects (PROTOCOL 5.8)."""
    name = offset.encode()
    ending = control_ending(cursor, up_to_date, closed)
    return b'id:%s\nevent: control\ndata:{"streamNextOffset":"%s"%s' % (name, name, ending)


def control_ending(cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """Returns the part of a control event after the offset. It is the same for all streams at a given time."""
    if closed:
        return b',"upToDate":true,"streamClosed":true}\n\n'
    text = b',"streamCursor":"%s"' % (cursor or "").encode()
    return text + (b',"upToDate":true}\n\n' if up_to_date else b"}\n\n")


def retry(milliseconds: int) -> bytes:
    """Returns the field that tells a browser how long to wait before it reconnects. The field may begin any event."""
    return b"retry:%d\n" % milliseconds


def _lines(data: bytes) -> bytes:
    """Returns a payload with each line end replaced by the beginning of a new data line."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" not in data:
        return data
    return data.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")


def _space(first: bytes) -> bytes:
    """Returns the space that a data line needs if its first character is a space."""
    return b" " if first == b" " else b""
