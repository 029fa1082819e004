"""`Permit`: what a client may do, and for how long."""

import pytest

from durable_streams_server.http.gate.permit import ANYONE, ONCE, OPEN, Permit
from durable_streams_server.protocol.permissions import Claims, TokenLimits, parse_grant

LIMITS = TokenLimits(live_readers=3)
CLAIMS = Claims("token:a", (parse_grant("read,subscribe:/v1/stream/a/*"),), limits=LIMITS)
READER = Permit("token:a", limits=LIMITS, claims=CLAIMS)
SUBSCRIPTION = "/v1/stream/__ds/subscriptions/s"


def test_open_server_allows_everything() -> None:
    assert OPEN.may("delete", "/v1/stream/a")
    assert OPEN.may_all("read", "/**")
    assert OPEN.allows([("admin", "/x")])
    assert OPEN.term(None) is None
    assert OPEN.limits == TokenLimits()


def test_permit_without_token_allows_nothing() -> None:
    assert not ANYONE.may("read", "/v1/stream/a")
    assert not ANYONE.may_all("read", "/v1/stream/a")
    assert not ANYONE.allows([("subscribe", SUBSCRIPTION)])
    assert ANYONE.generation == ONCE


def test_claims_decide_what_is_allowed() -> None:
    assert READER.may("read", "/v1/stream/a/b")
    assert not READER.may("append", "/v1/stream/a/b")
    assert READER.may_all("read", "/v1/stream/a/*")
    assert not READER.may_all("read", "/v1/stream/**")


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [
        ([], True),
        ([("read", "/v1/stream/a/b")], True),
        ([("read", "/v1/stream/a/b"), ("read", "/v1/stream/b")], False),
        ([("subscribe", SUBSCRIPTION)], True),  # the route checks the streams of the subscription
        ([("admin", SUBSCRIPTION)], False),
    ],
)
def test_all_actions_must_be_allowed(actions: list[tuple[str, str]], allowed: bool) -> None:
    assert READER.allows(actions) is allowed  # type: ignore[arg-type]  # the verbs are plain texts here


def test_permit_is_current_until_token_expires_or_tokens_change() -> None:
    permit = Permit(until=100, generation=2)
    assert permit.is_current(2, 99)
    assert not permit.is_current(2, 100)
    assert not permit.is_current(3, 99)
    assert Permit(generation=2).is_current(2, 10**18)


def test_term_of_live_read_is_that_of_token() -> None:
    term = Permit(until=100, still_holds=lambda: False).term(None)
    assert term is not None
    assert (term.until, term.is_over) == (100, True)
    held = Permit(still_holds=lambda: True).term(None)
    assert held is not None
    assert (held.until, held.is_over) == (None, False)


@pytest.mark.parametrize(
    ("token", "guard", "until"), [(None, 7, 7), (5, 7, 5), (9, 7, 7), (9, None, 9)]
)
def test_live_read_ends_at_earlier_of_two_times(
    token: int | None, guard: int | None, until: int
) -> None:
    term = Permit(until=token).term(guard)
    assert term is not None
    assert term.until == until
