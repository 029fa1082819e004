"""Tests of decisions about appends and closes."""

from durable_streams_server.errors import (
    BadRequest,
    Conflict,
    NotFound,
    OffsetMismatch,
    SequenceGap,
    StreamClosed,
    TooLarge,
    TooManyRequests,
)
from durable_streams_server.protocol.decisions.outcomes import AppendOutcome
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_POSITION
from durable_streams_server.protocol.preconditions import Conditions, tag_of
from durable_streams_server.protocol.producers import ProducerState, Stamp
from tests.protocol.decisions.world import (
    ABSENT,
    PRESENT,
    STALE,
    World,
    assert_precondition_fails,
    tag_condition,
)
from tests.requests import NOW, SECOND, append, create

JSON = "application/json"


def test_append_refusals_follow_the_order_of_the_protocol(world: World) -> None:  # TRAPS 24
    """The order is closed, content type, body, producer, expected offset, Stream-Seq. The first error hides the others."""
    world.decide(create("/a", JSON))
    world.decide(append("/a", b"1", JSON, seq=b"5", stamp=Stamp(b"p", 0, 0)))
    gap, stale, elsewhere = Stamp(b"p", 0, 9), b"1", "0000000000000001_0000000000000000"
    everything = append("/a", b"x", "text/plain", stamp=gap, seq=stale, expected=elsewhere)
    world.refused(everything, Conflict, "CONTENT_TYPE_MISMATCH")
    no_json = append("/a", b"{", JSON, stamp=gap, seq=stale, expected=elsewhere)
    world.refused(no_json, BadRequest, "INVALID_JSON")
    gapped = append("/a", b"2", JSON, stamp=gap, seq=stale, expected=elsewhere)
    world.refused(gapped, SequenceGap, "PRODUCER_SEQUENCE_GAP")
    misplaced = append("/a", b"2", JSON, seq=stale, expected=elsewhere)
    world.refused(misplaced, OffsetMismatch, "EXPECTED_OFFSET_MISMATCH")
    world.refused(append("/a", b"2", JSON, seq=stale), Conflict, "SEQUENCE_REGRESSION")
    world.decide(append("/a", closes=True))
    world.refused(everything, StreamClosed, "STREAM_CLOSED")


def test_duplicate_is_confirmed_despite_an_old_stream_seq(world: World) -> None:  # TRAPS 24
    world.decide(create("/a"))
    first = append("/a", b"x", seq=b"1", stamp=Stamp(b"p", 0, 0))
    world.decide(first)
    again = world.decide(first)
    assert again.changes == ()
    assert again.outcome == AppendOutcome(
        world.states["/a"].name(1), False, False, ProducerState(0, 0)
    )


def test_append_to_closed_stream_is_refused_with_its_tail(world: World) -> None:  # TRAPS 23
    world.decide(create("/a", body=b"abc", closes=True))
    error = world.refused(append("/a", b"x"), StreamClosed, "STREAM_CLOSED")
    assert dict(error.headers) == {
        b"stream-next-offset": world.states["/a"].name(3).encode(),
        b"stream-closed": b"true",
    }


def test_second_close_is_confirmed_only_if_it_repeats_the_first(world: World) -> None:
    world.decide(create("/a"))
    world.decide(append("/a", b"x", closes=True, stamp=Stamp(b"p", 1, 0)))
    assert world.decide(append("/a", b"x", closes=True, stamp=Stamp(b"p", 1, 0))).changes == ()
    assert world.decide(append("/a", closes=True)).changes == ()
    for stamp in (Stamp(b"p", 1, 1), Stamp(b"p", 0, 0), Stamp(b"q", 1, 0)):
        world.refused(append("/a", closes=True, stamp=stamp), StreamClosed, "STREAM_CLOSED")
    world.refused(append("/a", b"x", closes=True), StreamClosed, "STREAM_CLOSED")


