"""The errors that the server answers requests with. All of them derive from `StreamError`.

    StreamError
    ├── BadRequest 400        INVALID_REQUEST, or a more specific code
    ├── Unauthorized 401      TOKEN_REQUIRED, INVALID_TOKEN, TOKEN_EXPIRED
    ├── ProducerFenced 403    PRODUCER_FENCED
    ├── Forbidden 403         FORBIDDEN, FOREIGN_ORIGIN
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
    ├── UnknownHost 421       UNKNOWN_HOST
    ├── TooManyRequests 429   a limit of this stream or client is reached
    ├── HeadersTooLarge 431   HEADERS_TOO_LARGE
    ├── StreamDamaged 500     STREAM_DAMAGED
    ├── Unavailable 503       the server is at one of its limits, or stopping
    │   └── StoreForked 503       STORE_FORKED
    └── StorageFull 507       STORE_FULL

Each error has an HTTP status, a stable code and the protocol headers that belong to it. The message is for people. It contains only words of
the protocol, and numbers that the client has sent or may know.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

Header = tuple[bytes, bytes]

_NOTHING: Mapping[str, object] = MappingProxyType({})


class StreamError(Exception):
    """The server refuses a request.

    Attributes:
        status: the HTTP status code.
        code: a stable identifier in capital letters, for programs.
        message: one short sentence, for people.
        headers: the response headers that belong to the error.
        details: further values for programs.

    Args:
        retry_after: seconds after which the client may retry. The response has them in `Retry-After`.
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
    """The data of a stream on disk is damaged. Other streams are not affected. The `check` command names the files and the damage."""

    code = "STREAM_DAMAGED"


class BadRequest(StreamError):
    """The request is malformed. Repeating it unchanged cannot succeed."""

    status = 400
    code = "INVALID_REQUEST"


class Unauthorized(StreamError):
    """The bearer token is missing, invalid or expired (PROTOCOL 12.9). The response has a `WWW-Authenticate` header."""

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
    """A newer epoch of the same producer is active (PROTOCOL 5.2.1)."""

    status = 403
    code = "PRODUCER_FENCED"


class Forbidden(StreamError):
    """The token of the client, or the guard of the application, does not allow the request. Says nothing about whether a stream exists."""

    status = 403
    code = "FORBIDDEN"


class NotFound(StreamError):
    """No stream is at the path."""

    status = 404
    code = "STREAM_NOT_FOUND"


class MethodNotAllowed(StreamError):
    """The URL does not support the method. The `Allow` header lists the methods that it supports."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(StreamError):
    """The client did not send the whole request in time. Nothing was stored, and the server closes the connection."""

    status = 408
    code = "REQUEST_TIMEOUT"


class Conflict(StreamError):
    """The present state of the stream does not allow the request."""

    status = 409
    code = "CONFLICT"


class StreamClosed(Conflict):
    """The stream is closed and accepts no appends (PROTOCOL 5.2). The response has the final offset."""

    code = "STREAM_CLOSED"


class SequenceGap(Conflict):
    """A producer skipped a sequence number (PROTOCOL 5.2.1)."""

    code = "PRODUCER_SEQUENCE_GAP"


class OffsetMismatch(Conflict):
    """`Stream-Expected-Offset` is not the tail. The response has the tail."""

    code = "EXPECTED_OFFSET_MISMATCH"


class Fenced(Conflict):
    """The worker no longer holds the wake that it acts on (PROTOCOL 7.3)."""

    code = "FENCED"


class AlreadyClaimed(Conflict):
    """Another worker holds the wake (PROTOCOL 7.2). `details` has the name of that worker and the generation."""

    code = "ALREADY_CLAIMED"


class Gone(StreamError):
    """The stream is soft-deleted, or the offset belongs to an earlier incarnation of the path."""

    status = 410
    code = "STREAM_GONE"


class PreconditionFailed(StreamError):
    """The condition of `If-Match` or `If-None-Match` is false. The response has the entity tag and the tail of the stream, if there is one."""

    status = 412
    code = "PRECONDITION_FAILED"


class TooLarge(StreamError):
    """The request body is larger than the server accepts."""

    status = 413
    code = "BODY_TOO_LARGE"


class UriTooLong(StreamError):
    """The request target is longer than the server accepts."""

    status = 414
    code = "URI_TOO_LONG"


class UnsupportedMedia(StreamError):
    """The request body has a content coding that the server does not accept. The `Accept-Encoding` header lists those that it accepts."""

    status = 415
    code = "UNSUPPORTED_CONTENT_ENCODING"


class UnknownHost(StreamError):
    """The request names a host that is not this server's. Perhaps a web page has rebound its own name to this machine."""

    status = 421
    code = "UNKNOWN_HOST"


class TooManyRequests(StreamError):
    """A limit of the stream or of the client is reached. `Retry-After` says when to retry."""

    status = 429
    code = "TOO_MANY_REQUESTS"


class HeadersTooLarge(StreamError):
    """The header section of the request is larger than the server accepts."""

    status = 431
    code = "HEADERS_TOO_LARGE"


class Unavailable(StreamError):
    """The server has reached one of its limits, or is stopping. `Retry-After` says when to retry."""

    status = 503
    code = "UNAVAILABLE"


class StoreForked(Unavailable):
    """This process is a forked copy of the process that opened the store, so it may not use the store."""

    code = "STORE_FORKED"


class StorageFull(StreamError):
    """The store has no room for the data. Reads still work."""

    status = 507
    code = "STORE_FULL"


def forget_frames(error: BaseException) -> None:
    """Drops the traceback of an exception and the exceptions that caused it, which would keep local variables alive."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
