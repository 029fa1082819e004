"""What the Python API returns: frozen values that say the same of a stream in this process and of one elsewhere.

Offsets are opaque text, as clients see them: keep one, and read on from it later.
"""

import json
from typing import Any

import msgspec

from .media import Kind, parse_media_type


class CreateResult(msgspec.Struct, frozen=True):
    """What a create found or made.

    Attributes:
        created: whether the stream is new; False if it was there already with the same configuration.
        next_offset: the tail.
        content_type: the stream's content type.
        closed: whether the stream is complete.
    """

    created: bool
    next_offset: str
    content_type: str
    closed: bool


class AppendResult(msgspec.Struct, frozen=True):
    """What an append, or a close, has done. What it says is durable.

    Attributes:
        next_offset: the tail.
        closed: whether the stream is closed now.
        duplicate: whether the producer's data was there already, so that nothing was written. Always False of a close without data.
        producer_epoch: the producer's epoch, if the append named a producer.
        producer_seq: the highest sequence number accepted in that epoch.
    """

    next_offset: str
    closed: bool
    duplicate: bool
    producer_epoch: int | None = None
    producer_seq: int | None = None


class HeadResult(msgspec.Struct, frozen=True):
    """What is known of a stream without reading it.

    Attributes:
        content_type: as given at creation.
        next_offset: the tail.
        closed: whether the stream is complete.
        ttl_seconds: the sliding lifetime, if it has one.
        expires_at: the deadline as it was given (RFC 3339), if it has one.
    """

    content_type: str
    next_offset: str
    closed: bool
    ttl_seconds: int | None = None
    expires_at: str | None = None


class StreamPage(msgspec.Struct, frozen=True):
    """One bounded read.

    Attributes:
        data: the bytes, as HTTP sends them: of a JSON stream, an array of the values.
        next_offset: where to read on.
        up_to_date: whether that is the tail.
        closed: whether the stream ends there.
        content_type: the stream's content type.
    """

    data: bytes
    next_offset: str
    up_to_date: bool
    closed: bool
    content_type: str

    def json(self) -> list[Any]:
        """Returns the values of a JSON stream's page, decoded anew with each call. Whole numbers are exact, whatever their size.

        Raises:
            ValueError: the stream is not one of JSON, or a number has more digits than Python converts.
        """
        if parse_media_type(self.content_type).kind is not Kind.JSON:
            raise ValueError(f"the stream is not one of JSON but of {self.content_type}")
        values: list[Any] = json.loads(self.data)
        return values

    def text(self) -> str:
        """Returns the bytes as UTF-8 text.

        Raises:
            UnicodeDecodeError: they are not. A page ends where an append does, so this is also what an append causes that ends
                inside a character.
        """
        return self.data.decode("utf-8")