def test_append_and_close_extend_a_sliding_lifetime(world: World) -> None:  # TRAPS 26
    world.decide(create("/a", lifetime=Lifetime(ttl=1)))
    world.decide(append("/a", b"x"), NOW + SECOND // 2)
    world.decide(append("/a", closes=True), NOW + SECOND)
    assert world.states["/a"].deadline() == NOW + 2 * SECOND


def test_append_past_the_maximum_position_is_refused(world: World) -> None:
    world.decide(create("/a"))
    world.states["/a"].tail = MAX_POSITION
    world.refused(append("/a", b"x"), Conflict, "STREAM_FULL")


def test_append_past_the_maximum_bytes_of_a_stream_is_refused() -> None:
    world = World(Rules(max_stream_bytes=10))
    world.decide(create("/a", body=b"123456789"))
    error = world.refused(append("/a", b"xy"), TooLarge, "STREAM_TOO_LARGE")
    assert error.headers == ()  # waiting does not help
    world.decide(append("/a", b"x"))
    world.refused(append("/a", b"y"), TooLarge, "STREAM_TOO_LARGE")
    world.refused(append("/a", b"y", closes=True), TooLarge, "STREAM_TOO_LARGE")
    world.decide(append("/a", closes=True))


def test_limit_of_bytes_is_checked_after_refusals_that_a_retry_may_heal() -> None:
    world = World(Rules(max_stream_bytes=3))
    world.decide(create("/a"))
    world.decide(append("/a", b"abc", stamp=Stamp(b"p", 0, 0), seq=b"5"))
    assert world.decide(append("/a", b"abc", stamp=Stamp(b"p", 0, 0))).changes == ()
    world.refused(append("/a", b"x", seq=b"5"), Conflict, "SEQUENCE_REGRESSION")
    gap = append("/a", b"x", stamp=Stamp(b"p", 0, 2))
    world.refused(gap, SequenceGap, "PRODUCER_SEQUENCE_GAP")
    world.refused(append("/a", b"x", conditions=STALE), TooLarge, "STREAM_TOO_LARGE")


def test_stream_beyond_a_lowered_limit_can_be_closed() -> None:
    world = World()
    world.decide(create("/a", body=b"1234567890"))
    world.rules = Rules(max_stream_bytes=3)
    world.refused(append("/a", b"x"), TooLarge, "STREAM_TOO_LARGE")
    world.decide(append("/a", closes=True))


def test_append_beyond_the_maximum_number_of_producers_is_refused() -> None:
    world = World(Rules(max_producers=1))
    world.decide(create("/a"))
    world.decide(append("/a", b"x", stamp=Stamp(b"p", 0, 0)))
    error = world.refused(
        append("/a", b"x", stamp=Stamp(b"q", 0, 0)), TooManyRequests, "TOO_MANY_PRODUCERS"
    )
    assert error.headers == ((b"retry-after", b"1"),)


def test_append_with_if_match_succeeds_once_per_tag(world: World) -> None:
    world.decide(create("/a"))
    first = tag_condition(world)
    world.decide(append("/a", b"one", conditions=first))
    assert_precondition_fails(world, append("/a", b"two", conditions=first))
    assert_precondition_fails(world, append("/a", closes=True, conditions=first))
    world.decide(append("/a", b"two", conditions=tag_condition(world)))
    world.decide(append("/a", b"three", conditions=PRESENT))
    world.decide(append("/a", closes=True, conditions=tag_condition(world)))
    assert (world.states["/a"].tail, world.states["/a"].closed) == (11, True)


def test_append_with_if_none_match_fails_if_the_etag_matches(world: World) -> None:
    world.decide(create("/a"))
    assert_precondition_fails(world, append("/a", b"x", conditions=ABSENT))
    assert_precondition_fails(
        world, append("/a", b"x", conditions=Conditions(None, (tag_of(world.states["/a"]),)))
    )
    world.decide(append("/a", b"x", conditions=Conditions(None, (b'"stale"',))))


def test_append_conditions_are_checked_after_all_other_refusals(world: World) -> None:
    """RFC 9110, 13.2.1: a request that fails without its conditions must fail with that other error."""
    world.refused(append("/a", b"x", conditions=PRESENT), NotFound, "STREAM_NOT_FOUND")
    world.decide(create("/a", JSON))
    world.decide(append("/a", b"1", JSON, seq=b"5", stamp=Stamp(b"p", 1, 0)))
    for command, kind, code in (
        (append("/a", b"x", "text/plain", conditions=STALE), Conflict, "CONTENT_TYPE_MISMATCH"),
        (append("/a", b"[", JSON, conditions=STALE), BadRequest, "INVALID_JSON"),
        (append("/a", b"1", JSON, seq=b"5", conditions=STALE), Conflict, "SEQUENCE_REGRESSION"),
        (
            append("/a", b"1", JSON, stamp=Stamp(b"p", 1, 2), conditions=STALE),
            SequenceGap,
            "PRODUCER_SEQUENCE_GAP",
        ),
        (
            append(
                "/a", b"1", JSON, expected="0000000000000001_0000000000000001", conditions=STALE
            ),
            OffsetMismatch,
            "EXPECTED_OFFSET_MISMATCH",
        ),
    ):
        world.refused(command, kind, code)
    world.decide(append("/a", closes=True))
    world.refused(append("/a", b"1", JSON, conditions=STALE), StreamClosed, "STREAM_CLOSED")


def test_repeated_append_is_confirmed_despite_a_stale_condition(world: World) -> None:
    """RFC 9110, 13.1.1: the client may have missed the response to its own append, which changed the tag."""
    world.decide(create("/a"))
    first = tag_condition(world)
    stamped = append("/a", b"x", stamp=Stamp(b"p", 0, 0), conditions=first)
    world.decide(stamped)
    assert world.decide(stamped).changes == ()
    closing = append("/a", closes=True, conditions=tag_condition(world))
    world.decide(closing)
    assert world.decide(closing).changes == ()
