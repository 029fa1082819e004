"""Plain Python arguments as commands, for the synchronous and the asynchronous interface alike.

Wrong types are refused with a TypeError, malformed values with the same BadRequest that HTTP answers. Both come before anything
is asked of a store.
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

_TOO_LARGE: Final = 1 << 63  # for any number that a request can have


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What a new stream is made with, besides its path and type.

    Attributes:
        ttl_seconds: sliding lifetime; excludes `expires_at`.
        expires_at: deadline, with a time zone.
        initial_data: the first bytes, or JSON values.
        closed: whether the stream is complete with that.
        forked_from: the path of the stream to fork.
        fork_offset: where to fork it; its tail if None.
        fork_sub_offset: bytes, or JSON values, past `fork_offset`.

    Raises:
        TypeError: a value of the wrong type.
    """

    ttl_seconds: int | None = None
    expires_at: datetime | None = None
    initial_data: bytes = b""
    closed: bool = False
    forked_from: str | None = None
    fork_offset: str | None = None
    fork_sub_offset: int = 0

    def __post_init__(self) -> None:
        require(OPTIONAL_INT, ttl_seconds=self.ttl_seconds)
        require((datetime, NoneType), expires_at=self.expires_at)
        require(DATA, initial_data=self.initial_data)
        require(bool, closed=self.closed)
        require(OPTIONAL_TEXT, forked_from=self.forked_from, fork_offset=self.fork_offset)
        require(int, fork_sub_offset=self.fork_sub_offset)


class AppendOptions(msgspec.Struct, frozen=True):
    """What an append says besides its path and data, checked by its form.

    Attributes:
        content_type: checked against the stream's, if given.
        seq: `Stream-Seq`, if given.
        stamp: of an idempotent producer, if one is named.
        expected: the offset that the tail must be at, if given.
        closes: whether the stream takes no more after this.
    """

    content_type: str | None = None
    seq: bytes | None = None
    stamp: Stamp | None = None
    expected: Offset | None = None
    closes: bool = False

    def command(
        self, state: StreamState, data: bytes, encode: Callable[..., Body] = commands.encode_body
    ) -> Append:
        """Returns the append to a stream.

        Args:
            state: the stream; its content type is what data is taken to be if no other is given.
            data: the bytes.
            encode: makes wire bytes of them: `encode_body`, or `begin_body` where the work is done in turns.

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
    """Returns the options of an append.

    Raises:
        TypeError: a value of the wrong type.
        BadRequest: INVALID_PRODUCER, INVALID_SEQ, INVALID_OFFSET.
    """
    texts = content_type, seq, producer_id, expected_offset
    if close is False and texts == _NO_TEXTS and producer_epoch is None and producer_seq is None:
        return _PLAIN  # as nearly always, and then there is nothing to check
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
    """Returns the create of a stream or fork.

    Args:
        path: the stream's path.
        content_type: its content type; of a fork, the source's if None.
        options: what it is made with.
        encode: makes wire bytes of the first data, as `AppendOptions.command` has it.

    Raises:
        TypeError: a value of the wrong type.
        BadRequest: a malformed value.
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
    return Create(check_path(path), media, lifetime, body, options.closed, fork)


def _fork(options: CreateOptions) -> Fork | None:
    """Returns what a fork names, in the same words as `Stream-Fork-Offset` (PROTOCOL 4.2)."""
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
    """Writes a number as a header has it. One far out of every range stays out of it: Python writes no number of any size."""
    return None if number is None else str(max(-1, min(number, _TOO_LARGE)))


def _octets(text: str | None, code: str) -> bytes | None:
    try:
        return None if text is None else text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("the text is not UTF-8", code) from None
