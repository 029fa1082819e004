"""The limits of a token replace those of the server, at, below and above each of them."""

import asyncio
import json
from pathlib import Path

import pytest

from durable_streams_server import ClientLimits
from tests.http.gate.tokens import EVERYTHING, Guarded, bearer
from tests.http.lanes import Caller
from tests.http.socket_driver import until

A = "/v1/stream/a"
SUBSCRIPTIONS = "/v1/stream/__ds/subscriptions"
TEXT = {"content-type": "text/plain"}


@pytest.fixture(params=["native", "asgi"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, request.param == "native")


async def ready(site: Guarded) -> Caller:
    """Creates the stream of the tests, and returns a caller."""
    call = site.caller()
    await site.app.streams.create(A, "text/plain")
    return call


async def test_token_is_refused_above_its_appends_per_second(site: Guarded) -> None:
    call = await ready(site)
    slow, free = site.token(EVERYTHING, appends_per_second=1), site.token(EVERYTHING)
    found = [await call("POST", A, {**TEXT, **bearer(slow)}, b"x") for _ in range(6)]
    assert [answer.status for answer in found] == [204] * 5 + [429]
    assert found[5].error["code"] == "TOO_MANY_APPENDS"
    for _ in range(9):
        assert (await call("POST", A, {**TEXT, **bearer(free)}, b"x")).status == 204


async def test_token_is_refused_above_its_bytes_per_second(site: Guarded) -> None:
    call = await ready(site)
    token = site.token(EVERYTHING, bytes_per_second=10)
    for size, status in ((49, 204), (1, 204), (10, 429)):
        sent = {**TEXT, **bearer(token)}
        assert (await call("POST", A, sent, bytes(size))).status == status


async def test_body_above_the_limit_of_its_token_gets_413(site: Guarded) -> None:
    call = await ready(site)
    token = site.token(EVERYTHING, body_bytes=100_000)
    for size, status in ((99_999, 204), (100_000, 204), (100_001, 413)):
        sent = {**TEXT, **bearer(token)}
        assert (await call("POST", A, sent, bytes(size))).status == status


async def test_token_has_as_many_live_reads_as_it_may(site: Guarded) -> None:
    call = await ready(site)
    token, other = site.token(EVERYTHING, live_readers=1), site.token(EVERYTHING)
    url, readers = f"{A}?offset=-1&live=sse", site.app.handler.live_readers
    waiting = [asyncio.create_task(call("GET", url, bearer(each))) for each in (token, other)]
    await until(lambda: readers.used == 2)
    refused = await call("GET", url, bearer(token))
    assert (refused.status, refused.error["code"]) == (429, "TOO_MANY_READERS_OF_CLIENT")
    await site.app.streams.append(A, close=True)
    await asyncio.wait(waiting)
    await until(lambda: readers.used == 0)
    assert (await call("GET", url, bearer(token))).status == 200


async def test_token_has_as_many_subscriptions_as_it_may(site: Guarded) -> None:
    call = await ready(site)
    token, other = site.token(EVERYTHING, subscriptions=2), site.token(EVERYTHING)

    async def subscribe(id_: str, by: str) -> int:
        body = {"type": "pull-wake", "pattern": "chat/*", "wake_stream": f"wakes/{id_}"}
        sent = {"content-type": "application/json", **bearer(by)}
        answer = await call("PUT", f"{SUBSCRIPTIONS}/{id_}", sent, json.dumps(body).encode())
        if answer.status == 429:
            assert answer.error["code"] == "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN"
        return answer.status

    assert [await subscribe(id_, token) for id_ in ("a", "b", "c", "b")] == [201, 201, 429, 200]
    assert await subscribe("c", other) == 201
    deleted = await call("DELETE", f"{SUBSCRIPTIONS}/a", bearer(other))
    assert deleted.status == 204
    assert await subscribe("d", token) == 201


async def test_token_without_limits_has_those_of_the_server(tmp_path: Path) -> None:
    site = Guarded(tmp_path, native=True, limits=ClientLimits(max_appends_per_second=1))
    call = await ready(site)
    plain, fast = site.token(EVERYTHING), site.token(EVERYTHING, appends_per_second=1000)
    sent = {**TEXT, **bearer(plain)}
    assert [(await call("POST", A, sent, b"x")).status for _ in range(6)] == [204] * 5 + [429]
    sent = {**TEXT, **bearer(fast)}
    assert [(await call("POST", A, sent, b"x")).status for _ in range(20)] == [204] * 20


async def test_tokens_without_limit_of_their_own_have_that_of_the_server(tmp_path: Path) -> None:
    site = Guarded(tmp_path, native=True, limits=ClientLimits(max_subscriptions_per_token=1))
    call = await ready(site)
    plain, more = site.token(EVERYTHING), site.token(EVERYTHING, subscriptions=2)

    async def subscribe(id_: str, by: str) -> int:
        body = {"type": "pull-wake", "pattern": "chat/*", "wake_stream": f"wakes/{id_}"}
        sent = {"content-type": "application/json", **bearer(by)}
        return (await call("PUT", f"{SUBSCRIPTIONS}/{id_}", sent, json.dumps(body).encode())).status

    assert [await subscribe(id_, plain) for id_ in ("a", "b")] == [201, 429]
    assert [await subscribe(id_, more) for id_ in ("b", "c", "d")] == [201, 201, 429]
