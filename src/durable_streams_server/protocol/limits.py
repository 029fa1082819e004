"""The limits of the protocol's rules and their defaults, with reasons. `docs/limits.md` lists the limits for operators."""

from typing import Final

from .units import KIB, MIB

#: Maximum bytes of a path, because an LMDB key of 511 bytes must hold the path and a prefix.
MAX_PATH_BYTES: Final = 500
#: Maximum bytes of a path below `__ds`, which may contain a mount point, a subscription id and a stream path.
MAX_CONTROL_PATH_BYTES: Final = 2 * KIB
#: Maximum bytes of a URL, the same as the limit of common proxies. A path and all parameters need much less.
MAX_URL_BYTES: Final = 8 * KIB
#: Maximum bytes of all headers of a request, twice the size that browsers send with large cookies.
MAX_HEADER_BYTES: Final = 32 * KIB
MAX_HEADER_COUNT: Final = 128
#: Maximum bytes of a producer id, a Stream-Seq, a cursor or an offset, because the server stores or logs them.
MAX_TOKEN_BYTES: Final = 256
MAX_CONTENT_TYPE_BYTES: Final = 256
#: Maximum levels of nesting in JSON, because recursive parsers of clients fail on deeper values.
MAX_JSON_DEPTH: Final = 128
#: Maximum number of values in one append. Each takes about half a microsecond of the event loop, in short steps, so an append takes
#: at most half a second. A body of 64 MiB can consist of values of 64 bytes.
MAX_MESSAGES: Final = 1024 * 1024
#: Maximum number of sources between a fork and the first stream. Loading a fork looks up each source (about 10 us each), and
#: deleting the last fork may remove all of them in one record (about 70 us each). So 256 sources block the event loop for about 20 ms.
MAX_FORK_DEPTH: Final = 256
#: Maximum seconds of a TTL: a century. A longer TTL is a mistake, and its deadline might have no printable date.
MAX_TTL_SECONDS: Final = 100 * 365 * 24 * 3600
#: Maximum seconds between two deliveries of a wake. A receiver that has recovered waits at most this long for the next delivery.
MAX_RETRY_DELAY: Final = 60.0
#: Maximum fraction of a delay that is added or subtracted at random, so that retries do not all come at once.
RETRY_JITTER: Final = 0.2
#: The greatest integer that JavaScript represents exactly (PROTOCOL 5.2.1).
MAX_SAFE_INTEGER: Final = 2**53 - 1
#: The greatest byte position, because an offset has 16 digits for it.
MAX_POSITION: Final = 10**16 - 1

# Ranges of the numbers that a store keeps. Every number is checked or clamped where it arrives, so every decision can be encoded,
# replayed, put in the catalog and printed. Numbers that count records (LSNs, sessions, generations, attempts, forks of a stream,
# index entries) need no check, because 2^53 records take 285 years at a million records per second.
#: The least time, in microseconds of Unix time, because the catalog orders unsigned numbers.
MIN_TIME: Final = 0
#: The greatest time, in microseconds of Unix time: the end of the year 9999, where RFC 3339 ends.
MAX_TIME: Final = 253_402_300_799_999_999
#: The greatest deadline that the catalog can order. It is greater than MAX_TIME plus the longest TTL.
MAX_DEADLINE: Final = 2**63 - 1
#: The greatest incarnation that a clock can cause, in the year 2255. Beyond it, incarnations are counted one by one, so a server
#: whose clock was once far ahead still has 10^15 of them left.
MAX_CLOCK_INCARNATION: Final = 9 * 10**15

#: Maximum bytes of a request body, because an append is one record that is held in memory.
DEFAULT_MAX_BODY: Final = 64 * MIB
#: Maximum bytes of request bodies held at once, over all connections.
DEFAULT_MAX_IN_FLIGHT: Final = 256 * MIB
#: Maximum bytes of large pages that wait for slow readers, over all connections.
DEFAULT_MAX_UNSENT: Final = 256 * MIB
#: Maximum number of producers per stream, at about 200 bytes each.
DEFAULT_MAX_PRODUCERS: Final = 100_000
#: Bytes of a page, large enough for throughput, and small enough because each reader needs memory for a page.
DEFAULT_PAGE_SIZE: Final = 4 * MIB
MIN_PAGE_SIZE: Final = 1 * KIB
#: The greatest page size, because the server holds each reader's page in memory as a whole.
MAX_PAGE_SIZE: Final = 1024 * MIB
#: Maximum bytes of one event. A stalled reader takes no more memory than one event and its socket buffer.
SSE_PAGE_SIZE: Final = 16 * KIB
#: Maximum bytes that an iteration over a stream in the same process reads at once.
FOLLOW_PAGE_SIZE: Final = 256 * KIB
#: Approximate maximum bytes of JSON that a read parses to find the end of a page.
MARK_SPACING: Final = 32 * KIB
#: Minimum bytes of a response that is compressed with gzip, because a smaller one takes longer to compress than to send.
GZIP_MINIMUM: Final = 4 * KIB
#: Seconds of a long-poll, less than the usual idle timeout of proxies (60 s).
DEFAULT_LONG_POLL_TIMEOUT: Final = 30.0
#: Maximum seconds that the server waits for the next byte of a request body. A mobile client that changes networks is back within
#: this time.
DEFAULT_BODY_TIMEOUT: Final = 30.0
#: Minimum bytes per second of a request body, once DEFAULT_BODY_TIMEOUT has passed.
LEAST_BODY_RATE: Final = 16 * KIB
#: Seconds after which the server ends an event stream (PROTOCOL 10.2).
DEFAULT_SSE_MAX_AGE: Final = 60.0
#: Seconds between two comments on an idle event stream.
SSE_KEEP_ALIVE: Final = 15.0
#: Milliseconds that a browser waits before it reconnects.
SSE_RETRY_MS: Final = 1000

#: Seconds in the `Retry-After` of a refusal whose cause usually passes at once.
RETRY_SOON: Final = 1
