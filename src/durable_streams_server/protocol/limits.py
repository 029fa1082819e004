"""Every limit of the protocol's rules and its default, each beside its reason. `docs/limits.md` lists them for operators."""

from typing import Final

from .units import KIB, MIB

MAX_PATH_BYTES: Final = 500  # a catalog key of 511 bytes (LMDB) must hold a path and its prefix
MAX_CONTROL_PATH_BYTES: Final = (
    2 * KIB
)  # of a URL below `__ds`: a mount, an id and a stream's path, which have limits of their own
MAX_URL_BYTES: Final = (
    8 * KIB
)  # what common proxies take; a path and every parameter fit many times
MAX_HEADER_BYTES: Final = 32 * KIB  # twice what browsers send with large cookies
MAX_HEADER_COUNT: Final = 128
MAX_TOKEN_BYTES: Final = (
    256  # a producer id, a Stream-Seq, a cursor, an offset: kept in memory or logged
)
MAX_CONTENT_TYPE_BYTES: Final = 256
MAX_JSON_DEPTH: Final = 128  # deeper values break clients' recursive parsers, and would break ours
# Values in one append. Each takes about half a microsecond of the loop's time, in short steps, so an append takes half a second
# at most. A body of 64 MiB may be cut into values of 64 bytes.
MAX_MESSAGES: Final = 1024 * 1024
# Forks of forks. Loading one looks up each of its sources (about 10 us each), and deleting the last may end all of them in one
# record (about 70 us each), so this many hold the loop for about 20 ms.
MAX_FORK_DEPTH: Final = 256
MAX_TTL_SECONDS: Final = (
    100 * 365 * 24 * 3600
)  # a century; more is a mistake, and dates must stay printable
MAX_RETRY_DELAY: Final = 60.0  # seconds between two deliveries of a wake; the pace at which a receiver that is back is found
RETRY_JITTER: Final = 0.2  # of a delay, either way, so that receivers are not all asked at once
MAX_SAFE_INTEGER: Final = 2**53 - 1  # PROTOCOL 5.2.1, for JavaScript
MAX_POSITION: Final = 10**16 - 1  # 16 decimal digits of byte position

# Ranges of the numbers that a store keeps. A number is checked, or brought into its range, where it arrives; so whatever is
# decided can be encoded, replayed, put in the catalog and printed. What only counts records (LSNs, sessions, generations,
# attempts, forks of a stream, index entries) has no check: at a million records a second, 2^53 are 285 years.
MIN_TIME: Final = 0  # microseconds of Unix time; the catalog orders unsigned numbers
MAX_TIME: Final = 253_402_300_799_999_999  # the last microsecond of the year 9999, as RFC 3339 ends
MAX_DEADLINE: Final = 2**63 - 1  # of the catalog's order; MAX_TIME and the longest lifetime fit
# The year 2255. Past it, incarnations are counted one by one, which leaves 10^15 of the 16 digits to a server whose clock was
# once far ahead.
MAX_CLOCK_INCARNATION: Final = 9 * 10**15

DEFAULT_MAX_BODY: Final = 64 * MIB  # one append is one record held in memory
DEFAULT_MAX_IN_FLIGHT: Final = 256 * MIB  # request bodies held at once, over all connections
DEFAULT_MAX_UNSENT: Final = (
    256 * MIB
)  # large pages held for readers that have not taken them, over all connections
DEFAULT_MAX_PRODUCERS: Final = 100_000  # per stream; each costs about 200 bytes
DEFAULT_PAGE_SIZE: Final = (
    4 * MIB
)  # one read's answer; large enough for throughput, small enough per reader
MIN_PAGE_SIZE: Final = 1 * KIB
MAX_PAGE_SIZE: Final = 1024 * MIB  # a page is in memory whole, once for each reader that is sent it
SSE_PAGE_SIZE: Final = (
    16 * KIB
)  # one event; with the socket's buffer this bounds what a stalled reader costs
FOLLOW_PAGE_SIZE: Final = 256 * KIB  # what a loop over a stream is given at once, in the process
MARK_SPACING: Final = 32 * KIB  # a read parses at most about this much JSON to find a cut
GZIP_MINIMUM: Final = 4 * KIB  # below this a page costs more to compress than to send
DEFAULT_LONG_POLL_TIMEOUT: Final = 30.0  # seconds; below the usual 60 s idle timeout of proxies
DEFAULT_BODY_TIMEOUT: Final = (
    30.0  # seconds without a byte of a body; a mobile client that changes networks is back by then
)
LEAST_BODY_RATE: Final = (
    16 * KIB
)  # bytes in a second that a request body must come at, after DEFAULT_BODY_TIMEOUT
DEFAULT_SSE_MAX_AGE: Final = 60.0  # seconds, PROTOCOL 10.2
SSE_KEEP_ALIVE: Final = 15.0  # seconds between comments on an idle event stream
SSE_RETRY_MS: Final = 1000  # what a browser waits before it reconnects

RETRY_SOON: Final = 1  # seconds: the `Retry-After` of a limit that is usually free again at once
