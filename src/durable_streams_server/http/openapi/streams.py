"""Describes the operations on streams (PROTOCOL 5)."""

from typing import Final

from ...protocol.limits import MAX_TOKEN_BYTES, MAX_TTL_SECONDS
from .parts import (
    COUNT,
    OFFSET,
    TEXT,
    TRUE,
    Document,
    Operation,
    head_of,
    header,
    parameter,
    preflight,
    response,
)

_ANY: Final[Document] = {}
_NO_BODY: Final = "`Content-Type` is that of the stream, and there is no body."
#: One event of an event stream.
_EVENT: Final[Document] = {
    "type": "object",
    "description": "Each event: `data` has a part of the stream, and `control` says where it ends.",
    "properties": {
        "event": {"enum": ["data", "control"]},
        "data": TEXT,
        "id": OFFSET,
        "retry": COUNT,
    },
}
_CONDITIONS: Final = (
    parameter("header", "If-Match", TEXT, "Writes only if the stream has one of these ETags."),
    parameter(
        "header", "If-None-Match", TEXT, "Writes only if the stream has none of these ETags."
    ),
)
_IF_CHANGED: Final = parameter(
    "header", "If-None-Match", TEXT, "Gets 304 if the page still has one of these ETags."
)
_CLOSES: Final = parameter("header", "Stream-Closed", TEXT, "`true` closes the stream.")

_TAIL: Final = header(OFFSET, "The offset after the last byte.", required=True)
_CLOSED: Final = header(TRUE, "Sent if the stream is closed.")
_ETAG: Final = header(TEXT, "Identifies the state of the stream, or the page.", required=True)
_PUBLIC: Final = header(TRUE, "Sent if everybody may read the stream.")
_CREATED: Final = {
    "Stream-Next-Offset": _TAIL,
    "Stream-Closed": _CLOSED,
    "Stream-Public": _PUBLIC,
}
_APPENDED: Final = {
    "Stream-Next-Offset": _TAIL,
    "Stream-Closed": _CLOSED,
    "Producer-Epoch": header(COUNT, "The epoch of the producer, if the request named one."),
    "Producer-Seq": header(COUNT, "The newest sequence number of the producer."),
}
_PAGE: Final = {
    "Stream-Next-Offset": header(OFFSET, "The offset at which the next read begins."),
    "Stream-Up-To-Date": header(TRUE, "Sent if the page ends at the tail."),
    "Stream-Closed": header(TRUE, "Sent if the page ends at the end of a closed stream."),
    "Stream-Public": _PUBLIC,
    "Stream-Cursor": header(TEXT, "The cursor for the next live read."),
    "ETag": header(TEXT, "Identifies the page."),
}
_DESCRIBED: Final = {
    "Stream-Next-Offset": _TAIL,
    "Stream-Closed": _CLOSED,
    "Stream-Public": _PUBLIC,
    "Stream-TTL": header(COUNT, "The TTL in seconds, if the stream has one."),
    "Stream-Expires-At": header(TEXT, "The time at which the stream expires, if it has one."),
    "ETag": _ETAG,
}

