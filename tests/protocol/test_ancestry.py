"""Tests of the ancestries of forks: offsets, owners, the speed of a search, and interned links."""

import gc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest, Gone
from durable_streams_server.protocol import ancestry as module
from durable_streams_server.protocol.ancestry import NONE, Ancestry, locate, mint
from durable_streams_server.protocol.offsets import ZERO, Offset, Span, parse

LINEAGE = Ancestry.of((Span(10, 5), Span(20, 9)))  # a fork of a fork, itself of incarnation 30
TAIL = 12


@given(st.integers(0, TAIL), st.integers(0, TAIL))
def test_offsets_sort_like_positions_across_fork_points(first: int, second: int) -> None:
    names = mint(30, LINEAGE, first), mint(30, LINEAGE, second)
    assert (names[0] < names[1]) == (first < second)
    assert (names[0] == names[1]) == (first == second)


@given(st.integers(0, TAIL))
def test_offset_of_a_stream_is_located_at_its_byte_position(position: int) -> None:
    assert locate(parse(mint(30, LINEAGE, position)), 30, LINEAGE, TAIL) == position


def test_offset_zero_is_the_start_of_any_stream() -> None:
    assert locate(ZERO, 30, LINEAGE, TAIL) == 0


def test_offset_of_an_earlier_incarnation_is_gone() -> None:
    with pytest.raises(Gone) as caught:
        locate(Offset(29, 3), 30, NONE, TAIL)
    assert caught.value.code == "OFFSET_GONE"


@pytest.mark.parametrize(
    "offset",
    [
        Offset(31, 0),  # an incarnation that never existed
        Offset(30, TAIL + 1),  # past the tail
        Offset(30, 9),  # the offset of the fork point has the source's incarnation
        Offset(10, 6),  # past the fork point of the source
        Offset(20, 5),  # before the part of the middle ancestor
        Offset(20, 10),
    ],
)
def test_offset_that_the_stream_never_had_is_refused(offset: Offset) -> None:
    with pytest.raises(BadRequest):
        locate(offset, 30, LINEAGE, TAIL)


def spans_of_fork(source: Sequence[Span], incarnation: int, position: int) -> list[Span]:
    """Returns the spans of a fork by a simple rule: the spans that end before the fork point, and one that ends at it."""
    owner = next((span.incarnation for span in source if position <= span.end), incarnation)
    return [*(span for span in source if span.end < position), Span(owner, position)]


@given(st.lists(st.integers(0, 40), max_size=60))
def test_ancestry_matches_a_simple_model(positions: list[int]) -> None:
    spans: list[Span] = []
    ancestry = NONE
    for incarnation, position in enumerate(positions, 1):
        spans = spans_of_fork(spans, incarnation, position)
        ancestry = ancestry.fork(incarnation, position)
        assert ancestry.spans == tuple(spans)
        assert ancestry.span == spans[-1]
        assert ancestry.depth == incarnation
        for place in range(42):
            owner = next((span for span in spans if place <= span.end), None)
            found = ancestry.owner(place)
            assert (found is NONE) == (owner is None)
            assert owner is None or found.span == owner


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(0, 45), st.integers(0, 45))
def test_runs_cover_every_byte_with_its_owner_in_order(
    positions: list[int], start: int, end: int
) -> None:
    ancestry = NONE
    for incarnation, position in enumerate(positions, 1):
        ancestry = ancestry.fork(incarnation, position)
    owners = [
        (ancestry.owner(place + 1).incarnation, place)
        for place in range(start, min(end, ancestry.end))
    ]
    runs = ancestry.runs(start, end)
    assert [(owner, place) for owner, begin, stop in runs for place in range(begin, stop)] == owners
    assert len({owner for owner, _, _ in runs}) == len(runs)


def test_equal_ancestries_are_the_same_object() -> None:
    spans = tuple(Span(number, number) for number in range(1, 100))
    forked = NONE
    for span in spans:
        forked = forked.fork(*span)
    assert Ancestry.of(spans) is forked
    assert forked.fork(200, 50).parent is Ancestry.of(spans[:49])


def test_unused_links_of_a_long_fork_chain_are_freed() -> None:
    gc.collect()
    before = len(module._links)
    ancestry = NONE
    for number in range(1, 100_000):
        ancestry = ancestry.fork(number, number)
    assert len(module._links) == before + 99_999
    ancestry = NONE
    gc.collect()
    assert len(module._links) == before


def test_byte_owner_in_a_long_fork_chain_is_found_in_logarithmic_time() -> None:
    ancestry = NONE
    for number in range(1, 2**16):
        ancestry = ancestry.fork(number, number)
    hops = 0
    part = ancestry
    while part.parent.end >= 3:
        part = part._jump if part._jump.end >= 3 else part.parent
        hops += 1
    assert part is ancestry.owner(3)
    assert hops < 3 * 16
