"""The lifetime of a stream: a sliding window (`Stream-TTL`), a deadline (`Stream-Expires-At`), or unlimited.

All times are whole microseconds, so that comparisons are exact. They are steady time, except deadlines, which are Unix time.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import msgspec

from ..errors import BadRequest
from .limits import MAX_DEADLINE, MAX_TIME, MAX_TTL_SECONDS, MIN_TIME
from .units import SECOND

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_TTL: Final = re.compile(r"0|[1-9][0-9]{0,11}")
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


class Lifetime(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The lifetime of one stream. At most one of `ttl` and `expires_at` is set.

    Attributes:
        ttl: the seconds without a read or write after which the stream expires, or None.
        expires_at: the deadline in microseconds of Unix time, or None.
        expires_text: the deadline as the client wrote it, which HEAD returns.
    """

    ttl: int | None = None
    expires_at: int | None = None
    expires_text: str | None = None

    def matches(self, other: "Lifetime") -> bool:
        """Returns whether two lifetimes are equal. Two spellings of the same deadline count as equal."""
        return self.ttl == other.ttl and self.expires_at == other.expires_at

    def deadline(self, touched_at: int) -> int | None:
        """Returns the time at which a stream last used at `touched_at` expires, or None if it never expires.

        The result is between 0 and `MAX_DEADLINE`, even for values out of range that an earlier version stored.
        """
        if self.ttl is not None:
            deadline = touched_at + self.ttl * SECOND
        elif self.expires_at is not None:
            deadline = self.expires_at
        else:
            return None
        return min(max(deadline, MIN_TIME), MAX_DEADLINE)


FOREVER: Final = Lifetime()


def bounded(now: int) -> int:
    """Returns a time in microseconds, clamped to the range that a store can keep: from 1970 to 9999."""
    if MIN_TIME <= now <= MAX_TIME:
        return now
    return MIN_TIME if now < MIN_TIME else MAX_TIME


def moment(microseconds: int) -> datetime:
    """Returns a time in microseconds of Unix time as a date, clamped to the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=min(max(microseconds, _YEAR_1), MAX_TIME))


def timestamp(microseconds: int) -> str:
    """Returns a time in microseconds of Unix time as text, such as `2026-01-31T12:00:00.000Z`."""
    return moment(microseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_lifetime(ttl: str | None, expires_at: str | None) -> Lifetime:
    """Parses Stream-TTL and Stream-Expires-At (PROTOCOL 5.1).

    A deadline in the past is allowed. The stream is then expired from the start. A deadline before 1970 becomes 1970.

    Raises:
        BadRequest: INVALID_TTL, INVALID_EXPIRES_AT, or CONFLICTING_LIFETIME if both headers are given.
    """
    if ttl is None and expires_at is None:
        return FOREVER
    if ttl is not None and expires_at is not None:
        raise BadRequest(
            "Stream-TTL and Stream-Expires-At exclude each other", "CONFLICTING_LIFETIME"
        )
    if ttl is not None:
        if not _TTL.fullmatch(ttl) or int(ttl) > MAX_TTL_SECONDS:
            raise BadRequest(
                f"Stream-TTL must be a whole number of seconds, at most {MAX_TTL_SECONDS}",
                "INVALID_TTL",
            )
        return Lifetime(ttl=int(ttl))
    assert expires_at is not None
    return Lifetime(expires_at=_parse_rfc3339(expires_at), expires_text=expires_at)


def inherit(requested: Lifetime, source: Lifetime) -> Lifetime:
    """Returns the lifetime of a fork: the requested lifetime, or that of its source if none is requested (PROTOCOL 4.2)."""
    return source if requested == FOREVER else requested


def _parse_rfc3339(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _invalid_deadline()
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, zone_hour, zone_minute = match.groups()[6:]
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        offset = timedelta()
        if sign is not None:
            if int(zone_hour) > 23 or int(zone_minute) > 59:
                raise _invalid_deadline()
            offset = timedelta(hours=int(zone_hour), minutes=int(zone_minute))
            offset = -offset if sign == "-" else offset
        zone = timezone(offset)
        date = datetime(year, month, day, hour, minute, second, micros, zone)
        deadline = (date - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise _invalid_deadline() from None
    # A time zone behind UTC allows a deadline past the year 9999, because RFC 3339 ends with the local year 9999.
    if deadline > MAX_TIME:
        raise _invalid_deadline()
    return max(deadline, MIN_TIME)  # a deadline in 1970 has passed just as an earlier one has


def _invalid_deadline() -> BadRequest:
    return BadRequest("Stream-Expires-At must be an RFC 3339 timestamp", "INVALID_EXPIRES_AT")
