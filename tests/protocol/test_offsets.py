"""Tests of the format of offsets, and of the numbers of incarnations."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.limits import MAX_CLOCK_INCARNATION
from durable_streams_server.protocol.offsets import (
    Offset,
    Sentinel,
    next_incarnation,
    parse,
    parse_read,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0_0",
        "-2",
        "NOW",
        "0000000000000001_000000000000000",
        "0000000000000001_00000000000000000",
        "0000000000000001-0000000000000000",
        " 0000000000000001_0000000000000000",
        "0000000000000001_000000000000000a",
        "٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠١_٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠",
        "0000000000000001_0000000000000000\n",
    ],
)
def test_malformed_offset_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_read(text)
    assert caught.value.code == "INVALID_OFFSET"


def test_sentinels_and_offsets_are_parsed() -> None:
    assert parse_read("-1") is Sentinel.START
    assert parse_read("now") is Sentinel.NOW
    assert parse_read("0000000000000007_0000000000000042") == Offset(7, 42)


@pytest.mark.parametrize(
    ("last", "now", "number"),
    [
        (0, 1_750_000_000_000_000, 1_750_000_000_000_000),
        (1_750_000_000_000_000, 5, 1_750_000_000_000_001),
        (0, 0, 1),
        (0, -(10**18), 1),
        (0, 10**30, MAX_CLOCK_INCARNATION),
        (MAX_CLOCK_INCARNATION, 10**30, MAX_CLOCK_INCARNATION + 1),
    ],
)
def test_incarnation_number_fits_into_an_offset_with_any_clock(
    last: int, now: int, number: int
) -> None:
    assert next_incarnation(last, now) == number
    assert parse(str(Offset(number, 0))) == Offset(number, 0)


def test_longer_offset_of_an_earlier_version_is_parsed() -> None:
    name = str(Offset(12_000_000_000_000_000, 7))
    assert parse(name) == Offset(12_000_000_000_000_000, 7)
    for text in ("0" + name, "0" * 17 + "_" + "0" * 16, "1" * 20 + "_" + "0" * 16):
        with pytest.raises(BadRequest):
            parse(text)
