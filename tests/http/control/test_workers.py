"""Tokens of workers and webhook receivers: which are refused, and when they are renewed."""

from collections.abc import Mapping

import pytest

from durable_streams_server.subscriptions.tokens import TOKEN_LIFE
from tests.http.control_site import CONTROL, PUBLIC, PULL, S, Site, ack


@pytest.fixture
async def site() -> Site:
    return Site(public_url=PUBLIC)


@pytest.mark.parametrize("action", ["ack", "callback", "release"])
async def test_request_without_a_valid_token_returns_401(site: Site, action: str) -> None:
    claim = await site.claim()
    await site.ask("PUT", f"{CONTROL}/subscriptions/t", PULL)
    token = claim["token"]
    head, payload, signature = token.split(".")
    url = f"{S}/{action}"

    async def code(headers: Mapping[str, str], where: str = url) -> str:
        answer = await site.ask("POST", where, ack(claim), headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        return answer.error["code"]

    wrong: list[Mapping[str, str]] = [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": token},
        {"authorization": f"Basic {token}"},
        {"authorization": "Bearer garbage"},
        {"authorization": "Bearer \xff\xfe"},
        {"authorization": f"Bearer {token} {token}"},
        {"authorization": f"Bearer {head}.{payload}."},
        {"authorization": f"Bearer {payload}.{head}.{signature}"},
        {"authorization": f"Bearer {head}.{payload}.{signature[::-1]}"},
        {"authorization": "Bearer " + "x" * 10_000},
    ]
    assert {await code(headers) for headers in wrong} == {"INVALID_TOKEN"}
    other = f"{CONTROL}/subscriptions/t/{action}"
    assert await code({"authorization": f"Bearer {token}"}, other) == "INVALID_TOKEN"
    query = await site.ask("POST", f"{url}?token={token}&access_token={token}", ack(claim))
    assert query.status == 401
    site.clock.forward(TOKEN_LIFE)
    assert await code({"authorization": f"Bearer {token}"}) == "TOKEN_EXPIRED"


async def test_bearer_scheme_is_accepted_in_any_case(site: Site) -> None:
    claim = await site.claim()
    for scheme in ("bearer", "BEARER"):
        headers = {"authorization": f"{scheme} {claim['token']}"}
        assert (await site.ask("POST", f"{S}/ack", ack(claim), headers)).status == 200


async def test_token_of_an_earlier_wake_is_fenced(site: Site) -> None:
    first = await site.claim()
    await site.ask("POST", f"{S}/release", ack(first), token=first["token"])
    second = await site.value("POST", f"{S}/claim", {"worker": "v"})
    answer = await site.ask("POST", f"{S}/ack", ack(second), token=first["token"])
    assert (answer.status, answer.error["code"]) == (409, "FENCED")
    answer = await site.ask("POST", f"{S}/ack", ack(first), token=second["token"])
    assert (answer.status, answer.error["code"]) == (409, "FENCED")


async def test_heartbeat_renews_a_token_past_half_its_life(site: Site) -> None:
    await site.ask("PUT", S, {**PULL, "lease_ttl_ms": 600_000})
    await site.append_event()
    claim = await site.value("POST", f"{S}/claim", {"worker": "w"})
    token, renewed = claim["token"], []
    for _ in range(20):  # more than three hours in all
        site.clock.forward(590)
        answer = await site.value("POST", f"{S}/ack", ack(claim), token=token)
        if "token" in answer:
            token = answer["token"]
            renewed.append(token)
    assert len(set(renewed)) == 5
    site.clock.forward(TOKEN_LIFE / 2)
    for _ in range(2):
        answer = await site.ask("POST", f"{S}/ack", ack(claim, done=True), token=token)
        assert b"token" not in answer.body
