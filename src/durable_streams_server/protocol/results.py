"""The results that the Python API returns, as frozen values. They are the same for a stream in this process and for a remote one.

Offsets are opaque strings, as HTTP clients see them. A program can store an offset and resume reading from it later.
"""

import json
from typing import Any

import msgspec

from .media import Kind, parse_media_type


class CreateResult(msgspec.Struct, frozen=True):
    """The result of a create.

    Attributes:
        created: whether the stream is new. False if it already existed with the same configuration.
        next_offset: the offset of the tail.
        content_type: the stream's content type.
        closed: whether the stream is closed.
    """

    created: bool
    next_offset: str
    content_type: str
    closed: bool


class AppendResult(msgspec.Struct, frozen=True):
    """The result of an append or a close, which is durable.

    Attributes:
        next_offset: the offset of the tail.
        closed: whether the stream is closed now.
        duplicate: whether the producer had already appended the data, so that nothing was written. Always False for a close without
            data.
        producer_epoch: the producer's epoch, or None if the append named no producer.
        producer_seq: the highest sequence number accepted in that epoch, or None if the append named no producer.
    """

    next_offset: str
    closed: bool
    duplicate: bool
    producer_epoch: int | None = None
    producer_seq: int | None = None


class HeadResult(msgspec.Struct, frozen=True):
    """The metadata of a stream.

    Attributes:
        content_type: the content type given at creation.
        next_offset: the offset of the tail.
        closed: whether the stream is closed.
        ttl_seconds: the sliding lifetime in seconds, or None.
        expires_at: the deadline as given at creation (RFC 3339), or None.
        public: whether anyone may read the stream without a token.
    """

    content_type: str
    next_offset: str
    closed: bool
    ttl_seconds: int | None = None
    expires_at: str | None = None
    public: bool = False


class StreamPage(msgspec.Struct, frozen=True):
    """The result of one bounded read.

    Attributes:
        data: the bytes as HTTP sends them. For a JSON stream, this is a JSON array of the values.
        next_offset: the offset from which to read on.
        up_to_date: whether `next_offset` is the tail.
        closed: whether the stream is closed and ends at `next_offset`.
        content_type: the stream's content type.
    """

    data: bytes
    next_offset: str
    up_to_date: bool
    closed: bool
    content_type: str

    def json(self) -> list[Any]:
        """Returns the decoded values of a page of a JSON stream. Integers of any size are exact.

        Each call decodes the page again.

        Raises:
            ValueError: the stream is not a JSON stream, or a number has more digits than Python converts.
        """
        if parse_media_type(self.content_type).kind is not Kind.JSON:
            raise ValueError(f"the stream is not one of JSON but of {self.content_type}")
        values: list[Any] = json.loads(self.data)
        return values

    def text(self) -> str:
        """Returns the data decoded as UTF-8.

        Raises:
            UnicodeDecodeError: the data is not UTF-8. A page ends at the end of an append, so this also happens if an append ended
                inside a character.
        """
        return self.data.decode("utf-8")