PUT: Final = Operation(
    name="createStream",
    summary="Creates a stream or a fork, or confirms that the same stream exists.",
    access="create",
    parameters=(
        parameter(
            "header",
            "Stream-TTL",
            {"type": "integer", "minimum": 0, "maximum": MAX_TTL_SECONDS},
            "Seconds without a read or write after which the stream expires.",
        ),
        parameter(
            "header", "Stream-Expires-At", TEXT, "The RFC 3339 time at which the stream expires."
        ),
        _CLOSES,
        parameter(
            "header",
            "Stream-Public",
            TEXT,
            "`true` lets everybody read the stream, on a server with access control. An extension of this server.",
        ),
        parameter("header", "Stream-Forked-From", TEXT, "The path of the source of a fork."),
        parameter("header", "Stream-Fork-Offset", OFFSET, "The fork point; the tail by default."),
        parameter(
            "header",
            "Stream-Fork-Sub-Offset",
            COUNT,
            "Bytes or JSON messages after the fork offset.",
        ),
        *_CONDITIONS,
    ),
    body={"application/json": _ANY, "text/plain": TEXT, "application/octet-stream": _ANY},
    responses={
        "201": response(
            f"The stream is created. {_NO_BODY}",
            {**_CREATED, "Location": header(TEXT, "The URL of the stream.", required=True)},
        ),
        "200": response(f"The same stream exists. {_NO_BODY}", _CREATED),
    },
    errors={
        400: (
            "INVALID_CONTENT_TYPE",
            "INVALID_TTL",
            "INVALID_EXPIRES_AT",
            "CONFLICTING_LIFETIME",
            "INVALID_FORK",
            "INVALID_PUBLIC",
            "INVALID_OFFSET",
            "INVALID_SUB_OFFSET",
            "INVALID_JSON",
        ),
        404: ("RESERVED_PATH", "SOURCE_NOT_FOUND"),
        409: (
            "STREAM_EXISTS",
            "STREAM_GONE",
            "SOURCE_GONE",
            "CONTENT_TYPE_MISMATCH",
            "FORK_TOO_DEEP",
            "STREAM_FULL",
        ),
        410: ("OFFSET_GONE",),
        412: ("PRECONDITION_FAILED",),
        413: ("TOO_MANY_MESSAGES", "STREAM_TOO_LARGE"),
        415: ("UNSUPPORTED_CONTENT_ENCODING",),
        429: ("TOO_MANY_STREAMS", "TOO_MANY_APPENDS", "TOO_MANY_BYTES"),
        500: ("STREAM_DAMAGED",),
        503: ("WRITES_BEHIND", "NO_FILE_HANDLES"),
        507: ("STORE_FULL", "LARGEST_FILE"),
    },
)

POST: Final = Operation(
    name="append",
    summary="Appends to a stream, closes it, or does both.",
    access="append",
    parameters=(
        _CLOSES,
        parameter(
            "header",
            "Stream-Seq",
            {"type": "string", "minLength": 1, "maxLength": MAX_TOKEN_BYTES},
            "A text that must be greater than that of the last append.",
        ),
        parameter(
            "header",
            "Stream-Expected-Offset",
            OFFSET,
            "Appends only if this is the tail. An extension of this server.",
        ),
        parameter(
            "header",
            "Producer-Id",
            {"type": "string", "minLength": 1, "maxLength": MAX_TOKEN_BYTES},
            "The name of an idempotent producer.",
        ),
        parameter("header", "Producer-Epoch", COUNT, "Grows each time the producer restarts."),
        parameter("header", "Producer-Seq", COUNT, "Grows by one with each append of an epoch."),
        *_CONDITIONS,
    ),
    body={"application/json": _ANY, "text/plain": TEXT, "application/octet-stream": _ANY},
    responses={
        "200": response("A producer's append is durable.", _APPENDED),
        "204": response("The append is durable, or was already.", _APPENDED),
    },
    errors={
        400: (
            "INVALID_CONTENT_TYPE",
            "MISSING_CONTENT_TYPE",
            "EMPTY_BODY",
            "EMPTY_ARRAY",
            "INVALID_JSON",
            "INVALID_OFFSET",
            "INVALID_PRODUCER",
            "INVALID_SEQ",
        ),
        403: ("PRODUCER_FENCED",),
        404: ("STREAM_NOT_FOUND", "RESERVED_PATH"),
        409: (
            "STREAM_CLOSED",
            "CONTENT_TYPE_MISMATCH",
            "PRODUCER_SEQUENCE_GAP",
            "SEQUENCE_REGRESSION",
            "EXPECTED_OFFSET_MISMATCH",
            "STREAM_FULL",
        ),
        410: ("STREAM_GONE",),
        412: ("PRECONDITION_FAILED",),
        413: ("TOO_MANY_MESSAGES", "STREAM_TOO_LARGE"),
        415: ("UNSUPPORTED_CONTENT_ENCODING",),
        429: ("TOO_MANY_PRODUCERS", "TOO_MANY_APPENDS", "TOO_MANY_BYTES"),
        500: ("STREAM_DAMAGED",),
        503: ("WRITES_BEHIND", "NO_FILE_HANDLES"),
        507: ("STORE_FULL", "LARGEST_FILE"),
    },
)

