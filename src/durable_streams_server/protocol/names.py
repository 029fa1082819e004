"""The names of headers and query parameters, and other fixed texts of the protocol.

Header names are lower-case bytes, as Python's HTTP servers pass them. Responses use the same spelling, because header names are
case-insensitive (RFC 9110, 5.1).
"""

from typing import Final

DEFAULT_PORT: Final = 4437  # PROTOCOL 13.1
DEFAULT_STREAM_ROOT: Final = "/v1/stream"
RESERVED_SEGMENT: Final = "__ds"  # PROTOCOL 6
HEALTH_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
METRICS_PATH: Final = "/metrics"
#: Paths of health checks, which load balancers call without a token.
HEALTH_PATHS: Final = frozenset({HEALTH_PATH, READY_PATH})
#: Paths of the server itself, outside the stream root.
OPERATIONS_PATHS: Final = frozenset({HEALTH_PATH, READY_PATH, METRICS_PATH})

# Stream headers (PROTOCOL 13.2)
STREAM_TTL: Final = b"stream-ttl"
STREAM_EXPIRES_AT: Final = b"stream-expires-at"
STREAM_SEQ: Final = b"stream-seq"
STREAM_CURSOR: Final = b"stream-cursor"
STREAM_NEXT_OFFSET: Final = b"stream-next-offset"
STREAM_UP_TO_DATE: Final = b"stream-up-to-date"
STREAM_CLOSED: Final = b"stream-closed"
STREAM_FORKED_FROM: Final = b"stream-forked-from"
STREAM_FORK_OFFSET: Final = b"stream-fork-offset"
STREAM_FORK_SUB_OFFSET: Final = b"stream-fork-sub-offset"
STREAM_EXPECTED_OFFSET: Final = b"stream-expected-offset"  # an extension of this server
STREAM_PUBLIC: Final = b"stream-public"  # an extension of this server
STREAM_SSE_DATA_ENCODING: Final = b"stream-sse-data-encoding"  # PROTOCOL 5.8

# Producer headers (PROTOCOL 5.2.1)
PRODUCER_ID: Final = b"producer-id"
PRODUCER_EPOCH: Final = b"producer-epoch"
PRODUCER_SEQ: Final = b"producer-seq"
PRODUCER_EXPECTED_SEQ: Final = b"producer-expected-seq"
PRODUCER_RECEIVED_SEQ: Final = b"producer-received-seq"

# Standard HTTP headers that the server reads
CONTENT_TYPE: Final = b"content-type"
CONTENT_LENGTH: Final = b"content-length"
CONTENT_ENCODING: Final = b"content-encoding"
ACCEPT_ENCODING: Final = b"accept-encoding"
TRANSFER_ENCODING: Final = b"transfer-encoding"
HOST: Final = b"host"
IF_MATCH: Final = b"if-match"
IF_NONE_MATCH: Final = b"if-none-match"
LAST_EVENT_ID: Final = b"last-event-id"
AUTHORIZATION: Final = b"authorization"
COOKIE: Final = b"cookie"
ORIGIN: Final = b"origin"
FORWARDED: Final = b"forwarded"  # RFC 7239
X_FORWARDED_FOR: Final = b"x-forwarded-for"
X_FORWARDED_PROTO: Final = b"x-forwarded-proto"
X_REQUEST_ID: Final = b"x-request-id"
TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"

#: Headers that a request may have only once. A request that repeats one would be ambiguous, so the server refuses it.
SINGLETONS: Final = frozenset(
    {
        STREAM_TTL,
        STREAM_EXPIRES_AT,
        STREAM_SEQ,
        STREAM_CLOSED,
        STREAM_FORKED_FROM,
        STREAM_FORK_OFFSET,
        STREAM_FORK_SUB_OFFSET,
        STREAM_EXPECTED_OFFSET,
        STREAM_PUBLIC,
        PRODUCER_ID,
        PRODUCER_EPOCH,
        PRODUCER_SEQ,
        CONTENT_TYPE,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        HOST,
        LAST_EVENT_ID,
    }
)

# Query parameters (PROTOCOL 5.6 to 5.8)
QUERY_OFFSET: Final = "offset"
QUERY_LIVE: Final = "live"
QUERY_CURSOR: Final = "cursor"
LIVE_LONG_POLL: Final = "long-poll"
LIVE_SSE: Final = "sse"

OCTET_STREAM: Final = "application/octet-stream"  # the default content type (PROTOCOL 5.1)
