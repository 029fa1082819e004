"""Tests of the syntax of TTLs and deadlines, and of the time at which a stream expires."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.lifetime import (
    FOREVER,
    Lifetime,
    bounded,
    inherit,
    moment,
    parse_lifetime,
    timestamp,
)
from durable_streams_server.protocol.limits import MAX_DEADLINE, MAX_TIME, MAX_TTL_SECONDS
from durable_streams_server.protocol.units import SECOND


@pytest.mark.parametrize("text", ["0", "1", "3600", "3153600000"])
def test_ttl_is_parsed_as_a_whole_number(text: str) -> None:
    assert parse_lifetime(text, None) == Lifetime(ttl=int(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+5",
        "05",
        "-1",
        "1.5",
        "1e3",
        " 5",
        "5 ",
        "0x5",
        "٥",
        "5s",
        "18446744073709551615",
        "3153600001",
    ],
)
def test_malformed_ttl_is_refused(text: str) -> None:  # TRAPS 26
    with pytest.raises(BadRequest) as caught:
        parse_lifetime(text, None)
    assert caught.value.code == "INVALID_TTL"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01t00:00:10z", 10),
        ("1970-01-01T01:00:10+01:00", 10),
        ("1969-12-31T23:30:10-00:30", 10),
        ("1970-01-01T00:00:10.5Z", 10.5),
        ("1970-01-01T00:00:10.123456789Z", 10.123456),
        ("2024-02-29T00:00:00Z", 1709164800),
    ],
)
def test_deadline_is_parsed_as_rfc_3339(text: str, seconds: float) -> None:
    lifetime = parse_lifetime(None, text)
    assert lifetime.expires_at == round(seconds * SECOND)
    assert lifetime.expires_text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00.Z",
        "0000-01-01T00:00:00Z",
        "1767225600",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "２０２６-01-01T00:00:00Z",
    ],
)
def test_malformed_deadline_is_refused(text: str) -> None:  # TRAPS 26
    with pytest.raises(BadRequest) as caught:
        parse_lifetime(None, text)
    assert caught.value.code == "INVALID_EXPIRES_AT"


def test_ttl_and_deadline_together_are_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_lifetime("5", "2030-01-01T00:00:00Z")
    assert caught.value.code == "CONFLICTING_LIFETIME"


def test_two_spellings_of_one_deadline_match() -> None:
    first = parse_lifetime(None, "2030-01-01T00:00:00Z")
    assert first.matches(parse_lifetime(None, "2030-01-01T01:00:00+01:00"))
    assert not first.matches(FOREVER)


def test_use_of_a_stream_postpones_its_ttl_but_no_fixed_deadline() -> None:
    assert Lifetime(ttl=5).deadline(100) == 100 + 5 * SECOND
    assert Lifetime(expires_at=7).deadline(100) == 7
    assert FOREVER.deadline(100) is None


def test_fork_inherits_the_lifetime_unless_it_requests_one() -> None:
    source = Lifetime(ttl=60)
    assert inherit(FOREVER, source) == source
    assert inherit(Lifetime(ttl=5), source) == Lifetime(ttl=5)


def test_greatest_deadline_is_the_last_microsecond_of_year_9999() -> None:
    assert parse_lifetime(None, "9999-12-31T23:59:59.999999Z").expires_at == MAX_TIME
    assert moment(MAX_TIME).isoformat() == "9999-12-31T23:59:59.999999+00:00"


@pytest.mark.parametrize(
    "text", ["1960-06-01T00:00:00Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01"]
)
def test_deadline_before_1970_becomes_1970_and_keeps_its_text(text: str) -> None:
    lifetime = parse_lifetime(None, text)
    assert (lifetime.expires_at, lifetime.expires_text) == (0, text)
    assert lifetime.deadline(0) == 0


@pytest.mark.parametrize(
    ("lifetime", "touched_at", "deadline"),
    [
        (Lifetime(expires_at=-(10**15)), 0, 0),
        (Lifetime(expires_at=-(2**63)), 0, 0),
        (Lifetime(expires_at=2**64 - 1), 0, MAX_DEADLINE),
        (Lifetime(expires_at=MAX_TIME + 3600 * SECOND), 0, MAX_TIME + 3600 * SECOND),
        (Lifetime(ttl=1), -(10**12), 0),
        (Lifetime(ttl=2**64 - 1), MAX_TIME, MAX_DEADLINE),
    ],
)
def test_out_of_range_lifetime_of_an_earlier_version_is_clamped(
    lifetime: Lifetime, touched_at: int, deadline: int
) -> None:
    assert lifetime.deadline(touched_at) == deadline


def test_longest_ttl_at_the_greatest_time_is_not_clamped() -> None:
    deadline = Lifetime(ttl=MAX_TTL_SECONDS).deadline(MAX_TIME)
    assert deadline == MAX_TIME + MAX_TTL_SECONDS * SECOND < MAX_DEADLINE


@pytest.mark.parametrize(
    ("now", "kept"),
    [(-1, 0), (-(10**30), 0), (0, 0), (5, 5), (MAX_TIME, MAX_TIME), (10**30, MAX_TIME)],
)
def test_time_out_of_range_is_clamped(now: int, kept: int) -> None:
    assert bounded(now) == kept


@pytest.mark.parametrize(
    ("microseconds", "shown"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (MAX_TIME, "9999-12-31T23:59:59.999Z"),
        (10**30, "9999-12-31T23:59:59.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-(10**30), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_timestamp_formats_times_of_any_size(microseconds: int, shown: str) -> None:
    assert timestamp(microseconds) == shown
