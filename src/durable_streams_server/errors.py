"""Everything the server can refuse, in one tree.

    StreamError
    ├── BadRequest 400        INVALID_REQUEST and its narrower codes, given by the raiser
    ├── Unauthorized 401      INVALID_TOKEN, TOKEN_EXPIRED
    ├── ProducerFenced 403    PRODUCER_FENCED
    ├── Forbidden 403         FORBIDDEN
    ├── NotFound 404          STREAM_NOT_FOUND, RESERVED_PATH, ...
    ├── MethodNotAllowed 405  METHOD_NOT_ALLOWED, READ_ONLY
    ├── RequestTimeout 408    REQUEST_TIMEOUT
    ├── Conflict 409          the request is well formed but the stream's state forbids it
    │   ├── StreamClosed          STREAM_CLOSED
    │   ├── SequenceGap           PRODUCER_SEQUENCE_GAP
    │   ├── OffsetMismatch        EXPECTED_OFFSET_MISMATCH
    │   ├── Fenced                FENCED
    │   └── AlreadyClaimed        ALREADY_CLAIMED
    ├── Gone 410              STREAM_GONE, OFFSET_GONE
    ├── PreconditionFailed 412  PRECONDITION_FAILED
    ├── TooLarge 413          BODY_TOO_LARGE, TOO_MANY_MESSAGES
    ├── UriTooLong 414        URI_TOO_LONG
    ├── UnsupportedMedia 415  UNSUPPORTED_CONTENT_ENCODING
    ├── TooManyRequests 429   a limit of this stream is reached
    ├── HeadersTooLarge 431   HEADERS_TOO_LARGE
    ├── StreamDamaged 500     STREAM_DAMAGED
    ├── Unavailable 503       the server is at one of its limits, or stopping
    │   └── StoreForked 503       STORE_FORKED
    └── StorageFull 507       STORE_FULL

Each error knows its HTTP status, its stable code and the protocol headers that belong to it. The message is for people; it
never contains anything but the protocol's own words and numbers that the client sent or may know.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

Header = tuple[bytes, bytes]

_NOTHING: Mapping[str, object] = MappingProxyType({})


class StreamError(Exception):
    """A refused request.

    Attributes:
        status: the HTTP status code.
        code: a stable identifier in capitals, for programs.
        message: one short sentence, for people.
        headers: the response headers that go with the error.
        details: values for programs, besides the code.

    Args:
        retry_after: seconds after which the client may try again; the response says so with `Retry-After`.
    """

    status = 500
    code = "INTERNAL_ERROR"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        headers: Sequence[Header] = (),
        details: Mapping[str, object] = _NOTHING,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.headers = tuple(headers)
        if retry_after is not None:
            self.headers += ((b"retry-after", b"%d" % retry_after),)
        self.details = details


class StreamDamaged(StreamError):
    """What the disk holds of the stream is damaged; no other stream is touched. `check` says what and where."""

    code = "STREAM_DAMAGED"


class BadRequest(StreamError):
    """The request is malformed; repeating it unchanged cannot succeed."""

    status = 400
    code = "INVALID_REQUEST"


class Unauthorized(StreamError):
    """The bearer token is missing, not ours, or no longer good (PROTOCOL 12.9); says so with `WWW-Authenticate`."""

    status = 401
    code = "INVALID_TOKEN"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        headers: Sequence[Header] = ((b"www-authenticate", b"Bearer"),),
    ) -> None:
        super().__init__(message, code, headers)


class ProducerFenced(StreamError):
    """A newer epoch of the same producer has been seen (PROTOCOL 5.2.1)."""

    status = 403
    code = "PRODUCER_FENCED"


class Forbidden(StreamError):
    """The application's guard does not allow the request."""

    status = 403
    code = "FORBIDDEN"


class NotFound(StreamError):
    """No such stream."""

    status = 404
    code = "STREAM_NOT_FOUND"


class MethodNotAllowed(StreamError):
    """The method has no meaning at this URL; `Allow` names those that have."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(StreamError):
    """The rest of the request did not come in time; nothing of it was stored, and the connection is closed."""

    status = 408
    code = "REQUEST_TIMEOUT"


class Conflict(StreamError):
    """The stream's present state forbids the request."""

    status = 409
    code = "CONFLICT"


class StreamClosed(Conflict):
    """An append to a closed stream (PROTOCOL 5.2); carries the final offset."""

    code = "STREAM_CLOSED"


class SequenceGap(Conflict):
    """A producer skipped a sequence number (PROTOCOL 5.2.1)."""

    code = "PRODUCER_SEQUENCE_GAP"


class OffsetMismatch(Conflict):
    """`Stream-Expected-Offset` is not the tail; carries the tail."""

    code = "EXPECTED_OFFSET_MISMATCH"


class Fenced(Conflict):
    """The wake that a worker acts on is over, or another one (PROTOCOL 7.3)."""

    code = "FENCED"


class AlreadyClaimed(Conflict):
    """Another worker holds the wake (PROTOCOL 7.2); `details` names it and the generation."""

    code = "ALREADY_CLAIMED"


class Gone(StreamError):
    """The stream is soft-deleted, or the offset belongs to an earlier life of the path."""

    status = 410
    code = "STREAM_GONE"


class PreconditionFailed(StreamError):
    """`If-Match` or `If-None-Match` does not hold; carries the stream's tag and tail, if there is a stream."""

    status = 412
    code = "PRECONDITION_FAILED"


class TooLarge(StreamError):
    """The request body is larger than the server takes."""

    status = 413
    code = "BODY_TOO_LARGE"


class UriTooLong(StreamError):
    """The request target is longer than the server takes."""

    status = 414
    code = "URI_TOO_LONG"


class UnsupportedMedia(StreamError):
    """The request's body is compressed, or coded in another way; `Accept-Encoding` says what is taken."""

    status = 415
    code = "UNSUPPORTED_CONTENT_ENCODING"


class TooManyRequests(StreamError):
    """A limit of this stream is reached; `Retry-After` says when to come back."""

    status = 429
    code = "TOO_MANY_REQUESTS"


class HeadersTooLarge(StreamError):
    """The request's header section is larger than the server takes."""

    status = 431
    code = "HEADERS_TOO_LARGE"


class Unavailable(StreamError):
    """The server is at one of its limits or is stopping; `Retry-After` says when to come back."""

    status = 503
    code = "UNAVAILABLE"


class StoreForked(Unavailable):
    """This process is a forked copy of the one that opened the store, and may not use the store."""

    code = "STORE_FORKED"


class StorageFull(StreamError):
    """The store has no room for the data; reads go on."""

    status = 507
    code = "STORE_FULL"
