"""Converts plain Python arguments to commands, for the synchronous and the asynchronous interface.

An argument of the wrong type raises TypeError. A malformed value raises the same BadRequest as over HTTP. Both are raised before the
store is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Final

import msgspec

from ..errors import BadRequest
from ..protocol import commands, offsets
from ..protocol.arguments import DATA, OPTIONAL_INT, OPTIONAL_TEXT, require
from ..protocol.commands import NO_BODY, Append, Body, Create, Fork
from ..protocol.lifetime import parse_lifetime
from ..protocol.media import Kind, parse_media_type
from ..protocol.names import OCTET_STREAM
from ..protocol.offsets import Offset, Sentinel
from ..protocol.paths import check_path
from ..protocol.producers import Stamp, parse_stamp
from ..protocol.state import StreamState

_TOO_LARGE: Final = 1 << 63  # above the maximum of every numeric header


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Options of a new stream, besides its path and content type.

    Attributes:
        ttl_seconds: sliding lifetime in seconds. It cannot be combined with `expires_at`.
        expires_at: deadline, with a time zone.
        initial_data: the first bytes of the stream. For a JSON stream, one value or an array of values.
        closed: whether to close the stream after the initial data.
        forked_from: path of the stream to fork.
        fork_offset: offset at which to fork the source; its tail if None.
        fork_sub_offset: number of bytes, or of JSON values, after `fork_offset` at which to fork the source.
        public: whether anyone may read the stream without a token. A fork does not inherit this from its source.

    Raises:
        TypeError: a value has the wrong type.
    """

    ttl_seconds: int | None = None
    expires_at: datetime | None = None
    initial_data: bytes = b""
    closed: bool = False
    forked_from: str | None = None
    fork_offset: str | None = None
    fork_sub_offset: int = 0
    public: bool = False

    def __post_init__(self) -> None:
        require(OPTIONAL_INT, ttl_seconds=self.ttl_seconds)
        require((datetime, NoneType), expires_at=self.expires_at)
        require(DATA, initial_data=self.initial_data)
        require(bool, closed=self.closed, public=self.public)
        require(OPTIONAL_TEXT, forked_from=self.forked_from, fork_offset=self.fork_offset)
        require(int, fork_sub_offset=self.fork_sub_offset)


class AppendOptions(msgspec.Struct, frozen=True):
    """Parsed options of an append, besides its path and data.

    Attributes:
        content_type: the content type of the data; None for the content type of the stream.
        seq: the `Stream-Seq` value, or None.
        stamp: id, epoch and sequence number of an idempotent producer, or None.
        expected: the offset that must equal the tail, or None.
        closes: whether to close the stream after the append.
    """

    content_type: str | None = None
    seq: bytes | None = None
    stamp: Stamp | None = None
    expected: Offset | None = None
    closes: bool = False

    def command(
        self, state: StreamState, data: bytes, encode: Callable[..., Body] = commands.encode_body
    ) -> Append:
        """Returns the command of an append.

        Args:
            state: the stream. Its content type applies if the options have none.
            data: the bytes to append.
            encode: converts the data to wire bytes. `encode_body` does all the work now; `begin_body` leaves large JSON bodies to be
                split in steps.

        Raises:
            BadRequest: EMPTY_BODY, INVALID_CONTENT_TYPE.
        """
        if not data and not self.closes:
            raise BadRequest("an append needs a body", "EMPTY_BODY")
        media = parse_media_type(self.content_type) if self.content_type else state.media
        body = encode(media.kind, data, allow_empty=False)
        return Append(
            state.path, media, body, bool(data), self.closes, self.stamp, self.seq, self.expected
        )


_PLAIN: Final = AppendOptions()
_NO_TEXTS: Final = (None,) * 4


def append_options(
    content_type: str | None,
    seq: str | None,
    producer_id: str | None,
    producer_epoch: int | None,
    producer_seq: int | None,
    expected_offset: str | None,
    close: bool,
) -> AppendOptions:
    """Checks and parses the arguments of `append`.

    Raises:
        TypeError: a value has the wrong type.
        BadRequest: INVALID_PRODUCER, INVALID_SEQ, INVALID_OFFSET.
    """
    texts = content_type, seq, producer_id, expected_offset
    if close is False and texts == _NO_TEXTS and producer_epoch is None and producer_seq is None:
        return _PLAIN  # the usual case: there is nothing to check
    require(
        OPTIONAL_TEXT,
        content_type=content_type,
        seq=seq,
        producer_id=producer_id,
        expected_offset=expected_offset,
    )
    require(OPTIONAL_INT, producer_epoch=producer_epoch, producer_seq=producer_seq)
    require(bool, close=close)
    stamp = parse_stamp(
        _octets(producer_id, "INVALID_PRODUCER"),
        _octets(_digits(producer_epoch), "INVALID_PRODUCER"),
        _octets(_digits(producer_seq), "INVALID_PRODUCER"),
    )
    return AppendOptions(
        content_type,
        commands.check_seq(_octets(seq, "INVALID_SEQ")),
        stamp,
        None if expected_offset is None else offsets.parse(expected_offset, "expected offset"),
        close,
    )


def create_command(
    path: str,
    content_type: str | None,
    options: CreateOptions,
    encode: Callable[..., Body] = commands.encode_body,
) -> Create:
    """Returns the command that creates a stream or fork.

    Args:
        path: the path of the stream.
        content_type: the content type. If it is None, a fork gets the content type of its source, and any other stream
            `application/octet-stream`.
        options: the other options.
        encode: converts the initial data to wire bytes. `encode_body` does all the work now; `begin_body` leaves large JSON bodies to
            be split in steps.

    Raises:
        TypeError: a value has the wrong type.
        BadRequest: a value is malformed.
    """
    require(str, path=path)
    require(OPTIONAL_TEXT, content_type=content_type)
    require(CreateOptions, options=options)
    expires = options.expires_at.isoformat() if options.expires_at is not None else None
    fork = _fork(options)
    media = None
    if content_type is not None or fork is None:
        media = parse_media_type(content_type or OCTET_STREAM)
    body = NO_BODY
    if options.initial_data:
        kind = media.kind if media is not None else Kind.BINARY
        body = encode(kind, bytes(options.initial_data), allow_empty=True)
    lifetime = parse_lifetime(_digits(options.ttl_seconds), expires)
    return Create(
        check_path(path), media, lifetime, body, options.closed, fork, public=options.public
    )


def _fork(options: CreateOptions) -> Fork | None:
    """Returns the source and position of a fork, parsed like `Stream-Fork-Offset` (PROTOCOL 4.2). Returns None if there is no source."""
    if options.forked_from is None:
        if options.fork_offset is not None or options.fork_sub_offset:
            raise BadRequest("a fork offset needs forked_from", "INVALID_FORK")
        return None
    text, anchor = options.fork_offset, None
    if text == Sentinel.START.value:
        anchor = offsets.ZERO
    elif text is not None and text != Sentinel.NOW.value:
        anchor = offsets.parse(text, "fork offset")
    return Fork(check_path(options.forked_from), anchor, options.fork_sub_offset or None)


def _digits(number: int | None) -> str | None:
    """Returns a number as the text of a header's value.

    A huge number is replaced by a number above every maximum, because Python refuses to convert huge numbers.
    """
    return None if number is None else str(max(-1, min(number, _TOO_LARGE)))


def _octets(text: str | None, code: str) -> bytes | None:
    try:
        return None if text is None else text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("the text is not UTF-8", code) from None
