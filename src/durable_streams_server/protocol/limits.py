"""The limits of the protocol's rules and their defaults, with reasons. `docs/limits.md` lists the limits for operators."""

from typing import Final

from .units import KIB, MIB

MAX_PATH_BYTES: Final = (
    500  #: bytes of a path, because an LMDB key of 511 bytes must hold the path and a prefix
)
#: bytes of a path below `__ds`, enough for a mount point, a subscription id and a stream path of maximum length
MAX_CONTROL_PATH_BYTES: Final = 2 * KIB
MAX_URL_BYTES: Final = (
    8 * KIB
)  #: bytes of a URL, as common proxies accept; a path and all parameters need much less
MAX_HEADER_BYTES: Final = (
    32 * KIB
)  #: bytes of all headers, twice the size that browsers send with large cookies
MAX_HEADER_COUNT: Final = 128
MAX_TOKEN_BYTES: Final = (
    256  #: bytes of a producer id, Stream-Seq, cursor or offset, which the server keeps or logs
)
MAX_CONTENT_TYPE_BYTES: Final = 256
MAX_JSON_DEPTH: Final = (
    128  #: levels of nesting, because recursive parsers of clients fail on deeper values
)
#: Number of values in one append. Each takes about half a microsecond of the event loop, in short steps, so an append takes at most
#: half a second. A body of 64 MiB can consist of values of 64 bytes.
MAX_MESSAGES: Final = 1024 * 1024
#: Number of forks of forks. Loading a fork looks up each of its sources (about 10 us each), and deleting the last fork may remove
#: all of them in one record (about 70 us each). So this many hold the event loop for about 20 ms.
MAX_FORK_DEPTH: Final = 256
#: Seconds of a TTL: a century. A longer one is a mistake, and its deadline might have no printable date.
MAX_TTL_SECONDS: Final = 100 * 365 * 24 * 3600
MAX_RETRY_DELAY: Final = (
    60.0  #: seconds between two deliveries of a wake, after which a recovered receiver is noticed
)
RETRY_JITTER: Final = (
    0.2  #: fraction of a delay that is added or subtracted, so that retries do not come all at once
)
MAX_SAFE_INTEGER: Final = (
    2**53 - 1
)  #: the greatest integer that JavaScript represents exactly (PROTOCOL 5.2.1)
MAX_POSITION: Final = (
    10**16 - 1
)  #: the greatest byte position, because an offset has 16 digits for it

# Ranges of the numbers that a store keeps. Every number is checked or clamped where it arrives, so every decision can be encoded,
# replayed, put in the catalog and printed. Numbers that count records (LSNs, sessions, generations, attempts, forks of a stream,
# index entries) need no check, because 2^53 records take 285 years at a million records per second.
MIN_TIME: Final = 0  #: microseconds of Unix time, because the catalog orders unsigned numbers
MAX_TIME: Final = (
    253_402_300_799_999_999  #: the last microsecond of the year 9999, where RFC 3339 ends
)
MAX_DEADLINE: Final = (
    2**63 - 1
)  #: the greatest number that the catalog can order; MAX_TIME plus the longest TTL fits
#: The greatest incarnation that a clock can cause, in the year 2255. Beyond it, incarnations are counted one by one, so a server
#: whose clock was once far ahead still has 10^15 of them left.
MAX_CLOCK_INCARNATION: Final = 9 * 10**15

DEFAULT_MAX_BODY: Final = (
    64 * MIB
)  #: bytes of a request body, because an append is one record that is held in memory
DEFAULT_MAX_IN_FLIGHT: Final = (
    256 * MIB
)  #: bytes of request bodies held at once, over all connections
DEFAULT_MAX_UNSENT: Final = (
    256 * MIB
)  #: bytes of large pages that wait for slow readers, over all connections
DEFAULT_MAX_PRODUCERS: Final = 100_000  #: producers per stream, at about 200 bytes each
DEFAULT_PAGE_SIZE: Final = (
    4 * MIB
)  #: bytes of a page, large enough for throughput and small enough per reader
MIN_PAGE_SIZE: Final = 1 * KIB
MAX_PAGE_SIZE: Final = (
    1024 * MIB
)  #: bytes of a page, because each reader's page is in memory as a whole
SSE_PAGE_SIZE: Final = (
    16 * KIB
)  #: bytes of one event, which bounds the memory of a stalled reader beside its socket buffer
FOLLOW_PAGE_SIZE: Final = (
    256 * KIB
)  #: bytes that an iteration over a stream in the process gets at once
MARK_SPACING: Final = (
    32 * KIB
)  #: bytes of JSON that a read parses at most, roughly, to find the end of a page
GZIP_MINIMUM: Final = 4 * KIB  #: bytes below which a page takes longer to compress than to send
DEFAULT_LONG_POLL_TIMEOUT: Final = (
    30.0  #: seconds, less than the usual idle timeout of proxies (60 s)
)
#: Seconds without a byte of a request body. A mobile client that changes networks is back within this time.
DEFAULT_BODY_TIMEOUT: Final = 30.0
LEAST_BODY_RATE: Final = (
    16 * KIB
)  #: bytes per second at which a body must arrive once DEFAULT_BODY_TIMEOUT has passed
DEFAULT_SSE_MAX_AGE: Final = 60.0  #: seconds until the server ends an event stream (PROTOCOL 10.2)
SSE_KEEP_ALIVE: Final = 15.0  #: seconds between two comments on an idle event stream
SSE_RETRY_MS: Final = 1000  #: milliseconds that a browser waits before it reconnects

RETRY_SOON: Final = (
    1  #: seconds in the `Retry-After` of limits that usually have room again at once
)
