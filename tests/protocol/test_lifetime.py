"""Lifetimes: what a TTL and a deadline may look like, and when they end a stream."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.lifetime import (
    FOREVER,
    MICROSECONDS,
    Lifetime,
    inherit,
    parse_lifetime,
)


@pytest.mark.parametrize("text", ["0", "1", "3600", "3153600000"])
def test_a_ttl_is_a_plain_whole_number(text: str) -> None:
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
def test_any_other_ttl_is_refused(text: str) -> None:  # TRAPS 26
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
def test_a_deadline_is_rfc_3339(text: str, seconds: float) -> None:
    lifetime = parse_lifetime(None, text)
    assert lifetime.expires_at == round(seconds * MICROSECONDS)
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
        "２０２６-01-01T00:00:00Z",
    ],
)
def test_a_malformed_deadline_fails_closed(text: str) -> None:  # TRAPS 26
    with pytest.raises(BadRequest) as caught:
        parse_lifetime(None, text)
    assert caught.value.code == "INVALID_EXPIRES_AT"


def test_the_two_exclude_each_other() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_lifetime("5", "2030-01-01T00:00:00Z")
    assert caught.value.code == "CONFLICTING_LIFETIME"


def test_two_spellings_of_one_instant_match() -> None:
    first = parse_lifetime(None, "2030-01-01T00:00:00Z")
    assert first.matches(parse_lifetime(None, "2030-01-01T01:00:00+01:00"))
    assert not first.matches(FOREVER)


def test_a_ttl_slides_and_a_deadline_does_not() -> None:
    assert Lifetime(ttl=5).deadline(100) == 100 + 5 * MICROSECONDS
    assert Lifetime(expires_at=7).deadline(100) == 7
    assert FOREVER.deadline(100) is None


def test_a_fork_inherits_what_it_does_not_ask_for() -> None:
    source = Lifetime(ttl=60)
    assert inherit(FOREVER, source) == source
    assert inherit(Lifetime(ttl=5), source) == Lifetime(ttl=5)
