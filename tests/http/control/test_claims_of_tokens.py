"""The claim of a worker ends with the token that it was made with."""

import json
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.protocol.units import SECOND
from tests.access.provider import NOW_SECONDS, issue
from tests.http.control_site import JSON, PULL, S, ack
from tests.http.gate.tokens import EVERYTHING, Guarded, bearer
from tests.http.lanes import Caller

EVERYWHERE = [{"verbs": ["create", "append", "read", "subscribe"], "paths": ["/**"]}]


class Workers:
    """A server with a subscription that has news.

    Args:
        guarded: the server.
    """

    def __init__(self, guarded: Guarded) -> None:
        self.guarded = guarded
        self.caller: Caller = guarded.caller()
        self.owner = guarded.token(EVERYTHING)

    async def begin(self) -> None:
        """Creates the subscription, and appends to one of its streams."""
        assert (await self.ask("PUT", S, self.owner, PULL))[0] == 201
        assert (await self.ask("PUT", "/v1/stream/wake/pool", self.owner))[0] == 201
        assert (await self.ask("PUT", "/v1/stream/events/a", self.owner))[0] == 201
        assert (await self.ask("POST", "/v1/stream/events/a", self.owner, {"n": 1}))[0] == 204

    async def ask(self, method: str, url: str, token: str, body: object = None) -> tuple[int, Any]:
        """Sends a request. Returns the status, and the document or the code of the error."""
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self.caller(method, url, {**JSON, **bearer(token)}, content)
        if answer.status >= 400:
            return answer.status, answer.error["code"]
        return answer.status, json.loads(answer.body) if answer.body else None

    async def claim(self, token: str) -> Any:
        """Claims the wake, and returns the document."""
        status, claim = await self.ask("POST", f"{S}/claim", token, {"worker": "w"})
        assert status == 200
        return claim

    async def acknowledge(self, claim: Any) -> tuple[int, Any]:
        """Sends a heartbeat. Returns the status, and the code of the error."""
        return await self.ask("POST", f"{S}/ack", claim["token"], ack(claim))


@pytest.fixture(params=["asgi", "native"])
async def workers(request: pytest.FixtureRequest, tmp_path: Path) -> Workers:
    made = Workers(Guarded(tmp_path, request.param == "native"))
    await made.begin()
    return made


async def test_claim_ends_when_its_token_is_revoked(workers: Workers) -> None:
    one, other = (workers.guarded.token(EVERYTHING) for _ in range(2))
    claim = await workers.claim(one)
    assert (await workers.acknowledge(claim))[0] == 200
    workers.guarded.revoke(other)
    assert (await workers.acknowledge(claim))[0] == 200
    workers.guarded.revoke(one)
    for action in ("ack", "callback", "release"):
        answer = await workers.ask("POST", f"{S}/{action}", claim["token"], ack(claim))
        assert answer == (401, "INVALID_TOKEN")
    workers.guarded.now += claim["lease_ttl_ms"] * 1000
    again = await workers.claim(workers.owner)
    assert (await workers.acknowledge(again))[0] == 200


async def test_claim_ends_when_its_static_token_expires(workers: Workers) -> None:
    token = workers.guarded.token(EVERYTHING, seconds=20)
    claim = await workers.claim(token)
    workers.guarded.now += 19 * SECOND
    assert (await workers.acknowledge(claim))[0] == 200
    workers.guarded.now += SECOND
    assert await workers.acknowledge(claim) == (401, "TOKEN_EXPIRED")


async def test_claim_ends_when_its_json_web_token_expires(workers: Workers) -> None:
    token = issue(streams=EVERYWHERE, exp=NOW_SECONDS + 300)
    claim = await workers.claim(token)
    for _ in range(21):  # the token lasts 300 seconds, and clocks may differ by 30
        workers.guarded.now += 15 * SECOND
        assert (await workers.acknowledge(claim))[0] == 200
    workers.guarded.now += 15 * SECOND
    assert await workers.acknowledge(claim) == (401, "TOKEN_EXPIRED")
