"""Offsets: one name for each position, in the order of positions, for one incarnation only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest, Gone
from durable_streams_server.protocol.names import MAX_CLOCK_INCARNATION
from durable_streams_server.protocol.offsets import (
    ZERO,
    Offset,
    Sentinel,
    Span,
    locate,
    mint,
    next_incarnation,
    parse,
    parse_read,
)

LINEAGE = (Span(10, 5), Span(20, 9))  # a fork of a fork, itself of incarnation 30
TAIL = 12


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
def test_anything_but_the_exact_shape_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_read(text)
    assert caught.value.code == "INVALID_OFFSET"


def test_sentinels_and_minted_offsets_are_read() -> None:
    assert parse_read("-1") is Sentinel.START
    assert parse_read("now") is Sentinel.NOW
    assert parse_read("0000000000000007_0000000000000042") == Offset(7, 42)


@given(st.integers(0, TAIL), st.integers(0, TAIL))
def test_names_order_as_positions_do_across_fork_points(first: int, second: int) -> None:
    names = mint(30, LINEAGE, first), mint(30, LINEAGE, second)
    assert (names[0] < names[1]) == (first < second)
    assert (names[0] == names[1]) == (first == second)


@given(st.integers(0, TAIL))
def test_a_minted_name_is_located_where_it_was_minted(position: int) -> None:
    assert locate(parse(mint(30, LINEAGE, position)), 30, LINEAGE, TAIL) == position


def test_zero_is_the_start_of_any_stream() -> None:
    assert locate(ZERO, 30, LINEAGE, TAIL) == 0


def test_an_offset_of_an_earlier_life_is_gone() -> None:
    with pytest.raises(Gone) as caught:
        locate(Offset(29, 3), 30, (), TAIL)
    assert caught.value.code == "OFFSET_GONE"


@pytest.mark.parametrize(
    "offset",
    [
        Offset(31, 0),  # a life that has not been
        Offset(30, TAIL + 1),  # past the tail
        Offset(30, 9),  # the fork point's name is the source's
        Offset(10, 6),  # past where the source was forked
        Offset(20, 5),  # before the middle ancestor's own part
        Offset(20, 10),
    ],
)
def test_what_was_never_minted_for_this_stream_is_refused(offset: Offset) -> None:
    with pytest.raises(BadRequest):
        locate(offset, 30, LINEAGE, TAIL)


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
def test_no_clock_makes_an_incarnation_that_an_offset_cannot_name(
    last: int, now: int, number: int
) -> None:
    assert next_incarnation(last, now) == number
    assert parse(mint(number, (), 0)) == Offset(number, 0)


def test_offset_of_a_longer_incarnation_that_an_earlier_version_gave_out_is_read() -> None:
    name = mint(12_000_000_000_000_000, (), 7)
    assert parse(name) == Offset(12_000_000_000_000_000, 7)
    for text in ("0" + name, "0" * 17 + "_" + "0" * 16, "1" * 20 + "_" + "0" * 16):
        with pytest.raises(BadRequest):
            parse(text)
