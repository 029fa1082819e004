"""Subscriptions count for the token that has created them, up to its limit."""

import json
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import ClientLimits
from tests.http.control_site import CONTROL, JSON, PULL, Site
from tests.http.gate.tokens import EVERYTHING, Guarded, bearer
from tests.http.lanes import Caller

LIMIT = 2


class Tokens:
    """A server on which a token may have created two subscriptions, unless the token has a limit of its own.

    Args:
        folder: where the token file is.
        native: whether requests come over the native lane.
    """

    def __init__(self, folder: Path, native: bool) -> None:
        limits = ClientLimits(max_subscriptions_per_token=LIMIT)
        self.guarded = Guarded(folder, native, limits=limits)
        self._caller: Caller | None = None

    async def ask(self, method: str, id_: str, token: str, body: bytes = b"") -> tuple[int, Any]:
        """Sends a request about a subscription. Returns the status and the document, or None if there is none."""
        if self._caller is None:
            self._caller = self.guarded.caller()
        headers = {**JSON, **bearer(token)}
        answer = await self._caller(method, f"{CONTROL}/subscriptions/{id_}", headers, body)
        if answer.status == 429:
            assert answer.headers["retry-after"] == "5"
        return answer.status, json.loads(answer.body) if answer.body else None

    async def put(self, token: str, *ids: str) -> list[int | str]:
        """Creates subscriptions. Returns the status of each, or the code of the refusal."""
        found = []
        for id_ in ids:
            status, document = await self.ask("PUT", id_, token, json.dumps(PULL).encode())
            found.append(document["error"]["code"] if status >= 400 else status)
        return found


REFUSED = "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN"


@pytest.fixture(params=["asgi", "native"])
def tokens(request: pytest.FixtureRequest, tmp_path: Path) -> Tokens:
    return Tokens(tmp_path, request.param == "native")


async def test_token_may_have_as_many_subscriptions_as_the_limit(tokens: Tokens) -> None:
    one, other = (tokens.guarded.token(EVERYTHING) for _ in range(2))
    assert await tokens.put(one, "a", "b", "c", "a") == [201, 201, REFUSED, 200]
    assert await tokens.put(other, "d", "e", "f") == [201, 201, REFUSED]
    assert (await tokens.ask("DELETE", "a", one))[0] == 204
    assert await tokens.put(one, "c", "a") == [201, REFUSED]


@pytest.mark.parametrize("limit", [1, 3])
async def test_limit_of_a_token_replaces_that_of_the_server(limit: int, tokens: Tokens) -> None:
    token = tokens.guarded.token(EVERYTHING, subscriptions=limit)
    ids = "abcd"[: limit + 1]
    assert await tokens.put(token, *ids) == [201] * limit + [REFUSED]


async def test_owner_does_not_change_when_another_token_uses_the_subscription(
    tokens: Tokens,
) -> None:
    one, other = (tokens.guarded.token(EVERYTHING) for _ in range(2))
    assert await tokens.put(one, "a", "b") == [201, 201]
    assert await tokens.put(other, "a", "c", "d", "e") == [200, 201, 201, REFUSED]
    assert (await tokens.ask("DELETE", "b", other))[0] == 204
    assert await tokens.put(other, "b") == [REFUSED]
    assert await tokens.put(one, "b") == [201]


async def test_revoked_token_leaves_its_subscriptions_to_other_tokens(tokens: Tokens) -> None:
    one, other = (tokens.guarded.token(EVERYTHING) for _ in range(2))
    assert await tokens.put(one, "a") == [201]
    tokens.guarded.revoke(one)
    assert await tokens.put(one, "b") == ["INVALID_TOKEN"]
    counts = tokens.guarded.store.subscriptions.owners.counts
    assert list(counts.values()) == [1]
    assert (await tokens.ask("DELETE", "a", other))[0] == 204
    assert counts == {}


async def test_no_response_names_the_owner(tokens: Tokens) -> None:
    one, other = (tokens.guarded.token(EVERYTHING) for _ in range(2))
    body = json.dumps(PULL).encode()
    shown = [await tokens.ask("PUT", "a", one, body), await tokens.ask("PUT", "a", other, body)]
    shown.append(await tokens.ask("GET", "a", one))
    (owner,) = tokens.guarded.store.subscriptions.owners.counts
    assert owner == "token:" + one.split("_")[1]
    for _, document in shown:
        assert "owner" not in document
        assert owner not in json.dumps(document)


async def test_client_without_a_token_has_no_limit_of_its_own() -> None:
    site = Site(limits=ClientLimits(max_subscriptions_per_token=1))
    for number in range(3):
        url = f"{CONTROL}/subscriptions/{number}"
        assert (await site.ask("PUT", url, {**PULL, "owner": "token:x"})).status == 201
    assert site.app.engine.store.subscriptions.owners.counts == {}