_READ_ERRORS: Final = {
    404: ("STREAM_NOT_FOUND", "RESERVED_PATH"),
    410: ("STREAM_GONE",),
    500: ("STREAM_DAMAGED",),
    503: ("NO_FILE_HANDLES",),
}

GET: Final = Operation(
    name="readStream",
    summary="Reads one page of a stream, or follows the stream live.",
    access="read",
    parameters=(
        parameter(
            "query",
            "offset",
            {"type": "string", "anyOf": [OFFSET, {"enum": ["-1", "now"]}]},
            "Where to read: an offset, `-1` for the beginning, or `now` for the tail. A live read needs one.",
        ),
        parameter(
            "query",
            "live",
            {"type": "string", "enum": ["long-poll", "sse"]},
            "`long-poll` waits for data at the tail, `sse` follows the stream as Server-Sent Events.",
        ),
        parameter(
            "query",
            "cursor",
            {"type": "string", "pattern": "^[0-9]{1,20}$"},
            "The `Stream-Cursor` of the last live response.",
        ),
        parameter("header", "Last-Event-ID", TEXT, "Where an EventSource continues."),
        _IF_CHANGED,
    ),
    responses={
        "200": response(
            "A page, as a JSON array or as the bytes of the stream; with `live=sse`, events.",
            {
                **_PAGE,
                "Stream-SSE-Data-Encoding": header(
                    {"type": "string", "const": "base64"},
                    "Sent if the data of events is in base64.",
                ),
            },
            {"application/json": {"type": "array"}, "text/event-stream": _EVENT, "*/*": _ANY},
        ),
        "204": response("A long-poll without data, or the end of a closed stream.", _PAGE),
        "304": response("The client already has the page.", _PAGE),
    },
    errors={
        400: (
            "INVALID_QUERY",
            "INVALID_OFFSET",
            "MISSING_OFFSET",
            "INVALID_LIVE",
            "INVALID_CURSOR",
        ),
        **_READ_ERRORS,
        410: ("STREAM_GONE", "OFFSET_GONE"),
        429: ("TOO_MANY_READERS_OF_CLIENT", "TOO_MANY_READERS_OF_STREAM"),
        503: ("NO_FILE_HANDLES", "TOO_MANY_LIVE_READERS"),
    },
)

HEAD: Final = head_of(
    Operation(
        name="",
        summary="Describes a stream.",
        access="read",
        parameters=(_IF_CHANGED,),
        responses={
            "200": response(f"The stream exists. {_NO_BODY}", _DESCRIBED),
            "304": response("The stream has not changed.", _DESCRIBED),
        },
        errors=_READ_ERRORS,
    ),
    "describeStream",
)

DELETE: Final = Operation(
    name="deleteStream",
    summary="Deletes a stream. Its forks keep the bytes that they inherit.",
    access="delete",
    parameters=_CONDITIONS,
    responses={"204": response("The stream is deleted.")},
    errors={
        404: ("STREAM_NOT_FOUND", "RESERVED_PATH"),
        409: ("STREAM_FULL",),
        410: ("STREAM_GONE",),
        412: ("PRECONDITION_FAILED",),
        503: ("WRITES_BEHIND",),
        507: ("STORE_FULL",),
    },
)

#: The operations on a stream, by method.
STREAM: Final = {
    "PUT": PUT,
    "POST": POST,
    "GET": GET,
    "HEAD": HEAD,
    "DELETE": DELETE,
    "OPTIONS": preflight("preflightOfStream"),
}
