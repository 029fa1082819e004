"""Tests of the commands of owners: create a subscription, add links, remove links."""

from typing import Any, cast

import msgspec
import pytest

from durable_streams_server.errors import BadRequest, Conflict, TooManyRequests
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.subscriptions import commands, owners
from durable_streams_server.protocol.subscriptions.changes import Relinked, Subscribed
from durable_streams_server.protocol.subscriptions.commands import (
    Inspect,
    Link,
    Unlink,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import SubscribeOutcome
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import POOL, ROOT, A, B, C, World, subscribe
from tests.requests import NOW, SECOND, create


def test_subscribe_creates_a_subscription_and_a_repetition_confirms_it(world: World) -> None:
    first = world.decide(subscribe(description="d"))
    outcome = cast(SubscribeOutcome, first.outcome)
    assert [type(change) for change in first.changes] == [Subscribed]
    assert (outcome.created, outcome.view.created_at, outcome.view.status) == (True, NOW, "active")
    world.forward(SECOND)
    again = world.decide(subscribe(description="d"))
    assert again.changes == ()
    assert again.outcome == SubscribeOutcome(outcome.view, False)


FULL: dict[str, Any] = {
    "type": "pull-wake",
    "pattern": "events/*",
    "streams": ["x"],
    "wake_stream": "wake/pool",
    "lease_ttl_ms": 5000,
    "description": "d",
}


@pytest.mark.parametrize(
    "other",
    [
        {"pattern": "events/**"},
        {"pattern": None},
        {"streams": ["y"]},
        {"streams": ["x", "y"]},
        {"streams": None},
        {"wake_stream": "wake/other"},
        {"lease_ttl_ms": 5001},
        {"description": "e"},
        {"description": None},
        {"description": ""},
        {"type": "webhook", "wake_stream": None, "webhook": {"url": "https://a.example/"}},
    ],
)
def test_subscribe_that_differs_in_one_field_conflicts(
    world: World, other: dict[str, object]
) -> None:
    world.do(subscribe(**FULL))
    command = commands.parse_subscribe("s", msgspec.json.encode({**FULL, **other}), ROOT)
    world.refused(command, Conflict, "SUBSCRIPTION_EXISTS")


def test_subscribe_with_another_webhook_url_conflicts(world: World) -> None:
    world.subscribe(type="webhook", webhook={"url": "https://a.example/"})
    other = subscribe(type="webhook", webhook={"url": "https://b.example/"})
    world.refused(other, Conflict, "SUBSCRIPTION_EXISTS")


def test_subscribe_with_explicit_defaults_matches_omitted_fields(world: World) -> None:
    world.subscribe()
    again = world.decide(
        subscribe(lease_ttl_ms=30_000, description=None, streams=None, pattern="events/*")
    )
    assert again.changes == ()


def test_repeated_subscribe_ignores_links_added_later(world: World) -> None:
    world.subscribe(streams=["events/a"])
    world.do(Link("s", (B,)), Unlink("s", A))
    assert world.decide(subscribe(streams=["events/a"])).changes == ()
    assert list(world.subscription().streams) == [B]


def test_subscribe_beyond_the_maximum_number_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "MAX_SUBSCRIPTIONS", 2)
    world.subscribe("s")
    world.subscribe("t")
    error = world.refused(subscribe("u"), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS")
    assert dict(error.headers) == {b"retry-after": b"1"}
    world.do(subscribe("s"), Unsubscribe("t"), subscribe("u"))


@pytest.mark.parametrize("others", [0, 3])
def test_owner_may_have_as_many_subscriptions_as_its_limit(world: World, others: int) -> None:
    for number in range(others):
        world.do(subscribe(f"other-{number}", "token:other", 3))
    world.do(subscribe("a", "token:me", 2), subscribe("b", "token:me", 2))
    refused = world.refused(
        subscribe("c", "token:me", 2), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN"
    )
    assert dict(refused.headers) == {b"retry-after": b"5"}
    assert world.subscriptions.get("c") is None
    assert world.subscriptions.owners.of("token:me") == 2
    world.do(Unsubscribe("a"), subscribe("c", "token:me", 2))
    world.refused(subscribe("a", "token:me", 2), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN")


def test_limit_below_what_the_owner_has_refuses_only_new_subscriptions(world: World) -> None:
    world.do(*(subscribe(id_, "token:me", 3) for id_ in "abc"))
    world.refused(subscribe("d", "token:me", 1), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN")
    assert world.decide(subscribe("a", "token:me", 1)).changes == ()
    world.refused(subscribe("a", "token:me", 1, description="x"), Conflict, "SUBSCRIPTION_EXISTS")
    world.do(subscribe("d", "token:me", 4))


def test_client_without_limit_or_without_token_may_have_any_number(world: World) -> None:
    world.do(*(subscribe(f"a{number}", "token:me") for number in range(5)))
    world.do(*(subscribe(f"b{number}", None, 1) for number in range(5)))
    assert world.subscriptions.owners.counts == {"token:me": 5}


def test_repeated_subscribe_of_another_client_keeps_the_owner(world: World) -> None:
    world.do(subscribe("s", "token:first", 1))
    for other in ("token:second", None):
        again = world.decide(subscribe("s", other, 1))
        assert again.changes == ()
        assert cast(SubscribeOutcome, again.outcome).created is False
        assert world.subscription().owner == "token:first"
    world.do(subscribe("t", "token:second", 1))  # confirming the first one took no room
    world.do(Unsubscribe("s"), subscribe("s", "token:third", 1))
    assert world.subscription().owner == "token:third"
    assert world.subscriptions.owners.counts == {"token:second": 1, "token:third": 1}


def test_limit_of_the_token_is_named_before_that_of_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "MAX_SUBSCRIPTIONS", 1)
    world.do(subscribe("s", "token:me", 1))
    world.refused(subscribe("t", "token:me", 1), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN")
    world.refused(subscribe("t", "token:me", 2), TooManyRequests, "TOO_MANY_SUBSCRIPTIONS")


def test_subscribe_refuses_a_wake_stream_that_is_not_json(world: World) -> None:
    world.do(create(f"{ROOT}/wake/text", "text/plain"))
    world.refused(subscribe(wake_stream="wake/text"), BadRequest, "INVALID_WAKE_STREAM")
    assert len(world.subscriptions) == 0
    world.subscribe(wake_stream="wake/none-yet")


def test_subscribe_refuses_the_registry_as_wake_stream() -> None:
    world = World(Rules(registry=Registry(f"{ROOT}/registry")))
    world.refused(subscribe(wake_stream="registry"), BadRequest, "INVALID_WAKE_STREAM")


def test_repeated_link_and_unlink_change_nothing(world: World) -> None:
    world.subscribe(streams=["events/a"])
    assert world.decide(Link("s", (A, B))).changes == (Relinked("s", ("events/b",), ()),)
    assert world.decide(Link("s", (A, B))).changes == ()
    assert world.decide(Unlink("s", A)).changes == (Relinked("s", (), ("events/a",)),)
    assert world.decide(Unlink("s", A)).changes == ()


def test_link_to_the_subscriptions_own_wake_stream_is_refused(world: World) -> None:
    world.subscribe(streams=["events/a"])
    world.refused(Link("s", (B, POOL)), BadRequest, "INVALID_SUBSCRIPTION")
    assert list(world.subscription().streams) == [A]


def test_link_beyond_the_maximum_number_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "MAX_LINKS", 2)
    world.subscribe(streams=["events/a"])
    world.refused(Link("s", (B, C)), TooManyRequests, "TOO_MANY_LINKS")
    world.do(Link("s", (A, B)), Link("s", (A, B)))


def test_explicit_link_takes_precedence_over_the_pattern(woken: World) -> None:
    def types() -> dict[str, bool]:
        view = cast(View, woken.decide(Inspect("s")).outcome)
        return {stream.path: stream.explicit for stream in view.streams}

    woken.append_to(B)
    assert types() == {A: False, B: False}
    woken.do(Link("s", (A,)))
    assert types() == {A: True, B: False}
    woken.do(Unlink("s", A))
    assert types() == {A: False, B: False}
    assert woken.due() == {A: 0, B: 0}
