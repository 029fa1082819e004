"""Tests the durable signing keys of a service, and the tokens that they sign."""

from collections.abc import AsyncIterator

import pytest

from durable_streams_server.errors import Unauthorized
from durable_streams_server.protocol.subscriptions.commands import Grant
from durable_streams_server.subscriptions.tokens import ANYBODY, TOKEN_LIFE, Holder
from tests.storage.contract_base import settled
from tests.subscriptions.services import Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    yield made
    await made.stop()


async def test_concurrent_requests_create_one_first_key(running: Running) -> None:
    found = [
        await settled(ticket)
        for ticket in [running.service.credentials.ensure_keys() for _ in range(3)]
    ]
    assert found[0] == found[1] == found[2] == running.store.subscriptions.keys
    published = await settled(running.service.jwks())
    assert [key["kid"] for key in published["keys"]] == [found[0][0].kid]
    assert all("d" not in key for key in published["keys"])


async def test_rotation_activates_a_new_key_and_old_tokens_stay_valid(running: Running) -> None:
    await settled(running.service.credentials.ensure_keys())
    grant = Grant("s", 1, 1)
    token = running.service.credentials.issue_token(grant)
    old = running.service.credentials.active_key
    new, retired = await settled(running.service.credentials.rotate())
    assert running.service.credentials.active_key == new != old
    assert retired.kid == old.kid
    assert running.service.credentials.read_token("s", token) == (grant, False, ANYBODY)
    assert len((await settled(running.service.jwks()))["keys"]) == 2


async def test_token_is_valid_for_one_subscription_until_it_expires(running: Running) -> None:
    await settled(running.service.credentials.ensure_keys())
    grant = Grant("s", 7, 3)
    token = running.service.credentials.issue_token(grant)
    half = TOKEN_LIFE / 2
    assert running.service.credentials.read_token("s", token) == (grant, False, ANYBODY)
    for id_, text in [("t", token), ("s", token[:-1]), ("s", "x.y.z"), ("s", "")]:
        with pytest.raises(Unauthorized) as caught:
            running.service.credentials.read_token(id_, text)
        assert caught.value.code == "INVALID_TOKEN"
    running.clock.forward(half + 1)
    assert running.service.credentials.read_token("s", token) == (grant, True, ANYBODY)
    running.clock.forward(half)
    with pytest.raises(Unauthorized) as caught:
        running.service.credentials.read_token("s", token)
    assert caught.value.code == "TOKEN_EXPIRED"


async def test_server_without_keys_refuses_every_token(running: Running) -> None:
    other = Running().start()
    await settled(other.service.credentials.ensure_keys())
    token = other.service.credentials.issue_token(Grant("s", 1, 1))
    await other.stop()
    with pytest.raises(Unauthorized):
        running.service.credentials.read_token("s", token)


async def test_claim_token_ends_with_the_token_of_its_client(running: Running) -> None:
    credentials, clock = running.service.credentials, running.clock
    await settled(credentials.ensure_keys())
    holder = credentials.holder("token:1", credentials._clock.wall() + 10_000_000)
    assert holder == Holder("token:1", clock() + 10_000_000)
    assert credentials.holder("", None) == ANYBODY
    grant = Grant("s", 1, 1)
    token = credentials.issue_token(grant, holder)
    clock.forward(8)
    held = credentials.read_token("s", token)
    assert held.needs_renewal is False  # a new token would not be valid any longer
    again = credentials.issue_token(grant, held.holder)
    for each in (token, again):
        assert credentials.read_token("s", each).grant == grant
    clock.forward(2)
    for each in (token, again):
        with pytest.raises(Unauthorized) as caught:
            credentials.read_token("s", each)
        assert caught.value.code == "TOKEN_EXPIRED"
